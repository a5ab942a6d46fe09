"""``recovery why`` and ``recovery history`` as they are printed: at 80 and 120 columns, and without a terminal.

``python -m tests.adapters.terminal.test_why_text`` writes what is printed now to ``tests/golden/why``.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from adapters.journals.answering import Question
from adapters.journals.history import PastEvent, history_line
from adapters.journals.status import CallStatus, JournalStatus
from adapters.journals.why import Why, why
from adapters.launcher.progress import Transfer
from adapters.terminal.why_text import MOST_FIRST, MOST_LAST, print_calls, print_history, print_why
from events.event import CallEvent
from events.evidence import Category, Evidence
from events.operation_events import (
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationRecovered,
    OperationStarted,
    Parked,
    RetryScheduled,
)
from recovery.questions import cause_of

GOLDEN = Path(__file__).parents[2] / "golden" / "why"
NOW = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
CALL = {"operation": "download", "key": "example.org", "call": "1a2b3c4d-17"}
ARGUMENTS = msgspec.Raw(b'[["weights","https://example.org/weights?token=hunter22hunter22"],{}]')
REFUSED = Evidence(
    type="httpx2.ConnectError",
    message="All connection attempts failed",
    cause=Evidence(type="builtins.ConnectionRefusedError", message="[Errno 111] Connection refused", errno=111),
)


def event(kind: type[CallEvent], at: float, **given: Any) -> CallEvent:
    return kind(**{"at": NOW + at, **CALL, **given})


def failed(at: float, attempt: int = 1, **given: Any) -> CallEvent:
    about: dict[str, Any] = {"category": Category.UNREACHABLE, "evidence": REFUSED, "rule": "httpx2.ConnectError"}
    return event(FailureClassified, at, attempt=attempt, **about | given)


def past(*events: CallEvent) -> list[PastEvent]:
    return [PastEvent(at=one.at, pid=123, run="r1", kind=type(one).__name__, event=one) for one in events]


def explained(state: str, events: Sequence[CallEvent], questions: Sequence[Question] = (), **about: Any) -> Why:
    known: dict[str, Any] = {
        "call": "1a2b3c4d-17", "operation": "download", "key": "example.org", "name": "weights", "state": state,
        "attempt": 2, "retries": 1, "restarts": 0, "failures": ("one",), "which": "https://example.org/weights",
        "cause": "", "reason": "", "seen": NOW - 5.0, "pid": 123,
    }  # fmt: skip
    call = CallStatus(**known | about)
    is_alive = state in ("running", "waiting", "paused")
    status = JournalStatus(path="calls.db", is_being_written=is_alive, calls=(call,), circuits={}, unreadable=0)
    return why(call, status, past(*events), source=Path("launch.toml"), now=NOW, questions=questions)


def cases() -> dict[str, Why]:
    started = event(OperationStarted, -60.0, arguments=ARGUMENTS)
    waits = started, failed(-50.0), event(RetryScheduled, -50.0, after=62.0, retry=1)
    token = "token:example.org"
    question = Question(
        name=token, kind="secret", choices=(), text="Make a token.", link="https://example.org/tokens", reason="",
        is_open=True, runs=("r1",),
    )  # fmt: skip
    refused = failed(-50.0, category=Category.AUTH, rule="HTTP 401", evidence=Evidence(type="httpx2.E", status=401))
    asked = event(Parked, -50.0, after=0.0, why=cause_of(token), category=Category.AUTH)
    ended = event(GaveUp, -5.0, attempt=2, reason="out of retries (1)")
    git = Evidence(
        type="subprocess.CalledProcessError", message="Command '['git', 'clone']' returned 128", exit_code=128,
        stderr="Cloning into 'nodes'...\nfatal: unable to access 'https://example.org/': Could not resolve host\n",
    )  # fmt: skip
    second = event(OperationStarted, -20.0, attempt=2)
    return {
        "waiting": explained("waiting", waits, due=NOW + 12.0, transfer=Transfer(1_200_000_000, 4 * 10**9)),
        "asking": explained("waiting", (started, refused, asked), [question], waits_for=cause_of(token)),
        "left": explained("left", (*waits, second)),
        "gave-up": explained(
            "gave up", (*waits, second, failed(-5.0, 2, evidence=git, rule="git-unreachable"), ended),
            reason="out of retries (1)", failures=("one", "two"),
        ),
        "succeeded": explained("succeeded", (*waits, second, event(OperationRecovered, -5.0, attempt=2))),
    }  # fmt: skip


def printed(found: Why, width: int | None) -> str:
    console = console_of(width)
    print_why(found, console, NOW)
    return text_of(console)


def console_of(width: int | None) -> Console:
    """A terminal of *width* columns without colours, or what is no terminal."""
    return Console(
        file=io.StringIO(), width=width or 160, force_terminal=width is not None, color_system=None, highlight=False,
        markup=False, emoji=False,
    )  # fmt: skip


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def golden(width: int | None) -> Path:
    return GOLDEN / f"{width or 'plain'}.txt"


def all_cases(width: int | None) -> str:
    return "\n".join(f"== {name}\n{printed(found, width)}" for name, found in cases().items())


@pytest.mark.parametrize("width", [80, 120, None])
def test_why_is_printed_as_it_was_looked_at(width: int | None) -> None:
    assert all_cases(width) == golden(width).read_text()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(width: int) -> None:
    for name, found in cases().items():
        text = printed(found, width)
        assert max(map(len, text.splitlines())) <= width
        seen = "".join(text.split())
        error = "" if found.state == "succeeded" else found.error
        wanted = (found.call, found.phrase, found.sentence, error, found.next_line, found.remedy)
        assert [part for part in wanted if "".join(part.split()) not in seen] == [], name


def test_without_a_terminal_each_line_has_its_label() -> None:
    headline, *lines = printed(cases()["gave-up"], None).splitlines()
    assert headline == "download weights gave up"
    assert [line for line in lines if ": " not in line] == []


def test_a_long_story_shows_its_beginning_and_its_end() -> None:
    events = [failed(float(number), number + 1, rule=f"r{number}") for number in range(100)]
    shown = printed(explained("waiting", events), None)
    assert shown.count("story: ") == MOST_FIRST + MOST_LAST + 1
    assert f"story: ... {100 - MOST_FIRST - MOST_LAST} more; `recovery history` lists every event" in shown
    assert "attempt 100" in shown


def test_the_history_has_a_line_for_each_event() -> None:
    damaged = PastEvent(at=None, pid=0, run="r2", kind="GaveUp")
    saved = event(CheckpointSaved, -40.0, data=msgspec.Raw(b'{"offset":5,"size":10}'))
    lines = [history_line(one) for one in (*past(failed(-50.0), saved), damaged)]
    console = console_of(None)
    print_history(lines, console, NOW)
    first, second, third = text_of(console).splitlines()
    assert first.startswith("11:59:10  failure classified  attempt 1 failed: ")
    assert second == "11:59:20  checkpoint saved  5 of 10 B, 50 %"
    assert third == "unknown  gave up  its row is damaged"


@pytest.mark.parametrize("width", [80, 120])
def test_the_history_fits_a_terminal(width: int) -> None:
    console = console_of(width)
    events = past(failed(-50.0), event(GaveUp, -5.0, reason="word " * 60))
    print_history([history_line(one) for one in events], console, NOW)
    assert max(map(len, text_of(console).splitlines())) <= width


def test_the_latest_calls_are_listed_with_their_ids() -> None:
    console = console_of(80)
    found = CallStatus(
        call="1a2b3c4d-17", operation="download", key="", name="weights", state="gave up", attempt=1, retries=0,
        restarts=0, failures=(), which="", cause="the disk is full (environment): " + "word " * 30, reason="", seen=NOW,
    )  # fmt: skip
    print_calls([found], console, NOW)
    first, *_ = text_of(console).splitlines()
    assert first.startswith("12:00:00 gave up 1a2b3c4d-17 download weights the disk is full")


@pytest.mark.parametrize("evil", ["[/red]", "\x1b[31m", "\u202eabc", "\r"])
@pytest.mark.parametrize("width", [80, None])
def test_what_the_journal_says_moves_no_cursor(evil: str, width: int | None) -> None:
    evidence = Evidence(type=evil, message=evil, stderr=f"{evil}\n{evil}")
    events = failed(-50.0, evidence=evidence, rule=evil, why=evil), event(GaveUp, -5.0, reason=evil)
    text = printed(explained("gave up", events, name=evil, which=evil, reason=evil), width)
    assert not {"\x1b", "\r", "\u202e"} & set(text)


@pytest.mark.parametrize("at", [1e308, -1e308, 2.0**63])
def test_times_that_no_calendar_has_are_printed(at: float) -> None:
    events = event(OperationStarted, at), failed(-at), event(RetryScheduled, at, after=1e308, retry=1)
    found = explained("waiting", events, due=at, seen=at, deadline=at)
    console = console_of(80)
    print_history([history_line(one) for one in past(*events)], console, NOW)
    assert "at an unknown time" in printed(found, 80)
    assert "at an unknown time" in text_of(console)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for one in (80, 120, None):
        golden(one).write_text(all_cases(one))
