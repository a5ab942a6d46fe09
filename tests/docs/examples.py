"""The code blocks of a page, and what a test does with each; CONTRIBUTING.md has the rules for authors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^>]+) -->\n)?^(?P<fence>```+)(?P<language>[\w.]*)(?: (?P<options>[^\n]*))?\n"
    r"(?P<text>.*?)^(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)
FILE_NAME = re.compile(r"\A(?:#|//|<!--) (?P<name>[\w./-]+\.\w+|Dockerfile|\.env)(?: -->)?\n")
TITLE = re.compile(r'title="([^"]*)"')

CELLS = ("cell", "cell, interrupted", "cell, killed")
"""Marks of cells of a notebook: one may be interrupted after a second, or its kernel killed once it has shown all."""


class Block(msgspec.Struct, frozen=True):
    """One fenced block of a page.

    Args:
        page: Its path below the root of the project.
        line: Where it begins in the page, from 1.
        section: The title above it.
        language: The first word after the fence: python, console, text, toml, ...
        title: What the site shows above it, if anything.
        mark: What the comment on the line above says: "slow", "part of NAME", "cell".
        text: What is between the fences.
    """

    page: str
    line: int
    section: str
    language: str
    title: str
    mark: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block shows: its first line is a comment with the name alone."""
        match = FILE_NAME.match(self.text)
        return match["name"] if match else None

    @property
    def is_not_run(self) -> bool:
        """Whether readers are told that no test runs it, and why; its syntax is checked."""
        return self.title.startswith("not run by the tests: ")

    @property
    def is_cell(self) -> bool:
        """Whether it is a cell of the notebook that the page shows."""
        return self.mark in CELLS

    @property
    def is_in_a_second_terminal(self) -> bool:
        """Whether its commands run beside those of the other blocks, to the end of the page."""
        return self.title in {f"in a {number} terminal" for number in ("second", "third", "fourth")}


class Example(msgspec.Struct, frozen=True):
    """A program that stands alone, with what it prints."""

    program: Block
    printed: str

    def __str__(self) -> str:
        return f"{self.program.page}:{self.program.line}"


def blocks_of(page: Path, root: Path = ROOT) -> list[Block]:
    """The fenced blocks of *page*, in order; the page is named by its path below *root*."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        titles = re.findall(
            r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", before, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
        )
        title = TITLE.search(match["options"] or "")
        found.append(
            Block(
                page=f"{page.relative_to(root)}",
                line=text.count("\n", 0, match.start("fence")) + 1,
                section=titles[-1] if titles else "",
                language=match["language"],
                title=title[1] if title else "",
                mark=(match["mark"] or "").strip(),
                text=match["text"],
            )
        )
    return found


def examples_of(blocks: list[Block]) -> Iterator[Example]:
    """The programs among *blocks* that stand alone: the next block is what each prints."""
    for one in _programs_of(blocks):
        if not (one.program.file or one.program.mark.startswith("part of ") or one.program.is_cell):
            yield one


def cells_of(blocks: list[Block]) -> list[Example]:
    """The cells of the notebook among *blocks*, which run in order in one kernel: the next block is what each shows."""
    return [one for one in _programs_of(blocks) if one.program.is_cell]


def _programs_of(blocks: list[Block]) -> Iterator[Example]:
    for block, following in zip(blocks, [*blocks[1:], None], strict=False):
        if block.language == "python" and not block.is_not_run:
            is_printed = following is not None and following.language in ("text", "json") and not following.title
            yield Example(block, following.text if is_printed and following else "")


def session_of(blocks: list[Block]) -> list[Block]:
    """The files and commands among *blocks*: they are written and run in order, in one folder."""
    return [one for one in blocks if not one.is_not_run and (one.file or one.language == "console")]


def commands_of(block: Block) -> list[tuple[str, str]]:
    """Each command of a console block with what it prints; lines that begin with "> " continue a command."""
    commands: list[tuple[str, str]] = []
    for line in block.text.splitlines(keepends=True):
        if line.startswith("$ "):
            commands.append((line[2:], ""))
        elif line.startswith("> ") and commands and not commands[-1][1]:
            commands[-1] = (commands[-1][0] + line[2:], "")
        elif commands:
            commands[-1] = (commands[-1][0], commands[-1][1] + line)
        else:
            raise ValueError(f"{block.page}:{block.line}: a console block begins with a command: $ ...")
    return commands


LOOK_ALIKES = {"1a2b3c4d": "[0-9a-f]{8}", "12:00:00": r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d"}
"""What pages show in place of any id of a process, and of any time, with its date where that is another day."""


def fits(shown: str, printed: str) -> bool:
    """Whether *printed* is what a page has *shown*.

    ``...`` stands for any text, and as a line of its own for any lines, or none. ``1a2b3c4d`` stands for any id,
    ``12:00:00`` for any time. Blanks that end a line do not count.
    """
    shown = re.sub(r"^\.\.\.\n", "...", shown, flags=re.MULTILINE)
    shown, printed = (re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE) for text in (shown, printed))
    pattern = ".*?".join(re.escape(part) for part in shown.split("..."))
    for shape, any_one in LOOK_ALIKES.items():
        pattern = pattern.replace(shape, any_one)
    return re.fullmatch(pattern, printed, re.DOTALL) is not None
