"""Orders for a journal that no process writes: the next process carries them out before it resumes the call."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli.command import cli
from adapters.journals.status import CallStatus, read_status
from adapters.journals.steering import steer
from adapters.sqlite.command_files import inbox_of
from adapters.sqlite.orders import read_orders
from adapters.sqlite.store import SQLiteStore
from events.event import Event
from events.operation_events import RetryScheduled
from recovery import JournalConfig, Recovery
from recovery.journal.orders import Order
from recovery.journal.store import Command
from recovery.resume.handles import Resumption
from tests.adapters.sqlite import journals
from tests.forked import forked
from tests.small_disk import small_disk
from tests.until import wait_until

QUICK = JournalConfig(command_interval=0.01)
ENDED = [journals.started("dead-1"), journals.gave_up("dead-1")]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


def leave(path: Path, *events: Event, run: str = "dead") -> None:
    """A process leaves *events*, and has died just now."""
    of = msgspec.structs.replace(journals.DEAD, id=run, wall=time.time(), monotonic=0.0)
    journals.write(path, journals.rows_of(events, run=run), run=of)


def leave_waiting(path: Path, run: str = "dead", retry: int = 1) -> None:
    """A process leaves the call dead-1, which waits for an hour."""
    waits = RetryScheduled(at=2.0, operation="render", call="dead-1", attempt=1, after=3600.0, retry=retry)
    leave(path, journals.started("dead-1"), waits, run=run)


def recovery(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def ordered(*arguments: object) -> dict[str, object]:
    """What the command says of the one call whose order waits for the next process."""
    result = recovery(*arguments, "--json")
    [steered] = msgspec.json.decode(result.stdout)["calls"]
    assert (result.exit_code, result.stderr) == (1, "")
    assert (steered["is_done"], steered["taken"], steered["waits"]) == (False, False, True)
    return dict(steered)


def the_call(path: Path) -> CallStatus:
    [call] = anyio.run(read_status, path).calls
    return call


@contextmanager
def next_process(
    path: Path, function: Callable[[str], object] = lambda _: "done"
) -> Iterator[tuple[Recovery, Resumption]]:
    with Recovery(store=SQLiteStore(path), journal_config=QUICK) as service:
        service.recoverable("render", resumable=True)(function)
        yield service, service.resume()


def test_a_retry_that_was_ordered_ends_the_wait_of_the_resumed_call(journal: Path) -> None:
    leave_waiting(journal)
    ordered("retry", journal, "dead-1", "--reason", "the host is back")
    assert (the_call(journal).state, the_call(journal).ordered) == ("left", ("retry now",))
    with next_process(journal) as (_, resumption):
        assert resumption.wait(5.0)
    assert (the_call(journal).state, the_call(journal).ordered) == ("succeeded", ())


@pytest.mark.parametrize("is_waiting", [True, False])
def test_a_pause_that_was_ordered_holds_until_it_is_ended(journal: Path, is_waiting: bool) -> None:
    if is_waiting:
        leave_waiting(journal)
    else:
        leave(journal, journals.started("dead-1"))
    ordered("pause", journal, "dead-1")
    with next_process(journal) as (service, _):
        wait_until(service.calls.waiting)
        [waiting] = service.calls.waiting()
        assert (waiting.is_paused, waiting.left > 3500.0) == (True, is_waiting)
        wait_until(lambda: the_call(journal).state == "paused")
    after = journal.with_name("after.db")  # a restart: this process has not died, and would keep the call
    shutil.copy(journal, after)
    with next_process(after) as (service, resumption):
        wait_until(service.calls.waiting)
        wait_until(lambda: the_call(after).state == "paused")
        verb = "retry" if is_waiting else "unpause"
        assert recovery(verb, after, "dead-1").exit_code == 0
        assert resumption.wait(5.0)
    assert the_call(after).state == "succeeded"


def test_a_reset_that_was_ordered_gives_the_retries_back(journal: Path) -> None:
    leave_waiting(journal, retry=3)
    ordered("reset", journal, "dead-1")
    ordered("pause", journal, "dead-1")
    assert the_call(journal).ordered == ("reset", "pause")
    with Recovery(store=SQLiteStore(journal)) as service:
        assert service.journal is not None
        [record] = service.journal.pending().calls
    assert record.retries == 1  # the attempt that it waits for is its first retry


def test_of_two_orders_the_later_one_counts(journal: Path) -> None:
    leave_waiting(journal)
    for verb in ("pause", "unpause", "pause", "retry"):
        ordered(verb, journal, "dead-1")
    assert the_call(journal).ordered == ("retry now",)
    with next_process(journal) as (_, resumption):
        assert resumption.wait(5.0)


def test_commands_at_the_same_time_take_turns(journal: Path) -> None:
    calls = [f"dead-{number}" for number in range(1, 5)]
    leave(journal, *map(journals.started, calls))
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda call: steer(journal, Command("retry", call), timeout=5.0), calls))
    assert [one.waits for one in said] == [True] * 4
    assert {call.ordered for call in anyio.run(read_status, journal).calls} == {("retry now",)}


def test_an_order_comes_after_what_a_dead_process_left_in_a_file_of_its_own(journal: Path) -> None:
    leave(journal, run="first")
    leave_waiting(journal.with_name("calls.db.d") / "side.db", run="side")
    ordered("retry", journal, "dead-1")
    assert the_call(journal).ordered == ("retry now",)
    with next_process(journal) as (_, resumption):
        assert resumption.wait(5.0)


def test_status_shows_an_order_that_waits(journal: Path) -> None:
    leave_waiting(journal)
    ordered("retry", journal, "dead-1")
    assert "ordered for the next start: retry now" in recovery("status", journal).stdout


@pytest.mark.parametrize("verb", ["edit", "retry"])
def test_what_the_next_process_cannot_do_is_refused_with_a_cure(journal: Path, verb: str) -> None:
    started = msgspec.structs.replace(journals.started("dead-1"), arguments=msgspec.Raw())
    leave(journal, started if verb == "retry" else journals.started("dead-1"))
    result = recovery(verb, journal, "dead-1", *(("--set", "max_retries=9") if verb == "edit" else ()))
    cure = "give it up instead" if verb == "retry" else "run the program again, which resumes it"
    assert (result.exit_code, result.stdout) == (1, "")
    assert cure in result.stderr


# again


def test_a_call_that_was_ordered_again_is_run_once_by_the_next_process(journal: Path) -> None:
    leave(journal, *ENDED)
    for _ in range(2):
        ordered("again", journal, "dead-1")
    assert the_call(journal).ordered == ("again",)
    assert len(read_orders(journal)) == 1
    assert "runs again at the next start" in recovery("status", journal).stdout
    runs: list[str] = []
    with next_process(journal, runs.append) as (_, resumption):
        assert resumption.wait(5.0)  # for that call, too
        assert runs == ["dead-1"]
        wait_until(lambda: not read_orders(journal))
    with next_process(journal, runs.append) as (_, resumption):
        assert resumption.wait(5.0)
    assert runs == ["dead-1"]  # its argument
    former = next(call for call in anyio.run(read_status, journal).calls if call.call == "dead-1")
    assert (former.ordered, bool(former.by)) == ((), True)
    refused = recovery("again", journal, "dead-1")
    assert (refused.exit_code, refused.stderr) == (
        1, f"recovery: cannot run again call dead-1: call {former.by} runs it again already\n",
    )  # fmt: skip


@pytest.mark.parametrize("is_written", [False, True])
def test_a_killed_process_loses_no_order(journal: Path, is_written: bool) -> None:
    leave(journal, *ENDED)
    ordered("again", journal, "dead-1")

    def work(say: Callable[[str], object]) -> None:
        def body(_: str) -> None:
            assert service.journal is not None
            if is_written:
                service.journal.receipt().wait()
            say("it runs")
            time.sleep(10.0)

        with Recovery(store=SQLiteStore(journal), journal_config=slow) as service:
            service.recoverable("render", resumable=True)(body)
            service.resume().wait()

    slow = msgspec.structs.replace(QUICK, flush_interval=5.0)
    with forked(work) as child:
        assert child.next_line() == "it runs"
        child.end()
    runs: list[str] = []
    with next_process(journal, runs.append) as (_, resumption):
        assert resumption.wait(5.0)
        wait_until(lambda: not read_orders(journal))
    assert runs == ["dead-1"]
    [first, *others] = [call for call in anyio.run(read_status, journal).calls if call.call != "dead-1"]
    assert (first.state, others) == ("succeeded", [])


def test_an_order_that_a_process_refuses_is_shown_with_the_reason_and_done_by_the_next(journal: Path) -> None:
    leave(journal, *ENDED)
    ordered("again", journal, "dead-1")
    with Recovery(store=SQLiteStore(journal), journal_config=QUICK) as service:
        service.resume()
        wait_until(lambda: the_call(journal).refused)
    why = "ordered to run again, which the latest process refused: no operation of that name is defined"
    assert why in recovery("status", journal).stdout
    with next_process(journal) as (_, resumption):
        assert resumption.wait(5.0)
        wait_until(lambda: not read_orders(journal))


def test_on_a_full_disk_a_command_says_at_once_that_it_cannot_be_written() -> None:
    with small_disk("1m") as folder:
        journal = folder / "calls.db"
        leave(journal, *ENDED, journals.started("dead-2"))
        with suppress(OSError), (folder / "full").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        for verb, call, why in (
            ("again", "dead-1", "the order cannot be written: [Errno 28]"),
            ("cancel", "dead-2", "it cannot be written: "),
        ):
            result = recovery(verb, journal, call)
            assert (result.exit_code, why in result.stderr) == (1, True)


def test_an_order_that_waits_is_withdrawn_by_cancel(journal: Path) -> None:
    leave(journal, *ENDED)
    ordered("again", journal, "dead-1")
    withdrawn = recovery("cancel", journal, "dead-1")
    said = "call dead-1: the order to run it again is withdrawn\n"
    assert (withdrawn.exit_code, withdrawn.stdout, read_orders(journal)) == (0, said, [])


@pytest.mark.parametrize(
    "order",
    ['{"name":"again","call":"next process","changes":{"call":["x"]}}', '{"name":"prune","call":"next process"}'],
)
def test_an_order_that_another_program_wrote_breaks_nothing(journal: Path, order: str) -> None:
    leave(journal, *ENDED)
    file = inbox_of(journal) / "1.next%20process.order"
    file.parent.mkdir(mode=0o700, parents=True)
    file.write_text(order)
    file.chmod(0o600)
    ordered("again", journal, "dead-1")
    with next_process(journal) as (_, resumption):
        assert resumption.wait(5.0)
        wait_until(lambda: not the_orders_for(journal, "dead-1"))


def the_orders_for(path: Path, call: str) -> list[Order]:
    return [order for order in read_orders(path) if order.about == call]


def test_an_order_is_not_done_again_if_its_call_has_failed_since(journal: Path) -> None:
    leave(journal, *ENDED)
    ordered("again", journal, "dead-1")
    [order] = inbox_of(journal).glob("*.order")
    kept = order.read_bytes()
    runs: list[str] = []

    def fails(name: str) -> None:
        runs.append(name)
        raise ValueError(name)

    for _ in range(2):
        order.write_bytes(kept)  # the process was killed after the commit
        order.chmod(0o600)
        with next_process(journal, fails):
            wait_until(lambda: not read_orders(journal))
    assert runs == ["dead-1"]


def test_an_order_waits_for_days(journal: Path) -> None:
    leave(journal, *ENDED)
    ordered("again", journal, "dead-1")
    [order] = journal.with_name("calls.db.d").joinpath("inbox").glob("*.order")
    os.utime(order, (time.time() - 7 * 86400.0,) * 2)
    runs: list[str] = []
    with next_process(journal, runs.append):
        wait_until(lambda: runs)


def test_a_running_process_runs_a_call_again_at_once(journal: Path) -> None:
    leave(journal, *ENDED)
    runs: list[str] = []
    with next_process(journal, runs.append) as (_, resumption):
        assert resumption.loaded.wait(5.0)
        done = recovery("again", journal, "dead-1")
        assert (done.exit_code, done.stdout) == (0, "call dead-1: it runs again, as a new call with its arguments\n")
        wait_until(lambda: runs == ["dead-1"])


def test_a_running_process_says_why_it_does_not_run_a_call_again(journal: Path) -> None:
    leave(journal, *ENDED)
    with Recovery(store=SQLiteStore(journal), journal_config=QUICK) as service:
        assert service.journal is not None
        service.journal.pending()
        refused = recovery("again", journal, "dead-1")
    said = "recovery: cannot run again call dead-1: no operation of that name is defined\n"
    assert (refused.exit_code, refused.stderr) == (1, said)


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([journals.started("dead-1"), journals.succeeded("dead-1")], "it has succeeded"),
        ([journals.started("dead-1")], "it is left, and has not ended: `recovery retry` has it tried now"),
    ],
)
def test_again_is_for_calls_that_have_ended_badly(journal: Path, events: list[Event], why: str) -> None:
    leave(journal, *events)
    refused = recovery("again", journal, "dead-1")
    assert (refused.exit_code, refused.stderr) == (1, f"recovery: cannot run again call dead-1: {why}\n")
