"""``kind = "comfyui"``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from adapters.comfyui.address import Address
from adapters.launcher.kinds.command import REFERENCE, variables_of, wrong_variables, wrong_words
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Place, Problem
from adapters.launcher.kinds.supervised import Supervised
from adapters.launcher.launcher import Launcher
from adapters.launcher.limits import wrong_reference
from events.errors import Permanent
from recovery.serialization.secret import Secret


class ComfyUI(Supervised, frozen=True, kw_only=True, tag="comfyui"):
    """``kind = "comfyui"``: a ComfyUI server, held while the launch lasts, with a queue of prompts that survives it.

    A prompt that succeeds gives it its used restarts back.

    Args:
        path: The folder of ComfyUI, the one with `main.py`, below the root. Or give `run`, or `url`.
        run: A program that starts ComfyUI, and its arguments; it gets `--port` where they do not name a port.
        url: The address of a server that the launch neither starts nor ends, as `http://HOST:PORT`. `"env:NAME"` takes
            it, perhaps with a password, from the launcher's variable `NAME`. Only `window` and `hold` go with it.
        python: The interpreter of the ComfyUI in `path`: a path below the root, or a program. Unset, it is that of its
            own `.venv` or `venv`, or else that of the launcher.
        window: How many prompts the server has at a time; the others wait in the journal.
    """

    path: str | None = None
    run: tuple[str, ...] = ()
    url: str | None = None
    python: str | None = None
    window: Annotated[int, msgspec.Meta(ge=1, le=2)] = 2

    @property
    def calls(self) -> tuple[str, ...]:
        """Those of the server that it starts."""
        return super().calls if self.url is None else ()

    def places(self) -> Iterator[Place]:
        """Its folder."""
        if self.path:
            yield Place("path", self.path, "read")

    def problems(self) -> Iterator[Problem]:
        """Words and variables that no server can have, and two servers, or none."""
        given = [field for field in ("path", "run", "url") if getattr(self, field)]
        if len(given) > 1:
            yield given[0], f"is given, and {given[1]} as well: leave one of them out"
        elif not given:
            yield (
                "path",
                "is missing: give the folder of ComfyUI, the program in run, or the address of a server in url",
            )
        if self.url is not None:
            yield from self._wrong_url(self.url)
        if self.run:
            yield from wrong_words("run", self.run)
            if self.python is not None:
                yield "python", "goes with path: it is the interpreter of the ComfyUI there"
        yield from wrong_variables(self.env)

    def _wrong_url(self, url: str) -> Iterator[Problem]:
        if (reason := wrong_reference(url) if url.startswith(REFERENCE) else _wrong_address(url)) is not None:
            yield "url", reason
        for field in OF_OWN_SERVERS:
            if getattr(self, field) != getattr(DEFAULTS, field):
                yield field, "goes with a server that the launch starts, and that in url is not one: leave it out"

    async def execute(self, launcher: Launcher, servers: Servers) -> None:
        """Hold it."""
        async with launcher.comfyui(
            self.path or self.run or self._address(),
            self.port,
            self.restarts,
            name=self.name,
            window=self.window,
            python=self.python,
            ready_timeout=self.ready_timeout,
            env=variables_of(self.env, servers),
        ) as comfy:
            await self.held(comfy, servers)

    def _address(self) -> str:
        """The address in ``url``. Raises Permanent, which does not show it, if the variable holds none."""
        url = self.url or ""
        if not url.startswith(REFERENCE):
            return url
        name = url.removeprefix(REFERENCE)
        try:
            found = Secret(url).reveal()
            Address.of(found)
        except LookupError:
            raise Permanent(f"the variable {name} is not set: set it to the address of ComfyUI") from None
        except ValueError as error:
            raise Permanent(f"the variable {name} holds no address of ComfyUI: {error}") from None
        return found


def _wrong_address(url: str) -> str | None:
    """Why *url* names no server, or holds what no plan may. It is not shown: it may hold a password."""
    try:
        has_password = Address.of(url).headers
    except ValueError as error:
        return str(error)
    if has_password:
        return 'holds a password, and a plan is no place for one: write "env:NAME", the variable that holds the address'
    return None


OF_OWN_SERVERS = ("python", "port", "env", "max_restarts", "within", "ready_timeout")
"""The keys that mean nothing for the server of another owner."""
DEFAULTS = ComfyUI(name="comfyui")
