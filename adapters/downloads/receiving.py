"""Receive the rest of a file into its partial file: one request, with its redirects, and the bytes of the response."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TypeAlias

import anyio.to_thread

from adapters.downloads import refusals
from adapters.downloads.partial_file import DownloadError, PartialFile, StalePartialFileError
from adapters.downloads.responses import CONTENT_RANGE, DECODED, encoding_of, range_headers, read_response, sendable
from adapters.downloads.watchdog import TRICKLE, Trickle, Watchdog
from adapters.downloads.writing import OnProgress, write_body
from recovery.installation import extra

with extra("launcher"):
    import httpx2

HeadersOf: TypeAlias = Callable[[str], Mapping[str, str]]
"""The headers that a request to a URL carries beside ours; asked for each hop of redirects."""

CREDENTIALS = ("authorization", "cookie", "proxy-authorization")
"""Headers of the client that no other origin gets."""

log = logging.getLogger("recovery.downloads")


def no_headers(_url: str) -> Mapping[str, str]:
    """No headers for any URL."""
    return {}


async def receive(
    client: httpx2.AsyncClient,
    url: str,
    partial: PartialFile,
    on_progress: OnProgress,
    save_every: int,
    headers_of: HeadersOf = no_headers,
    trickle: Trickle = TRICKLE,
) -> None:
    """Write the rest of the file to *partial*."""
    headers = range_headers(partial.offset, partial.sidecar.etag, partial.sidecar.sha256)
    if partial.offset and not headers:
        await anyio.to_thread.run_sync(partial.restart)
    # Encoded bytes could not be resumed in the middle, and their length would say nothing.
    headers["Accept-Encoding"] = "identity"
    offset, size, etag = partial.offset, partial.sidecar.size, partial.sidecar.etag
    async with _response(client, url, headers, headers_of) as response:
        if response.status_code not in (200, 206, 416):
            await _raise_refusal(response, asked=url)
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
            rest = None if partial.sidecar.size is None else partial.sidecar.size - partial.offset
            with Watchdog(partial.destination.name, trickle, rest=rest) as watch:
                await write_body(chunks, partial, on_progress=on_progress, watch=watch, save_every=save_every)


@asynccontextmanager
async def _response(
    client: httpx2.AsyncClient, url: str, ours: Mapping[str, str], headers_of: HeadersOf
) -> AsyncIterator[httpx2.Response]:
    """The response to a request for *url* with the headers *ours*, after redirects if *client* follows them.

    The client would read the body of a redirect, which may have no end, and it would take along what was for the
    first origin only. Another origin gets the client's headers without credentials, and what *headers_of* has for it.
    """
    given = httpx2.Headers(dict(headers_of(url)))
    request = client.build_request("GET", url, headers={**given, **ours})
    home = request.url.origin
    response = await client.send(request, stream=True, follow_redirects=False)
    # The client's own, or that of a user in the URL.
    authorization = None if "authorization" in given else request.headers.get("authorization")
    passed = 0
    try:
        while client.follow_redirects and (following := response.next_request) is not None:
            await response.aclose()
            there = str(following.url)
            if refusals.is_login(there) and (error := _refusal(response, b"", url=there, asked=url)) is not None:
                raise error
            if (passed := passed + 1) > client.max_redirects:
                raise httpx2.TooManyRedirects("Exceeded maximum allowed redirects.", request=request)
            request = client.build_request("GET", following.url)
            if following.url.origin != home:
                for name in CREDENTIALS:
                    request.headers.pop(name, None)
            elif authorization is not None:
                request.headers["authorization"] = authorization
            request.headers.update(dict(headers_of(there)))
            request.headers.update(ours)
            response = await client.send(request, stream=True, follow_redirects=False, auth=None)
        yield response
    finally:
        await response.aclose()


async def _raise_refusal(response: httpx2.Response, *, asked: str) -> None:
    """Raise what *response* means, if its status is an error; read a part of its body for that."""
    body = bytearray()
    with suppress(httpx2.HTTPError):  # what came of it is enough
        async with aclosing(response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) >= refusals.MOST_BODY:
                    break
    error = _refusal(response, bytes(body[: refusals.MOST_BODY]), url=str(response.url), asked=asked)
    if error is not None:
        raise error
    response.raise_for_status()


def _refusal(response: httpx2.Response, body: bytes, *, url: str, asked: str) -> Exception | None:
    return refusals.refused(response.status_code, response.headers, body, url=url, asked=asked)
