"""What the chaos calls lost, doubled or late: planted, and found."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from adapters.nats.record import CallRecord
from tests.cluster.chaos_figures import Evidence, Submitted, figures_of
from tests.cluster.chaos_watch import Seen, leftovers, lost, with_message
from tests.cluster.disturbances import Disturbance
from tests.cluster.sink import BEGIN, END, RESULT, UP, Note

LEASE = 5.0


def seen(seq: int, at: float, state: str, node: str = "", fence: int = 0, due: float | None = None) -> Seen:
    record = CallRecord(
        call="plain/k0",
        operation="plain",
        state=state,
        node=node,
        fence=fence,
        due=due,
        updated=at,  # type: ignore[arg-type]
    )
    return Seen(seq, 0, at, record)


def said(what: str, at: float, node: str, fence: int, *, attempt: int = 1, taken: bool = True, first: int = 0) -> Note:
    pid = int(node[1:])
    return Note(what, node, pid, 0, fence, attempt, at, first, 0.0, taken)


CLAIMED = [seen(1, 0.0, "queued"), seen(2, 1.0, "running", "w1", 1)]
BEGUN = [Note(UP, "w1", 1), Note(UP, "w2", 2), said(BEGIN, 1.0, "w1", 1)]
OVER = [seen(9, 9.0, "succeeded", "w2", 5)]


def wrong(
    changes: Sequence[Seen],
    notes: Sequence[Note],
    done: Sequence[Disturbance] = (),
    results: Sequence[object] = ([0, 5],),
    slowdown: float = 1.0,
) -> str:
    submitted = [Submitted(0, "plain/k0", "", list(results))]
    evidence = Evidence(submitted, [*changes], [*notes], [*done], LEASE, slowdown=slowdown)
    figures, texts = figures_of(evidence)
    assert bool(texts) is not all(one.passed for one in figures), "what is wrong is printed, and fails"
    return "\n".join(texts)


def stopped(node: str, began: float, ended: float) -> Disturbance:
    return Disturbance(node, "stopped", began, ended, ended)


TAKEN_OVER = [*CLAIMED, seen(5, 6.5, "running", "w2", 5), *OVER]
AGAIN = [*BEGUN, said(BEGIN, 6.5, "w2", 5), said(RESULT, 8.0, "w2", 5), said(END, 8.0, "w2", 5)]


def test_a_call_that_a_stopped_worker_loses_goes_on_elsewhere_and_its_late_write_is_refused():
    late = [said(RESULT, 11.0, "w1", 1, taken=False), said(END, 11.0, "w1", 1)]
    assert wrong(TAKEN_OVER, [*AGAIN, *late], [stopped("w1", 1.5, 11.0)]) == ""


@pytest.mark.parametrize(
    ("changes", "notes", "results", "text"),
    [
        (CLAIMED, BEGUN, [], "has not ended"),
        ([*TAKEN_OVER, seen(10, 10.0, "cancelled", "w2", 5)], AGAIN, [[0, 5]], "is cancelled after that"),
        (TAKEN_OVER, AGAIN, [[0, 5], [0, 1]], "gave [0, 1]"),
        (TAKEN_OVER, [*AGAIN, said(RESULT, 11.0, "w1", 1)], [[0, 5]], "result under 1 after 5"),
        (
            TAKEN_OVER,
            [*AGAIN, said(BEGIN, 8.1, "w3", 5), said(END, 8.2, "w3", 5)],
            [[0, 5]],
            "2 processes had the fence",
        ),
        ([*CLAIMED, seen(9, 9.0, "succeeded", "w1", 1)], AGAIN, [[0, 1]], "its result is of 1, and 5 has written"),
        (TAKEN_OVER, [*BEGUN, said(BEGIN, 6.5, "w2", 5, first=3), *AGAIN[-2:]], [[0, 5]], "went on with step 3"),
    ],
)
def test_what_is_lost_or_doubled_is_found(changes: list[Seen], notes: list[Note], results: list[object], text: str):
    assert text in wrong(changes, notes, [stopped("w1", 1.5, 11.0)], results)


def test_a_take_over_after_more_than_a_lease_is_late_unless_a_server_died_too():
    changes = [*CLAIMED, seen(5, 9.0, "running", "w2", 5), seen(9, 9.5, "succeeded", "w2", 5)]
    notes = [*BEGUN, said(BEGIN, 9.0, "w2", 5), said(RESULT, 9.4, "w2", 5), said(END, 9.4, "w2", 5)]
    killed = Disturbance("w1", "killed", 1.5, 3.0, 3.0)
    assert "waited 7.5 s" in wrong(changes, notes, [killed])
    assert wrong(changes, notes, [killed, Disturbance("n1", "killed", 2.0, 3.0, 6.0)]) == ""
    assert wrong(changes, notes, [killed, Disturbance("n1", "killed", -9.0, -8.0, -2.0)]) == "", "it has just come back"
    assert "waited" in wrong(changes, notes, [killed, Disturbance("n1", "killed", -9.0, -8.0, -4.0)])
    assert wrong(changes, notes, [stopped("w1", 1.5, 3.0)]) == "", "it went on, and lost its lease later"


def test_each_stopped_worker_that_a_call_is_offered_to_keeps_it_for_a_lease():
    changes = [*CLAIMED, seen(5, 15.9, "running", "w2", 5), seen(9, 16.5, "succeeded", "w2", 5)]
    notes = [*BEGUN, said(BEGIN, 15.9, "w2", 5), said(RESULT, 16.4, "w2", 5), said(END, 16.4, "w2", 5)]
    killed = Disturbance("w1", "killed", 1.5, 3.0, 3.0)
    asked, too_early, too_late = stopped("w3", 4.0, 8.0), stopped("w3", 0.1, 3.0), stopped("w3", 12.0, 14.0)
    second = stopped("w4", 8.0, 13.0)
    assert wrong(changes, notes, [killed, asked, second]) == ""
    for one in (too_early, too_late):
        assert "waited 14.4 s" in wrong(changes, notes, [killed, one, second])
    assert "waited 14.4 s" in wrong(changes, notes, [killed, asked]), "one alone explains a lease, not two"


@pytest.mark.parametrize(("began", "text"), [(9.05, ""), (9.2, "0.200 s later"), (8.8, "-0.200 s later")])
def test_an_attempt_that_begins_too_late_or_too_early_is_found(began: float, text: str):
    changes = [
        *CLAIMED,
        seen(3, 2.0, "waiting", "w1", 1, due=9.0),
        seen(5, 8.7, "running", "w2", 5),
        seen(9, 9.5, "succeeded", "w2", 5),
    ]
    first = [*BEGUN, said(END, 2.0, "w1", 1)]
    notes = [*first, said(BEGIN, began, "w2", 5, attempt=2), said(RESULT, 9.4, "w2", 5), said(END, 9.4, "w2", 5)]
    found = wrong(changes, notes)
    assert (wrong(changes, notes, slowdown=2.5) == "") is (began > 9.0), "a busy machine is late, and never early"
    assert text in found
    assert bool(text) is bool(found)


def test_messages_without_calls_and_calls_without_messages_are_found():
    subjects = dict.fromkeys(["p.call.plain.k0", "p.queue.low._.plain.k0", "p.due.plain.k1", "p.result.plain.k2"], 1)
    assert lost(subjects, "p") == [
        "plain/k1 has a due message and no record",
        "plain/k2 has a result message and no record",
    ]
    assert with_message(subjects, "p") == {"plain/k0", "plain/k1"}
    assert leftovers(subjects, "p") == ["p.queue.low._.plain.k0", "p.due.plain.k1"]
