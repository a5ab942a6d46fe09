"""The evidence of a failure for people: what its exception, process or server said, as texts without secrets. Pure."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import msgspec

from adapters.launcher.progress import amount
from events.evidence import Evidence
from recovery.explain import shown
from recovery.policies.causes_of_rules import SIGNALS
from recovery.policies.error_output import as_shown
from recovery.redact import brief

MOST_OUTPUT = 5
"""Lines of a tool's error output that are shown."""

MOST_OF_CAUSE = 200
"""Characters of an inner exception that are shown."""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The evidence of the latest failure, redacted: of ``events.evidence.Evidence`` what is there.

    Args:
        type: The qualified name of the exception's class.
        message: Its text.
        errno: The system's number, with its name ("28 ENOSPC").
        status: An HTTP status.
        code: A library's or a database's own code.
        exit_code: Of a process, with the signal's name if one killed it ("-9 SIGKILL").
        retry_after: Seconds that a server asked to wait.
        bytes_done: How far a transfer came.
        room: The room that is missing ("6.2 GB in models").
        output: The last lines that the tool wrote as errors, also where an inner exception has them.
        causes: The exceptions from which it came, nearest first.
    """

    type: str
    message: str = ""
    errno: str = ""
    status: int | None = None
    code: str = ""
    exit_code: str = ""
    retry_after: float | None = None
    bytes_done: int | None = None
    room: str = ""
    output: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()


def proof_of(evidence: Evidence) -> Proof:
    """*evidence* as texts."""
    causes, stderr, cause = list[str](), evidence.stderr, evidence.cause
    while cause is not None:
        stderr = stderr or cause.stderr
        if (summary := shown(cause.summary, MOST_OF_CAUSE)) not in causes and cause.summary != evidence.summary:
            causes.append(summary)
        cause = cause.cause
    lines = [line for line in brief(stderr or "", reshape=as_shown, tail=True).split("\n") if line.strip()]
    room = evidence.room
    return Proof(
        type=shown(evidence.type),
        message=shown(evidence.message),
        errno="" if evidence.errno is None else _with_name(evidence.errno, errno.errorcode),
        status=evidence.status,
        code=shown(evidence.code or ""),
        exit_code="" if evidence.exit_code is None else _exit_words(evidence.exit_code),
        retry_after=evidence.retry_after,
        bytes_done=evidence.bytes_done,
        room="" if room is None else shown(f"{amount(room.bytes)} in {room.folder}"),
        output=tuple(shown(line) for line in lines[-MOST_OUTPUT:]),
        causes=tuple(causes),
    )


def _with_name(number: int, names: Mapping[int, str]) -> str:
    return f"{number} {names[number]}" if number in names else str(number)


def _exit_words(code: int) -> str:
    return f"{code} {SIGNALS[-code]}" if -code in SIGNALS else str(code)
