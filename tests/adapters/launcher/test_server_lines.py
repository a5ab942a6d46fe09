"""How servers and steps stand on the screen and in lines: in words of their own."""

from __future__ import annotations

import msgspec
import pytest

from adapters.launcher.checkpoint_words import ServerNote
from adapters.launcher.kinds.server import Server
from adapters.launcher.kinds.steps import CommandWithUndo, Steps
from adapters.launcher.saga import Begun, RunRecord
from adapters.terminal.progress_lines import ProgressLines
from adapters.terminal.view import LaunchView
from events.event import CallEvent, Event
from events.evidence import Category
from events.operation_events import CheckpointSaved, OperationStarted, Parked, RetryScheduled
from tests.adapters.terminal.test_screen import drawn
from tests.adapters.terminal.test_view import of_call

STEPS = (
    Server(name="comfyui", run=("serve", "{port}"), ready="http://127.0.0.1:{port}/"),
    Steps(name="update", steps=(CommandWithUndo(name="move", run=("mv",)),), needs=("comfyui",)),
)


def started(operation: str, name: str, call: str = "c1", attempt: int = 1) -> CallEvent:
    arguments = msgspec.Raw(msgspec.json.encode([[name], {}]))
    return of_call(OperationStarted, operation=operation, call=call, attempt=attempt, arguments=arguments)


def saved(data: msgspec.Struct) -> CallEvent:
    return of_call(CheckpointSaved, data=msgspec.Raw(msgspec.json.encode(data)))


SERVER = started("server", "comfyui")
READY = saved(ServerNote("ready", "http://127.0.0.1:8188"))
RESTART = of_call(RetryScheduled, operation="server", after=5.0, retry=1)
PARKED = of_call(Parked, operation="server", after=0.0, why="an answer", asks_person=True, category=Category.AUTH)
RUN = started("steps update", "update")


def record(name: str = "move", **fields: object) -> CallEvent:
    record = RunRecord(steps=("keep", "move", "start"), begun=(Begun("keep", is_done=True), Begun(name)))
    return saved(msgspec.structs.replace(record, **fields))


def rows(*events: Event, width: int = 80) -> list[str]:
    view = LaunchView(STEPS)
    for event in events:
        view.feed(event)
    text = drawn(view, width=width, now=10.0)
    assert max(map(len, text.splitlines())) <= width
    return [" ".join(row.split()) for row in text.splitlines()[1:]]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    ("events", "said"),
    [
        ((SERVER,), "comfyui ▶ starting 1"),
        ((SERVER, READY), "comfyui ▶ ready 1 ready at http://127.0.0.1:8188"),
        (
            (SERVER, saved(ServerNote("refused", "http://a:1"))),
            "comfyui ▶ refused 1 takes no connections at http://a:1",
        ),
        ((SERVER, READY, RESTART), "comfyui … restarting 1 restart 1 in 5 s"),
        ((SERVER, READY, RESTART, started("server", "comfyui", attempt=2)), "comfyui ▶ starting 2"),
        ((SERVER, READY, PARKED), "comfyui … parked 1"),
    ],
)
def test_a_server_starts_is_ready_restarts_or_is_parked(events: tuple[Event, ...], said: str, width: int) -> None:
    assert rows(*events, width=width)[0].startswith(said)


def test_what_needs_a_server_begins_when_it_is_ready() -> None:
    assert "update · queued needs comfyui" in rows(SERVER)
    assert "update · queued" in rows(SERVER, READY)


def test_steps_say_which_one_runs_and_what_it_waits_for() -> None:
    assert "update ▶ running 1 step 2 of 3: move" in rows(RUN, record())
    assert "update ▶ running 1 undoing move" in rows(RUN, record(why="it failed", failed="move"))
    step = started("step update", "update update: move", "c2")
    retry = of_call(RetryScheduled, operation="step update", call="c2", after=5.0, retry=1)
    assert rows(RUN, record(), step, retry)[1].startswith("update … waiting 1 retry 1 in 5 s")
    again = msgspec.structs.replace(step, attempt=2)
    assert "update ▶ running 2 step 2 of 3: move" in rows(RUN, record(), step, retry, again)


def test_lines_say_when_a_server_is_ready_and_which_step_runs() -> None:
    view, lines = LaunchView(STEPS), list[str]()
    printer = ProgressLines(view, lines.append)
    for event in (SERVER, READY, started("steps update", "update", "c2"), record()):
        if isinstance(event, CheckpointSaved) and event is not READY:
            event = msgspec.structs.replace(event, call="c2")
        view.feed(event)
        printer.feed(event)
    printer.flush()
    assert lines == [
        "comfyui: begins", "comfyui: ready at http://127.0.0.1:8188", "update: begins", "update: step 2 of 3: move",
    ]  # fmt: skip
    assert "comfyui: ready at http://127.0.0.1:8188" in printer.summary(10.0)
