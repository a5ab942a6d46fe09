"""Whether this distribution is installed as it must be: its packages are not hidden, its extras are there.

``import recovery`` imports this first. It looks for the packages without importing them: a program's own ``events.py``
must not run because recovery looks for its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DISTRIBUTION = "launcher-recovery"

EXTRAS = {
    "comfyui": ("websockets",),
    "launcher": ("click", "httpx2", "packaging", "psutil", "rich"),
    "monitor": ("ddsketch",),
    "nats": ("nats",),
    "opentelemetry": ("opentelemetry",),
    "prometheus": ("prometheus_client",),
    "testing": ("hypothesis", "pytest"),
    "web": ("starlette", "uvicorn"),
}
"""The packages that each extra installs, as pyproject.toml says."""

MARKED = 200
"""Bytes of a package's ``__init__.py`` in which ours names the distribution."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Make imports of an optional package explain themselves.

    Args:
        name: The extra that installs what is imported in the block.

    Raises:
        ModuleNotFoundError: A package of that extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS[name]:
            raise
        message = f"recovery needs the extra {name!r}: pip install '{DISTRIBUTION}[{name}]'"
        raise ModuleNotFoundError(message, name=error.name) from None


def refuse_hidden(package: str) -> None:
    """Raise ImportError if *package* is missing, or if a module of that name hides ours; it says what to do."""
    needed = f"recovery needs its own package {package!r}"
    origin = _origin_of(package)
    if origin is None:
        raise ImportError(f"{needed}, which is missing: install {DISTRIBUTION} again", name=package)
    if _is_ours(origin):
        return
    owner = _owner_of(package, origin)
    if owner is not None:
        cure = f"uninstall {owner} and install {DISTRIBUTION} again, or give {DISTRIBUTION} an environment of its own"
    else:
        cure = f"rename that {'folder' if os.path.basename(origin) == '__init__.py' else 'file'}"
    raise ImportError(f"{needed}, but {origin} hides it: {cure}", name=package, path=origin)


def _origin_of(package: str) -> str | None:
    """The file that *package* is imported from, without importing it; ``None`` for one without a file."""
    if package in sys.modules:
        return getattr(sys.modules[package], "__file__", None)
    for finder in sys.meta_path:  # as importlib.util.find_spec, which takes longer to import than this takes
        if hasattr(finder, "find_spec") and (spec := finder.find_spec(package, None)) is not None:
            return spec.origin
    return None


def _is_ours(origin: str) -> bool:
    if origin.endswith(".py"):
        try:
            with open(origin, "rb") as file:
                return DISTRIBUTION.encode() in file.read(MARKED)
        except OSError:  # in an archive
            pass
    return _folder(_folder(origin)) == _folder(_folder(__file__))


def _owner_of(package: str, origin: str) -> str | None:
    """The distribution that installed *origin*, if one did."""
    from importlib import metadata  # here: it takes milliseconds, and only an error needs it

    for name in metadata.packages_distributions().get(package, ()):
        if name != DISTRIBUTION and str(metadata.distribution(name).locate_file(f"{package}/__init__.py")) == origin:
            return name
    return None


_folder = os.path.dirname

for _package in ("events", "adapters"):
    refuse_hidden(_package)
