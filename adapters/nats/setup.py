"""The streams of a cluster: made where they are missing, and checked where they are not."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import msgspec

from adapters.nats.errors import ClusterError, ForbiddenError, NotSentError, UnreachableError
from adapters.nats.link import Link

OLDEST = "2.12"
"""The oldest version of the servers that can do what a cluster needs."""

EVENTS_KEPT = 1_000_000
"""Events that the servers keep."""

EVENTS_SIZE = 256 * 1024 * 1024
"""Bytes of the events that the servers keep."""

SHARED_SIZE = 64 * 1024 * 1024
"""Bytes of what nodes know together; beyond, the servers refuse new entries."""

Config: TypeAlias = dict[str, Any]
"""The settings of a stream, as the servers write them."""

FORBIDDEN: Config = {"description": "this user may not do that"}
"""The refusal of what this user may not ask."""

NOT_FOUND, NO_PEERS = 10059, (10005, 10074)


def streams(prefix: str) -> list[Config]:
    """The streams of the cluster with *prefix*: its calls, its events, and its two buckets of keys and values."""
    calls = {
        "name": prefix,
        "subjects": [f"{prefix}.>"],
        "retention": "workqueue",
        "max_msgs_per_subject": 1,
        "discard": "old",
        "storage": "file",
        "allow_atomic": True,
        "allow_msg_schedules": True,
        "allow_msg_ttl": True,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "republish": {"src": f"{prefix}.call.>", "dest": f"{prefix}-seen.call.>"},
    }
    events = {
        "name": f"{prefix}-events",
        "subjects": [f"{prefix}-events.>"],
        "retention": "limits",
        "max_msgs": EVENTS_KEPT,
        "max_bytes": EVENTS_SIZE,
        "discard": "old",
        "storage": "file",
        "allow_direct": True,
    }
    shared = {
        **bucket(f"{prefix}-shared"),
        "max_bytes": SHARED_SIZE,
        "republish": {"src": f"$KV.{prefix}-shared.>", "dest": f"{prefix}-seen.shared.>"},
    }
    return [calls, events, shared, bucket(f"{prefix}-nodes")]


def bucket(name: str) -> Config:
    """The stream of a bucket of keys and values, as every client of the servers knows it."""
    return {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "retention": "limits",
        "max_msgs_per_subject": 1,
        "discard": "new",
        "storage": "file",
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
    }


def check_version(version: str) -> None:
    """Raise ClusterError if a server of that *version* is too old."""
    numbers = [int(part) if part.isdecimal() else 0 for part in version.partition("-")[0].split(".")]
    if numbers[:2] < [int(part) for part in OLDEST.split(".")]:
        raise ClusterError(
            f"nats-server {version or 'of an unknown version'} is too old for a cluster; it needs {OLDEST} or newer: "
            "update the servers"
        )


def differences(found: Config, wanted: Config) -> Config:
    """The settings of a stream that are not as *wanted*: what they must become."""
    return {name: value for name, value in wanted.items() if found.get(name) != value}


async def set_up(link: Link, prefix: str, replicas: int | None = None) -> bool:
    """Make the streams of the cluster, or check those that are there. Returns False for a user who may not even ask.

    Args:
        link: The connection.
        prefix: The first token of the cluster's subjects.
        replicas: How many servers keep each message; None: as it is, or as the servers allow.

    Raises:
        ForbiddenError: This user may not listen to answers.
        ClusterError: The servers are too old, or the streams do not fit and this user may not change them.
        UnreachableError: No server answers.
    """
    info: Config = link.connection._server_info  # the only place where it tells of a cluster
    check_version(str(info.get("version", "")))
    made = replicas or (3 if info.get("cluster") else 1)
    try:
        return all(await asyncio.gather(*(_set_up(link, wanted, replicas, made) for wanted in streams(prefix))))
    except UnreachableError:  # once more: an election of a leader takes longer than the servers have for an answer
        return all(await asyncio.gather(*(_set_up(link, wanted, replicas, made) for wanted in streams(prefix))))


async def _set_up(link: Link, wanted: Config, replicas: int | None, made: int) -> bool:
    name = wanted["name"]
    found, refusal = await _asked(link, "INFO", name)
    if found is None:
        if refusal == FORBIDDEN:
            return False
        if refusal.get("err_code") != NOT_FOUND:
            raise _refused(f"the stream {name} cannot be looked at", refusal)
        found, refusal = await _asked(link, "CREATE", name, {**wanted, "num_replicas": made})
        if found is None and refusal.get("err_code") in NO_PEERS and replicas is None:
            found, refusal = await _asked(link, "CREATE", name, {**wanted, "num_replicas": 1})
    if found is None:
        raise _refused(f"the stream {name} cannot be made", refusal)
    changed = differences(found["config"], wanted if replicas is None else {**wanted, "num_replicas": replicas})
    if changed:
        updated, refusal = await _asked(link, "UPDATE", name, {**found["config"], **changed})
        if updated is None:
            listed = ", ".join(f"{one} must be {value!r}" for one, value in changed.items())
            raise _refused(f"the stream {name} does not fit ({listed}) and cannot be changed", refusal)
    return True


async def _asked(link: Link, verb: str, name: str, config: Config | None = None) -> tuple[Config | None, Config]:
    """What the servers tell of a stream; or why they refuse."""
    asked = msgspec.json.encode(config) if config else b""
    try:
        answer: Config = msgspec.json.decode((await link.ask(f"$JS.API.STREAM.{verb}.{name}", asked)).data)
    except ForbiddenError:
        if link.is_deaf:
            raise
        return None, FORBIDDEN
    except NotSentError as error:
        raise UnreachableError(f"{error}: start the servers with JetStream (nats-server -js)") from error
    return (None, answer["error"]) if "error" in answer else (answer, {})


def _refused(what: str, refusal: Config) -> ClusterError:
    why = refusal.get("description", "no reason given")
    if refusal.get("code") == 503:
        if refusal.get("err_code") in (10039, 10076):
            return ClusterError(
                f"{what}: {why}; start the servers with JetStream (nats-server -js), or enable it for the account"
            )
        return UnreachableError(f"{what}: {why}")
    return ClusterError(f"{what}: {why}; connect once as a user of the role setup, or make it fit with the nats tool")
