"""What opens a cluster: where no server answers on the way, it says so in the words of a cluster."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from nats.errors import TimeoutError as NatsTimeoutError

from adapters.nats.errors import UnreachableError
from adapters.nats.link import Link
from adapters.nats.opening import _share
from recovery import Recovery


class Silent:
    """A connection of nats-py to servers that elect a leader."""

    is_connected = True

    def jetstream(self, **_: Any) -> Any:
        async def silent(*_: Any) -> None:
            raise NatsTimeoutError

        return SimpleNamespace(stream_info=silent)


def test_servers_that_do_not_answer_about_what_is_shared_are_unreachable():
    link = Link(Silent(), "p", "127.0.0.1:4222")  # type: ignore[arg-type]

    async def share() -> None:
        async with AsyncExitStack() as stack:
            await _share(link, stack, Recovery(), "gpu-a", "p")

    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:4222 does not answer"):
        asyncio.run(share())
