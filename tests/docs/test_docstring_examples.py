"""Names and keywords in the examples of docstrings, and of code in the text of pages, are those of the code."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import recovery.context
import recovery.presets
from adapters.launcher import Launcher
from adapters.memory import MemoryStore
from events import Attempt
from recovery import Recovery, Settings
from recovery.testing import VirtualClock
from tests.docs.examples import FENCE, PAGES, ROOT
from tests.docs.test_api_pages import SHOWN, value_of

LIST = re.compile(r"^(?:Args|Raises|Returns|Source):$", re.MULTILINE)
EXAMPLE = re.compile(r"(?<=\n\n)(?:^ {4}.*\n?|^\n(?= {4}))+", re.MULTILINE)

OTHERS = {"docs/how-to/from-tenacity.md"}
"""Pages whose text has code of other libraries, with names as ours."""

SERVICE = Recovery(store=MemoryStore(), enable_logging=False)
LAST_NAMES = Counter(name.rpartition(".")[2] for name in SHOWN)
KNOWN: dict[str, Any] = {
    **{last: value_of(name) for name in SHOWN if LAST_NAMES[last := name.rpartition(".")[2]] == 1},
    "service": SERVICE,
    "circuits": SERVICE.circuits,
    "context": recovery.context,
    "presets": recovery.presets,
    "attempt": Attempt,
    "launcher": Launcher,
    "virtual_clock": VirtualClock,
}
"""What examples call by these names; a name that two things have is not checked."""
for of_a_caller in ("app", "download", "operation"):
    del KNOWN[of_a_caller]


def examples() -> Iterator[tuple[str, str]]:
    """Each name of an API page with the code in its docstring, which the site shows."""
    for name in SHOWN:
        value = value_of(name)
        yield name, inspect.getdoc(value) or ""
        if inspect.isclass(value):
            yield from (
                (f"{name}.{member}", inspect.getdoc(one) or "")
                for member, one in vars(value).items()
                if not member.startswith("_") and (inspect.isroutine(one) or isinstance(one, property))
            )


EXAMPLES = [
    pytest.param(textwrap.dedent(code), id=name)
    for name, text in examples()
    for code in EXAMPLE.findall(LIST.split(f"{text}\n")[0])
]


def wrong_in(code: str) -> list[str]:
    """The attributes of known objects in *code* that they do not have, and keywords that calls of them do not take."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute):
            owner = value_in(node.value)
            if owner is not None and not hasattr(owner, node.attr) and node.attr not in annotations_of(owner):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and (called := value_in(node.func)) is not None:
            takes = parameters_of(called)
            found += [
                f"{ast.unparse(node.func)}({one.arg}=)" for one in node.keywords if takes and one.arg not in takes
            ]
    return found


def value_in(node: ast.expr) -> Any:
    """The object that *node* names, from a known one on; None if that is not known."""
    if isinstance(node, ast.Name):
        return KNOWN.get(node.id)
    return getattr(value_in(node.value), node.attr, None) if isinstance(node, ast.Attribute) else None


def annotations_of(owner: Any) -> set[str]:
    return {name for kind in getattr(owner, "__mro__", ()) for name in getattr(kind, "__annotations__", ())}


def parameters_of(called: Any) -> set[str | None]:
    """The keywords that *called* takes, and None for ``**``; none at all if that is not known."""
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):
        return set()
    takes: set[str | None] = {one.name for one in parameters} | {None}
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return takes | set(Settings.__annotations__) | set(inspect.signature(Recovery).parameters)
    return takes


TEXTS = sorted({f"{page.relative_to(ROOT)}" for page in PAGES} - OTHERS)


def test_the_examples_of_docstrings_are_found():
    assert len(EXAMPLES) > 25


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_of_a_docstring_names_what_exists(code: str):
    assert wrong_in(code) == []


@pytest.mark.parametrize("page", [ROOT / page for page in TEXTS], ids=TEXTS)
def test_code_in_the_text_of_a_page_names_what_exists(page: Path):
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", FENCE.sub("", page.read_text(encoding="utf-8")))
    assert [wrong for span in spans for wrong in (wrong_in(span) if is_code(span) else [])] == []


def is_code(span: str) -> bool:
    with suppress(SyntaxError, ValueError):
        ast.parse(span)
        return not span.endswith(".py")
    return False


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("Recovery(enable_loging=True)", ["Recovery(enable_loging=)"]),
        ("service.calls.retry_late(call)", ["service.calls.retry_late"]),
        ("RetryPolicy(max_retriez=3)", ["RetryPolicy(max_retriez=)"]),
        ("@recoverable('fetch', max_retriez=3)\ndef fetch(): ...", ["recoverable(max_retriez=)"]),
        ("context.checkpoint(1, now=True)", ["context.checkpoint(now=)"]),
    ],
)
def test_a_wrong_name_is_found(code: str, wrong: list[str]):
    assert wrong_in(code) == wrong
