"""What a launcher is asked for: checked, and as the arguments of its journalled calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters.launcher.limits import wrong_url
from events.errors import NeedsPerson, Permanent
from events.evidence import Remedy
from recovery.calls import Calls
from recovery.redact import redact
from recovery.serialization.secret import Secret


class WishError(Permanent, ValueError):
    """What was asked of a launcher is wrong, or not safe. The message is one line."""


class MissingSecretError(NeedsPerson):
    """A variable or a file that holds a secret is not there."""


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


def path_of(made: str) -> str:
    """How a path that a command makes is journalled."""
    return f"path:{made}"


def name_of(function: Callable[..., object]) -> str:
    """How a function that tells whether a command is done is journalled."""
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"


def shown_of(done: str) -> str:
    """What a person reads of a journalled *done*."""
    return done.partition(":")[2]


def value_of(calls: Calls, variable: str, reference: str) -> str | Secret:
    """The secret of that *reference*; the answer to the question ``secret:REFERENCE`` if it is missing.

    Raises MissingSecretError, with that question, while there is none.
    """
    secret, question = Secret(reference), f"secret:{reference}"
    try:
        secret.reveal()
    except (LookupError, OSError) as error:
        if isinstance(answer := calls.answered(question), str):
            return answer
        remedy = Remedy(f"Give the value of {variable}.", question=question, kind="secret")
        why = error.strerror if isinstance(error, OSError) else error.args[0]
        raise MissingSecretError(f"{variable} is needed, and {reference} has no value: {why}", remedy=remedy) from error
    return secret
