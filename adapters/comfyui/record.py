"""What the journal keeps of a prompt while it is not done: its checkpoint. Pure."""

from __future__ import annotations

from typing import Any

import msgspec


class Posted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A POST of the prompt: journalled before it is sent.

    Args:
        prompt_id: Under which the server knows it.
        server: The process that it is sent to (``identity.of``); "" for a server that the launcher did not start.
        at: Seconds since the epoch. It is shown, and nothing is decided by it: clocks jump.
        number: What the server answered: its place in the order. None while the answer is not known.
        was_seen: Whether the server was seen to have it.
        was_running: Whether the server was seen to execute it.
        was_cut: Whether a connection was refused, or broke off without a close frame, since it was last seen there.
        is_deleted: Whether the launcher has asked the server to delete or interrupt it.
    """

    prompt_id: str
    server: str
    at: float
    number: float | None = None
    was_seen: bool = False
    was_running: bool = False
    was_cut: bool = False
    is_deleted: bool = False


class PromptProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a prompt is.

    Args:
        place: How many prompts are before it; 0 for one that the server has, or that is next.
        waits_for: What it waits for, in words; "" for its turn alone.
        node: The title or the class of the node that runs; "" for none.
        step: The step of that node, 0 if it has none.
        steps: Of how many; 0 if it has none.
        share: Which share of the nodes has run, from 0 to 1, with the running one's part.
    """

    place: int = 0
    waits_for: str = ""
    node: str = ""
    step: int = 0
    steps: int = 0
    share: float = 0.0


class PromptRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="of", tag="prompt"):
    """The checkpoint of a prompt.

    Args:
        queued: Seconds since the epoch at which it was first asked for: its place in the order.
        round: Counts the runs that the server has concluded: each has a prompt id of its own.
        unanswered: Counts the POSTs in a row that had neither an answer nor an effect.
        posted: The POST whose outcome is not known yet; None while it waits for its turn.
        outputs: What nodes put out in that run, by their ids: journalled as the messages come.
        relieved: What was done about a full memory so far: "", "freed", "restarted", "argued".
        progress: How far it is.
        taken_up: Counts the attempts: each checkpoint that begins one is another, so that the deaths of this process
            are not counted against a prompt that waits.
        has_succeeded: Whether the server said that all nodes have run.
        is_agreed: Whether a person has agreed to what its next run costs.
        asked: The question that it waits for; "" for none.
        why: What the question is about, as the error said it.
        cure: What a person can do about it.
    """

    queued: float
    round: int = 0
    unanswered: int = 0
    posted: Posted | None = None
    outputs: dict[str, Any] = {}
    relieved: str = ""
    progress: PromptProgress = PromptProgress()
    taken_up: int = 0
    has_succeeded: bool = False
    is_agreed: bool = False
    asked: str = ""
    why: str = ""
    cure: str = ""
