"""The Markdown of a page for programs that read: with its docstrings, and without remarks to its authors."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

DIRECTIVE = re.compile(r"^::: (?P<name>[\w.]+)\n(?: {4}.*\n| *\n(?= {4}))*", re.MULTILINE)

REMARK = re.compile(r"(?P<kept>^(?P<fence>```+).*?^(?P=fence)$)|^<!--.*?-->\n", re.DOTALL | re.MULTILINE)
"""A fenced block, which is kept; or a comment, which is for the authors and their tools."""

FENCE = "`````"
"""Longer than those in docstrings."""


def copied(markdown: str) -> str:
    """*markdown* as it lies beside the page of the site."""
    return spelled_out(REMARK.sub(lambda match: match["kept"] or "", markdown))


def spelled_out(markdown: str) -> str:
    """*markdown* with the docstrings that its lines ``::: name`` ask for."""
    return DIRECTIVE.sub(lambda match: "".join(described(match["name"])), markdown)


def described(name: str) -> Iterator[str]:
    """The title, signature and docstring of *name*, and of the public members of a class."""
    value = pkgutil.resolve_name(name)
    yield f"### {name}\n\n"
    yield text_of(name.rpartition(".")[2], value)
    if inspect.isclass(value):
        for member, one in vars(value).items():
            if not member.startswith("_") and (inspect.isroutine(one) or isinstance(one, property | classmethod)):
                yield f"#### {name}.{member}\n\n"
                yield text_of(member, getattr(value, member) if isinstance(one, classmethod) else one)


def text_of(name: str, value: Any) -> str:
    """The signature and the docstring of *value*; of a constant its value."""
    if not (inspect.isroutine(value) or inspect.isclass(value) or isinstance(value, property)):
        return f"`{name} = {value!r}`\n\n"
    text = inspect.getdoc(value) or ""
    try:
        signature = "" if isinstance(value, property) else plain(f"{inspect.signature(value)}")
    except ValueError:  # a function of C, or a class that says nothing of its own
        signature = ""
    return f"{FENCE}text\n{name}{signature}\n\n{text}\n{FENCE}\n\n"


def plain(signature: str) -> str:
    """*signature* without the quotes of annotations and the addresses of defaults."""
    return re.sub(r" at 0x[0-9a-f]+", "", re.sub(r"(: |-> )(['\"])(.*?)\2", r"\1\3", signature))
