"""What each attempt of a clone changes: the protocol, the depth, the server. Pure.

A clone that broke off breaks off again if nothing changes: a proxy cuts long answers of HTTP/2, a server has no time
for the whole history. So the next attempt speaks HTTP/1.1, then fetches the last commit alone, then asks a mirror.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

Failure: TypeAlias = Literal["broken off", "elsewhere", "refused"]
"""How an attempt failed: in mid-transfer; the server is ill or not there; or what was asked for is not to be had."""

DEEPENING = (50, 1000)
"""Commits by which a shallow clone is deepened before all the rest is asked for: each answer is kept."""


class Step(msgspec.Struct, frozen=True):
    """What an attempt changes against a plain ``git clone``.

    Args:
        settings: Settings that are given by ``-c``.
        depth: Commits of history that are asked for; ``None`` for all.
    """

    settings: tuple[str, ...] = ()
    depth: int | None = None


class Way(msgspec.Struct, frozen=True):
    """How an attempt is made: the number of the server among the URLs, and that of the step among its steps."""

    server: int = 0
    step: int = 0


def steps_of(url: str, depth: int | None) -> tuple[Step, ...]:
    """The steps that are tried with *url*, one after the other: at least two, and each is different."""
    settings: tuple[str, ...] = ()
    steps = [Step(depth=depth)]
    if url.startswith(("http://", "https://")):
        settings = ("http.version=HTTP/1.1",)
        steps.append(Step(settings, depth))
    if depth != 1:
        steps.append(Step(settings, 1))
    elif not settings:
        steps.append(Step(("protocol.version=0",), depth))
    return tuple(steps)


def step_of(way: Way, urls: Sequence[str], depth: int | None) -> Step:
    """The step that *way* names."""
    return steps_of(urls[way.server], depth)[way.step]


def valid(way: Way, urls: Sequence[str], depth: int | None) -> Way:
    """*way*, or the first one if it names no step: an earlier run may have had other URLs."""
    if 0 <= way.server < len(urls) and 0 <= way.step < len(steps_of(urls[way.server], depth)):
        return way
    return Way()


def next_way(way: Way, failure: Failure, urls: Sequence[str], depth: int | None) -> Way:
    """How the next attempt is made after one that was made by *way* has failed.

    It is another way, except after a refusal: then the answer of a person is what changes.

    Args:
        way: How the failed attempt was made.
        failure: How it failed.
        urls: The repository and its mirrors, each once.
        depth: Commits that are wished for; ``None`` for all.
    """
    steps = len(steps_of(urls[way.server], depth))
    following = (way.server + 1) % len(urls)
    match failure:
        case "refused":
            return way
        case "broken off" if way.step + 1 < steps:
            return Way(way.server, way.step + 1)
        case "elsewhere" if following == way.server:
            return Way(way.server, (way.step + 1) % steps)
    return Way(following, 0)


def deepenings(depth: int | None) -> tuple[tuple[str, ...], ...]:
    """Options of the fetches, one after the other, that give a clone of depth 1 the history that is wished for."""
    if depth is not None:
        return ((f"--depth={depth}",),)
    return (*((f"--deepen={more}",) for more in DEEPENING), ("--unshallow",))
