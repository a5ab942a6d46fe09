"""Which failures take the compiled path: told by the Python functions that a call runs on its thread."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.rows.call_count import count
from recovery import Recovery


class OfAProgramError(Exception):
    pass


def fails_first(make: Callable[[], Exception]) -> Callable[[], None]:
    """A function that fails at its first, third, fifth ... call."""
    is_odd = False

    def function() -> None:
        nonlocal is_odd
        is_odd = not is_odd
        if is_odd:
            raise make()

    return function


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConnectionError("reset"),
        TimeoutError,
        lambda: OfAProgramError("lost"),
        OfAProgramError,
    ],
    ids=["with a text", "without a text", "of a class that says nothing", "of such a class, without a text"],
)
def test_a_plain_error_takes_the_compiled_path_once_it_is_known(make: Callable[[], Exception]) -> None:
    function = Recovery(enable_logging=False).recoverable("fetch", initial_delay=0.0)(fails_first(make))
    for _ in range(2):
        function()
    assert count(function).calls <= 6


def test_errors_that_each_say_something_else_take_the_compiled_path() -> None:
    texts = iter(map(str, range(100)))
    make = fails_first(lambda: ConnectionError(next(texts)))
    function = Recovery(enable_logging=False).recoverable("fetch", initial_delay=0.0)(make)
    for _ in range(2):
        function()
    assert count(function).calls <= 8


def test_an_error_with_a_note_takes_the_general_path() -> None:
    def make() -> Exception:
        error = ConnectionError("reset")
        error.add_note("of a user")
        return error

    function = Recovery(enable_logging=False).recoverable("fetch", initial_delay=0.0)(fails_first(make))
    for _ in range(2):
        function()
    assert count(function).calls > 20
