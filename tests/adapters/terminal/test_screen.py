from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from adapters.journals.incidents import IncidentLine
from adapters.launcher.document import Step
from adapters.launcher.kinds.command import Command
from adapters.launcher.kinds.download import Download
from adapters.terminal.screen import is_redrawn, last_words, launch_table, live_table, make_console
from adapters.terminal.view import LaunchView
from events.circuit_events import CircuitOpened

NAMES = ("model", "vae", "requirements")
STEPS: tuple[Step, ...] = (
    Download(name="model", url="https://example.org/model", destination="model", size=6_500_000_000),
    Download(name="vae", url="https://example.org/vae", destination="vae"),
    Command(name="requirements", run=("pip", "install"), needs=("model", "vae")),
)
STATES = ("queued", "running", "waiting", "done", "failed", "skipped", "cancelled", "left")


def launch(steps: tuple[Step, ...] = STEPS, **changes: Any) -> LaunchView:
    """A view with *changes* in each of its lines."""
    view = LaunchView(steps)
    for line in view.lines.values():
        for field, value in changes.items():
            setattr(line, field, value)
    return view


def drawn(view: LaunchView, *, width: int = 160, now: float = 0.0) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(launch_table(view, now, console))
    return console.export_text()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("state", STATES)
def test_every_operation_is_seen_by_name_and_state(width: int, state: str) -> None:
    view = launch(
        state=state, attempts=12, offset=3_210_000_000, until=9.0, waits_for="retry 11", why="ReadError: " + "x" * 200
    )
    text = drawn(view, width=width)
    rows = [row for row in text.splitlines() if state in row]
    assert [name for name in NAMES if any(name in row for row in rows)] == list(NAMES)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_an_operation_is_one_line_however_long_its_name(width: int) -> None:
    steps = (Command(name="n" * 200, run=("true",)), Command(name="模型" * 50, run=("true",)))
    assert len(drawn(launch(steps, why="why", state="failed"), width=width).splitlines()) == 3


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("state", ["waiting", "paused", "failed", "skipped"])
def test_a_reason_is_wrapped_and_not_cut(width: int, state: str) -> None:
    why = " ".join(f"word-{number}" for number in range(40))
    text = drawn(launch(STEPS[:1], state=state, why=why), width=width)
    assert why in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= width


def terminal(height: int) -> Console:
    return Console(file=io.StringIO(), width=80, height=height, force_terminal=True, color_system=None)


@pytest.mark.parametrize(("height", "is_cut"), [(40, False), (6, True)])
def test_a_table_that_is_too_high_is_cut_while_it_is_redrawn_and_whole_at_the_end(height: int, is_cut: bool) -> None:
    why, console = " ".join(f"word-{number}" for number in range(40)), terminal(height)
    with live_table(launch(state="failed", why=why), console):
        pass
    assert isinstance(console.file, io.StringIO)
    redrawn, whole = console.file.getvalue().split("\x1b[?25h", 1)  # the cursor is shown again
    assert ("…" in redrawn, all(name in redrawn for name in NAMES)) == (is_cut, True)
    assert " ".join(whole.split()).count("word-39") == len(NAMES)


def test_a_wait_is_counted_down_and_never_below_nothing() -> None:
    view = launch(state="waiting", waits_for="retry 2", until=12.5, why="reset")
    assert "retry 2 in 2.5 s: reset" in drawn(view, now=10.0)
    assert "retry 2 at once: reset" in drawn(view, now=99.0)


@pytest.mark.parametrize(
    ("bound", "now", "shown"),
    [
        ("causes", 5.0, "waits for: disk space, at least 7.5 s, at most 1 min 35 s, since 4 s"),
        ("causes", 20.0, "waits for: disk space, at most 1 min 20 s, since 19 s"),
        ("asks", 5.0, "waits for: disk space, at most 1 min 35 s; asks again in 7.5 s at the latest"),
    ],
)
def test_a_wait_for_a_cause_says_what_for_and_since_when(bound: str, now: float, shown: str) -> None:
    view = launch(state="waiting", waits_for="disk space", since=1.0, until=12.5, deadline=100.0, bound=bound)
    assert shown in drawn(view, now=now)


def test_a_wait_without_a_latest_end_says_none() -> None:
    view = launch(state="waiting", waits_for="disk space", since=1.0, until=1.0, bound="causes")
    assert "waits for: disk space, since 4 s" in drawn(view, now=5.0)


def test_a_paused_call_does_not_count_down() -> None:
    view = launch(state="paused", waits_for="retry 2", left=7.5, why="reset")
    assert "‖ paused" in drawn(view)
    assert "retry 2, with 7.5 s left: reset" in drawn(view, now=1.0)
    assert drawn(view, now=1.0) == drawn(view, now=99.0)


def test_who_is_queued_says_what_is_still_missing() -> None:
    view = launch()
    view.lines["model"].state = "done"
    assert "needs vae" in drawn(view)


RUNNING: dict[str, Any] = {
    "state": "running", "attempts": 1, "began": -9.0, "size": 4_000_000_000, "start": 1_100_000_000,
    "offset": 1_244_000_000, "samples": ((-2.0, 1_148_000_000), (0.0, 1_244_000_000)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (120, "1.2 of 4.0 GB, 31 %, 48 MB/s, 57 s left, 1.1 GB resumed"),
        (80, "31 % of 4.0 GB, 48 MB/s, 57 s left, 1.1 GB resumed"),
    ],
)
def test_progress_has_a_rate_an_end_and_what_was_resumed(width: int, words: str) -> None:
    assert words in " ".join(drawn(launch(STEPS[:1], **RUNNING), width=width).split())


@pytest.mark.parametrize("width", [80, 120])
def test_a_row_that_is_cut_shows_the_rate_and_the_end(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, record=True)
    steps = (Download(name="n" * 60, url="https://example.org", destination="x"),)
    console.print(launch_table(launch(steps, **RUNNING), 0.0, console, is_cut=True))
    assert "48 MB/s, 57 s left" in console.export_text()


def test_what_runs_without_bytes_is_shown_with_its_time() -> None:
    assert "for 2 min 5 s" in drawn(launch(STEPS[2:], state="running", began=10.0), now=135.0)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (("done", "done", "done"), "done"),
        (("done", "failed", "done"), "done, with 1 optional operation failed: vae"),
        (("failed", "done", "skipped"), "1 of 3 operations done; failed: model; skipped: requirements"),
        (("failed", "failed", "skipped"), "0 of 3 operations done; failed: model; skipped: requirements"),
        (("done", "running", "queued"), None),
    ],
)
def test_the_last_words_agree_with_the_exit_code(states: tuple[Any, ...], words: str | None) -> None:
    view = launch()
    view.lines["vae"].optional = True
    for line, state in zip(view.lines.values(), states, strict=True):
        line.state = state
    assert last_words(view.lines.values()) == words


def test_the_last_words_stand_below_the_table() -> None:
    console = Console(file=io.StringIO(), width=80, record=True)
    with live_table(launch(state="done"), console):
        pass
    assert console.export_text().splitlines()[-1] == "done"


def test_the_failure_of_an_optional_operation_is_said_to_be_that() -> None:
    assert "optional: no route" in drawn(launch(state="failed", why="no route", optional=True))


@pytest.mark.parametrize(("size", "offset"), [(0, 0), (None, 0), (100, 200), (10**15, 10**15)])
def test_odd_sizes_are_drawn_too(size: int | None, offset: int) -> None:
    assert "model" in drawn(launch(state="running", size=size, offset=offset))


def test_a_restart_and_failures_are_shown() -> None:
    text = drawn(launch(state="done", failures=["a", "b"], resumed=2))
    assert "after 2 failures (+2 restarts)" in text


def with_incident(view: LaunchView, key: str = "example.org", cause: str = "unreachable: no route") -> LaunchView:
    """*view*, with an incident at the time 0 for which the calls in "waiting" wait."""
    incident = view.incidents["download", key] = IncidentLine(operation="download", key=key)
    incident.take(CircuitOpened(at=0.0, operation="download", key=key, after=40.0, cause=cause))
    incident.waiting = {line.name for line in view.lines.values() if line.state == "waiting"}
    return view


def downloads(number: int, **changes: Any) -> LaunchView:
    steps = [Download(name=f"file-{one:02}", url="https://example.org", destination="x") for one in range(number)]
    return with_incident(launch(tuple(steps), incident="example.org", **changes))


@pytest.mark.parametrize("width", [80, 120])
def test_an_incident_is_a_line_above_the_table_and_what_waits_for_it_a_short_row(width: int) -> None:
    view = downloads(30, state="waiting", attempts=1, why="no route " * 9)
    text = drawn(view, width=width, now=5.0)
    words = "incident download[example.org]: unreachable: no route; 30 calls wait, next probe in 35 s operation"
    assert " ".join(text.split()).startswith(words)
    assert text.count("waits for incident example.org") == 30
    assert len(text.splitlines()) <= 2 + 1 + 30


@pytest.mark.parametrize("state", ["waiting", "failed"])
def test_calls_that_stand_alike_for_one_incident_are_counted_where_there_is_no_room(state: str) -> None:
    console, view = terminal(24), downloads(30, state=state, why="gave up with incident example.org")
    view.lines["file-07"].incident = view.lines["file-07"].why = ""
    with live_table(view, console):
        pass
    assert isinstance(console.file, io.StringIO)
    redrawn, whole = console.file.getvalue().split("\x1b[?25h", 1)
    assert "incident download[example.org]" in redrawn
    assert [name for name in view.lines if name in redrawn] == ["file-00", "file-07"]
    assert "28 more" in redrawn
    assert all(name in whole for name in view.lines)


@pytest.mark.parametrize("evil", ["[/red]", "[bold]x", ":bug:", "\x1b[31m", "a\nb", "\u202eabc", "\r"])
def test_text_from_outside_is_drawn_as_it_is_and_moves_no_cursor(evil: str) -> None:
    steps = (Command(name=f"a{evil}b", run=("true",)),)
    view = launch(steps, state="failed", why=f"c{evil}d")
    text = drawn(with_incident(view, f"e{evil}f", f"g{evil}h"))
    assert not {"\x1b", "\r", "\u202e"} & set(text)
    assert len(text.splitlines()) == 3
    if evil.isprintable():
        assert all(part in text for part in (f"a{evil}b", f"c{evil}d", f"e{evil}f", f"g{evil}h"))


def test_where_there_is_no_terminal_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert make_console().width >= 160


def test_what_the_command_prints_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    make_console().print("a [bold] :bug: /path/to/1234")
    assert capsys.readouterr().out == "a [bold] :bug: /path/to/1234\n"


@pytest.mark.parametrize(("term", "redrawn"), [("dumb", False), ("xterm", True)])
def test_a_dumb_terminal_is_not_redrawn(term: str, redrawn: bool) -> None:
    assert is_redrawn(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": term})) is redrawn


@pytest.mark.parametrize("stderr", [False, True])
def test_a_line_of_a_pipe_has_no_blanks_at_its_end(capsys: pytest.CaptureFixture[str], stderr: bool) -> None:
    console = make_console(stderr=stderr)
    console.print(launch_table(launch(state="queued", needs=()), 0.0, console))
    console.print("two  \n\n words")
    told = capsys.readouterr()
    lines = (told.err if stderr else told.out).splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert lines[-3:] == ["two", "", " words"]
    assert len(lines) == 7
