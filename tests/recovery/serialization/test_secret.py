"""Secrets by reference: what the journal gets, and what the function gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.memory import MemoryStore
from recovery import redact
from recovery.serialization.results import decoded, encoded
from recovery.serialization.secret import Secret
from recovery.service import Recovery


@pytest.fixture(autouse=True)
def own_literals() -> Iterator[None]:
    yield
    redact.unhide()


def test_of_a_secret_the_journal_gets_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "swordfish-1234")
    store, seen = MemoryStore(), []
    with Recovery(store=store) as service:
        call = service.recoverable("fetch", resumable=True)(lambda url, token: seen.append(token.reveal()))
        call("u", Secret("env:HF_TOKEN"))
    assert seen == ["swordfish-1234"]
    bodies = b"".join(row.body for row in store.rows)
    assert b'{"$secret":"env:HF_TOKEN"}' in bodies
    assert b"swordfish" not in bodies


def test_a_secret_comes_back_as_one() -> None:
    value = [Secret("env:A"), {"deep": [Secret("file:/b")]}]
    assert decoded(encoded(value)) == value


def test_a_secret_that_was_revealed_is_hidden_from_then_on(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" open-sesame\n")
    assert Secret(f"file:{tmp_path / 'token'}").reveal() == "open-sesame"
    assert redact.redact("say open-sesame") == "say ***"


def test_a_secret_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(LookupError, match="NOT_SET"):
        Secret("env:NOT_SET").reveal()


@pytest.mark.parametrize("reference", ["", "HF_TOKEN", "env:", "vault:x", 5])
def test_a_reference_says_where_to_look(reference: Any) -> None:
    with pytest.raises(ValueError, match="env:NAME or file:PATH"):
        Secret(reference)


def test_a_secret_that_is_given_as_a_reference_is_not_told() -> None:
    with pytest.raises(ValueError, match=r"\(14 characters\) is neither"):
        Secret("swordfish-1234")


def test_a_planted_reference_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="env:NAME or file:PATH"):
        decoded(b'[{"$secret": 5}]')
    assert decoded(b'{"$secret":"env:A","b":1}') == {"$secret": "env:A", "b": 1}
