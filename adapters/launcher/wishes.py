"""What a launcher is asked for: checked, and as the arguments of its journalled calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.launcher.limits import wrong_url
from events.errors import Permanent
from recovery.redact import redact
from recovery.serialization.secret import Secret


class WishError(Permanent, ValueError):
    """What was asked of a launcher is wrong, or not safe. The message is one line."""


class NotDoneError(Permanent):
    """A command ended well, and what it should make is not there."""


def check_sources(urls: Sequence[str]) -> None:
    """Raise WishError for URLs that no file can be downloaded from, or that hold a password."""
    if not urls:
        raise WishError("a download needs a URL")
    for url in urls:
        if (reason := wrong_url(url)) is not None:
            raise WishError(f"{redact(url)} {reason}")


def check_words(words: Sequence[str]) -> None:
    """Raise WishError for words of a command that cannot be run, or that hold a secret."""
    if not words or not words[0]:
        raise WishError("a command needs a program")
    for number, word in enumerate(words):
        if "\0" in word:
            raise WishError(f"word {number} of the command has a null character, which no system passes on")
    if redact(" ".join(words)) != " ".join(words):
        raise WishError(f"the command holds what looks like a secret: {redact(' '.join(words))}; pass it by env=")


def download_arguments(urls: Sequence[str], to: str, sha256: str | None, size: int | None) -> list[Any]:
    """What the call of a download is journalled with, after its name."""
    return [list(urls), to, sha256, size]


def command_arguments(
    argv: Sequence[str], cwd: str, env: Mapping[str, str | Secret], silence: float | None, done: str | None
) -> list[Any]:
    """What the call of a command is journalled with, after its name: of variables the references to secrets alone."""
    names = {one: value.reference if isinstance(value, Secret) else "" for one, value in env.items()}
    return [list(argv), cwd, names, silence, done]
