"""When a server that has ended is started again, and in which words that is told."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.launcher import RestartPolicy
from adapters.servers.restarts import Ask, Ended, History, Restart, decide, missing_module, port_was_taken, words_of

POLICY = RestartPolicy(max_restarts=3, within=600.0, delay=1.0)
TAKEN = "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8188): address already in use"
MISSING = ("Traceback (most recent call last):", "ModuleNotFoundError: No module named 'torchsde'")


def run(*ends: Ended, policy: RestartPolicy = POLICY) -> list[Restart | Ask]:
    history, verdicts = History(), []
    for one in ends:
        verdict, history = decide(policy, history, one)
        verdicts.append(verdict)
    return verdicts


def crash(ready_for: float = 0.0, code: int | None = 1) -> Ended:
    return Ended(code=code, ready_for=ready_for)


def taken(*, is_port_held: bool = True) -> Ended:
    return Ended(code=1, output=(TAKEN,), is_port_held=is_port_held)


@pytest.mark.parametrize("code", [0, 1, 3, -9, 137, None])
def test_a_server_that_ends_by_itself_is_started_again(code: int | None) -> None:
    assert run(crash(5.0, code)) == [Restart(1.0, 1)]


def test_the_delays_grow_until_the_restarts_are_used_up() -> None:
    assert run(*[crash()] * 4) == [Restart(1.0, 1), Restart(2.0, 2), Restart(4.0, 3), Ask()]


def test_a_yes_begins_the_budget_again() -> None:
    assert run(*[crash()] * 5)[3:] == [Ask(), Restart(1.0, 1)]


def test_a_delay_is_at_most_half_a_minute() -> None:
    assert run(*[crash()] * 9, policy=RestartPolicy(max_restarts=9))[-1] == Restart(30.0, 9)


def test_uptime_gives_restarts_back() -> None:
    assert run(*[crash(201.0)] * 9) == [Restart(1.0, 1), Restart(2.0, 2), *[Restart(4.0, 3)] * 7]


def test_time_without_being_ready_gives_nothing_back() -> None:
    assert run(crash(700.0), *[crash()] * 3)[-1] == Ask()


def test_without_restarts_the_first_crash_asks() -> None:
    assert run(crash(), policy=RestartPolicy(max_restarts=0)) == [Ask()]


def test_a_taken_port_uses_up_no_restart() -> None:
    assert run(taken(), taken(is_port_held=False), crash()) == [Restart(0.0, 0), Restart(0.5, 0), Restart(1.0, 1)]


def test_a_port_that_stays_taken_is_a_crash_in_the_end() -> None:
    assert run(*[taken()] * 6)[-1] == Restart(1.0, 1)


@pytest.mark.parametrize(
    ("line", "code", "others"),
    [
        (TAKEN, 1, {}),
        ("OSError: [Errno 48] Address already in use", 1, {}),
        ("OSError: [Errno 10048] error while attempting to bind on address ('0.0.0.0', 8188)", 1, {}),
        ("Port 8188 is already in use on address 127.0.0.1. Please close the other application", 1, {}),
        ("Error: listen EADDRINUSE: address already in use 127.0.0.1:3000", 1, {}),
        ("Error: Address already in use (os error 98)", 101, {}),
        (TAKEN, 1, {"ready_for": 0.1, "is_port_held": True}),
    ],
)
def test_a_taken_port_is_known_by_what_the_server_says(line: str, code: int, others: dict[str, Any]) -> None:
    assert port_was_taken(Ended(code=code, output=(line, ""), **others))


def test_a_server_that_was_ready_on_its_port_did_not_end_for_it() -> None:
    assert not port_was_taken(Ended(code=1, output=(TAKEN,), ready_for=60.0))


def test_a_missing_module_of_the_main_program_asks_at_once() -> None:
    assert run(Ended(code=1, output=MISSING)) == [Ask("torchsde")]
    assert missing_module(Ended(code=1, output=("/usr/bin/python3: No module named uvicorn",))) == "uvicorn"


def test_a_missing_module_of_a_plug_in_is_none_of_the_server() -> None:
    assert missing_module(Ended(code=1, output=(*MISSING, "Cannot import plug-in", "IMPORT FAILED", "x", "y"))) == ""
    assert missing_module(Ended(code=-9, output=MISSING)) == ""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "ended by itself, with exit code 0"),
        (0, "as after Ctrl-C"),
        (1, "failed with exit code 1"),
        (3, "ended itself at once, with exit code 3"),
        (-6, "gave up in native code (SIGABRT)"),
        (134, "SIGABRT"),
        (-7, "SIGBUS"),
        (-2, "ended by SIGINT, which the launcher did not send"),
        (3221225786, "ended by Ctrl-C"),
        (3221226505, "found its memory damaged"),
        (-9, "killed by SIGKILL: by the system for want of memory (the OOM killer)"),
        (137, "killed by SIGKILL"),
        (-11, "SIGSEGV"),
        (139, "SIGSEGV"),
        (-15, "ended by SIGTERM, which the launcher did not send"),
        (3221225477, "access violation"),
        (191, "failed with exit code 191"),
        (None, "exit code is not known"),
    ],
)
def test_an_exit_code_is_told_in_words(code: int | None, said: str) -> None:
    assert said in words_of(crash(code=code))


@pytest.mark.parametrize("wrong", [{"max_restarts": -1}, {"within": -1.0}, {"delay": "soon"}, {"max_restart": 3}])
def test_a_wrong_policy_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        RestartPolicy(**wrong)
