"""What the checkpoints of servers, steps and prompts say to a person."""

from __future__ import annotations

from contextlib import suppress
from typing import TypeAlias

import msgspec

from adapters.comfyui.record import PromptProgress, PromptRecord
from adapters.launcher.saga import RunRecord
from adapters.servers.restarts import names_of

WITH_NOTES = ("server", "steps", "comfyui-prompt")
"""The kinds of calls whose checkpoints are notes."""

MOST_OF_NODE = 30
"""Characters that are shown of the title of a node: how far it is comes after it."""


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


Note: TypeAlias = ServerNote | RunRecord | PromptRecord
"""The checkpoint of a server, of a run of steps, or of a prompt."""


def saved_note(saved: bytes | msgspec.Raw) -> Note | None:
    """What a checkpoint says of a server, of steps, or of a prompt; None for one of another kind."""
    kinds: tuple[type[Note], ...] = (ServerNote, RunRecord, PromptRecord)  # each needs a key that the others lack
    for kind in kinds:
        with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            return msgspec.json.decode(saved, type=kind)
    return None


def saved_words(operation: str, saved: bytes | None) -> str:
    """What the checkpoint of a call of *operation* says, in words; "" for a kind of calls without notes."""
    has_note = saved is not None and operation.partition(" ")[0] in WITH_NOTES
    return note_words(saved_note(saved)) if has_note and saved else ""


def note_words(note: Note | None) -> str:
    """How it stands: ``ready at http://127.0.0.1:8188``, ``step 2 of 3: move``, ``KSampler, step 12 of 20, 45 %``.

    "" if there is nothing to say.
    """
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
        case PromptRecord():
            return _prompt_words(note)
    return ""


def _prompt_words(record: PromptRecord) -> str:
    progress: PromptProgress = record.progress
    if progress.waits_for or progress.place:
        before = f"{progress.place} before it" if progress.place else ""
        return "; ".join(filter(None, (before, progress.waits_for and f"waits: {progress.waits_for}")))
    if record.posted is None:
        return "next"
    node = progress.node
    words = [node if len(node) <= MOST_OF_NODE else f"{node[: MOST_OF_NODE - 1].rstrip()}…"] if node else []
    words += [f"step {progress.step} of {progress.steps}"] if progress.steps and node else []
    if words or progress.share:
        return ", ".join((*words, f"{int(progress.share * 100)} %"))
    return "begins" if record.posted.was_running else "waits in the server"
