"""docs/how-to/from-tenacity.md has a counterpart, or a reason, for every name and argument of three other libraries.

The rows that say what is retried, and when, are run on both libraries.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import events
from events import Retryable
from recovery import outcome_of
from recovery.settings import Settings
from recovery.suggestions import hint
from tests.docs.examples import ROOT
from tests.docs.peers import MANY, Row, Script, X, caused, rows_of, run_ours, run_theirs

PAGE = (ROOT / "docs" / "how-to" / "from-tenacity.md").read_text(encoding="utf-8")
SECTIONS = {"tenacity": "Every name of tenacity", "stamina": "From stamina", "backoff": "From backoff"}
FUNCTIONS = {
    "tenacity": ("BaseRetrying",),
    "stamina": ("retry", "retry_context"),
    "backoff": ("on_exception", "on_predicate"),
}
"""What has the arguments that a user gives."""
NO_ARGUMENTS = {"self", "wait_gen_kwargs", "exception", "predicate"}
"""Parameters that are given by position, or stand for others."""

pytestmark = pytest.mark.docs
tenacity = pytest.importorskip("tenacity")
backoff = pytest.importorskip("backoff")


@pytest.mark.parametrize("library", SECTIONS)
def test_each_name_and_argument_of_a_peer_has_its_row(library: str) -> None:
    table = re.search(rf"^## {SECTIONS[library]}$(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    assert table
    rows = "\n".join(line.split(" | ")[0] for line in table[1].splitlines() if line.startswith("|"))
    missing = [name for name in names_of(library) if not re.search(rf"(?<![\w.]){name}(?!\w)", rows)]
    assert missing == []


def names_of(library: str) -> Iterator[str]:
    module = pytest.importorskip(library)
    yield from (name for name in module.__all__ if not inspect.ismodule(getattr(module, name)))
    if library == "stamina":
        yield from importlib.import_module("stamina.instrumentation").__all__
    for function in FUNCTIONS[library]:
        parameters = inspect.signature(getattr(module, function)).parameters
        yield from (name for name in parameters if name not in NO_ARGUMENTS)


CONSTRUCTED = ("wait_exponential", "wait_incrementing", "wait_exponential_jitter", "wait_random_exponential")
NO_SETTING = {"retry_context", "set_active", "is_active", "set_testing", "is_testing", "set_on_retry_hooks"} | {
    "get_on_retry_hooks", "get_prometheus_counter", "on_exception", "on_predicate",
}  # fmt: skip
"""Functions that are called beside a decorator or as one, and never given to it."""


IN_MANY_ROWS = {"wait", "wait_gen", "interval"}
"""Words whose rows are about another one."""


def words_given_to(library: str) -> Iterator[str]:
    """Names that a user of *library* may write as a keyword of ``recoverable``."""
    yield from (name for name in names_of(library) if name.islower() and name not in NO_SETTING)
    if library == "tenacity":
        for name in CONSTRUCTED:
            yield from (one for one in inspect.signature(getattr(tenacity, name)).parameters if one != "self")
    if library == "backoff":
        for function in (backoff.expo, backoff.fibo, backoff.constant):
            yield from inspect.signature(function).parameters


@pytest.mark.parametrize("library", SECTIONS)
def test_each_name_of_a_peer_is_refused_with_a_name_of_its_row(library: str) -> None:
    lines = [line.split(" | ", 1) for line in PAGE.splitlines() if line.startswith("|") and line.count(" | ")]
    wrong = {}
    for name in set(words_given_to(library)) - set(Settings.__annotations__) - IN_MANY_ROWS:
        said = hint(name, Settings.__annotations__)
        right = " ".join(cells[1] for cells in lines if re.search(rf"(?<![\w.]){name}(?!\w)", cells[0]))
        named, there = set(NAMES.findall(said)), set(NAMES.findall(right))
        if said.startswith(("it has", "did you mean")) or (named and there and not named & there):
            wrong[name] = said
    assert wrong == {}


WHAT_THERE_IS = (*Settings.__annotations__, *(name for name in vars(events) if name[0].isupper()), "clock")
NAMES = re.compile(rf"\b(?:{'|'.join(WHAT_THERE_IS)})\b")

ANSWER = "12 apples"
LONG = ((*[X("reset")] * (MANY - 1), ANSWER), (X("reset"),))
OUTCOMES = (
    *(kind(text) for kind in (X, ValueError) for text in ("busy", "other", "so busy")),
    KeyError("busy"), FileNotFoundError("other"), RuntimeError("HTTP 429: Too Many Requests"),
    caused(RuntimeError("other"), X("reset")), "busy", "",
)  # fmt: skip
ENDS = ((ANSWER,), *(script for outcome in OUTCOMES for script in ((outcome,), (outcome, ANSWER))))
"""Each error and result, again and again, and once."""

ATTEMPTS = {"max_retries": 2, "initial_delay": 0, "jitter": "none"}
DELAYS = {"max_retries": MANY - 1, "jitter": "none", "retry_on": X}
DICE = {"max_retries": MANY - 1, "retry_on": X}
STOPS = {"initial_delay": 9, "backoff_factor": 1, "jitter": "none", "retry_on": X}
"""For rows of limits: all limits that they leave open are our defaults."""
LIMITS = {**STOPS, "max_retries": MANY - 1}

TENS = {**LIMITS, "initial_delay": 10}


class Kind(msgspec.Struct, frozen=True):
    """How the rows of one kind are run.

    Args:
        rows: A pattern of the code of their left cells.
        theirs: The decorator there; {} is that code.
        ours: The settings here, beside those of the row.
        scripts: What is run.
        is_later: Whether the attempt that begins last there is too late here.
    """

    rows: str
    theirs: str
    ours: dict[str, Any]
    scripts: tuple[Script, ...]
    is_later: bool = False


NINE = "wait_initial=9, wait_max=9, wait_jitter=0"
DRAWS = (0.5, 0.0, 0.999)

ON_X = "retry=retry_if_exception_type(X), reraise=True"
THREE = "stop=stop_after_attempt(3), wait=wait_none(), reraise=True"
KINDS = {
    "tenacity": [
        Kind("@retry", "retry", ATTEMPTS, ((*[ValueError("other")] * (MANY - 1), ANSWER), ("busy",))),
        Kind("stop_after_delay.*", f"retry(stop={{}}, wait=wait_fixed(9), {ON_X})", STOPS, LONG, is_later=True),
        Kind(r"stop_never|stop_.*\(.+\)", f"retry(stop={{}}, wait=wait_fixed(9), {ON_X})", STOPS, LONG),
        Kind("no `stop=`", f"retry(wait=wait_fixed(9), {ON_X})", STOPS, LONG),
        Kind("wait_.*", f"retry(stop=stop_after_attempt({MANY}), wait={{}}, {ON_X})", DELAYS, LONG),
        Kind("no `retry=`", f"retry({THREE})", ATTEMPTS, ENDS),
        Kind(r"retry_never|retry_(if|any|all)\w*\(.*\)", f"retry(retry={{}}, {THREE})", ATTEMPTS, ENDS),
    ],
    "stamina": [
        Kind("on=.*", "retry({}, attempts=3, timeout=None, wait_initial=0.0, wait_jitter=0.0)", ATTEMPTS, ENDS),
        Kind("attempts=.*", f"retry(on=X, {{}}, timeout=None, {NINE})", STOPS, LONG),
        Kind("timeout=.*", f"retry(on=X, attempts=None, {{}}, {NINE})", LIMITS, LONG, True),
        Kind("wait_.*", f"retry(on=X, attempts={MANY}, timeout=None, {{}})", DELAYS, LONG),
    ],
    "backoff": [
        Kind(r"on_exception\(.*|on_predicate\(.*", "{}", ATTEMPTS, ENDS),
        Kind("giveup=.*", "on_exception(wait_gen, X, {})", ATTEMPTS, ENDS),
        Kind("runtime.*", "on_exception({}, X)", {**ATTEMPTS, "retry_on": X}, ENDS),
        Kind(r"(expo|fibo|constant)\(.*", f"on_exception({{}}, X, max_tries={MANY}, jitter=full_jitter)", DICE, LONG),
        Kind("jitter=.*", f"on_exception(constant(10), X, {{}}, max_tries={MANY})", TENS, LONG),
        Kind("max_tries=5", "on_exception(constant(9), X, {})", STOPS, LONG),
        Kind("no `max_tries=`", "on_exception(constant(9), X, max_tries=None)", STOPS, LONG),
        Kind("max_time=.*", "on_exception(constant(9), X, {}, max_tries=None)", STOPS, LONG, is_later=True),
    ],
}  # fmt: skip
NOT_RUN = {
    "tenacity": r"stop_all.*|retry_always|retry_base",  # no counterpart, and a class
    "stamina": r"retry_context.*|Attempt.*|RetryingCaller.*|set_.*|.*OnRetryHook|retried .*",
    "backoff": r"two .*|an own .*|max_tries=f|raise_on_giveup.*|on_backoff.*|logger.*|backoff_log_level.*",
}
"""Rows of names that change no attempt, beside those of tenacity that stand under no heading or under "callbacks"."""


def kind_of(library: str, row: Row) -> Kind | None:
    if re.fullmatch(NOT_RUN[library], row.theirs):
        return None
    return next((kind for kind in KINDS[library] if re.fullmatch(kind.rows, row.theirs)), None)


ROWS = [(library, row) for library, section in SECTIONS.items() for row in rows_of(PAGE, section)]
RUN = [(library, row, kind) for library, row in ROWS if (kind := kind_of(library, row))]


def test_each_row_that_changes_attempts_is_run() -> None:
    run = {(library, row) for library, row, _ in RUN}
    left = [
        row.theirs
        for library, row in ROWS
        if (library, row) not in run
        and not re.fullmatch(NOT_RUN[library], row.theirs)
        and (library != "tenacity" or row.heading in ("stop", "wait", "retry"))
    ]
    assert left == []


@pytest.mark.parametrize(("library", "row", "kind"), [pytest.param(*one, id=f"{one[0]}: {one[1]}") for one in RUN])
def test_a_row_makes_the_same_attempts_at_the_same_times(library: str, row: Row, kind: Kind) -> None:
    theirs_here = kind.theirs.replace("{}", row.theirs)
    for draw in DRAWS if kind.scripts is LONG else DRAWS[:1]:
        for script in kind.scripts:
            ours = run_ours(row, kind.ours, script, draw)
            theirs = run_theirs(library, theirs_here, script, draw)
            if kind.is_later and len(theirs.began) != len(ours.began):
                theirs = msgspec.structs.replace(theirs, began=theirs.began[:-1], at=ours.at)
            assert ours == theirs, script


def test_retryable_is_retried_as_try_again_is() -> None:
    [row] = [row for library, row in ROWS if (library, row.theirs) == ("tenacity", "retry_if_exception_type(X)")]
    ours = run_ours(row, ATTEMPTS, (Retryable("later"), ANSWER), draw=0.5)
    theirs = run_theirs("tenacity", f"retry({ON_X}, wait=wait_none())", (tenacity.TryAgain("later"), ANSWER), draw=0.5)
    assert ours == theirs
    assert len(ours.began) == 2


def test_ctrl_c_is_retried_there_and_not_here() -> None:
    [row] = [row for library, row in ROWS if (library, row.theirs) == ("tenacity", "retry_if_not_exception_type(X)")]
    script = (KeyboardInterrupt(), ANSWER)
    assert (
        run_theirs("tenacity", f"retry(retry={row.theirs}, {THREE})", script, draw=0.5).ended == f"returned {ANSWER!r}"
    )
    with pytest.raises(KeyboardInterrupt):
        run_ours(row, ATTEMPTS, script, draw=0.5)


def test_a_group_is_judged_by_its_worst_error_here_and_as_a_whole_there() -> None:
    [row] = [row for library, row in ROWS if (library, row.theirs) == ("tenacity", "retry_if_exception_type(X)")]
    attempts = [
        (
            len(run_ours(row, ATTEMPTS, (ExceptionGroup("two", errors),), draw=0.5).began),
            len(
                run_theirs(
                    "tenacity", f"retry(retry={row.theirs}, {THREE})", (ExceptionGroup("two", errors),), 0.5
                ).began
            ),
        )
        for errors in ([X("reset"), X("reset")], [X("reset"), ValueError("other")])
    ]
    assert attempts == [(3, 1), (1, 1)]


def test_an_error_that_was_not_retried_has_a_fallback_here_and_not_there() -> None:
    row = Row(heading="", theirs="", ours=("fallback=lambda error: 'nothing', retry_on=X",))
    there = {
        "tenacity": f"retry(retry_error_callback=lambda state: 'nothing', {ON_X}, {THREE})".replace(
            ", reraise=True", "", 1
        ),
        "backoff": "on_exception(wait_gen, X, raise_on_giveup=False)",
    }
    for script, ended in (
        ((X("reset"),), {"returned 'nothing'"}),
        ((ValueError("other"),), {"raised ValueError('other')"}),
    ):
        theirs = {
            run_theirs(name, how, script, draw=0.5).ended.replace("None", "'nothing'") for name, how in there.items()
        }
        assert theirs == ended
        assert run_ours(row, ATTEMPTS, script, draw=0.5).ended == "returned 'nothing'"
        as_there = run_ours(
            msgspec.structs.replace(row, ours=("retry_on=X",)), {**ATTEMPTS, "fallback": raising}, script, 0.5
        )
        assert {as_there.ended} == ended


def raising(error: Exception) -> str:
    """A fallback as the page has it for what tenacity raises."""
    if outcome_of(error).kind == "permanent":
        raise error
    return "nothing"
