"""What a launcher is asked for: checked, and as the arguments of its journalled calls."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adapters.downloads.names import files_of, is_taken
from adapters.launcher.limits import TAKEN, too_long, wrong_url
from events.errors import Permanent
from recovery import validation
from recovery.redact import redact
from recovery.serialization.secret import Secret

log = logging.getLogger("recovery.launch")


class InvalidRequestError(Permanent, ValueError):
    """What was asked of a launcher is wrong, or not safe. The message is one line."""


class NotDoneError(Permanent):
    """A command ended well, and what it should make is not there."""


def check_settings(parallel: int, stall_timeout: float, orphans: str) -> None:
    """Raise TypeError or ValueError for settings that no launcher can have."""
    validation.whole("parallel", parallel, least=1)
    validation.number("stall_timeout", stall_timeout, above=0.0)
    validation.choice("orphans", orphans, ("wait", "end"))


def check_sources(urls: Sequence[object]) -> None:
    """Raise InvalidRequestError for URLs that no file can be downloaded from; warn of a password in one."""
    if not urls:
        raise InvalidRequestError("a download needs a URL")
    for url in urls:
        if not isinstance(url, str):
            raise InvalidRequestError(f"a download needs a URL, or a list of them, as text, not {url!r}")
        if (reason := wrong_url(url)) is not None:
            raise InvalidRequestError(f"{redact(url)} {reason}")
        if "@" in urlsplit(url).netloc:
            log.warning(
                "the URL holds a password, and is journalled as it is; give a token by tokens=: %s", redact(url)
            )


def check_promises(sha256: object, size: object) -> None:
    """Raise InvalidRequestError for a hash or a size that no file can have."""
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256)):
        raise InvalidRequestError(f"sha256 must be 64 hex digits, not {sha256!r}")
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidRequestError(f"size must be a number of bytes, not {size!r}")


def check_destination(root: Path, text: str, place: Path) -> None:
    """Raise InvalidRequestError if no file can be downloaded to *place*, to which *text* leads below *root*."""
    if place == root:
        raise InvalidRequestError(f"{text!r} is the root itself, {root}; name a file below it")
    if is_taken(place.name):
        raise InvalidRequestError(f"{text!r} {TAKEN}")
    try:
        text.encode()
        reason = too_long(place, files_of(place))
    except UnicodeEncodeError:
        reason = "is no text of Unicode, and cannot be journalled"
    if reason is not None:
        raise InvalidRequestError(f"{text!r} {reason}")


def words_of(argv: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The words of a command. Raises InvalidRequestError for words that cannot be run; warns of a secret in them."""
    if isinstance(argv, str | bytes):
        raise InvalidRequestError(f"argv must be a list of texts, not {redact(repr(argv)):.80}; no shell reads it")
    words = list[str]()
    for number, word in enumerate(argv):
        if not isinstance(text := os.fspath(word) if isinstance(word, os.PathLike) else word, str):
            raise InvalidRequestError(
                f"word {number} of the command must be a text or a path, not a {type(word).__name__}"
            )
        if "\0" in text:
            raise InvalidRequestError(f"word {number} of the command has a null character, which no system passes on")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequestError(
                f"word {number} of the command is not UTF-8, which the journal needs: {text!r}"
            ) from None
        words.append(text)
    if not words or not words[0]:
        raise InvalidRequestError("a command needs a program")
    if (shown := redact(" ".join(words))) != " ".join(words):
        log.warning(
            "the command holds what looks like a secret, and is journalled as it is; pass it by env=: %s", shown
        )
    return words


def check_variables(env: Mapping[str, str | Secret]) -> None:
    """Raise InvalidRequestError for variables that no system passes on. A value is not shown, as it may be a secret."""
    for name, value in env.items():
        if not isinstance(name, str) or not name or {"=", "\0"} & set(name):
            raise InvalidRequestError(f"env: {name!r} is no name of a variable")
        if not isinstance(value, str | Secret):
            raise InvalidRequestError(
                f"env: the value of {name} must be a text or a Secret, not a {type(value).__name__}"
            )
        if isinstance(value, str) and "\0" in value:
            raise InvalidRequestError(f"env: the value of {name} has a null character, which no system passes on")


def download_arguments(urls: Sequence[str], to: str, sha256: str | None, size: int | None) -> list[Any]:
    """What the call of a download is journalled with, after its name."""
    return [list(urls), to, sha256, size]


def command_arguments(
    argv: Sequence[str], cwd: str, env: Mapping[str, str | Secret], silence: float | None, done: str | None
) -> list[Any]:
    """What the call of a command is journalled with, after its name: of variables the references to secrets alone."""
    names = {one: value.reference if isinstance(value, Secret) else "" for one, value in env.items()}
    return [list(argv), cwd, names, silence, done]
