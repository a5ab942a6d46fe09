"""The user's own rules of classification, asked before the built-in ones. Pure.

    @service.recoverable("render", classifier=(
        Rule("licence", Category.AUTH, statuses={451}, why="the licence must be accepted"),
        Rule("busy", Category.TRANSIENT, types=("comfy.ServerBusy",), retry_after=5.0),
    ))

The first rule that matches decides; ``recovery.policies.classification`` decides where none does.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from events.callables import is_async
from events.event import FOREVER
from events.evidence import Category, Evidence, Remedy
from recovery import validation
from recovery.policies.classification import Classification, Classifier, Front
from recovery.policies.error_messages import compiled
from recovery.suggestions import Suggesting


class Rule(msgspec.Struct, metaclass=Suggesting, frozen=True, repr_omit_defaults=True):
    """A failure that matches all of the given fields belongs to *category*. A rule is a ``Classifier``.

    Args:
        name: The name of the rule in events and logs.
        category: The category of a failure that matches.
        types: Exception classes, or their qualified names ("httpx2.ReadTimeout"); subclasses match, too.
        statuses: HTTP statuses, of a response or of the exception itself.
        errnos: Numbers of system errors.
        exit_codes: Exit codes of processes.
        text: A regular expression that is searched for in the message and in the error output; case is ignored, ``.``
            spans lines.
        why: The reason in events and logs.
        retry_after: The least seconds to wait before a retry; None leaves it to the policy.
        remedy: What a person can do; logs, notes and lists show it with the failure.

    Raises:
        TypeError: An unknown field, or a value of the wrong type.
        ValueError: A value out of range, or a rule that matches everything.
    """

    name: str
    category: Category
    types: Iterable[type[BaseException] | str] = ()
    statuses: Iterable[int] = ()
    errnos: Iterable[int] = ()
    exit_codes: Iterable[int] = ()
    text: str = ""
    why: str = ""
    retry_after: float | None = None
    remedy: Remedy | None = None

    def __post_init__(self) -> None:
        set_field = msgspec.structs.force_setattr
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name must be a text that is not empty, not {self.name!r}")
        set_field(self, "category", validation.category("category", self.category))
        kinds = validation.items("types", self.types, single=type | str)
        set_field(self, "types", frozenset(map(_type_name, kinds)))
        for field, least in (("statuses", 0), ("errnos", 0), ("exit_codes", -(2**31))):
            numbers = validation.items(field, getattr(self, field), single=int)
            set_field(self, field, frozenset(validation.whole(field, number, least=least) for number in numbers))
        if not isinstance(self.text, str):
            raise TypeError(f"text must be a regular expression, not {self.text!r}")
        try:
            compiled(self.text)
        except (re.error, OverflowError) as error:
            raise ValueError(f"text must be a regular expression: {error}") from error
        if self.retry_after is not None:
            validation.number("retry_after", self.retry_after)
        if not isinstance(self.remedy, Remedy | None):
            raise TypeError(f"remedy must be a Remedy, not {self.remedy!r}")
        if not (self.types or self.statuses or self.errnos or self.exit_codes or self.text):
            raise ValueError(f"rule {self.name!r} looks for nothing: it would match every failure")

    def __call__(self, evidence: Evidence, /) -> Classification | None:
        """The classification of *evidence*, ``None`` if it does not match."""
        if self.types and not self.types & {evidence.type, *evidence.kinds}:  # type: ignore[operator]  # a frozenset now
            return None
        for wanted, found in (
            (self.statuses, evidence.status),
            (self.errnos, evidence.errno),
            (self.exit_codes, evidence.exit_code),
        ):
            if wanted and found not in wanted:  # type: ignore[operator]  # frozensets now
                return None
        texts = (evidence.message, evidence.stderr or "")
        if self.text and not any(compiled(self.text).search(text) for text in texts):
            return None
        return Classification(self.category, self.name, self.why, self.retry_after, self.remedy)


def in_order(field: str, classifier: Any) -> tuple[Classifier, ...]:
    """*classifier*, one or several, as a tuple. Raises TypeError, naming the *field*, unless each is a function."""
    several = classifier if isinstance(classifier, tuple | list) else (classifier,)
    for one in several:
        if not callable(one) or is_async(one):
            raise TypeError(f"{field} must be a Rule or a plain function of the evidence, or several; not {one!r}")
    return tuple(several)


def front_of(classifiers: Iterable[Classifier], failed: Callable[[Classifier, Exception], object]) -> Front:
    """*classifiers* as one function: the first opinion counts; one that raises is passed to *failed* and skipped."""

    def front(evidence: Evidence) -> Classification | None:
        for classifier in classifiers:
            try:
                answer = classifier(evidence)
                if isinstance(answer, Classification):
                    after = answer.retry_after
                    after = None if after is None else min(validation.number("retry_after", after), FOREVER)
                    return msgspec.structs.replace(
                        answer,
                        category=Category(answer.category),
                        rule=str(answer.rule),
                        why=str(answer.why),
                        retry_after=after,
                    )
                if answer is not None:
                    return Classification(Category(answer), "classifier")
            except Exception as error:  # the failure is classified even so
                failed(classifier, error)
        return None

    return front


def _type_name(kind: object) -> str:
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(kind, str) and ("." in kind or hasattr(builtins, kind)):
        return kind if "." in kind else f"builtins.{kind}"
    raise TypeError(f"types must be exception classes or their qualified names (module.Class), not {kind!r}")
