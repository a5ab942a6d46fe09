"""The streams of a cluster as raw calls of nats-py make them, for tests of the servers themselves."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, KeyValueConfig, RePublish, RetentionPolicy, StreamConfig


class Part(msgspec.Struct, frozen=True):
    """One message of an atomic batch."""

    subject: str
    data: bytes = b""
    headers: dict[str, str] = {}


def calls_stream(prefix: str, replicas: int = 1) -> StreamConfig:
    """The stream of the calls: one message of each subject, a queue, schedules, batches."""
    return StreamConfig(
        name=prefix,
        subjects=[f"{prefix}.>"],
        num_replicas=replicas,
        retention=RetentionPolicy.WORK_QUEUE,
        max_msgs_per_subject=1,
        allow_atomic=True,
        allow_msg_schedules=True,
        allow_msg_ttl=True,
        allow_direct=True,
        allow_rollup_hdrs=True,
        republish=RePublish(src=f"{prefix}.>", dest=f"{prefix}-seen.>"),
    )


async def set_up(client: Client, prefix: str, replicas: int = 1) -> None:
    """Make the streams, the buckets and one consumer of the queue, ``work``."""
    js = client.jetstream()
    await js.add_stream(calls_stream(prefix, replicas))
    await js.add_stream(
        StreamConfig(
            name=f"{prefix}-events",
            subjects=[f"{prefix}-events.>"],
            num_replicas=replicas,
            max_msgs=1000,
            allow_direct=True,
        )
    )
    for bucket in ("shared", "nodes"):
        await js.create_key_value(KeyValueConfig(bucket=f"{prefix}-{bucket}", replicas=replicas, direct=True))
    await add_consumer(client, prefix)


async def add_consumer(client: Client, prefix: str, ack_wait: float = 5.0) -> None:
    """A consumer of all that waits."""
    config = ConsumerConfig(
        durable_name="work", filter_subject=f"{prefix}.queue.>", ack_policy=AckPolicy.EXPLICIT, ack_wait=ack_wait
    )
    await client.jetstream().add_consumer(prefix, config)


async def commit(client: Client, *parts: Part, timeout: float = 5.0) -> dict[str, Any]:
    """Write *parts* at once; returns what the server answers to the last."""
    batch = secrets.token_hex(8)
    for number, part in enumerate(parts, 1):
        headers = {**part.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        if number < len(parts):
            await client.publish(part.subject, part.data, headers=headers)
    headers["Nats-Batch-Commit"] = "1"
    answer = await client.request(parts[-1].subject, parts[-1].data, timeout=timeout, headers=headers)
    found: dict[str, Any] = msgspec.json.decode(answer.data)
    return found


def new_call(prefix: str, key: str, size: int = 2) -> list[Part]:
    """What a submission writes: arguments of *size* bytes, the record and the queue message."""
    return [
        Part(f"{prefix}.args.render.{key}", b"a" * size),
        Part(f"{prefix}.call.render.{key}", b"{}", {"Nats-Expected-Last-Subject-Sequence": "0"}),
        Part(f"{prefix}.queue.normal.=.render.{key}", b"1"),
    ]


def scheduled(prefix: str, key: str, seconds: float) -> Part:
    """A queue message that comes in so many seconds."""
    due = datetime.now(UTC) + timedelta(seconds=seconds)
    at = {"Nats-Schedule": f"@at {due:%Y-%m-%dT%H:%M:%S.%fZ}"}
    return Part(
        f"{prefix}.due.render.{key}", b"2", {**at, "Nats-Schedule-Target": f"{prefix}.queue.normal.=.render.{key}"}
    )


async def take(client: Client, prefix: str, timeout: float = 5.0) -> Any:
    """The next queue message, with its reply subject."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, max_msgs=1)
    wanted = msgspec.json.encode({"batch": 1, "expires": int(timeout * 1e9)})
    await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{prefix}.work", wanted, reply=inbox)
    return await subscription.next_msg(timeout)
