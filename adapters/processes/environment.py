"""The environment of a command: that of this process, and the variables that are given. Secrets are redacted."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from recovery.literals import LEAST_FOLDED
from recovery.redact import NAMES, hide
from recovery.serialization.secret import Secret

SECRET_NAME = re.compile(rf"(?:{NAMES}|pass|(?:api|access|secret)_?key)$", re.IGNORECASE)
"""How the name of an environment variable ends whose value is a secret."""


def environment_of(given: Mapping[str, str | Secret | None]) -> dict[str, str]:
    """The environment of a command: of this process, with the variables *given*, and without those that are None there.

    Their secrets are redacted from now on.
    """
    values = {key: value.reveal() if isinstance(value, Secret) else value for key, value in given.items()}
    for key, value in values.items():
        if value is not None and len(value) >= LEAST_FOLDED and SECRET_NAME.search(key):
            hide(value)
    every = {"GIT_TERMINAL_PROMPT": "0", **os.environ, **values}  # else git waits for ever for a user name
    return {name: value for name, value in every.items() if value is not None}
