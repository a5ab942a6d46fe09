"""The brick for files: downloads that go on where they broke off."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio

from adapters.downloads.client import make_client
from adapters.downloads.http import Downloaded, download
from adapters.downloads.mirrors import download_from
from adapters.downloads.sidecar import held_by
from adapters.downloads.sources import url_of
from adapters.launcher.arguments import check_destination, check_promises, check_sources, download_arguments
from adapters.launcher.bricks import Bricks
from adapters.launcher.checkpoints import Saver
from events.errors import JoinedElsewhere
from recovery.installation import extra
from recovery.policies.hosts import host_of

with extra("launcher"):
    import httpx2


class DownloadBrick(Bricks):
    """Downloads of files."""

    _client: httpx2.AsyncClient | None = None

    def _declare(self) -> None:
        super()._declare()
        self._recoverable(
            "download",
            self._download,
            lambda _name, _urls, to, *_: f"file {self.root / to}",
            breaker=self._breaker,
            # Counts failures in a row without progress: a large file breaks off more often than that.
            policy={"progress_resets": None},
            when_open="wait",
            key=lambda _name, urls, *_: host_of(url_of(urls[0], os.environ.get("HF_ENDPOINT"))),
        )

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
                downloaded: Downloaded = await self._call(
                    "download", name, *download_arguments(urls, target, sha256, size)
                )
            except JoinedElsewhere:
                continue  # another process made the file, which is here now
            return downloaded

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

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[httpx2.AsyncClient]:
        if self._is_entered:
            if self._client is None:
                self._client = make_client(stall_timeout=self._stall_timeout)
            yield self._client
            return
        async with make_client(stall_timeout=self._stall_timeout) as client:
            yield client

    async def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with anyio.CancelScope(shield=True):
                await client.aclose()
