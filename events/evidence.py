"""What a failure carries as data (``Evidence``), what kind it is (``Category``), and what helps (``Remedy``)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from events.question_events import QuestionKind


class Category(StrEnum):
    """What kind of trouble a failure is; it decides what helps."""

    TRANSIENT = "transient"
    """It passes by itself: back off and try again."""
    UNREACHABLE = "unreachable"
    """The request never reached the other side: back off and try again."""
    RATE_LIMITED = "rate_limited"
    """The server wants fewer requests: wait as long as it says, which uses no retry."""
    ENVIRONMENT = "environment"
    """Something on this machine must change first: a disk, a port, file handles."""
    AUTH = "auth"
    """A person must log in, pay or consent."""
    LOST = "lost"
    """The process that did the work died."""
    PERMANENT = "permanent"
    """The same call fails the same way again."""
    EXHAUSTED = "exhausted"
    """An inner recoverable call has already tried everything."""
    CANCELLED = "cancelled"
    """It was stopped from outside, which is no failure."""


class Room(msgspec.Struct, frozen=True, gc=False):
    """Room on a disk that is missing.

    Args:
        folder: Where it is needed.
        bytes: How many bytes are needed there.
    """

    folder: str
    bytes: int


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a failure carries, as data: classification looks at nothing else.

    Args:
        type: The qualified name of the exception's class.
        kinds: The qualified names of its bases, nearest first, up to but without ``Exception``.
        message: At most 4 KiB.
        errno: The system's number.
        status: An HTTP status.
        code: The library's or the database's own code, if it is a known one: "UNAVAILABLE" (gRPC), "SlowDown" (AWS),
            "SQLITE_BUSY", "SQLSTATE 40001", ...
        retry_after: Seconds that a server asked us to wait.
        exit_code: Of a process; negative if a signal of that number killed it.
        stderr: The last 4 KiB that a process wrote there, as a terminal shows them: lines without colours, of a line
            that was written over the last state. Of more than that, bars are left out, and up to 1 KiB of the
            beginning is kept.
        bytes_done: How far a transfer came.
        room: The room that an ``OSError`` says is missing on a disk (``room``).
        cause: The evidence of what the exception came from, at most four levels deep.
    """

    type: str
    kinds: tuple[str, ...] = ()
    message: str = ""
    errno: int | None = None
    status: int | None = None
    code: str | None = None
    retry_after: float | None = None
    exit_code: int | None = None
    stderr: str | None = None
    bytes_done: int | None = None
    room: Room | None = None
    cause: Evidence | None = None

    @property
    def summary(self) -> str:
        """The exception's name and its message, in one line."""
        name = self.type.rpartition(".")[2]
        return f"{name}: {self.message}" if self.message else name


class Remedy(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a person can do about a failure.

        Remedy("Accept the licence.", link="https://huggingface.co/...", question="licence accepted")

    Args:
        sentence: What to do.
        link: Where to do it; "" for nowhere.
        question: The name of the question that is answered once it is done (``service.calls.answer``); "" for none.
        kind: What answers that question; "confirm" if doing it is all.
        choices: The answers to a "choice".

    Raises:
        ValueError: *choices* do not go with *kind*.
    """

    sentence: str
    link: str = ""
    question: str = ""
    kind: QuestionKind = "confirm"
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind == "choice") != bool(self.choices):
            needs = "needs choices" if self.kind == "choice" else f"is answered by a {self.kind}, and has no choices"
            raise ValueError(f"the question {self.question!r} of a remedy {needs}")
