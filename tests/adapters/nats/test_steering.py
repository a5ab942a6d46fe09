"""A person's commands to calls of a cluster: found by a part of an id, written by compare-and-set, told in words."""

from __future__ import annotations

import msgspec
import pytest

from adapters.nats import transitions
from adapters.nats.errors import ChangeRefusedError, UnreachableError
from adapters.nats.record import CallRecord, Change, Standing, Stored
from adapters.nats.steering import ClusterCommand, SteeringName, cancel, find, steer
from tests.adapters.nats.practice_cluster import NODES, NOON, NOW, Practice, filled

pytestmark = pytest.mark.anyio


@pytest.fixture
async def practice() -> Practice:
    return await filled()


async def given(practice: Practice, name: SteeringName, call: str, to: str = "", reason: str = "") -> CallRecord:
    command = ClusterCommand(name=name, to=to, reason=reason)
    return await steer(practice.engine, call, command.change)


async def test_a_waiting_call_that_is_retried_is_in_its_queue_at_once(practice: Practice) -> None:
    record = await given(practice, "retry", "render/waiting")
    assert (record.state, record.due) == ("queued", None)
    assert ("render/waiting", record.leg) in practice.servers.queued()
    assert practice.servers.scheduled() == []


async def test_a_command_is_written_although_the_record_changes_meanwhile(practice: Practice) -> None:
    tried: list[int] = []

    def pause(stored: Stored, now: float) -> Change | str:
        tried.append(stored.seq)
        if len(tried) == 1:  # a worker writes between the reading and the writing of the command
            practice.servers.write(transitions.came_further(stored.record, b"2", 2.0, now), stored.seq)
        return transitions.paused(stored.record, now)

    record = await steer(practice.engine, "render/running", pause)
    assert len(tried) == 2
    assert record.is_paused
    assert record.standing.done == 2.0, "what the worker wrote is kept"


async def test_a_running_call_is_asked_to_end_and_keeps_its_worker(practice: Practice) -> None:
    before = await practice.record("render/running")
    record = await given(practice, "cancel", "render/running", reason="wrong scene")
    assert (record.state, record.cancel) == ("running", "cancelled by hand: wrong scene")
    assert (record.fence, record.token) == (before.fence, before.token)


async def test_a_call_whose_node_is_gone_is_cancelled_at_once(practice: Practice) -> None:
    before = await practice.engine.read("render/orphan")
    assert before is not None
    lane = before.record.lane
    practice.now += 60.0
    record = await cancel(practice.engine, practice.board, "render/orphan", "no time")
    assert (record.state, record.reason) == ("cancelled", "no time")
    assert record.fence == before.seq, "a worker that goes on with it all the same has lost it"
    assert lane not in [one for call, _, one in practice.servers.messages() if call == "render/orphan"]


@pytest.mark.parametrize(
    ("seen", "claimed"), [(40.0, 0.0), (-300.0, 40.0)], ids=["told of itself", "took the call since"]
)
async def test_a_call_whose_node_may_hold_it_is_asked_to_end(practice: Practice, seen: float, claimed: float) -> None:
    """The node is silent for 25 s, which is less than a lease; or it has taken the call 25 s ago, and told nothing."""
    practice.now = NOON + claimed
    await practice.submit("render", "new", affinity="gpu-a")
    await practice.claim("render/new", "gpu-a")
    practice.now = NOON + max(seen, claimed) + 25.0
    node = next(one for one in NODES if one.node == "gpu-a")
    await practice.board.put(msgspec.structs.replace(node, seen=NOON + seen if seen > 0 else node.seen))
    record = await cancel(practice.engine, practice.board, "render/new", "no time")
    assert (record.state, record.cancel) == ("running", "no time")


async def test_a_call_that_no_worker_holds_is_cancelled_at_once(practice: Practice) -> None:
    assert (await given(practice, "cancel", "render/waiting")).state == "cancelled"


async def test_a_call_that_asks_is_tried_again_or_given_up(practice: Practice) -> None:
    assert (await given(practice, "retry", "render/asks")).state == "queued"
    await practice.change(
        "render/asks",
        lambda stored: transitions.postponed(stored.record, Standing(), 0.0, "", practice.now, asks_person=True),
    )
    record = await given(practice, "give up", "render/asks", reason="no room")
    assert (record.state, record.reason) == ("gave up", "given up by hand: no room")


async def test_a_paused_call_goes_on_when_it_is_unpaused(practice: Practice) -> None:
    record = await given(practice, "unpause", "render/paused")
    assert not record.is_paused
    assert ("render/paused", record.leg) in practice.servers.queued()


async def test_a_moved_call_has_another_fence_so_that_its_worker_has_lost_it(practice: Practice) -> None:
    before = await practice.record("render/orphan")
    record = await given(practice, "move", "render/orphan")
    assert (record.affinity, record.state) == ("", "queued")
    assert record.fence > before.fence
    assert await practice.engine.payload("render/orphan", "saved") is None


@pytest.mark.parametrize(
    ("name", "call", "why"),
    [
        ("retry", "render/done", "it is over: succeeded"),
        ("retry", "render/gave-up", "it is over: gave up; submit it again, under another key if it has one"),
        ("retry", "render/running", "it runs, on gpu-b"),
        ("unpause", "render/waiting", "it is not paused"),
        ("give up", "render/running", "it runs, on gpu-b: cancel it instead"),
    ],
)
async def test_what_a_call_does_not_take_is_refused_and_nothing_is_written(
    practice: Practice, name: SteeringName, call: str, why: str
) -> None:
    before = await practice.engine.read(call)
    with pytest.raises(ChangeRefusedError, match=f"^{why}$"):
        await given(practice, name, call)
    assert await practice.engine.read(call) == before


async def test_a_command_to_servers_that_do_not_answer_says_so(practice: Practice) -> None:
    practice.engine.is_cut = True
    with pytest.raises(UnreachableError):
        await given(practice, "retry", "render/waiting")


async def test_a_call_is_found_by_its_id_or_a_part_of_it(practice: Practice) -> None:
    assert (await find(practice.engine, "render/done")).state == "succeeded"
    assert (await find(practice.engine, "wait")).call == "render/waiting"
    assert (await find(practice.engine, "don")).call == "render/done", "of those that are over, if no other has it"


async def test_a_whole_key_finds_its_call_though_it_is_a_part_of_other_ids(practice: Practice) -> None:
    for key in ("17", "order-17"):
        await practice.submit("render", key)
    assert (await find(practice.engine, "17")).call == "render/17"


async def test_a_part_of_several_ids_names_them_and_no_call(practice: Practice) -> None:
    said = r"'a' is a part of \d ids of calls that are not over: .*render/asks.*give one of these ids"
    with pytest.raises(LookupError, match=said):
        await find(practice.engine, "a")
    with pytest.raises(LookupError, match="no call of the cluster has 'nothing' in its id"):
        await find(practice.engine, "nothing")


async def test_the_reason_of_a_command_is_in_the_record(practice: Practice) -> None:
    assert (await given(practice, "give up", "render/queued")).reason == "given up by hand"
    assert (await practice.record("render/queued")).ended == NOW
