"""What can be kept of arguments and results, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from events.operation_events import OperationStarted
from recovery import redact, serialization
from recovery.serialization import MAX_BYTES, Secret, decoded, decoded_arguments, encoded
from recovery.service import Recovery
from tests.recorded_events import events_of

CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]

BAD = {
    "NaN": float("nan"),
    "infinity": float("-inf"),
    "a tuple": (1, 2),
    "int keys": {1: "a"},
    "a set": {"a", "b"},
    "a path": Path("x"),
    "an object": object(),
    "a cycle": CYCLE,
    "a depth": DEEP,
    "bytes": b"bytes",
    "a lone surrogate": "\ud800",
    "an int of a subclass": type("Own", (int,), {})(1),
    "a nested tuple": {"x": [(1,)]},
    "ten megabytes": "x" * 10_000_000,
    "what looks like a secret": {"$secret": "env:X"},
}


@pytest.mark.parametrize(
    "value", [["text", 1, 1.5, None, True, [1, [2]], {"a": {"b": [None]}}], [], ["ünïcode \u2028"], [2**80], [-0.0]]
)
def test_plain_data_comes_back_as_it_was(value: Any) -> None:
    assert decoded(encoded(value)) == value
    assert decoded_arguments(encoded([value, {"key": value}])) == (value, {"key": value})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_is_kept_comes_back_as_it_was_or_is_refused(value: Any) -> None:
    try:
        data = encoded(value)
    except ValueError:
        return
    assert decoded(data) == value


@pytest.mark.parametrize("argument", BAD.values(), ids=BAD)
def test_what_would_not_come_back_is_not_resumable_says_so_once_and_runs(
    argument: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store, seen = MemoryStore(), []
    with Recovery(store=store) as service, caplog.at_level(logging.WARNING):
        started = events_of(service, OperationStarted)
        call = service.recoverable("fetch", resumable=True)(lambda one: seen.append(one))
        call(argument)
        call(argument)
    assert [one is argument for one in seen] == [True, True]
    assert [bytes(event.arguments) for event in started if isinstance(event, OperationStarted)] == [b"", b""]
    assert caplog.text.count("fetch: a call is not resumable") == 1


def test_what_takes_too_much_is_refused_and_a_little_less_is_not() -> None:
    assert len(encoded("x" * (MAX_BYTES - 2))) == MAX_BYTES
    with pytest.raises(ValueError, match=f"{MAX_BYTES + 1} bytes"):
        encoded("x" * (MAX_BYTES - 1))


def test_an_error_of_the_arguments_own_names_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("token=abcdefgh12345678\n\x1b[31m")

    with Recovery(store=MemoryStore()) as service:
        service.recoverable("fetch", resumable=True)(lambda one: None)(Hostile())
    assert "not resumable" in caplog.text
    assert "abcdefgh12345678" not in caplog.text


# Secrets by reference


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


def test_a_planted_reference_that_is_none_is_refused() -> None:
    with pytest.raises((ValueError, msgspec.ValidationError)):
        decoded(b'[{"$secret": 5}]')
    assert serialization.decoded(b'{"$secret":"env:A","b":1}') == {"$secret": "env:A", "b": 1}
