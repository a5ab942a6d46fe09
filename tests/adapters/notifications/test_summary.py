"""What a notification says: equal failures are one line, what is over is told as over, and nothing is secret."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.downloads.space import NoRoomError
from adapters.notifications.summary import MOST_CONTENT, MOST_ITEMS, MOST_LINES, Digest
from events.alert_events import AlertCleared, AlertRaised
from events.event import Event
from events.evidence import Category, Remedy, Room
from events.incident_events import IncidentClosed, IncidentOpened
from events.operation_events import FailureClassified, GaveUp, Parked
from events.question_events import QuestionAnswered, QuestionAsked
from recovery.subscribers.classification import classify
from recovery.subscribers.evidence_extraction import extract_evidence

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def failure(error: Exception = FULL, operation: str = "download", call: str = "r-1", **more: Any) -> FailureClassified:
    meaning = classify(error)
    return FailureClassified(
        at=0.0,
        operation=operation,
        call=call,
        category=meaning.category,
        rule=meaning.rule,
        why=meaning.why,
        evidence=extract_evidence(error),
        **more,
    )


def gave_up(error: Exception = FULL, call: str = "r-1", name: str = "", key: str = "", **more: Any) -> GaveUp:
    failed = failure(error, call=call)
    return GaveUp(
        at=0.0,
        operation="download",
        key=key,
        call=call,
        category=failed.category,
        failure=failed,
        idempotency_key=name,
        **more,
    )


def asks(name: str = "token:example.org", text: str = "Make a token.") -> QuestionAsked:
    return QuestionAsked(at=0.0, name=name, kind="secret", text=text, link="https://example.org/tokens")


OPENED = IncidentOpened(
    at=0.0, operation="download", key="a.org", cause="the host cannot be reached", category=Category.UNREACHABLE
)
CLOSED = IncidentClosed(at=9.0, operation="download", key="a.org", lasted=125.0, calls=12, gave_up=2)


def summary(*events: Event, **how: Any) -> str:
    digest = Digest(**how)
    for event in events:
        digest.add(event)
    notification = digest.take(0.0)
    assert notification is not None
    return notification.summary


def test_equal_failures_are_one_line():
    said = summary(*(gave_up(call=f"r-{number}", name=f"m{number}") for number in range(12)))
    assert said.startswith("12 downloads failed: the disk is full (m0, m1, m2 and 9 more)")
    assert "\n" not in said


def no_room(name: str, missing: int, folder: str) -> GaveUp:
    return gave_up(NoRoomError(f"{name} does not fit", Room(folder, missing)), call=name, name=name)


def test_failures_that_differ_in_size_and_folder_are_one_line_without_them():
    alike = no_room("a", 6_200_000_000, "models"), no_room("b", 6_200_000_000, "models")
    assert "2 downloads failed: the disk is full: 6.2 GB more are needed in models (a, b)" in summary(*alike)
    assert "3 downloads failed: the disk is full (a, b, c)" in summary(*alike, no_room("c", 1_000_000, "vae"))


def test_one_failure_says_what_the_error_said():
    said = summary(gave_up(name="model.bin", key="a.org"))
    assert said.startswith("download[a.org] failed (model.bin): the disk is full: OSError: [Errno 28] No space left")


def test_the_host_of_equal_failures_is_said_where_it_is_one():
    assert "2 downloads failed at a.org: " in summary(gave_up(key="a.org"), gave_up(key="a.org", call="r-2"))
    assert "2 downloads failed: " in summary(gave_up(key="a.org"), gave_up(key="b.org", call="r-2"))


def test_a_remedy_is_said_with_the_failure():
    event = gave_up()
    remedy = Remedy("Free 6 GB.", link="https://example.org/how")
    event = msgspec.structs.replace(event, failure=msgspec.structs.replace(event.failure, remedy=remedy))
    assert "Free 6 GB. https://example.org/how" in summary(event)


def test_several_lines_begin_with_their_counts_and_the_most_urgent_comes_first():
    lines = summary(CLOSED, OPENED, gave_up(), gave_up(call="r-2"), asks()).splitlines()
    assert lines[0] == "1 question waits for an answer, 2 calls failed, 1 incident began"
    assert [line.partition(" ")[0] for line in lines[1:]] == ["a", "2", "download[a.org]:"]


def test_a_question_says_where_and_how_it_is_answered():
    said = summary(asks(), target="launch.toml")
    assert said == (
        "a call waits for an answer to 'token:example.org': Make a token. https://example.org/tokens. "
        "Answer it with: recovery answer launch.toml token:example.org"
    )


def test_a_choice_names_what_there_is_to_choose():
    event = QuestionAsked(at=0.0, name="model", kind="choice", choices=("small", "la\x1brge"), text="Which one?")
    assert summary(event, target="a.db") == (
        "a call waits for an answer to 'model' (small, la rge): Which one? "
        "Answer it with: recovery answer a.db model CHOICE"
    )


def test_a_question_that_is_answered_by_then_is_left_out():
    digest = Digest()
    assert digest.add(asks())
    assert not digest.add(QuestionAnswered(at=1.0, name="token:example.org", kind="secret"))
    assert digest.take(0.0) is None


def test_an_incident_that_is_over_by_then_is_told_as_over_with_its_cause():
    assert summary(OPENED, CLOSED) == (
        "download[a.org] works again after 2 min 5 s, 12 calls waited, 2 of them gave up "
        "(it was: the host cannot be reached)"
    )


def test_an_alert_that_is_cleared_by_then_is_told_as_cleared():
    raised = AlertRaised(at=0.0, operation="render", alert="success", value=0.5, threshold=0.9, count=40)
    cleared = AlertCleared(at=9.0, operation="render", alert="success", value=0.95, threshold=0.93, lasted=9.0)
    assert summary(raised) == "render: success rate 50 % is below 90 % (of 40 calls)"
    assert summary(raised, cleared).startswith("render: success rate 95 % is above 93 % again")


def test_a_call_that_asks_a_person_is_told_once():
    parked = Parked(at=0.0, operation="render", call="r-1", after=0.0, failure=failure(), asks_person=True)
    ended = gave_up(asked=True)
    said = summary(parked, ended, msgspec.structs.replace(parked, asks_person=False))
    assert said.startswith("render failed: the disk is full")
    assert "Retry it, or give it up" in said


def test_a_call_has_the_name_of_the_plan_and_the_command_that_says_more():
    said = summary(gave_up(), target="my launch.toml", name_of=lambda event: f"model of {event.call}")
    assert "download failed (model of r-1)" in said
    assert said.endswith("More: recovery why 'my launch.toml' r-1")


def test_a_name_that_the_operation_has_is_said_once():
    assert summary(gave_up(), name_of=lambda _: "download").startswith("download failed: the disk is full")


def test_the_name_of_the_program_comes_first():
    digest = Digest()
    digest.add(OPENED)
    notification = digest.take(7.0, name="nightly", unsent=3)
    assert notification is not None
    assert notification.summary.splitlines()[0] == "nightly: 1 incident began"
    assert notification.summary.splitlines()[-1] == "3 earlier events could not be notified of"
    assert (notification.name, notification.at, notification.unsent) == ("nightly", 7.0, 3)


def test_after_it_was_taken_a_digest_is_empty():
    digest = Digest()
    digest.add(gave_up())
    assert digest.take(0.0) is not None
    assert (len(digest), digest.take(0.0)) == (0, None)


def test_the_text_for_chats_calls_no_people_and_makes_no_links():
    digest = Digest()
    hostile = "<!channel> @everyone [click](https://evil.example) <https://evil.example|click> (@here) git@a.org"
    digest.add(gave_up(RuntimeError(hostile)))
    notification = digest.take(0.0)
    assert notification is not None
    assert "&lt;!channel&gt; \uff20everyone [click] (https://evil.example) &lt;" in notification.text
    assert "<" not in notification.text
    for said in (notification.text, notification.content):
        assert [word for word in said.split() if "@" in word] == ["git@a.org."]
        assert "](" not in said
    assert hostile in notification.summary
    assert notification.allowed_mentions == {"parse": []}


HOSTILE = st.text(alphabet=st.sampled_from("a \n\r\x1b\u202e\u2066\t<>&'$`{}%"), max_size=30)
SECRET = "hf_abcdefghijklmnopqrstuvwxyz"


@given(st.lists(HOSTILE, max_size=300), HOSTILE)
def test_a_notification_is_bounded_printable_and_without_secrets(texts: list[str], name: str):
    digest = Digest(target=name, name_of=lambda event: event.call)
    kinds: list[Callable[[str], Event]] = [
        lambda text: gave_up(RuntimeError(f"{text} {SECRET}"), call=text),
        lambda text: asks(name=f"q{text}", text=f"{text} {SECRET}"),
        lambda text: IncidentOpened(at=0.0, operation=text, key=SECRET, cause=f"{text} {SECRET}"),
    ]
    for number, text in enumerate(texts):
        digest.add(kinds[number % 3](text))
    notification = digest.take(0.0, name=name)
    if notification is None:
        assert not texts
        return
    for said in (notification.summary, notification.text, notification.content):
        assert all(line.isprintable() for line in said.splitlines())
    assert len(notification.summary.split("\n")) <= MOST_LINES + 1
    assert len(notification.content) <= MOST_CONTENT
    assert SECRET not in msgspec.json.encode(notification).decode()


def test_where_there_is_too_much_the_least_urgent_is_left_out():
    said = summary(*(msgspec.structs.replace(OPENED, key=f"{one}.org") for one in range(MOST_ITEMS)), asks(), gave_up())
    assert said.splitlines()[0] == "1 question waits for an answer, 1 call failed, 98 incidents began"


@pytest.mark.parametrize("number", [1, MOST_ITEMS, 5 * MOST_ITEMS])
def test_every_event_is_in_an_item_or_counted(number: int):
    digest = Digest()
    for one in range(number):
        digest.add(msgspec.structs.replace(OPENED, key=f"{one}.org"))
    assert len(digest) == number
    notification = digest.take(0.0)
    assert notification is not None
    assert len(notification.items) == min(number, MOST_ITEMS)
    assert sum(item.count for item in notification.items) + notification.left_out == number
