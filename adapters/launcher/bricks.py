"""The bricks of a launcher: downloads and commands, each a recoverable call."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
import msgspec

from adapters.downloads.client import make_client
from adapters.downloads.http import Downloaded, download
from adapters.downloads.mirrors import download_from
from adapters.downloads.sidecar import held_by
from adapters.downloads.sources import url_of
from adapters.downloads.space import when_full
from adapters.downloads.tokens import Tokens
from adapters.launcher.arguments import (
    InvalidRequestError,
    NotDoneError,
    check_destination,
    check_promises,
    check_settings,
    check_sources,
    check_variables,
    command_arguments,
    download_arguments,
    words_of,
)
from adapters.launcher.asked_again import AskedAgain
from adapters.launcher.checkpoints import Saver
from adapters.launcher.done_checks import Done, DoneChecks, shown_of
from adapters.launcher.places import JOURNALS, outside
from adapters.launcher.variables import Variables
from adapters.processes.command import kill_all, run_command
from events.errors import JoinedElsewhere
from recovery import validation
from recovery.installation import extra
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.classification import Classifier
from recovery.policies.hosts import HOST_BREAKER, host_of
from recovery.policies.retry import RetryPolicy
from recovery.presets import PATIENT, waits_for_causes
from recovery.resume.handles import Resumption
from recovery.serialization.secret import Secret
from recovery.service import Recovery

with extra("launcher"):
    import httpx2

_roots: WeakKeyDictionary[Recovery, Path] = WeakKeyDictionary()
"""The roots of the launchers, by their services."""


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
        policies: Mapping[str, RetryPolicy] = MappingProxyType({}),
        breaker: BreakerPolicy | None = HOST_BREAKER,
        classifier: Classifier | Sequence[Classifier] = (),
    ) -> None:
        check_settings(parallel, stall_timeout, orphans)
        self.service = service
        self.root = Path(root).resolve()
        if (other := _roots.get(service)) is not None:
            raise ValueError(f"this service has a launcher already, for {other}: use that one, or make a service")
        self.logs = self.root / JOURNALS / "logs" if logs is None else Path(logs).resolve()
        self.follow_links = follow_links
        self._stall_timeout = stall_timeout
        self._orphans: Literal["wait", "end"] = orphans
        self._breaker = breaker
        self._classifier = classifier
        self._slots = anyio.CapacityLimiter(parallel)
        self._client: httpx2.AsyncClient | None = None
        self._is_entered = False
        self._asked_again = AskedAgain()
        self._variables = Variables(service.calls, self._asked_again)
        self._checks = DoneChecks(self.place, self._asked_again)
        self._tokens = Tokens(service, tokens or {})
        waits = waits_for_causes(service.calls, partial(when_full, folder=self.root))
        patient = msgspec.structs.replace(PATIENT, per_category=waits)
        self._calls = self._recoverable(patient if policy is None else policy)
        self._own = {name: self._recoverable(one, name) for name, one in policies.items()}
        self.on_stop: list[Callable[[], object]] = []
        """Called after a stop, before what runs is cancelled."""
        _roots[service] = self.root

    def _recoverable(self, policy: RetryPolicy, name: str = "") -> Calls:
        """The recoverable functions with *policy*; those of a *name* are operations of their own."""
        settings: dict[str, Any] = {"resumable": True, "classifier": self._classifier, "on_conflict": "reject"}
        of = f" {name}" if name else ""
        downloads = self.service.recoverable(
            f"download{of}",
            # Counts failures in a row without progress: a large file breaks off more often than that.
            policy=msgspec.structs.replace(policy, progress_resets=None),
            breaker=self._breaker,
            when_open="wait",
            key=lambda _name, urls, *_: host_of(url_of(urls[0], os.environ.get("HF_ENDPOINT"))),
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
            InvalidRequestError: A source that is no URL, a hash that is none, a destination outside the root.
            CallRejectedError: Another download to *to* is under way.
            DownloadError, httpx2.HTTPError, OSError: Its retries are exhausted.
        """
        target = os.fspath(to)
        urls = [source] if isinstance(source, str) or not isinstance(source, Iterable) else list(source)
        check_sources(urls)
        check_promises(sha256, size)
        check_destination(self.root, target, self.place(target))
        name = name or target
        while True:
            try:
                return await self._own.get(name, self._calls).download(
                    name, *download_arguments(urls, target, sha256, size)
                )
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
                await self._own.get(name, self._calls).command(name, *arguments)
            except JoinedElsewhere as elsewhere:
                if elsewhere.ended != "succeeded":
                    raise

    def resume(self) -> Resumption:
        """Go on with the calls that a dead process left, as ``service.resume``."""
        return self.service.resume()

    def register(self, check: Callable[[], object]) -> Callable[[], object]:
        """Let *check* be the ``done`` of commands, also of those that are resumed: by its module and qualified name."""
        return self._checks.register(check)

    # what the calls do

    async def _download(self, _name: str, urls: list[str], to: str, sha256: str | None, size: int | None) -> Downloaded:
        place = self.place(to)
        async with self._slots, self._http() as client:
            with self._tokens.attempt() as headers:
                saver = Saver()

                async def attempt(url: str) -> Downloaded:
                    return await download(
                        client,
                        url,
                        place,
                        sha256=sha256,
                        size=size,
                        headers=headers,
                        on_progress=saver.save,
                        on_begin=saver.begin,
                    )

                plain = [url_of(url, os.environ.get("HF_ENDPOINT")) for url in urls]
                if len(plain) == 1:
                    return await attempt(plain[0])
                return await download_from(plain, attempt, held=partial(held_by, place))

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

    # places

    def place(self, text: str) -> Path:
        """*text* as an absolute path below the root, with its links followed as they are now.

        Raises InvalidRequestError if that is outside the root.
        """
        try:
            place = (self.root / text).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise InvalidRequestError(f"{text!r} is no place: {error}") from error
        if (reason := outside(self.root, text, place, follow_links=self.follow_links)) is not None:
            raise InvalidRequestError(reason)
        return place

    def _command_key(self, argv: Sequence[str], cwd: str) -> str:
        digest = hashlib.sha256(msgspec.json.encode([list(argv), str(self.root / cwd)])).hexdigest()
        return f"command {digest[:32]}"  # the words may be long

    # the end

    def stop(self) -> None:
        """Leave what runs to the next run, before it is cancelled: in the journal nothing of it has an end."""
        self.service.stop()
        for each in self.on_stop:
            each()

    def kill(self) -> None:
        """End the processes of commands at once."""
        kill_all()

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[httpx2.AsyncClient]:
        if self._is_entered:
            if self._client is None:
                self._client = make_client(stall_timeout=self._stall_timeout)
            yield self._client
            return
        async with make_client(stall_timeout=self._stall_timeout) as client:
            yield client
