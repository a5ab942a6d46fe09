"""Laws of the changes of a call's record, over sequences of them: pure, without servers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.nats import transitions as to
from adapters.nats.names import Lane, name_of
from adapters.nats.record import ENDS, CallRecord, Change, Standing, Stored
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified

NOW = 1_000_000.0
NAME = name_of("render", "order-17")
FAILED = ("OSError", "no space")


class Life:
    """One call on servers that are two dictionaries: the messages in queues by lane, and the one that is scheduled."""

    def __init__(self) -> None:
        self.now, self._seq = NOW, count(1)
        self.records: list[CallRecord] = []
        self.queue: dict[Lane, int] = {}
        self.scheduled: tuple[Lane, int] | None = None
        self.saved: bytes | None = None
        self.write(to.submitted(NAME, b"[]", NOW))

    @property
    def record(self) -> CallRecord:
        return self.records[-1]

    def write(self, change: Change | str) -> None:
        if isinstance(change, str):
            return
        record = change.record
        assert not (change.unschedules and change.queue_at is not None), "the servers take only one of them"
        assert not (change.is_queued and change.queue_at is not None)
        self.records.append(msgspec.json.decode(msgspec.json.encode(record), type=CallRecord))
        assert self.record == record, "it does not come back from the servers as it was"
        self.seq = next(self._seq)
        self.saved = self.saved if change.saved is None else change.saved
        if change.unschedules:
            self.scheduled = None
        if change.unqueues is not None:
            self.queue.pop(change.unqueues, None)
        if change.queue_at is not None:
            self.scheduled = (record.lane, record.leg)
        if change.is_queued:
            self.queue[record.lane] = record.leg

    def fire(self) -> None:
        """What is scheduled comes into its queue, in place of what is there."""
        if self.scheduled is not None:
            lane, leg = self.scheduled
            self.queue[lane], self.scheduled = leg, None

    def claim(self, standing: Standing | None = None) -> None:
        """A worker gets the message of the call's lane, or of another lane where it has been."""
        for lane, leg in list(self.queue.items()):
            before = len(self.records)
            if lane == self.record.lane:
                self.write(to.claimed(Stored(self.record, self.seq), "a", leg, self.now, standing))
            if self.record.state != "running" or len(self.records) == before:
                self.let_go(lane, leg)

    def held(self, transition: Callable[[CallRecord], Change | str]) -> None:
        """What its worker does, while it has one; it lets the message go where it ends the lease."""
        if self.record.state == "running":
            lane, leg = self.record.lane, self.record.leg
            self.write(transition(self.record))
            if self.record.state != "running":
                self.let_go(lane, leg)

    def let_go(self, lane: Lane, leg: int) -> None:
        if self.queue.get(lane) == leg and (lane != self.record.lane or self.record.leg != leg):
            del self.queue[lane]

    def check(self) -> None:
        record = self.record
        own = [(lane, leg) for lane, leg in self.queue.items() if leg == record.leg]
        own += [self.scheduled] if self.scheduled is not None and self.scheduled[1] == record.leg else []
        needs_person = record.is_paused or record.asks_person or record.state == "quarantined"
        if record.is_over or (needs_person and record.state != "running"):
            assert own == [], f"{record} has a message"
        else:
            assert own == [(record.lane, record.leg)], f"{record} has the messages {own}"
        assert (record.state == "waiting") >= record.asks_person
        for before, after in zip(self.records, self.records[1:], strict=False):
            assert not before.is_over, "it left its end"
            assert after.leg >= before.leg
            assert after.fence >= before.fence
            if after.state == "running" and (before.state != "running" or after.node != before.node):
                assert after.fence > before.fence
            assert before.state != "quarantined" or after.state != "running", "it left a quarantine by itself"


def _person(transition: Callable[..., Change | str], *args: object) -> Callable[[Life], None]:
    return lambda life: life.write(transition(life.record, *args, life.now))


def _worker(transition: Callable[[CallRecord, float], Change | str]) -> Callable[[Life], None]:
    return lambda life: life.held(lambda record: transition(record, life.now))


def _move(node: str) -> Callable[[Life], None]:
    return lambda life: life.write(to.moved(Stored(life.record, life.seq), node, life.now))


def _pass(seconds: float) -> Callable[[Life], None]:
    def step(life: Life) -> None:
        life.now += seconds

    return step


FAILED_ONCE = Standing(attempt=2, retries=1, has_failed=True)
PERSONS: dict[str, Callable[[Life], None]] = {
    "cancel": _person(to.asked_to_cancel, "wrong file"),
    "cancel without its node": lambda life: life.write(
        to.cancelled_without_node(Stored(life.record, life.seq), "wrong file", life.now)
    ),
    "retry": _person(to.retried_now),
    "give up": _person(to.gave_up_by_hand, "enough"),
    "pause": _person(to.paused),
    "unpause": _person(to.unpaused),
    "move": _move("b"),
    "move back": _move(""),
}
STEPS: dict[str, Callable[[Life], None]] = PERSONS | {
    "claim": Life.claim,
    "claim after a death": lambda life: life.claim(Standing(attempt=2, deaths=1)),
    "fire": Life.fire,
    "wait": _pass(1.0),
    "wait long": _pass(100.0),
    "go on": _worker(lambda record, now: to.goes_on(record, FAILED_ONCE, now)),
    "come further": _worker(lambda record, now: to.came_further(record, b"1", 3.0, now)),
    "postpone": _worker(lambda record, now: to.postponed(record, FAILED_ONCE, 30.0, "a retry", now)),
    "postpone a little": _worker(lambda record, now: to.postponed(record, FAILED_ONCE, 0.0, "a slot", now)),
    "ask": _worker(lambda record, now: to.postponed(record, FAILED_ONCE, math.inf, "asks", now, asks_person=True)),
    "hand back": _worker(to.handed_back),
    "succeed": _worker(lambda record, now: to.succeeded(record, b"1", FAILED_ONCE, now)),
    "fail": _worker(lambda record, now: to.gave_up(record, FAILED_ONCE, "no retries", "permanent", FAILED, now)),
    "obey": _worker(lambda record, now: to.cancelled(record, "wrong file", now)),
    "quarantine": _worker(lambda record, now: to.quarantined(record, FAILED_ONCE, "3 deaths", now)),
}


def _after(*steps: str) -> Life:
    life = Life()
    for step in steps:
        STEPS[step](life)
        life.check()
    return life


def _states() -> dict[str, tuple[str, ...]]:
    """A way to each place where a call can stand."""
    return {
        "queued": (),
        "running": ("claim",),
        "running, cancelled": ("claim", "cancel"),
        "running, paused": ("claim", "pause"),
        "waiting": ("claim", "postpone"),
        "waiting, in its queue": ("claim", "postpone", "wait long", "fire"),
        "asking": ("claim", "ask"),
        "asking, paused": ("claim", "ask", "pause"),
        "queued, paused": ("pause",),
        "waiting, paused": ("claim", "postpone", "pause"),
        "waiting, paused while it ran": ("claim", "pause", "postpone"),
        "quarantined": ("claim", "quarantine"),
        "moved while it ran": ("claim", "cancel", "move"),
    }


ENDINGS = [
    ("claim", "succeed"),
    ("claim", "fail"),
    ("claim", "obey"),
    ("claim", "cancel without its node"),
    ("cancel",),
    ("give up",),
    ("pause", "cancel"),
]


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=25))
@example(["claim", "pause", "claim", "unpause", "claim"])
@example(["claim", "pause", "postpone", "claim"])
@example(["claim", "pause", "hand back", "claim"])
@example(["claim", "cancel", "move", "claim"])
@example(["claim", "postpone", "pause", "wait long", "unpause", "fire", "claim"])
@example(["claim", "postpone", "move", "retry", "fire", "claim"])
@example(["claim", "postpone", "retry", "wait long", "fire", "claim"])
@example(["claim", "postpone", "move", "pause", "move back", "unpause"])
def test_a_live_call_has_one_message_and_one_that_is_over_has_none(steps: list[str]):
    _after(*steps)


@pytest.mark.parametrize("step", sorted(STEPS))
@pytest.mark.parametrize("state", sorted(_states()))
def test_a_call_goes_on_from_wherever_it_stands(state: str, step: str):
    life = _after(*_states()[state], step, "unpause", "retry", "wait long", "fire", "claim")
    assert life.record.is_over or life.record.state == "running", life.record


@pytest.mark.parametrize("step", sorted(PERSONS))
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_end_is_never_left(ending: tuple[str, ...], step: str):
    life = _after(*ending)
    end = life.record
    assert end.state in ENDS
    STEPS[step](life)
    STEPS["claim"](life)
    assert life.record is end


@pytest.mark.parametrize("way", [("claim", "cancel"), ("claim", "cancel", "move")])
def test_a_call_that_is_to_be_cancelled_is_not_begun_again(way: tuple[str, ...]):
    life = _after(*way, "claim")
    assert (life.record.state, life.record.reason) == ("cancelled", "wrong file")


@pytest.mark.parametrize("step", ["postpone", "hand back", "ask"])
def test_a_worker_that_lets_a_call_go_ends_it_if_it_is_to_be_cancelled(step: str):
    assert _after("claim", "cancel", step).record.state == "cancelled"


def test_a_call_paused_while_it_ran_waits_for_a_person_after_its_worker_died():
    life = _after("claim", "pause", "claim after a death")
    assert (life.record.state, life.record.standing.deaths) == ("queued", 1)
    assert _after("claim", "pause", "claim after a death", "unpause", "claim").record.state == "running"


def test_a_call_that_comes_far_too_early_is_scheduled_again():
    life = _after("claim", "postpone", "fire", "claim")
    assert life.record.state == "waiting"
    assert life.scheduled == (life.record.lane, life.record.leg)


def test_a_call_is_scheduled_a_little_before_its_time():
    change = to.postponed(_after("claim").record, FAILED_ONCE, 30.0, "a retry", NOW)
    assert isinstance(change, Change)
    assert (change.record.due, change.queue_at) == (NOW + 30.0, NOW + 30.0 - to.EARLY)


@pytest.mark.parametrize(("after", "waits"), [(math.inf, to.LONGEST), (-math.inf, 0.0), (math.nan, 0.0), (-1.0, 0.0)])
def test_a_wait_has_an_end(after: float, waits: float):
    change = to.postponed(_after("claim").record, FAILED_ONCE, after, "a retry", NOW)
    assert isinstance(change, Change)
    assert change.record.due == NOW + waits


@given(st.floats(), st.floats(), st.floats())
@example(0.0, 0.0, math.inf)
def test_a_record_with_any_numbers_comes_back(elapsed: float, delay: float, done: float):
    standing = Standing(elapsed=elapsed, delay=delay, done=done)
    life = _after("claim")
    life.held(lambda record: to.goes_on(record, standing, NOW))
    life.held(lambda record: to.came_further(record, None, done, NOW))
    assert math.isfinite(life.record.standing.done)


@given(st.text(st.characters(), max_size=20))
@example("\udcff")
@example("\0")
@example("x" * 100_000)
def test_a_record_with_any_text_comes_back_and_stays_small(text: str):
    life = _after("claim")
    life.held(lambda record: to.postponed(record, FAILED_ONCE, 1.0, text, NOW))
    life.write(to.asked_to_cancel(life.record, text, NOW))
    other = _after("claim")
    other.held(lambda record: to.gave_up(record, FAILED_ONCE, text, "unknown", (text, text), NOW))
    assert max(len(msgspec.json.encode(one.record)) for one in (life, other)) < 100_000


def test_only_a_retry_of_a_quarantine_gives_retries_back():
    standing = _after("claim", "go on", "quarantine", "retry").record.standing
    assert (standing.attempt, standing.retries, standing.deaths) == (2, 0, 0)
    assert _after("claim", "postpone", "retry").record.standing.retries == 1


def test_a_move_drops_the_checkpoint_and_cuts_the_worker_off():
    life = _after("claim", "come further")
    held = life.record
    _move("b")(life)
    assert (life.saved, life.record.affinity, life.record.state) == (b"", "b", "queued")
    assert life.record.fence > held.fence
    assert life.record.standing.has_failed


def test_progress_never_goes_back():
    life = _after("claim", "come further")
    life.held(lambda record: to.came_further(record, None, 1.0, NOW))
    assert life.record.standing.done == 3.0


@pytest.mark.parametrize("leg", [1, 3])
def test_an_old_message_means_nothing(leg: int):
    life = _after("claim", "postpone")
    assert life.record.leg == 2
    assert isinstance(to.claimed(Stored(life.record, life.seq), "a", leg, NOW), str)


def test_an_old_message_in_place_of_the_one_that_is_to_be_there_puts_the_call_back():
    life = _after("claim", "hand back")
    change = to.claimed(Stored(life.record, life.seq), "a", 1, NOW)
    assert isinstance(change, Change)
    assert (change.record.leg, change.record.state, change.is_queued) == (3, "queued", True)


def test_a_call_that_a_person_gives_up_ends_with_its_latest_failure():
    failure = FailureClassified(
        at=1.0, operation="render", call="c", evidence=Evidence(type="builtins.OSError", message="disk full"),
        category=Category.TRANSIENT, rule="errno",
    )  # fmt: skip
    standing = Standing(failure=msgspec.Raw(msgspec.json.encode(failure)))
    waiting = CallRecord(call="render/a", operation="render", state="waiting", standing=standing, due=9.0)
    for record, error in ((waiting, ("OSError", "disk full")), (change_of(waiting, Standing()), ("", ""))):
        change = to.gave_up_by_hand(record, "given up by hand", 2.0)
        assert isinstance(change, Change)
        assert change.record.error == error


def change_of(record: CallRecord, standing: Standing) -> CallRecord:
    return msgspec.structs.replace(record, standing=standing)
