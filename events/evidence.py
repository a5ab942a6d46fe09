"""What a failure carries as data (``Evidence``), and what kind of failure it is (``Category``)."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Category(StrEnum):
    """What kind of trouble a failure is; it decides what helps."""

    TRANSIENT = "transient"  # back off and try again
    UNREACHABLE = "unreachable"  # the same, and the other side never heard of us
    RATE_LIMITED = "rate_limited"  # wait as long as the server said; it uses up no retry
    ENVIRONMENT = "environment"  # disk, port, file handles: something here must change first
    AUTH = "auth"  # a person must log in, pay or consent
    LOST = "lost"  # the process that did the work died
    PERMANENT = "permanent"  # the same call will fail the same way
    EXHAUSTED = "exhausted"  # an inner recoverable call has already tried everything
    CANCELLED = "cancelled"  # somebody changed their mind; not a failure


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a failure carries, as data: all that classification may look at.

    *type* is the qualified name of the exception's class, *kinds* those of its bases, nearest first, up to but
    without ``Exception``. *message* is at most 4 KiB. *errno* is the system's number, *status* an HTTP status,
    *retry_after* the seconds a server asked us to wait, *exit_code* a process's (negative: killed by that
    signal), *stderr* the last 4 KiB of what it complained about, *bytes_done* how far a transfer came. *cause* is the
    evidence of what the exception came from, four levels deep at most.
    """

    type: str
    kinds: tuple[str, ...] = ()
    message: str = ""
    errno: int | None = None
    status: int | None = None
    retry_after: float | None = None
    exit_code: int | None = None
    stderr: str | None = None
    bytes_done: int | None = None
    cause: Evidence | None = None

    @property
    def summary(self) -> str:
        """One line for people: the exception's name and its message."""
        name = self.type.rpartition(".")[2]
        return f"{name}: {self.message}" if self.message else name
