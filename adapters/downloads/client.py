"""The HTTP client of a launch; a variable of the environment that it cannot use is named."""

from __future__ import annotations

import os
from collections.abc import Iterator

from events.errors import Permanent
from recovery.installation import extra

with extra("launcher"):
    import httpx2

CONNECT_TIMEOUT = 10.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class EnvironmentVariableError(Permanent):
    """The proxy or the certificates that an environment variable names cannot be used. The message is one line."""


def make_client(*, stall_timeout: float) -> httpx2.AsyncClient:
    """A client that follows redirects and ends a transfer after *stall_timeout* seconds without a byte.

    Raises EnvironmentVariableError for a proxy, or for a file or folder of certificates, that cannot be used.
    """
    check_environment()
    timeout = httpx2.Timeout(stall_timeout, connect=min(CONNECT_TIMEOUT, stall_timeout))
    certificates = os.environ.get("SSL_CERT_FILE", "")
    try:
        return httpx2.AsyncClient(timeout=timeout, follow_redirects=True)
    except OSError as error:
        reason = f"no certificates can be read from {certificates}: {error}"
        raise EnvironmentVariableError(f"SSL_CERT_FILE: {reason}") from error
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        raise EnvironmentVariableError(f"NO_PROXY: the proxy cannot be used: {error}") from error


def check_environment() -> None:
    """Raise EnvironmentVariableError for a proxy that cannot be used, or certificates that are not there."""
    folders, certificates = os.environ.get("SSL_CERT_DIR", ""), os.environ.get("SSL_CERT_FILE", "")
    if certificates and not os.path.isfile(certificates):  # a pipe would block, and a device has no end
        raise EnvironmentVariableError(f"SSL_CERT_FILE: no certificates can be read from {certificates}: it is no file")
    if folders and not certificates and not any(map(os.path.isdir, folders.split(os.pathsep))):
        raise EnvironmentVariableError(f"SSL_CERT_DIR: no such folder of certificates: {folders}")
    for name, url in _proxies():
        if (reason := _wrong_proxy(url)) is not None:
            raise EnvironmentVariableError(f"{name}: the proxy cannot be used: {reason}")


def _proxies() -> Iterator[tuple[str, str]]:
    """The variables that name a proxy, with its URL. One in upper case counts where that in lower case is empty."""
    for lower, upper in zip(PROXIES[:3], PROXIES[3:], strict=True):
        name = lower if os.environ.get(lower) else upper
        if url := os.environ.get(name, ""):
            yield name, url


def _wrong_proxy(text: str) -> str | None:
    """Why no connection can be made to the proxy *text*."""
    try:
        url = httpx2.URL(text if "://" in text else f"http://{text}")
        httpx2.AsyncHTTPTransport(proxy=url, verify=False)
    except ImportError:
        return "a SOCKS proxy needs the package socksio (pip install socksio)"
    except (ValueError, httpx2.InvalidURL) as error:
        return str(error)
    if not url.host:
        return "it has no host"
    if url.port is not None and not 0 < url.port < 65536:
        return f"it has the port {url.port}, and ports are 1 to 65535"
    return None
