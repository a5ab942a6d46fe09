"""What the checkpoints of servers and steps say to a person."""

from __future__ import annotations

from contextlib import suppress
from typing import TypeAlias

import msgspec

from adapters.launcher.saga import RunRecord
from adapters.servers.restarts import names_of


class ServerNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """The checkpoint of a server that runs.

    Args:
        server: Its state: "starting", "ready", "busy", or "refused".
        url: Its address; "" before it is known.
        degraded: Parts of it that do not work.
    """

    server: str
    url: str
    degraded: tuple[str, ...] = ()


Note: TypeAlias = ServerNote | RunRecord
"""The checkpoint of a server, or of a run of steps."""


def saved_note(saved: bytes | msgspec.Raw) -> Note | None:
    """What a checkpoint says of a server or of steps; None for one of another kind."""
    with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.json.decode(saved, type=ServerNote)
    with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.json.decode(saved, type=RunRecord)
    return None


def note_words(note: Note | None) -> str:
    """``ready at http://127.0.0.1:8188``, ``step 2 of 3: move``, ``undoing move``; "" if there is nothing to say."""
    match note:
        case ServerNote(server="starting"):
            return ""
        case ServerNote(server=state, url=url, degraded=degraded):
            lack = f", without {names_of(degraded)}" if degraded else ""
            return f"{'takes no connections' if state == 'refused' else state} at {url}{lack}"
        case RunRecord(why=why, begun=(*_, last)) if why:
            return f"undoing {last.name}"
        case RunRecord(open=last, begun=begun, steps=steps) if last is not None:
            return f"step {len(begun)} of {len(steps)}: {last.name}"
    return ""
