"""The question whether what a requirements file asks for may be done: other indexes, URLs, folders."""

from __future__ import annotations

import hashlib

from adapters.packages.requirements import Requirements
from events.errors import NeedsPerson, Permanent
from events.evidence import Remedy
from recovery.calls import Calls

CHOICES = ("allow", "without", "refuse")
"""What a person can answer: install as the file says, leave these lines out, or install nothing."""


class UnusualRequirementsError(NeedsPerson):
    """A requirements file does more than name packages, and a person has not agreed to it yet."""


class RefusedRequirementsError(Permanent):
    """A person has refused what a requirements file does."""


def agreed(calls: Calls, name: str, requirements: Requirements) -> Requirements:
    """The lines of *requirements* that may be installed. A person is asked about those that do more than name packages.

    The question is ``options:NAME:HASH``. The hash is that of these lines: an update that changes them is asked about
    again.

    Args:
        calls: ``service.calls``, which asks.
        name: What they are the requirements of.
        requirements: As the files say.

    Raises:
        UnusualRequirementsError: The question is not answered yet; the remedy holds it.
        RefusedRequirementsError: The answer is "refuse".
    """
    asked = requirements.asked
    if not asked:
        return requirements
    digest = hashlib.sha256("\n".join(f"{one.is_constraint} {one.text}" for one in asked).encode()).hexdigest()[:8]
    question = f"options:{name}:{digest}"
    lines = "; ".join(one.shown for one in asked)
    match calls.answered(question):
        case "allow":
            return requirements
        case "without":
            return requirements.without_asked()
        case "refuse":
            problem = f"the packages of {name} are not installed: a person refused {lines}"
            raise RefusedRequirementsError(f"{problem}; answer {question} once more to change that")
    text = f"The requirements of {name} do more than name packages: {lines}. Allow it, install without, or refuse?"
    problem = f"the requirements of {name} do more than name packages: {lines}"
    raise UnusualRequirementsError(problem, remedy=Remedy(text, question=question, kind="choice", choices=CHOICES))
