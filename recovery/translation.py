"""The sentences about failures in another language, from a TOML file.

    read_translation("german.toml").speak()

``recovery sentences`` prints the English ones as such a file, to be translated. What a file leaves out stays English.
docs/reference/causes.md lists the causes, and the {names} that a sentence may have in [brackets].
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping

import msgspec

from recovery import tables
from recovery.policies.sentence import DETAILS, Sentence, problem_of
from recovery.policies.sentences import ENGLISH, NEXT, NEXT_DETAILS, Sentences, spoken
from recovery.redact import brief
from recovery.suggestions import hint


class _Cause(msgspec.Struct):
    sentence: str = ""
    step: str = ""
    itself: str = ""


class _Document(msgspec.Struct):
    next: dict[str, str] = {}
    causes: dict[str, _Cause] = {}


def read_translation(path: str | os.PathLike[str]) -> Sentences:
    """The sentences in the TOML file at *path*.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no TOML, or names a cause or a detail that there is not. The message names the file, the key
            and what it may be.
    """
    name = brief(os.fspath(path))
    with open(path, "rb") as file:
        try:
            return translation(tomllib.load(file))
        except ValueError as error:  # also of TOML, and of UTF-8
            raise ValueError(f"{name}: {error}") from error


def translation(document: Mapping[str, object]) -> Sentences:
    """The sentences of *document*, as TOML has it. Raises TableError for the first thing that is wrong."""
    found = tables.given(tables.read(document, tables.table_of(_Document)))
    following: dict[str, str] = found.get("next", {})
    causes = {key: Sentence(**{"sentence": "", **tables.given(one)}) for key, one in found.get("causes", {}).items()}
    for table, keys, known in (("causes", causes, ENGLISH), ("next", following, _next())):
        if strange := [key for key in keys if key not in known]:
            raise tables.TableError(f"{table}.{brief(strange[0])}", f"there is no such key; {hint(strange[0], known)}")
    for key, text in following.items():
        _check(f"next.{key}", text, NEXT_DETAILS)
    for key, sentence in causes.items():
        for part, text in sentence._asdict().items():
            _check(f"causes.{key}.{part}", text, DETAILS)
    return Sentences(causes, {key: text for key, text in following.items() if text})


def as_toml(sentences: Sentences | None = None) -> str:
    """*sentences*, by default those that this process shows, as the TOML file that ``read_translation`` reads."""
    return "\n".join(_lines(sentences or spoken())) + "\n"


def _next() -> dict[str, str]:
    return {key: text for key, text in NEXT.items() if key}


def _check(key: str, text: str, known: Mapping[str, str]) -> None:
    if problem := problem_of(text, known):
        raise tables.TableError(key, brief(problem))


def _lines(sentences: Sentences) -> Iterator[str]:
    yield "[next]"
    for key in _next():
        yield f"{key} = {json.dumps(sentences.following[key], ensure_ascii=False)}"
    for key, sentence in sentences.causes.items():
        yield f"\n[causes.{key}]"
        for part, text in sentence._asdict().items():
            if text:
                yield f"{part} = {json.dumps(text, ensure_ascii=False)}"
