"""What comes next in a run of steps, from what is journalled of it. Pure.

A saga is a list of steps, each with an undo: either all of them have their effect in the end, or none has. The record
of a run is committed before each step begins and after it has ended. So a process that dies leaves at most one step
*open*: one that may have had its effect, or a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

OnCrash: TypeAlias = Literal["finish", "undo"]
Asked: TypeAlias = Literal["", "undo", "steps"]


class Begun(msgspec.Struct, frozen=True):
    """A step that has begun and is not undone.

    Args:
        name: The step.
        before: What its ``before`` function returned, for its undo.
        is_done: Whether its effect is there; else the step is open.
        result: What it returned.
    """

    name: str
    before: Any = None
    is_done: bool = False
    result: Any = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is journalled of a run.

    Args:
        steps: The steps that the program had when the run began.
        process: The process that wrote it.
        begun: The steps that have begun and are not undone, in their order. Only the last one may be open.
        is_unsure: Whether another attempt or process began the open step.
        why: Why all steps are undone, in words; "" while the run goes forward.
        failed: The step that gave up, or in which the process died; "" for none.
        undone: The steps that are undone, in the order of that.
        kept: Those that are not: they have no undo, or a person said so.
        calls: The idempotency keys of the calls of bricks that its steps have made: after a crash these resume.
        asked: The question that a person was asked last, about an "undo" that failed or the "steps" that have changed.
    """

    steps: tuple[str, ...]
    process: str = ""
    begun: tuple[Begun, ...] = ()
    is_unsure: bool = False
    why: str = ""
    failed: str = ""
    undone: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    asked: Asked = ""

    @property
    def open(self) -> Begun | None:
        """The step that may have had its effect, or a part of it."""
        return self.begun[-1] if self.begun and not self.begun[-1].is_done else None

    @property
    def results(self) -> dict[str, Any]:
        """What the steps returned that are done, by their names."""
        return {one.name: one.result for one in self.begun if one.is_done}


class Begin(msgspec.Struct, frozen=True):
    """Commit that *step* begins, then run it."""

    step: str


class Ask(msgspec.Struct, frozen=True):
    """Ask whether the effect of the open *step* is there."""

    step: str


class Do(msgspec.Struct, frozen=True):
    """Run the open *step*."""

    step: str


class Undo(msgspec.Struct, frozen=True):
    """Undo *step*, the last one that has begun."""

    step: Begun


class AskPerson(msgspec.Struct, frozen=True):
    """The steps have changed since the run began: ask a person how to go on."""


class End(msgspec.Struct, frozen=True):
    """The run is over, well or undone."""

    is_undone: bool


Action: TypeAlias = Begin | Ask | Do | Undo | AskPerson | End


def next_action(record: RunRecord, steps: Sequence[str]) -> Action:
    """What comes next in a run, where the program has *steps*."""
    if record.why:
        return Undo(record.begun[-1]) if record.begun else End(is_undone=True)
    if not fits(record, steps):
        return AskPerson()
    if record.open is not None:
        return Ask(record.open.name) if record.is_unsure else Do(record.open.name)
    if len(record.begun) < len(steps):
        return Begin(steps[len(record.begun)])
    return End(is_undone=False)


def fits(record: RunRecord, steps: Sequence[str]) -> bool:
    """Whether a program with *steps* can go forward: those that have begun are its first ones, in that order."""
    return [one.name for one in record.begun] == list(steps[: len(record.begun)])


def taken_up(record: RunRecord, process: str, on_crash: OnCrash) -> RunRecord:
    """*record* as the next attempt goes on with it: after a crash of its process everything is undone, if so wanted."""
    has_crashed, open_step = record.process != process, record.open
    record = msgspec.structs.replace(record, process=process, is_unsure=open_step is not None)
    is_whole = open_step is None and len(record.begun) == len(record.steps)
    if record.why or not record.begun or is_whole or not has_crashed or on_crash == "finish":
        return record
    where = f"in step {open_step.name!r}" if open_step else f"after step {record.begun[-1].name!r}"
    return given_up(record, "" if open_step is None else open_step.name, f"its process died {where}")


def begin(record: RunRecord, step: str, before: Any) -> RunRecord:
    """*record* once *step* begins, with *before* for its undo."""
    begun = (*record.begun, Begun(step, before))
    return msgspec.structs.replace(record, begun=begun, is_unsure=False, asked="")


def noted(record: RunRecord, call: str) -> RunRecord:
    """*record* once a step makes the *call* of a brick."""
    return record if call in record.calls else msgspec.structs.replace(record, calls=(*record.calls, call))


def finish(record: RunRecord, result: Any) -> RunRecord:
    """*record* once the open step has had its effect, with *result*."""
    done = msgspec.structs.replace(record.begun[-1], is_done=True, result=result)
    return msgspec.structs.replace(record, begun=(*record.begun[:-1], done), is_unsure=False, asked="")


def not_there(record: RunRecord) -> RunRecord:
    """*record* once it is known that the open step has not had its effect: it is done again."""
    return msgspec.structs.replace(record, is_unsure=False)


def given_up(record: RunRecord, step: str, why: str) -> RunRecord:
    """*record* once *step* has given up, or the run was cancelled, hence *why*: everything is undone."""
    return msgspec.structs.replace(record, failed=step, why=why, asked="")


def undone(record: RunRecord, *, is_kept: bool = False) -> RunRecord:
    """*record* once its last step is undone, or *is_kept* as it is."""
    *rest, last = record.begun
    field = "kept" if is_kept else "undone"
    changes: dict[str, Any] = {field: (*getattr(record, field), last.name)}
    return msgspec.structs.replace(record, begun=tuple(rest), asked="", **changes)


def left(record: RunRecord) -> RunRecord:
    """*record* once a person has given it up: what is not undone is kept as it is."""
    kept = (*record.kept, *(one.name for one in reversed(record.begun)))
    return msgspec.structs.replace(record, begun=(), kept=kept, why=record.why or "a person gave it up", asked="")


def adapted(record: RunRecord, steps: Sequence[str]) -> tuple[RunRecord, tuple[str, ...]]:
    """*record* and *steps* for going on although the steps have changed.

    What has begun counts as done if the program does not have it any more. It comes first, and then the steps of the
    program that have not begun.
    """
    if record.open is not None and record.open.name not in steps:
        record = finish(record, None)
    names = tuple(one.name for one in record.begun)
    return msgspec.structs.replace(record, asked=""), (*names, *(step for step in steps if step not in names))


def told(record: RunRecord) -> str:
    """What has become of an undone run, in words."""
    parts = [record.why]
    parts.append(f"undone: {', '.join(record.undone)}" if record.undone else "nothing had to be undone")
    if record.kept:
        parts.append(f"not undone: {', '.join(record.kept)}")
    return "; ".join(parts)
