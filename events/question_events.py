"""Events of questions to a person: asked, answered, opened again."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from events.event import NOTHING, Event

QuestionKind: TypeAlias = Literal["confirm", "choice", "text", "secret"]
"""What answers a question: yes or no, one of several texts, a text, or a text that is never written or shown."""


class QuestionAsked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A call waits for the answer to a question that no call of this process waits for yet.

    Args:
        name: The name of the question, by which it is answered.
        kind: What answers it.
        choices: The answers to a "choice".
        text: What a person is asked to do; "" if the name says it all.
        link: Where to do that; "" for nowhere.
        reason: Why the answer before was refused; "" if there was none.
    """

    name: str
    kind: QuestionKind = "confirm"
    choices: tuple[str, ...] = ()
    text: str = ""
    link: str = ""
    reason: str = ""


class QuestionAnswered(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A question has an answer. Of several answers the latest counts, in every process of the journal.

    Args:
        name: The name of the question.
        kind: What it was answered with, as the answering process knows.
        value: The JSON of the answer; of a secret a reference (``{"$secret": "env:NAME"}``). Nothing for the value
            itself of a secret, and of what may be one: it stays in the process that was given it.
        answered: The Unix time of the answer, always later than that of the answer before it.
    """

    name: str
    kind: QuestionKind = "confirm"
    value: msgspec.Raw = NOTHING
    answered: float = 0.0


class QuestionReopened(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An answer was refused: the question is open again, in every process of the journal.

    Args:
        name: The name of the question.
        reason: Why, for a person.
        answered: The Unix time of the answer that was refused. A later answer counts.
    """

    name: str
    reason: str = ""
    answered: float = 0.0
