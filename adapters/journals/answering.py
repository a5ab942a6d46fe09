"""Answer a question of a journal: in the journal, in the file of remembered secrets, or in the process that asks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import anyio
import msgspec

from adapters.journals.status import read_status
from adapters.journals.turns import turn
from adapters.sqlite.command_inbox import send_command
from adapters.sqlite.files import journal_files
from adapters.sqlite.other_files import once, question_rows
from adapters.sqlite.remembered import read_remembered, remembered_at
from adapters.sqlite.store import SQLiteStore
from events.question_events import QuestionAnswered, QuestionAsked, QuestionKind
from recovery.answers import Known, Value, check_answer, hide_answer, take
from recovery.journal.encoding import readable
from recovery.journal.errors import NotDurable
from recovery.journal.store import Answer, Command
from recovery.resume.commands import to_process
from recovery.service import Recovery

MOST_AT_ONCE = 8
"""Processes that get an answer at the same time."""

NOT_KEPT = "a secret is not written: add --remember, or --from env:NAME or file:PATH"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question of a journal.

    Args:
        name: Its name.
        kind: What answers it.
        choices: The answers to a "choice".
        text: What a person is asked to do.
        link: Where; "" for nowhere.
        reason: What became of the latest answer; "" if there was none.
        is_open: Whether it has no answer that counts. A secret that ended with its process is wanted again only where
            a call was left.
        runs: The processes that have asked it and live: those whose calls may wait for it.
        others: The other processes of the journal that live: they may ask it later.
    """

    name: str
    kind: QuestionKind
    choices: tuple[str, ...]
    text: str
    link: str
    reason: str
    is_open: bool
    runs: tuple[str, ...]
    others: tuple[str, ...] = ()


def read_questions(journal: Path) -> list[Question]:
    """The questions that calls of *journal* have asked. Raises as ``read_status``."""
    return anyio.run(partial(_read, journal))


async def _read(journal: Path) -> list[Question]:
    status = await read_status(journal)
    living, are_left = status.living, bool(status.more.get("left")) or any(one.state == "left" for one in status.calls)
    known: dict[str, Known] = {}
    asked: dict[str, dict[str, float]] = {}
    rows = await question_rows(lambda: journal_files(journal))
    for run, event in readable(once(rows)):
        take(known, event)
        if isinstance(event, QuestionAsked):
            asked.setdefault(event.name, {})[run] = 0.0
        elif isinstance(event, QuestionAnswered) and run in asked.get(event.name, ()):
            asked[event.name][run] = event.answered  # which is that of this process alone, if it is a secret
    for kept in read_remembered(journal):
        if kept.name in known:
            known[kept.name].take(kept.answered, kept.value)
    return [_question(name, known[name], runs, living, are_left=are_left) for name, runs in asked.items()]


def _question(
    name: str, known: Known, answered: dict[str, float], living: Sequence[str], *, are_left: bool
) -> Question:
    """The question *name*, which was *answered* at these times by the runs that have asked it; 0.0 for not yet.

    The answers that count for all are in *known*; that of a secret counts for its run alone.
    """
    value, reason = known.current(name)
    runs = [run for run in answered if run in living]
    own = [answered[run] > known.refused for run in runs or answered]
    has_own = all(own) if runs else any(own) and not are_left
    return Question(
        name=name,
        kind=known.kind,
        choices=known.choices,
        text=known.text,
        link=known.link,
        reason=reason if value is None else "",
        is_open=value is None and not has_own,
        runs=tuple(runs),
        others=tuple(run for run in living if run not in runs),
    )


def named(questions: list[Question], name: str, journal: Path) -> Question:
    """The question of that *name*. Raises LookupError if no call has asked it; the message says which was meant."""
    for question in questions:
        if question.name == name:
            return question
    close = difflib.get_close_matches(name, [one.name for one in questions], n=1)
    meant = f"do you mean the question {close[0]!r}?" if close else "without a name, `recovery answer` lists them"
    raise LookupError(f"no call of {journal} has asked the question {name!r}; {meant}")


def answer_question(journal: Path, question: Question, value: Value, *, remember: bool, timeout: float) -> Answer:
    """Give *value* to the calls that wait for *question*, now or later.

    Args:
        journal: The journal's file.
        question: The question.
        value: What answers it.
        remember: Whether the value of a secret is written to the file beside the journal.
        timeout: Seconds to wait for the process that asks for a secret.

    Raises:
        TypeError, ValueError: *value* does not fit the question.
        RecoveryError, OSError: The answer cannot be written or handed over.
    """
    check_answer(question.name, question.kind, question.choices, value)
    if question.kind != "secret" or remember or not isinstance(value, str):
        return _write(journal, question, value, remember=remember, timeout=timeout)
    hide_answer(value)
    if not question.runs:
        return Answer(is_done=False, said=f"no process that runs asks it, and {NOT_KEPT}")
    runs = (*question.runs, *question.others)
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:  # one that hangs holds up no other
        answers = list(pool.map(lambda run: _hand_over(journal, run, question.name, value, timeout), runs))
    done = [answer for answer in answers if answer.is_done]
    if len(done) > 1:
        return Answer(is_done=True, said=f"{len(done)} processes have it, in their memory alone")
    return done[0] if done else answers[0]


def _hand_over(journal: Path, run: str, name: str, value: str, timeout: float) -> Answer:
    command = Command("answer", to_process(run), changes={"question": name})
    return send_command(journal, command, timeout=timeout, secret=value) or Answer(
        is_done=False, said=f"the process that asks has not answered in {timeout:g} s: it hangs, or has ended"
    )


def _write(journal: Path, question: Question, value: Value, *, remember: bool, timeout: float) -> Answer:
    with turn(journal, timeout), Recovery(store=SQLiteStore(journal), enable_logging=False) as service:
        assert service.journal is not None
        service.calls.question(question.name, question.kind, question.choices)
        service.calls.answer(question.name, value, remember=remember)
        try:
            service.journal.receipt().wait()
        except NotDurable as error:
            return Answer(is_done=False, said=str(error))
    if question.kind == "secret" and isinstance(value, str):
        kept = {one.name: one.value for one in read_remembered(journal)}
        if kept.get(question.name) != value:
            return Answer(is_done=False, said=f"the answer could not be kept in {remembered_at(journal)}")
    then = "a process that runs takes it within a second" if question.runs else "the next run takes it"
    return Answer(is_done=True, said=then)
