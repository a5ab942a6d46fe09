"""Questions and answers: journalled, shared by all processes of a journal, secret ones in memory only."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events import (
    Bus,
    CallRejectedError,
    Category,
    Event,
    Parked,
    QuestionAnswered,
    QuestionAsked,
    QuestionReopened,
    Remedy,
)
from events.errors import NeedsPerson
from events.evidence import Evidence
from events.operation_events import FailureClassified
from recovery import JournalConfig, Recovery, RetryPolicy, Rule, Secret, Strategy
from recovery.policies.backoff import Constant
from recovery.questions import Questions
from recovery.testing import Script, VirtualClock
from recovery.waiting.calls import WaitingCalls
from tests.recovery.resume.dead_process import Killed, kill_at
from tests.recovery.waiting.parked import parks, run, steered

QUICK = JournalConfig(command_interval=0.01)


def service_at(path: Path, **options: Any) -> Recovery:
    return Recovery(store=SQLiteStore(path), journal_config=QUICK, **options)


def soon(is_true: Callable[[], object]) -> bool:
    end = time.monotonic() + 5.0
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def test_an_answer_outlasts_a_restart(tmp_path: Path) -> None:
    with service_at(tmp_path / "calls.db") as service:
        service.calls.question("gpu", "choice", ["0", "1"])
        service.calls.answer("gpu", "1")
        service.calls.answer("licence")
    with service_at(tmp_path / "calls.db") as service:
        assert soon(lambda: service.calls.is_answered("licence"))
        assert (service.calls.answered("gpu"), service.calls.answered("licence")) == ("1", True)


def test_an_answer_reaches_a_call_that_waits_in_another_process_of_the_journal(tmp_path: Path) -> None:
    with service_at(tmp_path / "calls.db") as service, service_at(tmp_path / "calls.db") as other:
        fetch = service.recoverable("fetch", policy=parks(service.calls.question("where", "text")))(
            Script(ConnectionError())
        )
        thread = threading.Thread(target=fetch, daemon=True)
        thread.start()
        assert soon(service.calls.questions)
        assert service.journal is not None
        service.journal.receipt().wait()  # a text for a question that no journal knows may be a secret, and stays
        other.calls.answer("where", "here")
        thread.join(5.0)
        assert service.calls.answered("where") == "here"
        with service_at(tmp_path / "calls.db") as later:  # a process that starts afterwards, while both live
            assert soon(lambda: later.calls.answered("where") == "here")


def test_a_secret_answer_is_neither_written_nor_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    events: list[object] = []
    with service_at(tmp_path / "calls.db", enable_logging=True) as service:
        service.bus.subscribe((QuestionAsked, QuestionAnswered), events.append)
        assert not service.calls.question("token", "secret").is_met()
        service.calls.answer("token", "hunter2-hunter2")
        service.calls.answer("other", "hunter2-hunter2")  # no call has asked it: it may be a secret
        assert (service.calls.answered("token"), service.calls.answered("other")) == ("hunter2-hunter2",) * 2
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"QuestionAnswered" in written
    assert b"hunter2" not in written
    assert "hunter2" not in caplog.text + repr(events)
    with service_at(tmp_path / "calls.db") as service:
        service.calls.answer("public")
        assert soon(lambda: service.calls.is_answered("public"))
        assert not service.calls.is_answered("token")  # it is asked again


def written_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_secret_of_a_question_that_another_process_asked_is_not_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_alive: bool
) -> None:
    with service_at(tmp_path / "calls.db") as service:
        service.calls.question("token", "secret").is_met()
        assert soon(lambda: b"QuestionAsked" in written_in(tmp_path))
        if not is_alive:
            service.close()
        with service_at(tmp_path / "calls.db") as other:
            other.calls.answer("token", "hunter2-hunter2")  # at once: it has read nothing yet
            assert other.calls.answered("token") == "hunter2-hunter2"
        assert not service.calls.is_answered("token")
    assert b"QuestionAnswered" in written_in(tmp_path)
    assert b"hunter2" not in written_in(tmp_path)
    assert "the answer to the question 'token' stays in this process, because the question asks for a" in caplog.text


def test_an_answer_is_not_written_while_it_is_not_known_whether_it_is_a_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unreadable(MemoryStore):
        async def questions(self) -> NoReturn:
            raise OSError("broken")

    store = Unreadable()
    with Recovery(store=store) as service:
        service.calls.question("ours", "text")
        service.calls.answer("ours", "yes")
        service.calls.answer("token", "hunter2")
    assert [b"hunter2" in row.body or b"yes" in row.body for row in store.rows] == [True, False]
    assert "the question may ask for a secret (the journal could not be read)" in caplog.text


def test_a_question_that_another_process_calls_secret_is_secret_here(tmp_path: Path) -> None:
    with service_at(tmp_path / "calls.db") as service, service_at(tmp_path / "calls.db") as other:
        service.calls.question("token", "secret").is_met()
        service.calls.answer("public")
        assert soon(lambda: other.calls.is_answered("public"))
        events: list[QuestionAnswered] = []
        other.bus.subscribe(QuestionAnswered, events.append)
        other.calls.answer("token", "hunter2")
        assert [bytes(event.value) for event in events] == [b""]


def test_the_questions_that_calls_wait_for_are_listed() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    asked = service.calls.question("licence", text="Accept the licence.", link="https://example.org")
    service.calls.question("unasked")
    published: list[object] = []
    service.bus.subscribe(QuestionAsked, published.append)

    def act(call: str) -> None:
        [question] = service.calls.questions()
        assert (question.name, question.calls, question.since) == ("licence", (call,), 0.0)
        assert (question.text, question.link) == ("Accept the licence.", "https://example.org")
        service.calls.answer("licence")
        assert service.calls.questions() == []

    assert steered(service, Script(ConnectionError()), act, policy=parks(asked)) == []
    assert published == [QuestionAsked(at=0.0, name="licence", text="Accept the licence.", link="https://example.org")]


CHOICE = ("choice", ("a", "b"))
WRONG: list[tuple[tuple[Any, ...], object, str]] = [
    (("confirm",), "yes", "True or False, not a str"),
    (CHOICE, "hunter2", "one of 'a', 'b'"),
    (CHOICE, True, "one of 'a', 'b', not a bool"),
    (("text",), 5, "a text, not a int"),
    (("text",), "\ud800", "no Unicode text"),
    (("text",), Secret("env:A"), "a text, not a Secret"),
    (("secret",), b"hunter2", "a text, or a Secret that says where it is, not a bytes"),
    (("secret",), "", "is empty"),
    ((), {"a": 1}, "True, False, a text or a Secret, not a dict"),
]


@pytest.mark.parametrize(("question", "value", "problem"), WRONG, ids=lambda value: str(value)[:9])
def test_an_answer_that_does_not_fit_the_question_is_refused(
    question: tuple[Any, ...], value: Any, problem: str
) -> None:
    service = Recovery()
    if question:
        service.calls.question("q", *question)
    with pytest.raises((TypeError, ValueError), match=f"the answer to 'q' .*{problem}$") as raised:
        service.calls.answer("q", value)
    assert "hunter2" not in str(raised.value)
    assert not service.calls.is_answered("q")


def test_a_question_needs_a_name() -> None:
    service = Recovery()
    with pytest.raises(ValueError, match="the name of a question must not be empty"):
        service.calls.question("")
    with pytest.raises(TypeError, match="the link of a question must be a text, not 1"):
        service.calls.question("licence", link=1)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"the kind of the question 'a' must be one of 'confirm', 'choice', .*not 'pin'"
    ):
        service.calls.question("a", "pin")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the question 'a' needs choices"):
        service.calls.question("a", "choice")
    with pytest.raises(ValueError, match="the question 'a' is answered by a text, and has no choices"):
        service.calls.question("a", "text", ["b"])
    with pytest.raises(TypeError, match="the choices of the question 'a' must be texts that are not empty, not 'bc'"):
        service.calls.question("a", "choice", "bc")
    with pytest.raises(TypeError, match="the reason to ask 'a' again must be a text that is not empty, not ''"):
        service.calls.reopen("a", "")
    with pytest.raises(TypeError, match="the name of a question must be a text that is not empty, not None"):
        service.calls.answer(None)  # type: ignore[arg-type]


def questions() -> Questions:
    clock = VirtualClock()
    return Questions(Bus(clock=clock), WaitingCalls(clock, lambda: 0.0), lambda: True, wall=lambda: 100.0)


def test_a_later_answer_of_this_process_counts_however_the_clock_is_set() -> None:
    known = questions()
    known.update([answered("licence", "old", 200.0)])  # the wall clock has been set back since
    known.answer("licence", "new")
    assert known.answered("licence") == "new"
    known.update([answered("licence", "old", 200.0)])
    assert known.answered("licence") == "new"


def answered(name: str, value: bool | str, at: float) -> QuestionAnswered:
    return QuestionAnswered(at=0.0, name=name, value=msgspec.Raw(msgspec.json.encode(value)), answered=at)


def reopened(name: str, at: float) -> QuestionReopened:
    return QuestionReopened(at=0.0, name=name, answered=at, reason=f"refused {at}")


HISTORY = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.booleans()), unique_by=lambda one: one[1], max_size=6
)


@settings(max_examples=50)
@given(HISTORY, st.randoms(use_true_random=False))
def test_processes_agree_on_an_answer_in_any_order_of_arrival(given: Any, random: Any) -> None:
    """The latest answer counts, unless it was refused; a refusal never drops a later answer."""
    events: list[Event] = [answered(name, f"{name}{at}", at) for name, at, _ in given]
    events += [reopened(name, at) for name, at, is_refused in given if is_refused]
    known = questions()
    for event in random.sample(events, len(events)) + random.sample(events, len(events)):
        known.update([event])
    for name in "ab":
        _, at, is_refused = max((one for one in given if one[0] == name), key=lambda one: one[1], default=(0, 0, True))
        assert known.answered(name) == (None if is_refused else f"{name}{at}")


def test_a_refused_answer_is_asked_again_with_the_reason() -> None:
    service = Recovery(clock=VirtualClock())
    asked = service.calls.question("where", "text")
    published: list[object] = []
    service.bus.subscribe(
        (QuestionAsked, QuestionReopened), lambda event: published.append((type(event), event.reason))
    )

    service.calls.answer("where", "there")
    assert service.calls.reopen("where", "there is no such place", refused="there")
    assert service.calls.answered("where") is None
    assert not service.calls.reopen("where", "there is no such place")

    def act(_: str) -> None:
        [question] = service.calls.questions()
        assert (question.kind, question.reason) == ("text", "there is no such place")
        service.calls.answer("where", "here")
        assert not service.calls.reopen("where", "late", refused="there")
        assert service.calls.answered("where") == "here"

    steered(service, Script(ConnectionError()), act, policy=parks(asked))
    assert published == [(QuestionReopened, "there is no such place"), (QuestionAsked, "there is no such place")]


def test_a_refused_answer_is_dropped_in_every_process(tmp_path: Path) -> None:
    with service_at(tmp_path / "calls.db") as service, service_at(tmp_path / "calls.db") as other:
        service.calls.question("licence").is_met()
        other.calls.answer("licence")
        assert soon(lambda: service.calls.is_answered("licence"))
        assert service.calls.reopen("licence", "still refused: 403")
        assert soon(lambda: not other.calls.is_answered("licence"))
    with service_at(tmp_path / "calls.db") as later:
        later.calls.answer("public")
        assert soon(lambda: b"public" in written_in(tmp_path))
        assert not later.calls.is_answered("licence")


def test_no_ends_the_calls_that_wait_or_come_to_wait() -> None:
    service = Recovery(clock=VirtualClock())
    asked = service.calls.question("licence")
    [error] = steered(
        service, Script(ConnectionError()), lambda _: service.calls.answer("licence", False), policy=parks(asked)
    )
    assert "the answer to 'licence' is no" in "".join(error.__notes__)
    assert service.calls.answered("licence") is False
    with pytest.raises(ConnectionError):
        run("plain", service, Script(ConnectionError()), policy=parks(asked))
    with pytest.raises(CallRejectedError):
        service.recoverable("load", before=asked)(Script())()
    service.calls.answer("licence")
    run("plain", service, Script(ConnectionError()), policy=parks(asked))


def gated(remedy: Remedy) -> Rule:
    return Rule("gated", Category.AUTH, types=(PermissionError,), remedy=remedy)


REMEDY = Remedy("Accept the licence.", link="https://example.org/m?token=abc", question="licence accepted")


def test_a_failure_is_parked_on_the_question_of_its_remedy() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    asks = Strategy(wait_for=(service.calls.question_of,), backoff=Constant(0.0))
    policy = RetryPolicy(max_retries=1, per_category={Category.AUTH: asks})

    def act(_: str) -> None:
        [question] = service.calls.questions()
        assert (question.name, question.text) == ("licence accepted", "Accept the licence.")
        service.calls.answer("licence accepted")

    script = Script(PermissionError("gated"))
    assert steered(service, script, act, policy=policy, classifier=gated(REMEDY)) == []
    assert service.calls.answered("licence accepted") is True
    other = FailureClassified(at=0.0, call="c", category=Category.AUTH, evidence=Evidence(type="E"), rule="other")
    assert service.calls.question_of(other) is None


@pytest.mark.parametrize("had_answer", [True, False])
def test_the_question_of_a_remedy_is_asked_again_if_the_answer_did_not_help(*, had_answer: bool) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    remedy = Remedy("Choose one.", question="which", kind="choice", choices=("a", "b"))
    service.calls.question("which", "choice", ["a", "b"])
    service.calls.answer("which", "a")
    failure = FailureClassified(
        at=clock(),
        call="c",
        category=Category.AUTH,
        evidence=Evidence(type="E", message="denied"),
        remedy=remedy,
        elapsed=0.0 if had_answer else 1.0,
    )
    assert service.calls.question_of(failure) == service.calls.question("which")
    assert service.calls.answered("which") == (None if had_answer else "a")
    service.calls.question_of(failure)  # of the next attempt, which had an answer that came during the first one
    assert service.calls.answered("which") is None


def test_a_call_that_needs_a_person_asks_again_after_a_restart_and_goes_on_with_the_answer() -> None:
    store, needs = MemoryStore(), NeedsPerson("401", remedy=REMEDY)

    def asks(service: Recovery) -> dict[str, Any]:
        strategy = Strategy(wait_for=(service.calls.question_of,), backoff=Constant(0.0))
        return {"policy": RetryPolicy(per_category={Category.AUTH: strategy}), "resumable": True}

    with Recovery(store=store) as service:
        kill_at(service, Parked)
        with pytest.raises(Killed):
            service.recoverable("work", **asks(service))(Script(needs))()
    with Recovery(store=store) as service:
        service.recoverable("work", **asks(service))(Script(needs, "done"))
        resumption = service.resume()
        assert soon(service.calls.questions)
        service.calls.answer(REMEDY.question)
        assert resumption.wait(5.0)
        assert [call.result for call in resumption.calls] == ["done"]


def test_a_remedy_is_shown_where_the_failure_is_explained() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service, pytest.raises(PermissionError) as raised:
        run("plain", service, Script(*[PermissionError("gated")] * 9), max_retries=0, classifier=gated(REMEDY))
    [note] = [note for note in raised.value.__notes__ if "remedy: " in note]
    assert note == "recovery: fetch remedy: Accept the licence. https://example.org/m?token=***"
    [body] = [row.body for row in store.rows if row.kind == "FailureClassified"]
    assert b'"remedy":{"sentence":"Accept the licence."' in body
    assert b"token=abc" not in body
    with pytest.raises(ValueError, match="the question 'which' of a remedy needs choices"):
        Remedy("Choose one.", question="which", kind="choice")
    with pytest.raises(TypeError, match="remedy must be a Remedy, not 'Accept'"):
        gated("Accept")  # type: ignore[arg-type]


def test_a_question_is_asked_before_the_delay_of_its_call_is_over() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, enable_logging=False)
    seen: list[tuple[str, float]] = []
    service.bus.subscribe((Parked, QuestionAsked), lambda event: seen.append((type(event).__name__, clock())))
    service.bus.subscribe(QuestionAsked, lambda event: service.calls.answer(event.name))
    asks = Strategy(backoff=Constant(30.0), jitter="none", wait_for=(service.calls.question("licence"),))
    fetch = service.recoverable("fetch", policy=RetryPolicy(per_category={Category.TRANSIENT: asks}))(
        Script(ConnectionError("reset"), "a page")
    )
    assert fetch() == "a page"
    assert seen == [("Parked", 0.0), ("QuestionAsked", 0.0)]
    assert clock() == 30.0


def test_ctrl_c_while_a_question_is_asked_leaves_no_call_waiting() -> None:
    def interrupt(_: QuestionAsked) -> NoReturn:
        raise KeyboardInterrupt

    service = Recovery(clock=VirtualClock(), enable_logging=False)
    service.bus.subscribe(QuestionAsked, interrupt)
    fetch = service.recoverable("fetch", policy=parks(service.calls.question("licence")))(Script(ConnectionError()))
    with pytest.raises(KeyboardInterrupt):
        fetch()
    assert service.calls.waiting() == []
