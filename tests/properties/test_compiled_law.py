"""The law of the compiled failure path: it does what the general path does, whatever fails and however often.

The same script runs on services that differ in their subscribers alone: none, silent ones, a receiver that was
connected through blinker (which the compiled path does not serve). Attempts, waits, results, counters, circuits, log
lines and journal rows are the same.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import anyio
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from events import Event, FailureClassified, OperationFailed, OperationRecovered, RetryScheduled
from events.errors import Permanent, Retryable
from events.operation_events import OperationStarted, OperationSucceeded
from events.verdicts import GiveUp
from recovery import BreakerPolicy, Recovery, Strategy
from recovery.subscribers.exhausted import mark_exhausted
from recovery.testing.clock import VirtualClock
from recovery.testing.script import Script, seeded_rng
from tests.slow import few

MEASURES_SLOW = BreakerPolicy(slow_call_rate=0.5, slow_call_seconds=1.0, window_seconds=100.0, minimum_calls=2)
KINDS = (OperationFailed, FailureClassified, RetryScheduled, OperationRecovered)
Mode: TypeAlias = Literal["plain", "asyncio", "trio"]
MODES: tuple[Mode, ...] = ("plain", "asyncio", "trio")


class OfAProgramError(Exception):
    pass


class WithStatusError(Exception):
    status_code = 503


class OfALibraryError(ConnectionError):
    pass


def _noted(error: Exception) -> Exception:
    error.add_note("a note of its own")
    return error


def _marked(error: Exception) -> Exception:
    mark_exhausted(error, "another operation")
    return error


def _caused(error: Exception) -> Exception:
    error.__cause__ = ConnectionRefusedError("the cause")
    return error


def _numbered(error: OSError) -> OSError:
    error.errno = 28
    return error


ERRORS: dict[str, Callable[[], Exception]] = {
    "reset": lambda: ConnectionError("reset"),
    "no text": lambda: TimeoutError(),
    "refused": lambda: ConnectionRefusedError("refused"),
    "of a library": lambda: OfALibraryError("reset"),
    "two arguments": lambda: OSError(28, "No space left on device"),
    "a number set later": lambda: _numbered(ConnectionError("reset")),
    "no str": lambda: ConnectionError(7),
    "unknown": lambda: OfAProgramError("lost"),
    "a text that means more": lambda: RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    "a text that means nothing": lambda: RuntimeError("it did not work"),
    "permanent": lambda: ValueError("no number"),
    "declared permanent": lambda: Permanent("no"),
    "asks to wait": lambda: Retryable("later", after=3.0),
    "a status": lambda: WithStatusError("unavailable"),
    "a key": lambda: KeyError("name"),
    "exhausted": lambda: _marked(ConnectionError("reset")),
    "noted": lambda: _noted(ConnectionError("reset")),
    "caused": lambda: _caused(OfAProgramError("lost")),
    "long": lambda: ConnectionError("reset " * 100),
    "unprintable": lambda: ConnectionError("re\x1b[31mset\n"),
    "a secret": lambda: ConnectionError("GET https://user:hunter2@host/?token=abcdefghijklmnop failed"),
}


class Scene(msgspec.Struct, frozen=True):
    """What happens: the errors of each call (it returns after them), and the settings."""

    calls: list[list[str]]
    settings: dict[str, Any]
    service: dict[str, Any]
    is_logged: bool
    seed: int
    force: dict[str, Any] = {}  # the circuit, before the calls


SETTINGS = st.fixed_dictionaries(
    {
        "max_retries": st.sampled_from([3, 0, 1, 2, None]),
        "initial_delay": st.sampled_from([0.0, 0.0, 0.1, 20.0]),
    },
    optional={
        "jitter": st.sampled_from(["none", "full", "equal", "decorrelated"]),
        "breaker": st.sampled_from(
            [
                None,
                BreakerPolicy(failure_threshold=1),
                BreakerPolicy(failure_threshold=2, counts="attempts"),
                BreakerPolicy(failure_threshold=2, forget_after=1.0, break_jitter=0.5),
                MEASURES_SLOW,
                BreakerPolicy(failure_rate=0.5, window_seconds=2.0, minimum_calls=2),
            ]
        ),
        "durability": st.sampled_from(["lazy", "off"]),
        "idempotent": st.just(False),
        "retry_on": st.just(ConnectionError),
        "enable_classification": st.just(False),
        "max_elapsed": st.just(30.0),
        "per_category": st.just({"unreachable": Strategy(max_retries=1, backoff=[2.0])}),
    },
)
JUMPS = {
    "asleep": (60.0, 0.0),
    "asleep, then at work": (60.0, 120.0),
    "asleep for a moment": (5.0, 0.0),
    "at work": (0.0, 60.0),
    "at work for an hour": (0.0, 3600.0),
}
"""Of an attempt that fails: the seconds for which the machine sleeps, and for which the program works then."""

# A few errors in each scene, which repeat themselves: the second of a class is what the compiled path decides.
FEW_ERRORS = st.lists(st.sampled_from([*ERRORS, "outage", "slow", *JUMPS]), min_size=1, max_size=2).flatmap(
    lambda few: st.lists(st.lists(st.sampled_from(["reset", *few]), max_size=4), min_size=2, max_size=4)
)
SCENES = st.builds(
    Scene,
    calls=FEW_ERRORS,
    settings=SETTINGS,
    service=st.fixed_dictionaries({}, optional={"enable_logging": st.booleans()}),
    is_logged=st.booleans(),
    seed=st.integers(0, 3),
    force=st.sampled_from([{}, {}, {}, {"mode": "metrics_only", "seconds": 2.0}, {"mode": "closed", "seconds": 1.0}]),
)


def subscribe_nothing(service: Recovery) -> None:
    pass


def subscribe_to_retries(service: Recovery) -> None:
    for kind in KINDS:
        service.bus.subscribe(kind, lambda event: None)


def subscribe_to_every_event(service: Recovery) -> None:
    service.bus.subscribe((Event, OperationStarted, OperationSucceeded), lambda event: None)


def connect_to_the_signal(service: Recovery) -> None:
    def receive(sender: object, *, event: Event) -> None:
        pass

    service.bus.signal(OperationFailed).connect(receive, weak=False)


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


def warm_up(service: Recovery) -> None:
    """From now on the journal takes records."""
    service.recoverable("warm-up", max_retries=1, initial_delay=0.0)(Script(ConnectionError("reset")))()
    assert service.journal is not None
    service.journal.receipt().wait(30.0)


def act(scene: Scene, subscribe: Callable[[Recovery], None], mode: Mode) -> dict[str, Any]:
    """What can be seen of *scene*."""
    clock, store, lines, logger = VirtualClock(), MemoryStore(), Lines(), logging.getLogger("recovery")
    attempts: list[tuple[int, float]] = []
    ends: list[object] = []
    before = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO if scene.is_logged else logging.WARNING)
    try:
        with Recovery(store=store, clock=clock, rng=seeded_rng(scene.seed), run="run", **scene.service) as service:
            subscribe(service)
            warm_up(service)
            assert service.journal is not None
            _play(scene, service, mode, clock, attempts, ends)
            service.journal.receipt().wait(30.0)
            circuits, counts = service.circuits.states(), service.journal.counts
            successes = service.operation("law").successes
    finally:
        logger.removeHandler(lines)
        logger.setLevel(before)
    calls: dict[str, int] = {}
    rows = [_shown(msgspec.json.decode(row.body), calls) for row in store.rows]
    return {
        "attempts": attempts,
        "ends": ends,
        "circuits": circuits,
        "counts": counts,
        "successes": successes,
        "lines": [re.sub(r"run-\d+", "", line) for line in lines.lines if "subscriber" not in line],
        "rows": rows,
    }


def _shown(row: dict[str, Any], calls: dict[str, int]) -> dict[str, Any]:
    """*row* without what may differ: when it was, and the id of its call."""
    row.pop("at")
    if "call" in row:
        row["call"] = calls.setdefault(row["call"], len(calls))
    return row


def _play(
    scene: Scene,
    service: Recovery,
    mode: Mode,
    clock: VirtualClock,
    attempts: list[tuple[int, float]],
    ends: list[object],
) -> None:
    left: list[str] = []
    if scene.force:
        service.circuits.force("law", **scene.force)

    def body(number: int) -> str:
        attempts.append((number, round(clock(), 6)))
        clock.advance(0.5)
        kind = ""
        if left and (kind := left.pop(0)) == "slow":
            clock.advance(1.0)
            kind = "reset"
        elif kind == "outage":
            for _ in range(2):  # other calls, meanwhile
                attempt = service.operation("law").start()
                for _ in range(5):  # without a limit on retries it would not end
                    if isinstance(attempt.fail(ConnectionError("outage")), GiveUp):
                        break
                    attempt = attempt.next()
                else:
                    attempt.cancel()
            raise ConnectionError("reset")
        if kind in JUMPS:
            slept, worked = JUMPS[kind]
            clock.suspend(slept)
            if worked:
                service.operation("another").start().fail(ConnectionError("it sees that the machine has slept"))
            clock.advance(worked)
            raise ConnectionError("reset")
        if kind:
            raise ERRORS[kind]()
        return f"result {number}"

    async def async_body(number: int) -> str:
        return body(number)

    function: Any = service.recoverable("law", **scene.settings)(body if mode == "plain" else async_body)
    for number, errors in enumerate(scene.calls):
        left[:] = errors
        try:
            ends.append(function(number) if mode == "plain" else clock.run(function, number, backend=mode))
        except Exception as error:
            notes = [re.sub(r"run-\d+", "", note) for note in getattr(error, "__notes__", ())]
            ends.append((type(error), str(error), notes))
        clock.advance(1.0)


def scene(*calls: list[str], **settings: Any) -> Scene:
    return Scene(list(calls), {"max_retries": 3, "initial_delay": 0.0, **settings}, {}, is_logged=False, seed=0)


@pytest.mark.parametrize("mode", few(MODES, "plain", "asyncio"))
@example(scene=scene(["reset"], ["exhausted"]))
@example(scene=scene(["unknown"], ["caused"]))
@example(scene=scene(["reset"], ["reset", "reset", "reset", "reset"]))
@example(scene=scene(["reset"], ["outage"], breaker=BreakerPolicy(failure_threshold=2)))
@example(scene=scene(["reset"], ["a number set later"]))
@example(scene=scene(["a text that means nothing"], ["a text that means more"]))
@example(scene=scene(["reset"], ["reset", "reset"], initial_delay=0.1, jitter="decorrelated"))
@example(scene=scene(["reset"], ["reset", "reset"], breaker=BreakerPolicy(failure_threshold=2, counts="attempts")))
@example(scene=scene(["reset"], ["outage", "reset"], ["reset"], breaker=BreakerPolicy(failure_threshold=3)))
@example(scene=scene(["reset"], ["slow"], ["slow", "slow"], [], breaker=MEASURES_SLOW))
@example(scene=scene(["refused"], ["reset"], idempotent=False))
@example(scene=scene(["reset"], ["reset"], initial_delay=20.0))
@example(
    scene=scene(["reset"], ["asleep", "reset"], ["reset"], ["reset", "at work", "reset"], ["reset"], initial_delay=0.1)
)
@example(scene=scene(["reset"], ["reset", "asleep", "reset"], ["reset", "at work"], initial_delay=0.1, max_retries=2))
@example(scene=scene(["reset"], ["asleep, then at work"], ["reset", "asleep, then at work"], initial_delay=0.1))
@example(scene=scene(["reset"], ["asleep", "reset"], ["reset"], initial_delay=0.0))
@example(
    scene=scene(
        ["asleep"],
        ["reset", "at work for an hour"],
        ["reset", "at work"],
        ["reset", "at work for an hour"],
        ["reset"],
        initial_delay=0.1,
    )
)
@given(scene=SCENES)
def test_both_failure_paths_do_the_same(mode: Mode, scene: Scene) -> None:
    general = act(scene, connect_to_the_signal, mode)
    assert act(scene, subscribe_nothing, mode) == general
    assert act(scene, subscribe_to_retries, mode) == general
    if any("asleep, then at work" in call for call in scene.calls):
        return  # where the bus hears of the start, it is known that the first attempt began before
    # The bus then hears of the start, so that the time of the first attempt counts.
    assert without_times(act(scene, subscribe_to_every_event, mode)) == without_times(general)


def without_times(seen: dict[str, Any]) -> dict[str, Any]:
    """*seen* without the seconds since a call began."""
    rows = [{name: value for name, value in row.items() if name != "elapsed"} for row in seen["rows"]]
    return seen | {
        "rows": rows,
        "lines": [re.sub(r"(recovered with attempt \d+) .*", r"\1", line) for line in seen["lines"]],
    }


def rows_of_two_under_way(subscribe: Callable[[Recovery], None], mode: str) -> list[dict[str, Any]]:
    """What is journalled of two calls that fail, one after the other, once other calls have opened their circuit."""
    clock, store = VirtualClock(), MemoryStore()
    with Recovery(store=store, clock=clock, rng=seeded_rng(0), run="run") as service:
        subscribe(service)
        warm_up(service)
        began: list[int] = []

        async def body(number: int) -> int:
            began.append(number)
            if len(began) <= 2:
                await gate.wait()
                raise ConnectionError("reset")
            return number

        breaker = BreakerPolicy(failure_threshold=1)
        call = service.recoverable("law", max_retries=1, initial_delay=0.0, breaker=breaker)(body)

        async def main() -> None:
            nonlocal gate
            gate = anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(call, 1)
                group.start_soon(call, 2)
                while len(began) < 2:
                    await anyio.sleep(0)
                attempt = service.operation("law").start()
                attempt.fail(ConnectionError("outage"))
                attempt.next().fail(ConnectionError("outage"))
                gate.set()

        gate: Any = None
        clock.run(main, backend=mode)
        assert service.journal is not None
        service.journal.receipt().wait(30.0)
    calls: dict[str, int] = {}
    return [_shown(msgspec.json.decode(row.body), calls) for row in store.rows]


@pytest.mark.parametrize("mode", ["asyncio", "trio"])
def test_a_call_that_fails_while_its_circuit_is_open_takes_the_general_path(mode: str) -> None:
    general = rows_of_two_under_way(connect_to_the_signal, mode)
    assert rows_of_two_under_way(subscribe_nothing, mode) == general
    assert sum(row["event"] == "Parked" for row in general) == 2
