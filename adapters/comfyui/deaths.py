"""What the death of a server means for the prompts that it had. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from recovery.explain import counted

DEATHS = 2
"""Deaths of the server while a prompt was executing, after which it is set aside."""


class Death(msgspec.Struct, frozen=True):
    """A death of the server while a prompt was executing.

    Args:
        at: Seconds since the epoch.
        words: How the server ended: ``was killed by SIGKILL: ...``.
        node: The title of the node that ran; "" if that is unknown.
    """

    at: float
    words: str
    node: str = ""


class InServer(msgspec.Struct, frozen=True):
    """A prompt that the dead server had.

    Args:
        key: Its name in the queue.
        was_running: Whether it was seen to run, and not to end.
        number: Its place in the order of the server; None for one whose POST was not answered.
    """

    key: str
    was_running: bool
    number: float | None


def suspects(prompts: Sequence[InServer], *, was_ours: bool, was_shared: bool) -> list[str]:
    """The keys of the prompts against which the death counts: the one that was executing.

    A server runs one prompt at a time, in order. Where none was seen to run, that is the oldest that it had taken.

    Args:
        prompts: Those that the server had.
        was_ours: Whether the launcher ended the server: then it counts against none.
        was_shared: Whether the server ran a prompt of another client: then that was executing.
    """
    if was_ours:
        return []
    running = [one for one in prompts if one.was_running]
    if not running and not was_shared:
        taken = [one for one in prompts if one.number is not None]
        running = sorted(taken, key=lambda one: one.number or 0.0)[:1]
    return [one.key for one in running[-1:]]


def is_quarantined(deaths: Sequence[Death]) -> bool:
    """Whether a prompt with these *deaths* is set aside."""
    return len(deaths) >= DEATHS


def why_quarantined(name: str, server: str, deaths: Sequence[Death]) -> str:
    """Why the prompt *name* is set aside, in a sentence without its full stop."""
    times = counted(len(deaths), "time")
    last = deaths[-1] if deaths else Death(0.0, "died")
    node = f" in {last.node}" if last.node else ""
    return f"{server} died {times} while {name} was executing{node}; the last time it {last.words}"
