"""The navigation of the site, as .zensical.toml lists it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / ".zensical.toml").read_text(encoding="utf-8"))["project"]


def entries(nav: list[Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The title and the page of each entry of *nav*, in order, those of a part within a part too.

    A page without a title is the first one of its part, and has the title *above*.
    """
    for entry in nav:
        if isinstance(entry, str):
            yield above, entry
            continue
        [(title, page)] = entry.items()
        if isinstance(page, str):
            yield title, page
        else:
            yield from entries(page, title)


NAV = {title: list(entries([entry])) for entry in PROJECT["nav"] for title in entry}
"""The entries of each part: their titles and pages."""

PAGES = [page for part in NAV.values() for _, page in part]
