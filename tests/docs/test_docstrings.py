"""The Markdown beside a page of the site has what the page shows: signatures, docstrings, and no remarks to authors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.docstrings import DIRECTIVE, copied, plain, spelled_out
from tests.docs.nav import DOCS

API = sorted((DOCS / "reference" / "api").glob("*.md"))


@pytest.mark.parametrize("page", API, ids=lambda page: page.stem)
def test_every_directive_of_an_api_page_is_spelled_out(page: Path):
    text = page.read_text(encoding="utf-8")
    told = spelled_out(text)
    assert ":::" not in told
    assert re.findall(r"^### (\S+\.\S+)$", told, re.MULTILINE) == [one["name"] for one in DIRECTIVE.finditer(text)]
    assert re.findall(r" at 0x| {4}options:$", told, re.MULTILINE) == []


def test_a_class_is_told_with_its_signature_and_its_public_members():
    told = spelled_out("# The bus\n\n::: events.Subscription\n    options:\n      members: [close]\n\nMore.\n")
    assert "Subscription(" in told
    assert "#### events.Subscription.close\n" in told
    assert told.endswith("\n\nMore.\n")


@pytest.mark.parametrize(
    ("markdown", "copy"),
    [
        ("Text.\n\n<!-- slow -->\n```python\nprint(1)\n```\n", "Text.\n\n```python\nprint(1)\n```\n"),
        ("<!-- written by\na program -->\n| a | b |\n", "| a | b |\n"),
        ("```html\n<!-- page.html -->\n<p>\n```\n", "```html\n<!-- page.html -->\n<p>\n```\n"),
    ],
)  # fmt: skip
def test_a_copy_leaves_out_remarks_to_authors_but_keeps_code(markdown: str, copy: str):
    assert copied(markdown) == copy


@pytest.mark.parametrize(
    ("signature", "read"),
    [
        ("(a: 'int | None' = None, *, on: 'str' = 'ask') -> 'N'", "(a: int | None = None, *, on: str = 'ask') -> N"),
        ("""(port: "int | Literal['auto']" = 'auto')""", "(port: int | Literal['auto'] = 'auto')"),
        ("(rng=<method random at 0x55d793d7ec30>)", "(rng=<method random>)"),
    ],
)  # fmt: skip
def test_a_signature_is_told_as_it_is_written(signature: str, read: str):
    assert plain(signature) == read
