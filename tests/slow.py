"""Of very many cases most are slow: `make test` runs a few that reach every mechanism, `make slow` the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def few(cases: Iterable[Any], *kept: object, every: int | None = None) -> list[Any]:
    """The *cases* as parameters of a test, all but some of them marked as slow.

    Args:
        cases: The cases. A tuple is a value for each parameter of the test.
        kept: Those that `make test` runs, too.
        every: In place of *kept*: `make test` runs the first case and each *every*-th after it.
    """
    cases = list(cases)
    strangers = [case for case in kept if case not in cases]
    if strangers:
        raise LookupError(f"no such cases: {strangers}")
    chosen = [case in kept if every is None else number % every == 0 for number, case in enumerate(cases)]
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=() if is_chosen else pytest.mark.slow)
        for case, is_chosen in zip(cases, chosen, strict=True)
    ]
