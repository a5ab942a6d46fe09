"""What a cluster is like in words: which node a call waits for, what happens next, and what a person can do."""

from __future__ import annotations

import errno

import msgspec
import pytest

from adapters.nats import status as status_module
from adapters.nats.board import Node
from adapters.nats.record import CallRecord, Standing
from adapters.nats.status import ALIVE, ClusterStatus, call_status, is_alive, next_in_cluster
from adapters.nats.steering import ClusterCommand
from adapters.nats.view import ClusterAddress, question_of
from recovery.policies.retry import PERSON
from tests.adapters.cli.snapshots import zone
from tests.adapters.nats.practice_cluster import NOON, NOW, Practice, after, failure, filled

NODES = {
    "gpu-a": Node(node="gpu-a", since=NOON, seen=NOON + 7325, operations=("render",)),
    "gpu-b": Node(node="gpu-b", since=NOON, seen=NOON + 7400, operations=("render",)),
}
LATE = NOON + 7400


def record(**how: object) -> CallRecord:
    return CallRecord(call="render/1", operation="render", updated=LATE - 60, **how)  # type: ignore[arg-type]


def told(**how: object) -> str:
    with zone("UTC"):
        return next_in_cluster(record(**how), NODES, LATE).line(LATE)


def test_a_node_lives_until_three_signs_are_missed() -> None:
    assert is_alive(NODES["gpu-b"], NODES["gpu-b"].seen + ALIVE)
    assert not is_alive(NODES["gpu-b"], NODES["gpu-b"].seen + ALIVE + 1)
    assert not is_alive(msgspec.structs.replace(NODES["gpu-b"], is_stopped=True), LATE)
    assert not is_alive(None, LATE)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, "waits for a free worker, since 14:02:20"),
        ({"affinity": "gpu-b"}, "waits for a free worker on gpu-b, since 14:02:20"),
        ({"affinity": "gpu-a"}, "waits for gpu-a, last seen 14:02:05"),
        ({"affinity": "gpu-x"}, "waits for gpu-x, which has never been seen"),
        ({"state": "running", "node": "gpu-b"}, "attempt 1 runs on gpu-b"),
        ({"state": "running", "node": "gpu-b", "cancel": "no"}, "attempt 1 runs on gpu-b, and is asked to end"),
        (
            {"state": "running", "node": "gpu-a"},
            "attempt 1 ran on gpu-a, last seen 14:02:05; another worker goes on with it once its lease has ended",
        ),
        (
            {"state": "running", "node": "gpu-a", "affinity": "gpu-a", "cancel": "no"},
            "attempt 1 ran on gpu-a, last seen 14:02:05, and is asked to end there",
        ),
        ({"state": "waiting", "due": LATE + 90}, "attempt 1 in 1 min 30 s, at 14:04:50"),
        ({"state": "waiting", "due": LATE - 1}, "waits for a free worker, since 14:02:20"),
        (
            {"state": "waiting", "due": LATE + 90, "affinity": "gpu-a"},
            "waits for gpu-a, last seen 14:02:05; attempt 1 in 1 min 30 s, at 14:04:50",
        ),
        ({"is_paused": True}, "attempt 1 does not begin while it is paused"),
        ({"state": "waiting", "asks_person": True}, f"waits for {PERSON}, since 14:02:20"),
        ({"state": "quarantined", "reason": "3 died"}, "no node runs it until it is freed: 3 died"),
        ({"state": "gave up", "reason": "permanent"}, "it fails in the same way until its cause is gone"),
        ({"state": "gave up", "reason": "late", "node": "gpu-b"}, "it gave up on gpu-b: late"),
        ({"state": "succeeded", "node": "gpu-b"}, "nothing: it is done on gpu-b"),
        ({"state": "cancelled", "reason": "cancelled by hand: no"}, "nothing: it was cancelled by hand: no"),
        ({"state": "cancelled", "reason": "wrong scene"}, "nothing: it was cancelled: wrong scene"),
        ({"state": "cancelled"}, "nothing: it was cancelled"),
        ({"state": "cancelled", "reason": "by hand"}, "nothing: it was cancelled: by hand"),
    ],
)
def test_what_happens_next_is_said_in_words(how: dict[str, object], words: str) -> None:
    assert told(**how) == words


def test_an_operation_that_no_node_runs_is_told() -> None:
    step = next_in_cluster(msgspec.structs.replace(record(), operation="caption"), NODES, LATE)
    assert step.text == "waits for a node that runs caption: none is there"
    bound = msgspec.structs.replace(record(affinity="gpu-b"), operation="caption")
    assert next_in_cluster(bound, NODES, LATE).text == "waits for gpu-b, which does not run caption"


@pytest.mark.parametrize(
    ("how", "verbs", "foremost"),
    [
        ({"affinity": "gpu-a"}, ["move", "pause", "give up", "cancel"], 1),
        ({}, ["pause", "give up", "cancel"], 0),
        ({"state": "waiting", "due": LATE + 90}, ["retry", "pause", "give up", "cancel"], 0),
        ({"state": "waiting", "asks_person": True}, ["retry", "give up", "cancel"], 2),
        ({"state": "running", "node": "gpu-b"}, ["cancel"], 0),
        ({"state": "running", "node": "gpu-a", "affinity": "gpu-a"}, ["move", "cancel"], 1),
        ({"state": "succeeded"}, [], 0),
    ],
)
def test_what_a_person_can_do_is_offered(how: dict[str, object], verbs: list[str], foremost: int) -> None:
    step = next_in_cluster(record(**how), NODES, LATE)
    assert [one.verb for one in step.offers] == verbs
    assert step.foremost == foremost


def test_a_call_tells_its_failure_as_a_journal_does() -> None:
    latest = failure("render/1@9", ConnectionResetError(errno.ECONNRESET, "reset"), at=0.0)
    call = call_status(record(state="waiting", standing=after(1, latest), due=LATE))
    assert call.sentence == "the connection to models.example.org broke off"
    assert (call.attempt, call.retries, call.category) == (2, 1, latest.category)
    assert call.failures == (latest.brief,)


def test_a_failure_of_another_release_leaves_the_call_readable() -> None:
    strange = Standing(attempt=2, failure=msgspec.Raw(b'{"event":"Novelty"}'))
    assert call_status(record(standing=strange)).sentence == ""


def listed(records: list[CallRecord], *, show_all: bool = False) -> tuple[ClusterStatus, dict[str, CallRecord]]:
    listing = status_module.Listing(show_all=show_all)
    for one in records:
        listing.take(one)
    return listing.status("here", (), LATE)


def test_a_long_list_is_cut_and_what_is_cut_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "MOST_CALLS", 2)
    calls = [msgspec.structs.replace(record(), call=f"render/{at}") for at in range(7)]
    ended = [msgspec.structs.replace(one, call=f"{one.call}-x", state="succeeded") for one in calls]
    status, records = listed([*calls, *ended])
    assert status.counts == {"queued": 7, "succeeded": 7}
    assert status.more == {"queued": 5, "succeeded": 5}
    assert list(records) == ["render/0", "render/1", "render/5-x", "render/6-x"], (
        "the oldest that wait, the latest ends"
    )
    whole, _ = listed([*calls, *ended], show_all=True)
    assert (len(whole.calls), whole.more) == (14, {})


@pytest.mark.anyio
async def test_why_tells_the_attempts_of_every_node_and_superseded_outcomes() -> None:
    practice = await filled()
    with zone("UTC"):
        found, now = await practice.view.why("waiting")
        lines = [part.line(now) for part in found.story]
    assert now == NOW
    assert lines == [
        "attempt 1, 30 s: the connection to models.example.org broke off",
        "waits before retry 1, until 12:04:31",
        "the outcome that gpu-c kept is superseded: gpu-b claimed it meanwhile",
    ]
    assert found.where == "ran last on gpu-c, stopped 11:59:30, in the cluster at nats://queue.example.org:4222"
    assert found.remedy.startswith("It is tried again by itself.")


@pytest.mark.anyio
async def test_a_call_without_retries_is_a_question() -> None:
    practice = await filled()
    [question] = await practice.view.questions()
    assert question == question_of(await practice.record("render/asks"))
    assert (question.name, question.kind) == ("render/asks", "confirm")
    assert (await practice.view.answer("asks", True)).is_done
    assert (await practice.record("render/asks")).state == "queued"
    with pytest.raises(LookupError, match="asks nothing"):
        await practice.view.answer("asks", True)


@pytest.mark.anyio
async def test_a_person_cancels_a_call_whose_node_is_gone() -> None:
    practice = await filled()
    practice.now = NOW + 60.0
    done = await practice.view.steer("orphan", ClusterCommand(name="cancel", reason="late"))
    assert (done.is_done, done.said) == (True, "cancelled: no node runs it any more")
    assert (await practice.record("render/orphan")).reason == "cancelled by hand: late"


@pytest.mark.anyio
async def test_no_ends_a_call_that_asks() -> None:
    practice: Practice = await filled()
    assert (await practice.view.answer("asks", False)).is_done
    assert (await practice.record("render/asks")).state == "gave up"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://user:pa55@queue:4222", "nats://queue:4222"),
        ("nats://token@queue:4222, nats://u:p@other", "nats://queue:4222,nats://other"),
        ("user:pa55@queue", "queue"),
        ("tls://[::1]:4222", "tls://[::1]:4222"),
        ("u:pa55@one,u:pa55@two", "one,two"),
        ("nats://u:1/pa55@queue,nats://u:1?p#a55@other", "nats://queue,nats://other"),
        ("nats://u:pa55,@@queue", "nats://queue"),
        ("nats://u:[pa55@queue/path", "nats://queue"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    address = ClusterAddress(url, creds="/etc/user.creds")
    assert address.shown == shown
    assert address.source == f"--cluster={shown}"
    assert all(secret not in repr(address) for secret in ("pa55", "token@", "u:p"))
    assert ClusterAddress(url, is_default=True).source == ""


def test_a_call_of_a_version_that_no_node_runs_says_so() -> None:
    new = msgspec.structs.replace(NODES["gpu-b"], versions={"render": "2"})
    for version, words in (
        ("2", "waits for a free worker"),
        ("1", "waits for a node that runs version 1 of render: none is there"),
        ("", "waits for a node that runs render without a version: none is there"),
    ):
        step = next_in_cluster(record(version=version), {"gpu-b": new}, LATE)
        assert step.text == words
    bound = next_in_cluster(record(version="1", affinity="gpu-b"), {"gpu-b": new}, LATE)
    assert bound.text == "waits for gpu-b, which does not run version 1 of render"
