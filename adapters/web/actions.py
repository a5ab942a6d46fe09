"""What the page asks the server to do: the bodies of its requests, bounded, and what is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from adapters.journals.next_step import Action
from adapters.web.source import Done, IncidentAction, Source
from events.errors import RecoveryError
from recovery.installation import extra
from recovery.redact import brief

with extra("web"):
    from starlette.requests import ClientDisconnect, Request

MOST_BYTES = 64 * 1024
"""Bytes of a body that are read."""

BODY_TIMEOUT = 10.0
"""Seconds in which a body must arrive."""

MOST_AT_ONCE = 8
"""Changes that are carried out at a time."""


T = TypeVar("T", bound=msgspec.Struct)


class RefusedError(Exception):
    """A request that is not carried out: the HTTP *status*, and *said* for its sender."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


class ActionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /actions``."""

    action: Action
    call: str


class IncidentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /incidents``."""

    action: IncidentAction
    incident: str


class AnswerRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /answers``; its *value* is never written, logged or sent back."""

    question: str
    value: bool | str


class Actions:
    """Carries out what requests ask *source* for, on worker threads."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._limiter: anyio.CapacityLimiter | None = None

    async def act(self, request: Request) -> Done:
        """Carry out ``POST /actions``. Raises RefusedError."""
        asked = await body_of(request, ActionRequest)
        return await self._carry_out(lambda: self._source.act(asked.action, asked.call))

    async def steer_incident(self, request: Request) -> Done:
        """Carry out ``POST /incidents``. Raises RefusedError."""
        asked = await body_of(request, IncidentRequest)
        return await self._carry_out(lambda: self._source.steer_incident(asked.action, asked.incident))

    async def answer(self, request: Request) -> Done:
        """Carry out ``POST /answers``. Raises RefusedError."""
        asked = await body_of(request, AnswerRequest)
        return await self._carry_out(lambda: self._source.answer(asked.question, asked.value))

    async def _carry_out(self, function: Callable[[], Done]) -> Done:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(MOST_AT_ONCE)
        try:
            done = await anyio.to_thread.run_sync(function, limiter=self._limiter)
        except (LookupError, TypeError, ValueError) as error:  # what was asked for does not fit
            return Done(is_done=False, said=brief(str(error.args[0] if error.args else error)))
        except FileNotFoundError:
            return Done(is_done=False, said="there is no journal yet: it begins with the first run")
        except (RecoveryError, OSError):
            return Done(is_done=False, said="the journal cannot be read or written now; try again")
        return Done(is_done=done.is_done, said=brief(done.said))


async def body_of(request: Request, kind: type[T]) -> T:
    """The body of *request* as a *kind*. Raises RefusedError."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "the content type must be application/json")
    too_long = RefusedError(413, f"the body has more than {MOST_BYTES} bytes")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MOST_BYTES:
        raise too_long
    data = b""
    with anyio.move_on_after(BODY_TIMEOUT) as reading:
        try:
            async for chunk in request.stream():
                data += chunk
                if len(data) > MOST_BYTES:
                    raise too_long
        except ClientDisconnect:
            raise RefusedError(400, "the body has not arrived") from None
    if reading.cancelled_caught:
        raise RefusedError(408, f"the body has not arrived in {BODY_TIMEOUT:g} s")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        names = ", ".join(kind.__struct_fields__)
        raise RefusedError(400, f"the body must be a JSON object with: {names}") from None
