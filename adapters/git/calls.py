"""The git calls of one repository: as one user, with the token of each server, and with errors that say what to do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from adapters.downloads.families import family_of
from adapters.git.commands import ask, output_of, run
from adapters.git.failures import explained

ANSWER_TIMEOUT = 60.0
"""Seconds that a server may take to say what it has, where no limit of silence is set."""

NO_SETTINGS: Mapping[str, str] = {}


class Calls(msgspec.Struct, frozen=True):
    """Calls git in one repository.

    Args:
        name: What messages call the work.
        place: The absolute path of the working tree.
        logs: The folder for the output.
        silence: Seconds without any sign of life after which git is ended; ``None`` for no limit.
        token: Finds the token for a URL; "" for none.
        family: Finds the family of a URL: the question for a token names it.
        settings: Further settings of git for transfers.
    """

    name: str
    place: Path
    logs: Path
    silence: float | None = None
    token: Callable[[str], str] = lambda _url: ""
    family: Callable[[str], str] = family_of
    settings: Mapping[str, str] = NO_SETTINGS

    async def run(self, words: Sequence[str], *, url: str = "") -> None:
        """Run ``git WORDS``, which changes the repository, and talks to *url* ("": to none).

        Raises:
            subprocess.CalledProcessError, SilentCommandError: It failed.
            AccessError, RepositoryMissingError: The server wants a token, or has no such repository.
            OSError: It cannot be started.
        """
        with self._explained(url):
            await run(
                self.name,
                words,
                place=self.place,
                cwd=self.place,
                logs=self.logs,
                url=url,
                token=self.token(url) if url else "",
                silence=self.silence,
                settings=self.settings if url else None,
            )

    async def answer(self, words: Sequence[str], *, url: str = "") -> str:
        """What ``git WORDS`` prints, which changes nothing. Raises as ``run``, and TimeoutError."""
        timeout = self.silence or ANSWER_TIMEOUT
        with self._explained(url):
            if not url:
                answer = await ask(words, cwd=self.place)
            else:
                token, settings = self.token(url), self.settings
                answer = await ask(words, cwd=self.place, url=url, token=token, timeout=timeout, settings=settings)
            if answer.code != 0:
                raise subprocess.CalledProcessError(answer.code, ["git", *words], stderr=answer.errors)
        return answer.output

    async def end_orphan(self) -> None:
        """End what a killed launcher has left running in the repository; nothing else is run."""

        async def is_done() -> bool:
            return True

        await run(self.name, ["--version"], place=self.place, cwd=self.place, logs=self.logs, is_done=is_done)

    @contextmanager
    def _explained(self, url: str) -> Iterator[None]:
        try:
            yield
        except subprocess.CalledProcessError as error:
            if url:
                token, family = bool(self.token(url)), self.family(url)
                better = explained(error, output_of(error), url, family=family, has_token=token)
                if better is not error:
                    raise better from error
            raise
