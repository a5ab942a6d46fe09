"""The navigation of the site has each page once, and llms.txt lists the same pages."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from importlib.resources import files

import pytest

from tests.docs import llms
from tests.docs.llms import first_sentence
from tests.docs.nav import DOCS, NAV, PAGES, PROJECT


def test_the_navigation_has_every_page_once_and_nothing_else():
    written = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert sorted(PAGES) == written


def test_two_entries_of_the_navigation_never_have_one_title():
    titles = Counter(title for entries in NAV.values() for title, _ in entries)
    assert [title for title, count in titles.items() if count > 1] == []


def test_a_part_of_the_navigation_holds_the_pages_of_its_folder():
    strays = [
        page
        for part, entries in NAV.items()
        for _, page in entries
        if len(entries) > 1 and not page.startswith(f"{part.lower()}/")
    ]
    assert strays == []


@pytest.mark.parametrize("part", ["How-to", "Explanation"])
def test_the_first_page_of_a_part_leads_to_each_other_page_of_it(part: str):
    (_, index), *others = NAV[part]
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / index).read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(page.rpartition("/")[2] for _, page in others)


def title_of(page: str) -> str:
    """The title that *page* has itself."""
    return (DOCS / page).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


@pytest.mark.parametrize("part", ["Tutorial", "How-to"])
def test_a_page_has_the_title_that_the_navigation_gives_it(part: str):
    assert [(page, title_of(page)) for _, page in NAV[part]] == [(page, title) for title, page in NAV[part]]


@pytest.mark.parametrize(
    "index", ["index.md", *(f"{part}/index.md" for part in ("how-to", "reference", "explanation"))]
)
def test_a_table_of_pages_gives_each_the_title_that_it_has(index: str):
    titles = {page: {title, title_of(page)} for entries in NAV.values() for title, page in entries}
    table = (DOCS / index).read_text(encoding="utf-8").partition(" | page |\n")[2]
    links = re.findall(r"\[([^\]]+)\]\(([\w./-]+\.md)\)", table)
    pages = [(text, posixpath.normpath(posixpath.join(posixpath.dirname(index), page))) for text, page in links]
    assert [
        (text, page)
        for text, page in pages
        if text not in titles[page] | {one[0].lower() + one[1:] for one in titles[page]}
    ] == []


@pytest.mark.parametrize("section", re.findall(r"^## (.+)$", (DOCS / "how-to/index.md").read_text(), re.MULTILINE))
def test_a_section_of_the_how_to_index_lists_the_pages_of_the_navigation_in_its_order(section: str):
    [how_to] = [entry["How-to"] for entry in PROJECT["nav"] if "How-to" in entry]
    [wanted] = [entry[section] for entry in how_to if section in entry]
    text = (DOCS / "how-to/index.md").read_text(encoding="utf-8").partition(f"## {section}\n")[2].partition("\n## ")[0]
    listed = re.findall(r"\| \[([^\]]+)\]\(([\w-]+\.md)\) \|", text)
    assert listed == [(title, page.removeprefix("how-to/")) for one in wanted for title, page in one.items()]


def test_the_files_that_the_site_names_exist():
    named = [*PROJECT["extra_css"], PROJECT["theme"]["logo"], PROJECT["theme"]["favicon"]]
    assert [name for name in named if not (DOCS / name).is_file()] == []


def test_the_site_has_the_icon_of_the_page():
    icon = files("adapters.web") / "static" / "icon.svg"
    assert (DOCS / PROJECT["theme"]["logo"]).read_bytes() == icon.read_bytes()


def test_nothing_is_loaded_from_outside():
    assert PROJECT["theme"]["font"] is False
    style = (DOCS / "look" / "site.css").read_text(encoding="utf-8")
    assert "//" not in style
    assert "@import" not in style


def test_llms_txt_lists_the_pages_with_their_first_sentences():
    assert llms.PAGE.read_text(encoding="utf-8") == llms.text(), "run `make pages`"


def test_every_link_of_llms_txt_leads_to_a_page():
    linked = re.findall(r"\]\((.+?)\)", llms.PAGE.read_text(encoding="utf-8"))
    assert linked == PAGES[1:]


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("# Title\n\nIt waits. Then it ends.\n", "It waits."),
        ("# Title\n\n```python\nprint(1)\n```\n\nIt prints a 1. `print` does that.\n", "It prints a 1."),
        ("# Title\n\n<!-- slow -->\n\nSee [the\npage](page.md#top). More.\n", "See the page."),
        ("| a | b |\n|---|---|\n| c | d |\n\nOnly for 1.5 s, e.g. `a`. No more.\n", "Only for 1.5 s, e.g. `a`."),
    ],
)  # fmt: skip
def test_a_note_is_the_first_sentence_of_prose(page: str, sentence: str):
    assert first_sentence(page) == sentence
