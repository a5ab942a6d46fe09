"""Server-sent events: what the page shows is read once for all streams, and each stream gets what has changed.

A stream begins with the event ``state``, a whole ``PageState``. Then it gets ``change``: an object with "at",
"headline", "calls" (the lines that changed, by id), "gone" (ids) and each other section that changed. A stream that
took an update too late for the next one gets the whole state again. Nothing is read while no stream is open.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from adapters.web.state import PageState

EVERY = 0.25
"""Seconds between two updates."""

REST = 3.0
"""Seconds without an update for each second that the latest one has taken a processor: the calls come first."""

MOST_STREAMS = 64

STALLED_AFTER = 10.0
"""Seconds that a reader has to take an update; then its stream ends."""

HEARTBEAT = 10.0
"""Seconds without a change after which a stream gets an empty comment, so that a reader that is gone is noticed."""

SECTIONS = tuple(name for name in PageState.__struct_fields__ if name not in ("at", "headline", "calls"))

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Frame(msgspec.Struct):
    """The *state* of that *number*, what it *changed* in the one before as an event, and itself as an event."""

    number: int
    state: PageState
    changed: bytes
    whole: bytes = b""
    encoded_at: float = 0.0

    def now(self) -> PageState:
        """The state, with the time of now: it may have stood so for hours, and the page counts down from its time."""
        return msgspec.structs.replace(self.state, at=time.time())

    @property
    def event(self) -> bytes:
        """The whole state as an event, encoded once in ``EVERY`` seconds for all streams that need it."""
        if not self.whole or time.monotonic() - self.encoded_at > EVERY:
            self.whole, self.encoded_at = event("state", self.now()), time.monotonic()
        return self.whole


class Streams:
    """Reads the state for all streams of an app, four times a second while there is one.

    Args:
        read: Reads the state; it may block, and runs on a worker thread, one call at a time.
        every: Seconds between two updates.
        most: The most streams at a time.
        stalled_after: Seconds that a reader has to take an update.
        heartbeat: Seconds without a change after which a stream gets an empty comment.
    """

    def __init__(
        self,
        read: Callable[[], PageState],
        *,
        every: float = EVERY,
        most: int = MOST_STREAMS,
        stalled_after: float = STALLED_AFTER,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._read = read
        self._every = every
        self._most = most
        self._stalled_after = stalled_after
        self._heartbeat = heartbeat
        self._lock = anyio.Lock()
        self._limiter: anyio.CapacityLimiter | None = None  # one of our own: the shared one may be full of calls
        self._frame: Frame | None = None
        self._due = self._cost = 0.0
        self.open = 0
        """How many streams are open."""

    @property
    def is_full(self) -> bool:
        """Whether no more streams are taken."""
        return self.open >= self._most

    async def frame(self, after: int = 0) -> Frame:
        """The state of now, once its number is greater than *after*: once something has changed."""
        while True:
            if (frame := self._frame) is not None and frame.number > after and time.monotonic() < self._due:
                return frame
            await anyio.sleep(max(self._due - time.monotonic(), 0.0))
            async with self._lock:
                if time.monotonic() >= self._due:
                    await self._tick()

    async def _tick(self) -> None:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(1)
        try:
            self._frame = await anyio.to_thread.run_sync(self._next, self._frame, limiter=self._limiter)
        finally:
            self._due = time.monotonic() + max(self._every, self._cost * REST)

    def _next(self, former: Frame | None) -> Frame:
        began = time.thread_time()
        try:
            return self._read_after(former)
        finally:
            self._cost = time.thread_time() - began

    def _read_after(self, former: Frame | None) -> Frame:
        state = self._read()
        if former is None:
            return Frame(1, state, b"")
        changed = changes(former.state, state)
        return Frame(former.number + 1, state, event("change", changed)) if changed else former

    async def serve(self, receive: Receive, send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Begin a response with *headers*, and send events until the reader is gone, or stalls."""
        self.open += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async with anyio.create_task_group() as group:

                async def until_gone() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                group.start_soon(until_gone)
                await self._write(send)
                group.cancel_scope.cancel()
        finally:
            self.open -= 1

    async def _write(self, send: Send) -> None:
        """Send each frame; returns when the reader has stalled."""
        number = 0
        while True:
            data = b":\n\n"
            with anyio.move_on_after(self._heartbeat):
                frame = await self.frame(number)
                data = frame.changed if number and frame.number == number + 1 else frame.event
                number = frame.number
            with anyio.move_on_after(self._stalled_after) as sending:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            if sending.cancelled_caught:
                return


def event(name: str, value: object) -> bytes:
    """*value* as the server-sent event of that *name*: JSON is one line."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(value) + b"\n\n"


def changes(former: PageState, state: PageState) -> dict[str, object]:
    """What a stream that has *former* must be told to have *state*; empty if nothing changed but the time."""
    before, calls = former.calls, state.calls
    lines = {call: line for call, line in calls.items() if (known := before.get(call)) is not line and known != line}
    gone = [call for call in before if call not in calls]
    sections = {name: getattr(state, name) for name in SECTIONS if getattr(former, name) != getattr(state, name)}
    if not (lines or gone or sections or former.headline != state.headline):
        return {}
    return {"at": state.at, "headline": state.headline, "calls": lines, "gone": gone, **sections}
