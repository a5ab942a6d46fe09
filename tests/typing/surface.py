"""What users write, as type checkers see it: ``make types`` checks it with mypy and basedpyright, both strict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

from adapters.downloads import Downloaded
from adapters.launcher import Launcher
from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events import (
    Category,
    CircuitClosed,
    CircuitOpened,
    Condition,
    Event,
    Evidence,
    FailureClassified,
    GaveUp,
    GiveUp,
    Operation,
    OperationFailed,
    Park,
    Retry,
    RetryScheduled,
    Subscription,
    Verdict,
)
from recovery import (
    BreakerPolicy,
    CallOutcome,
    CallRecord,
    Exponential,
    OpenQuestion,
    Recovery,
    Resumption,
    RetryBudget,
    RetryPolicy,
    Secret,
    Settings,
    Strategy,
    WaitingCall,
    classify,
    context,
    default,
    extract_evidence,
    host_of,
    outcome_of,
    presets,
    recoverable,
    recovery_of,
)
from recovery.monitoring import Monitor, OperationSnapshot, Snapshot, Threshold, Thresholds, WindowCounts
from recovery.testing import Script, VirtualClock, seeded_rng
from recovery.testing.strategies import policies

# Decorated functions keep their signature


@recoverable
def bare(a: int, *, b: str = "") -> bytes:
    return b.encode() * a


@recoverable(max_retries=3, initial_delay=0.1, backoff_factor=2.0, enable_logging=False)
async def called(url: str) -> list[str]:
    return [url]


service = Recovery(store=MemoryStore(), policy=RetryPolicy(backoff=Exponential(0.1, 2.0), max_elapsed=60.0))


@service.recoverable("named", breaker=BreakerPolicy(failure_threshold=3), when_open="wait", key=host_of)
async def named(url: str) -> int:
    return len(url)


class Downloads:
    @service.recoverable("method", resumable=True, budget=RetryBudget(reserve=5.0))
    def fetch(self, url: str, offset: int = 0) -> bytes:
        context.checkpoint({"offset": offset})
        return url.encode()

    @staticmethod
    @service.recoverable
    async def size(url: str) -> int:
        return len(url)


async def call_decorated_functions(downloads: Downloads) -> None:
    assert_type(bare(1, b="x"), bytes)
    assert_type(await called("u"), list[str])
    assert_type(await named("u"), int)
    assert_type(downloads.fetch("u", offset=1), bytes)
    assert_type(await Downloads.size("u"), int)
    bare("wrong")  # type: ignore[arg-type]  # the signature is kept
    downloads.fetch(1)  # type: ignore[arg-type]  # that of methods, too
    recoverable(max_retry=3)(bare)  # type: ignore[call-overload]  # settings are checked by name


# Settings are a TypedDict

PATIENT: Settings = {
    "max_retries": None,
    "max_elapsed": 600.0,
    "per_category": {Category.AUTH: Strategy(max_retries=1)},
    "durability": "strict",
}
WRONG: Settings = {"max_retries": "3"}  # type: ignore[typeddict-item]  # settings are checked by type


def use_settings() -> None:
    assert_type(service.operation("patient", **PATIENT), Operation)
    assert_type(service.recoverable("patient", **PATIENT)(len)("text"), int)
    service.configure(policy=RetryPolicy(max_retries=5), breaker=BreakerPolicy())


# Events, subscribers and verdicts


def classifier(evidence: Evidence) -> Category | None:
    return Category.TRANSIENT if evidence.errno == 5 else None


def subscriber(failure: FailureClassified) -> Verdict | None:
    assert_type(failure.category, Category)
    assert_type(failure.evidence.status, int | None)
    return GiveUp("enough") if failure.attempt > 2 else None


def on_circuit(event: Event) -> None:
    assert_type(event.operation, str)


def on_pair(event: RetryScheduled | GaveUp) -> None:
    assert_type(event, RetryScheduled | GaveUp)


async def on_gave_up(event: GaveUp) -> None: ...


def on_three(event: RetryScheduled | GaveUp | CircuitOpened) -> None: ...


def subscribe() -> None:
    assert_type(default, Recovery)
    default.bus.subscribe(GaveUp, on_gave_up)
    service.bus.subscribe((RetryScheduled, GaveUp), on_pair, operation="named", essential=True)
    service.bus.subscribe((RetryScheduled, GaveUp, CircuitOpened), on_three)
    service.bus.subscribe([RetryScheduled, GaveUp], on_pair)
    service.bus.subscribe(GaveUp, on_gave_up, queue=100)
    service.bus.subscribe((RetryScheduled, GaveUp), lambda event: event.attempt)
    service.bus.subscribe([RetryScheduled, GaveUp], lambda event: event.attempt)
    service.bus.subscribe((RetryScheduled, GaveUp, CircuitOpened), lambda event: event.at, opration="a")  # type: ignore[call-overload]  # misspelled
    service.bus.subscribe([RetryScheduled, str], on_pair)  # type: ignore[list-item]  # no event
    assert_type(service.operation("by hand", classifier=classifier), Operation)
    assert_type(service.bus.subscribe(FailureClassified, subscriber), Subscription)
    service.bus.subscribe(RetryScheduled, lambda event: event.after + event.retry)
    with service.bus.subscribe((CircuitOpened, CircuitClosed), on_circuit, operation="named"):
        assert_type(service.bus.publish(GaveUp(at=0.0, operation="named", call="c")), Verdict | None)
    service.bus.subscribe(GaveUp, subscriber)  # type: ignore[arg-type]  # it takes another event
    OperationFailed(at=0.0, call="c", error="text")  # type: ignore[arg-type]  # an exception is needed


def call_by_hand() -> None:
    attempt = service.operation("by hand").start()
    match attempt.fail(ValueError()):
        case Retry(after) | Park(after):
            assert_type(after, float)
            attempt.next().succeed()
        case GiveUp() as verdict:
            assert_type(verdict.reason, str)


# The faces of a service


def steer(waiting: WaitingCall) -> None:
    assert_type(waiting.left, float)
    assert_type(service.calls.waiting(), list[WaitingCall])
    assert_type(service.calls.find(waiting.call), CallRecord | None)
    assert_type(service.calls.retry_now(waiting.call), bool)
    assert_type(service.calls.give_up(waiting.call, "not needed any more"), bool)
    service.calls.answer("token", "secret", remember=True)
    service.calls.answer("token", Secret("env:TOKEN"))
    service.calls.question("token", "secret", text="a token", link="https://example.org")
    service.calls.question("gpu", kind="choice", choices=("0", "1"))
    assert_type(service.calls.answered("gpu"), bool | str | None)
    service.calls.reopen("token", "the token was refused: 401", refused="secret")
    assert_type(service.calls.questions(), list[OpenQuestion])
    service.resource("vram", total=24e9, unit="B")
    service.recoverable("load", claims={"vram": 1, "disk:models": len}, before=service.calls.question("a"))
    service.recoverable("load", claims=1)  # type: ignore[call-overload]  # no mapping
    service.circuits.force("named", "closed", key="host", seconds=60.0)
    service.circuits.open_for("named", 60.0, key="host")
    assert_type(service.circuits.closed("named"), Condition)
    assert_type(list(service.circuits.states()), list[tuple[str, str]])
    assert_type(classify(ConnectionResetError()).category, Category)
    assert_type(classify(extract_evidence(ConnectionResetError())).retry_after, float | None)
    RetryPolicy(max_retry=3)  # type: ignore[call-arg]  # fields are checked by name
    Recovery(polcy=RetryPolicy())  # type: ignore[call-arg]  # options, too


def watch() -> None:
    assert_type(service.monitor(Thresholds(success=Threshold(raised=0.8, cleared=0.9), memory=None)), Monitor)
    shown = service.monitor().snapshot()
    assert_type(shown, Snapshot)
    assert_type(shown.operations, tuple[OperationSnapshot, ...])
    assert_type(shown.windows["1m"], WindowCounts)
    assert_type(shown.operations[0].windows["all"].success_rate, float | None)


async def resume() -> None:
    space = Strategy(wait_for=(lambda failure: Condition(failure.operation, bool), Condition("room", bool)))
    presets.launcher(disk=Condition("room", bool), key=None, policy=RetryPolicy(per_category={Category.LOST: space}))
    async with presets.production(store=SQLiteStore("calls.db")) as own:
        assert_type(own, Recovery)
        resumption = own.resume()
        assert_type(resumption, Resumption)
        await resumption
        assert_type([call.is_over for call in resumption.calls], list[bool])


# What tests are written with


async def fetch(script: Script) -> Sequence[str]:
    return [str(script())]


def test_helpers() -> None:
    clock = VirtualClock()
    assert_type(clock.run(fetch, Script(OSError())), Sequence[str])
    Recovery(clock=clock, rng=seeded_rng(7))
    policies(max_retries=3)


# Copies, outcomes and blocks


def copies() -> None:
    patient = recovery_of(bare).but(max_retries=9, fallback=b"")
    assert_type(patient(1, b="2"), bytes)
    assert_type(outcome_of(ConnectionError()), CallOutcome | None)


async def a_page(service: Recovery) -> str | None:
    async for attempt in service.attempts("page", max_retries=3):
        with attempt:
            return f"page {attempt.number}"
    return None


def a_file(service: Recovery) -> int:
    number = 0
    for attempt in service.attempts("file"):
        with attempt:
            number = attempt.number
    return number


# A launcher


async def launch(service: Recovery) -> None:
    async with Launcher(service, "models", tokens={"civitai": Secret("env:TOKEN")}, parallel=2) as launcher:
        assert_type(launcher.resume(), Resumption)
        assert_type(await launcher.download(["hf://org/repo/a.gguf"], "a.gguf", size=9), Downloaded)
        await launcher.run(["true"], env={"A": "b", "TOKEN": Secret("env:TOKEN")}, done=Path("made"))


def launch_in_plain_code(service: Recovery) -> None:
    with Launcher.blocking(service, "models") as launcher:
        assert_type(launcher.download("https://example.org/a", to=Path("a")).received, int)
        launcher.run(["true"], done=launcher.register(lambda: True), silence=60.0)
