"""Each page names the extras that it needs, and leads to the one place that says how to install them."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from recovery.installation import DISTRIBUTION, EXTRAS, extra
from tests.docs.examples import FENCE, ROOT, blocks_of
from tests.docs.nav import DOCS, PAGES

NAMED = re.compile(r"\bextras?\s((?:`\w+`(?:,\s|\sand\s)?)+)")
USES = {
    "launcher": r"adapters\.(?:launcher|packages|downloads|git|processes|servers|terminal)\b|^\$ (?:.*[;|] )?recovery ",
    "comfyui": r"adapters\.comfyui\b|\.comfyui\(|kind = \"(?:comfyui|prompt)\"",
    "web": r"adapters\.web\b|recovery web\b",
    "monitor": r"\.monitor\(|recovery\.monitoring\b",
    "nats": r"adapters\.nats\b|(?:^\$ |[;|] )recovery (?:.* )?--cluster\b|^\$ (?:.*[;|] )?recovery worker\b",
    "prometheus": r"adapters\.metrics\.prometheus\b",
    "opentelemetry": r"adapters\.metrics\.tracing\b",
    "testing": r"recovery\.testing\.(?:plugin|strategies|machine|hostile)\b|^(?:from|import) (?:pytest|hypothesis)\b",
}
"""What the blocks of a page use of each extra."""

every_page = pytest.mark.parametrize("page", [DOCS / page for page in PAGES], ids=PAGES)


def used_by(page: Path) -> set[str]:
    code = "".join(block.text for block in blocks_of(page))
    return {name for name, use in USES.items() if re.search(use, code, re.MULTILINE)}


def named_by(text: str) -> set[str]:
    return {name for found in NAMED.findall(text) for name in re.findall(r"\w+(?=`)", found)}


@every_page
def test_a_page_names_the_extras_that_its_programs_and_commands_use(page: Path):
    assert used_by(page) - named_by(FENCE.sub("", page.read_text(encoding="utf-8"))) == set()


@every_page
def test_a_page_that_needs_an_extra_leads_to_how_to_install_it(page: Path):
    text = page.read_text(encoding="utf-8")
    is_followed = not page.is_relative_to(DOCS / "explanation")  # a page to read, with no program to run
    if is_followed and page != DOCS / "index.md" and named_by(text):
        assert f"]({os.path.relpath(DOCS / 'index.md', page.parent)}#install)" in text


def test_the_home_page_lists_every_extra():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    section = (DOCS / "index.md").read_text(encoding="utf-8").partition("## Install\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(declared) == set(EXTRAS) == set(USES)


def test_the_home_page_shows_the_command_of_the_error_about_a_missing_extra():
    with pytest.raises(ModuleNotFoundError) as missing, extra("monitor"):
        raise ModuleNotFoundError(name="ddsketch")
    command = f"pip install '{DISTRIBUTION}[monitor]'"
    assert f"{missing.value}".endswith(f": {command}")
    assert f"`{command}`" in (DOCS / "index.md").read_text(encoding="utf-8")


@every_page
def test_extras_are_quoted_in_commands(page: Path):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"(?:pip install|path/to)[^\n`'\"]* [\w./-]+\[\w", text) == []


@every_page
def test_a_page_with_a_second_terminal_says_how_to_begin_there(page: Path):
    before, found, _ = page.read_text(encoding="utf-8").partition('```console title="in a second terminal"')
    hint = "(same folder, `. .venv/bin/activate` first)"
    assert not found or hint in before, f"say it above the block: start it in a second terminal {hint}"
