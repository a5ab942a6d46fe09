"""Send notifications to a URL by HTTP POST: Slack, Discord, Mattermost, ntfy, or a server of your own."""

from __future__ import annotations

import logging
from typing import ClassVar
from urllib.parse import urlsplit

from adapters.downloads.client import make_client
from recovery.policies.backoff import Exponential
from recovery.policies.retry import RetryPolicy
from recovery.redact import hide
from recovery.serialization.secret import Secret
from recovery.subscribers.log import Redacted

SECONDS = 10.0
"""Seconds that a server may be silent."""

LEAST_PATH = 16
"""Characters from which a path is hidden alone: a shorter one may stand in other texts."""

logging.getLogger("httpx2").addFilter(Redacted())  # it logs the URL of each request


class Webhook:
    """A URL that takes notifications as JSON by POST.

        Webhook("env:SLACK_WEBHOOK")

    An answer of 2xx means that the notification was taken. Otherwise it is sent again, for up to an hour, as every
    recoverable call is: after what the server asks for (429), with growing delays where it cannot be reached. An
    answer such as 404 ends that at once. A redirect is not followed.

    Args:
        url: The URL, which is a secret: it is never journalled, logged or shown. "env:NAME" and "file:PATH" name the
            variable or the file that holds it.

    Raises:
        TypeError: *url* is no text.
    """

    policy: ClassVar[RetryPolicy] = RetryPolicy(
        max_retries=None, backoff=Exponential(1.0), max_delay=60.0, max_elapsed=3600.0, attempt_timeout=30.0
    )

    def __init__(self, url: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"the url of a webhook must be a text, not {type(url).__name__}")
        is_reference = url.startswith(("env:", "file:"))
        self._url: str | Secret = Secret(url) if is_reference else url
        self._name = f"the webhook {url}" if is_reference else "the webhook"

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<Webhook: {self._name}>"

    def prepare(self) -> None:
        """Check the URL, and hide it from now on.

        Raises:
            LookupError: The environment has no such variable.
            OSError: The file cannot be read.
            ValueError: It is no http or https URL. The message does not show it.
        """
        self._revealed()

    def _revealed(self) -> str:
        """The URL as it is now: a file may have changed."""
        url = self._url if isinstance(self._url, str) else self._url.reveal()
        wrong = f"{self} is no http or https URL; what was given ({len(url)} characters) is not shown"
        try:
            parts = urlsplit(url)
            is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise ValueError(wrong) from None  # the cause shows it
        if not is_right:
            raise ValueError(wrong)
        hide(url)
        if len(path := url.partition(parts.netloc)[2]) >= LEAST_PATH:
            hide(path)
        return url

    async def send(self, notification: bytes) -> None:
        """Post *notification*.

        Raises:
            HTTPError: (of ``httpx2``) It was not taken.
            LookupError, OSError, ValueError: As ``prepare``.
        """
        url, headers = self._revealed(), {"Content-Type": "application/json"}
        async with (
            make_client(stall_timeout=SECONDS) as client,
            client.stream("POST", url, content=notification, headers=headers, follow_redirects=False) as response,
        ):
            response.raise_for_status()  # the body is not read
