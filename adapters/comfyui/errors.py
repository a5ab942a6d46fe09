"""What can go wrong with a prompt, and what each failure means for its next attempt.

- ``Permanent``: ``InvalidGraphError``, ``PromptRefusedError``, ``PromptFailedError``
- ``NeedsPerson``, with a question: ``MissingModelError``, ``MissingNodeError``, ``PaidNodesError``,
  ``OutcomeUnknownError``, ``PromptInterruptedError``, ``OutOfMemoryError``, ``BrokenContextError``,
  ``PaidAccountError``, ``PromptQuarantinedError``
- ``Retryable``: ``PromptLostError``, ``MemoryFullError``, ``PoisonedContextError``, ``PaidLoginError``,
  ``ServerBusyError``, ``ServerDownError``, ``NoAnswerError``
- none of these, between the client and the queue alone: ``Refused``
"""

from __future__ import annotations

from typing import Any

from events.errors import NeedsPerson, Permanent, Retryable


class InvalidGraphError(Permanent, ValueError):
    """A graph that no server can run: it is not of the API format. The message is one line."""


class PromptRefusedError(Permanent):
    """The server refused a prompt, or a part of it. The message names the nodes and what is wrong with them."""


class PromptFailedError(Permanent):
    """A node failed, and would fail again with the same input. The message names it."""


class MissingModelError(NeedsPerson):
    """A prompt names a file that the server does not have. Its question is ``model:FILE``."""


class MissingNodeError(NeedsPerson):
    """A prompt has a node of a class that the server does not have. Its question is ``node:CLASS``."""


class PaidNodesError(NeedsPerson):
    """A prompt has nodes that cost money, and no consent. Its question is ``pay:NAME``."""


class OutcomeUnknownError(NeedsPerson):
    """A prompt is gone from a server, and no sign says that it did not run. Its question is ``resubmit:NAME``."""


class PromptInterruptedError(NeedsPerson):
    """A prompt was interrupted in the server, and not by this launcher. Its question is ``resubmit:NAME``."""


class OutOfMemoryError(NeedsPerson):
    """A prompt needs more memory than there is, also after a restart of the server. Its question is ``memory:NAME``."""


class BrokenContextError(NeedsPerson):
    """A prompt breaks the CUDA context, also after a restart of the server. Its question is ``context:NAME``."""


class PaidAccountError(NeedsPerson):
    """A node that costs money needs an account, or credits. Its question is ``account:NAME``."""


class PromptQuarantinedError(NeedsPerson):
    """A prompt was executing when the server died, twice. It is set aside. Its question is ``run-again:NAME``."""


class PromptLostError(Retryable):
    """The server has died, or was started again, before the prompt was done: it is sent again."""


class MemoryFullError(Retryable):
    """A node found the memory full: it is run again once room is made."""


class PoisonedContextError(Retryable):
    """A node broke the CUDA context of the server: it is run again once the server is started again."""


class PaidLoginError(Retryable):
    """The login of a node that costs money has expired while it ran: it is run again, a few times at most."""


class ServerBusyError(Retryable):
    """The server does not answer for now: it may load a model. Nothing was sent, or the outcome is looked for."""


class ServerDownError(Retryable):
    """The server refuses connections: no process listens. Nothing was sent."""


class NoAnswerError(Retryable):
    """A POST was sent, or a part of it, and no answer came: the outcome is looked for, and nothing sent again."""


class Refused(Exception):  # noqa: N818 - an answer, which the queue turns into an error
    """The server refused a request, and has taken nothing.

    Args:
        message: One line, without the body.
        status: Of the answer.
        body: Of the answer, if it is a JSON object; otherwise empty.
    """

    def __init__(self, message: str, status: int, body: dict[str, Any]) -> None:
        super().__init__(message)  # the body may hold keys, and a traceback shows the arguments
        self.status = status
        self.body = body

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.status, {})  # the body stays in this process
