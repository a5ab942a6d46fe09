"""The file of a journal as the source of the page: of a process that lives, or of one that is dead."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import anyio
import msgspec

from adapters.journals.answering import Question, answer_question, read_questions
from adapters.journals.incident_steering import IncidentCommand, steer_incident
from adapters.journals.next_step import Action, next_step
from adapters.journals.status import JournalStatus, read_status
from adapters.journals.steering import steer
from adapters.launcher.progress import Samples, rate, with_sample
from adapters.sqlite.files import companions_of, journal_files
from adapters.sqlite.lock import written_files
from adapters.web import cards
from adapters.web.headline import headline
from adapters.web.source import BY_THE_PAGE, ENDED, Done, IncidentAction, done_in
from adapters.web.state import PageState
from events.errors import RecoveryError
from events.names import display_name
from recovery.explain import counted
from recovery.journal.store import Command
from recovery.questions import cause_of
from recovery.redact import brief, printable

EVERY = 1.0
"""Seconds between two looks at the files, which are read when one of them has changed."""

REST = 3.0
"""Seconds without a look for each second that the latest reading took: a large journal takes a quarter of the time."""

AT_LEAST_EVERY = 60.0
"""Seconds after which they are read all the same."""

TIMEOUT = 5.0
"""Seconds to wait for the process that has the call."""

NOT_KNOWN = (
    "This page reads a journal, the file in which a program notes its calls; it shows what is noted within a second. "
    "A journal does not know how fast a download is at this moment. It has no alerts, no charts, and no calls that are "
    "not journalled."
)
DEAD = "No program writes this journal at the moment: nothing goes on until its program, or its plan, runs again."
UNTAKEN = (
    f"the program that runs now has not answered in {TIMEOUT:g} s: it does not have this call, or it hangs; "
    "end that program, then try again"
)
NO_PROGRAM = "It can be answered once its program runs again: a secret is handed to the program, and never written."
NOT_YET = "The journal does not exist yet: it begins with the first run."
NO_JOURNAL = "The file is no journal, or it is damaged, or this user may not read it: `recovery verify` says which."
NOT_READ = "The journal cannot be read at the moment: this is how it stood before."


class JournalSource:
    """Shows and steers the journal at *path*, by its files and the inbox of its processes.

    Args:
        path: The file of the journal.
        name: What the page calls it; the name of the file by default.
        every: Seconds between two looks at the files, and at least ``REST`` times as long as the latest reading took;
            0 looks at each call.
    """

    def __init__(self, path: Path, name: str = "", *, every: float = EVERY) -> None:
        self._path = path
        self._name = printable(name or path.name)
        self._every = every
        self._samples: dict[str, Samples] = {}
        self._stamp: object = None
        self._due = self._read_at = 0.0
        self._state: PageState | None = None
        self._incidents: list[str] = []

    def read(self) -> PageState:
        """The journal as it stands; the files are looked at once a second, and read when one of them has changed."""
        now = time.monotonic()
        if self._state is None or now >= self._due:
            stamp = self._stamp_of_files()
            if self._state is None or stamp != self._stamp or now - self._read_at >= AT_LEAST_EVERY:
                self._stamp, self._read_at = stamp, now
                self._state = self._read()
            ended = time.monotonic()
            self._due = ended + max(self._every, REST * (ended - now)) if self._every else 0.0
        return self._state

    def _stamp_of_files(self) -> object:
        """Changes when a file of the journal changes, or the processes that write it."""
        found = []
        for file in journal_files(self._path):
            for one in (file, *companions_of(file)):
                try:
                    about = os.stat(one)
                except OSError:
                    continue
                found.append((str(one), about.st_ino, about.st_size, about.st_mtime_ns))
        return found, written_files(self._path)

    def _read(self) -> PageState:
        try:
            status = anyio.run(partial(read_status, self._path))
            questions = [question for question in read_questions(self._path) if question.is_open]
        except FileNotFoundError:
            return PageState(
                at=time.time(), headline="no journal yet", source=self._name, is_live=False, notes=(NOT_YET,)
            )
        except (RecoveryError, OSError):
            return self._unreadable()
        return self._page(status, questions, time.time())

    def _unreadable(self) -> PageState:
        if self._state is None:
            return PageState(
                at=time.time(),
                headline="the journal cannot be read",
                source=self._name,
                is_live=False,
                notes=(NO_JOURNAL,),
            )
        return msgspec.structs.replace(self._state, notes=tuple(dict.fromkeys((NOT_READ, *self._state.notes))))

    def _page(self, status: JournalStatus, questions: list[Question], now: float) -> PageState:
        shown, more = cards.listed(status.calls, status.more)
        self._sample(status)
        lines = [
            cards.call_line(call, next_step(call, status, now), rate(self._samples.get(call.call, ()), call.seen))
            for call in shown
        ]
        calls = {line.call: line for line in lines}
        self._incidents = [display_name(one.operation, one.key) for one in status.incidents if one.is_open]
        incidents = cards.incident_cards(status.incidents)
        waiting = [call for call in status.calls if not call.is_over]
        asked = tuple(
            cards.question_card(
                *(one.name, one.kind, one.text, one.link, one.reason, one.choices),
                [cards.named(call) for call in waiting if call.waits_for == cause_of(one.name)],
                closed="" if one.runs or one.kind != "secret" else NO_PROGRAM,
            )
            for one in questions
        )
        return PageState(
            at=now,
            headline=headline(
                calls.values(), more=more, incidents=incidents, questions=asked, is_live=status.is_being_written
            ),
            source=self._name,
            is_live=status.is_being_written,
            notes=_notes(status),
            calls=calls,
            more=more,
            incidents=incidents,
            circuits=cards.circuits_of(status.circuits),
            questions=asked,
        )

    def _sample(self, status: JournalStatus) -> None:
        """Note how far each download is, for its rate."""
        samples = {}
        for call in status.calls:
            if call.transfer is not None and call.state == "running":
                samples[call.call] = with_sample(self._samples.get(call.call, ()), call.seen, call.transfer.offset)
        self._samples = samples

    def act(self, action: Action, call: str) -> Done:
        """Do *action* with a call, by its process or in the journal, or have the next process do it.

        Raises RecoveryError, OSError.
        """
        steered = steer(self._path, Command(action, call, BY_THE_PAGE), timeout=TIMEOUT, by_id=True)
        said = UNTAKEN if str(self._path) in steered.said else steered.said  # which no page shows
        return self._done(said, is_done=steered.is_done or steered.waits)

    def steer_incident(self, action: IncidentAction, incident: str) -> Done:
        """Do *action* with an incident, as ``act``. Raises LookupError if it is not open, RecoveryError, OSError."""
        name = next((name for name in self._incidents if brief(name) == incident), None)
        if name is None:
            raise LookupError(ENDED)
        command: IncidentCommand = "probe" if action == "probe" else "give up incident"
        try:
            steered = steer_incident(self._path, name, command, reason=BY_THE_PAGE, timeout=TIMEOUT)
        except LookupError:
            raise LookupError(ENDED) from None
        return self._done(steered.said, is_done=steered.is_done or steered.waits)

    def _done(self, said: str, *, is_done: bool) -> Done:
        self._due = self._read_at = 0.0  # it shows at once
        return done_in(self._path, said, is_done=is_done)

    def answer(self, question: str, value: bool | str) -> Done:
        """Answer a question in the journal, or a secret in the process that asks.

        Raises LookupError if no call has asked it, RecoveryError, OSError.
        """
        asked = next((one for one in read_questions(self._path) if printable(one.name) == question), None)
        if asked is None:
            raise LookupError("no call has asked this question")
        if asked.kind == "secret" and not asked.runs:
            return Done(is_done=False, said=NO_PROGRAM)
        chosen = cards.chosen(value, asked.choices)
        given = answer_question(self._path, asked, chosen, remember=False, timeout=TIMEOUT)
        return self._done(given.said, is_done=given.is_done)

    def metrics(self, accept: str) -> None:
        """None: a journal has no counters."""


def _notes(status: JournalStatus) -> tuple[str, ...]:
    notes = [NOT_KNOWN]
    if not status.is_being_written:
        notes.append(DEAD)
    if status.unreadable:
        notes.append(f"{counted(status.unreadable, 'row')} of the journal cannot be read: a call may be missing.")
    if status.damaged:
        notes.append(f"{counted(len(status.damaged), 'file')} of a process that is gone cannot be read.")
    return tuple(notes)
