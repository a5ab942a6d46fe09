"""Every code block and command of README and docs runs, and prints what its page shows; ``...`` stands for any text."""

from __future__ import annotations

import ast
import configparser
import json
import logging
import os
import re
import socket
import subprocess
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from adapters.demo.practice import PORT
from tests.docs.examples import (
    CELLS,
    PAGES,
    ROOT,
    Block,
    Example,
    blocks_of,
    cells_of,
    commands_of,
    examples_of,
    fits,
    session_of,
)
from tests.docs.shell import Shell

GENERATED = {"docs/reference/cli.md"}
"""Pages that are written from what programs print; the tests of their generators compare them."""

QUICK = {"README.md"}
"""Pages whose commands `make test` runs; those of the others take seconds each, and `make docs` runs them."""

BLOCKS = {page: blocks_of(page) for page in PAGES if f"{page.relative_to(ROOT)}" not in GENERATED}
EXAMPLES = [example for blocks in BLOCKS.values() for example in examples_of(blocks)]
CELLS_OF_PAGES = [cell for blocks in BLOCKS.values() for cell in cells_of(blocks)]
PROGRAMS = [example.program for example in [*EXAMPLES, *CELLS_OF_PAGES] if example.printed]
SESSIONS = {f"{page.relative_to(ROOT)}": session for page, blocks in BLOCKS.items() if (session := session_of(blocks))}


@pytest.fixture
def loggers_as_before() -> Iterator[None]:
    """Undo what an example does to the loggers that other tests use."""
    before = [(one, one.level, [*one.handlers]) for one in (logging.getLogger(), logging.getLogger("recovery"))]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.mark.usefixtures("loggers_as_before")
@pytest.mark.parametrize(
    "example",
    [pytest.param(one, marks=pytest.mark.docs if one.program.mark == "slow" else ()) for one in EXAMPLES],
    ids=str,
)
def test_an_example_prints_what_its_page_shows(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert example.printed, "show what it prints in a text block below it, or name its file in its first line"
    exec(compile(example.program.text, str(example), "exec"), {"__name__": "example"})
    printed = capsys.readouterr().out
    assert fits(example.printed, printed), printed


@pytest.mark.parametrize(
    "session",
    [pytest.param(one, id=page, marks=() if page in QUICK else pytest.mark.docs) for page, one in SESSIONS.items()],
)
def test_the_commands_of_a_page_print_what_it_shows(session: list[Block], tmp_path: Path) -> None:
    ports = other_ports([one.text for one in session])
    with Shell(tmp_path) as shell:
        for block in session:
            text = re.sub(r"\b\d{4}\b", lambda match: ports.get(match[0], match[0]), block.text)
            if block.file:
                path = tmp_path / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                continue
            for command, shown in commands_of(msgspec.structs.replace(block, text=text)):
                if block.is_in_a_second_terminal:
                    printed = shell.run_beside(command.replace("--serve", f"--serve --port {ports[f'{PORT}']}"), shown)
                else:
                    printed = run_until_it_fits(shell, command, shown)
                assert fits(shown, printed), f"{block.page}:{block.line}: {command}{printed}"
        for command, shown, printed in shell.see_the_end():
            assert fits(shown, printed), f"{command}{printed}"


def run_until_it_fits(shell: Shell, command: str, shown: str) -> str:
    """Run *command*; where it waits first (``sleep 1; ...``), up to five times: a busy machine needs longer."""
    for _ in range(5 if command.startswith("sleep ") else 1):
        printed = shell.run(command)
        if fits(shown, printed):
            break
    return printed


def other_ports(texts: list[str]) -> dict[str, str]:
    """A free port, of four digits too, for each port that *texts* name: two sessions at a time do not meet."""
    named = sorted({f"{PORT}", *re.findall(r"(?:127\.0\.0\.1|localhost):(\d{4})\b", "".join(texts))})
    return dict(zip(named, free_ports_of_four_digits(), strict=False))


def free_ports_of_four_digits() -> Iterator[str]:
    for port in range(4000 + os.getpid() % 1000 * 5, 10_000):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            yield f"{port}"


@pytest.mark.parametrize(
    "block", [block for blocks in BLOCKS.values() for block in blocks], ids=lambda one: f"{one.page}:{one.line}"
)
def test_a_block_is_run_or_says_why_not(block: Block) -> None:
    if is_printed(block):
        return
    if block.language == "text":
        assert block.title, "a text block follows the program that prints it, or has a title"
        return
    if block.mark.startswith("part of "):
        name = block.mark.removeprefix("part of ")
        whole = [one.text for one in BLOCKS[ROOT / block.page] if one.file == name]
        whole += [(ROOT / name).read_text(encoding="utf-8")] if not whole and (ROOT / name).is_file() else []
        assert whole, f"neither the page nor the repository has the file: {name}"
        missing = [
            line
            for line in block.text.splitlines()
            if line.strip() not in [one.strip() for one in whole[-1].splitlines()]
        ]
        assert missing == []
        return
    assert block.mark in ("", "slow", *CELLS), f"a mark that no test reads: {block.mark}"
    assert block.language in SYNTAX, f"a language that no test reads: {block.language!r}"
    SYNTAX[block.language](textwrap.dedent(block.text))
    if block.language in {"python", "console"} or block.is_not_run:
        return
    assert block.file, "name its file in the first line as a comment, or give it a title: not run by the tests: ..."


def is_printed(block: Block) -> bool:
    """Whether *block* is what a program of its page prints."""
    blocks = BLOCKS[ROOT / block.page]
    before = blocks[: blocks.index(block)]
    return block.language in ("text", "json") and bool(before) and before[-1] in PROGRAMS


def is_ini(text: str) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(text)


def is_yaml(text: str) -> None:
    yaml.safe_load(text)


def is_bash(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def is_console(text: str) -> None:
    for command, _ in commands_of(Block("", 0, "", "console", "", "", text)):
        is_bash(command)


def is_dockerfile(text: str) -> None:
    known = {
        "FROM",
        "RUN",
        "COPY",
        "WORKDIR",
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "USER",
        "VOLUME",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "EXPOSE",
    }
    lines = text.replace("\\\n", " ").splitlines()
    assert {line.split()[0] for line in lines if line.strip() and not line.startswith("#")} <= known


SYNTAX: dict[str, Callable[[str], Any]] = {
    "python": ast.parse, "toml": tomllib.loads, "json": json.loads, "ini": is_ini, "bash": is_bash,
    "yaml": is_yaml, "console": is_console, "dockerfile": is_dockerfile,
}  # fmt: skip
"""What reads each language."""


every_page = pytest.mark.parametrize("page", BLOCKS, ids=[f"{page.relative_to(ROOT)}" for page in BLOCKS])


@every_page
def test_a_page_has_no_block_that_no_test_reads(page: Path) -> None:
    assert unread(page.read_text(encoding="utf-8"), [block.line for block in BLOCKS[page]]) == []


@every_page
def test_a_second_terminal_has_one_command_as_it_is_busy_then(page: Path) -> None:
    beside = [block for block in BLOCKS[page] if block.is_in_a_second_terminal]
    assert [block for block in beside if len(commands_of(block)) != 1] == []


@every_page
def test_the_files_of_a_page_are_used_by_its_commands(page: Path) -> None:
    assert unused(SESSIONS.get(f"{page.relative_to(ROOT)}", [])) == []


FOUND_BY_NAME = {"conftest.py", "pyproject.toml"}
"""Files that a program finds by itself: pytest, pip."""


def unused(session: list[Block]) -> list[str]:
    """The files of *session* that no later block names: by their path, or as a module."""
    found = []
    for number, block in enumerate(session):
        if not block.file:
            continue
        path = Path(block.file)
        module = path.parent.name if path.stem == "__init__" else path.stem
        later = "".join(one.text for one in session[number + 1 :])
        is_named = block.file in later or re.search(rf"\b{re.escape(module)}\b", later)
        if not later or not (is_named or path.name in FOUND_BY_NAME):
            found.append(f"{block.page}:{block.line}: {block.file}")
    return found


def test_a_file_that_no_command_uses_is_found(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        "```python\n# used.py\n```\n```python\n# stray.py\n```\n```console\n$ python used.py\n```\n"
        "```python\n# last.py\n```\n"
    )
    assert unused(session_of(blocks_of(path, tmp_path))) == ["page.md:4: stray.py", "page.md:10: last.py"]


@pytest.mark.parametrize(
    ("page", "lines"),
    [
        ("```python\nprint(1)\n```\n", []),
        ("````text\n```python\nshown, not run\n```\n````\n", []),
        ("- A list:\n\n  ```python\n  print(1)\n  ```\n", [3]),
        ("!!! note\n\n    ```python\n    print(1)\n    ```\n", [3]),
        ("~~~python\nprint(1)\n~~~\n", [1]),
        ("```{.python}\nprint(1)\n```\n", [1]),
        ("```python\nprint(1)\n", [1]),
        ("Text.\n\n    print(1)\n", [3]),
        ("Text.\n\n\tprint(1)\n", [3]),
        ("> ```python\n> print(1)\n> ```\n", [1]),
        ("- ```python\n  print(1)\n  ```\n", [1]),
        ("1. ```python\n   print(1)\n   ```\n", [1]),
        ("<pre><code>print(1)</code></pre>\n", [1]),
    ],
)
def test_a_block_that_no_test_reads_is_found(tmp_path: Path, page: str, lines: list[int]) -> None:
    path = tmp_path / "page.md"
    path.write_text(page, encoding="utf-8")
    assert unread(page, [block.line for block in blocks_of(path, tmp_path)]) == lines


def unread(text: str, read: list[int]) -> list[int]:
    """The lines of *text* that begin a block, fenced, indented or of HTML, but none of those *read*."""
    fence, previous, found = "", "", []
    for number, line in enumerate(text.splitlines(), 1):
        opened = re.match(r"(?:\s|>|[-*+] |\d+[.)] )*(`{3,}|~{3,})", line)
        if fence:
            fence = "" if line.strip("> ") == fence else fence
        elif opened:
            fence = opened[1]
            found += [number] if number not in read else []
        elif (not previous.strip() and line.startswith(("    ", "\t")) and line.strip()) or "<pre" in line:
            found.append(number)
        previous = line
    return found
