"""Write the tables of docs/reference/classification.md from the categories and the built-in rules.

python -m tests.docs.classification_page
"""

from __future__ import annotations

import ast
import errno
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from events import GaveUp, OperationCancelled, Parked, RetryScheduled, evidence
from events.evidence import Category
from recovery import BreakerPolicy, Recovery, RetryPolicy
from recovery.policies import causes_of_rules, classification, libraries
from recovery.policies.causes_of_rules import cause_of
from recovery.policies.classification import RECOVERABILITY, UNKNOWN, Classification, by_exit_code, by_status
from recovery.policies.error_messages import IN_MESSAGES, PROCESSES
from recovery.policies.sentences import ENGLISH
from tests.docs.causes_page import plain

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "classification.md"
BEGIN = "<!-- `make pages` writes what follows from the rules in recovery/policies/ -->\n"
PASSES = {
    "retry": "by itself",
    "wait": "when its cause is gone",
    "ask": "when a person has helped",
    "never": "never",
}
"""How a failure passes, in words."""
BY_DEFAULT = {
    "RetryScheduled": "it is retried",
    "Parked": "it is parked until the server's wait is over",
    "GaveUp": "the call gives up",
    "OperationCancelled": "the call ends as cancelled",
}
"""What comes of a failure, by the event that tells it."""
OUTCOMES = [GaveUp, OperationCancelled, Parked, RetryScheduled]


def tables() -> str:
    """The sections of the page that are made from the code."""
    return (
        f"\n## Categories\n\n{ABOUT_CATEGORIES}{_categories()}"
        f"\n## Built-in rules, in order\n\n{ABOUT_RULES}{''.join(_stages())}"
    )


ABOUT_CATEGORIES = (
    "The column *by default* shows what came of one failure in a service without settings. The column *circuit* tells "
    "whether calls that give up with it open one. `Strategy` changes the first for a category, "
    "`BreakerPolicy(categories=...)` the second. `presets.launcher()` has strategies that wait: a full disk for room, "
    "an unreachable host until it answers, and a failure of the category auth for the answer of a person.\n\n"
)
ABOUT_RULES = (
    "The first of these stages that has an answer decides. *What people read* is the sentence of the failure: "
    "[causes.md](causes.md) has the step that goes with it. Parts in brackets are there if their value is known. "
    "Events name a rule of stage 1 with `code ` before it, and one of stage 6 with `errno `.\n"
)


def meanings_of_categories() -> dict[Category, str]:
    """What the source says below each category."""
    [defined] = [
        one
        for one in ast.parse(inspect.getsource(evidence)).body
        if isinstance(one, ast.ClassDef) and one.name == "Category"
    ]
    found = {}
    for assigned, said in zip(defined.body, defined.body[1:], strict=False):
        if isinstance(assigned, ast.Assign):
            assert isinstance(said, ast.Expr)
            assert isinstance(said.value, ast.Constant)
            found[Category(ast.literal_eval(assigned.value))] = str(said.value.value)
    return found


def outcome_of(category: Category, *, retry_after: float | None = None) -> str:
    """What a service makes of a failure of *category*: the name of the event of its outcome."""
    outcomes: list[str] = []
    service = Recovery(
        classifier=lambda _: Classification(category, "example", retry_after=retry_after), enable_logging=False
    )
    service.bus.subscribe(OUTCOMES, lambda event: outcomes.append(type(event).__name__))
    service.operation("example").start().fail(OSError())
    return outcomes[0]


def opens_a_circuit(category: Category) -> bool:
    """Whether a circuit opens after a call that gave up with a failure of *category*."""
    service = Recovery(
        classifier=lambda _: category, breaker=BreakerPolicy(failure_threshold=1), policy=RetryPolicy(max_retries=0),
        enable_logging=False,
    )  # fmt: skip
    service.operation("example").start().fail(OSError())
    return bool(service.circuits.states())


def _categories() -> str:
    said = meanings_of_categories()
    rows = []
    for category in Category:
        outcome, told = outcome_of(category), outcome_of(category, retry_after=1.0)
        then = BY_DEFAULT[outcome]
        if told != outcome:
            then += f"; where the server says how long to wait, {BY_DEFAULT[told]}"
        counts = "counts" if opens_a_circuit(category) else ""
        rows.append(f"| `{category}` | {said[category]} | {PASSES[RECOVERABILITY[category]]} | {then} | {counts} |\n")
    head = "| category | meaning | passes | by default | circuit |\n|---|---|---|---|---|\n"
    return head + "".join(rows)


def _stages() -> Iterable[str]:
    """A section for each stage of ``classify_evidence``, in its order."""
    codes = [(f"code {name}", category) for name, category in libraries.BY_CODE.items()]
    states = [(f"code {libraries.SQLSTATE}{name}", category) for name, category in libraries.BY_SQLSTATE.items()]
    yield _stage("1. The code of a library or a database", "", [*codes, *states], shown=lambda one: one[5:])
    numbers = sorted({*classification.BY_STATUS, *causes_of_rules.BY_STATUS})
    statuses = [(f"status {one}", by_status(one).category) for one in numbers]
    others = [(f"any other {one}xx", f"status {one}99") for one in (3, 4, 5)]
    yield _stage(
        "2. The HTTP status, from 300 on",
        "A 403 with `Retry-After`, or whose message names a rate limit, is a rate limit.\n\n",
        [*statuses, *((rule, by_status(int(rule[-3:])).category) for _, rule in others)],
        shown=lambda one: {rule: name for name, rule in others}.get(one, one),
    )
    ended = [*range(-15, 0), 126, 127]
    exits = dict.fromkeys(by_exit_code(code) for code in ended if -code in causes_of_rules.SIGNALS or code > 0)
    yield _stage(
        "3. The exit code of a process, or what killed it",
        "A shell reports signal *n* as the exit code 128 + *n*; Windows reports an exception as a code of 0xC0000000 "
        "and more. Any other exit code is transient, unless the error output says more:\n\n",
        [(one.rule, one.category) for one in exits],
        shown=_with_signal,
    )
    patterns = [(one.name, one.category) for one in PROCESSES]
    yield _stage(
        "4. The error output of a process, in this order", "", patterns, grouped=False, shown=lambda one: f"`{one}`"
    )
    types = [(name.removeprefix("builtins."), category) for name, category in classification.BY_TYPE.items()]
    exact = [one for one in types if one[1] is not Category.TRANSIENT]
    yield _stage(
        "5. A class that is made for one problem",
        "The nearest base of the exception's class counts. `StopIteration` and `StopAsyncIteration` count as the cause "
        "of another error alone, as of `RuntimeError: generator raised StopIteration`: raised by the function itself "
        "they are [no failure](#signals-that-are-no-failures).\n\n",
        exact,
    )
    errnos = [(f"errno {name}", classification.BY_ERRNO[number]) for name, number in _errnos()]
    yield _stage("6. The errno of an `OSError`", "", errnos, shown=lambda one: one[6:])
    loose = [one for one in types if one[1] is Category.TRANSIENT]
    yield _stage("7. A class that says little", "", loose)
    names = ", ".join(f"`{one.name}`" for one in IN_MESSAGES)
    yield (
        "\n### 8. What the exception came from\n\nThe cause (`__cause__`) is judged in the same way, at most four "
        "levels deep.\n\n### 9. The message of an unknown exception\n\nThese patterns of stage 4 are looked for in "
        f"it. A match that is transient says no more than stage 10.\n\n{names}\n"
    )
    yield _stage("10. Nothing is known", "", [(UNKNOWN, Category.TRANSIENT)])


def _errnos() -> Iterable[tuple[str, int]]:
    return ((name, number) for number, name in sorted(errno.errorcode.items()) if number in classification.BY_ERRNO)


def _with_signal(rule: str) -> str:
    what, _, number = rule.partition(" ")
    return f"{rule} ({causes_of_rules.SIGNALS[int(number)]})" if what == "signal" else rule


def _stage(
    title: str,
    about: str,
    rules: Iterable[tuple[str, Category]],
    *,
    grouped: bool = True,
    shown: Callable[[str], str] = str,
) -> str:
    """A section with the *rules*, each a name and a category; those that mean the same share a row, if *grouped*."""
    rows: defaultdict[tuple[Category, str, str], list[str]] = defaultdict(list)
    for number, (rule, category) in enumerate(rules):
        cause, _ = cause_of(category, rule)
        rows[category, cause, "" if grouped else str(number)].append(shown(rule))
    text = "".join(
        f"| {', '.join(names)} | `{category}` | {plain(ENGLISH[cause].sentence)} |\n"
        for (category, cause, _), names in rows.items()
    )
    return f"\n### {title}\n\n{about}| rule | category | what people read |\n|---|---|---|\n{text}"


if __name__ == "__main__":
    head, _, _ = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(head + BEGIN + tables(), encoding="utf-8")
