"""Which answers fit a question and count: the latest one, unless it was refused, or its secret is not here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias, get_args

import msgspec

from events.event import Event
from events.question_events import QuestionAnswered, QuestionAsked, QuestionKind, QuestionReopened
from recovery.literals import LEAST_LITERAL, hide
from recovery.serialization.secret import Secret

KINDS: tuple[QuestionKind, ...] = get_args(QuestionKind)

Value: TypeAlias = bool | str | Secret
"""What answers a question; a ``Secret`` says where the answer is."""


class OpenQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question that calls wait for.

    Args:
        name: Its name, for ``answer``.
        calls: The ids of the calls that wait for it.
        since: When a call of this process began to wait for it, on the service's clock.
        kind: What answers it: "confirm" (True or False), "choice", "text" or "secret".
        choices: The answers to a "choice".
        text: What a person is asked to do; "" if the name says it all.
        link: Where to do that; "" for nowhere.
        reason: Why it is asked again: what became of the latest answer; "" if there was none.
    """

    name: str
    calls: tuple[str, ...]
    since: float
    kind: QuestionKind = "confirm"
    choices: tuple[str, ...] = ()
    text: str = ""
    link: str = ""
    reason: str = ""


class Known(msgspec.Struct):
    """What is known of a question: its declaration, since when it is asked here, and its latest answer.

    Args:
        kind: What answers it. A question that was a secret once stays one.
        choices: The answers to a "choice".
        text: What a person is asked to do.
        link: Where to do that.
        is_declared: Whether ``question`` has named it, here or in another process.
        is_ours: Whether ``question`` has named it here.
        since: When a call of this process began to wait for it; None while none does.
        answered: The Unix time of the answer; 0.0 for none.
        value: The answer.
        refused: The Unix time of the latest answer that was refused: earlier ones do not count.
        reason: Why it was refused.
        tried: The ids of the calls that went on with the answer.
    """

    kind: QuestionKind = "confirm"
    choices: tuple[str, ...] = ()
    text: str = ""
    link: str = ""
    is_declared: bool = False
    is_ours: bool = False
    since: float | None = None
    answered: float = 0.0
    value: Value | None = None
    refused: float = 0.0
    reason: str = ""
    tried: set[str] = msgspec.field(default_factory=set)

    def declare(self, kind: QuestionKind, choices: tuple[str, ...], text: str, link: str, *, is_ours: bool) -> None:
        """Add to what is known of it. What was declared here counts more than what another process says."""
        if kind == "secret" or (self.kind != "secret" and kind != "confirm" and (is_ours or not self.is_ours)):
            self.kind, self.choices = kind, choices
        self.text, self.link = text or self.text, link or self.link
        self.is_declared, self.is_ours = True, self.is_ours or is_ours

    def take(self, answered: float, value: Value) -> bool:
        """Take *value* for the answer if it is later than the one before; whether it is."""
        if answered <= self.answered:
            return False
        self.answered, self.value = answered, value
        return True

    def current(self, name: str) -> tuple[bool | str | None, str]:
        """The answer that counts to this question, called *name*; else None, and why the latest one does not count."""
        if self.answered <= self.refused or self.value is None:
            return None, self.reason
        try:
            check_answer(name, self.kind if self.is_declared else None, self.choices, self.value)
            if not isinstance(self.value, Secret):
                return self.value, ""
            if value := self.value.reveal():
                return value, ""
            return None, f"{self.value.reference} is empty"
        except LookupError as error:
            return None, str(error.args[0])
        except OSError as error:
            return None, f"{error.filename} cannot be read: {error.strerror}"
        except (TypeError, ValueError) as error:
            return None, f"{error}"


def take(known: dict[str, Known], event: Event) -> str | None:
    """Add *event* of the journal to what is *known*; the name of the question if that has another answer now."""
    match event:
        case QuestionAsked(name=name, kind=kind, choices=choices, text=text, link=link):
            known.setdefault(name, Known()).declare(kind, choices, text, link, is_ours=False)
        case QuestionAnswered(name=name, value=value, answered=answered) if bytes(value):
            with suppress(msgspec.DecodeError):  # of another program
                return name if known.setdefault(name, Known()).take(answered, _decoded(value)) else None
        case QuestionReopened(name=name, answered=answered, reason=reason):
            about = known.setdefault(name, Known())
            if answered >= about.refused:
                if about.refused < about.answered <= answered:
                    about.since = None  # it is asked once more
                about.refused, about.reason = answered, reason
    return None


def check_answer(name: str, kind: QuestionKind | None, choices: tuple[str, ...], value: object) -> None:
    """Raise TypeError or ValueError if *value* does not answer the question *name*; no kind: nothing is known of it.

    The message does not show the value, which may be a secret.
    """
    fits, what = {
        None: (isinstance(value, bool | str | Secret), "True, False, a text or a Secret"),
        "confirm": (isinstance(value, bool), "True or False"),
        "choice": (isinstance(value, str), f"one of {_listed(choices)}"),
        "text": (isinstance(value, str), "a text"),
        "secret": (isinstance(value, str | Secret), "a text, or a Secret that says where it is"),
    }[kind]
    if not fits:
        raise TypeError(f"the answer to {name!r} must be {what}, not a {type(value).__name__}")
    if kind == "choice" and value not in choices:
        raise ValueError(f"the answer to {name!r} must be {what}")
    if kind == "secret" and not value:
        raise ValueError(f"the answer to {name!r} is empty")
    if isinstance(value, str) and not _is_unicode(value):
        raise ValueError(f"the answer to {name!r} is no Unicode text")


def check_question(name: str, kind: QuestionKind, choices: Sequence[str], text: str, link: str) -> None:
    """Raise TypeError or ValueError for a question that cannot be asked."""
    for field, value in (("name", name), ("text", text), ("link", link)):
        if not isinstance(value, str):
            raise TypeError(f"the {field} of a question must be a text, not {value!r}")
    if not name:
        raise ValueError("the name of a question must not be empty")
    if kind not in KINDS:
        raise ValueError(f"the kind of the question {name!r} must be one of {_listed(KINDS)}, not {kind!r}")
    if isinstance(choices, str) or not all(isinstance(choice, str) and choice for choice in choices):
        raise TypeError(f"the choices of the question {name!r} must be texts that are not empty, not {choices!r}")
    if (kind == "choice") != bool(choices):
        needs = "needs choices" if kind == "choice" else f"is answered by a {kind}, and has no choices"
        raise ValueError(f"the question {name!r} {needs}")


def may_be_told(kind: QuestionKind | None, value: Value) -> bool:
    """Whether *value* may leave the process: a text only if the question is known, and is no secret."""
    return not isinstance(value, str) or kind in ("choice", "text")


def as_json(value: Value) -> msgspec.Raw:
    """*value* as events have it: of a ``Secret`` the reference."""
    return msgspec.Raw(msgspec.json.encode(value))


def _decoded(value: msgspec.Raw) -> Value:
    decoded: Value = msgspec.json.decode(value, type=Value)
    return decoded


def hide_answer(value: Value | None) -> None:
    """Redact *value*, the answer to a secret question, from now on; one that is very short would redact too much."""
    if isinstance(value, str) and len(value) >= LEAST_LITERAL:
        hide(value)


def _listed(choices: tuple[str, ...]) -> str:
    return ", ".join(map(repr, choices))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
