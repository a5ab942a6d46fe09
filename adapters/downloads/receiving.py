"""Receive the rest of a file into its partial file: one request, with its redirects, and the bytes of the response."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import anyio.to_thread

from adapters.downloads.partial_file import DownloadError, PartialFile, StalePartialFileError
from adapters.downloads.responses import CONTENT_RANGE, DECODED, encoding_of, range_headers, read_response, sendable
from adapters.downloads.writing import OnProgress, write_body
from recovery.installation import extra

with extra("launcher"):
    import httpx2

log = logging.getLogger("recovery.downloads")


async def receive(
    client: httpx2.AsyncClient, url: str, partial: PartialFile, on_progress: OnProgress, save_every: int
) -> None:
    """Write the rest of the file to *partial*."""
    headers = range_headers(partial.offset, partial.sidecar.etag, partial.sidecar.sha256)
    if partial.offset and not headers:
        await anyio.to_thread.run_sync(partial.restart)
    # Encoded bytes could not be resumed in the middle, and their length would say nothing.
    headers["Accept-Encoding"] = "identity"
    offset, size, etag = partial.offset, partial.sidecar.size, partial.sidecar.etag
    async with _response(client, client.build_request("GET", url, headers=headers)) as response:
        if response.status_code not in (200, 206, 416):
            response.raise_for_status()
            raise DownloadError(f"{url} answered {response.status_code}, which is neither a file nor an error")
        advice, total, why = read_response(response.status_code, response.headers, offset=offset, size=size, etag=etag)
        if advice == "append" and total is None and partial.sidecar.sha256 is None:
            advice, why = "drop", "the server does not say how long the file is"  # nothing would tell a part from it
        if advice == "drop":
            await anyio.to_thread.run_sync(partial.restart)
            raise StalePartialFileError(f"{partial.destination.name}: {why}; starting over")
        if advice == "complete":
            partial.describe(etag=etag, size=total)
            return
        tag = sendable(response.headers.get("etag", etag if advice == "append" else None))
        part = CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
        encoding = encoding_of(response.headers)
        is_plain, is_decoded = encoding == "identity", encoding in DECODED
        partial.check_encoding(encoding, is_decoded=is_plain or is_decoded)
        async with aclosing(response.aiter_bytes() if is_decoded else response.aiter_raw()) as chunks:
            if advice == "restart" and offset:
                first = await anext(chunks, b"")
                partial.check_page(first)
                log.warning("%s: %s; starting over", partial.destination.name, why)
                await anyio.to_thread.run_sync(partial.restart)
            else:
                first = b""
            partial.describe(etag=tag, size=total, end=int(part[2]) + 1 if part and advice == "append" else None)
            partial.is_resumable = is_plain
            partial.write(first)
            await write_body(chunks, partial, on_progress=on_progress, save_every=save_every)


@asynccontextmanager
async def _response(client: httpx2.AsyncClient, request: httpx2.Request) -> AsyncIterator[httpx2.Response]:
    """The response to *request*, after redirects if *client* follows them.

    The client would read the body of a redirect, which may have no end.
    """
    response = await client.send(request, stream=True, follow_redirects=False)
    passed = 0
    try:
        while client.follow_redirects and (following := response.next_request) is not None:
            await response.aclose()
            if (passed := passed + 1) > client.max_redirects:
                raise httpx2.TooManyRedirects("Exceeded maximum allowed redirects.", request=request)
            response = await client.send(following, stream=True, follow_redirects=False, auth=None)
        yield response
    finally:
        await response.aclose()
