"""How far a prompt is, from the messages of its run, and how often that is told. Pure: times are arguments."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from adapters.comfyui.graph import MOST_OF_A_TITLE
from adapters.comfyui.messages import Cached, Executed, Executing, Message, Step, Succeeded
from adapters.comfyui.record import PromptProgress, PromptRecord
from events.event import Event
from events.operation_events import CheckpointSaved
from recovery.redact import brief

INTERVAL = 1.0
"""Seconds between two checkpoints that say only how far a prompt is."""


def titles_of(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What each of the *nodes* of a graph is called: its title, or else its class. Redacted, in one line."""
    return {node: _title(content) for node, content in nodes.items()}


def _title(content: Mapping[str, Any]) -> str:
    match content.get("_meta"):
        case {"title": str(title)} if title.strip():
            return brief(title, MOST_OF_A_TITLE).strip()
    return brief(str(content.get("class_type", "")), MOST_OF_A_TITLE)


class RunProgress(msgspec.Struct, frozen=True):
    """One run of a prompt, as its messages tell of it.

    Args:
        titles: What each node of its graph is called, by its id.
        done: The nodes that have run, or need not.
        running: The node that runs; "" for none.
        progress: How far it is.
    """

    titles: Mapping[str, str]
    done: frozenset[str] = frozenset()
    running: str = ""
    progress: PromptProgress = PromptProgress()

    def after(self, message: Message) -> RunProgress:
        """The run after *message*, which is of this run. Its share never falls, and is 1 once it has succeeded."""
        match message:
            case Cached(nodes=nodes):
                return self._at(self.done.union(nodes), self.running)
            case Executing(node=str(node)) if node != self.running:
                return self._at(self.done | ({_outer(self.running)} - {_outer(node), ""}), node)
            case Step(node=node, value=value, max=most):
                return self._at(self.done, node, value, most)
            case Executed(node=node):
                return self._at(self.done | {node}, "" if node == self.running else self.running)
            case Succeeded():
                return self._at(self.done.union(self.titles), "")
        return self

    def _at(self, done: frozenset[str], running: str, value: float = 0.0, most: float = 0.0) -> RunProgress:
        if running == self.running and not most:  # another node is told of
            value, most = float(self.progress.step), float(self.progress.steps)
        value = min(max(value, 0.0), most)
        part = value / most if most > 0.0 and running in self.titles and running not in done else 0.0
        share = (len(done & self.titles.keys()) + part) / max(len(self.titles), 1)
        progress = PromptProgress(
            node=self.titles.get(_outer(running), ""),
            step=int(value),
            steps=int(max(most, 0.0)),
            share=max(self.progress.share, share),
        )
        return msgspec.structs.replace(self, done=done, running=running, progress=progress)


def _outer(node: str) -> str:
    """The node of the graph that *node* is a part of: one that grows while it runs has parts like ``5.0.0.3``."""
    return node.partition(".")[0]


class Told(msgspec.Struct, frozen=True):
    """What was last told of the progress of a prompt: *progress*, and *at* which time. Nothing yet, by default."""

    progress: PromptProgress | None = None
    at: float = 0.0

    def is_due(self, progress: PromptProgress, now: float, *, is_last: bool = False) -> bool:
        """Whether *progress* is to be told *now*: the first and the last at once, others a second apart.

        What is not due with its message is due at a later look, so looks go on between messages.
        """
        if progress == self.progress:
            return False
        return self.progress is None or is_last or now - self.at >= INTERVAL


def progress_of(event: Event) -> PromptProgress | None:
    """How far a prompt is, for subscribers of ``CheckpointSaved``; None for any other event."""
    if isinstance(event, CheckpointSaved):
        with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            return msgspec.json.decode(event.data, type=PromptRecord).progress
    return None
