"""What users write, as mypy sees it: checked by ``make types``, never run."""

from __future__ import annotations

from typing import assert_type

from adapters.memory import MemoryStore
from events import (
    Category,
    Evidence,
    FailureClassified,
    GiveUp,
    Operation,
    Park,
    Retry,
    RetryScheduled,
    Subscription,
    Verdict,
)
from recovery import BreakerPolicy, Exponential, Recovery, RetryPolicy, recoverable
from recovery.testing.strategies import policies


@recoverable
def bare(a: int, *, b: str = "") -> bytes:
    return b.encode() * a


@recoverable(max_retries=3, initial_delay=0.1, backoff_factor=2.0, enable_logging=False)
async def called(url: str) -> list[str]:
    return [url]


service = Recovery(store=MemoryStore(), policy=RetryPolicy(backoff=Exponential(0.1, 2.0), max_elapsed=60.0))


@service.recoverable("named", breaker=BreakerPolicy(failure_threshold=3), when_open="wait", key=lambda url: str(url))
async def named(url: str) -> int:
    return len(url)


def classifier(evidence: Evidence) -> Category | None:
    return Category.TRANSIENT if evidence.errno == 5 else None


def subscriber(failure: FailureClassified) -> Verdict | None:
    return GiveUp("enough") if failure.attempt > 2 else None


async def use() -> None:
    assert_type(bare(1, b="x"), bytes)
    assert_type(await called("u"), list[str])
    assert_type(await named("u"), int)
    assert_type(service.operation("by hand", classifier=classifier), Operation)
    assert_type(service.bus.subscribe(FailureClassified, subscriber), Subscription)
    service.bus.subscribe(RetryScheduled, print)
    match service.operation("by hand").start().fail(ValueError()):
        case Retry(after) | Park(after):
            assert_type(after, float)
        case GiveUp() as verdict:
            assert_type(verdict.reason, str)
    bare("wrong")  # type: ignore[arg-type]  # the signature is kept
    recoverable(max_retry=3)(bare)  # type: ignore[call-overload]  # settings are checked by name
    policies(max_retries=3)
