"""The brick for environments of Python: made once, made again where one is half-made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial

from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.bricks import Bricks
from adapters.packages.venv import Venv, make_venv
from events.errors import JoinedElsewhere


class VenvBrick(Bricks):
    """Environments."""

    def _declare(self) -> None:
        super()._declare()
        self._recoverable("venv", self._venv, lambda _name, path, *_: f"venv {self.root / path}")

    async def venv(
        self, path: str | os.PathLike[str], python: str | os.PathLike[str] | None = None, *, name: str | None = None
    ) -> Venv:
        """Make an environment of Python in the folder *path*, below the root, and return its interpreter.

        One that is there and works is kept. One that a killed launcher left half-made is deleted, and made again. Where
        packages would be lost, the question ``venv:NAME`` asks: ``remake`` or ``keep``.

        Args:
            path: Its folder. One that has other files is an error.
            python: The interpreter that it is made with: a path, a program ("python3.12") or a version ("3.12"). One
                of another version that is there is not used without that question. By default any version is right,
                and a new one is made with the interpreter of this process.
            name: What it is called on the screen; by default *path*.

        Raises:
            InvalidRequestError: The folder is outside the root, or the root itself.
            CallRejectedError: The same environment is being made with another interpreter.
            VenvError: The interpreter is missing, cannot make one, or the folder has other files.
            subprocess.CalledProcessError, OSError: It failed, and its retries are exhausted.
        """
        folder = os.fspath(path)
        if self.place(folder) == self.root:
            raise InvalidRequestError(f"an environment cannot be the root itself ({folder!r}): name a folder in it")
        asked = None if python is None else os.fspath(python)
        if asked is not None and not (isinstance(asked, str) and asked.strip()):
            raise InvalidRequestError(f"python must be a path or a version of Python, not {python!r}")
        while True:
            try:
                made: Venv = await self._call("venv", name or folder, folder, asked)
            except JoinedElsewhere as elsewhere:
                if elsewhere.ended != "succeeded":
                    raise
                continue  # another process made it, and it is here now
            return made

    async def _venv(self, name: str, path: str, python: str | None) -> Venv:
        folder = self.place(path)
        if python is not None and os.path.dirname(python):
            python = str(self.root / python)
        question = f"venv:{name}"
        reopen: Callable[[str], object] = partial(self.service.calls.reopen, question)
        return await make_venv(
            name,
            folder,
            python,
            logs=self.logs,
            files=f"venv-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}",
            answer=lambda: self.service.calls.answered(question),
            reopen=reopen,
        )
