"""What people read about a failing call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.event import FOREVER, CallEvent
from events.evidence import Evidence
from events.operation_events import (
    CallLeftPending,
    CallRejected,
    CallSteered,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationInterrupted,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    Parked,
    RetryScheduled,
)
from recovery.explain import MOST, Explanation, duration, explain, telling_argument
from recovery.journal.history import CallRecord, replay
from recovery.policies.classification import classify_evidence
from recovery.redact import hide, unhide
from tests.recovery.policies.test_golden import TABLE, evidence_of


def made(kind: type[CallEvent], **given: Any) -> Any:
    return kind(**{"at": 0.0, "operation": "fetch", "key": "host", "call": "run-1", **given})


def failed(evidence: Evidence | None = None, **given: Any) -> FailureClassified:
    evidence = evidence or Evidence(type="builtins.ConnectionResetError", message="reset", errno=104)
    answer = classify_evidence(evidence)
    about = {"category": answer.category, "rule": answer.rule, "why": answer.why, "evidence": evidence, **given}
    return made(FailureClassified, **about)  # type: ignore[no-any-return]


def outcome(kind: type[CallEvent], evidence: Evidence | None = None, **given: Any) -> Any:
    failure = failed(evidence)
    return made(kind, category=failure.category, failure=failure, **given)


@pytest.mark.parametrize("failure", TABLE, ids=[failure["name"] for failure in TABLE])
def test_a_real_failure_is_told_in_a_sentence_and_in_the_words_of_the_tool(failure: dict[str, Any]) -> None:
    told = explain(failed(evidence_of(failure)))
    stderr = failure.get("stderr", "")
    assert told.sentence == failure.get("sentence", told.sentence) != ""
    assert told.said == failure.get("said", stderr)


@pytest.mark.parametrize(
    ("event", "step"),
    [
        (outcome(RetryScheduled, after=1.34, retry=2, attempt=2), "attempt 2 failed, retry 2 of 5 in 1.3 s"),
        (outcome(RetryScheduled, after=0.0, retry=1), "attempt 1 failed, retry 1 of 5 at once"),
        (outcome(RetryScheduled, after=90.0, retry=6, attempt=9), "attempt 9 failed, retry 6 in 1 min 30 s"),
        (outcome(Parked, after=0.0, why="disk space"), "attempt 1 failed, waits for: disk space"),
        (outcome(Parked, after=0.0, within=3600.0, why="disk"), "attempt 1 failed, waits for: disk, at most 1 h"),
        (outcome(Parked, after=55.0, why="rate limit"), "attempt 1 failed, waits for: rate limit, at least 55 s"),
        (made(Parked, after=6.0, why="rate limit"), "waits for: rate limit; asks again in 6 s at the latest"),
        (made(Parked, after=6.0, why="circuit open: fetch[host]"), "waits for: circuit open: fetch[host]"),
        (made(Parked, after=FOREVER, why="the queue"), "waits for: the queue"),
        (outcome(GaveUp, reason="out of retries (5)", attempt=6), "gave up after 6 attempts: out of retries (5)"),
        (outcome(GaveUp, reason="permanent", attempt=1), "gave up after 1 attempt: permanent"),
        (made(CallRejected, reason="busy", retry_after=30.0), "not started: busy; a new call may begin in 30 s"),
        (made(CallRejected, reason="closed"), "not started: closed"),
        (made(OperationResumed, attempt=3, after=0.0), "resumed with attempt 3 at once"),
        (made(OperationRecovered, attempt=3, elapsed=7.25), "recovered with attempt 3 after 7.2 s"),
        (
            made(OperationInterrupted, attempt=3),
            "stays pending: another caller, or the next run, goes on with attempt 3",
        ),
        (made(CallLeftPending, reason="it is unknown here"), "stays pending: it is unknown here"),
        (made(OperationQuarantined, reason="3 crashes"), "quarantined: 3 crashes"),
        (made(OperationCancelled, attempt=2), "cancelled in attempt 2"),
        (made(OperationCancelled, attempt=2, waiting=True), "cancelled while it waited"),
        (made(CallSteered, command="pause"), "command: pause"),
        (made(CallSteered, command="give up", reason="late"), "command: give up (late)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, CallEvent) else "",
)  # fmt: skip
def test_the_next_step_is_told_with_its_time(event: CallEvent, step: str) -> None:
    assert explain(event, most_retries=5).step == step


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.0, "0 s"), (0.123, "0.12 s"), (9.96, "10 s"), (59.6, "1 min"), (125.0, "2 min 5 s"), (3600.0, "1 h"),
        (90000.0, "1 d 1 h"),
    ],
)  # fmt: skip
def test_seconds_are_told_in_units_that_people_use(amount: float, text: str) -> None:
    assert duration(amount) == text


def test_a_log_line_begins_with_the_call_and_what_its_failure_means() -> None:
    evidence = Evidence(
        type="subprocess.CalledProcessError",
        message="exit status 128",
        exit_code=128,
        stderr="hint: no\nfatal: early EOF",
    )
    told = explain(outcome(RetryScheduled, evidence, after=2.0, retry=1, idempotency_key="models/a"))
    assert told.line == (
        "fetch[host] run-1 (models/a): the transfer broke off (transient): fatal: early EOF; "
        "CalledProcessError: exit status 128; attempt 1 failed, retry 1 in 2 s"
    )
    assert told.short == "the transfer broke off: fatal: early EOF"


def test_a_failure_that_was_not_classified_is_called_so() -> None:
    assert explain(made(GaveUp, reason="no subscriber answered")).line == (
        "fetch[host] run-1: an error that was not classified; gave up after 1 attempt: no subscriber answered"
    )


def test_a_cause_speaks_where_the_error_around_it_has_no_output() -> None:
    died = Evidence(type="subprocess.CalledProcessError", exit_code=128, stderr="fatal: early EOF")
    assert (
        explain(failed(Evidence(type="launcher.CloneError", message="no clone", cause=died))).said == "fatal: early EOF"
    )


def test_what_the_exception_says_already_is_not_said_twice() -> None:
    error = Evidence(type="git.GitError", message="git: fatal: early EOF", exit_code=128, stderr="fatal: early EOF")
    assert explain(failed(error)).said == ""


@pytest.mark.parametrize(
    ("args", "kwargs", "which"),
    [
        ((), {}, ""),
        ((7, "https://example.org/m"), {}, "https://example.org/m"),
        ((object(), Path("a/b"), "c"), {}, "a/b"),
        ((["a"], True, None), {"size": 3}, "size=3"),
        (({"text": "x", "name": "cat"},), {}, "cat"),
        (({"$secret": "env:TOKEN"}, {"$path": "a/b"}), {}, "a/b"),
        ((Decimal("0.50"), date(2026, 5, 1)), {}, "0.50"),
        ((), {"password": "hunter22", "user": "ann"}, "password=***"),
        (("https://ann:hunter22@example.org",), {}, "https://***@example.org"),
        (("x" * 300,), {}, f"{'x' * 99}\u2026"),
    ],
)
def test_calls_are_told_apart_by_an_argument(args: tuple[object, ...], kwargs: dict[str, object], which: str) -> None:
    assert telling_argument(args, kwargs) == which


def test_a_key_tells_calls_apart_before_an_argument_does() -> None:
    arguments = msgspec.Raw(b'[["https://example.org/m"],{}]')
    assert explain(made(OperationStarted, arguments=arguments)).which == "https://example.org/m"
    assert explain(made(OperationStarted, arguments=arguments, idempotency_key="m-1")).which == "m-1"


def test_arguments_that_cannot_be_read_tell_nothing() -> None:
    assert explain(made(OperationResumed, arguments=msgspec.Raw(b"[7]"))).which == ""


def test_an_argument_of_megabytes_is_not_read_whole() -> None:
    began = time.perf_counter()
    assert telling_argument(["pass the token, " * 1_000_000], {}).startswith("pass the token, pass")
    assert time.perf_counter() - began < 0.5  # reading it takes two seconds


def test_an_argument_that_is_no_text_does_not_keep_the_others_back() -> None:
    assert telling_argument([10**5000, "a.bin"], {}) == "a.bin"


def test_a_record_of_the_journal_tells_the_same_as_the_event() -> None:
    started = made(OperationStarted, arguments=msgspec.Raw(b'[["a.bin"],{}]'))
    record = replay({}, "run", [started, failed()])["run-1"]
    assert record.explain(left=1.25).line == (
        "fetch[host] run-1 (a.bin): the connection broke off (transient): ConnectionResetError: reset; "
        "waits, attempt 2 in 1.2 s"
    )


@pytest.mark.parametrize(
    ("event", "step"),
    [
        (made(OperationStarted, attempt=2), "attempt 2 runs"),
        (made(OperationQuarantined, reason="3 crashes"), "quarantined: 3 crashes"),
        (made(GaveUp, attempt=4, reason="out of retries (3)"), "gave up after 4 attempts: out of retries (3)"),
        (made(OperationRecovered, attempt=2), "succeeded with attempt 2"),
        (made(OperationCancelled), "cancelled"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, CallEvent) else "",
)
def test_a_record_tells_where_the_call_stands(event: CallEvent, step: str) -> None:
    assert replay({}, "run", [event])["run-1"].explain().step == step


def test_a_record_keeps_its_latest_failure_unless_the_call_succeeded() -> None:
    def record_of(*events: CallEvent) -> CallRecord:
        return replay({}, "run", events)["run-1"]

    later = failed(attempt=2)
    assert record_of(failed(), made(RetryScheduled, after=1.0, retry=1), later, made(GaveUp)).failure is later
    assert record_of(failed(), made(OperationRecovered, attempt=2)).failure is None


@pytest.fixture
def hidden() -> Iterator[Callable[[str], object]]:
    yield hide
    unhide()


def test_no_line_of_a_secret_is_told(hidden: Callable[[str], object]) -> None:
    hidden("ab12\nERROR: cd34ef56\n78")
    stderr = "fatal: refused\nab12\nERROR: cd34ef56\n78"
    assert "cd34ef56" not in explain(failed(Evidence(type="a.Error", exit_code=1, stderr=stderr))).said


def test_a_secret_that_only_the_whole_line_holds_is_not_told(hidden: Callable[[str], object]) -> None:
    hidden("reset; attempt 1")
    assert "***" in explain(failed()).line


SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=24)
TEXTS = st.lists(st.sampled_from(["SECRET", "a\nb", "\x1b[31m", "\r", "fatal: ", "\u202e", "x: "])).map("".join)


@given(SECRETS, TEXTS, TEXTS, TEXTS)
def test_nothing_that_is_told_holds_a_secret_or_a_control_character(
    secret: str, one: str, two: str, three: str
) -> None:
    one, two, three = (text.replace("SECRET", secret) for text in (one, two, three))
    unhide()
    hide(secret)
    evidence = Evidence(type="a.Error", message=one, exit_code=1, stderr=two)
    failure = failed(evidence, why=three)
    told = explain(made(GaveUp, failure=failure, reason=three, idempotency_key=one, operation=two), args=(three,))
    plain = explain(made(OperationResumed, operation=two, key=three), args=(three,), kwargs={"a": secret}, step=one)
    unhide()
    for parts in (told, plain):
        texts = [getattr(parts, name) for name in Explanation.__struct_fields__]
        for text in (*texts, parts.line, parts.short, parts.cause, parts.identity):
            assert text.isprintable()
            assert secret not in text or secret in "*** \u2026"
        assert all(len(text) <= MOST for text in texts)
