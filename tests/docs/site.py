"""Build the documentation into site/ and check it: no warning, no dead link, nothing from outside.

python -m tests.docs.site
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from tests.docs.docstrings import copied

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
SITE = ROOT / "site"

ANSI = re.compile(r"\x1b\[[0-9;]*m")
QUIET = re.compile(r"Build started|No issues found|Build finished in .*|")
"""What Zensical prints of a build without a warning; mkdocstrings and griffe add lines, and do not fail."""
NOT_DEPLOYED = ("404.html", "sitemap.xml")
"""What Zensical writes for a site of a known address; below another one their links lead nowhere."""

FETCHING = {
    "audio",
    "embed",
    "iframe",
    "image",
    "img",
    "input",
    "link",
    "object",
    "script",
    "source",
    "track",
    "use",
    "video",
}
"""Elements whose address a browser fetches without being asked. Those of a link are fetched by a click."""

STYLE_ADDRESS = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")


def main() -> int:
    """Build the site and check it; print what is wrong, and return the exit code."""
    wrong = built() or list(problems(SITE))
    print("\n".join(wrong) or f"site/: {len(list(SITE.rglob('*.html')))} pages, nothing wrong")
    return 1 if wrong else 0


def built() -> list[str]:
    """Write site/, with the Markdown of each page for programs that read; return what Zensical complains about."""
    command = [
        sys.executable,
        "-m",  # unlike the script, this finds tests.docs.console
        "zensical",
        "build",
        "-f",
        ROOT / ".zensical.toml",
        "--clean",
        "--strict",
    ]
    shutil.rmtree(SITE, ignore_errors=True)
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    said = ANSI.sub("", run.stdout + run.stderr).strip().splitlines()
    if run.returncode or warnings_of(said):
        return [*said, f"zensical exited with {run.returncode}; each line but those of a quiet build is an error"]
    for name in NOT_DEPLOYED:
        (SITE / name).unlink(missing_ok=True)
    for page in DOCS.rglob("*.md"):
        (SITE / page.relative_to(DOCS)).write_text(copied(page.read_text(encoding="utf-8")), encoding="utf-8")
    return []


def warnings_of(said: list[str]) -> list[str]:
    """The lines that a build without a warning does not print."""
    return [line for line in said if not QUIET.fullmatch(line)]


class Built(msgspec.Struct, frozen=True):
    """What a check needs of a built page.

    Args:
        ids: The anchors in it; one that is there twice is in the list twice.
        links: The addresses that a click leads to.
        fetched: The addresses that a browser loads with the page.
    """

    ids: list[str]
    links: list[str]
    fetched: list[str]


def read(text: str) -> Built:
    """The anchors and addresses of a built page, or of an SVG picture."""
    reader = _Reader(convert_charrefs=True)
    reader.feed(text)
    reader.fetched += addresses_of_style(text if "<style" in text else " ".join(reader.styles))
    return Built(reader.ids, reader.links, reader.fetched)


def addresses_of_style(text: str) -> list[str]:
    """What a style sheet loads."""
    return [address or imported for address, imported in STYLE_ADDRESS.findall(text)]


class _Reader(HTMLParser):
    def __init__(self, *, convert_charrefs: bool) -> None:
        super().__init__(convert_charrefs=convert_charrefs)
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.styles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name.removeprefix("xlink:"): value or "" for name, value in attrs}
        self.ids += [value for name, value in named.items() if name == "id" or (name == "name" and tag == "a")]
        self.styles += [named["style"]] if "style" in named else []
        found = [
            named[name]
            for name in ("href", "src", "data", "poster")
            if name in named and (tag, name) != ("object", "id")
        ]
        found += [part.split()[0] for part in named.get("srcset", "").split(",") if part.strip()]
        is_hint = tag == "link" and named.get("rel") in {"canonical", "prev", "next", "alternate", "describedby"}
        (self.fetched if tag in FETCHING and not is_hint else self.links).extend(found)


def problems(site: Path) -> Iterator[str]:
    """What is wrong with the files of *site*: dead links, anchors there twice, and what comes from outside."""
    pages = {path: read(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        yield from (
            f"{name}: two elements have the id {one!r}"
            for one in sorted({one for one in page.ids if page.ids.count(one) > 1})
        )
        yield from (f"{name}: loads {one} from outside" for one in page.fetched if _is_outside(one))
        inside = [one for one in page.links + page.fetched if not _is_outside(one)]
        yield from (f"{name}: {one} leads nowhere" for one in inside if not _leads_somewhere(site, path, one, pages))
    for path in sorted([*site.rglob("*.css"), *site.rglob("*.svg")]):
        text = path.read_text(encoding="utf-8")
        loaded = addresses_of_style(text) if path.suffix == ".css" else read(text).fetched
        yield from (f"{path.relative_to(site)}: loads {one} from outside" for one in loaded if _is_outside(one))


def _is_outside(address: str) -> bool:
    return urlsplit(address).scheme not in ("", "data") or address.startswith("//")


def _leads_somewhere(site: Path, path: Path, address: str, pages: dict[Path, Built]) -> bool:
    parts = urlsplit(address)
    if parts.scheme == "data":
        return True
    if parts.path.startswith("/"):  # below a sub-path it would lead out of the site
        return False
    target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file() or not target.is_relative_to(site):
        return False
    return not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].ids


if __name__ == "__main__":
    sys.exit(main())
