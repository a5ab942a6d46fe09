"""Rules of one's own, in front of the built-in ones: each names what it looks for and what that means. Pure.

    @service.recoverable("render", classifier=(
        Rule("licence", Category.AUTH, statuses={451}, why="somebody must accept the licence"),
        Rule("busy", Category.TRANSIENT, types=("comfy.ServerBusy",), retry_after=5.0),
    ))

They are asked in order, the first that fits decides; what none fits is left to ``recovery.policies.classification``.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import msgspec

from events.callables import is_async
from events.event import FOREVER
from events.evidence import Category, Evidence
from recovery import validation
from recovery.policies.classification import Classification, Classifier, Front
from recovery.suggestions import Suggesting

MAX_COMPILED = 256


class Rule(msgspec.Struct, metaclass=Suggesting, frozen=True):
    """A failure that fits all of what is given means *category*; *name* and *why* say so in events and logs.

    *types* are exception classes, or their qualified names ("httpx2.ReadTimeout"): the class itself or a base of it.
    *statuses* are of HTTP errors: a response's, or those of an exception that has headers too. They, *errnos* and
    *exit_codes* are numbers, one of which must be there. *text* is a regular expression that is searched for in the
    message and in the error output, case ignored, ``.`` spanning lines. *retry_after* is how many seconds to wait at
    least.

    A rule is a ``Classifier``. Raises TypeError or ValueError, naming the field, for what is no such thing, and
    ValueError for a rule that looks for nothing.
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

    def __post_init__(self) -> None:
        set_field = msgspec.structs.force_setattr
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name must be a text that is not empty, not {self.name!r}")
        set_field(self, "category", Category(validation.choice("category", self.category, tuple(map(str, Category)))))
        kinds = (self.types,) if isinstance(self.types, type | str) else self.types
        set_field(self, "types", frozenset(map(_type_name, validation.items("types", kinds))))
        for field in ("statuses", "errnos", "exit_codes"):
            given = getattr(self, field)
            numbers = (given,) if isinstance(given, int) else given
            least = -(2**31) if field == "exit_codes" else 0
            set_field(
                self,
                field,
                frozenset(validation.whole(field, n, least=least) for n in validation.items(field, numbers)),
            )
        if not isinstance(self.text, str):
            raise TypeError(f"text must be a regular expression, not {self.text!r}")
        try:
            _compiled(self.text)
        except (re.error, OverflowError) as error:
            raise ValueError(f"text must be a regular expression: {error}") from error
        if self.retry_after is not None:
            validation.number("retry_after", self.retry_after)
        if not (self.types or self.statuses or self.errnos or self.exit_codes or self.text):
            raise ValueError(f"rule {self.name!r} looks for nothing; it would fit everything")

    def __call__(self, evidence: Evidence, /) -> Classification | None:
        """What *evidence* means by this rule, or ``None`` if it does not fit."""
        if self.types and not self.types & {evidence.type, *evidence.kinds}:  # type: ignore[operator]  # a frozenset now
            return None
        for wanted, found in (
            (self.statuses, evidence.status),
            (self.errnos, evidence.errno),
            (self.exit_codes, evidence.exit_code),
        ):
            if wanted and found not in wanted:  # type: ignore[operator]  # frozensets now
                return None
        if self.text and not any(
            _compiled(self.text).search(text) for text in (evidence.message, evidence.stderr or "")
        ):
            return None
        return Classification(self.category, self.name, self.why, self.retry_after)


def in_order(field: str, classifier: Any) -> tuple[Classifier, ...]:
    """*classifier*, one or several, as a tuple. Raises TypeError, naming the *field*, for what is no plain function."""
    several = classifier if isinstance(classifier, tuple | list) else (classifier,)
    for one in several:
        if not callable(one) or is_async(one):
            raise TypeError(f"{field} must be a Rule or a plain function of the evidence, or several; not {one!r}")
    return tuple(several)


def front_of(classifiers: Iterable[Classifier], failed: Callable[[Classifier, Exception], object]) -> Front:
    """*classifiers* as one, the first opinion counting; *failed* is told of one that breaks, and the next is asked."""

    def front(evidence: Evidence) -> Classification | None:
        for classifier in classifiers:
            try:
                answer = classifier(evidence)
                if isinstance(answer, Classification):
                    after = answer.retry_after
                    after = None if after is None else min(validation.number("retry_after", after), FOREVER)
                    return Classification(Category(answer.category), str(answer.rule), str(answer.why), after)
                if answer is not None:
                    return Classification(Category(answer), "classifier")
            except Exception as error:  # whatever it does, the failure is judged
                failed(classifier, error)
        return None

    return front


def _type_name(kind: object) -> str:
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(kind, str) and ("." in kind or hasattr(builtins, kind)):
        return kind if "." in kind else f"builtins.{kind}"
    raise TypeError(f"types must be exception classes or their qualified names (module.Class), not {kind!r}")


@lru_cache(maxsize=MAX_COMPILED)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)
