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
from events.own_log import own_log
from events.question_events import QuestionAnswered, QuestionAsked
from recovery.waiting.calls import WaitingCalls

LEAST_STEP = 1e-6
"""Seconds by which an answer is later than the one that it replaces, however the wall clock is set."""

log = own_log("recovery")


class OpenQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question that calls wait for.

    Args:
        name: Its name, for ``answer``.
        calls: The ids of the calls that wait for it.
        since: When a call of this process waited for it first, on the service's clock.
        secret: Whether its answer is kept in memory only.
        text: What a person is asked to do; "" if the name says it all.
        link: Where to do that; "" for nowhere.
    """

    name: str
    calls: tuple[str, ...]
    since: float
    secret: bool = False
    text: str = ""
    link: str = ""


class Known(msgspec.Struct):
    """What is known of a question: its declaration, since when it is asked here, and the latest answer.

    Args:
        secret: Whether its answer is kept in memory only.
        text: As of ``OpenQuestion``; likewise *link*.
        is_declared: Whether ``question`` has named it, here or in another process.
        is_ours: Whether ``question`` has named it here.
        since: As of ``OpenQuestion``; None before a call has waited for it.
        answered: The Unix time of the answer; 0.0 for none.
        value: The answer.
    """

    secret: bool = False
    text: str = ""
    link: str = ""
    is_declared: bool = False
    is_ours: bool = False
    since: float | None = None
    answered: float = 0.0
    value: object = None


class Questions:
    """The questions of one service, as ``service.calls`` shows them. Safe to use from any thread.

    An answer is an event, and the journal gives it to the other processes, and to those that start later. Of two
    answers to one question the later one counts.

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
        self.has_answered = False
        """Whether an answer was given here."""

    def condition(self, name: str, *, secret: bool = False, text: str = "", link: str = "") -> Condition:
        """The condition that the question *name* is answered. What is given here is added to what is known of it."""
        for field, value in (("name", name), ("text", text), ("link", link)):
            if not isinstance(value, str):
                raise TypeError(f"the {field} of a question must be a text, not {value!r}")
        if not name:
            raise ValueError("the name of a question must not be empty")
        with self._lock:
            self._declare(name, secret=secret, text=text, link=link).is_ours = True
        return Condition(cause_of(name), lambda: self._ask(name))

    def _declare(self, name: str, *, secret: bool, text: str, link: str) -> Known:
        known = self._known.setdefault(name, Known())
        known.is_declared = True
        known.secret |= secret  # once a secret, always one
        known.text, known.link = text or known.text, link or known.link
        return known

    def _ask(self, name: str) -> bool:
        """Whether *name* is answered; a call waits for it, which is published the first time."""
        with self._lock:
            known = self._known[name]
            if known.answered:
                return True
            if known.since is not None:
                return False
            known.since = now = self._bus.clock()
        self._bus.publish(QuestionAsked(at=now, name=name, secret=known.secret, text=known.text, link=known.link))
        return known.answered > 0.0  # while that was published

    def is_answered(self, name: str) -> bool:
        """Whether *name* is answered. Unlike its condition, this asks nothing."""
        known = self._known.get(name)
        return known is not None and known.answered > 0.0

    def answered(self, name: str) -> object:
        """The answer; ``None`` while there is none."""
        known = self._known.get(name)
        return None if known is None else known.value

    def answer(self, name: str, value: object, *, secret: bool = False) -> None:
        """Take *value* as the answer, wake the calls that wait for it, and publish it for other processes.

        Raises TypeError for a value that JSON cannot hold.
        """
        encoded = _as_json(name, value)
        self.has_answered = True
        with self._lock:
            known = self._known.setdefault(name, Known())
            known.secret |= secret
            is_strange = not known.is_declared and not self._has_journal()  # the journal may know it
            known.answered = max(self._wall(), known.answered + LEAST_STEP)
            known.value = msgspec.json.decode(encoded)  # not the caller's own object, which may change
            written = msgspec.Raw(b"" if known.secret else encoded)
            event = QuestionAnswered(
                at=self._bus.clock(), name=name, secret=known.secret, value=written, answered=known.answered
            )
        if is_strange:
            self._warn(name)
        self._bus.publish(event)
        self._wake(name)

    def as_written(self, event: QuestionAnswered, is_read: bool) -> QuestionAnswered:
        """*event* as the journal may have it: without the value if that is, or may be, a secret.

        Args:
            event: An answer that was given here.
            is_read: Whether the journal was read since: another process may have called the question secret.
        """
        with self._lock:
            known = self._known.setdefault(event.name, Known())
            is_withheld = known.secret or not (is_read or known.is_ours)
            is_strange = is_read and not known.is_declared
        if is_strange:
            self._warn(event.name)
        if not is_withheld:
            return event
        if not known.is_ours:
            log.warning(
                "the answer to the question %r stays in this process, because the question %s; calls of other "
                "processes do not get it: answer in the process that asks",
                event.name,
                "asks for a secret" if known.secret else "may ask for a secret (the journal could not be read)",
            )
        return msgspec.structs.replace(event, secret=True, value=NOTHING)

    def update(self, events: Sequence[Event]) -> None:
        """Take over the questions and answers of the journal: of earlier runs, and of other processes."""
        newer: list[str] = []
        with self._lock:
            for event in events:
                match event:
                    case QuestionAsked(name=name, secret=secret, text=text, link=link):
                        self._declare(name, secret=secret, text=text, link=link)
                    case QuestionAnswered(name=name, secret=True):
                        self._known.setdefault(name, Known()).secret = True
                    case QuestionAnswered(name=name, value=value, answered=answered):
                        known = self._known.setdefault(name, Known())
                        if answered > known.answered:
                            known.answered, known.value = answered, msgspec.json.decode(value)
                            newer.append(name)
        for name in newer:
            self._wake(name)

    def open(self) -> list[OpenQuestion]:
        """The questions that calls of this service wait for, the earliest first."""
        waiting = self._waiting.describe_all()
        with self._lock:
            asked = [(name, known) for name, known in self._known.items() if not known.answered]
        found: list[OpenQuestion] = []
        for name, known in asked:
            calls = tuple(call.call for call in waiting if cause_of(name) in call.until)
            if calls:
                since = self._bus.clock() if known.since is None else known.since
                about = OpenQuestion(
                    name=name, calls=calls, since=since, secret=known.secret, text=known.text, link=known.link
                )
                found.append(about)
        return sorted(found, key=lambda question: question.since)

    def _wake(self, name: str) -> None:
        self._waiting.conditions.poll_soon(Condition(cause_of(name), lambda: True))

    def _warn(self, name: str) -> None:
        import difflib  # here, for the warning alone

        with self._lock:
            declared = [one for one, known in self._known.items() if known.is_declared]
        close = difflib.get_close_matches(name, declared, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        log.warning("no call has asked the question %r; its answer is kept for later calls%s", name, meant)
        with self._lock:
            self._known[name].is_declared = True  # one warning is enough


def cause_of(name: str) -> str:
    """What a call is said to wait for that waits for the answer to the question *name*."""
    return f"an answer: {name}"


def _as_json(name: str, value: object) -> bytes:
    """*value* as JSON. Raises TypeError if that is not what it was: a tuple comes back as a list."""
    from recovery.serialization.equality import is_same  # here, for an answer

    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a question must be a text that is not empty, not {name!r}")
    try:
        encoded = msgspec.json.encode(value)
        if is_same(msgspec.json.decode(encoded), value):
            return encoded
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.DecodeError):
        pass
    raise TypeError(  # without the value: it may be a secret
        f"the answer to {name!r} cannot be kept: JSON cannot hold this {type(value).__name__}. Give a text, a number, "
        "True, False, None, or a list or a dict (with texts as keys) of these"
    )
