"""Write docs/llms.txt: the pages of the site with a sentence each, for programs that read (llmstxt.org).

python -m tests.docs.llms
"""

from __future__ import annotations

import re

from tests.docs.examples import FENCE
from tests.docs.nav import DOCS, NAV, PROJECT

PAGE = DOCS / "llms.txt"
BESIDE = "Each page is here as Markdown; the page of the site lies beside it and ends in .html.\n"
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
END = re.compile(r"(?<=[.!?])(?<!e\.g\.)\s+(?=[A-Z`\[*])")
PROSE = re.compile(r"[A-Za-z`*\[(]")


def text() -> str:
    """The file: title, purpose, and a list for each part of the navigation."""
    purpose = first_sentence((DOCS / "index.md").read_text(encoding="utf-8"))
    parts = [
        f"## {part}\n\n" + "".join(f"- [{title}]({page}): {note(page)}\n" for title, page in entries)
        for part, entries in NAV.items()
        if part != "Home"
    ]
    return "\n".join([f"# {PROJECT['site_name']}\n", f"> {purpose}\n", BESIDE, *parts])


def note(page: str) -> str:
    """What *page* says first."""
    return first_sentence((DOCS / page).read_text(encoding="utf-8"))


def first_sentence(markdown: str) -> str:
    """The first sentence of a page's prose, its links as plain words."""
    prose = re.sub(r"<!--.*?-->", "", FENCE.sub("", markdown), flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", prose):
        if PROSE.match(paragraph):
            return END.split(LINK.sub(r"\1", " ".join(paragraph.split())))[0]
    raise ValueError("the page has no sentence")


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
