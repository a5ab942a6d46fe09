"""What the documentation names exists: make targets, files and folders."""

from __future__ import annotations

import importlib.util
import operator
import pkgutil
import re
from pathlib import Path

import pytest

import recovery.context
import recovery.presets
from adapters.memory import MemoryStore
from adapters.metrics import tracing
from recovery import Recovery
from tests.docs.examples import FENCE

ROOT = Path(__file__).parent.parent.parent
TRACING = Path(tracing.__file__).read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


every_page = pytest.mark.parametrize("page", PAGES, ids=[f"{page.relative_to(ROOT)}" for page in PAGES])


@every_page
def test_every_make_target_of_a_page_exists(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:`|^\$ )make (?:[A-Z]+=\S+ )*([a-z-]+)", text, re.MULTILINE)
    assert set(named) <= targets


@every_page
def test_every_module_that_a_page_runs_exists(page: Path):
    named = set(re.findall(r"python3? -m ([\w.]+)", page.read_text(encoding="utf-8")))
    assert [name for name in named if importlib.util.find_spec(name) is None] == []


@every_page
def test_every_dotted_name_in_the_text_of_a_page_exists(page: Path):
    if page.name == "CHANGELOG.md":  # it tells of names that are gone
        return
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    named = {name for span in re.findall(r"`([^`]+)`", text) for name in DOTTED.findall(span)}
    assert [name for name in sorted(named) if not exists(name)] == []


SERVICE = Recovery(store=MemoryStore(), enable_logging=False)
DOTTED = re.compile(r"(?<![\w./-])((?:events|recovery|adapters|service|context|presets)(?:\.\w+)+)(?![\w/-])")
"""Names of the packages, of a service, and of the two modules that programs import whole."""


def exists(name: str) -> bool:
    """Whether *name* can be reached; a file, an attribute of a span or a logger may look like one."""
    if name.endswith((".py", ".toml")) or name == "recovery.bus" or f'"{name}"' in TRACING:
        return True
    whole = {"service": SERVICE, "context": recovery.context, "presets": recovery.presets}
    root, _, rest = name.partition(".")
    try:
        _ = operator.attrgetter(rest)(whole[root]) if root in whole else pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True


@pytest.mark.parametrize("name", ["service.calls.gone", "recovery.redact.hidee", "events.Gone", "recovery.gone"])
def test_a_name_that_does_not_exist_is_found(name: str):
    assert not exists(name)


@every_page
def test_every_path_of_a_page_exists(page: Path):
    paths = re.findall(r"`((?:events|recovery|adapters|tests|bench|docs)/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [path for path in paths if not (ROOT / path).exists()] == []


@every_page
def test_every_link_of_a_page_leads_to_a_file_and_a_title(page: Path):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = re.findall(
        r"\]\(<?([^)>\s]+)[^)]*\)|<[a-z]+ [^>]*?(?:href|src)=\"([^\"]+)|^\[[^\]]+\]: (\S+)", text, re.MULTILINE
    )
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
