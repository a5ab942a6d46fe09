"""The brick for packages of Python: installed by pip or uv, checked, and put back if they break others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

import msgspec

from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.bricks import Bricks
from adapters.launcher.limits import wrong_package
from adapters.packages.consent import agreed
from adapters.packages.install import Installed, install
from adapters.packages.installer import Request
from adapters.packages.requirements import Requirements, read_requirements, requirement_lines
from events.errors import JoinedElsewhere
from recovery import context, validation
from recovery.redact import redact
from recovery.serialization.secret import Secret

PROTECTED = ("torch", "torchvision", "torchaudio")
"""Packages that fit a GPU's driver, and take gigabytes."""

Texts: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

FILE = "-r "
"""What a requirements file begins with in the journal."""


class PackagesBrick(Bricks):
    """Packages of Python."""

    def _declare(self) -> None:
        super()._declare()
        self._recoverable("packages", self._packages, lambda _name, *arguments: self._packages_key(*arguments))

    async def packages(
        self,
        python: str | os.PathLike[str],
        requirements: Texts,
        protect: Sequence[str] = PROTECTED,
        indexes: Sequence[str | Secret] = (),
        tool: Literal["auto", "pip", "uv"] = "auto",
        *,
        name: str | None = None,
    ) -> Installed:
        """Install packages of Python into an environment, and return what changed; nothing if all is there.

        An environment has one install at a time, of all launchers. What breaks packages that were there is taken back,
        and so is what a failure or a kill has left half done.

        Packages come from the first index alone. The next one is asked if that refuses (403) or is not reached, never
        because it lacks a package: there a stranger could offer one of that name ("dependency confusion").

        Args:
            python: The environment: its folder or its interpreter, below the root or absolute.
            requirements: One or more of ``numpy>=2``, paths of wheels, and paths of requirements files, which end with
                ``.txt`` or are paths by type. They are journalled. Where a file does more than name packages, a person
                is asked.
            protect: Packages that keep the version they have, if they are there.
            indexes: URLs of indexes; a ``Secret`` for one with a password. By default as the settings of pip or uv say.
            tool: "pip"; "uv"; or "auto" for pip if the environment has it, else uv, else pip by ``ensurepip``.
            name: What it is called on the screen; by default after the requirements.

        Raises:
            InvalidRequestError: An argument that cannot be used, or a URL with a password.
            InvalidRequirementsError: A text that is no requirement, or a file that cannot be read.
            BrokenPackagesError: It would break packages that are there; they are as before.
            NotInstalledError: pip or uv ended well, and installed nothing here.
            PackageConflictError: The requirements contradict each other, or what is protected.
            NoInstallerError: There is no interpreter, or neither pip nor uv.
            subprocess.CalledProcessError, OSError: Its retries are exhausted.
        """
        validation.choice("tool", tool, ("auto", "pip", "uv"))
        texts = [_requirement(one) for one in _listed("requirements", requirements)]
        if not texts:
            raise InvalidRequestError("packages needs a requirement, as 'numpy>=2', or a requirements file")
        protected = [str(one) for one in _listed("protect", protect)]
        for one in protected:
            if (reason := wrong_package(one)) is not None:
                raise InvalidRequestError(f"protect: {reason}")
        sources = [_index(one) for one in _listed("indexes", indexes)]
        interpreter = str(_interpreter(self.root / os.fspath(python)))
        while True:
            try:
                installed: Installed = await self._call(
                    "packages", name or _name_of(texts), interpreter, texts, protected, sources, tool
                )
            except JoinedElsewhere as elsewhere:
                if elsewhere.ended != "succeeded":
                    raise
                continue  # another process installed them, which are here now
            return installed

    async def _packages(
        self,
        name: str,
        python: str,
        requirements: list[str],
        protect: list[str],
        indexes: list[str | Secret],
        tool: Literal["auto", "pip", "uv"],
    ) -> Installed:
        request = Request(
            key=self._packages_key(python, requirements, protect, indexes, tool),
            name=name,
            python=Path(python),
            requirements=self._wanted(name, requirements),
            protect=tuple(protect),
            indexes=tuple(indexes),
            tool=tool,
            cwd=self.root,
            logs=self.logs,
            may_upgrade_pip=context.attempt() == 1,
        )
        self.root.mkdir(parents=True, exist_ok=True)
        return await install(request)

    def _wanted(self, name: str, texts: Iterable[str]) -> Requirements:
        """What the requirements and files say; a person agrees to what is unusual in a file."""
        named = [one for one in texts if not one.startswith(FILE)]
        found = [requirement_lines(tuple(named), self.root)]
        for text in texts:
            if text.startswith(FILE):
                found.append(agreed(self.service.calls, name, read_requirements(self.root / text.removeprefix(FILE))))
        return Requirements(tuple(line for one in found for line in one.lines))

    def _packages_key(
        self, python: str, requirements: list[str], protect: list[str], indexes: list[str | Secret], tool: str
    ) -> str:
        places = [one.reference if isinstance(one, Secret) else one for one in indexes]
        words = [python, str(self.root), requirements, protect, places, tool]
        return f"packages {_name_of(requirements)} {hashlib.sha256(msgspec.json.encode(words)).hexdigest()[:16]}"


def _listed(name: str, given: object) -> list[Any]:
    """*given*, one or a list, as a list. Raises InvalidRequestError for what is no list."""
    if isinstance(given, str | os.PathLike | Secret):
        return [given]
    if not isinstance(given, Iterable):
        raise InvalidRequestError(f"{name} must be a text or a list of texts, not {given!r}")
    return list(given)


def _requirement(one: object) -> str:
    """*one* as it is journalled."""
    if isinstance(one, os.PathLike) and os.fspath(one).endswith(".whl"):
        one = os.fspath(one)
    if isinstance(one, os.PathLike) or (isinstance(one, str) and one.endswith(".txt")):
        return f"{FILE}{os.fspath(one)}"
    if not isinstance(one, str):
        raise InvalidRequestError(f"a requirement is a text or the path of a file, not {one!r}")
    requirement_lines((one,))
    place = _url(one.partition("@")[2].partition(";")[0].strip()) if "://" in one else None
    if place is not None and _has_secret(place) and (place.password or "ssh" not in place.scheme):
        raise InvalidRequestError(f"the requirement {redact(one)} holds a password, which would be journalled")
    return one


def _index(one: object) -> str | Secret:
    """*one* as it is journalled: of a Secret, the reference."""
    if isinstance(one, Secret):
        return one
    if not isinstance(one, str) or (parts := _url(one)).scheme not in ("http", "https", "file"):
        raise InvalidRequestError(f"an index is an http, https or file URL, not {one!r}")
    if not (parts.netloc or parts.scheme == "file"):
        raise InvalidRequestError(f"the index {one!r} names no server")
    if _has_secret(parts):
        cure = 'give a Secret("env:NAME") with the whole URL'
        raise InvalidRequestError(f"the index {redact(one)} holds a password, which would be journalled; {cure}")
    return one


def _url(text: str) -> SplitResult:
    """The parts of an URL. Raises InvalidRequestError."""
    try:
        return urlsplit(text)
    except ValueError as error:
        raise InvalidRequestError(f"{redact(text)!r} is no URL: {error}") from error


def _has_secret(url: SplitResult) -> bool:
    return "@" in url.netloc or redact(url.geturl()) != url.geturl()


def _interpreter(place: Path) -> Path:
    """The interpreter of the environment *place*, or *place* itself if that is a file; links are not followed."""
    place = Path(os.path.abspath(place))
    if place.is_file():
        return place
    usual = [place / one for one in ("bin/python", "Scripts/python.exe", "python.exe")]
    return next((one for one in usual if one.is_file()), usual[os.name == "nt"])


def _name_of(texts: Sequence[str]) -> str:
    first = texts[0].removeprefix(FILE)
    more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
    return f"{first[:60]}{more}"
