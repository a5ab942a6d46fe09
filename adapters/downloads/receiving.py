"""Receive the rest of a file into its partial file: one request, with its redirects, and the bytes of the response."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TypeAlias

import anyio
import anyio.to_thread
import msgspec

from adapters.downloads import refusals
from adapters.downloads.identity import LINKED, Identity, identity_of, is_known, linked_of, range_headers
from adapters.downloads.partial_file import DownloadError, PartialFile, StalePartialFileError, UnusableResponseError
from adapters.downloads.responses import DECODED, Answer, Asked, encoding_of, read_response, size_in
from adapters.downloads.sidecar import without_secrets
from adapters.downloads.space import Claim
from adapters.downloads.watchdog import TRICKLE, Trickle, Watchdog
from adapters.downloads.writing import OnProgress, write_body
from recovery.installation import extra

with extra("launcher"):
    import httpx2

HeadersOf: TypeAlias = Callable[[str], Mapping[str, str]]
"""The headers that a request to a URL carries beside ours; asked for each hop of redirects."""

CREDENTIALS = ("authorization", "cookie", "proxy-authorization")
"""Headers of the client that no other origin gets."""

COMPRESSED = (".gz", ".tgz")
"""Endings of names of files that are compressed themselves."""

log = logging.getLogger("recovery.downloads")


def no_headers(_url: str) -> Mapping[str, str]:
    """No headers for any URL."""
    return {}


async def receive(
    client: httpx2.AsyncClient,
    url: str,
    partial: PartialFile,
    claim: Claim,
    on_progress: OnProgress,
    save_every: int,
    headers_of: HeadersOf = no_headers,
    trickle: Trickle = TRICKLE,
) -> None:
    """Write the rest of the file to *partial*.

    It takes more than one request where a server sends less than was asked for, or what does not fit. A request that
    gave no byte is made once more, then one for the whole file, of which the bytes that are there are skipped.

    Raises:
        httpx2.ReadError: TLS broke off in the middle.
        StalePartialFileError: The file has changed twice.
        UnusableResponseError: No response could be used.
    """
    fruitless, has_dropped = 0, False
    while True:
        before = partial.offset
        try:
            answer, is_over = await _exchange(
                client, url, partial, claim, fruitless, headers_of, claim.following(on_progress), save_every, trickle
            )
        except ssl.SSLError as error:  # in the middle of a response, httpx2 leaves it as it is under asyncio
            raise httpx2.ReadError(str(error)) from error
        if is_over:
            return
        name, why = partial.destination.name, answer.why or "the response had no byte"
        if answer.advice == "drop":
            await anyio.to_thread.run_sync(partial.restart)
            log.warning("%s: %s; starting over", name, why)
            if has_dropped:
                raise StalePartialFileError(f"{name}: {why}; starting over")
            fruitless, has_dropped = 0, True
        elif partial.offset > before:
            fruitless = 0
        elif fruitless == 2 or not partial.offset:
            raise UnusableResponseError(f"{name}: {why}")
        else:
            fruitless = 2 if answer.advice == "whole" else fruitless + 1
            log.info("%s: %s; asking once more", name, why)


async def _exchange(
    client: httpx2.AsyncClient,
    url: str,
    partial: PartialFile,
    claim: Claim,
    fruitless: int,
    headers_of: HeadersOf,
    on_progress: OnProgress,
    save_every: int,
    trickle: Trickle,
) -> tuple[Answer, bool]:
    """Make one request, and write what comes; returns what it meant, and whether the file is there."""
    kept = partial.sidecar if partial.sidecar.url == without_secrets(url) else Identity()
    headers = range_headers(partial.offset, kept) if fruitless < 2 else {}
    asked = Asked(
        offset=partial.offset,
        size=partial.sidecar.size,
        kept=kept,
        is_ranged="Range" in headers,
        is_conditional="If-Range" in headers,
        is_again=fruitless > 0,
    )
    # Encoded bytes could not be resumed in the middle, and their length would say nothing.
    headers["Accept-Encoding"] = "identity"
    async with _response(client, url, headers, headers_of) as (response, linked):
        status, got = response.status_code, _as_stored(response.headers, partial.destination.suffix.lower())
        if status not in (200, 206, 416):
            await _raise_refusal(response, asked=url, most=client.timeout.read)
            raise DownloadError(f"{without_secrets(url)} answered {status}, which is neither a file nor an error")
        first, linked_size = linked_of(linked)
        now = msgspec.structs.replace(identity_of(got), sha256=first.sha256, linked=first.linked)
        if status != 416:
            partial.check_promise(now, _size_of(partial.destination.name, linked_size, size_in(status, got)))
        answer = read_response(status, got, asked, now)
        if answer.advice in ("again", "whole", "drop"):
            return answer, False
        size = answer.total if linked_size is None else linked_size
        if answer.advice == "complete":
            partial.describe(now, size=size)
            return answer, True
        encoding = encoding_of(got)
        is_plain, is_decoded = encoding == "identity", encoding in DECODED
        partial.check_encoding(encoding, is_decoded=is_plain or is_decoded)
        async with aclosing(response.aiter_bytes() if is_decoded else response.aiter_raw()) as chunks:
            first_chunk = await _make_place(partial, answer, chunks)
            partial.describe(now, size=size, end=answer.end)
            partial.is_resumable = is_plain
            await claim.cover(partial, is_described=True)
            partial.write(first_chunk)
            left = None if partial.sidecar.size is None else partial.sidecar.size - partial.offset + answer.skip
            with Watchdog(partial.destination.name, trickle, rest=left) as watch:
                async with aclosing(_without_first(chunks, answer.skip, watch) if answer.skip else chunks) as rest:
                    await write_body(rest, partial, on_progress=on_progress, watch=watch, save_every=save_every)
    known = partial.sidecar.size
    if status == 206:
        return answer, known is not None and partial.offset >= known
    # Without a length, a body that was cut looks whole.
    is_cut = known is not None and partial.offset < known and partial.is_resumable and is_known(partial.sidecar)
    return answer, not is_cut


async def _make_place(partial: PartialFile, answer: Answer, chunks: AsyncIterator[bytes]) -> bytes:
    """Drop the kept bytes, or lay them aside, where *answer* says so; returns the bytes that were read for that."""
    if not partial.offset or answer.advice == "append":
        return b""
    first = await anext(chunks, b"")
    partial.check_page(first)
    log.warning("%s: %s; starting over", partial.destination.name, answer.why)
    await anyio.to_thread.run_sync(partial.restart if answer.advice == "restart" else partial.write_beside)
    return first


async def _without_first(chunks: AsyncIterator[bytes], skip: int, watch: Watchdog) -> AsyncGenerator[bytes, None]:
    """The bytes of *chunks* behind the first *skip*, of which *watch* is told here."""
    async for chunk in chunks:
        if skip >= len(chunk):
            skip -= len(chunk)
            watch.feed(len(chunk))
        else:
            yield chunk[skip:]
            skip = 0
    if skip:
        raise UnusableResponseError(f"the whole file came again, and ended {skip} bytes before those that are there")


def _as_stored(headers: httpx2.Headers, ending: str) -> Mapping[str, str]:
    """*headers*, without an encoding that is the file's own: some servers name it of each file that is compressed.

    What a server compresses itself, while it sends it, has no length.
    """
    if ending in COMPRESSED and encoding_of(headers) in ("gzip", "x-gzip") and "content-length" in headers:
        return {name: value for name, value in headers.items() if name != "content-encoding"}
    return headers


def _size_of(name: str, linked: int | None, came: int | None) -> int | None:
    """The size of a file, by the server that was asked or by the response. Raises UnusableResponseError for two."""
    if None not in (linked, came) and linked != came:
        raise UnusableResponseError(f"{name} has {linked} bytes, says the server; what it led to has {came}")
    return came if linked is None else linked


@asynccontextmanager
async def _response(
    client: httpx2.AsyncClient, url: str, ours: Mapping[str, str], headers_of: HeadersOf
) -> AsyncIterator[tuple[httpx2.Response, Mapping[str, str]]]:
    """The response to a request for *url* with the headers *ours*, after redirects if *client* follows them.

    Beside it, the headers of the first response that says what the linked file is, if it is of the origin of *url*.

    The client would read the body of a redirect, which may have no end, and it would take along what was for the
    first origin only. Another origin gets the client's headers without credentials, and what *headers_of* has for it.
    """
    given = httpx2.Headers(dict(headers_of(url)))
    request = client.build_request("GET", url, headers={**given, **ours})
    home = request.url.origin
    response = await client.send(request, stream=True, follow_redirects=False)
    # The client's own, or that of a user in the URL.
    authorization = None if "authorization" in given else request.headers.get("authorization")
    passed, linked = 0, response.headers
    try:
        while client.follow_redirects and (following := response.next_request) is not None:
            await response.aclose()
            there = str(following.url)
            if (following.url.port or 0) > 65535:
                led = f"{without_secrets(url)} led to {without_secrets(there)}"
                raise refusals.RefusedError(f"{led}, and ports end at 65535")
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
            if following.url.origin == home and LINKED not in linked:  # a repository that was renamed
                linked = response.headers
        yield response, linked
    finally:
        await response.aclose()


async def _raise_refusal(response: httpx2.Response, *, asked: str, most: float | None) -> None:
    """Raise what *response* means, if its status is an error; read a part of its body for that, for *most* seconds."""
    body = bytearray()
    with suppress(httpx2.HTTPError), anyio.move_on_after(most):  # what came of it is enough
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
    has_token = "authorization" in response.request.headers
    endpoint = os.environ.get("HF_ENDPOINT")
    return refusals.refused(
        response.status_code, response.headers, body, url=url, asked=asked, has_token=has_token, endpoint=endpoint
    )
