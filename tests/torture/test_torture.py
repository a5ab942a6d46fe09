"""The long suites in short: a few rounds of each row of ``make torture``, which runs the full counts."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from typing import Literal

import pytest

from tests.slow import few
from tests.torture.asked_again import BACKENDS, run_lives
from tests.torture.downloads import SLOW_AND_SIGNED, kill
from tests.torture.exits import Case, cases, run_cases
from tests.torture.faults import sweep
from tests.torture.figures import MEMORY_FOLDER, percentile
from tests.torture.fork_server import ForkServer
from tests.torture.installers import QUICK
from tests.torture.installs import kill_at
from tests.torture.io_errors import FOR_EVER, can_inject, failing_reads
from tests.torture.kills import Tally, kill_processes
from tests.torture.leaks import leaks
from tests.torture.machine import run_machine
from tests.torture.power import Outage, can_record, outages
from tests.torture.prompts import kill_queue
from tests.torture.restarts import restarts
from tests.torture.stalls import memory, printed_by, time_publishing
from tests.torture.takeover import MODES, kill_workers
from tests.torture.torn import tear

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")

ROUNDS = 10


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as fork_server:
        yield fork_server


@pytest.fixture(scope="module")
def tally(fork_server: ForkServer) -> Tally:
    """The results of a few kills."""
    return kill_processes(fork_server, ROUNDS, seed=3, folder=MEMORY_FOLDER)


def test_d3_acknowledged_events_survive_kill_9(tally: Tally):
    assert tally.kills >= ROUNDS
    assert tally.in_recovery == ROUNDS // 5
    assert tally.acknowledged > 100
    assert tally.lost == []


def test_d3_pending_calls_are_found_after_kill_9(tally: Tally):
    assert tally.not_found == []


def test_d4_a_prefix_of_each_call_survives_kill_9(tally: Tally):
    assert tally.recovered > 100
    assert tally.disordered == []


def test_d5_no_call_has_two_ends_after_kill_9(tally: Tally):
    assert tally.ended_twice == []


def test_d6_kill_9_loses_no_more_than_a_flush_interval_and_a_commit(tally: Tally):
    # The median, since other programs on this machine may delay any single process.
    assert percentile(tally.excesses, 0.5) < 0.0


@pytest.mark.slow
def test_d2_the_kill_loop_notices_a_store_that_acknowledges_early(fork_server: ForkServer):
    assert kill_processes(fork_server, 5, seed=3, acknowledges_early=True, folder=MEMORY_FOLDER).lost


@pytest.mark.parametrize("backend", few(BACKENDS, "threads"))
def test_calls_asked_again_run_once_at_a_time_and_do_no_unit_twice(backend: str, fork_server: ForkServer):
    for kills in (5, 20):  # a kill hits what it hits: five are usually enough for one of each kind
        tally = run_lives(fork_server, backend, kills, seed=3, folder=MEMORY_FOLDER)
        assert tally.broken == []
        if min(tally.joined, tally.owed, tally.handed_over) > 0:
            return
    raise AssertionError(f"not every kind of joining was seen: {tally}")


@pytest.mark.parametrize("mode", few(MODES, "plain"))
def test_d19_killed_workers_make_no_attempt_too_many_and_lose_no_call(mode: str, fork_server: ForkServer):
    tally = kill_workers(fork_server, 6, mode, seed=2, folder=MEMORY_FOLDER)
    assert tally.problems == []
    assert tally.attempts > 6


@pytest.mark.skipif(not can_inject(), reason="needs a C compiler")
@pytest.mark.parametrize("at", few(([5], [2, 9, 14]), [5]), ids=str)
def test_d8_a_read_that_fails_is_no_damage(at: list[int]):
    assert failing_reads(at) == []


@pytest.mark.skipif(not can_inject(), reason="needs a C compiler")
@pytest.mark.parametrize("at", few((3, 12), 12))
@pytest.mark.slow
def test_d8_a_disk_that_gives_nothing_is_no_damage(at: int):
    assert failing_reads([at], until=FOR_EVER) == []


@pytest.mark.slow
def test_d4_a_torn_log_holds_whole_batches_in_order():
    torn, problems = asyncio.run(tear(every=24))
    assert torn > 30
    assert problems == []


@pytest.mark.skipif(not can_record(), reason="needs strace")
@pytest.mark.parametrize("sync", few(["full", "normal"], "full"))
def test_promised_events_survive_a_loss_of_power(sync: Literal["full", "normal"]):
    assert outages(sync, 30, batches=40) == Outage(lost=0, broken=0)


@pytest.mark.skipif(not can_record(), reason="needs strace")
@pytest.mark.slow
def test_the_replay_notices_a_writer_that_does_not_sync():
    assert outages("off", 10, batches=20).lost > 0


@pytest.mark.parametrize(("every", "least"), few([(12, 5), (4, 15)], (12, 5)))
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_d11_invariants_hold_for_each_call_of_a_store_that_fails(
    store: Literal["memory", "sqlite"], every: int, least: int
):
    faults, problems = sweep(store, every=every)
    assert faults >= least
    assert problems == []


def test_d1_publishing_takes_microseconds_while_the_store_stalls(fork_server: ForkServer):
    took = [nanoseconds / 1e9 for nanoseconds in printed_by(fork_server, time_publishing, 5000)]
    assert percentile(took, 0.5) < 50e-6


def test_d7_a_flood_on_a_stalled_store_takes_bounded_memory(fork_server: ForkServer):
    assert [figure for figure in memory(fork_server, 0.05) if not figure.passed] == []


def test_the_first_pending_call_is_resumed_within_two_seconds(fork_server: ForkServer):
    assert [figure for figure in restarts(fork_server, 0.05, repeated=1) if not figure.passed] == []


@pytest.mark.parametrize("case", few([case for case in cases() if case.store == "healthy"], every=4), ids=str)
def test_d12_a_process_ends_in_time_with_everything_written(case: Case, fork_server: ForkServer):
    [ended] = run_cases([case], fork_server, 4.0)
    assert ended.problem(5.0) is None


@pytest.mark.parametrize("begin", few(range(4), 0))
def test_d12_a_process_ends_in_time_though_its_store_hangs(begin: int, fork_server: ForkServer):
    some = [case for case in cases() if case.store != "healthy"][begin::19]
    assert [problem for ended in run_cases(some, fork_server, 0.3) if (problem := ended.problem(5.0))] == []


@pytest.mark.parametrize(("examples", "steps"), few([(5, 20), (15, 30)], (5, 20)))
def test_d3_d4_d7_the_file_agrees_with_a_model(examples: int, steps: int):
    run_machine(examples, steps)


def test_no_byte_of_a_planted_secret_is_left_behind(fork_server: ForkServer):
    assert [figure for figure in leaks(fork_server, 0.1) if not figure.passed] == []


def test_a_download_that_is_killed_goes_on_from_its_last_byte(fork_server: ForkServer):
    outcome = kill(fork_server, SLOW_AND_SIGNED, random.Random(1).randbytes(12_000_000), kills=5)
    assert outcome.found == outcome.wanted
    assert outcome.ratio < 1.5  # from the beginning each time: 3.1


@pytest.mark.parametrize(
    ("installer", "moments", "backend"),
    few(
        [(QUICK[at % 4], [at, 24 - at], BACKENDS[at % 2 + 1]) for at in range(2, 24)] + [(QUICK[1], [25], "trio")],
        (QUICK[1], [25], "trio"),
        (QUICK[2], [18, 6], "asyncio"),
    ),
)
def test_an_installer_killed_at_a_write_is_finished_and_repeats_nothing(
    installer: str, moments: list[int], backend: str, fork_server: ForkServer
):
    tally = kill_at(fork_server, installer, moments, backend)
    assert tally.kills > 0
    assert tally.problems == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("installer", "moments"), [("application", [1.5, 2.5]), ("application without pip", [0.3, 0.6, 0.9])]
)
def test_a_launch_killed_at_any_moment_ends_with_all_that_it_installs(
    installer: str, moments: list[float], fork_server: ForkServer
):
    assert kill_at(fork_server, installer, moments).problems == []


def test_an_installer_that_repeats_what_is_done_is_noticed(fork_server: ForkServer):
    tally = kill_at(fork_server, "forgetful", [16])
    assert any("is done after 1, and began 2 times" in problem for problem in tally.problems)


@pytest.mark.parametrize("backend", few(("asyncio", "trio"), "asyncio"))
def test_prompts_outlive_their_server_and_their_launcher_and_each_has_one_result(backend: str, fork_server: ForkServer):
    tally = kill_queue(fork_server, "new", backend, seed=3, count=6, kills=1, pace=0.4)
    assert tally.problems == []
    assert (tally.results, tally.server_kills, tally.launcher_kills) == (5, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "words"),
    [("sends twice", "ran again, though it had succeeded"), ("lost is done", "was reported as done")],
)
def test_a_launcher_that_sends_prompts_twice_or_calls_lost_ones_done_is_noticed(
    wrong: str, words: str, fork_server: ForkServer
):
    tally = kill_queue(fork_server, "new", "asyncio", seed=3, count=6, kills=1, wrong=wrong)
    assert any(words in problem for problem in tally.problems)
