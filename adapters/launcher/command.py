"""The brick for programs: commands that run to their end, alone, and end with the launcher."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from adapters.launcher.arguments import InvalidRequestError, NotDoneError, check_variables, command_arguments, words_of
from adapters.launcher.bricks import Bricks
from adapters.launcher.done_checks import Done, shown_of
from adapters.processes.command import run_command
from events.errors import JoinedElsewhere
from recovery import validation
from recovery.serialization.secret import Secret


class CommandBrick(Bricks):
    """Commands."""

    def _declare(self) -> None:
        super()._declare()
        self._recoverable("command", self._command, lambda _name, argv, cwd, *_: self._command_key(argv, cwd))

    async def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | Secret] | None = None,
        silence: float | None = None,
        done: Done | None = None,
        *,
        name: str | None = None,
    ) -> None:
        """Run a program to its end, without a shell; its processes form a group, which ends with the launcher.

        Args:
            argv: The program and its arguments, which are journalled: pass a password by *env*.
            cwd: The folder that it runs in, below the root; by default the root.
            env: Variables besides those of this process. The values are never journalled, only their names: after a
                restart a call waits until the program asks for it again. A ``Secret`` is journalled as its reference.
            silence: Seconds without output, processor time, and input and output of all its processes, after which it
                counts as stalled; it is ended and retried.
            done: What tells that it is done: a path below the root that it makes, or a function that was given to
                ``register``. It is asked before, and the command is not run if it is done; and asked afterwards.
            name: What it is called on the screen, and its log file; by default the program's name with digits of its
                key. Commands of one name wait for each other.

        Raises:
            InvalidRequestError: There is no program, a folder is outside the root, or the function *done* is not
                registered.
            CallRejectedError: The same command is under way with other settings, or other values of *env*.
            subprocess.CalledProcessError: It has failed, and its retries are exhausted.
            NotDoneError: It has ended well, and is not done.
            OSError: It cannot be started.
        """
        words, folder = words_of(argv), "." if cwd is None else os.fspath(cwd)
        variables = dict(env or {})
        check_variables(variables)
        if silence is not None:
            validation.number("silence", silence, above=0.0)
        self.place(folder)
        key = self._command_key(words, folder)
        name = name or f"{Path(words[0]).name}-{key[-6:]}"
        arguments = command_arguments(words, folder, variables, silence, self._checks.written(done))
        with self._variables.given(key, variables):
            try:
                await self._call("command", name, *arguments)
            except JoinedElsewhere as elsewhere:
                if elsewhere.ended != "succeeded":
                    raise

    def register(self, check: Callable[[], object]) -> Callable[[], object]:
        """Let *check* be the ``done`` of commands, also of those that are resumed: by its module and qualified name."""
        return self._checks.register(check)

    async def _command(
        self, name: str, argv: list[str], cwd: str, env: dict[str, str], silence: float | None, done: str | None
    ) -> None:
        if done is not None and await self._checks.is_done(done, name):
            return
        key, folder = self._command_key(argv, cwd), self.place(cwd)
        values = await self._variables.of(key, env, name)
        if folder.exists() and not folder.is_dir():
            raise InvalidRequestError(f"{name} cannot run in {cwd}, which is no folder")
        folder.mkdir(parents=True, exist_ok=True)
        await run_command(
            name,
            argv,
            cwd=folder,
            logs=self.logs,
            env=values,
            silence=silence,
            orphans=self._orphans,
            is_done=None if done is None else partial(self._checks.is_done, done, name),
        )
        if done is not None and not await self._checks.is_done(done, name):
            raise NotDoneError(f"{name} ended well, and {shown_of(done)} is not there")

    def _command_key(self, argv: Sequence[str], cwd: str) -> str:
        digest = hashlib.sha256(msgspec.json.encode([list(argv), str(self.root / cwd)])).hexdigest()
        return f"command {digest[:32]}"  # the words may be long
