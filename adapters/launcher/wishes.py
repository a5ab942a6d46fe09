"""What a launcher is asked for, checked before anything begins; and what its commands promise."""

from __future__ import annotations

from collections.abc import Sequence

from events.errors import Permanent
from recovery.redact import redact


class WishError(Permanent, ValueError):
    """What was asked of a launcher is wrong, or not safe. The message is one line."""


class NotDoneError(Permanent):
    """A command ended well, and what it should make is not there."""


def check_sources(urls: Sequence[str]) -> None:
    """Raise WishError if no file can be downloaded from *urls*."""
    if not urls:
        raise WishError("a download needs a URL")


def check_words(words: Sequence[str]) -> None:
    """Raise WishError if *words* are no command, or hold what looks like a secret."""
    if not words or not words[0]:
        raise WishError("a command needs a program")
    for number, word in enumerate(words):
        if "\0" in word:
            raise WishError(f"word {number} of the command has a null character, which no system passes on")
    if redact(" ".join(words)) != " ".join(words):
        raise WishError(f"the command holds what looks like a secret: {redact(' '.join(words))}; pass it by env=")
