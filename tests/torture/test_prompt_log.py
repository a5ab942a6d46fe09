"""The checks of ``prompt_log`` see what is planted in the lines of a queue."""

from __future__ import annotations

import pytest

from tests.torture.prompt_log import PromptLog

NAMES = ["cat", "dog", "killer"]
CAT = 'result cat a {"files": ["cat_1.png"]}'
DOG = 'result dog b {"files": ["dog_1.png"]}'
WHY = "quarantined killer the server died twice while it ran"
LINES = [
    "begin a 7", "end a 7 success", CAT, "begin b 7", "dead 7", "begin k 8", "dead 8", "begin b 9", "end b 9 success",
    DOG, "begin k 9", "dead 9", WHY, CAT,
]  # fmt: skip


def read(lines: list[str]) -> PromptLog:
    return PromptLog.read("\n".join([*lines, "torn lin"]))


def test_a_queue_without_a_fault_has_no_problem():
    log = read(LINES)
    assert log.problems(NAMES, "killer") == []
    assert (log.deaths, log.reposts) == (3, 2)
    assert log.hit() == {"a": 1, "b": 2, "k": 2}  # a had just ended; so had b


@pytest.mark.parametrize(
    ("at", "removed", "planted", "words"),
    [
        (9, 1, [], "dog has no result"),
        (9, 1, ['result dog b {"files": []}'], "dog was reported as done with"),
        (9, 1, ['result dog b {"files": ["d"], "missing": ["d"]}'], "do not answer"),
        (5, 0, [DOG.replace("b", "c", 1)], "c never ran"),
        (12, 1, [], "not set aside with a reason: ''"),
        (12, 1, ["quarantined killer no"], "not set aside with a reason: 'no'"),
        (12, 0, ["quarantined dog it is bad"], "dog was set aside"),
        (12, 0, ['result killer k {"files": ["k"]}'], "killer was reported as done"),
        (12, 0, ["asked resubmit:dog"], "nobody expects the question resubmit:dog"),
        (2, 0, ["begin a 7", "end a 7 success"], "a ran again, though it had succeeded in 7, which lived"),
        (5, 0, ["begin a 8", "end a 8 success"], "a ran again after its result"),
        (4, 0, ["begin b 7"], "b began a second time while b ran in 7"),
        (4, 0, ["begin b 8"], "b began a second time while b ran in 7"),
        (4, 0, ["begin k 8"], "k began in a second server while b ran in 7"),
        (13, 1, ['result cat a {"files": ["cat_2.png"]}'], "cat has two results"),
        (13, 1, ['result dog a {"files": ["cat_1.png"]}'], "dog has two results"),
    ],
)  # fmt: skip
def test_what_is_planted_is_seen(at: int, removed: int, planted: list[str], words: str):
    lines = [*LINES]
    lines[at : at + removed] = planted
    assert any(words in problem for problem in read(lines).problems(NAMES, "killer"))


def test_a_result_that_was_lost_with_its_server_is_made_again():
    lines = ["begin a 7", "end a 7 success", "dead 7", "begin a 8", "end a 8 success", CAT]
    assert read(lines).problems(["cat"], "killer") == []


def test_a_server_may_die_while_what_runs_was_never_hit():
    assert read(LINES[:1]).may_be_killed()
    assert not read(LINES[:2]).may_be_killed()  # nothing runs
    assert not read(LINES[:8]).may_be_killed()
    assert not read([*LINES[:5], "begin a 8"]).may_be_killed()  # it had just ended at the first death
    assert not read([*LINES[:5], "begin b 8", "end b 8 success", "begin c 8"]).may_be_killed()
