"""The errors of a cluster."""

from __future__ import annotations

import asyncio

from events.errors import RecoveryError


class ClusterError(RecoveryError):
    """Something about a cluster of machines went wrong."""


class UnreachableError(ClusterError):
    """No server of the cluster answers, or none that may decide: the servers elect a leader, say."""


class NotSentError(UnreachableError):
    """No server took a request: it was not carried out."""


class StaleError(ClusterError):
    """The record of a call has changed since it was read: nothing was written."""


class ForbiddenError(ClusterError):
    """The servers do not permit something to this user: another role may do it, or its inbox has another name."""


class TooLargeError(ClusterError):
    """Arguments, a checkpoint or a result are larger than the servers take."""


class UnreadableError(ClusterError):
    """A record, or what is kept beside it, is larger or newer than this release reads: another one may."""


class LeaseLostError(ClusterError):
    """A worker no longer holds its call: another one may run it, and its own writes are refused."""


class RemoteCallError(ClusterError):
    """A call of the cluster has ended badly, on some machine.

    Args:
        call: Its id.
        state: "gave up" or "cancelled".
        reason: Why.
        error: The name of the class and the text of the last failure, made safe; both "" if there is none.
        node: The node that ran it last.
    """

    def __init__(self, call: str, state: str, reason: str, error: tuple[str, str] = ("", ""), node: str = "") -> None:
        self.call, self.state, self.reason, self.error, self.node = call, state, reason, error, node
        kind, text = error
        failure = f": {kind}: {text}" if kind else ""
        where = f" on {node}" if node else ""
        super().__init__(f"{call} {state}{where} ({reason}){failure}")


class ClusterLimitError(ClusterError):
    """The call, its key or its arguments do not fit into a cluster; the message says which limit, and the cure."""


class ChangeRefusedError(ClusterError):
    """A call does not take that change now; the message says why."""


class UnknownCallError(ClusterError, LookupError):
    """The cluster knows no such call: it ended more than seven days ago, or was never submitted."""


def check_asyncio() -> None:
    """Raise ClusterError where no asyncio loop runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ClusterError(
            "a cluster needs asyncio, and this program runs on trio: run it with asyncio.run(main()) or anyio.run(main)"
        ) from None
