"""What pip and uv are run with, and what is tried after a failure: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.packages.tools import Problem, Tool, Way, is_old, next_way, problem_of, refusals

PROBLEMS: list[Problem] = ["refused", "unreachable", "build", "conflict", "missing", "altered", "other"]
PIP, UV = Tool("pip", "env/bin/python"), Tool("uv", "env/bin/python", "bin/uv")


@given(st.lists(st.sampled_from(PROBLEMS)), st.integers(0, 4))
def test_each_way_is_tried_once_and_each_index_in_turn(problems: list[Problem], indexes: int):
    ways = [Way()]
    for problem in problems:
        if (following := next_way(ways[-1], problem, indexes)) is None:
            break
        ways.append(following)
    assert len(set(ways)) == len(ways) <= max(indexes, 1) + 1
    assert [one.index for one in ways] == sorted(one.index for one in ways)
    assert ways[-1].index < max(indexes, 1)


@given(st.builds(Way, st.integers(0, 3), st.booleans()), st.integers(1, 4))
def test_no_other_index_is_asked_for_what_one_lacks_or_cannot_build(way: Way, indexes: int):
    asked = [next_way(way, problem, indexes) for problem in ("missing", "conflict", "build", "other")]
    assert all(one is None or one.index == way.index for one in asked)


def test_pip_and_uv_are_run_for_one_interpreter():
    assert PIP.install("a", wheels_only=True) == [
        *("env/bin/python", "-I", "-m", "pip", "install", "--only-binary", ":all:", "a")
    ]
    assert UV.restore(["a==1", "-e file:///b"]) == [
        *("bin/uv", "pip", "install", "--python", "env/bin/python", "--no-deps", "a==1", "-e", "file:///b")
    ]
    assert PIP.uninstall(["a"])[-3:] == ["uninstall", "-y", "a"]
    assert UV.uninstall(["a"])[-2:] == ["env/bin/python", "a"]
    assert (PIP.index("x"), UV.index("x")) == ({"PIP_INDEX_URL": "x"}, {"UV_DEFAULT_INDEX": "x"})


@pytest.mark.parametrize(("resumes", "problem"), [(True, "altered"), (False, "unreachable")])
def test_half_a_file_looks_to_an_old_pip_like_another_one(resumes: bool, problem: Problem):
    said = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
    assert Tool("pip", "env/bin/python", resumes=resumes).problem_of(said) == problem


MISSING = "ERROR: No matching distribution found for alib"
LOG = [
    "2026-11-28T17:00:00,100   Could not fetch URL https://x/alib/: {} Client Error: of it for url: https://x/alib/\n",
    "2026-11-28T17:00:00,200 Skipping link: not a file\n",
]


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (MISSING, "missing"),
        (refusals([LOG[0].format(403), LOG[1]]) + MISSING, "refused"),
        (refusals([LOG[0].format(404), LOG[1]]) + MISSING, "missing"),
        (
            refusals(["Could not fetch URL https://x/: too many 503 error responses - skipping"]) + MISSING,
            "unreachable",
        ),
        ("ERROR: ResolutionImpossible: for help visit", "conflict"),
        ("error: subprocess-exited-with-error", "build"),
        ("Segmentation fault", "other"),
    ],
)
def test_a_refusal_comes_before_a_missing_package(output: str, problem: Problem):
    assert problem_of(output) == problem


def test_a_pip_that_cannot_go_on_with_a_download_is_old():
    assert [is_old(one) for one in ("23.2.1", "25.1", "25.2", "26.0rc1", "unknown")] == [True, True, False, False, True]
