"""Steps: committed before they begin, undone in reverse if one fails, and ended by the next process after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from adapters.launcher import InvalidRequestError, Launcher, Steps, StepsUndoneError
from adapters.launcher.saga import OnCrash, RunRecord
from adapters.memory import MemoryStore
from adapters.sqlite import SQLiteStore
from events.codec import decode
from events.errors import CallCancelledError, CallRejectedError
from events.operation_events import CheckpointSaved, Parked
from recovery.journal.store import Row
from recovery.service import Recovery
from tests.adapters.launcher.sites import ONE_RETRY, Site, died, process
from tests.recorded_events import events_of
from tests.slow import few

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def site() -> Site:
    return Site()


def refuse() -> None:
    raise OSError("disk on fire")


def open_step(store: MemoryStore) -> str | None:
    """The open step, as the store has it."""
    saved = [decode(row.body) for row in store.rows if row.kind == CheckpointSaved.__name__]
    assert isinstance(saved[-1], CheckpointSaved)
    found = msgspec.json.decode(bytes(saved[-1].data), type=RunRecord).open
    return None if found is None else found.name


async def test_a_step_begins_once_it_is_committed_and_gets_the_arguments_that_it_names(
    store: MemoryStore, site: Site, tmp_path: Path
) -> None:
    seen: list[str | None] = []
    site.on = {name: lambda: seen.append(open_step(store)) for name in ("move", "install")}
    async with process(store, tmp_path) as (launcher, _):
        results = await site.declare(launcher).run("comfyui", ref="v1")
    assert results == {"move": "was moved to v1", "install": None}
    assert seen == ["move", "install"]
    assert site.log == ["move", "install"]


async def test_a_step_that_gives_up_is_retried_and_then_all_are_undone_in_reverse(
    store: MemoryStore, site: Site, tmp_path: Path
) -> None:
    site.on = {"install": refuse}
    async with process(store, tmp_path) as (launcher, _):
        with pytest.raises(StepsUndoneError) as raised:
            await site.declare(launcher).run("comfyui", ref="v1")
    assert site.log == ["move", "install", "install", "undo install", "undo move"]
    assert site.there == ["v0"]
    error = raised.value
    assert isinstance(error.__cause__, OSError)
    assert (error.run, error.step, error.undone, error.kept) == ("update comfyui", "install", ("install", "move"), ())
    assert str(error) == "update comfyui: step 'install' failed: OSError: disk on fire; undone: install, move"


async def test_a_step_without_undo_stays_and_is_named(store: MemoryStore, site: Site, tmp_path: Path) -> None:
    site.on = {"install": refuse}
    async with process(store, tmp_path) as (launcher, _):
        update = site.declare(launcher, steps="other move install")
        with pytest.raises(StepsUndoneError, match="undone: install, move; not undone: other"):
            await update.run("comfyui", ref="v1")


@pytest.mark.parametrize(
    ("where", "on_crash", "then", "there"),
    [
        ("move", "finish", ["move", "install"], ["v1", "packages"]),
        ("install", "finish", ["done?"], ["v1", "packages"]),
        ("move", "undo", ["undo move"], ["v0"]),
        ("install", "undo", ["undo install", "undo move"], ["v0"]),
    ],
)
async def test_the_next_process_finishes_or_undoes_what_a_dead_one_left(
    where: str, on_crash: OnCrash, then: list[str], there: list[str], store: MemoryStore, site: Site, tmp_path: Path
) -> None:
    await died(store, tmp_path, site, where, on_crash)
    before = len(site.log)
    async with process(store, tmp_path) as (launcher, _):
        update = site.declare(launcher, on_crash)
        launcher.resume()
        if on_crash == "finish":
            assert (await update.run("comfyui", ref="v1"))["move"] == "was moved to v1"
        else:
            with pytest.raises(StepsUndoneError, match=f"its process died in step '{where}'"):
                await update.run("comfyui", ref="v1")
    assert site.log[before:] == then
    assert site.there == there
    async with process(store, tmp_path) as (launcher, _):
        assert launcher.service.journal is not None
        assert not launcher.service.journal.pending(10.0).calls


async def test_an_undo_that_its_process_dies_in_is_made_again(store: MemoryStore, site: Site, tmp_path: Path) -> None:
    async with process(store, tmp_path) as (launcher, die):
        site.on = {"install": refuse, "undo move": die}
        await site.declare(launcher, "undo").run("comfyui", ref="v1")
    site.on, before = {}, len(site.log)
    async with process(store, tmp_path) as (launcher, _):
        site.declare(launcher, "undo")
        (resumed,) = (await launcher.resume()).calls
    assert site.log[before:] == ["undo move"]
    assert site.there == ["v0"]
    assert "step 'install' failed: OSError: disk on fire; undone: install, move" in str(resumed.error)


async def test_a_step_that_kills_its_process_each_time_is_undone_in_the_end(
    store: MemoryStore, site: Site, tmp_path: Path
) -> None:
    for _ in range(2):
        await died(store, tmp_path, site, "move")
    assert site.log == ["move", "move"]
    async with process(store, tmp_path) as (launcher, _):
        update = site.declare(launcher)
        with pytest.raises(StepsUndoneError, match=r"step 'move' failed: .*quarantined"):
            await update.run("comfyui", ref="v1")
    assert site.there == ["v0"]
    async with process(store, tmp_path) as (launcher, _):
        assert await site.declare(launcher).run("comfyui", ref="v1")  # of that run nothing is left


@pytest.mark.parametrize(
    ("answer", "then", "told", "is_killed"),
    few(
        [
            (*case, is_killed)
            for case in [
                ("retry", ["undo install", "undo move"], "undone: install, move"),
                ("skip", ["undo move"], "undone: move; not undone: install"),
                ("give up", [], "nothing had to be undone; not undone: install, move"),
            ]
            for is_killed in (True, False)
        ],
        every=3,
    ),
)
async def test_an_undo_that_fails_waits_for_a_person(
    answer: str, then: list[str], told: str, store: MemoryStore, site: Site, tmp_path: Path, *, is_killed: bool
) -> None:
    async def answered(launcher: Launcher) -> None:
        while not (found := launcher.service.calls.questions()):
            await anyio.sleep(0.001)
        assert (found[0].name, found[0].choices) == ("undo:update comfyui", ("retry", "skip", "give up"))
        assert "undoing step 'install' failed: OSError: disk on fire" in found[0].text
        assert "still to be undone: move, install" in found[0].text
        site.on, site.log = {}, []
        launcher.service.calls.answer("undo:update comfyui", answer)

    site.on = {"install": refuse, "undo install": refuse}
    if is_killed:
        async with process(store, tmp_path) as (launcher, die), anyio.create_task_group() as group:
            update, parked = site.declare(launcher), events_of(launcher.service, Parked)
            group.start_soon(lambda: update.run("comfyui", ref="v1"))
            while not parked:
                await anyio.sleep(0.001)
            die().close()
    async with process(store, tmp_path) as (launcher, _), anyio.create_task_group() as group:
        update = site.declare(launcher)
        group.start_soon(answered, launcher)
        with pytest.raises(StepsUndoneError, match=told):
            await update.run("comfyui", ref="v1")
    assert site.log == then


async def test_an_answer_outlasts_its_process(store: MemoryStore, site: Site, tmp_path: Path) -> None:
    site.on = {"install": refuse, "undo install": refuse}
    async with process(store, tmp_path) as (launcher, die), anyio.create_task_group() as group:
        update = site.declare(launcher)
        group.start_soon(lambda: update.run("comfyui", ref="v1"))
        while not launcher.service.calls.questions():
            await anyio.sleep(0.001)
        launcher.service.calls.answer("undo:update comfyui", "skip")
        die().close()  # before the call has gone on
    site.log = []
    async with process(store, tmp_path) as (launcher, _):
        site.declare(launcher)
        (resumed,) = (await launcher.resume()).calls
    assert site.log == ["undo move"]
    assert "undone: move; not undone: install" in str(resumed.error)


@pytest.mark.parametrize(("answer", "then"), [("go on", ["other"]), ("undo", ["undo move"]), ("give up", [])])
async def test_a_program_with_other_steps_asks_how_to_go_on(
    answer: str, then: list[str], store: MemoryStore, site: Site, tmp_path: Path
) -> None:
    await died(store, tmp_path, site, "install")
    site.log = []
    async with process(store, tmp_path) as (launcher, _):
        update = site.declare(launcher, steps="move other")

        async def run() -> None:
            try:
                await update.run("comfyui", ref="v1")
            except StepsUndoneError:
                assert answer != "go on"

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            while not (found := launcher.service.calls.questions()):
                await anyio.sleep(0.001)
            assert "then: move, install; begun: move, install (open); now: move, other" in found[0].text
            launcher.service.calls.answer("steps:update comfyui", answer)
            if answer == "undo":  # it has no step to undo the other with
                while not any(one.name == "undo:update comfyui" for one in launcher.service.calls.questions()):
                    await anyio.sleep(0.001)
                launcher.service.calls.answer("undo:update comfyui", "skip")
    assert site.log == then


async def test_a_run_that_is_cancelled_is_undone(store: MemoryStore, site: Site, tmp_path: Path) -> None:
    async with process(store, tmp_path) as (launcher, _), anyio.create_task_group() as group:
        update, calls = site.declare(launcher), launcher.service.calls

        async def ask() -> None:
            with pytest.raises(CallCancelledError):
                await update.run("comfyui", ref="v1")

        async def cancel() -> None:
            while not calls.joining():
                await anyio.sleep(0.001)
            (run,) = [one for one in calls.running() if one.operation == "steps update"]
            calls.cancel(run.call)
            await anyio.sleep_forever()

        site.on = {"install": cancel}
        group.start_soon(ask)
        group.start_soon(ask)
    assert site.log == ["move", "install", "undo install", "undo move"]


async def test_a_run_whose_caller_is_cancelled_is_undone(store: MemoryStore, site: Site, tmp_path: Path) -> None:
    async with process(store, tmp_path) as (launcher, _):
        with anyio.CancelScope() as scope:
            site.on = {"move": lambda: [scope.cancel(), anyio.sleep_forever()][1]}
            await site.declare(launcher).run("comfyui", ref="v1")
    assert site.log == ["move", "undo move"]
    async with process(store, tmp_path) as (launcher, _):
        assert not (await launcher.resume()).calls


async def test_a_run_goes_on_with_a_caller_that_has_joined(store: MemoryStore, site: Site, tmp_path: Path) -> None:
    async with process(store, tmp_path) as (launcher, _), anyio.create_task_group() as group:
        update, results = site.declare(launcher, "undo"), []

        has_begun = anyio.Event()

        async def join() -> None:
            await has_begun.wait()
            results.append(await update.run("comfyui", ref="v1"))

        async def cancel() -> None:
            has_begun.set()
            while not launcher.service.calls.joining():
                await anyio.sleep(0.001)
            site.on = {}
            scope.cancel()
            await anyio.sleep_forever()

        group.start_soon(join)
        with anyio.CancelScope() as scope:
            site.on = {"move": cancel}
            await update.run("comfyui", ref="v1")
    assert site.log == ["move", "move", "install"]
    assert results == [{"move": "was moved to v1", "install": None}]


async def test_a_launcher_that_is_stopped_leaves_the_run_to_the_next_one(
    store: MemoryStore, site: Site, tmp_path: Path
) -> None:
    with anyio.CancelScope() as scope:
        async with Launcher(Recovery(store=store), tmp_path) as launcher:
            site.on = {"move": lambda: [launcher.stop(), scope.cancel(), anyio.sleep_forever()][2]}
            await site.declare(launcher).run("comfyui", ref="v1")
    assert site.log == ["move"]
    site.on = {}
    async with process(store, tmp_path) as (launcher, _):
        assert await site.declare(launcher).run("comfyui", ref="v1")
    assert site.log == ["move", "move", "install"]


async def test_what_a_dead_process_began_with_other_arguments_is_ended_first(
    store: MemoryStore, site: Site, tmp_path: Path
) -> None:
    await died(store, tmp_path, site, "move")
    async with process(store, tmp_path) as (launcher, _):
        update = site.declare(launcher)
        launcher.resume()
        await update.run("comfyui", ref="v2")
    assert site.log == ["move", "move", "install", "move", "install"]
    assert site.there[0] == "v2"


async def test_other_arguments_at_the_same_time_are_rejected(store: MemoryStore, site: Site, tmp_path: Path) -> None:
    async with process(store, tmp_path) as (launcher, _), anyio.create_task_group() as group:
        update, has_begun, is_told = site.declare(launcher), anyio.Event(), anyio.Event()

        async def begun() -> None:
            has_begun.set()
            await is_told.wait()

        site.on = {"move": begun}
        group.start_soon(lambda: update.run("comfyui", ref="v1"))
        await has_begun.wait()
        with pytest.raises(CallRejectedError, match=r"(?s)other arguments.*'v1'.*'v2'"):
            await update.run("comfyui", ref="v2")
        is_told.set()
    assert site.log == ["move", "install"]


class FullStore(MemoryStore):
    """A disk without room."""

    async def append(self, rows: Sequence[Row]) -> None:
        raise OSError("no space")


async def test_without_a_journal_that_can_be_written_a_run_goes_on_with_a_warning(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Launcher(Recovery(store=FullStore()), tmp_path, policy=ONE_RETRY) as launcher:
        assert await site.declare(launcher).run("comfyui", ref="v1")
    assert caplog.text.count("goes on, but what it does is not journalled") == 1


def nothing() -> None: ...


def needs(path: str) -> None: ...


def positional(path: str, /) -> None: ...


@pytest.mark.parametrize(("ref", "times"), [("v1", 1), ("v2", 2)])
async def test_a_run_of_another_process_counts_if_its_arguments_are_equal(
    ref: str, times: int, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun, may_end = anyio.Event(), anyio.Event()

    async def first() -> None:
        begun.set()
        await may_end.wait()

    async def run(launcher: Launcher, ref: str) -> None:
        results = await site.declare(launcher, steps="move").run("comfyui", ref=ref)
        assert results == {"move": f"was moved to {ref}"}

    site.on = {"move": first}
    stores = [SQLiteStore(tmp_path / "journal.db") for _ in range(2)]
    async with (
        process(stores[0], tmp_path) as (one, _),
        process(stores[1], tmp_path) as (other, _),
        anyio.create_task_group() as group,
    ):
        group.start_soon(run, one, "v1")
        await begun.wait()
        group.start_soon(run, other, ref)
        while "runs an equal call" not in caplog.text:
            await anyio.sleep(0.001)
        may_end.set()
    assert site.log == ["move"] * times


@pytest.mark.parametrize(
    ("step", "arguments", "said"),
    [
        (None, {}, "update x has no steps"),
        (needs, {}, r"argument 'path' of step 'needs' is missing: run\(..., path=...\)"),
        (needs, {"path": "a", "size": 1}, "no step takes the argument 'size'; they take path"),
        (needs, {"path": Path("a")}, "argument 'path' must be plain data .* not a PosixPath"),
        (needs, {"path": (1,)}, "argument 'path' must be plain data .* not a tuple"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_before_anything_begins(
    step: Any, arguments: dict[str, Any], said: str, store: MemoryStore, tmp_path: Path
) -> None:
    launcher = Launcher(Recovery(store=store), tmp_path)
    update = launcher.steps("update")
    if step is not None:
        update.step(step)
    with pytest.raises(InvalidRequestError, match=said):
        await update.run("x", **arguments)
    assert not store.rows


async def test_a_run_has_a_name_that_the_journal_gives_back(store: MemoryStore, site: Site, tmp_path: Path) -> None:
    update = site.declare(Launcher(Recovery(store=store), tmp_path))
    with pytest.raises(InvalidRequestError, match="a run of 'update' needs a name, as text, not 5"):
        await update.run(5, ref="v1")  # type: ignore[arg-type]  # what is tested


async def test_a_coroutine_that_a_plain_function_returns_runs(store: MemoryStore, site: Site, tmp_path: Path) -> None:
    async with process(store, tmp_path) as (launcher, _):
        update = launcher.steps("update")
        update.step(name="one", undo=lambda: site.does("undo one"))(lambda: site.does("one"))
        update.step(name="two")(refuse)
        with pytest.raises(StepsUndoneError, match="undone: one"):
            await update.run("x")
    assert site.log == ["one", "undo one"]


def test_steps_that_cannot_be_declared_are_refused(store: MemoryStore, tmp_path: Path) -> None:
    launcher = Launcher(Recovery(store=store), tmp_path)
    update: Steps = launcher.steps("update")
    update.step(nothing)
    with pytest.raises(ValueError, match="'update' have a step 'nothing' already"):
        update.step(nothing)
    with pytest.raises(TypeError, match="step 'positional' takes its arguments by name"):
        update.step(positional)
    with pytest.raises(TypeError, match="undo= of step 'needs' must be a function, not 5"):
        update.step(undo=5)(needs)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match="undo= of step 'needs' is a generator, which would not run"):
        update.step(undo=lambda: (yield))(needs)
    with pytest.raises(TypeError, match="which does not tell its parameters: wrap it in a function"):
        update.step(dict)
    with pytest.raises(TypeError, match="the name of a step must be a text, not 5"):
        update.step(name=5)(needs)  # type: ignore[call-overload]  # what is tested
    with pytest.raises(ValueError, match="no step can be called 'result', which an undo gets"):
        update.step(name="result")(needs)
    with pytest.raises(ValueError, match="has steps 'update' already"):
        launcher.steps("update")
    with pytest.raises(ValueError, match="on_crash"):
        launcher.steps("other", on_crash="ask")  # type: ignore[arg-type]  # what is tested


def test_plain_steps_run_for_plain_code(store: MemoryStore, tmp_path: Path) -> None:
    with Launcher.blocking(Recovery(store=store), tmp_path) as launcher:
        update = launcher.steps("update")

        @update.step
        def double(number: int) -> int:
            return 2 * number

        @update.step
        async def square(double: int) -> int:
            return double * double

        assert update.run("x", number=3) == {"double": 6, "square": 36}
