"""The law of the compiled start: in journal mode it does what the general path does, whatever happens in the body.

The same script runs on two services. One has a receiver of starts that was connected through blinker, which the
compiled start does not serve. Results, contexts, counters and journal rows are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from events.event import Event
from events.operation_events import OperationStarted, OperationSucceeded
from events.verdicts import GiveUp
from recovery import BreakerPolicy, Recovery, context
from recovery.testing.clock import VirtualClock
from recovery.testing.script import seeded_rng
from tests.properties.test_compiled_law import ERRORS, MODES, Mode
from tests.slow import few

STEPS = (
    "time", "checkpoint", "progress", "nested", "outage", "heal", "subscribe", "unsubscribe", "connect", "disconnect",
    "mute", "unmute", "switch off", "switch on", "interrupt",
)  # fmt: skip
"""What a body may do before it returns."""


class Scene(msgspec.Struct, frozen=True):
    """What happens: the steps of each call, one by one (an error ends an attempt), and the settings."""

    calls: list[list[str]]
    settings: dict[str, Any]


SETTINGS = st.fixed_dictionaries(
    {"max_retries": st.sampled_from([2, 0, None])},
    optional={
        "initial_delay": st.sampled_from([0.0, 0.1]),
        "breaker": st.sampled_from([None, BreakerPolicy(failure_threshold=1)]),
        "when_open": st.just("wait"),
        "version": st.just("2"),
        "progress_resets": st.just(1),
        "idempotent": st.just(False),
        "fallback": st.just("fallback"),
        "retry_if_error": st.just(lambda error: None),
        "before_retry": st.just(lambda failure: None),
        "max_elapsed": st.just(30.0),
        "key": st.just(lambda number: f"key {number % 2}"),
        "retry_if": st.just(lambda result: result is None),
    },
)
CALL = st.lists(st.sampled_from([*STEPS, *STEPS, "reset", *ERRORS]), max_size=4)
SCENES = st.builds(Scene, calls=st.lists(CALL, min_size=2, max_size=5), settings=SETTINGS)


class Stage:
    """One service on which a scene is played, and what can be seen of it."""

    def __init__(self, scene: Scene, service: Recovery, clock: VirtualClock, mode: Mode) -> None:
        self.scene, self.service, self.clock, self.mode = scene, service, clock, mode
        self.seen: list[object] = []
        self._left: list[str] = []
        self._subscription: Any = None
        self.function = self._decorated("law", **scene.settings)
        self._inner = service.recoverable("inner", durability="journal")(lambda: self._look())

    def _decorated(self, name: str, **settings: Any) -> Any:
        settings = {"initial_delay": 0.0, "jitter": "none", "durability": "journal", **settings}
        if self.mode != "plain":  # the next attempt waits for a commit, meanwhile the clock of a loop goes on
            settings["max_retries"] = 0

        async def async_body(number: int) -> str:
            return self._body(number)

        return self.service.recoverable(name, **settings)(self._body if self.mode == "plain" else async_body)

    def play(self) -> None:
        """Make the calls, one after the other."""
        for number, steps in enumerate(self.scene.calls):
            self._left[:] = steps
            try:
                self.seen.append(self._call(number))
            except BaseException as error:  # an interruption, too
                notes = [re.sub(r"call \S+", "", note) for note in getattr(error, "__notes__", ())]
                self.seen.append((type(error), str(error), notes))
            self.seen.append(context.is_running())
            self.clock.advance(1.0)

    def _call(self, number: int) -> object:
        if self.mode == "plain":
            return self.function(number)
        return self.clock.run(self.function, number, backend=self.mode)

    def _look(self) -> None:
        key = context.key() if context.key().startswith("run-") else "random, of a call that is made once"
        self.seen.append((context.attempt(), context.saved(), key, round(self.clock(), 6)))

    def _body(self, number: int) -> str:
        self._look()
        while self._left:
            step = self._left.pop(0)
            if step in ERRORS:
                raise ERRORS[step]()
            self._do(step)
        self._look()
        return f"result {number}"

    def _note(self, event: OperationStarted | OperationSucceeded) -> None:
        self.seen.append((type(event), event.call, event.at))

    def _receive(self, sender: object, *, event: Event) -> None:
        pass

    def _do(self, step: str) -> None:
        service, started = self.service, self.service.bus.signal(OperationStarted)
        match step:
            case "time":
                self.clock.advance(0.25)
            case "checkpoint":
                context.checkpoint(len(self._left))
            case "progress":
                context.progress(len(self._left))
            case "nested":
                self._inner()
            case "outage" | "heal":  # another call, meanwhile
                attempt = service.operation("law").start()
                for _ in range(3 if step == "outage" else 0):
                    if isinstance(attempt.fail(ConnectionError("outage")), GiveUp):
                        break
                    attempt = attempt.next()
                else:
                    attempt.succeed()
            case "subscribe" if self._subscription is None:
                kinds = (OperationStarted, OperationSucceeded)
                self._subscription = service.bus.subscribe(kinds, self._note, operation="law")
            case "unsubscribe" if self._subscription is not None:
                self._subscription.close()
                self._subscription = None
            case "connect":
                started.connect(self._receive, weak=False)
            case "disconnect":
                started.disconnect(self._receive)
            case "mute" | "unmute":
                service.bus.signal(OperationSucceeded).is_muted = step == "mute"
            case "switch off" | "switch on":
                service.configure(enabled=step == "switch on")
            case "interrupt":
                raise KeyboardInterrupt


def connect_to_starts(service: Recovery) -> None:
    def receive(sender: object, *, event: Event) -> None:
        pass

    service.bus.signal(OperationStarted).connect(receive, weak=False)


def act(scene: Scene, mode: Mode, subscribe: Callable[[Recovery], object] = lambda _: None) -> dict[str, Any]:
    """What can be seen of *scene*."""
    clock, store = VirtualClock(), MemoryStore()
    with Recovery(store=store, clock=clock, rng=seeded_rng(0), run="run", enable_logging=False) as service:
        subscribe(service)
        assert service.journal is not None
        warm_up = service.recoverable("warm-up", durability="journal")(lambda: None)
        warm_up()
        service.journal.receipt().wait(30.0)  # from now on the journal takes records
        stage = Stage(scene, service, clock, mode)
        stage.play()
        service.journal.receipt().wait(30.0)
        operations = [(name, service.operation(name).successes) for name in ("law", "inner")]
        circuits, counts = service.circuits.states(), service.journal.counts
    rows = [msgspec.json.decode(row.body) for row in store.rows]
    return {"seen": stage.seen, "successes": operations, "circuits": circuits, "counts": counts, "rows": rows}


def scene(*calls: list[str], **settings: Any) -> Scene:
    return Scene(list(calls), {"max_retries": 2, **settings})


@pytest.mark.parametrize("mode", few(MODES, "plain", "asyncio"))
@example(scene=scene([], [], ["time"], version="2"))
@example(scene=scene([], ["reset", "time", "reset"]))
@example(scene=scene([], ["checkpoint", "time", "reset"]))
@example(scene=scene([], ["outage"], ["time"], [], [], breaker=BreakerPolicy(failure_threshold=1)))
@example(scene=scene([], ["interrupt"], []))
@example(scene=scene([], [], ["mute"], [], [], ["unmute"], [], []))
@example(scene=scene([], [], ["subscribe"], [], [], ["unsubscribe"], [], []))
@example(scene=scene([], [], ["switch off"], [], [], ["switch on"], [], []))
@example(scene=scene([], ["nested", "time"], ["nested", "reset"]))
@given(scene=SCENES)
def test_both_starts_do_the_same(mode: Mode, scene: Scene) -> None:
    assert act(scene, mode) == act(scene, mode, connect_to_starts)
