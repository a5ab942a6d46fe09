"""The check of the built site finds each kind of fault; `make docs` runs it on the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.site import problems, warnings_of

OTHER = '<h1 id="top">Other</h1><a name="old"></a><a href="../index.html#here">back</a>'


def problems_of(tmp_path: Path, page: str) -> list[str]:
    """What is found in a site of two pages: *page*, and another one in a folder."""
    (tmp_path / "how").mkdir(exist_ok=True)
    (tmp_path / "index.html").write_text(f'<p id="here">{page}', encoding="utf-8")
    (tmp_path / "how" / "other.html").write_text(OTHER, encoding="utf-8")
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><use href="#x"/></svg>', encoding="utf-8")
    return list(problems(tmp_path))


@pytest.mark.parametrize(
    "page",
    [
        '<a href="how/other.html#top">a title</a> <a href="how/other.html#old">an old name</a>',
        '<a href="#here">here</a>',
        '<a href="https://example.org/page#x">outside, by a click</a> <a href="mailto:a@example.org">a letter</a>',
        '<img src="a.svg"><img src="data:image/png;base64,AA=="><link rel="canonical" href="https://example.org/">',
        '<a href="how/other.html?h=retry#top">with a query</a>',
    ],
)
def test_a_good_page_has_no_problem(tmp_path: Path, page: str):
    assert problems_of(tmp_path, page) == []


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ('<a href="how/gone.html">x</a>', "how/gone.html leads nowhere"),
        ('<a href="how/other.html#gone">x</a>', "how/other.html#gone leads nowhere"),
        ('<a href="#gone">x</a>', "#gone leads nowhere"),
        ('<img src="gone.png">', "gone.png leads nowhere"),
        ('<img srcset="gone.png 2x">', "gone.png leads nowhere"),
        ('<a href="/how/other.html">x</a>', "/how/other.html leads nowhere"),
        ('<a href="../README.html">x</a>', "../README.html leads nowhere"),
        ('<script src="https://example.org/a.js"></script>', "loads https://example.org/a.js from outside"),
        ('<script src="//example.org/a.js"></script>', "loads //example.org/a.js from outside"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "loads https://example.org/a.css from outside"),
        ('<img src="https://example.org/a.png">', "loads https://example.org/a.png from outside"),
        ('<p style="background: url(https://example.org/a.png)">', "loads https://example.org/a.png from outside"),
        ('<style>@import "https://example.org/a.css";</style>', "loads https://example.org/a.css from outside"),
        ('<p id="here">', "two elements have the id 'here'"),
    ],
)
def test_a_fault_of_a_page_is_found(tmp_path: Path, page: str, problem: str):
    assert problems_of(tmp_path, page) == [f"index.html: {problem}"]


def test_a_style_sheet_that_loads_a_font_from_outside_is_found(tmp_path: Path):
    (tmp_path / "a.css").write_text("@font-face { src: url('https://example.org/a.woff2'); }", encoding="utf-8")
    assert problems_of(tmp_path, "") == ["a.css: loads https://example.org/a.woff2 from outside"]


def test_a_picture_that_loads_another_from_outside_is_found(tmp_path: Path):
    (tmp_path / "b.svg").write_text('<svg><image xlink:href="https://example.org/a.png"/></svg>', encoding="utf-8")
    assert problems_of(tmp_path, "") == ["b.svg: loads https://example.org/a.png from outside"]


def test_every_line_but_those_of_a_quiet_build_is_a_warning():
    quiet = ["Build started", "", "No issues found", "Build finished in 1.03s"]
    griffe = "griffe: recovery/calls.py:12: Failed to get 'name: description' pair"
    assert warnings_of([*quiet, griffe, "Warning: unresolved autoref"]) == [griffe, "Warning: unresolved autoref"]
