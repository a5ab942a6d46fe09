"""How far a prompt is, from its messages, and how often that is told."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.comfyui.answers import ExecutionError
from adapters.comfyui.messages import (
    Cached,
    Executed,
    Executing,
    Failed,
    Interrupted,
    Message,
    Started,
    Step,
    Succeeded,
)
from adapters.comfyui.progress import INTERVAL, RunProgress, Told, progress_of, titles_of
from adapters.comfyui.record import PromptProgress, PromptRecord
from adapters.launcher.checkpoint_words import ServerNote
from events.event import Event
from events.operation_events import CheckpointSaved, OperationSucceeded
from tests.adapters.terminal.test_view import of_call

NODES = {"1": "Loader", "2": "KSampler", "3": "VAE", "4": "Save"}
RUN = RunProgress(NODES)


def after(*messages: Message) -> PromptProgress:
    run = RUN
    for message in messages:
        run = run.after(message)
    return run.progress


def executing(node: str | None) -> Executing:
    return Executing("p", node)


def step(node: str, value: float, most: float = 20.0) -> Step:
    return Step("p", node, value, most)


def test_nodes_that_the_server_has_kept_count_as_done() -> None:
    assert after(Started("p"), Cached("p", ("1", "2"))) == PromptProgress(share=0.5)


def test_the_node_that_runs_counts_as_far_as_its_steps() -> None:
    found = after(executing("1"), executing("2"), step("2", 10))
    assert found == PromptProgress(node="KSampler", step=10, steps=20, share=1.5 / 4)


def test_a_node_is_done_when_the_next_one_runs_or_its_output_is_there() -> None:
    assert after(executing("1"), executing("2")).share == 0.25
    assert after(executing("1"), Executed("p", "1", {})) == PromptProgress(share=0.25)


def test_the_steps_of_a_node_are_told_until_another_one_runs() -> None:
    told = after(executing("2"), step("2", 5), Cached("p", ("1",)), executing("2"))
    assert (told.node, told.step, told.steps) == ("KSampler", 5, 20)
    told = after(executing("2"), step("2", 5), executing("3"))
    assert (told.node, told.step, told.steps) == ("VAE", 0, 0)


def test_a_node_that_grows_is_not_done_while_its_parts_run() -> None:
    found = after(executing("2"), executing("2.0.0.7"), step("2.0.0.7", 5), executing("2.0.0.8"))
    assert found == PromptProgress(node="KSampler", share=0.0)
    assert after(executing("2"), executing("2.0.0.7"), executing("3")).share == 0.25
    assert after(executing("2"), Executed("p", "2.0.0.7", {})).share == 0.0


@pytest.mark.parametrize("end", [executing(None), Failed("p", ExecutionError("E")), Interrupted("p")])
def test_a_run_that_does_not_succeed_stays_where_it_was(end: Message) -> None:
    assert after(executing("2"), step("2", 5), end) == after(executing("2"), step("2", 5))


def test_a_run_that_has_succeeded_is_whole() -> None:
    assert after(executing("4"), Succeeded("p")) == PromptProgress(share=1.0)


def test_a_node_is_called_by_its_title_or_its_class() -> None:
    titled = {"class_type": "KSampler", "_meta": {"title": " Draft "}}
    nodes = {"1": titled, "2": {"class_type": "VAE"}, "3": {"class_type": "Save", "_meta": {"title": " "}}}
    assert titles_of(nodes) == {"1": "Draft", "2": "VAE", "3": "Save"}


def test_a_title_is_one_short_line_without_a_key() -> None:
    said = {
        "1": {"_meta": {"title": "a\x1b[2Jb\nkey=sk-abcdef1234567890abcdef" + "x" * 500}},
        "2": {"class_type": "\n" * 99},
    }
    titles = titles_of(said)
    assert titles["1"].isprintable()
    assert len(titles["1"]) <= 60
    assert "sk-abc" not in titles["1"]
    assert "\n" not in titles["2"]


NODE = st.sampled_from([*NODES, "2.0.1", "9"])
FIGURE = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 10.0, 20.0, 1e308])
MESSAGES = st.lists(
    st.builds(Started, st.just("p"))
    | st.builds(Cached, st.just("p"), st.lists(NODE, max_size=4).map(tuple))
    | st.builds(Executing, st.just("p"), NODE | st.none())
    | st.builds(Step, st.just("p"), NODE, FIGURE, FIGURE)
    | st.builds(Executed, st.just("p"), NODE, st.just({}))
)


@example([step("2", 10.0), step("2", 5.0)])
@given(MESSAGES)
def test_the_share_of_a_prompt_never_falls_and_is_at_most_one(messages: list[Message]) -> None:
    run, shares = RUN, [0.0]
    for message in messages:
        run = run.after(message)
        shares.append(run.progress.share)
        assert run.progress.step <= run.progress.steps
    assert shares == sorted(shares)
    assert shares[-1] <= 1.0
    assert run.after(Succeeded("p")).progress.share == 1.0


@given(MESSAGES)
def test_the_share_of_a_prompt_counts_each_node_once(messages: list[Message]) -> None:
    run = RUN
    for message in messages:
        run = run.after(message)
    twice = run
    for node in run.done:
        twice = twice.after(Executed("p", node, {}))
    assert twice.progress.share <= max(run.progress.share, len(run.done & NODES.keys()) / len(NODES) + 0.25)


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 5)), min_size=1), st.integers(6, 7))
def test_progress_is_told_once_a_second_and_the_first_and_the_last_always(
    looks: list[tuple[float, int]], last: int
) -> None:
    told, now, times, said = Told(), 0.0, list[float](), list[int]()
    for wait, number in [*looks, (0.0, last)]:
        now += wait
        progress = PromptProgress(step=number)
        if told.is_due(progress, now, is_last=number == last):
            told = Told(progress, now)
            times.append(now)
            said.append(number)
    assert (said[0], said[-1]) == (looks[0][1], last)
    assert all(later - earlier >= INTERVAL for earlier, later in pairwise(times[:-1]))
    assert all(one != other for one, other in pairwise(said))


def test_what_was_not_due_with_its_message_is_told_at_a_later_look() -> None:
    told = Told(PromptProgress(step=1), 10.0)
    assert [told.is_due(PromptProgress(step=2), at) for at in (10.5, 11.0)] == [False, True]


def saved(data: object) -> Event:
    return of_call(CheckpointSaved, data=msgspec.Raw(msgspec.json.encode(data)))


def test_the_progress_of_a_prompt_is_read_from_its_checkpoints_and_from_nothing_else() -> None:
    progress = PromptProgress(node="KSampler", step=3, steps=20, share=0.4)
    assert progress_of(saved(PromptRecord(queued=1.0, progress=progress))) == progress
    assert progress_of(saved(ServerNote("ready", "http://a:1"))) is None
    assert progress_of(saved([])) is None
    assert progress_of(of_call(OperationSucceeded)) is None
