"""What the documentation names exists: make targets, files and folders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.examples import FENCE

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


every_page = pytest.mark.parametrize("page", PAGES, ids=[f"{page.relative_to(ROOT)}" for page in PAGES])


@every_page
def test_every_make_target_of_a_page_exists(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:`|^ {4})make (?:[A-Z]+=\S+ )?([a-z-]+)", text, re.MULTILINE)
    assert set(named) <= targets


@every_page
def test_every_path_of_a_page_exists(page: Path):
    paths = re.findall(r"`((?:events|recovery|adapters|tests|bench|docs)/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [path for path in paths if not (ROOT / path).exists()] == []


@every_page
def test_every_link_of_a_page_leads_to_a_file_and_a_title(page: Path):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = re.findall(r"\]\(([^)\s]+)\)|<[a-z]+ [^>]*?(?:href|src)=\"([^\"]+)", text)
    links = [link for one in found for link in one if link and "://" not in link]
    assert [link for link in links if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, title = link.partition("#")
    target = page.parent / path if path else page
    return target.is_file() and (not title or title in titles_of(target))


def titles_of(page: Path) -> set[str]:
    """The titles of a page as GitHub writes them in a link, and the names that an API page shows."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    shown = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles} | {*shown}


@every_page
def test_two_titles_of_a_page_never_have_one_anchor(page: Path):
    if page.name == "CHANGELOG.md":
        return
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = [one.lower() for one in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    assert sorted(titles) == sorted(set(titles)), "a link leads to the first one, on one site to the other on another"


def test_pictures_are_small():
    assert all(one.stat().st_size < 150_000 for one in (ROOT / "docs" / "pictures").iterdir())


def test_every_picture_of_the_docs_is_on_a_page():
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [one.name for one in (ROOT / "docs" / "pictures").iterdir() if f"pictures/{one.name}" not in shown] == []


def test_the_design_and_the_tree_of_contributing_name_every_folder_of_adapters():
    design = (ROOT / "docs" / "explanation" / "design.md").read_text(encoding="utf-8")
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = [path.parent.name for path in (ROOT / "adapters").glob("*/__init__.py")]
    assert [folder for folder in folders if f"`adapters/{folder}/`" not in design] == []
    assert [folder for folder in folders if f"{folder}/" not in tree] == []


def test_make_pages_runs_every_generator_but_that_of_make_cli():
    made = re.findall(r"-m (tests\.docs\.\w+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    generators = [
        f"tests.docs.{path.stem}" for path in Path(__file__).parent.glob("*_page.py") if "test_" not in path.name
    ]
    assert sorted(set(generators) - set(made)) == []


def test_contributing_names_every_make_target_but_those_of_a_user_and_of_check():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert targets - named - {"help", "install", "clean", "demo"} == {"arch", "lint", "types"}
