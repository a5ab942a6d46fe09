"""``recovery why`` and ``recovery history`` as commands: exit codes, errors, and the shape of their JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli.command import cli
from adapters.journals.why import Why
from events.operation_events import GaveUp, OperationSucceeded
from tests.adapters.journals.calls_written import journal_of
from tests.adapters.terminal.test_view import failed, of_call, started


def recovery(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A dead journal with the call c1, which failed and gave up, and with c2, which was left."""
    events = started(), failed(), of_call(GaveUp, at=11.0, reason="out of retries (0)")
    other = started("other", call="c2", at=12.0)
    with journal_of(tmp_path_factory.mktemp("dead"), *events, other) as path:
        yield path


def of_json(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0
    found: dict[str, Any] = msgspec.json.decode(result.stdout)
    return found


def test_why_explains_a_call_in_plain_lines_without_a_terminal(journal: Path) -> None:
    result = recovery("why", journal, "model")
    assert result.exit_code == 0
    first, second, *_ = result.stdout.splitlines()
    assert first == "download model gave up"
    assert second.startswith("why: ")


def test_the_json_of_why_is_the_struct_and_names_its_shape(journal: Path) -> None:
    found = of_json(recovery("why", journal, "c1", "--json"))
    assert found.pop("format") == "why/1"
    assert tuple(found) == Why.__struct_fields__
    assert msgspec.convert(found, Why).state == "gave up"


def test_why_without_a_call_explains_in_short_each_call_that_is_not_done(journal: Path) -> None:
    lines = recovery("why", journal).stdout.splitlines()
    assert [line for line in lines if ": " not in line] == [
        "download other was left by its process",
        "",
        "download model gave up",
    ]
    assert lines[-1] == f"more: recovery why {journal} c1"
    found = of_json(recovery("why", journal, "--json"))
    assert (found["format"], [one["call"] for one in found["calls"]], found["more"]) == ("whys/1", ["c2", "c1"], 0)


def test_why_without_a_call_says_that_all_is_done(tmp_path: Path) -> None:
    with journal_of(tmp_path, started(), of_call(OperationSucceeded)) as path:
        assert recovery("why", path).stdout == "every call is done, or none has begun\n"


@pytest.mark.parametrize("verb", ["why", "history"])
def test_a_call_that_is_not_there_is_one_error_and_exit_code_1(journal: Path, verb: str) -> None:
    result = recovery(verb, journal, "nothing")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has the id or name 'nothing'; `recovery status` lists them" in result.stderr


@pytest.mark.parametrize("verb", ["why", "history"])
def test_several_calls_of_a_name_are_listed(tmp_path: Path, verb: str) -> None:
    with journal_of(tmp_path, started("a"), started("b", call="c2")) as path:
        result = recovery(verb, path, "download")
    assert result.exit_code == 1
    assert "'download' names 2 calls" in result.stderr


@pytest.mark.parametrize("verb", ["why", "history"])
def test_a_journal_that_is_not_there_is_exit_code_2(tmp_path: Path, verb: str) -> None:
    result = recovery(verb, tmp_path / "none.db", "c1")
    assert (result.exit_code, result.stderr) == (2, f"recovery: there is no journal at {tmp_path / 'none.db'}\n")


@pytest.mark.parametrize("verb", ["why", "history"])
def test_a_wrong_plan_is_exit_code_2(tmp_path: Path, verb: str) -> None:
    plan = tmp_path / "launch.toml"
    plan.write_text("[[operation]]\n")
    result = recovery(verb, plan, "c1")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"recovery: {plan}: ")


def test_history_lists_the_events_of_a_call_in_time_order(journal: Path) -> None:
    found = of_json(recovery("history", journal, "c1", "--json"))
    assert (found["format"], found["call"], found["name"]) == ("history/1", "c1", "download model")
    assert [one["event"] for one in found["events"]] == ["OperationStarted", "FailureClassified", "GaveUp"]
    assert [one["at"] for one in found["events"]] == sorted(one["at"] for one in found["events"])


def test_history_shows_the_latest_events_up_to_the_limit(journal: Path) -> None:
    result = recovery("history", journal, "c1", "--limit", 1)
    [line] = result.stdout.splitlines()
    assert line.endswith("gave up after 1 attempt: out of retries (0)")


def test_history_without_a_call_lists_the_latest_calls(journal: Path) -> None:
    assert [line.split("  ")[2] for line in recovery("history", journal).stdout.splitlines()] == ["c1", "c2"]
    found = of_json(recovery("history", journal, "--limit", 1, "--json"))
    assert (found["format"], [one["call"] for one in found["calls"]]) == ("calls/1", ["c2"])
