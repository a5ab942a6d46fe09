"""Arguments that a first attempt uses up: an iterator or an open file is empty for the retry, which is said once."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recovery.service import Recovery

FAST: dict[str, Any] = {"initial_delay": 0.0}
SAID = "a retry gets an argument that the first attempt may have used up"
PLAIN: list[dict[str, Any]] = [
    {},
    {"max_elapsed": 60.0},
    {"before_retry": lambda *_: None},
    {"key": lambda *_, **__: "k"},
]


def flaky() -> Callable[..., list[str]]:
    calls: list[list[str]] = []

    def send(lines: Any, **_: object) -> list[str]:
        calls.append([*lines])
        if len(calls) % 2:
            raise ConnectionError
        return calls[-1]

    return send


def of_lines(given: Any, tmp_path: Path) -> Any:
    return given(tmp_path) if callable(given) else given


def open_file(folder: Path) -> Any:
    path = folder / "lines"
    path.write_text("a\nb\n")
    return path.open()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("settings", PLAIN, ids=["plain", "runner", "hook", "key"])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda _: iter(["a"]), "'lines' is a list_iterator"),
        (lambda _: (one for one in "ab"), "'lines' is a generator"),
        (lambda _: map(str, "ab"), "'lines' is a map"),
        (open_file, "'lines' is a TextIOWrapper"),
    ],
    ids=["iterator", "generator", "map", "file"],
)
def test_an_argument_that_is_used_up_is_said_at_the_retry(
    given: Any, told: str, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    call = Recovery().recoverable("send", **FAST, **settings)(flaky())
    for _ in range(2):
        assert call(of_lines(given, tmp_path)) == []
    [said] = [one.getMessage() for one in caplog.records if SAID in one.getMessage()]
    assert f"send: {SAID}: argument {told}; pass a list or a path" in said


@pytest.mark.parametrize("by_name", [False, True])
def test_an_async_function_says_it_of_async_iterators_too(by_name: bool, caplog: pytest.LogCaptureFixture) -> None:
    import anyio

    async def lines() -> AsyncIterator[str]:
        yield "a"

    seen: list[int] = []

    @Recovery().recoverable("send", **FAST)
    async def send(body: Any) -> None:
        seen.append(len([one async for one in body]))
        if len(seen) == 1:
            raise ConnectionError

    async def main() -> None:
        await (send(body=lines()) if by_name else send(lines()))

    anyio.run(main)
    assert seen == [1, 0]
    assert "argument 'body' is a async_generator" in caplog.text


class Unhashed(type):
    """The classes of a library that compare, and have no hash."""

    def __eq__(cls, other: object) -> bool:
        return cls is other


class Settings(metaclass=Unhashed):
    pass


class Lines(metaclass=Unhashed):
    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raise StopIteration


def test_classes_without_a_hash_are_looked_at_too(caplog: pytest.LogCaptureFixture) -> None:
    send = Recovery().recoverable("send", **FAST)(flaky())
    for _ in range(2):
        send([], settings=Settings())
    assert SAID not in caplog.text
    send(Lines(), settings=Settings())
    send(Lines(), settings=Settings())
    assert "is a Lines" in caplog.text


class Pages:
    """An iterator with a recoverable method: the object is no argument that is used up."""

    def __init__(self) -> None:
        self.calls = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        return self.fetch(sys.stdout)

    @Recovery().recoverable("fetch", **FAST)
    def fetch(self, _log: Any) -> int:
        self.calls += 1
        if self.calls % 2:
            raise ConnectionError
        return self.calls


@pytest.mark.parametrize(
    "call",
    [
        lambda: Recovery().recoverable("send", **FAST)(flaky())(["a"]),
        lambda: Recovery().recoverable("send", **FAST)(lambda lines: [*lines])(iter("a")),
        lambda: next(Pages()),
        lambda: Recovery(enable_logging=False).recoverable("send", **FAST)(flaky())(iter("a")),
    ],
    ids=["a list", "no retry", "the object and stdout", "silent"],
)
def test_nothing_is_said_of_what_a_retry_can_use(call: Any, caplog: pytest.LogCaptureFixture) -> None:
    call()
    assert SAID not in caplog.text
