"""What changed in an environment, what broke, and what puts it back: pure."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.packages.frozen import (
    Distribution,
    Environment,
    Frozen,
    Restoration,
    are_met,
    breakage,
    broken,
    changes,
    constraints,
    freeze,
    kept,
    missing,
    restoration,
)
from adapters.packages.requirements import Line, Requirements, requirement_lines
from adapters.packages.tools import conflict

NAMES = st.sampled_from(["alib", "bapp", "capp", "torch"])
PACKAGES = st.dictionaries(
    NAMES, st.builds(lambda version, is_whole: (version, is_whole), st.sampled_from("123"), st.booleans())
)


def frozen(packages: Mapping[str, tuple[str, bool]]) -> dict[str, Frozen]:
    return {name: Frozen(version, f"{name}=={version}", whole) for name, (version, whole) in packages.items()}


def restored(back: Restoration, now: dict[str, Frozen]) -> dict[str, Frozen]:
    """*now* after what a tool does with *back*."""
    left = {name: one for name, one in now.items() if name not in back.damaged}
    left |= {text.partition("==")[0]: Frozen(text.partition("==")[2], text) for text in back.install}
    return {name: one for name, one in left.items() if name not in back.new}


@given(PACKAGES, PACKAGES)
def test_a_restoration_brings_back_every_version_and_nothing_else(
    before: dict[str, tuple[str, bool]], now: dict[str, tuple[str, bool]]
):
    then, after = frozen(before), restored(restoration(frozen(before), frozen(now)), frozen(now))
    assert changes(then, after) == {}
    assert all(one.is_whole or not then[name].is_whole for name, one in after.items())
    assert not restoration(then, after)


@given(PACKAGES)
def test_nothing_is_done_to_packages_that_are_as_before(before: dict[str, tuple[str, bool]]):
    assert restoration(frozen(before), frozen(before)) == Restoration()


@given(PACKAGES, PACKAGES)
def test_only_what_is_half_there_is_uninstalled_before_it_is_downloaded(
    before: dict[str, tuple[str, bool]], now: dict[str, tuple[str, bool]]
):
    back = restoration(frozen(before), frozen(now))
    assert all(not now[name][1] for name in back.damaged)
    assert not set(back.damaged) & set(back.new)


PIP_CHECK = (
    "bapp 1.0 has requirement alib<2, but you have alib {}.\ndapp 1.0 requires not-there, which is not installed."
)
UV_CHECK = """Checked 3 packages in 0.29ms
Found 2 incompatibilities
The package `dapp` requires `not_there`, but it's not installed
The package `bapp` requires `alib<2`, but `{}` is installed"""


@pytest.mark.parametrize("said", [PIP_CHECK, UV_CHECK])
def test_pip_check_and_uv_pip_check_say_which_package_misses_which(said: str):
    assert set(broken(said.format("2.0"))) == {("bapp", "alib"), ("dapp", "not-there")}
    assert breakage({}, {}, ("", said.format("2.0"))) == list(broken(said.format("2.0")).values())
    assert breakage({}, {}, (said.format("2.0"), said.format("3.0"))) == []  # it was broken already


def test_a_protected_package_is_broken_by_another_version_and_by_its_loss():
    beneath = Distribution(name="torch", version="2", is_own=False)
    before = kept(environment(beneath, ALIB), ["Torch", "numpy"])
    assert breakage(before, {"torch": "3"}, ("", "")) == ["torch was 2, and is 3"]
    assert breakage(before, {}, ("", "")) == ["torch was 2, and is gone"]
    assert constraints(before) == ("torch==2",)


def test_what_an_install_left_out_is_found():
    wanted = requirement_lines(("alib>=2", "Other[x]", "third; python_version < '3'"))
    assert missing(wanted, environment(ALIB)) == ["Other"]


def environment(*packages: Distribution) -> Environment:
    markers = {"python_version": "3.11", "sys_platform": "linux"}
    return Environment(executable="python", prefix="env", markers=markers, distributions=packages)


def package(name: str, version: str, *requires: str, lacks: str = "", direct_url: str = "") -> Distribution:
    return Distribution(name=name, version=version, requires=requires, lacks=lacks, direct_url=direct_url)


ALIB = package("alib", "1.0")
URL = "https://x.example/alib.whl"
FROM_GIT = package(
    "alib",
    "1.0",
    direct_url='{"url": "https://x/y", "vcs_info": {"vcs": "git", "commit_id": "abc", "requested_revision": "main"}}',
)


@pytest.mark.parametrize(
    ("wanted", "packages", "is_met"),
    [
        ("alib", [], False),
        ("ALib>=1", [ALIB], True),
        ("alib>=2", [ALIB], False),
        ("alib", [package("alib", "2.0rc1")], True),
        ("alib", [package("alib", "1.0", lacks="RECORD")], False),
        ("alib", [package("alib", "no version")], False),
        ("bapp", [package("bapp", "1.0", "alib<1"), ALIB], False),
        ("bapp", [package("bapp", "1.0", "alib; extra == 'more'")], True),
        ("bapp[more]", [package("bapp", "1.0", "alib; extra == 'more'")], False),
        ("bapp", [package("bapp", "1.0", "alib; sys_platform == 'win32'")], True),
        ("alib; python_version < '3'", [], True),
        ("bapp", [package("bapp", "1.0", "bapp[more]", "alib; extra == 'more'"), ALIB], True),
        (f"alib @ {URL}", [ALIB], False),
        (f"alib @ {URL}", [package("alib", "1.0", direct_url=f'{{"url": "{URL}"}}')], True),
        (f"alib @ {URL}#sha256=aa", [package("alib", "1.0", direct_url=f'{{"url": "{URL}"}}')], True),
        ("alib @ git+https://x/y@main", [FROM_GIT], True),
        ("alib @ git+https://x/y@abc", [FROM_GIT], True),
        ("alib @ git+https://x/y@other", [FROM_GIT], False),
        ("alib @ git+https://x/y", [FROM_GIT], False),
    ],
)
def test_requirements_are_met_by_all_that_they_need(wanted: str, packages: list[Distribution], is_met: bool):
    assert are_met(requirement_lines((wanted,)), environment(*packages)) == is_met


@pytest.mark.parametrize(
    ("line", "is_met"),
    [
        (Line("--require-hashes", "r.txt", 1), True),
        (Line("alib==1.0 --hash=sha256:aa", "r.txt", 1), True),
        (Line("--editable ./alib", "r.txt", 1), False),
        (Line("--editable /srv/a b[more]", "r.txt", 1), True),
        (Line("--editable file:///srv/a%20b", "r.txt", 1), True),
        (Line("--editable /srv/other", "r.txt", 1), False),
        (Line("git+https://x/y@main#egg=clib", "r.txt", 1), True),
        (Line("git+https://x/z", "r.txt", 1), False),
        (Line("alib<1", "r.txt", 1, is_constraint=True), False),
        (Line("other<1", "r.txt", 1, is_constraint=True), True),
    ],
)
def test_what_is_not_certain_is_not_met(line: Line, is_met: bool):
    editable = package("blib", "1", direct_url='{"url": "file:///srv/a%20b", "dir_info": {"editable": true}}')
    from_git = package("clib", "1", direct_url=FROM_GIT.direct_url)
    assert are_met(Requirements((line,)), environment(ALIB, editable, from_git)) == is_met


@pytest.mark.parametrize(
    ("direct_url", "text"),
    [
        ("", "my-lib==1.0"),
        ("damaged", "my-lib==1.0"),
        ('{"url": "file:///x", "dir_info": {"editable": true}}', "-e file:///x"),
        ('{"url": "file:///x", "dir_info": {}}', "my-lib @ file:///x"),
        (
            '{"url": "https://x/y", "vcs_info": {"vcs": "git", "commit_id": "abc"}, "subdirectory": "z"}',
            "my-lib @ git+https://x/y@abc#subdirectory=z",
        ),
    ],
)
def test_a_package_is_frozen_by_what_installs_it_again(direct_url: str, text: str):
    found = environment(package("My_Lib", "1.0", direct_url=direct_url), package("pip", "25"))
    assert freeze(found) == {"my-lib": Frozen("1.0", text)}


PIP_CONFLICT = """ERROR: Cannot install eapp==1.0 because these package versions have conflicting dependencies.

The conflict is caused by:
    eapp 1.0 depends on torch>=2.2
    The user requested torch<3
    The user requested (constraint) torch==2.1.0

Additionally, some packages in these conflicts have no matching distributions available for your environment:
    torch
"""
UV_CONFLICT = """error: No solution found when resolving dependencies
  cause: Because all versions of capp depend on alib>=2 and bapp==1.0 depends on alib<2, we can conclude that all
         versions of bapp and all versions of capp are incompatible.
"""


def test_a_conflict_is_told_in_plain_words():
    assert conflict(PIP_CONFLICT) == "eapp 1.0 needs torch>=2.2; torch<3 is asked for; torch==2.1.0 is to be kept"
    assert conflict(UV_CONFLICT) == "all versions of capp need alib>=2 and bapp==1.0 needs alib<2"
    assert conflict("ERROR: ResolutionImpossible") == ""
