"""Runs one row of docs/how-to/from-tenacity.md on the other library and on this one, on a clock and dice of its own.

A row is run as the page has it: the first code of its left cell, and the codes of its right cell up to the first
colon, stop or semicolon.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import random
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from events import Category, GiveUp, OperationFailed, Retry
from recovery import Constant, Linear, Recovery, RetryPolicy, Rule
from recovery.testing import VirtualClock

CODE = re.compile(r"`([^`]+)`")
MANY = 40
"""Attempts of a script of waits: enough to reach every cap."""

X = ConnectionError


class Row(msgspec.Struct, frozen=True):
    """A row of a table: what another library has, and what takes its place.

    Args:
        heading: The row in bold above it, or "".
        theirs: The first code of its left cell, or the cell if it has none.
        ours: The codes that are to be run.
    """

    heading: str
    theirs: str
    ours: tuple[str, ...]

    def __str__(self) -> str:
        return self.theirs


class Ran(msgspec.Struct, frozen=True):
    """What a script saw: when each attempt began, and how the call ended."""

    began: tuple[float, ...]
    ended: str
    at: float


Script = tuple[object, ...]
"""What the attempts raise or return, in turn; the last one repeats."""


def rows_of(page: str, section: str) -> Iterator[Row]:
    table = re.search(rf"^## {section}$(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    assert table
    heading = ""
    for line in table[1].splitlines():
        cells = line.strip("|").split(" |", 1)
        if len(cells) < 2:
            continue
        left, right = (cell.strip() for cell in cells)
        if left.startswith("**"):
            heading = left.strip("*")
        elif "`" in left:
            code = CODE.search(left)
            theirs = left if code is None or left.startswith("no ") else code[1]
            yield Row(heading, theirs, tuple(run_in(right)))


def run_in(cell: str) -> Iterator[str]:
    """The codes of *cell* that are settings or a subscription, before its explanation."""
    codes = CODE.findall(cell)
    shown = re.split(r"[:.;]", CODE.sub("`", cell))[0]
    yield from codes[: shown.count("`")]


def run(call: Callable[[Callable[[], object]], Any], script: Script, clock: Callable[[], float]) -> Ran:
    """Run *script* by *call*, which makes the attempts."""
    began: list[float] = []
    outcomes = [*script]

    def attempt() -> object:
        began.append(clock())
        assert len(began) <= MANY * 2, "it retries without end"
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    try:
        ended = f"returned {call(attempt)!r}"
    except Exception as error:
        # tenacity raises RetryError for a result that is refused to the end; the page says so.
        refused = getattr(error, "last_attempt", None)
        ended = f"raised {error!r}" if refused is None else f"returned {refused.result()!r}"
    return Ran(tuple(round(one, 6) for one in began), ended, round(clock(), 6))


def run_ours(row: Row, base: dict[str, Any], script: Script, draw: float) -> Ran:
    """Run *script* with the settings of *row*, and those of *base* that it leaves open."""
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=lambda: draw, enable_logging=False)
    names = {**names_of_the_page(), "service": service, "random": dice(draw)}
    settings = dict(base)
    for code in row.ours:
        if code.startswith("service."):
            eval(code, names)
        else:
            settings |= eval(
                "dict(" + code.removeprefix('@recoverable("name", ').removesuffix(")" * code.startswith("@")) + ")",
                names,
            )
    if "policy" in settings:  # it has the limits, which the page says
        policy = msgspec.structs.replace(settings["policy"], max_retries=base["max_retries"])
        settings = {"retry_on": settings["retry_on"], "policy": policy}
    decorate = service.recoverable("name", breaker=None, **settings)
    return run(lambda attempt: decorate(attempt)(), script, clock)


def run_theirs(library: str, decorator: str, script: Script, draw: float) -> Ran:
    """Run *script* by a *decorator* of *library*."""
    clock = VirtualClock()
    module = importlib.import_module(library)
    names = {**vars(module), **names_of_the_page(), "random": dice(draw)}
    if library == "backoff":
        for name in ("expo", "fibo", "constant", "runtime"):  # the page shows their arguments as those of a call
            names[name] = functools.partial(functools.partial, getattr(module, name))
        for name in ("on_exception", "on_predicate"):
            names[name] = functools.partial(getattr(module, name), max_tries=3, jitter=None)
        names["wait_gen"] = functools.partial(module.constant, 0)
    with pytest.MonkeyPatch.context() as patch:
        for place, name, value in foreign(clock, draw):
            if place.split(".")[0] in {library, "tenacity"}:  # stamina is made of tenacity
                patch.setattr(importlib.import_module(place), name, value)
        return run(lambda attempt: eval(decorator, names)(attempt)(), script, clock)


def foreign(clock: VirtualClock, draw: float) -> Iterator[tuple[str, str, object]]:
    time = SimpleNamespace(sleep=clock.advance, monotonic=clock)
    began = datetime.datetime(2000, 1, 1)  # noqa: DTZ001  # as backoff has it
    now = SimpleNamespace(now=lambda: began + datetime.timedelta(seconds=clock()))
    yield from (("tenacity", "time", time), ("tenacity.nap", "time", time), ("tenacity.wait", "random", dice(draw)))
    yield from (("stamina._core", "random", dice(draw)), ("backoff._jitter", "random", dice(draw)))
    yield from (("backoff._sync", "time", time), ("backoff._sync", "datetime", SimpleNamespace(datetime=now)))


def dice(draw: float) -> Any:
    """The module random, whose every draw is *draw*."""
    return SimpleNamespace(
        random=lambda: draw, uniform=lambda low, high: low + (high - low) * draw, Random=random.Random
    )


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


class Event:
    """One that is set when it has been asked twice."""

    asked = 0

    def is_set(self) -> bool:
        self.asked += 1
        return self.asked > 2


def names_of_the_page() -> dict[str, Any]:
    """What the codes of the page name, beside the names of its library."""
    return {
        "X": X,
        **{one.__name__: one for one in (Rule, Category)},
        "f": lambda given: "busy" in str(given),
        "seconds": lambda error: float(len(str(error))),
        "event": Event(),
        "re": re,
        **{one.__name__: one for one in (Constant, Linear, RetryPolicy, GiveUp, OperationFailed, Retry)},
    }
