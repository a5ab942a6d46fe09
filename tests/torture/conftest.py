"""The zygote that the short forms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.torture.fork_server import Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote
