"""What prompts are called: in the journal, in a server, and by people. Pure."""

from __future__ import annotations

from uuid import UUID, uuid5

NAMESPACE = UUID("7d1c0f5e-4b0a-5d0c-9d7b-6f6d636f6d66")

SHOWN_DIGITS = 8
"""Digits of the digest in the name of a prompt that has no other."""


def key_of(server: str, digest: str, generation: int) -> str:
    """What identifies the effect of a prompt: equal prompts of one server, until their outputs are gone."""
    return f"{server}/{digest}/{generation}"


def server_of(key: str) -> str:
    """The server of a prompt with that *key*; "" for a text that is no such key."""
    return "/".join(key.split("/")[:-2])


def is_again(key: str) -> bool:
    """Whether an equal prompt was done before, and its outputs are gone."""
    return not key.endswith("/0")


def prompt_id(key: str, call: str, number: int) -> str:
    """The id of one run in a server: the same for each POST of it, and another one for each later run.

    Args:
        key: As ``key_of``.
        call: The id of the call, which outlives this process: an earlier call of the same key has left its runs in the
            history of the server.
        number: Counts the runs that the server has concluded.
    """
    return str(uuid5(NAMESPACE, f"{key}/{call}/{number}"))


def shown_name(digest: str, name: str | None) -> str:
    """What a prompt is called in lists and questions: its *name*, or ``prompt 1a2b3c4d``."""
    return name or f"prompt {digest[:SHOWN_DIGITS]}"
