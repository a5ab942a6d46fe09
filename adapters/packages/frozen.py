"""The packages of an environment, compared: what changed, what broke, and what puts them back as they were. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.packages.requirements import Requirements
from recovery.installation import extra

with extra("launcher"):
    from packaging.markers import Marker
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

TOOL = "pip"
"""The package that installs the others: it is neither frozen nor put back."""

CHECKED = (
    re.compile(r"(?P<name>\S+) (?P<version>\S+) requires (?P<needs>\S+), which is not installed"),
    re.compile(r"(?P<name>\S+) (?P<version>\S+) has requirement (?P<needs>.+), but you have "),
    re.compile(r"The package `(?P<name>[^`]+)` requires `(?P<needs>[^`]+)`, but "),
)
"""What ``pip check`` and ``uv pip check`` say of a package that misses another, or has the wrong version of it."""

EDITABLE = "--editable "
URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
FRAGMENT = re.compile(r"#(?!subdirectory=).*")
EXTRAS = re.compile(r"(?P<url>.+?)(?:\[(?P<extras>[^\]]*)\])?")


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """One installed package, as ``probe`` finds it.

    Args:
        name: Its name.
        version: Its version.
        folder: Where its metadata is.
        is_own: Whether it is in the environment itself, and not in one beneath it.
        requires: What it needs, of all its extras.
        direct_url: Where it came from if that was no index: JSON (PEP 610).
        lacks: What is missing of it: of its metadata, or a file that it has installed; "" for nothing.
    """

    name: str
    version: str
    folder: str = ""
    is_own: bool = True
    requires: tuple[str, ...] = ()
    direct_url: str = ""
    lacks: str = ""

    @property
    def key(self) -> str:
        """Its name, normalized."""
        return canonicalize_name(self.name)

    @property
    def has_metadata(self) -> bool:
        """Whether pip and uv can uninstall it."""
        return self.lacks not in ("METADATA", "RECORD")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What an interpreter says of its environment.

    Args:
        executable: The interpreter.
        prefix: The folder of the environment.
        has_ensurepip: Whether it can install pip by itself.
        markers: The values of the variables of markers.
        distributions: Its packages, in the order in which they are imported.
        leftovers: Files and folders that a killed pip has moved away (``~orch``).
    """

    executable: str
    prefix: str
    has_ensurepip: bool = False
    markers: dict[str, str] = {}
    distributions: tuple[Distribution, ...] = ()
    leftovers: tuple[str, ...] = ()

    def packages(self) -> dict[str, Distribution]:
        """What is imported, by normalized names."""
        return {one.key: one for one in reversed(self.distributions)}


class Frozen(msgspec.Struct, frozen=True):
    """A package that was there before an install.

    Args:
        version: Its version.
        text: The requirement that installs it again.
        is_whole: Whether nothing of it was missing.
    """

    version: str
    text: str
    is_whole: bool = True


class Restoration(msgspec.Struct, frozen=True):
    """What puts packages back as they were, in this order.

    Args:
        damaged: The names of what is uninstalled first.
        install: The requirements of what is installed, without what they need.
        new: The names of what is uninstalled last.
    """

    damaged: tuple[str, ...] = ()
    install: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.damaged or self.install or self.new)


def freeze(environment: Environment) -> dict[str, Frozen]:
    """The packages of the environment itself, but for pip, by normalized names."""
    return {
        name: Frozen(one.version, _text(one), not one.lacks)
        for name, one in environment.packages().items()
        if one.is_own and name != TOOL
    }


def restoration(before: Mapping[str, Frozen], now: Mapping[str, Frozen]) -> Restoration:
    """What makes *before* of *now*. A package that was damaged before is left alone at its version."""

    def is_back(name: str) -> bool:
        then, after = before[name], now.get(name)
        return after is not None and after.text == then.text and (after.is_whole or not then.is_whole)

    changed = sorted(name for name in before if not is_back(name))
    spoilt = damaged(before, now)
    new = tuple(sorted(now.keys() - before.keys() - set(spoilt)))
    return Restoration(spoilt, tuple(before[name].text for name in changed), new)


def damaged(before: Mapping[str, Frozen], now: Mapping[str, Frozen]) -> tuple[str, ...]:
    """The names of what is half there now, and was not so before."""

    def was_so(name: str) -> bool:
        return name in before and before[name] == now[name]

    return tuple(sorted(name for name, one in now.items() if not one.is_whole and not was_so(name)))


def changes(before: Mapping[str, Frozen], now: Mapping[str, Frozen]) -> dict[str, tuple[str, str]]:
    """The versions before and now of what changed, by name; "" for none."""
    none = Frozen("", "")
    pairs = {name: (before.get(name, none), now.get(name, none)) for name in sorted({*before, *now})}
    return {name: (then.version, after.version) for name, (then, after) in pairs.items() if then.text != after.text}


def kept(environment: Environment, protect: Iterable[str]) -> dict[str, str]:
    """The versions of those of *protect* that are there, also in an environment beneath this one."""
    packages = environment.packages()
    return {
        name: packages[name].version for name in sorted({canonicalize_name(one) for one in protect} & packages.keys())
    }


def constraints(versions: Mapping[str, str]) -> tuple[str, ...]:
    """The lines of a constraints file that keeps these *versions*."""
    return tuple(f"{name}=={version}" for name, version in versions.items())


def broken(checked: str) -> dict[tuple[str, str], str]:
    """The lines of ``pip check``, or ``uv pip check``, by the names of a package and of what it misses."""
    found = dict[tuple[str, str], str]()
    for line in checked.splitlines():
        for pattern in CHECKED:
            if (match := pattern.match(line.strip())) is not None:
                needs = re.split(r"[^\w.-]", match["needs"], maxsplit=1)[0]
                found[canonicalize_name(match["name"]), canonicalize_name(needs)] = line.strip().rstrip(".")
    return found


def breakage(before: Mapping[str, str], now: Mapping[str, str], checks: tuple[str, str]) -> list[str]:
    """What an install broke, in a line each: what was broken before does not count.

    Args:
        before: The versions of the protected packages before.
        now: Those after it.
        checks: What ``pip check`` said before and after.
    """
    earlier = broken(checks[0])
    lines = [line for key, line in broken(checks[1]).items() if key not in earlier]
    lines += [
        f"{name} was {version}, and is {now.get(name, 'gone')}"
        for name, version in before.items()
        if now.get(name) != version
    ]
    return lines


def missing(wanted: Requirements, environment: Environment) -> list[str]:
    """The requirements of *wanted* of which no package is there at all; of those that name one."""
    packages, found = environment.packages(), list[str]()
    for text in _texts(wanted):
        with suppress(InvalidRequirement):
            one = Requirement(text)
            if _applies(one.marker, environment, "") and canonicalize_name(one.name) not in packages:
                found.append(one.name)
    return found


def are_met(wanted: Requirements, environment: Environment) -> bool:
    """Whether *wanted*, and all that it needs, is installed whole. False also where that is not certain."""
    packages = environment.packages()
    limits = [text for text in _texts(wanted, constraints=True) if _name(text) in packages]
    queue = [(text, "") for text in (*_texts(wanted), *limits)]
    seen = set[tuple[str, str]]()
    while queue:
        text, extra_name = queue.pop()
        if (text, extra_name) in seen:
            continue
        seen.add((text, extra_name))
        try:
            if (direct := _direct(text)) is not None:
                url, extras = direct
                found = next((one for one in packages.values() if url in _origins(one)), None)
            else:
                one = Requirement(text)
                if not _applies(one.marker, environment, extra_name):
                    continue
                found, extras = packages.get(canonicalize_name(one.name)), one.extras
                found = found if found is not None and _fits(one, found) else None
        except (InvalidRequirement, InvalidVersion, ValueError):
            return False
        if found is None or found.lacks:
            return False
        queue += [(needed, each) for needed in found.requires for each in ("", *extras)]
    return True


def _texts(wanted: Requirements, *, constraints: bool = False) -> list[str]:
    """The requirements of *wanted*, without hashes, and without options that say how a package is looked for."""
    lines = [one.text for one in wanted.lines if one.is_constraint == constraints]
    named = [line for line in lines if not line.startswith("--") or line.startswith("--editable")]
    return [re.split(r"\s+--hash", line, maxsplit=1)[0] for line in named]


def _name(text: str) -> str:
    return canonicalize_name(re.split(r"[^\w.-]", text, maxsplit=1)[0])


def _applies(marker: Marker | None, environment: Environment, extra_name: str) -> bool:
    return marker is None or marker.evaluate({**environment.markers, "extra": extra_name})


def _fits(wanted: Requirement, found: Distribution) -> bool:
    if wanted.url is not None:
        return FRAGMENT.sub("", wanted.url) in _origins(found)
    return wanted.specifier.contains(Version(found.version), prereleases=True)


def _direct(text: str) -> tuple[str, set[str]] | None:
    """The URL, as one of ``_origins``, and the extras of a requirement without a name. Raises ValueError for a path."""
    option, value = ("-e ", text.removeprefix(EDITABLE)) if text.startswith(EDITABLE) else ("", text)
    if not option and not URL.match(value):
        return None
    match = EXTRAS.fullmatch(FRAGMENT.sub("", value if option else value.split(maxsplit=1)[0]))
    if match is None:
        return None
    url = match["url"] if URL.match(match["url"]) else Path(match["url"]).as_uri()
    return f"{option}{url}", set((match["extras"] or "").replace(",", " ").split())


def _origins(found: Distribution) -> tuple[str, ...]:
    """The URLs by which *found* may have been asked for, the most exact first; none of an index. Source: PEP 610."""
    try:
        origin = msgspec.json.decode(found.direct_url or "{}", type=dict[str, object])
    except msgspec.MsgspecError:
        origin = {}
    url, repository, folder = (origin.get(one) for one in ("url", "vcs_info", "dir_info"))
    if not isinstance(url, str):
        return ()
    urls = [url]
    if isinstance(repository, dict):
        asked, base = repository.get("requested_revision"), f"{repository.get('vcs')}+{url}"
        urls = [f"{base}@{repository.get('commit_id')}", f"{base}@{asked}" if asked else base]
    inner = f"#subdirectory={origin['subdirectory']}" if "subdirectory" in origin else ""
    option = "-e " if isinstance(folder, dict) and folder.get("editable") else ""
    return tuple(f"{option}{one}{inner}" for one in urls)


def _text(found: Distribution) -> str:
    """The requirement that installs *found* again, as ``pip freeze`` writes it."""
    origin = next(iter(_origins(found)), None)
    if origin is None:
        return f"{found.key}=={found.version}"
    return origin if origin.startswith("-e ") else f"{found.key} @ {origin}"
