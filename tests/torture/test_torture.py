"""The torture in small: a few rounds of each row of ``make torture``, which runs the full counts."""

from __future__ import annotations

import asyncio
import os
from typing import Literal

import pytest

from recovery.journal.config import DEFAULTS
from tests.torture.exits import Case, cases, ends_of
from tests.torture.faults import sweep
from tests.torture.figures import QUICK, percentile
from tests.torture.fork_server import ForkServer
from tests.torture.kills import Tally, torture
from tests.torture.leaks import leaks
from tests.torture.power import Outage, can_record, outages
from tests.torture.restarts import restarts
from tests.torture.stalls import memory, printed_by, time_publishing
from tests.torture.stories import try_machine
from tests.torture.torn import tear

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")

ROUNDS = 15


@pytest.fixture(scope="module")
def tally(fork_server: ForkServer) -> Tally:
    """What came of a few kills."""
    return torture(fork_server, ROUNDS, seed=3, folder=QUICK)


def test_d3_what_was_acknowledged_is_there_after_kill_9(tally: Tally) -> None:
    assert tally.kills >= ROUNDS
    assert tally.in_recovery == ROUNDS // 5
    assert tally.acknowledged > 100
    assert tally.lost == []


def test_d3_what_was_pending_when_a_process_was_killed_is_found_by_the_next(tally: Tally) -> None:
    assert tally.forgotten == []


def test_d4_of_each_call_the_events_up_to_some_moment_are_there_after_kill_9(tally: Tally) -> None:
    assert tally.recovered > 100
    assert tally.disordered == []


def test_d5_no_call_has_two_ends_after_kill_9(tally: Tally) -> None:
    assert tally.ended_twice == []


def test_d6_what_kill_9_loses_is_as_old_as_a_flush_interval_and_a_commit(tally: Tally) -> None:
    # Of half of it, at least: other processes on this machine may hold any one of ours for as long as they like.
    assert percentile(tally.ages, 0.5) < DEFAULTS.flush_interval + percentile(tally.commits, 1.0)


def test_d2_the_kill_loop_sees_a_store_that_acknowledges_before_it_commits(fork_server: ForkServer) -> None:
    assert torture(fork_server, 5, seed=3, is_hasty=True, folder=QUICK).lost


def test_d4_a_log_that_was_torn_anywhere_holds_whole_batches_in_order() -> None:
    torn, problems = asyncio.run(tear(every=24))
    assert torn > 30
    assert problems == []


@pytest.mark.skipif(not can_record(), reason="needs strace")
@pytest.mark.parametrize("sync", ["full", "normal"])
def test_what_was_promised_survives_a_loss_of_power(sync: Literal["full", "normal"]) -> None:
    assert outages(sync, 30, batches=40) == Outage(lost=0, broken=0)


@pytest.mark.skipif(not can_record(), reason="needs strace")
def test_the_replay_sees_a_writer_that_does_not_sync() -> None:
    assert outages("off", 10, batches=20).lost > 0


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_d11_whatever_call_of_a_store_fails_the_invariants_hold(store: Literal["memory", "sqlite"]) -> None:
    faults, problems = sweep(store, every=4)
    assert faults > 15
    assert problems == []


def test_d1_publishing_takes_microseconds_while_the_store_stalls(fork_server: ForkServer) -> None:
    took = [nanoseconds / 1e9 for nanoseconds in printed_by(fork_server, time_publishing, 5000)]
    assert percentile(took, 0.5) < 50e-6


def test_d7_a_flood_on_a_stalled_store_takes_bounded_memory(fork_server: ForkServer) -> None:
    assert [figure for figure in memory(fork_server, 0.05) if not figure.passed] == []


def test_the_first_of_many_pending_calls_is_resumed_within_two_seconds(fork_server: ForkServer) -> None:
    assert [figure for figure in restarts(fork_server, 0.05, repeated=1) if not figure.passed] == []


@pytest.mark.parametrize("case", [case for case in cases() if case.store == "healthy"], ids=str)
def test_d12_a_process_ends_in_time_and_what_was_accepted_is_written(case: Case, fork_server: ForkServer) -> None:
    [ended] = ends_of([case], fork_server, 4.0)
    assert ended.problem(5.0) is None


def test_d12_a_process_ends_in_time_though_its_store_hangs(fork_server: ForkServer) -> None:
    some = [case for case in cases() if case.store != "healthy"][::6]
    assert [problem for ended in ends_of(some, fork_server, 0.3) if (problem := ended.problem(5.0))] == []


def test_d3_d4_d7_the_file_is_what_a_model_says_after_crashes_locks_and_a_full_disk() -> None:
    try_machine(15, 30)


def test_no_byte_of_a_planted_secret_is_left_behind(fork_server: ForkServer) -> None:
    assert [figure for figure in leaks(fork_server, 0.1) if not figure.passed] == []
