"""The questions of a service to a person: what calls wait for, and the answers, which all processes share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from events.bus import Bus
from events.conditions import Condition
from events.event import NOTHING, Event
from events.fork_locks import fork_safe
from events.operation_events import FailureClassified
from events.own_log import own_log
from events.question_events import QuestionAnswered, QuestionAsked, QuestionKind, QuestionReopened
from recovery.answers import (
    Known,
    OpenQuestion,
    Value,
    as_json,
    check_answer,
    check_question,
    hide_answer,
    may_be_told,
    take,
)
from recovery.journal.store import Remembered
from recovery.redact import redact
from recovery.serialization.secret import Secret
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.polling import Question

LEAST_STEP = 1e-6
"""Seconds by which an answer is later than the one that it replaces, however the wall clock is set."""

ANY: object = object()
"""For ``reopen``: whichever answer there is, it was refused."""

log = own_log("recovery")


class Questions:
    """The questions of one service, as ``service.calls`` shows them. Safe to use from any thread.

    An answer is an event, and the journal gives it to the other processes, and to those that start later. Of two
    answers to one question the later one counts. The value of a secret stays here; the store may keep it.

    Args:
        bus: Where questions and answers are published.
        waiting: The calls that wait; those that wait for an answer are woken by it.
        has_journal: Whether the service has a journal, which may know of questions that are not known here yet.
        wall: Reads Unix time.
    """

    def __init__(
        self, bus: Bus, waiting: WaitingCalls, has_journal: Callable[[], bool], wall: Callable[[], float] = time.time
    ) -> None:
        self._bus = bus
        self._waiting = waiting
        self._has_journal = has_journal
        self._wall = wall
        self._lock = fork_safe(threading.RLock())
        self._known: dict[str, Known] = {}
        self._remembered: list[Remembered] = []
        self._strange: set[str] = set()
        self.has_answered = False
        """Whether an answer was given, or refused, here."""

    def condition(
        self,
        name: str,
        kind: QuestionKind = "confirm",
        choices: Sequence[str] = (),
        text: str = "",
        link: str = "",
    ) -> Question:
        """The condition that the question *name* is answered. What is given here is added to what is known of it."""
        check_question(name, kind, choices, text, link)
        with self._lock:
            known = self._known.setdefault(name, Known())
            known.declare(kind, tuple(choices), text, link, is_ours=True)
            if known.kind == "secret":
                hide_answer(known.value)
        return Question(cause_of(name), lambda: self._ask(name))

    def _ask(self, name: str) -> bool:
        """Whether *name* is answered; if not, a call waits for it, which is published the first time."""
        with self._lock:
            known = self._known[name]
            value, reason = known.current(name)
            is_new = value is None and known.since is None
            if is_new:
                known.since = self._bus.clock()
        if is_new:
            asked = QuestionAsked(
                at=self._bus.clock(),
                name=name,
                kind=known.kind,
                choices=known.choices,
                text=known.text,
                link=known.link,
                reason=reason,
            )
            self._bus.publish(asked)
            value = self.answered(name)  # while that was published
        if value is False:
            self._end(name)
        return value is not None and value is not False

    def answered(self, name: str) -> bool | str | None:
        """The answer that counts, a ``Secret`` revealed; ``None`` while there is none. This asks nothing."""
        with self._lock:
            known = self._known.get(name)
            return None if known is None else known.current(name)[0]

    def answer(self, name: str, value: Value, *, remember: bool = False) -> None:
        """Take *value* as the answer, let the calls that wait for it go on, and publish it for other processes.

        Raises TypeError or ValueError for a value that does not fit the question.
        """
        if not isinstance(name, str) or not name:
            raise TypeError(f"the name of a question must be a text that is not empty, not {name!r}")
        with self._lock:
            known = self._known.get(name) or Known()
            is_secret = known.kind == "secret" or (not known.is_declared and (remember or isinstance(value, Secret)))
            kind: QuestionKind | None = "secret" if is_secret else known.kind if known.is_declared else None
            check_answer(name, kind, known.choices, value)
            self._known[name] = known
            self.has_answered = True
            is_strange = not known.is_declared and not self._has_journal()  # the journal may know it
            known.answered = max(self._wall(), known.answered + LEAST_STEP, known.refused + LEAST_STEP)
            known.value = value
            if is_secret:
                known.kind = "secret"
                hide_answer(value)
                kept = value if remember and isinstance(value, str) else ""
                self._remembered.append(Remembered(name, known.answered, kept))
            event = QuestionAnswered(
                at=self._bus.clock(),
                name=name,
                kind=kind or ("confirm" if isinstance(value, bool) else "text"),
                value=as_json(value) if may_be_told(kind, value) else NOTHING,
                answered=known.answered,
            )
        if is_strange:
            self._warn(name)
        if remember and is_secret and not self._has_journal():
            log.warning("the answer to %r is not remembered: the service has no store to keep it in", name)
        self._bus.publish(event)
        self._settle(name)

    def reopen(self, name: str, reason: str, *, refused: object = ANY) -> bool:
        """Drop the answer to *name* and say why; False if that changes nothing, or another value was *refused*."""
        if not isinstance(reason, str) or not reason:
            raise TypeError(f"the reason to ask {name!r} again must be a text that is not empty, not {reason!r}")
        reason = redact(reason)
        with self._lock:
            known = self._known.setdefault(name, Known())
            value, _ = known.current(name)
            if known.answered > known.refused:  # by a reference, perhaps, whose value is in other processes alone
                if refused is not ANY and (value is None or value != refused):
                    return False
            elif known.reason == reason:
                return False
            self.has_answered = True
            if value is not None:
                known.since = None  # it is asked once more
            known.refused, known.reason = max(known.answered, known.refused), reason
            known.value = None
            known.tried.clear()
            if known.kind == "secret":
                self._remembered.append(Remembered(name, known.refused, ""))
            event = QuestionReopened(at=self._bus.clock(), name=name, reason=reason, answered=known.refused)
        self._bus.publish(event)
        return True

    def refused_by(self, name: str, failure: FailureClassified) -> bool:
        """Open *name* again if *failure* came of an attempt that had its answer; a no stays."""
        began = self._wall() - self._bus.clock() + failure.at - failure.elapsed
        with self._lock:
            if (known := self._known.get(name)) is None:
                return False
            value, _ = known.current(name)
            if not (known.answered < began or failure.call in known.tried):
                known.tried.add(failure.call)  # its next attempt has the answer, which came during this one
                return False
        return bool(value) and self.reopen(name, failure.evidence.summary, refused=value)

    def to_remember(self) -> list[Remembered]:
        """What the store is to keep or to drop since the last call."""
        with self._lock:
            changed, self._remembered = self._remembered, []
            return changed

    def as_written(self, event: QuestionAnswered, is_read: bool) -> QuestionAnswered:
        """*event* as the journal may have it: without the value if that is, or may be, a secret.

        Args:
            event: An answer that was given here.
            is_read: Whether the journal was read since: another process may have called the question secret.
        """
        with self._lock:
            known = self._known[event.name]
            is_strange = is_read and not known.is_declared
            value = known.value if known.answered == event.answered else None
            kind = known.kind if known.is_declared and (is_read or known.is_ours) else None
        if is_strange:
            self._warn(event.name)
        if event.kind == "secret" or isinstance(value, bool):
            return event
        if kind == "secret":
            hide_answer(value)
        if value is None:  # another answer has come, or it was refused
            return msgspec.structs.replace(event, value=NOTHING)
        if not may_be_told(kind, value):
            why = "asks for a secret" if known.kind == "secret" else "may ask for a secret: no process has asked it"
            why = why if is_read else "may ask for a secret (the journal could not be read)"
            log.warning(
                "the answer to the question %r stays in this process, because the question %s; calls of other "
                "processes do not get it: answer in the process that asks, or by a reference, Secret('env:NAME')",
                event.name,
                why,
            )
            return msgspec.structs.replace(event, value=NOTHING)
        return msgspec.structs.replace(event, kind=kind, value=as_json(value))

    def update(self, events: Sequence[Event], remembered: Sequence[Remembered] = ()) -> None:
        """Take over the questions and answers of the journal, and what the store has *remembered*."""
        changed: dict[str, None] = {}
        with self._lock:
            for event in events:
                if (name := take(self._known, event)) is not None:
                    changed[name] = None
            for kept in remembered:
                known = self._known.setdefault(kept.name, Known())
                known.declare("secret", (), "", "", is_ours=False)
                hide_answer(kept.value)
                if known.take(kept.answered, kept.value):
                    changed[kept.name] = None
        for name in changed:
            self._settle(name)

    def open(self) -> list[OpenQuestion]:
        """The questions that calls of this service wait for, the earliest first."""
        waiting = self._calls_by_cause()
        found: list[OpenQuestion] = []
        with self._lock:
            for name, known in self._known.items():
                if not (calls := waiting.get(cause_of(name))):
                    continue
                value, reason = known.current(name)
                if value is None:
                    about = OpenQuestion(
                        name=name,
                        calls=tuple(calls),
                        since=self._bus.clock() if known.since is None else known.since,
                        kind=known.kind,
                        choices=known.choices,
                        text=known.text,
                        link=known.link,
                        reason=reason,
                    )
                    found.append(about)
        return sorted(found, key=lambda question: question.since)

    def _settle(self, name: str) -> None:
        """Let the calls that wait for the answer to *name* go on, or end them if it is no."""
        if self.answered(name) is False:
            self._end(name)
            return
        calls = self._calls_by_cause().get(cause_of(name), ())
        with self._lock:
            self._known[name].tried.update(calls)
        self._waiting.conditions.poll_soon(Condition(cause_of(name), lambda: True))

    def _end(self, name: str) -> None:
        for call in self._calls_by_cause().get(cause_of(name), ()):
            self._waiting.steer(call, "give up", f"the answer to {name!r} is no")

    def _calls_by_cause(self) -> dict[str, list[str]]:
        calls: dict[str, list[str]] = {}
        for call in self._waiting.describe_all():
            for cause in call.until:
                calls.setdefault(cause, []).append(call.call)
        return calls

    def _warn(self, name: str) -> None:
        import difflib  # here, for the warning alone

        with self._lock:
            if name in self._strange:
                return
            self._strange.add(name)
            declared = [one for one, known in self._known.items() if known.is_declared]
        close = difflib.get_close_matches(name, declared, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        log.warning("no call has asked the question %r; its answer is kept for later calls%s", name, meant)


def cause_of(name: str) -> str:
    """What a call is said to wait for that waits for the answer to the question *name*."""
    return f"an answer: {name}"
