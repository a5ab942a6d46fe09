"""Laws of the prompts of a ComfyUI server: for every order in which servers and launchers run, die and come back."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from adapters.comfyui.reconcile import UNKNOWN_AFTER
from adapters.comfyui.turns import InServer, Waiting, in_order, may_post, queued_at
from tests.properties.comfyui_world import World

EXAMPLES = settings(max_examples=max(200, settings().max_examples))

TOLD = st.booleans().map(lambda told: {"is_told": told})
OURS = st.one_of(
    st.just(("ask", {})),
    st.just(("look", {})),
    st.just(("run", {})),
    st.tuples(st.just("pass"), st.integers(0, 30).map(lambda seconds: {"seconds": float(seconds)})),
    st.tuples(
        st.just("post"),
        st.fixed_dictionaries(
            {"fate": st.sampled_from(["answered", "answered", "unanswered", "late", "gone"]), "delay": st.floats(0, 9)}
        ),
    ),
    st.tuples(st.just("write"), TOLD),
    st.tuples(st.just("finish"), st.fixed_dictionaries({"is_kept": st.booleans(), "is_told": st.booleans()})),
    st.tuples(st.just("die"), TOLD),
    st.just(("start", {})),
    st.tuples(st.just("stop"), st.booleans().map(lambda signalled: {"is_signalled": signalled})),
)
OTHERS = st.one_of(
    st.just(("finish", {"succeeds": False})),
    st.just(("restart_launcher", {})),
    st.just(("start_another", {})),
    st.just(("add_foreign", {})),
    st.just(("clear_history", {})),
    st.just(("interrupt", {})),
    st.just(("cut", {})),
    st.tuples(st.just("cancel"), st.integers(0, 9).map(lambda which: {"which": which})),
)
ASKED: list[Any] = [("ask", {})] * 3
STEPS = st.lists(OURS | OURS | OTHERS, min_size=20, max_size=60).map(lambda steps: ASKED + steps)


LATE: list[Any] = [("ask", {}), ("post", {"fate": "late", "delay": 5.0}), ("die", {}), ("start", {}), ("look", {})]
LOST: list[Any] = [("ask", {}), ("post", {"fate": "answered"}), ("run", {}), ("die", {}), ("start", {}), ("look", {})]
GONE: list[Any] = [("ask", {}), ("post", {"fate": "answered"}), ("run", {}), ("finish", {}), ("clear_history", {})]
NEXT: list[Any] = [
    ("ask", {}), ("post", {"fate": "late", "delay": 1.0}), ("die", {}), ("start", {}),
    ("pass", {"seconds": 1.0}), ("look", {}), ("run", {}), ("interrupt", {}), ("clear_history", {}), ("look", {}),
]  # fmt: skip


def happen(world: World, steps: list[Any]) -> None:
    for what, how in steps:
        if what == "pass":
            world.now += how["seconds"]
        else:
            getattr(world, what)(**how)
        world.deliver()


def calm(world: World) -> None:
    """Nothing goes wrong any more, for as long as everything needs."""
    for _ in range(4 * len(world.prompts) + 4):
        world.start()
        world.post("answered")
        for _ in range(3):
            world.run()
            world.look()
            world.finish()
        world.now += UNKNOWN_AFTER / 2
        world.deliver()
        world.look()


@EXAMPLES
@example(LATE, True, True)
@example(LOST, True, True)
@example(NEXT, True, True)
@given(STEPS, st.booleans(), st.booleans())
def test_no_run_is_called_over_while_it_lives_and_none_done_without_its_files(
    steps: list[Any], is_own: bool, has_numbers: bool
):
    world = World(is_own=is_own, has_numbers=has_numbers)  # it asserts all of this at each step
    happen(world, steps)
    calm(world)
    for one in world.prompts.values():
        event(f"{one.end}")


@EXAMPLES
@example(GONE, True)
@given(STEPS, st.booleans())
def test_every_prompt_ends_or_asks(steps: list[Any], is_own: bool):
    world = World(is_own=is_own)
    happen(world, steps)
    calm(world)
    assert all(one.end for one in world.prompts.values())


RUNS: list[Any] = [("post", {"fate": "answered"}), ("run", {}), ("look", {})]
ENDS: list[Any] = [("finish", {}), ("look", {}), ("run", {}), ("look", {})]
ONE = st.one_of(
    st.sampled_from([[("ask", {})], RUNS, [("restart_launcher", {})]]),
    st.sampled_from([RUNS + ENDS, ENDS, ENDS + ENDS]),
    st.sampled_from(["die", "die", "stop"]).map(lambda what: [*RUNS, (what, {}), ("start", {}), ("look", {})]),
)
SIMPLE = st.lists(ONE, min_size=5, max_size=20).map(lambda parts: ASKED + [step for part in parts for step in part])
"""The launcher looks whenever something has changed, and there are no other clients: it knows all."""


@EXAMPLES
@given(STEPS | SIMPLE)
def test_a_prompt_that_was_in_one_death_alone_is_never_quarantined(steps: list[Any]):
    world = World(is_own=True)
    happen(world, steps)
    calm(world)
    for one in world.prompts.values():
        assert one.end != "quarantined" or world.doubts.get(one.key, 0) >= 2


@EXAMPLES
@given(SIMPLE)
def test_a_prompt_is_quarantined_by_two_deaths_while_it_executes_and_by_no_others(steps: list[Any]):
    world = World(is_own=True)
    happen(world, steps)
    for one in world.prompts.values():
        assert (one.end == "quarantined") == (one.end != "done" and world.guilt.get(one.key, 0) >= 2)


def suspect(prompts: list[Waiting], kinds: set[int]) -> st.SearchStrategy[list[Waiting]]:
    """The *prompts*, trusted (0), suspected (1), or both."""
    chosen = st.lists(st.sampled_from(sorted(kinds)), min_size=len(prompts), max_size=len(prompts))
    return chosen.map(
        lambda suspected: [
            msgspec.structs.replace(one, is_suspected=bool(is_so))
            for one, is_so in zip(prompts, suspected, strict=True)
        ]
    )


PROMPTS = st.lists(
    st.builds(Waiting, st.uuids().map(str), st.integers(0, 5).map(float), st.sampled_from(["high", "normal", "low"])),
    unique_by=lambda one: one.id,
    max_size=8,
).flatmap(lambda prompts: st.sampled_from([{0}, {1}, {0, 1}]).flatmap(lambda kinds: suspect(prompts, kinds)))
SERVED = st.lists(
    st.builds(InServer, st.sampled_from(["", "a", "b"]), st.sampled_from([False] * 4 + [True])), max_size=3
)


@EXAMPLES
@given(PROMPTS, SERVED, st.integers(1, 4), st.booleans())
def test_a_suspected_prompt_runs_alone_and_after_all_others(
    waiting: list[Waiting], served: list[InServer], window: int, is_paused: bool
):
    chosen = may_post(waiting, served, window, is_paused)
    suspected = {one.id for one in waiting if one.is_suspected}
    if suspected.intersection(chosen):
        assert len(chosen) == 1
        assert not served
        assert len(suspected) == len(waiting)
    if any(one.is_suspected for one in served):
        assert not chosen


@EXAMPLES
@given(PROMPTS, SERVED, st.integers(1, 4), st.booleans())
def test_a_window_is_filled_in_order_and_never_beyond(
    waiting: list[Waiting], served: list[InServer], window: int, is_paused: bool
):
    chosen = may_post(waiting, served, window, is_paused)
    ours = sum(one.id != "" for one in served)
    assert list(chosen) == [one.id for one in in_order(waiting)][: len(chosen)]
    assert len(chosen) <= max(0, window - ours)
    if is_paused:
        assert not chosen
    elif not any(one.is_suspected for one in (*waiting, *served)):
        assert len(chosen) == max(0, min(window - ours, len(waiting)))
    elif waiting and not served:
        assert chosen


@given(st.lists(st.floats(0, 1e10), max_size=20))
def test_prompts_keep_their_order_though_the_clock_jumps(clock: list[float]):
    latest, order = 0.0, []
    for number, now in enumerate(clock):
        latest = queued_at(now, latest)
        order.append(Waiting(str(number), latest))
    assert in_order(reversed(order)) == order
