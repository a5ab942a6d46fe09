"""Take a prompt that was cancelled out of its server, however long that does not answer."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio

from adapters.comfyui.reconcile import GRACE
from adapters.comfyui.record import Posted
from adapters.comfyui.serving import PAUSE, Serving
from events.errors import NeedsPerson, StaysPendingError


async def take_out(
    serving: Serving, posted: Posted, patiently: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
) -> None:
    """Have the server drop a prompt, once it answers: while it loads a model it does not, for minutes.

    A POST without an answer may still reach the server. It is looked for until ``GRACE`` after the first answer.

    Args:
        serving: The server.
        posted: The POST of the prompt.
        patiently: Gives what a question returns, once the server answers.
    """
    until = math.inf
    with suppress(NeedsPerson, StaysPendingError):  # the server is gone for good, or the block is over
        while True:
            found = await patiently(partial(serving.standing, posted.prompt_id))
            await patiently(partial(serving.remove, posted.prompt_id))
            until = min(until, anyio.current_time() + GRACE)
            is_taken = posted.number is not None or posted.was_seen or found.state != "absent"
            if is_taken or anyio.current_time() >= until:
                return
            await anyio.sleep(PAUSE)
