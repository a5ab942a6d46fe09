"""What a change of a call writes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from adapters.nats.batch import AT_ONCE, Batches, Message, messages
from adapters.nats.errors import ClusterError, NotSentError, StaleError, TooLargeError, UnreachableError
from adapters.nats.names import Subjects, name_of
from adapters.nats.record import Change, Standing, Stored
from adapters.nats.transitions import asked_to_cancel, moved, postponed, submitted, succeeded

NEW = submitted(name_of("render", "k"), b"[1]", 100.0)
P = Subjects("p")


def written(change: Change | str, expected: int = 7) -> dict[str, Message]:
    assert isinstance(change, Change)
    return {one.subject: one for one in messages(P, change, expected)}


def test_a_record_comes_first_and_its_queue_message_last() -> None:
    assert [one.subject for one in messages(P, NEW, 0)] == [
        "p.call.render.k",
        "p.args.render.k",
        "p.queue.normal.=.render.k",
    ]


def test_the_record_alone_has_the_condition() -> None:
    found = messages(P, NEW, 7)
    conditions = [one.headers.get("Nats-Expected-Last-Subject-Sequence") for one in found]
    assert conditions == ["7", None, None]


def test_a_later_attempt_is_scheduled_for_its_queue() -> None:
    due = written(postponed(NEW.record, Standing(), 60.0, "busy", 1_700_000_000.0))["p.due.render.k"]
    assert due.headers == {
        "Nats-Schedule": "@at 2023-11-14T22:14:19.700000Z",
        "Nats-Schedule-Target": "p.queue.normal.=.render.k",
    }
    assert msgspec.json.decode(due.data) == {"leg": 2}


def test_the_end_is_kept_for_seven_days_and_the_arguments_are_not() -> None:
    found = written(succeeded(NEW.record, b"done", Standing(), 100.0))
    subjects = ["p.call.render.k", "p.args.render.k", "p.saved.render.k", "p.result.render.k"]
    assert {subject: one.headers["Nats-TTL"] for subject, one in found.items()} == dict.fromkeys(subjects, "604800s")
    assert found["p.args.render.k"].data == found["p.saved.render.k"].data == b""


def test_a_dropped_checkpoint_stays_dropped() -> None:
    """An empty message that is deleted again brings back what it dropped, when a server is killed."""
    found = written(moved(Stored(NEW.record, 1), "gpu-b", 100.0))
    assert (found["p.saved.render.k"].data, found["p.saved.render.k"].headers) == (b"", {})


def test_a_cancelled_wait_takes_its_schedule_and_its_queue_message_along() -> None:
    waits = postponed(NEW.record, Standing(), 60.0, "busy", 100.0)
    assert isinstance(waits, Change)
    found = written(asked_to_cancel(waits.record, "no more", 100.0))
    assert found["p.call.render.k"].headers["Nats-Scheduler"] == "p.due.render.k"
    assert found["p.queue.normal.=.render.k"].data == b""


class Link:
    """Servers that answer as they are told; the last answer stays."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers, self.asked, self.under_way, self.most = list(answers), 0, 0, 0

    async def tell(self, subject: str, data: bytes, headers: dict[str, str]) -> None: ...

    async def ask(self, subject: str, data: bytes, headers: dict[str, str]) -> Any:
        self.asked += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(data=msgspec.json.encode(answer))


def batches(link: Link) -> Batches:
    return Batches(link)  # type: ignore[arg-type] - as much of a link as is needed


def refused(err_code: int, code: int = 400) -> dict[str, Any]:
    return {"error": {"code": code, "err_code": err_code, "description": "words"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_the_place_of_the_record_is_that_of_the_first_message() -> None:
    assert await batches(Link({"seq": 12, "count": 3})).write(messages(P, NEW, 0)) == 10


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "error"),
    [(refused(10071), StaleError), (refused(10054), TooLargeError), (refused(10023, 500), ClusterError)],
)
async def test_a_refusal_for_good_is_not_tried_again(answer: dict[str, Any], error: type[Exception]) -> None:
    link = Link(answer, {"seq": 3})
    with pytest.raises(error):
        await batches(link).write(messages(P, NEW, 0))
    assert link.asked == 1


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [refused(10210, 429), refused(10176), refused(10008, 503), NotSentError("none")])
async def test_what_was_surely_not_written_is_tried_again(answer: dict[str, Any] | Exception) -> None:
    link = Link(answer, answer, {"seq": 3})
    assert await batches(link).write(messages(P, NEW, 0)) == 1
    assert link.asked == 3


@pytest.mark.anyio
async def test_what_may_have_been_written_is_not_tried_again() -> None:
    link = Link(UnreachableError("no answer"), {"seq": 3})
    with pytest.raises(UnreachableError):
        await batches(link).write(messages(P, NEW, 0))
    assert link.asked == 1


@pytest.mark.anyio
async def test_no_more_than_forty_batches_are_under_way() -> None:
    link = Link({"seq": 3})
    writer = batches(link)
    await asyncio.gather(*(writer.write(messages(P, NEW, 0)) for _ in range(3 * AT_ONCE)))
    assert link.most == AT_ONCE
