"""The commands print what tests/golden/cli has, at 80 and 120 columns and without a terminal; no line is too long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.cli.snapshots import COMMANDS, FOLDER, WIDTHS, journal_of_a_launch, printed, written


@pytest.fixture(scope="module", autouse=True)
def _in_its_folder() -> Iterator[None]:
    with journal_of_a_launch():
        yield


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_what_its_file_has(name: str, width: str) -> None:
    assert printed(COMMANDS[name], width) == written(name, width).read_text(encoding="utf-8"), "see `make cli`"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_terminal_of_80_columns_keeps_ids_states_and_causes(name: str) -> None:
    lines = written(name, "80").read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 80
    narrow, wide = (" ".join(written(name, width).read_text(encoding="utf-8").split()) for width in ("80", "pipe"))
    for said in ("1a2b3c4d-1", "gave up", "the disk is full"):
        assert (said in wide) <= (said in narrow), said


def test_every_file_is_that_of_a_command() -> None:
    assert {*FOLDER.glob("*.*.txt")} == {written(name, width) for name in COMMANDS for width in WIDTHS}
