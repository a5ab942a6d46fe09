"""What an operation, or one key of it, is called: on the bus, and in messages."""

from __future__ import annotations


def display_name(operation: str, key: str) -> str:
    """*operation*, with *key* in brackets if there is one: ``fetch[example.org]``. For people: it is not unique."""
    return f"{operation}[{key}]" if key else operation


def sender_of(operation: str, key: str | None) -> str:
    """What blinker knows an operation, or one key of it, by. No name holds a NUL, so it is unique."""
    return f"{operation}\0{key}" if key else operation


def part_of(sender: str) -> tuple[str, str]:
    """The operation and the key that blinker knows as *sender*; the key "" for an operation as a whole."""
    operation, _, key = sender.partition("\0")
    return operation, key


def check_name(operation: str) -> str:
    """*operation*, if it can be an operation's name. Raises TypeError for no text, ValueError for a NUL in it."""
    if not isinstance(operation, str):
        raise TypeError(f"an operation is named by a text, not by {operation!r}")
    if "\0" in operation:
        raise ValueError(f"the name of an operation must not hold a NUL: {operation!r}")
    return operation
