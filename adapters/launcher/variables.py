"""The values of a command's variables: never journalled, given by the program each time, or kept by reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from adapters.launcher.asked_again import AskedAgain
from events.errors import CallRejectedError, NeedsPerson
from events.evidence import Remedy
from recovery.calls import Calls
from recovery.serialization.secret import Secret


class MissingSecretError(NeedsPerson):
    """A variable or a file that holds a secret is not there."""


class Variables:
    """What the program gave for the variables of its commands, by their keys.

    Args:
        calls: Asks for secrets that are missing.
        asked_again: Lets resumed calls wait for the program.
    """

    def __init__(self, calls: Calls, asked_again: AskedAgain) -> None:
        self._calls = calls
        self._asked_again = asked_again
        self._values: dict[str, Mapping[str, str]] = {}
        self._asking: Counter[str] = Counter()

    @contextmanager
    def given(self, key: str, env: Mapping[str, str | Secret]) -> Iterator[None]:
        """In this block the program asks for the command *key* with the variables *env*.

        Raises CallRejectedError if it asks for it with other values already.
        """
        values = {name: value for name, value in env.items() if isinstance(value, str)}
        before = self._values.get(key, {})
        if not self._asking[key]:
            self._values[key] = values
        elif before.keys() == values.keys() and before != values:  # with other names it is another wish in the journal
            other = ", ".join(name for name in values if values[name] != before[name])
            reason = f"the same command is under way with another value of {other}; wait for its end, or cancel it"
            raise CallRejectedError("command", reason)
        self._asking[key] += 1
        try:
            yield
        finally:
            self._asking[key] -= 1

    async def of(self, key: str, written: Mapping[str, str], name: str) -> dict[str, str | Secret]:
        """The values of a call, once they are known: of *written*, references by name, and "" for a plain value.

        Plain values of a call that is resumed are known once the program asks for the command *name* again.

        Raises MissingSecretError for a reference to what is not there, and as ``AskedAgain.until``.
        """
        plain = {name for name, reference in written.items() if not reference}
        what = f"values of variables are not journalled ({', '.join(plain)})"
        await self._asked_again.until(lambda: plain <= self._values.get(key, {}).keys(), name, what)
        values = self._values.get(key, {})
        return {
            name: value_of(self._calls, name, reference) if reference else values[name]
            for name, reference in written.items()
        }


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
