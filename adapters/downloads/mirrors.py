"""Download from one of several URLs of the same file: which is tried first, and when the next one is.

The next URL is tried if a host cannot be reached, breaks the transfer off, lets it trickle, or answers 502, 503 or 504.
It is not tried after a 404, another refusal or wrong content, which would hide what is wrong. The host that served a
file is remembered, and comes first for the next files of the same hosts.

A mirror never makes a download worse: the refusal of a URL other than the first is not the end of the call, and bytes
that only one host can go on with are continued from it. Give a sha256 with mirrors: then any of them goes on with them.

Source: birdnet-go #4141.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from adapters.downloads.partial_file import DestinationBusyError, DownloadError, StalePartialFileError
from adapters.downloads.sidecar import without_secrets
from adapters.downloads.watchdog import TrickleError
from recovery.installation import extra
from recovery.policies.hosts import host_of
from recovery.redact import brief

with extra("launcher"):
    import httpx2

R = TypeVar("R")

GATEWAYS = frozenset({502, 503, 504})
"""Statuses of a host that does not reach its own server, or is overloaded."""

MOST_GROUPS = 1024
"""Groups of hosts that are remembered; of the one that is noted first, the good host is forgotten first."""

OWN = (httpx2.LocalProtocolError, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
"""Transport errors that are this program's, not the host's."""

OF_HOST = (DownloadError, httpx2.HTTPStatusError, httpx2.TooManyRedirects, httpx2.DecodingError)
LOCAL = (DestinationBusyError, StalePartialFileError, OSError)
"""Errors of a download whose cause is here: another host helps nothing."""

UNREACHED = (httpx2.ConnectError, httpx2.ConnectTimeout)

MOST_SHOWN = 300
"""Characters of an error in a note or a line of the log."""

log = logging.getLogger("recovery.downloads")


class GoodHosts:
    """The good host of each group of hosts: the one that served a file last. It is kept in memory, up to a bound."""

    def __init__(self) -> None:
        self._good: dict[frozenset[str], str] = {}

    def good(self, urls: Sequence[str]) -> str | None:
        """The host that is good for *urls*; None if none is known."""
        return self._good.get(group_of(urls))

    def note(self, urls: Sequence[str], host: str, *, is_good: bool) -> None:
        """Note that *host* has served a file of *urls*, or has not: then it is good no longer."""
        group = group_of(urls)
        if is_good or self._good.get(group) == host:
            self._good.pop(group, None)
        if is_good:
            self._good[group] = host
            if len(self._good) > MOST_GROUPS:
                del self._good[next(iter(self._good))]


SHARED = GoodHosts()
"""What all downloads of this process remember together."""


def group_of(urls: Sequence[str]) -> frozenset[str]:
    """The hosts of *urls*, with their ports."""
    return frozenset(map(host_of, urls))


def order(urls: Sequence[str], good: str | None) -> list[str]:
    """*urls*, each once, as they are to be tried: those of the *good* host first, the others as given."""
    return sorted(dict.fromkeys(urls), key=lambda url: host_of(url) != good)


def is_failover(error: BaseException) -> bool:
    """Whether another host may do better: *error* is of the transport, a trickle, or the status 502, 503 or 504."""
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in GATEWAYS
    return isinstance(error, httpx2.TransportError | TrickleError) and not isinstance(error, OWN)


def is_refusal(error: BaseException) -> bool:
    """Whether *error* says that its host does not serve the file: an HTTP status, or content that is not the file's.

    Any other error (a full disk, a busy destination) has nothing to do with the host.
    """
    return isinstance(error, OF_HOST) and not isinstance(error, LOCAL)


async def download_from(
    urls: Sequence[str],
    attempt: Callable[[str], Awaitable[R]],
    *,
    memory: GoodHosts = SHARED,
    held: Callable[[], tuple[str, int] | None] = lambda: None,
) -> R:
    """Make one attempt to download a file that each of *urls* serves; it tries each at most once.

    Make it one attempt of a recoverable call: the next URL is tried at once, and the retry policy waits only when none
    has served the file. The key of that call is the host of the first URL (``recovery.host_of``): its circuit counts
    rounds in which no host was reached, and its rate limit is what the first host says.

    A refusal by the first URL is raised. After one by another URL, which may lack this one file, the first URL decides.

    Args:
        urls: Where the file is, the preferred place first.
        attempt: Makes one attempt with the URL that it gets, such as ``download``.
        memory: Which hosts were good.
        held: The URL, without its query, whose bytes no other one can go on with, and their number (``held_by``). It is
            tried first, and a failure after more of its bytes came is raised: the next attempt goes on with them.

    Raises:
        ValueError: There is no URL.
        Exception: What *attempt* raised. Of several failures it is the first of a host that was reached, with notes of
            the others.
    """
    if not urls:
        raise ValueError("there is no URL to download from")
    waiting, failed, kept = order(urls, memory.good(urls)), dict[str, Exception](), held()
    owner = None if kept is None else kept[0]
    waiting.sort(key=lambda url: without_secrets(url) != owner)
    while waiting:
        url = waiting.pop(0)
        try:
            result = await attempt(url)
        except Exception as error:
            if not is_failover(error):
                if url == urls[0] or not is_refusal(error):
                    raise
                waiting = [one for one in waiting if one == urls[0]]
            failed[url], before, kept = error, kept, held()
            if kept not in (None, before):
                raise
            memory.note(urls, host_of(url), is_good=False)
            if waiting:
                log.warning("%s: %s; trying %s", host_of(url), _short(error), host_of(waiting[0]))
        else:
            memory.note(urls, host_of(url), is_good=True)
            return result
    # The first URL was tried, and refused nothing.
    of_hosts = [failed[url] for url in order(urls, None) if url in failed and is_failover(failed[url])]
    raised = next((error for error in of_hosts if not isinstance(error, UNREACHED)), of_hosts[0])
    for url, other in failed.items():
        if other is not raised:
            raised.add_note(f"{host_of(url)}: {_short(other)}")
    raise raised


def _short(error: BaseException) -> str:
    return brief(f"{type(error).__name__}: {error}".rstrip(": "), MOST_SHOWN)
