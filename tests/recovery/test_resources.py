"""``claims``: calls that together need no more of a disk or of a GPU's memory than there is."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from events.errors import CallRejectedError
from events.operation_events import Parked
from recovery import Recovery, context
from recovery.conditions import disk_usage
from recovery.testing import Script, VirtualClock
from tests.recovery.waiting.parked import KINDS, background, only, run, run_all, steered

pytestmark = pytest.mark.anyio

VRAM = {"vram": lambda size, *_: size}


class Loads:
    """A function that takes *seconds* and uses "vram" meanwhile: the most that was used at a time, and the order."""

    def __init__(self, service: Recovery, total: float = 10.0, **settings: Any) -> None:
        service.resource("vram", total=total)
        self.service, self.used, self.most, self.order = service, 0.0, 0.0, list[float]()
        self.load = service.recoverable("load", claims=VRAM, **settings)(self._load)

    async def _load(self, size: float, seconds: float = 10.0, error: BaseException | None = None) -> None:
        self.used += size
        self.most = max(self.most, self.used)
        self.order.append(size)
        try:
            await anyio.sleep(seconds)
            if error is not None:
                raise error
        finally:
            self.used -= size

    def of(self, size: float, *args: Any) -> Callable[[], Awaitable[None]]:
        return lambda: self.load(size, *args)

    def in_turn(self, *sizes: float) -> list[Callable[[], Awaitable[None]]]:
        async def call(number: int, size: float) -> None:
            await anyio.sleep(number / 1000.0)  # trio starts tasks in any order
            await self.load(size)

        return [functools.partial(call, number, size) for number, size in enumerate(sizes)]

    def states(self) -> list[tuple[float, int, int]]:
        return [(one.claimed, one.calls, one.waiting) for one in self.service.resources()]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_calls_that_do_not_fit_together_run_one_after_another(backend: str) -> None:
    clock = VirtualClock()
    loads = Loads(Recovery(clock=clock))
    parked: list[Parked] = []
    loads.service.bus.subscribe(Parked, parked.append)
    assert run_all(clock, *loads.in_turn(6.0, 4.0, 5.0, 5.0, 1.0), backend=backend) == []
    assert (loads.most, loads.order) == (10.0, [6.0, 4.0, 5.0, 5.0, 1.0])
    assert 30.0 <= clock() < 31.0  # each at once when another ends
    assert [event.why.partition(" needs ")[2] for event in parked] == [
        "5 of vram; 10 are free, 10 are claimed by 2 calls",
        "5 of vram; 10 are free, 10 are claimed by 2 calls, 1 call came earlier",
        "1 of vram; 10 are free, 10 are claimed by 2 calls, 2 calls came earlier",
    ]
    assert loads.states() == [(0.0, 0, 0)]


def test_a_plain_function_claims_too() -> None:
    service, parked, began = Recovery(), threading.Event(), threading.Event()
    service.resource("vram", total=1)
    service.bus.subscribe(Parked, lambda _: parked.set())

    @service.recoverable("load", claims={"vram": 1})
    def load(waits: bool) -> None:
        began.set()
        assert not waits or parked.wait(5.0)

    first = threading.Thread(target=load, args=(True,), daemon=True)
    first.start()
    assert began.wait(5.0)
    load(False)  # it is woken by the end of the first
    first.join(5.0)
    assert [(one.claimed, one.waiting) for one in service.resources()] == [(0.0, 0)]


ENDS = st.sampled_from(["success", "failure", "cancelled", "given up", "retried"])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10), st.integers(0, 5), ENDS), min_size=1, max_size=8))
def test_nothing_is_leaked_and_nothing_overdrawn_however_calls_end(calls: list[tuple[int, int, str]]):
    clock = VirtualClock()
    loads = Loads(Recovery(clock=clock, rng=lambda: 0.5), max_retries=1, breaker=None)

    async def one(size: int, seconds: int, end: str) -> None:
        match end:
            case "cancelled":
                with anyio.move_on_after(seconds):
                    await loads.load(float(size), 100.0)
            case "given up":
                await loads.load(float(size), 3.0)
            case _:
                errors = {"success": None, "failure": ValueError(), "retried": ConnectionError()}
                await loads.load(float(size), float(seconds), errors[end])

    async def gives_up() -> None:
        await anyio.sleep(2.0)
        for waiting in loads.service.calls.waiting():
            loads.service.calls.give_up(waiting.call)

    some = [lambda call=call: one(*call) for call in calls]  # type: ignore[misc]  # one call each
    run_all(clock, *some, *([gives_up] if any(end == "given up" for *_, end in calls) else []))
    assert loads.most <= 10.0
    assert loads.states() == [(0.0, 0, 0)]


def test_a_call_that_waits_for_a_retry_keeps_its_claim() -> None:
    clock = VirtualClock()
    loads = Loads(Recovery(clock=clock), max_retries=1, initial_delay=60.0, jitter="none", breaker=None)

    async def later() -> None:
        await anyio.sleep(1.0)
        await loads.load(6.0)

    run_all(clock, loads.of(6.0, 0.0, ConnectionError()), later)
    assert 70.0 <= clock() < 71.0


@KINDS
def test_a_call_that_can_never_fit_is_rejected_at_once(kind: str) -> None:
    service = Recovery(clock=VirtualClock())
    service.resource("vram", total=24e9, unit="B")
    text = "it can never fit: needs 30 GB of vram, of which there are 24 GB in all"
    with pytest.raises(CallRejectedError, match=text):
        run(kind, service, Script(), claims={"vram": 30e9})
    assert [(one.claimed, one.waiting) for one in service.resources()] == [(0.0, 0)]


def test_what_is_free_is_looked_at_while_calls_wait() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    service.resource("vram", free=lambda: clock() / 10.0)
    run("asyncio", service, Script(), claims={"vram": 3})
    assert 30.0 <= clock() < 31.5


def test_progress_leaves_less_to_claim() -> None:
    clock = VirtualClock()
    service, free = Recovery(clock=clock), [10.0]
    service.resource("disk", free=lambda: free[0], by_progress=True)

    @service.recoverable("fetch", claims={"disk": lambda size: size})
    async def fetch(size: float) -> None:
        for done in range(1, int(size) + 1):
            await anyio.sleep(1.0)
            free[0] -= 1.0
            context.progress(done)

    async def looks() -> None:
        await anyio.sleep(4.5)
        [state] = service.resources()
        assert (state.free, state.claimed, state.calls) == (6.0, 4.0, 1)
        await fetch(2.0)  # what is left is enough for both
        assert clock() < 7.0

    assert run_all(clock, lambda: fetch(8.0), looks) == []
    assert free == [0.0]


def test_a_call_that_a_person_retries_begins_beside_the_others() -> None:
    clock = VirtualClock()
    loads = Loads(Recovery(clock=clock))

    async def main() -> None:
        async with background(loads.of(8.0), loads.of(5.0)):
            assert loads.service.calls.retry_now(only(loads.service))
        assert clock() < 13.0

    clock.run(main)
    assert (loads.most, loads.states()) == (13.0, [(0.0, 0, 0)])


def test_a_call_in_line_can_be_given_up() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    service.resource("vram", free=lambda: 0.0)
    give_up = service.calls.give_up
    [error] = steered(service, Script(), lambda call: give_up(call), claims={"vram": 1})
    assert isinstance(error, CallRejectedError)
    assert [one.waiting for one in service.resources()] == [0]


def test_a_disk_is_one_resource_under_the_names_of_all_its_folders(tmp_path: Path) -> None:
    service = Recovery(clock=VirtualClock())
    (tmp_path / "models").mkdir()
    run("plain", service, Script(), claims={f"disk:{tmp_path}": 1, f"disk:{tmp_path / 'models'}": lambda: 1})
    [state] = service.resources()
    assert state.name == f"disk:{tmp_path}"
    total = disk_usage(tmp_path).total
    with pytest.raises(CallRejectedError, match=r"it can never fit: needs .*B of disk:.*/later, of which"):
        service.recoverable("big", claims={f"disk:{tmp_path / 'later'}": total + 1})(lambda: None)()
    service.resource(f"disk:{tmp_path}", total=5, unit="B")  # a quota of one's own
    with pytest.raises(CallRejectedError, match=r"needs 6 B of disk:.*, of which there are 5 B in all"):
        service.recoverable("own", claims={f"disk:{tmp_path}": 6})(lambda: None)()


def test_a_resumed_call_claims_again() -> None:
    store, gates = MemoryStore(), [threading.Event(), threading.Event()]
    begun = [threading.Event(), threading.Event()]

    def service_with(number: int) -> tuple[Recovery, Callable[[float], None]]:
        service = Recovery(store=store)
        service.resource("vram", total=10)

        @service.recoverable("load", resumable=True, claims={"vram": lambda size: size})
        def load(size: float) -> None:
            begun[number].set()
            gates[number].wait(5.0)

        return service, load

    service, load = service_with(0)
    with service:
        threading.Thread(target=load, args=(8,), daemon=True).start()
        assert begun[0].wait(5.0)
    service, load = service_with(1)
    with service:
        resumption = service.resume()
        assert begun[1].wait(5.0)
        assert [(one.claimed, one.calls) for one in service.resources()] == [(8.0, 1)]
        late = threading.Thread(target=load, args=(5,), daemon=True)
        late.start()
        while not service.calls.waiting():
            time.sleep(0.001)
        [waiting] = service.calls.waiting()
        assert waiting.until == (f"call {waiting.call} needs 5 of vram; 10 are free, 8 are claimed by 1 call",)
        gates[1].set()
        late.join(5.0)
        assert resumption.wait(5.0)
    gates[0].set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_claims_nothing() -> None:
    service = Recovery()
    service.resource("vram", total=1)

    @service.recoverable("load", claims={"vram": 1}, max_elapsed=5.0)
    def load(forks: bool) -> int:
        if not forks:
            return 0
        if not (child := os.fork()):
            os._exit(load(False))  # the claim of the call around it is the parent's
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert load(True) == 0


def test_amounts_and_names_that_make_no_sense_are_refused() -> None:
    service = Recovery()
    with pytest.raises(TypeError, match="claims must map names of resources to amounts, not 1"):
        service.recoverable("a", claims=1)(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="claims must map names of resources to amounts; '' is no name"):
        service.recoverable("b", claims={"": 1})(lambda: None)
    with pytest.raises(ValueError, match=r"claims\['vram'\] must be at least 0, not -1"):
        service.recoverable("c", claims={"vram": -1})(lambda: None)
    with pytest.raises(ValueError, match="d was not started: it claims 'vram', which the service does not know; decl"):
        service.recoverable("d", claims={"vram": 1})(lambda: None)()
    service.resource("vram", total=1)
    with pytest.raises(TypeError, match=r"e was not started: claims\['vram'\] must be a number, not 'much'"):
        service.recoverable("e", claims={"vram": lambda: "much"})(lambda: None)()
    with pytest.raises(
        ValueError, match="resource 'ram' needs total=, a number, or free=, a function that returns one"
    ):
        service.resource("ram")
    with pytest.raises(TypeError, match="free must be a plain function without arguments, not 1"):
        service.resource("ram", free=1)  # type: ignore[arg-type]
    assert service.recoverable("f", claims={"vram": lambda: None})(lambda: 7)() == 7


def test_a_function_that_does_not_say_what_is_free_lets_no_call_begin(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, enable_logging=False)
    service.resource("vram", free=lambda: [1.0][int(clock() < 5.0)])
    run("asyncio", service, Script(), claims={"vram": 1})
    assert clock() >= 5.0
    assert caplog.messages == ["how much of vram is free is unknown; no call that claims it begins"]
