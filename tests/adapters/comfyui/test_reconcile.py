"""What became of a prompt: one row for each way that a server and the journal can differ."""

from __future__ import annotations

import msgspec
import pytest

from adapters.comfyui.answers import ABSENT, ExecutionError, Finished, Standing
from adapters.comfyui.deaths import Lost, blamed, trust
from adapters.comfyui.reconcile import GRACE, UNKNOWN_AFTER, Seen, Verdict, after, fell, is_over, verdict
from adapters.comfyui.record import Posted

OURS, NEXT = "10@1.0@boot", "11@2.0@boot"
SENT = Posted("id", OURS, at=0.0)
TAKEN = Posted("id", OURS, at=0.0, number=3.0)
ELSEWHERE = Posted("id", "", at=0.0, number=3.0)
SUCCESS = Standing("finished", finished=Finished(True))
FAILURE = Standing("finished", finished=Finished(False, error=ExecutionError("ValueError")))
INTERRUPTED = Standing("finished", finished=Finished(False, interrupted=True))


def deleted(posted: Posted) -> Posted:
    return msgspec.structs.replace(posted, is_deleted=True)


def seen(posted: Posted) -> Posted:
    return msgspec.structs.replace(posted, number=None, was_seen=True)


def cut(posted: Posted) -> Posted:
    return msgspec.structs.replace(posted, was_cut=True)


ROWS: dict[str, tuple[Posted, Seen, bool, Verdict]] = {
    "it waits": (TAKEN, Seen(Standing("pending", 3.0), OURS), False, "pending"),
    "it runs": (TAKEN, Seen(Standing("running", 3.0), OURS), False, "running"),
    "an interrupt is slow": (deleted(TAKEN), Seen(Standing("running", 3.0), OURS), False, "running"),
    "its id was posted twice, and one run has ended": (TAKEN, Seen(Standing("pending", 4.0), OURS), True, "pending"),
    "it succeeded": (TAKEN, Seen(SUCCESS, OURS), True, "done"),
    "it succeeded before it was cancelled": (deleted(TAKEN), Seen(SUCCESS, OURS), True, "done"),
    "a file is missing": (TAKEN, Seen(SUCCESS, OURS), False, "unknown"),
    "a file is missing for long": (TAKEN, Seen(SUCCESS, OURS, unknown_for=UNKNOWN_AFTER), False, "unknown"),
    "a node failed": (TAKEN, Seen(FAILURE, OURS), False, "failed"),
    "a node failed after it had put out all that is wanted": (TAKEN, Seen(FAILURE, OURS), True, "failed"),
    "it was interrupted by another": (TAKEN, Seen(INTERRUPTED, OURS), False, "interrupted"),
    "it was interrupted by us": (deleted(TAKEN), Seen(INTERRUPTED, OURS), False, "cancelled"),
    "it was deleted by us": (deleted(TAKEN), Seen(ABSENT, OURS), False, "cancelled"),
    "it was deleted by us, and the server died": (deleted(TAKEN), Seen(ABSENT, NEXT), False, "cancelled"),
    "its POST may come after the delete": (deleted(SENT), Seen(ABSENT, OURS), False, "unknown"),
    "its POST can no longer come": (deleted(SENT), Seen(ABSENT, OURS, unknown_for=GRACE), False, "cancelled"),
    "a new process does not know it": (TAKEN, Seen(ABSENT, NEXT), False, "lost"),
    "all was put out before the server died": (TAKEN, Seen(ABSENT, NEXT), True, "done"),
    "its process still runs beside the new one": (TAKEN, Seen(ABSENT, NEXT, lives=True), False, "unknown"),
    "it is cancelled in a process that runs beside": (deleted(TAKEN), Seen(ABSENT, NEXT, lives=True), False, "unknown"),
    "the history was cleared by hand": (TAKEN, Seen(ABSENT, OURS, is_queue_empty=True), False, "unknown"),
    "the history was cleared after its files came": (TAKEN, Seen(ABSENT, OURS), True, "done"),
    "a cut means nothing for our own process": (cut(TAKEN), Seen(ABSENT, OURS, is_queue_empty=True), False, "unknown"),
    "its POST may be on its way": (SENT, Seen(ABSENT, OURS, is_watched=True), False, "unknown"),
    "its POST may reach the new process": (SENT, Seen(ABSENT, NEXT, is_watched=True), False, "unknown"),
    "its POST did not come through": (SENT, Seen(ABSENT, OURS, unknown_for=GRACE), False, "lost"),
    "it was seen and is gone": (seen(SENT), Seen(ABSENT, OURS, is_watched=True, unknown_for=GRACE), False, "unknown"),
    "another's server is empty": (ELSEWHERE, Seen(ABSENT, "", is_queue_empty=True), False, "unknown"),
    "another's server was cut": (cut(ELSEWHERE), Seen(ABSENT, ""), False, "unknown"),
    "another's server was cut and is empty": (cut(ELSEWHERE), Seen(ABSENT, "", is_queue_empty=True), False, "lost"),
    "another's server counts from 0": (ELSEWHERE, Seen(ABSENT, "", number_fell=True), False, "lost"),
    "another's server is now one of ours": (cut(ELSEWHERE), Seen(ABSENT, OURS, is_queue_empty=True), False, "unknown"),
    "our server is now another's": (TAKEN, Seen(ABSENT, ""), False, "lost"),
    "a POST to another's did not come through": (
        msgspec.structs.replace(ELSEWHERE, number=None),
        Seen(ABSENT, "", is_watched=True, unknown_for=GRACE),
        False,
        "lost",
    ),
    "a POST of a dead launcher to another's may have come through": (
        msgspec.structs.replace(ELSEWHERE, number=None),
        Seen(ABSENT, "", unknown_for=GRACE),
        False,
        "unknown",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_what_became_of_a_prompt(row: str):
    posted, look, wanted_done, expected = ROWS[row]
    assert verdict(posted, look, wanted_done) == expected


def test_a_prompt_that_is_there_after_a_cut_has_survived_it():
    assert not after(cut(ELSEWHERE), Standing("running", 3.0)).was_cut
    assert after(cut(ELSEWHERE), ABSENT).was_cut


def test_what_a_look_shows_is_journalled():
    assert after(SENT, Standing("running", 7.0)) == msgspec.structs.replace(
        SENT, number=7.0, was_seen=True, was_running=True
    )
    assert after(TAKEN, Standing("pending")) == msgspec.structs.replace(TAKEN, was_seen=True)


def test_a_number_that_is_not_above_the_last_shows_a_new_process():
    assert fell(ELSEWHERE, 3.0)
    assert not fell(ELSEWHERE, 4.0)
    assert not fell(SENT, 0.0)


def test_a_post_that_did_not_come_through_is_no_death():
    assert not is_over(SENT, Seen(ABSENT, OURS, unknown_for=GRACE))
    assert is_over(SENT, Seen(ABSENT, NEXT, unknown_for=GRACE))


@pytest.mark.parametrize(
    ("lost", "key"),
    [
        ([], None),
        ([Lost("second", 2.0), Lost("first", 1.0)], "first"),
        ([Lost("second", 2.0, was_running=True), Lost("first", 1.0)], "second"),
        ([Lost("first", 1.0, was_running=True), Lost("second", 2.0, was_running=True)], "second"),
        ([Lost("unanswered"), Lost("first", 1.0)], "first"),
        ([Lost("unanswered")], "unanswered"),
    ],
)
def test_a_death_counts_against_the_one_that_was_executing(lost: list[Lost], key: str | None):
    assert blamed(lost, was_ours=False) == key
    assert blamed(lost, was_ours=True) is None


def test_a_death_while_a_prompt_of_another_client_ran_counts_against_none():
    assert blamed([Lost("first", 1.0)], was_ours=False, foreign_ran=True) is None
    assert blamed([Lost("first", 1.0, was_running=True)], was_ours=False, foreign_ran=True) == "first"


def test_one_death_makes_suspected_and_two_quarantine():
    assert [trust(deaths) for deaths in range(4)] == ["trusted", "suspected", "quarantined", "quarantined"]
