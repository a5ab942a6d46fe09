"""The questions of a prompt that has died with its server, or of which nothing is known. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.comfyui.errors import OutcomeUnknownError, PromptInterruptedError, PromptQuarantinedError
from events.evidence import Remedy

ASKED_AGAIN = ("resubmit", "memory", "context", "account")
"""The kinds of questions without whose answer a prompt does not go on. The others are asked anew if they must be."""


def quarantined(name: str, deaths: Sequence[str]) -> PromptQuarantinedError:
    """Whether the prompt *name* is run again: *deaths* say how the server died while it ran."""
    told = "; ".join(dict.fromkeys(one for one in deaths if one))
    why = f"{name} is set aside: the server died {len(deaths)} times while it ran{f' ({told})' if told else ''}"
    cure = "See the log of the server; answer yes to run it again, or no to give it up"
    return PromptQuarantinedError(why, remedy=Remedy(f"{why}. {cure}", question=f"run-again:{name}"))


def resubmit(
    kind: type[OutcomeUnknownError | PromptInterruptedError], name: str, why: str, paid: Sequence[str]
) -> OutcomeUnknownError | PromptInterruptedError:
    """Whether the prompt *name* is run again, of which nodes *paid* cost money."""
    cost = f" Another run of {', '.join(paid)} costs money." if paid else ""
    text = f"{name} {why}"
    return kind(text, remedy=Remedy(f"{text}. Answer yes to run it again.{cost}", question=f"resubmit:{name}"))
