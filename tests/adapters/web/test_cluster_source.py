"""The page of a cluster: its nodes, its calls with what happens next, and their buttons."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from adapters.nats import transitions
from adapters.nats.errors import UnreachableError
from adapters.web import cluster_source
from adapters.web.cluster_source import ClusterSource
from tests.adapters.cli.snapshots import zone
from tests.adapters.nats.practice_cluster import ADDRESS, NOW, URL, Practice, practice_cluster


@pytest.fixture
def practice() -> Iterator[Practice]:
    with practice_cluster() as one, zone("UTC"):
        yield one


@pytest.fixture
def source(practice: Practice) -> Iterator[ClusterSource]:
    with ClusterSource(ADDRESS, every=0.0) as one:
        yield one


def test_the_page_shows_nodes_and_calls(source: ClusterSource) -> None:
    state = source.read()
    assert (state.at, state.source, state.is_live) == (NOW, URL, True)
    assert state.nodes == {
        "gpu-a": "last seen 11:55:00; render, upscale; launcher-recovery 0.1.0",
        "gpu-b": "seen 12:00:58; runs 1 of 2; render; launcher-recovery 0.1.0",
        "gpu-c": "stopped 11:59:30; render; launcher-recovery 0.1.0",
    }
    bound, running, asks = (state.calls[f"render/{name}"] for name in ("bound", "running", "asks"))
    assert bound.next == "waits for gpu-a, last seen 11:55:00"
    assert (running.note, running.actions) == ("on gpu-b", ("cancel",))
    assert state.calls["render/orphan"].note == "on gpu-a, last seen 11:55:00"
    assert (asks.waits_for, asks.actions) == ("your decision", ("retry", "give up", "cancel"))
    assert state.calls["render/waiting"].due is not None
    assert "program" not in state.calls["render/gave-up"].remedy


def test_a_button_steers_the_call(practice: Practice, source: ClusterSource) -> None:
    assert source.act("retry", "render/waiting").is_done
    assert source.read().calls["render/waiting"].state == "queued"
    assert anyio.run(practice.record, "render/waiting").state == "queued"
    refused = source.act("retry", "render/done")
    assert (refused.is_done, refused.said) == (False, "it is over: succeeded")
    assert not source.act("retry", "render/wait").is_done, "a button names a whole id"
    with pytest.raises(ValueError, match="for the calls of a journal"):
        source.act("again", "render/done")


def test_servers_that_are_gone_leave_the_page_as_it_was(practice: Practice, source: ClusterSource) -> None:
    before = source.read()
    practice.engine.is_cut = True
    after = source.read()
    assert after.calls == before.calls
    assert after.notes[0] == cluster_source.NOT_READ
    practice.engine.is_cut = False
    assert cluster_source.NOT_READ not in source.read().notes


def test_the_servers_are_asked_every_two_seconds_at_most(practice: Practice) -> None:
    with ClusterSource(ADDRESS) as source:
        before = source.read()
        call = "render/queued"
        anyio.run(practice.change, call, lambda stored: transitions.paused(stored.record, practice.now))
        assert source.read() is before
        source.act("unpause", call)
        assert source.read() is not before, "what a person did shows at once"


def test_without_a_server_there_is_no_page(practice: Practice) -> None:
    practice.servers.is_reachable = False
    with pytest.raises(UnreachableError), ClusterSource(ADDRESS):
        pass


def test_without_a_node_the_page_says_that_nothing_goes_on(practice: Practice, source: ClusterSource) -> None:
    practice.now += 3600.0
    state = source.read()
    assert not state.is_live
    assert cluster_source.NO_NODE in state.notes
