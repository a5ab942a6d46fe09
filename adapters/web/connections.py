"""The connections of the server: bounded in number and in idle time; what is no HTTP is answered like all else."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from adapters.web.headers import RAW
from recovery.installation import extra

with extra("web"):
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 512
"""Connections at a time: each takes a file descriptor, of which the journal needs some."""

BAD_REQUEST = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close"), *RAW]


class Connection(H11Protocol):
    """A connection of uvicorn that is closed when it is idle: uvicorn waits for a request's head without end."""

    idle_for = 10.0
    """Seconds in which the head of the next request must arrive."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.close()
        else:
            self.loop.call_later(self.idle_for, self._close_if_idle, None)

    def _close_if_idle(self, former: object) -> None:
        """Close it if no request is answered, nor has been since the look that saw *former* as the latest one."""
        if self.transport.is_closing():
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is former:
            self.transport.close()
        else:
            self.loop.call_later(self.idle_for, self._close_if_idle, self.cycle if is_idle else self)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, with the headers of every answer."""
        with suppress(h11.LocalProtocolError):  # an answer is under way
            head = h11.Response(status_code=400, headers=BAD_REQUEST)
            for event in (head, h11.Data(data=msg.encode()), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
