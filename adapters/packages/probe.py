"""What an interpreter says of its environment, as JSON: run alone by that interpreter, of Python 3.8 or later."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any


def environment(*, does_verify: bool) -> dict[str, Any]:
    """The interpreter, its distributions in the order of its path, and what broken installs left.

    Args:
        does_verify: Whether each file that a distribution has installed must be there with its size.
    """
    prefix = os.path.realpath(sys.prefix)
    places = [Path(place) for place in dict.fromkeys(sys.path) if os.path.isdir(place)]
    own = [place for place in places if os.path.realpath(place).startswith(prefix + os.sep)]
    return {
        "executable": sys.executable,
        "prefix": prefix,
        "has_ensurepip": importlib.util.find_spec("ensurepip") is not None,
        "markers": markers(),
        "distributions": [
            distribution(folder, is_own=place in own, does_verify=does_verify and place in own)
            for place in places
            for folder in sorted(place.iterdir())
            if folder.name.endswith((".dist-info", ".egg-info")) and not folder.name.startswith("~")
        ],
        "leftovers": [str(folder) for place in own for folder in sorted(place.glob("~*"))],
    }


def markers() -> dict[str, str]:
    """The environment of markers. Source: https://packaging.python.org/specifications/dependency-specifiers."""
    version = sys.implementation.version
    kind = "" if version.releaselevel == "final" else f"{version.releaselevel[0]}{version.serial}"
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": f"{version.major}.{version.minor}.{version.micro}{kind}",
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def distribution(folder: Path, *, is_own: bool, does_verify: bool) -> dict[str, Any]:
    """The distribution that *folder*, or a file of an old kind, describes."""
    is_old = folder.name.endswith(".egg-info")
    metadata = text_of((folder if folder.is_file() else folder / "PKG-INFO") if is_old else folder / "METADATA")
    fields = fields_of(metadata)
    name, _, version = folder.name.rpartition(".")[0].partition("-")
    needed = [] if is_old else ["METADATA", "RECORD", "INSTALLER"]
    missing = [one for one in needed if not text_of(folder / one)]
    if does_verify and not missing and not is_old:
        missing = lost_files(folder)[:1]
    return {
        "name": fields.get("name", [name])[0],
        "version": fields.get("version", [version])[0],
        "folder": str(folder),
        "is_own": is_own,
        "requires": fields.get("requires-dist", []),
        "direct_url": text_of(folder / "direct_url.json"),
        "lacks": missing[0] if missing else "",
    }


def lost_files(folder: Path) -> list[str]:
    """The files that the distribution has installed, and that are not there, or have another size."""
    lost = []
    for path, _, size in (row.rsplit(",", 2) for row in text_of(folder / "RECORD").splitlines() if row.count(",") > 1):
        if size and not path.endswith(".pyc"):
            try:
                found = os.stat(folder.parent / path.strip('"')).st_size
            except OSError:
                found = -1
            if found != int(size):
                lost.append(path)
    return lost


def fields_of(metadata: str) -> dict[str, list[str]]:
    """The headers of a file of metadata, by their names in lower case: a parser of mail takes longer to import."""
    fields: dict[str, list[str]] = {}
    for line in metadata.partition("\n\n")[0].splitlines():
        name, colon, value = line.partition(":")
        if colon and not name.startswith((" ", "\t")):
            fields.setdefault(name.lower(), []).append(value.strip())
    return fields


def text_of(path: Path) -> str:
    """The text of a file; "" if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    sys.stdout.write(json.dumps(environment(does_verify="--verify" in sys.argv)))
