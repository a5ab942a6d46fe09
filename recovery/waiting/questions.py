"""Questions to a person: conditions that hold once the answer is given."""

from __future__ import annotations

from collections.abc import Callable

from events.conditions import Condition


class Questions:
    """Questions by name, with their answers. Safe to use from any thread.

    Args:
        poll_soon: Called with the condition of a question that has just been answered.
    """

    def __init__(self, poll_soon: Callable[[Condition], object]) -> None:
        self._poll_soon = poll_soon
        self._answers: dict[str, object] = {}

    def question(self, name: str) -> Condition:
        """The condition that a person has answered the question *name*."""
        return Condition(f"an answer: {name}", lambda: name in self._answers)

    def answer(self, name: str, value: object = True) -> None:
        """Answer the question *name* with *value*."""
        self._answers[name] = value
        self._poll_soon(self.question(name))

    def answered(self, name: str) -> object:
        """The answer to the question *name*; ``None`` while there is none."""
        return self._answers.get(name)
