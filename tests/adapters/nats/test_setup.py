"""What the servers must be, and be set to."""

from __future__ import annotations

import pytest

from adapters.nats.errors import ClusterError
from adapters.nats.setup import check_version, differences, streams


@pytest.mark.parametrize("version", ["2.12.0", "2.12.0-RC.3", "2.15.1", "3.0.0", "2.100.0"])
def test_a_server_of_2_12_or_newer_will_do(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["2.11.9", "2.9.25", "1.99.0", ""])
def test_an_older_server_is_refused_with_its_version(version: str) -> None:
    with pytest.raises(ClusterError, match=rf"nats-server {version or 'of an unknown version'} is too old.*2\.12"):
        check_version(version)


def test_a_stream_as_the_servers_tell_of_it_has_no_differences() -> None:
    wanted = streams("p")[0]
    assert differences({**wanted, "max_age": 0, "metadata": {"_nats.ver": "2.15.1"}}, wanted) == {}


def test_what_differs_is_listed_with_what_it_must_become() -> None:
    wanted = streams("p")[0]
    assert differences({**wanted, "retention": "limits", "allow_atomic": False}, wanted) == {
        "retention": "workqueue",
        "allow_atomic": True,
    }


def test_what_nodes_know_together_is_told_where_they_listen() -> None:
    shared = next(one for one in streams("p") if one["name"] == "KV_p-shared")
    assert shared["republish"] == {"src": "$KV.p-shared.>", "dest": "p-seen.shared.>"}


def test_a_cluster_with_another_prefix_has_other_streams() -> None:
    assert not {one["name"] for one in streams("p")} & {one["name"] for one in streams("q")}
