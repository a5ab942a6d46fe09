"""The bricks of a launcher: downloads and commands, each a recoverable call."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import anyio
import anyio.to_thread
import msgspec

from adapters.downloads.client import make_client
from adapters.downloads.http import Downloaded, download
from adapters.downloads.space import when_full
from adapters.processes.command import run_command
from events.errors import JoinedElsewhere, Permanent
from recovery import context
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.classification import Classifier
from recovery.policies.hosts import HOST_BREAKER, host_of
from recovery.policies.retry import RetryPolicy
from recovery.presets import PATIENT, waits_for_causes
from recovery.redact import redact
from recovery.serialization.secret import Secret
from recovery.service import Recovery

if TYPE_CHECKING:
    import httpx2


Done: TypeAlias = str | os.PathLike[str] | Callable[[], object]

JOURNALS = ".recovery"
"""The folder below the root for the output of commands; plans keep their journals in one of that name."""


class WishError(Permanent, ValueError):
    """What was asked of a launcher is wrong, or not safe. The message is one line."""


class NotDoneError(Permanent):
    """A command ended well, and what it should make is not there."""


class Calls(NamedTuple):
    """The recoverable functions of a launcher, with one policy."""

    download: Callable[..., Awaitable[Downloaded]]
    command: Callable[..., Awaitable[None]]


class Bricks:
    """What ``Launcher`` does; it says what the arguments mean."""

    def __init__(
        self,
        service: Recovery,
        root: str | os.PathLike[str],
        *,
        tokens: Mapping[str, Secret] | None = None,
        parallel: int = 4,
        stall_timeout: float = 60.0,
        follow_links: bool = False,
        orphans: Literal["wait", "end"] = "wait",
        logs: str | os.PathLike[str] | None = None,
        policy: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = HOST_BREAKER,
        classifier: Classifier | Sequence[Classifier] = (),
    ) -> None:
        self.service = service
        self.root = Path(root).resolve()
        self.logs = self.root / JOURNALS / "logs" if logs is None else Path(logs).resolve()
        self.follow_links = follow_links
        self._stall_timeout = stall_timeout
        self._orphans = orphans
        self._breaker = breaker
        self._classifier = classifier
        self._slots = anyio.CapacityLimiter(parallel)
        self._client: httpx2.AsyncClient | None = None
        self._values: dict[str, Mapping[str, str]] = {}
        self._asked: dict[str, anyio.Event] = {}
        self._checks: dict[str, Callable[[], object]] = {}
        self._calls = self.calls(self.patient if policy is None else policy)

    @property
    def patient(self) -> RetryPolicy:
        """The policy of a launcher that has no other."""
        waits = waits_for_causes(self.service.calls, partial(when_full, folder=self.root))
        return msgspec.structs.replace(PATIENT, per_category=waits)

    def calls(self, policy: RetryPolicy, name: str = "") -> Calls:
        """The recoverable functions with *policy*; those of a *name* are operations of their own."""
        settings: dict[str, Any] = {"resumable": True, "classifier": self._classifier, "on_conflict": "reject"}
        of = f" {name}" if name else ""
        downloads = self.service.recoverable(
            f"download{of}",
            # Counts failures in a row without progress: a large file breaks off more often than that.
            policy=msgspec.structs.replace(policy, progress_resets=None),
            breaker=self._breaker,
            when_open="wait",
            key=lambda _name, urls, *_: host_of(urls[0]),
            idempotency_key=lambda _name, _urls, to, *_: f"file {self.root / to}",
            **settings,
        )
        commands = self.service.recoverable(
            f"command{of}",
            policy=policy,
            breaker=None,
            idempotency_key=lambda _name, argv, cwd, *_: self._command_key(argv, cwd),
            **settings,
        )
        return Calls(downloads(self._download), commands(self._command))

    # bricks

    async def download(
        self,
        source: str | Sequence[str],
        to: str | os.PathLike[str],
        sha256: str | None = None,
        size: int | None = None,
        *,
        name: str | None = None,
    ) -> Downloaded:
        """Download a file to *to*, below the root, and return what was there already and what came.

        Args:
            source: An http or https URL, ``hf://org/repo@revision/file``, or several of them: mirrors of one file.
            to: Where the file goes. One that is there and fits is not fetched again.
            sha256: In hex; it is verified, and tells whether a file that is there fits.
            size: In bytes; it is verified.
            name: What it is called on the screen; by default *to*.

        Raises:
            WishError: A source that is no URL or holds a password, a hash that is none, a destination outside the root.
            CallRejectedError: Another download to *to* is under way.
            DownloadError, httpx2.HTTPError, OSError: Its retries are exhausted.
        """
        urls = [source] if isinstance(source, str) else list(source)
        target = os.fspath(to)
        self._check_sources(urls)
        self.place(target)
        while True:
            try:
                return await self._calls.download(name or target, urls, target, sha256, size)
            except JoinedElsewhere:
                continue  # another process made the file, which is here now

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
            argv: The program and its arguments. It must not hold a password: pass it by *env*.
            cwd: The folder that it runs in, below the root; by default the root.
            env: Variables besides those of this process. The values are never journalled, only their names: after a
                restart a call waits until the program asks for it again. A ``Secret`` is journalled as its reference.
            silence: Seconds without output after which it counts as stalled; it is ended and retried.
            done: What tells that it is done: a path below the root that it makes, or a function that was given to
                ``register``. It is asked before, and the command is not run if it is done; and asked afterwards.
            name: What it is called on the screen; by default the program's name.

        Raises:
            WishError: There is no program, a word holds a password, a folder is outside the root, or the function
                *done* is not registered.
            CallRejectedError: The same command is under way with other settings.
            subprocess.CalledProcessError: It has failed, and its retries are exhausted.
            NotDoneError: It has ended well, and is not done.
            OSError: It cannot be started.
        """
        words, folder = [os.fspath(word) for word in argv], "." if cwd is None else os.fspath(cwd)
        variables = dict(env or {})
        self._check_words(words)
        self.place(folder)
        key = self._command_key(words, folder)
        self._values[key] = {one: value for one, value in variables.items() if isinstance(value, str)}
        self._asked.setdefault(key, anyio.Event()).set()
        written = {one: value.reference if isinstance(value, Secret) else "" for one, value in variables.items()}
        call = (name or Path(words[0]).name, words, folder, written, silence, self._written(done))
        try:
            await self._calls.command(*call)
        except JoinedElsewhere as elsewhere:
            if elsewhere.ended != "succeeded":
                raise

    def register(self, check: Callable[[], object]) -> Callable[[], object]:
        """Let *check* be the ``done`` of commands, also of those that are resumed: by its module and qualified name."""
        self._checks[_name_of(check)] = check
        return check

    # what the calls do

    async def _download(self, _name: str, urls: list[str], to: str, sha256: str | None, size: int | None) -> Downloaded:
        place = self.place(to)
        async with self._slots, self._http() as client:
            return await download(client, urls[0], place, sha256=sha256, size=size, on_progress=_save_progress)

    async def _command(
        self, name: str, argv: list[str], cwd: str, env: dict[str, str], silence: float | None, done: str | None
    ) -> None:
        if done is not None and await self._is_done(done):
            return
        folder, _values = self.place(cwd), await self._environment(argv, cwd, env)
        folder.mkdir(parents=True, exist_ok=True)
        await run_command(name, argv, cwd=folder, logs=self.logs)
        if done is not None and not await self._is_done(done):
            raise NotDoneError(f"{name} ended well, and {_shown(done)} is not there")

    async def _environment(self, argv: list[str], cwd: str, env: dict[str, str]) -> dict[str, str | Secret]:
        key = self._command_key(argv, cwd)
        if not all(env.values()):
            await self._asked.setdefault(key, anyio.Event()).wait()  # the values are the program's
        values = self._values.get(key, {})
        return {one: Secret(reference) if reference else values[one] for one, reference in env.items()}

    def _written(self, done: Done | None) -> str | None:
        if done is None:
            return None
        if isinstance(done, str | os.PathLike):
            self.place(os.fspath(done))
            return f"path:{os.fspath(done)}"
        if self._checks.get(name := _name_of(done)) is not done:
            raise WishError(
                f"done={name} is not registered: launcher.register({name.rpartition('.')[2]}), before resume()"
            )
        return f"function:{name}"

    async def _is_done(self, done: str) -> bool:
        kind, _, what = done.partition(":")
        if kind == "path":
            return self.place(what).exists()
        if what not in self._checks:
            raise WishError(f"the function {what}, which tells whether the command is done, is not registered")
        return bool(await anyio.to_thread.run_sync(self._checks[what]))

    # places

    def place(self, text: str) -> Path:
        """*text* as an absolute path below the root, with its links followed as they are now.

        Raises WishError if that is outside the root.
        """
        try:
            place = (self.root / text).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise WishError(f"{text!r} is no place: {error}") from error
        if not place.is_relative_to(self.root):
            raise WishError(f"{text!r} is outside the root, {self.root}")
        return place

    def _command_key(self, argv: Sequence[str], cwd: str) -> str:
        digest = hashlib.sha256(msgspec.json.encode([list(argv), str(self.root / cwd)])).hexdigest()
        return f"command {digest[:32]}"  # the words may be long

    def _check_sources(self, urls: Sequence[str]) -> None:
        if not urls:
            raise WishError("a download needs a URL")

    def _check_words(self, words: Sequence[str]) -> None:
        if not words or not words[0]:
            raise WishError("a command needs a program")
        for number, word in enumerate(words):
            if "\0" in word:
                raise WishError(f"word {number} of the command has a null character, which no system passes on")
        if redact(" ".join(words)) != " ".join(words):
            raise WishError(f"the command holds what looks like a secret: {redact(' '.join(words))}; pass it by env=")

    # the end

    async def stop(self) -> None:
        """Leave what runs to the next run, before it is cancelled: in the journal nothing of it has an end."""
        await anyio.to_thread.run_sync(self.service.close)

    def kill(self) -> None:
        """End the processes of commands at once."""

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[httpx2.AsyncClient]:
        if self._client is not None:
            yield self._client
            return
        async with make_client(stall_timeout=self._stall_timeout) as client:
            yield client


def _save_progress(offset: int, size: int | None) -> None:
    context.checkpoint({"offset": offset, "size": size})
    context.progress(offset)


def _name_of(function: Callable[..., object]) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"


def _shown(done: str) -> str:
    return done.partition(":")[2]
