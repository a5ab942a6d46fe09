"""Laws of replaying a journal: of any events, and of the events that real attempts write."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.attempt import Attempt, next_attempt, request_start
from events.bus import Bus
from events.call import Call
from events.event import CallEvent, Event
from events.evidence import Category, Evidence
from events.operation import Operation
from events.operation_events import (
    CallSteered,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationFailed,
    OperationInterrupted,
    OperationQuarantined,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Parked,
    ProgressMade,
    RetryScheduled,
)
from events.runner_api import park
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.joining.continuation import MAX_DEATHS, why_quarantined
from recovery.journal.history import TERMINAL, CallRecord, Run, after_death, replay
from recovery.journal.remaining import remaining
from recovery.policies.retry import ASK, RetryPolicy
from recovery.settings import OperationConfig
from recovery.testing import VirtualClock
from recovery.testing.strategies import CALLS, categories, seconds

Written = tuple[str, Event]
"""An event, and the run that wrote it."""

RUNS = ("first", "second")
ERROR = OSError("reset")
EVIDENCE = Evidence(type="builtins.OSError", message="reset")
CALL = st.sampled_from(CALLS)
SMALL = st.integers(1, 5)
PARKED = st.sampled_from([None, Category.TRANSIENT])


def about(kind: type[CallEvent], call: str, attempt: int, at: float, **fields: Any) -> CallEvent:
    return kind(at=at, operation="operation", call=call, attempt=attempt, **fields)


def events() -> st.SearchStrategy[Event]:
    """Events about few calls in any order: a journal may have lost some."""

    def of(kinds: Any, **fields: Any) -> st.SearchStrategy[Event]:
        return st.builds(about, kinds, CALL, SMALL, seconds(), **fields)

    return st.one_of(
        of(st.just(FailureClassified), category=categories(), evidence=st.just(EVIDENCE), retries=st.integers(0, 5)),
        of(st.just(RetryScheduled), after=seconds(), retry=SMALL),
        of(st.just(Parked), after=seconds(), category=PARKED),
        of(st.just(OperationStarted), arguments=st.just(msgspec.Raw(b"[[],{}]"))),
        of(st.just(CheckpointSaved), data=st.just(msgspec.Raw(b"1"))),
        of(st.just(ProgressMade), done=seconds()),
        of(st.just(OperationResumed), after=seconds()),
        of(st.sampled_from(TERMINAL)),
    )


def journals() -> st.SearchStrategy[list[Written]]:
    return st.lists(st.tuples(st.sampled_from(RUNS), events()), max_size=8)


def replayed(journal: list[Written], records: dict[str, CallRecord] | None = None) -> dict[str, CallRecord]:
    records = {} if records is None else records
    for run, event in journal:
        replay(records, run, [event])
    return records


def records_after_each(journal: list[Written], call: str = "a") -> Iterator[CallRecord]:
    """The record of *call* after each event, from the first about it."""
    records: dict[str, CallRecord] = {}
    for run, event in journal:
        if call in replay(records, run, [event]):
            yield records[call]


class Live:
    """A call with real attempts, and the events they wrote; *moves* tells how each attempt goes."""

    def __init__(self, moves: list[Verdict | str]) -> None:
        self.written: list[Written] = []
        self.run = 0
        self.attempt = Attempt(Call(self.operation(), "a", began=0.0, arguments=b"[[],{}]"))
        self.is_over = False
        self.agreements: list[tuple[object, object]] = []
        request_start(self.attempt)
        for move in moves:
            if not self.is_over:
                self.make(move)
            if not self.is_over:
                record, attempt = self.record, self.attempt
                self.agreements.append(((record.attempt, record.retries), (attempt.number, attempt.call.retries)))

    def operation(self) -> Operation:
        """The operation, in a new process."""
        run, clock = RUNS[self.run % 2], VirtualClock(1000.0 * self.run)
        self.run += 1
        bus = Bus(clock=clock, run=run)
        bus.subscribe((Event, OperationStarted, OperationSucceeded), lambda event: self.written.append((run, event)))
        bus.subscribe(OperationFailed, self.classify)
        return Operation("operation", bus)

    def classify(self, failed: OperationFailed) -> list[Event | Verdict]:
        fields = {name: getattr(failed, name) for name in ("at", "operation", "call", "attempt", "retries", "elapsed")}
        return [FailureClassified(category=Category.TRANSIENT, evidence=EVIDENCE, **fields), self.verdict]

    def make(self, move: Verdict | str) -> None:
        match move:
            case Retry() | Park() | GiveUp():
                self.verdict = move
                self.attempt.fail(ERROR)
                if not isinstance(move, GiveUp):
                    self.attempt = next_attempt(self.attempt)
            case "begin":
                request_start(self.attempt)
            case "hold":
                park(self.attempt, Park(5.0, until=("circuit open",)))
            case "checkpoint":
                self.attempt.checkpoint(b"%d" % len(self.written))
            case "close":
                self.attempt.call.publish(OperationInterrupted, self.attempt.number)
            case "crash":
                record = after_death(self.record)
                call = Call(self.operation(), "a", retries=record.retries, arguments=record.arguments, has_failed=True)
                self.attempt = Attempt(call, record.attempt)
                self.attempt.call.publish(OperationResumed, self.attempt.number, after=3.0)
            case "succeed":
                self.attempt.succeed()
            case "cancel":
                self.attempt.cancel()
        self.is_over = isinstance(move, GiveUp) or move in ("succeed", "cancel")

    @property
    def record(self) -> CallRecord:
        return replayed(self.written)["a"]


def moves() -> st.SearchStrategy[list[Verdict | str]]:
    parks = [Park(7.0, until=("rate limit",)), ASK]
    common = st.sampled_from([Retry(5.0), *parks, "begin", "hold", "checkpoint", "close", "crash"])
    return st.builds(
        lambda some, last: [*some, last],
        st.lists(common, max_size=8),
        st.sampled_from([GiveUp("no"), "succeed", "cancel", "hold"]),
    )


@given(journals(), st.integers(0, 8))
def test_a_journal_may_be_replayed_in_parts(journal: list[Written], cut: int):
    assert replayed(journal[cut:], replayed(journal[:cut])) == replayed(journal)


@given(journals())
def test_the_record_of_a_call_depends_on_its_own_events_only(journal: list[Written]):
    apart = [replayed([(run, event) for run, event in journal if event.call == call]) for call in CALLS]  # type: ignore[attr-defined]
    assert {call: record for records in apart for call, record in records.items()} == replayed(journal)


@given(journals())
def test_a_call_has_one_outcome(journal: list[Written]):
    assert all(later == earlier for earlier, later in pairwise(records_after_each(journal)) if earlier.is_over)


@given(journals(), st.sampled_from(TERMINAL))
def test_a_terminal_event_ends_a_call_after_any_history(journal: list[Written], kind: type[CallEvent]):
    assert replayed([*journal, ("first", about(kind, "a", 1, 0.0))])["a"].is_over


@given(moves())
@example([Retry(5.0), "begin", Park(7.0), "begin", "crash", "begin", Retry(5.0), "succeed"])
def test_the_attempt_number_of_an_unfinished_call_never_decreases(moves: list[Verdict | str]):
    numbers = [record.attempt for record in records_after_each(Live(moves).written) if not record.is_over]
    assert numbers == sorted(numbers)


@given(moves())
@example([Retry(5.0), "begin", Park(7.0), "begin", "crash", "begin", Retry(5.0), "succeed"])
def test_retries_decrease_only_by_a_retry_that_is_not_made(moves: list[Verdict | str]):
    written = Live(moves).written
    retries = [record.retries for record in records_after_each(written)]
    for (before, after), (_, event) in zip(pairwise(retries), written[1:], strict=False):
        is_not_made = isinstance(event, Parked | GaveUp) and event.error is not None
        assert after >= before or (after == before - 1 and is_not_made)


@given(moves())
def test_the_journal_agrees_with_the_call_about_what_comes_next(moves: list[Verdict | str]):
    assert all(written == live for written, live in Live(moves).agreements)


@given(moves())
def test_exactly_the_calls_that_ended_are_over(moves: list[Verdict | str]):
    live = Live(moves)
    assert live.record.is_over is live.is_over


@given(moves())
def test_an_unfinished_call_is_resumable_after_any_of_its_events(moves: list[Verdict | str]):
    assert all(record.is_resumable or record.is_over for record in records_after_each(Live(moves).written))


# Deaths of the process

LIMITS = st.sampled_from([0, 1, 2, 3, None])
ENDS = st.sampled_from(
    ["fail", "kill", "as far and kill", "kill before the decision", "further and kill", "further and fail", "close"]
)
BETWEEN = st.sampled_from(["", "kill"])


class Lives:
    """A call in one process after another. Each attempt has one of *ends*, and *between* is what happens before it.

    What a body does is written, since its start is; what follows a kill is not.
    """

    def __init__(self, limit: int | None, ends: list[str], between: list[str]) -> None:
        self.config = OperationConfig(policy=RetryPolicy(max_retries=limit), breaker=None)
        self.limit = limit
        self.records = replayed([("first", about(OperationStarted, "a", 1, 0.0, arguments=msgspec.Raw(b"[[],{}]")))])
        self.retries = self.made = self.free = 0
        self.deaths_in_a_row = self.longest_row = 0
        for end, before in zip(ends, between, strict=True):
            if self.is_over:
                break
            self.live(end, before)

    @property
    def record(self) -> CallRecord:
        return self.records["a"]

    @property
    def is_over(self) -> bool:
        return self.record.state in ("gave up", "quarantined")

    def write(self, kind: type[CallEvent], attempt: int, **fields: Any) -> None:
        replay(self.records, "first", [about(kind, "a", attempt, 0.0, **fields)])

    def live(self, end: str, before: str) -> None:
        """Make the attempt that the record tells of, and what comes after it in that process or the next one."""
        number = self.record.attempt
        self.write(OperationStarted, number)
        self.made += 1
        if end.startswith("further") and self.made % 2:
            self.write(CheckpointSaved, number, data=msgspec.Raw(b"%d" % self.made))
        elif end.startswith("further"):
            self.write(ProgressMade, number, done=float(self.made))
        if end.endswith("fail") or end == "kill before the decision":
            self.deaths_in_a_row = 0
            self.fail(number, is_decided=end.endswith("fail"))
        elif end == "close":
            self.write(OperationInterrupted, number)
        elif end == "as far and kill":
            self.write(ProgressMade, number, done=self.record.done)
        if end in ("close", "further and kill"):
            self.free += 1
        if end.startswith("further"):
            self.deaths_in_a_row = 0
        if end in ("kill", "as far and kill"):
            self.deaths_in_a_row += 1
            self.longest_row = max(self.longest_row, self.deaths_in_a_row)
        if not self.record.is_over and not end.endswith("fail"):
            self.resume()
        for _ in range(2 if before == "kill" else 0):  # it dies between two attempts
            if not self.is_over:
                self.resume()

    def fail(self, number: int, *, is_decided: bool) -> None:
        fields = {"category": Category.TRANSIENT, "evidence": EVIDENCE, "retries": self.retries}
        self.write(FailureClassified, number, **fields)
        if self.limit is not None and self.retries >= self.limit:
            self.write(GaveUp, number, category=Category.TRANSIENT)  # also where the next process says it
        elif is_decided:
            self.retries += 1
            self.write(RetryScheduled, number, after=1.0, retry=self.retries)

    def resume(self) -> None:
        """The next process finds the call."""
        reason = why_quarantined(self.record, self.config)
        if reason is not None:
            self.write(OperationQuarantined, self.record.attempt, reason=reason)
            return
        resumed = after_death(self.record)
        self.retries = resumed.retries
        self.write(OperationResumed, resumed.attempt)
        assert self.record.retries == resumed.retries


def lives() -> st.SearchStrategy[Lives]:
    many = st.integers(1, 14).flatmap(
        lambda size: st.tuples(*(st.lists(one, min_size=size, max_size=size) for one in (ENDS, BETWEEN)))
    )
    return st.builds(lambda limit, lists: Lives(limit, *lists), LIMITS, many)


@given(lives())
@example(Lives(3, ["kill"] * 5, [""] * 5))
@example(Lives(0, ["close", "further and kill", "kill", "kill"], ["kill"] * 4))
def test_d19_attempts_stay_within_the_retries_wherever_a_process_dies(lives: Lives):
    """An attempt is free if it came further and died, or if its service was closed."""
    if lives.limit is None:
        assert lives.longest_row <= MAX_DEATHS + 1
    else:
        assert lives.made - lives.free <= lives.limit + 1


@given(lives())
def test_d19_a_call_is_given_up_for_a_failure_and_quarantined_for_a_death(lives: Lives):
    record = lives.record
    if record.state == "gave up":
        assert record.failures
    if record.state == "quarantined" and lives.limit is not None:
        assert lives.made - lives.free == lives.limit + 1
    if record.state == "quarantined" and lives.limit is None:
        assert lives.deaths_in_a_row == MAX_DEATHS + 1


@given(lives())
def test_a_call_freed_from_its_quarantine_has_all_its_retries(lives: Lives):
    if lives.record.state == "quarantined":
        steered = replay({"a": lives.record}, "by hand", [about(CallSteered, "a", 1, 0.0, command="retry now")])["a"]
        resumed = replay({"a": lives.record}, "first", [about(OperationResumed, "a", lives.record.attempt + 1, 0.0)])
        for freed in (steered, resumed["a"]):
            assert (freed.state, freed.attempt, freed.retries) == ("waiting", lives.record.attempt + 1, 0)
            assert why_quarantined(freed, lives.config) is None


# The rest of a wait

WALLS = st.floats(0.0, 1e10)
CLOCKS = st.floats(0.0, 1e6)
BOOTS = st.sampled_from(["", "monday", "tuesday"])


def runs(name: str) -> st.SearchStrategy[Run]:
    return st.builds(Run, id=st.just(name), boot=BOOTS, monotonic=CLOCKS, wall=WALLS, pid=st.just(1))


def waiting(at: float, delay: float) -> CallRecord:
    return CallRecord(call="a", operation="operation", run="first", state="waiting", due=at + delay, delay=delay)


@given(journals(), runs("first"), runs("second"), runs("now"))
def test_the_rest_of_a_wait_is_between_nothing_and_all_of_it(journal: list[Written], first: Run, second: Run, now: Run):
    for record in replayed(journal).values():
        assert 0.0 <= remaining(record, {"first": first, "second": second}, now) <= record.delay


@given(CLOCKS, seconds(), runs("first"), runs("now"), WALLS)
def test_within_a_boot_the_wall_clock_does_not_matter(at: float, delay: float, then: Run, now: Run, wall: float):
    then, now = (msgspec.structs.replace(run, boot="monday") for run in (then, now))
    jumped = msgspec.structs.replace(now, wall=wall)
    record = waiting(at, delay)
    assert remaining(record, {"first": then}, jumped) == remaining(record, {"first": then}, now)


@given(CLOCKS, seconds(), runs("first"), runs("now"), CLOCKS)
def test_across_boots_the_monotonic_clock_does_not_matter(
    at: float, delay: float, then: Run, now: Run, monotonic: float
):
    then = msgspec.structs.replace(then, boot="sunday")
    other = msgspec.structs.replace(now, monotonic=monotonic)
    record = waiting(at, delay)
    assert remaining(record, {"first": then}, other) == remaining(record, {"first": then}, now)


def later(run: Run, passed: float, boot: str) -> Run:
    """A run that began *passed* seconds after *run*, with honest clocks."""
    monotonic = run.monotonic + passed if boot == run.boot else 5.0
    return Run(id=f"{run.id}, later", boot=boot, monotonic=monotonic, wall=run.wall + passed, pid=2)


FIRST = Run(id="first", boot="monday", monotonic=1000.0, wall=1e6, pid=1)


@pytest.mark.parametrize("boot", ["monday", "tuesday"])
@given(seconds(), seconds(), seconds(200.0))
def test_with_honest_clocks_the_rest_of_a_wait_is_what_has_not_passed(
    boot: str, after: float, delay: float, passed: float
):
    record = waiting(FIRST.monotonic + after, delay)
    left = remaining(record, {"first": FIRST}, later(FIRST, after + passed, boot))
    assert left == pytest.approx(max(delay - passed, 0.0), abs=1e-6)


@pytest.mark.parametrize("boot", ["monday", "tuesday"])
@given(seconds(), seconds(), seconds())
def test_a_wait_goes_on_through_a_second_restart(boot: str, delay: float, before: float, passed: float):
    records = replayed([("first", about(RetryScheduled, "a", 1, FIRST.monotonic, after=delay, retry=1))])
    second = later(FIRST, before, boot)
    left = remaining(records["a"], {"first": FIRST}, second)
    replay(records, second.id, [about(OperationResumed, "a", 2, second.monotonic, after=left)])
    now = later(second, passed, second.boot)
    assert remaining(records["a"], {"first": FIRST, second.id: second}, now) == pytest.approx(
        max(delay - before - passed, 0.0), abs=1e-6
    )
