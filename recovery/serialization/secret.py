"""Secrets by reference: the journal gets where a secret is, and the function asks for it."""

from __future__ import annotations

import os

import msgspec

from recovery.literals import LEAST_LITERAL, hide

MARK = "$secret"
"""The key that marks a reference to a secret in JSON."""


class Secret(msgspec.Struct, frozen=True, rename={"reference": MARK}):
    """A secret argument of a resumable call: the journal gets the reference, ``reveal()`` returns the value.

    Args:
        reference: "env:NAME" for an environment variable, or "file:PATH" for a file, whose text is stripped of white
            space at both ends.

    Raises:
        ValueError: Any other reference.
    """

    reference: str

    def __post_init__(self) -> None:
        is_text = isinstance(self.reference, str)
        kind, _, where = self.reference.partition(":") if is_text else ("", "", "")
        if kind not in ("env", "file") or not where:
            # The value is not shown: it may be the secret.
            given = f"{len(self.reference)} characters" if is_text else type(self.reference).__name__
            raise ValueError(f"a reference to a secret is env:NAME or file:PATH; what was given ({given}) is neither")

    def reveal(self) -> str:
        """The value, which is redacted from then on in what is journalled, logged and printed.

        Raises:
            LookupError: There is no such environment variable.
            OSError: The file cannot be read.
        """
        kind, _, where = self.reference.partition(":")
        if kind == "env" and where not in os.environ:
            raise LookupError(f"the environment has no {where}")
        if kind == "env":
            secret = os.environ[where]
        else:
            with open(where, encoding="utf-8") as file:
                secret = file.read().strip()
        if len(secret) >= LEAST_LITERAL:
            hide(secret)
        return secret
