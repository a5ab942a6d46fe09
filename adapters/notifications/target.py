"""Where notifications go: the interface of ``Webhook``, ``Command`` and targets of your own."""

from __future__ import annotations

from typing import ClassVar, Protocol

from recovery.policies.retry import RetryPolicy


class Target(Protocol):
    """Something that takes notifications. ``str`` is what messages call it, without a secret."""

    policy: ClassVar[RetryPolicy]
    """When a notification that could not be sent is sent again."""

    def prepare(self) -> None:
        """Check, before anything is sent, that notifications can be sent.

        Raises:
            LookupError, OSError, ValueError: They cannot; the message says what is wrong, and shows no secret.
        """

    async def send(self, notification: bytes) -> None:
        """Send a notification, once.

        Args:
            notification: A ``Notification`` as UTF-8 JSON.

        Raises:
            Exception: What says why it was not sent; it is classified as any failure, and *policy* decides.
        """
