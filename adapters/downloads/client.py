"""The HTTP client of a launch; a variable of the environment that it cannot use is named."""

from __future__ import annotations

import os

from events.errors import RecoveryError
from recovery.installation import extra

with extra("launcher"):
    import httpx2

CONNECT_TIMEOUT = 10.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class EnvironmentVariableError(RecoveryError):
    """The proxy or the certificates that an environment variable names cannot be used. The message is one line."""


def make_client(*, stall_timeout: float) -> httpx2.AsyncClient:
    """A client that follows redirects and ends a transfer after *stall_timeout* seconds without a byte.

    Raises EnvironmentVariableError for a proxy, or for a file or folder of certificates, that cannot be used.
    """
    timeout = httpx2.Timeout(stall_timeout, connect=min(CONNECT_TIMEOUT, stall_timeout))
    folders = os.environ.get("SSL_CERT_DIR", "")
    if folders and not os.environ.get("SSL_CERT_FILE") and not any(map(os.path.isdir, folders.split(os.pathsep))):
        raise EnvironmentVariableError(f"SSL_CERT_DIR: no such folder of certificates: {folders}")
    try:
        return httpx2.AsyncClient(timeout=timeout, follow_redirects=True)
    except OSError as error:
        path = os.environ.get("SSL_CERT_FILE", "")
        raise EnvironmentVariableError(f"SSL_CERT_FILE: no certificates can be read from {path}: {error}") from error
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        name, reason = _unusable_proxy() or ("NO_PROXY", str(error))
        raise EnvironmentVariableError(f"{name}: the proxy cannot be used: {reason}") from error


def _unusable_proxy() -> tuple[str, str] | None:
    """The first variable with a proxy that cannot be used, and the reason."""
    for name in PROXIES:
        if not (url := os.environ.get(name, "")):
            continue
        try:
            httpx2.AsyncHTTPTransport(proxy=url if "://" in url else f"http://{url}", verify=False)
        except ImportError:
            return name, "a SOCKS proxy needs the package socksio (pip install socksio)"
        except (ValueError, httpx2.InvalidURL) as error:
            return name, str(error)
    return None
