"""What failures mean, and what a person can do: the laws of the table, and what is filled in."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import adapters
from events.errors import RecoveryError
from events.event import CallEvent
from events.evidence import Category, Evidence, Remedy, Room
from events.operation_events import (
    CallRejected,
    CallSteered,
    FailureClassified,
    GaveUp,
    OperationQuarantined,
    OperationRecovered,
    OperationResumed,
    OperationStarted,
    Parked,
    RetryScheduled,
)
from recovery.explain import Explanation, explain
from recovery.journal.history import replay
from recovery.policies.causes_of_rules import BY_STATUS as STATUS_CAUSES
from recovery.policies.causes_of_rules import cause_of
from recovery.policies.classification import BY_ERRNO, BY_STATUS, BY_TYPE, classify_evidence
from recovery.policies.error_messages import PROCESSES
from recovery.policies.libraries import BY_CODE
from recovery.policies.sentence import DETAILS, fill, problem_of
from recovery.policies.sentences import ENGLISH, NEXT, NEXT_DETAILS
from recovery.presets import UNDECODABLE
from tests.recovery.test_explain import failed, made, outcome

BY_HAND = ("unknown error", "classification is off", "classifier", "retry_on", "retry_if_error", "retry_if")


def built_in() -> Iterator[tuple[str, str, str]]:
    """The category, the rule and the class of a failure for each built-in rule."""
    evidence = [Evidence(type="builtins.OSError", errno=number) for number in BY_ERRNO]
    evidence += [Evidence(type=kind) for kind in BY_TYPE]
    evidence += [Evidence(type="a.Error", status=status) for status in {*BY_STATUS, *STATUS_CAUSES, 300, 499, 599}]
    evidence += [Evidence(type="a.Error", code=code) for code in BY_CODE]
    evidence += [Evidence(type="a.Error", exit_code=code) for code in (-9, -15, -11, -45, 1, 126, 127, 137, 0xC0000005)]
    for one in evidence:
        answer = classify_evidence(one)
        yield answer.category, answer.rule, one.type
    yield from ((one.category, one.name, "a.Error") for one in (*PROCESSES, UNDECODABLE))
    yield from (("transient", rule, "a.Error") for rule in (*BY_HAND, "Retryable"))
    yield from (("permanent", "Permanent", "a.Error"), ("auth", "NeedsPerson", "a.Error"))


def test_every_built_in_rule_has_a_sentence_and_a_step() -> None:
    for category, rule, kind in built_in():
        cause, _ = cause_of(Category(category), rule, kind)
        assert ENGLISH[cause].sentence, rule
        assert ENGLISH[cause].step, rule
        means_category_alone = cause == category != "cancelled"
        assert not means_category_alone or rule.startswith("code "), rule


@pytest.mark.parametrize("category", Category)
def test_a_rule_of_the_users_means_its_category_and_is_named(category: Category) -> None:
    told = explain(failed(category=category, rule="licence", why=""))
    assert told.sentence == fill(ENGLISH[category].sentence, {"rule": "rule licence"}).replace(": rule", ":")
    assert told.remedy == ENGLISH[category].step != ""


def test_a_rule_of_the_users_that_gives_a_reason_speaks_for_itself() -> None:
    told = explain(failed(category=Category.AUTH, rule="licence", why="the licence must be accepted"))
    assert told.plain == "The licence must be accepted. Log in, or ask for the right."


def own_errors(kind: type[Exception] = RecoveryError) -> Iterator[type[Exception]]:
    for module in pkgutil.walk_packages(adapters.__path__, "adapters."):
        if "__main__" not in module.name:
            importlib.import_module(module.name)
    todo = [kind]
    while todo:
        todo += todo[0].__subclasses__()
        yield todo.pop(0)


def test_every_error_of_this_distribution_has_a_sentence_of_its_own() -> None:
    kinds = [kind for kind in own_errors() if kind.__module__.partition(".")[0] in ("adapters", "recovery")]
    assert len(kinds) > 40
    without = [
        kind.__name__
        for kind in kinds
        if cause_of(Category.PERMANENT, "Permanent", f"{kind.__module__}.{kind.__qualname__}")[0] == "no-use"
    ]
    assert without == []


def test_every_sentence_is_short_and_every_step_is_whole_sentences() -> None:
    for text in (text for texts in ENGLISH.values() for text in texts):
        assert problem_of(text, DETAILS) == "", text
        assert text == text.strip(), text
        assert len(text) <= 140, text
        assert text.isprintable(), text
    for sentence, *wholes in ENGLISH.values():
        assert not sentence.endswith("."), sentence
        for whole in filter(None, wholes):
            assert whole[0].isupper(), whole
            assert whole.endswith((".", ".]")), whole


def test_what_is_said_of_a_calls_state_is_whole_too() -> None:
    assert [problem for text in NEXT.values() if (problem := problem_of(text, NEXT_DETAILS))] == []


TEXTS = st.lists(st.sampled_from(["{host}", "[", "]", "{", "a b", "\n", "\u202e", "'", "x" * 200])).map("".join)


@given(st.sampled_from(sorted(ENGLISH)), st.dictionaries(st.sampled_from(sorted(DETAILS)), TEXTS))
def test_no_name_stays_open_and_no_detail_is_read_as_a_template(cause: str, details: dict[str, str]) -> None:
    for template in ENGLISH[cause]:
        bare = fill(template, {name: "#" for name, text in details.items() if text})
        assert not set(bare) & set("[]{}")
        filled = fill(template, details)
        parts = bare.split("#")
        assert filled.startswith(parts[0])
        assert filled.endswith(parts[-1])


@given(
    st.sampled_from(Category), st.text() | st.sampled_from(["status \u00b2", "exit --1", "exception 0xg", "signal "])
)
def test_any_rule_leads_to_a_cause(category: Category, rule: str) -> None:
    assert cause_of(category, rule)[0] in ENGLISH


FULL = Evidence(type="adapters.downloads.space.NoRoomError", errno=28, room=Room("models", 6_200_000_000))


def test_a_full_disk_is_told_with_the_room_that_is_missing() -> None:
    assert explain(outcome(Parked, FULL, after=0.0, why="room")).plain == (
        "The disk is full: 6.2 GB more are needed in models. Free some space on the disk of models. "
        "It goes on by itself once there is room."
    )


def test_a_disk_with_too_little_room_is_told_with_what_is_free_and_what_must_be_freed() -> None:
    room = msgspec.structs.replace(
        FULL, message="a needs 6.2 GB more; the disk of models has 1.5 GB free of 9 GB; wait"
    )
    assert explain(outcome(Parked, room, after=0.0, why="room")).plain == (
        "There is too little room on the disk of models: 6.2 GB are needed, 1.5 GB are free. "
        "Free some space, at least 4.7 GB, on the disk of models. It goes on by itself once there is room."
    )
    claimed = msgspec.structs.replace(FULL, message="the disk has 5 GB free of 9 GB, and other downloads claim 3 GB")
    assert explain(outcome(Parked, claimed, after=0.0, why="room")).sentence == explain(failed(FULL)).sentence


def error(kind: str, message: str, **known: Any) -> Evidence:
    return Evidence(type=kind, message=message, **known)


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (failed(error("httpx2.ConnectError", "all failed"), key="hub.org:443"), "the host hub.org was not reached"),
        (failed(error("httpx2.ConnectError", "x"), key="hub.org:8443"), "the host hub.org:8443 was not reached"),
        (failed(error("httpx2.ConnectError", "x"), key="[::1]:80"), "the host [::1] was not reached"),
        (failed(error("httpx2.ConnectError", "x"), key="cat"), "the host was not reached"),
        (
            failed(error("E", "for url 'https://hub.org/m'", status=404)),
            "the server hub.org has no such file or page (HTTP 404)",
        ),
        (
            failed(error("E", "", status=429), retry_after=90.0, key=""),
            "the server wants fewer requests (HTTP 429), and a wait of 1 min 30 s",
        ),
        (
            failed(error("builtins.FileNotFoundError", "[Errno 2] No such file or directory: 'a/b'", errno=2)),
            "there is no such file or folder: a/b",
        ),
        (failed(error("builtins.FileNotFoundError", "2", errno=2)), "there is no such file or folder"),
        (failed(error("builtins.ModuleNotFoundError", "No module named 'torch'", kinds=("builtins.ImportError",))),
         "a module (torch) cannot be imported"),
        (failed(error("P", "", exit_code=1, stderr="OSError: [Errno 98] ('::', 8188): address already in use")),
         "the port 8188 is taken"),
        (failed(error("P", "", exit_code=1, stderr="ERROR: No matching distribution found for nonsuch==1")),
         "there is no such package for this Python: nonsuch==1"),
        (failed(error("P", "", exit_code=-9)), "the process was killed (SIGKILL)"),
        (failed(error("P", "", exit_code=2)), "the command failed (exit code 2)"),
        (failed(error("E", "", code="SlowDown")), "the server wants fewer requests (SlowDown)"),
        (failed(error("adapters.x.WrongContentError", "sha", kinds=("events.errors.Permanent",))),
         "the file is not the one that was promised"),
    ],
)  # fmt: skip
def test_a_sentence_names_what_the_evidence_knows(failure: FailureClassified, sentence: str) -> None:
    assert explain(failure).sentence == sentence


STEP = "Check the network connection."
FAILING = "If it keeps failing: check the network connection."
RESTART = "It goes on when its program is started again."
GONE = "It goes on by itself once its cause is gone."
LOST = "No process can go on with it: give it up, and start it again."
FREE = "Look for what ended its processes. Then free it, or give it up."
BEGUN = made(OperationStarted, arguments=msgspec.Raw(b"[[1],{}]"))


@pytest.mark.parametrize(
    ("told", "remedy"),
    [
        (explain(failed()), STEP),
        (
            explain(outcome(RetryScheduled, after=1.0, retry=1)),
            f"It is tried again by itself. {FAILING}",
        ),
        (explain(outcome(Parked, after=1.0)), f"{STEP} {GONE}"),
        (explain(outcome(Parked, after=1.0, asks_person=True)), f"{STEP} Retry it, or give it up."),
        (explain(outcome(GaveUp)), f"{STEP} Then start it again."),
        (explain(failed(), stands="left"), f"{STEP} {RESTART}"),
        (explain(made(Parked, after=1.0, why="the queue")), ""),
        (explain(made(CallRejected, reason="busy")), ""),
        (explain(made(OperationResumed, after=1.0)), ""),
    ],
)
def test_the_remedy_tells_what_happens_by_itself_where_the_call_stands(told: Explanation, remedy: str) -> None:
    assert told.remedy == remedy


def test_what_the_failure_asks_of_a_person_counts_more_than_the_table() -> None:
    remedy = Remedy("Accept the licence.", link="https://hub.org/m", question="licence")
    failure = failed(category=Category.AUTH, rule="NeedsPerson", remedy=remedy)
    told = explain(made(Parked, after=0.0, category=Category.AUTH, failure=failure, why="the answer"))
    assert told.asked == "Accept the licence. https://hub.org/m"
    assert told.remedy == f"{told.asked} It goes on by itself once that is answered."


@pytest.mark.parametrize(
    ("asks", "step"), [("Start it", "Start it."), ("Yes or no?", "Yes or no?"), ("See https://hub.org/m", None)]
)
def test_what_a_failure_asks_becomes_a_whole_sentence(asks: str, step: str | None) -> None:
    failure = failed(category=Category.AUTH, rule="NeedsPerson", remedy=Remedy(asks, question="q"))
    told = explain(failure, stands="waits")
    assert told.remedy == f"{step or asks} It goes on by itself once that is answered."


def test_a_log_line_has_no_step_of_the_table() -> None:
    told = explain(outcome(GaveUp))
    assert STEP in told.remedy
    assert STEP not in told.line


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [
        (
            failed(error("adapters.x.BrokenPackagesError", "", kinds=("events.errors.Permanent",))),
            f"{ENGLISH['pip-broke'].step} Do that in your program or plan, and run that again.",
        ),
        (failed(error("P", "", exit_code=-11)), f"{ENGLISH['crashed'].step} Start it again once that is corrected."),
    ],
)
def test_what_must_be_changed_first_is_said_where_a_call_has_ended(failure: FailureClassified, remedy: str) -> None:
    assert explain(failure, stands="ended").remedy == remedy


def test_what_is_in_the_way_is_named() -> None:
    message = (
        "another git process is there, as /a/.git/index.lock is there and process 7 (git gc), which runs, works there"
    )
    evidence = error(
        "adapters.git.locks.LockedError", message, stderr="fatal: Unable to create 'x/index.lock': File exists"
    )
    told = explain(failed(evidence, rule="git-lock"), stands="retries")
    assert told.remedy == (
        "It is tried again by itself. If it keeps failing: end that command, process 7 (git gc); "
        "if there is none, delete the lock: /a/.git/index.lock."
    )


@pytest.mark.parametrize(
    ("events", "is_alive", "remedy"),
    [
        ([failed(), made(RetryScheduled, after=9.0, retry=1)], True, f"It is tried again by itself. {FAILING}"),
        ([BEGUN, failed(), made(RetryScheduled, after=9.0, retry=1)], False, f"{STEP} {RESTART}"),
        ([failed(), made(RetryScheduled, after=9.0, retry=1)], False, f"{STEP} {LOST}"),
        ([BEGUN], False, RESTART),
        ([made(OperationStarted)], False, LOST),
        ([BEGUN, made(OperationQuarantined, reason="crashes")], False, FREE),
        ([BEGUN, failed(), made(OperationQuarantined)], True, f"{STEP} {FREE}"),
        ([BEGUN], True, ""),
        ([failed(), made(OperationStarted, attempt=2)], True, f"It is being tried again. {FAILING}"),
        ([failed(), made(Parked, after=0.0, category=Category.TRANSIENT, why="room")], True, f"{STEP} {GONE}"),
        ([BEGUN, failed(), made(Parked, after=0.0, category=Category.TRANSIENT, why="r")], False, f"{STEP} {RESTART}"),
        ([failed(), made(CallSteered, command="pause")], True, STEP),
        ([failed(), made(GaveUp)], False, f"{STEP} Then start it again."),
        ([failed(), made(OperationRecovered, attempt=2)], True, ""),
    ],
)
def test_the_remedy_of_a_journalled_call_is_that_of_its_state(
    events: list[CallEvent], is_alive: bool, remedy: str
) -> None:
    assert replay({}, "run", events)["run-1"].explain(is_alive=is_alive).remedy == remedy


@pytest.mark.parametrize(
    ("inner", "sentence"),
    [
        ("builtins.ConnectionRefusedError", "nothing answers at hub.org: the connection was refused"),
        ("socket.gaierror", "the name of the host hub.org was not found"),
        ("ssl.SSLError", "the encrypted connection to hub.org failed"),
        ("builtins.OSError", "the host hub.org was not reached"),
        ("builtins.FileNotFoundError", "the host hub.org was not reached"),
    ],
)
def test_the_inner_exception_says_why_a_host_was_not_reached(inner: str, sentence: str) -> None:
    between = error("builtins.OSError", "all failed", cause=error(inner, "no"))
    assert explain(failed(error("httpx2.ConnectError", "x", cause=between), key="hub.org:443")).sentence == sentence


def test_the_tools_last_line_is_its_own_and_not_what_the_launcher_wrote_below() -> None:
    output = "compiling kernels\n[ended by the launcher: silent for 60 s]\n"
    assert explain(failed(error("adapters.SilentCommandError", "", stderr=output))).said == "compiling kernels"


def test_of_uv_the_line_is_told_that_says_what_contradicts_what() -> None:
    output = (
        "error: No solution found when resolving dependencies\n  cause: Because bapp needs alib<1, it cannot be used.\n"
    )
    told = explain(failed(error("adapters.PackageConflictError", "", stderr=output)))
    assert told.said == "cause: Because bapp needs alib<1, it cannot be used."


def test_a_server_that_limits_by_403_wants_fewer_requests() -> None:
    evidence = error("E", "rate limit exceeded", status=403)
    assert explain(failed(evidence, key="hub.org:443")).sentence == "the server hub.org wants fewer requests (HTTP 403)"
