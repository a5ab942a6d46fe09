"""Ask a program a question: a short command that changes nothing, with its answer as text."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.abc

from adapters.processes.environment import environment_of
from adapters.processes.tree import Tree

TIMEOUT = 60.0
"""Seconds that an answer may take."""


class Answer(NamedTuple):
    """What a program answered.

    Args:
        code: Its exit code.
        output: What it printed, decoded as UTF-8; bytes that are none are replaced.
        errors: What it printed to its standard error, likewise.
    """

    code: int
    output: str
    errors: str


async def query(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    timeout: float = TIMEOUT,
    stdin: bytes | None = None,
    most: int | None = None,
) -> Answer:
    """Run *argv*, which changes nothing, and return what it answers. Nothing of it is logged.

    Cancelled or too slow, all its processes are killed. One that a killed launcher left ends by itself.

    Args:
        argv: The program and its arguments; no shell reads them.
        cwd: The folder it runs in.
        env: Variables that its environment has beside those of this process; ``None`` takes one of those away.
        timeout: Seconds that it may take.
        stdin: What it reads from its standard input; nothing by default.
        most: Bytes that are kept of the end of its output, and of its errors; all by default.

    Raises:
        TimeoutError: It has taken longer.
        OSError: It cannot be started.
    """
    tree = Tree(uuid.uuid4().hex)
    environment = environment_of({**(env or {}), **tree.environment()})
    process = await _start(argv, cwd, environment, subprocess.DEVNULL if stdin is None else subprocess.PIPE)
    tree.group = process.pid
    try:
        with anyio.fail_after(timeout):
            return await _answer_of(process, stdin, most)
    except TimeoutError:
        raise TimeoutError(f"{' '.join(argv):.200} has not answered within {timeout:g} s") from None
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                tree.kill()
            await process.aclose()


async def _start(
    argv: Sequence[str], cwd: Path | None, environment: Mapping[str, str], stdin: int
) -> anyio.abc.Process:
    with anyio.CancelScope(shield=True):  # a start that is cancelled half way leaves a process
        return await anyio.open_process(argv, stdin=stdin, cwd=cwd, env=environment, start_new_session=True)
    raise AssertionError("a shielded scope ends with what is awaited in it")


async def _answer_of(process: anyio.abc.Process, stdin: bytes | None, most: int | None) -> Answer:
    kept = {"output": bytearray(), "errors": bytearray()}

    async def read(stream: anyio.abc.ByteReceiveStream | None, name: str) -> None:
        assert stream is not None
        async for chunk in stream:
            kept[name] += chunk
            if most is not None:
                del kept[name][: max(len(kept[name]) - most, 0)]

    async def write(text: bytes) -> None:
        assert process.stdin is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):  # it reads no further
            await process.stdin.send(text)
            await process.stdin.aclose()

    async with anyio.create_task_group() as group:
        if stdin is not None:
            group.start_soon(write, stdin)
        group.start_soon(read, process.stdout, "output")
        group.start_soon(read, process.stderr, "errors")
    code = await process.wait()
    output, errors = (kept[name].decode("utf-8", "replace") for name in ("output", "errors"))
    return Answer(code, output, errors)
