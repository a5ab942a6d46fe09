"""Which calls a filter selects for a command; and the verbs that take one."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli.command import cli
from adapters.journals.selection import ACTS_ON, Filter, select
from adapters.journals.status import CallStatus, JournalStatus
from events.evidence import Category
from recovery.journal.store import CommandName
from tests.adapters.sqlite import journals


def call(id_: str, state: str, *, seen: float = 0.0, by: str = "", category: Category | None = None) -> CallStatus:
    operation, _, key = id_.partition("@")
    return CallStatus(
        call=id_,
        operation=operation,
        key=key,
        name=f"the {operation}",
        state=state,
        attempt=1,
        retries=0,
        restarts=0,
        failures=("no",) if category else (),
        which="",
        cause="",
        reason="",
        seen=seen,
        by=by,
        category=category,
    )


CALLS = (
    call("get@hub", "waiting", seen=1.0, category=Category.UNREACHABLE),
    call("get@git", "paused", seen=2.0, category=Category.RATE_LIMITED),
    call("run", "running", seen=3.0),
    call("old", "left", seen=4.0),
    call("bad@example.org:443", "gave up", seen=5.0, category=Category.PERMANENT),
    call("stopped", "cancelled", seen=6.0),
    call("repeated", "gave up", seen=7.0, by="r-9", category=Category.PERMANENT),
    call("done", "succeeded", seen=8.0),
)


def selected(command: CommandName, **wanted: object) -> list[str]:
    status = JournalStatus(path="x", is_being_written=True, calls=CALLS, circuits={}, unreadable=0)
    return [one.call for one in select(status, command, msgspec.convert(wanted, Filter)).calls]


@pytest.mark.parametrize(
    ("command", "wanted", "found"),
    [
        ("retry", {}, ["old", "get@git", "get@hub"]),
        ("retry", {"states": ["waiting"]}, ["get@hub"]),
        ("retry", {"key": "hub"}, ["get@hub"]),
        ("again", {"key": "example.org"}, ["bad@example.org:443"]),
        ("again", {"key": "example.org:443"}, ["bad@example.org:443"]),
        ("retry", {"operation": "get"}, ["get@git", "get@hub"]),
        ("retry", {"operation": "the old"}, ["old"]),
        ("retry", {"category": "unreachable"}, ["get@hub"]),
        ("retry", {"has_failed": True}, ["get@git", "get@hub"]),
        ("retry", {"limit": 1}, ["old"]),
        ("retry", {"states": ["gave up"]}, []),
        ("cancel", {}, ["old", "run", "get@git", "get@hub"]),
        ("again", {}, ["bad@example.org:443"]),
        ("again", {"states": ["gave up", "cancelled"]}, ["stopped", "bad@example.org:443"]),
        ("unpause", {}, ["old", "get@git"]),
    ],
)
def test_a_filter_selects_calls_that_the_command_can_act_on(
    command: CommandName, wanted: dict[str, object], found: list[str]
) -> None:
    assert selected(command, **wanted) == found


def test_no_command_acts_on_a_call_that_has_succeeded() -> None:
    assert not [command for command, states in ACTS_ON.items() if "succeeded" in states]


# the verbs


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "calls.db"
    left = [journals.started(f"dead-{number}") for number in range(1, 4)]
    journals.write(path, journals.rows_of([*left, journals.started("dead-9", "other")]))
    return path


def recovery(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def test_a_filter_of_several_calls_needs_a_yes(journal: Path) -> None:
    refused = recovery("give-up", journal, "--operation", "render")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert re.search(r"give up 3 calls: (render \(dead-\d\)(, |;)){3} add --yes to do that", refused.stderr)
    done = recovery("give-up", journal, "--operation", "render", "--yes")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "give up: done with 3 of 3 calls")
    assert len(done.stdout.splitlines()) == 4
    left = recovery("give-up", journal, "--all")
    assert left.stdout == "call dead-9: given up: no process resumes it any more\n"  # one call needs none
    nothing = recovery("give-up", journal, "--all", "--json")
    assert msgspec.json.decode(nothing.stdout) == {"format": "steered/1", "command": "give up", "calls": [], "more": 0}


def test_calls_beyond_the_limit_are_counted(journal: Path) -> None:
    result = recovery("cancel", journal, "--all", "--limit", "2", "--yes")
    assert (result.exit_code, "2 more calls match" in result.stderr) == (0, True)


@pytest.mark.parametrize("arguments", [[], ["dead-1", "--all"], ["--state", "succeeded"], ["--category", "x"]])
def test_a_call_or_a_filter_is_needed(journal: Path, arguments: list[str]) -> None:
    result = recovery("retry", journal, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
