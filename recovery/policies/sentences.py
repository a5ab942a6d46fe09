"""What a failure means and what a person can do, in sentences that need no programmer. Pure.

A rule of classification leads to a cause (``cause_of``), a cause to its sentences (``Sentences``). English is built in;
``Sentences.speak`` chooses a translation for all that this process shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, TypeAlias

from events.evidence import Category
from events.operation_events import FailureClassified
from recovery.policies.causes_of_rules import cause_of, says_not_why
from recovery.policies.local_sentences import LOCAL_SENTENCES
from recovery.policies.network_sentences import NETWORK_SENTENCES
from recovery.policies.prompt_sentences import PROMPT_SENTENCES
from recovery.policies.sentence import Sentence, fill, names_in
from recovery.policies.sentence_details import Known, details_of
from recovery.policies.tool_sentences import TOOL_SENTENCES

Stands: TypeAlias = Literal[
    "", "retries", "runs", "waits", "asks", "left", "unresumable", "quarantined", "ended", "changed", "corrected"
]
"""Where a call stands: it will be retried, or is; waits for a cause; asks a person; has no process, and gets one at the
next start or never; crashed its processes too often; has ended, also where its program or plan
must be changed first, or a mistake be corrected.
"""

ENGLISH: Mapping[str, Sentence] = NETWORK_SENTENCES | LOCAL_SENTENCES | TOOL_SENTENCES | PROMPT_SENTENCES
"""The sentences by cause."""

NEXT: Mapping[str, str] = {
    "": "[{step}]",
    "retries": "It is tried again by itself.[ If it keeps failing: {step}]",
    "runs": "It is being tried again.[ If it keeps failing: {step}]",
    "waits": "[{step} ][{itself}]",
    "asks": "[{step} ]Retry it, or give it up.",
    "left": "[{step} ]It goes on when its program is started again.",
    "unresumable": "[{step} ]No process can go on with it: give it up, and start it again.",
    "quarantined": "[{step} ]Look for what ended its processes. Then free it, or give it up.",
    "ended": "[{step} Then start it again.]",
    "changed": "[{step} Do that in your program or plan, and run that again.]",
    "corrected": "[{step} Start it again once that is corrected.]",
    "itself": "It goes on by itself once its cause is gone.",
    "answered": "It goes on by itself once that is answered.",
}
"""How a step is told, by where the call stands; "itself" and "answered" serve causes that say nothing of their own."""

AFTER: Mapping[str, Stands] = {
    **dict.fromkeys(("pip-conflict", "pip-broke", "pip-usage", "pip-insecure", "wrong-content", "bad-url"), "changed"),
    **dict.fromkeys(("crashed", "program", "recursion", "not-made", "interpreter"), "corrected"),
}
"""What a call that has ended needs before it is started again, by cause; else its step alone."""

NEXT_DETAILS = {"step": "what a person can do", "itself": "what happens by itself"}


class Sentences:
    """The sentences of one language. What a translation lacks is English.

    Args:
        causes: Sentences by cause; an empty text is English, too.
        following: How a step is told, by the keys of ``NEXT``.
    """

    def __init__(
        self, causes: Mapping[str, Sentence] | None = None, following: Mapping[str, str] | None = None
    ) -> None:
        causes = causes or {}
        self.causes = {
            key: Sentence(*(own or plain for own, plain in zip(causes.get(key, english), english, strict=True)))
            for key, english in ENGLISH.items()
        }
        self.following = {**NEXT, **(following or {})}

    def speak(self) -> None:
        """Show all failures of this process in this language; ``Sentences().speak()`` goes back to English."""
        global _spoken  # as hidden secrets are: what people read is a matter of the whole process
        _spoken = self

    def advice(self, stands: Stands, step: str, itself: str = "") -> str:
        """What a person can do, and what happens by itself, as whole sentences.

        Args:
            stands: Where the call stands.
            step: What a person can do; "" if nothing helps but waiting.
            itself: What happens by itself while it waits; "" for what all causes share.
        """
        itself = itself or self.following["itself"]
        return fill(self.following[stands], {"step": step, "itself": itself}).strip()


_spoken = Sentences()


def spoken() -> Sentences:
    """The sentences that this process shows."""
    return _spoken


def sentence_of(category: Category | None) -> str:
    """What a failure of *category* means of which no more is known."""
    cause, details = cause_of(category, "")
    return fill(spoken().causes[cause].sentence, details)


def without_failure(stands: Stands | None) -> str:
    """What a person can do with a call that *stands* as it does although nothing in it has failed; "" for nothing."""
    return spoken().advice(stands, "") if stands in ("left", "unresumable", "quarantined") else ""


def in_words(failure: FailureClassified, known: Known, asked: str, stands: Stands) -> tuple[str, str]:
    """The sentence of *failure*, and what a person can do (``Sentences.advice``).

    Args:
        failure: The failure; the reason of its rule (``why``), if it has one, is its sentence.
        known: What is known of it besides.
        asked: What the failure itself asks of a person; "" for nothing. It counts more than the table.
        stands: Where the call stands.
    """
    has_question = failure.remedy is not None and failure.remedy.question != ""
    first = failure.evidence
    while first.cause is not None and says_not_why(failure.rule):
        first = first.cause
    about = (failure.category, failure.rule, first.type)
    sentence, advice = _in_words(about, known, asked, has_question, stands, _spoken)
    return failure.why or sentence, advice


@lru_cache(maxsize=256)  # most failures repeat others: 5 us for 30
def _in_words(
    about: tuple[Category, str, str], known: Known, asked: str, has_question: bool, stands: Stands, language: Sentences
) -> tuple[str, str]:
    cause, details = cause_of(*about)
    if cause == "disk-full" and details_of(known, ("free",)):
        cause = "little-room"
    sentence, step, itself = language.causes[cause]
    if names := {*names_in(sentence), *names_in(step), *names_in(itself)} - details.keys():
        details |= details_of(known, names)
    if asked:
        is_whole = asked.endswith((".", "!", "?")) or "://" in asked.rpartition(" ")[2]  # no full stop in a link
        step, itself = asked if is_whole else f"{asked}.", language.following["answered"] if has_question else ""
    else:
        is_english = step == ENGLISH[cause].step
        step, itself = fill(step, details), fill(itself, details)
        stands = AFTER.get(cause, stands) if stands == "ended" else stands
        if is_english and stands in ("retries", "runs"):  # it follows a colon
            step = f"{step[:1].lower()}{step[1:]}"
    return fill(sentence, details), language.advice(stands, step, itself)
