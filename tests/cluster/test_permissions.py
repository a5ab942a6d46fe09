"""Each role does on a real server what it must, and is refused the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client
from nats.errors import Error, TimeoutError  # noqa: A004 - nats-py calls it so
from nats.js.errors import NotFoundError

from adapters.nats.permissions import Role, accounts, inbox, password_variable
from tests.cluster.servers import NatsServer
from tests.cluster.streams import Part, commit, new_call, scheduled, set_up, take

pytestmark = pytest.mark.anyio

P = "cluster"
USERS: dict[str, Role] = {
    "admin": "setup",
    "gpu-a": "worker",
    "gpu-b": "worker",
    "shop": "submitter",
    "desk": "steerer",
    "screen": "viewer",
}


class Connection:
    """A client of one user, and what the server refused it."""

    def __init__(self) -> None:
        self.client = Client()
        self.refused: list[str] = []

    async def noted(self, error: Exception) -> None:
        self.refused.append(str(error))

    async def is_refused(self, subject: str, data: bytes = b"", reply: str = "") -> bool:
        """Whether the server refuses what is published."""
        self.refused.clear()
        await self.client.publish(subject, data, reply=reply)
        return await self._was_refused(f'publish to "{subject.lower()}"')

    async def is_deaf(self, subject: str) -> bool:
        """Whether the server refuses to let it listen."""
        self.refused.clear()
        subscription = await self.client.subscribe(subject)
        is_deaf = await self._was_refused(f'subscription to "{subject.lower()}"')
        await subscription.unsubscribe()
        return is_deaf

    async def _was_refused(self, what: str) -> bool:
        """Whether the server says so; it may say it after the next answer."""
        for _ in range(20):
            await self.client.flush()
            if any(what in one for one in self.refused):
                return True
            await asyncio.sleep(0.005)
        return False


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that admits the users alone."""
    environ = {password_variable(user): f"pw-{user}" for user in USERS}
    with NatsServer(tmp_path_factory.mktemp("nats"), more=accounts(USERS, P), environ=environ) as server:
        asyncio.run(filled(server))
        yield server


async def filled(server: NatsServer) -> None:
    async with connected(server, "admin") as admin:
        await set_up(admin.client, P)


@asynccontextmanager
async def connected(server: NatsServer, user: str) -> AsyncIterator[Connection]:
    it = Connection()
    await it.client.connect(
        server.url,
        user=user,
        password=f"pw-{user}",
        inbox_prefix=inbox(user).encode(),
        error_cb=it.noted,
        allow_reconnect=False,
    )
    try:
        yield it
    finally:
        await it.client.close()


async def test_a_call_goes_from_the_submitter_through_a_worker_to_its_result(closed_server: NatsServer, prefix: str):
    key = prefix
    async with connected(closed_server, "shop") as shop, connected(closed_server, "gpu-a") as gpu:
        seen = await shop.client.subscribe(f"{P}-seen.call.render.{key}")
        await shop.client.flush()
        assert (await commit(shop.client, *new_call(P, key)))["count"] == 3
        assert (await seen.next_msg(5)).data == b"{}"
        taken = await take(gpu.client, P)
        await gpu.client.request(taken.reply, b"+WPI")
        ends = [Part(f"{P}.result.render.{key}", b"42", {"Nats-TTL": "1h"}), Part(f"{P}.call.render.{key}", b"over")]
        assert (await commit(gpu.client, *ends))["count"] == 2
        await gpu.client.request(taken.reply, b"+ACK")
        assert (await seen.next_msg(5)).data == b"over"
        found = await shop.client.request(f"$JS.API.DIRECT.GET.{P}.{P}.result.render.{key}")
        assert found.data == b"42"
        assert (shop.refused, gpu.refused) == ([], [])


async def test_a_worker_has_all_that_leases_schedules_and_buckets_need(closed_server: NatsServer, prefix: str):
    async with connected(closed_server, "gpu-a") as gpu:
        assert "seq" in await commit(gpu.client, Part(f"{P}.call.render.{prefix}", b"waits"), scheduled(P, prefix, 0.1))
        taken = await take(gpu.client, P)
        await gpu.client.request(taken.reply, b"+ACK")
        shared = await gpu.client.jetstream().key_value(f"{P}-shared")
        watched = await shared.watch(prefix)
        await shared.put(prefix, b"open")
        assert [one async for one in _first(watched, 1)] == [b"open"]
        await watched.stop()
        await gpu.client.publish(f"{P}-events.gpu-a.AttemptFailed.render.{prefix}", b"{}")
        await gpu.client.publish(f"$KV.{P}-nodes.gpu-a", b"{}")
        await gpu.client.flush()
        assert gpu.refused == []


async def _first(watched: object, count: int) -> AsyncIterator[bytes]:
    """The values of the next *count* changes."""
    while count:
        if (entry := await watched.updates(5)) is not None:  # type: ignore[attr-defined]
            yield entry.value
            count -= 1


async def test_a_steerer_changes_calls_and_circuits(closed_server: NatsServer, prefix: str):
    async with connected(closed_server, "desk") as desk:
        assert (await commit(desk.client, *new_call(P, prefix), Part(f"{P}.saved.render.{prefix}")))["count"] == 4
        await (await desk.client.jetstream().key_value(f"{P}-shared")).put("render", b"forced open")
        assert desk.refused == []
        assert await desk.is_refused(f"$KV.{P}-nodes.gpu-a")
        assert await desk.is_refused(f"$JS.API.CONSUMER.MSG.NEXT.{P}.work")
        assert await desk.is_refused(f"$JS.ACK.{P}.work.1.1.1.1.1")


async def test_a_viewer_sees_calls_events_and_buckets(closed_server: NatsServer, prefix: str):
    async with connected(closed_server, "screen") as screen, connected(closed_server, "gpu-a") as gpu:
        subjects = f"{P}-seen.call.>", f"{P}-events.>", f"$KV.{P}-shared.>", f"$KV.{P}-nodes.>"
        subscriptions = [await screen.client.subscribe(subject) for subject in subjects]
        await screen.client.flush()
        written = (
            f"{P}.call.render.{prefix}",
            f"{P}-events.gpu-a.X.render.{prefix}",
            f"$KV.{P}-shared.a",
            f"$KV.{P}-nodes.b",
        )
        for subject in written:
            await gpu.client.request(subject, b"new")
        assert [(await one.next_msg(5)).data for one in subscriptions] == [b"new"] * 4
        for stream, subject in zip((P, f"{P}-events", f"KV_{P}-shared", f"KV_{P}-nodes"), written, strict=True):
            assert (await screen.client.request(f"$JS.API.DIRECT.GET.{stream}.{subject}")).data == b"new"
        assert screen.refused == []


async def test_a_viewer_pages_through_all_calls(closed_server: NatsServer, prefix: str):
    async with connected(closed_server, "screen") as screen, connected(closed_server, "gpu-a") as gpu:
        for number in range(5):
            await gpu.client.request(f"{P}.call.{prefix}.{number}", b"new")
        answers = await screen.client.subscribe(answered := screen.client.new_inbox())
        wanted = msgspec.json.encode({"seq": 1, "next_by_subj": f"{P}.call.{prefix}.>", "batch": 100})
        await screen.client.publish(f"$JS.API.DIRECT.GET.{P}", wanted, reply=answered)
        found = [await answers.next_msg(5) for _ in range(6)]
        assert [one.data for one in found] == [b"new"] * 5 + [b""]
        assert (found[-1].headers or {}).get("Status") == "204"


async def test_a_viewer_writes_nothing_not_even_by_the_reply_to_a_question(closed_server: NatsServer, prefix: str):
    planted = f"{P}.call.render.{prefix}"
    async with connected(closed_server, "screen") as screen, connected(closed_server, "gpu-a") as gpu:
        await gpu.client.request(f"{P}.call.render.other", b"new")
        assert await screen.is_refused(planted)
        assert await screen.is_refused(f"$KV.{P}-shared.a")
        assert not await screen.is_refused(f"$JS.API.DIRECT.GET.{P}.{P}.call.render.other", reply=planted)
        assert await screen.is_refused(f"$JS.API.STREAM.INFO.{P}", reply=planted)
        await asyncio.sleep(0.3)  # nothing tells that nothing comes
        with pytest.raises(NotFoundError):
            await gpu.client.jetstream().get_msg(P, subject=planted, direct=True)


async def test_in_one_account_the_reply_to_a_question_does_write(closed_server: NatsServer, prefix: str):
    planted = f"{P}.result.render.{prefix}"  # why viewers have an account of their own, and submitters are trusted
    async with connected(closed_server, "shop") as shop:
        await shop.client.request(f"{P}.call.render.{prefix}", b"new")
        assert not await shop.is_refused(f"$JS.API.DIRECT.GET.{P}.{P}.call.render.{prefix}", reply=planted)
        assert (await shop.client.jetstream().get_msg(P, subject=planted)).data == b"new"


REFUSED: dict[str, list[str]] = {
    "shop": [f"{P}.result.render.k", f"$KV.{P}-shared.a", f"$KV.{P}-nodes.a"],
    "screen": [f"{P}.call.a.b", f"{P}-events.a", f"$KV.{P}-shared.a", f"$JS.API.CONSUMER.CREATE.{P}.x"],
    "desk": [f"$KV.{P}-nodes.a", f"$JS.API.CONSUMER.CREATE.{P}.x"],
    "gpu-a": ["another.subject"],
}
MANAGED = ["STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE"]


@pytest.mark.parametrize("user", REFUSED)
async def test_a_role_is_refused_the_work_of_others(closed_server: NatsServer, user: str):
    async with connected(closed_server, user) as it:
        for subject in [*REFUSED[user], f"{P}-seen.call.render.k", *(f"$JS.API.{verb}.{P}" for verb in MANAGED)]:
            assert await it.is_refused(subject), subject


@pytest.mark.parametrize("user", USERS)
async def test_no_user_listens_to_the_inbox_of_another(closed_server: NatsServer, user: str):
    async with connected(closed_server, user) as it:
        other = "gpu-b" if user == "gpu-a" else "gpu-a"
        for subject in (">", "_INBOX.>", f"{inbox(other)}.>", f"{P}.>", f"{P}-seen.>", "$JS.>"):
            assert await it.is_deaf(subject), subject
        assert not await it.is_deaf(f"{inbox(user)}.x")


@pytest.mark.parametrize(("user", "password"), [("gpu-a", "pw-gpu-b"), ("nobody", "pw-gpu-a"), (None, None)])
async def test_a_wrong_password_and_no_user_are_refused(
    closed_server: NatsServer, user: str | None, password: str | None
):
    assert not await admits(closed_server, user, password)


async def admits(server: NatsServer, user: str | None, password: str | None) -> bool:
    client = Client()
    try:
        await client.connect(
            server.url, user=user, password=password, allow_reconnect=False, error_cb=Connection().noted
        )
    except Error as refusal:
        if "Authorization Violation" not in str(refusal):
            raise
        return False
    finally:
        await client.close()
    return True


async def test_a_bcrypt_hash_may_stand_for_a_password(tmp_path: Path):
    hashed = "$2a$04$jPx4zsUq1zTYB0G97aDpX.2uzldcxKeUy8SVA8xpPGY/4htqQL2eu"  # of "secret", at the least cost
    with NatsServer(tmp_path, more=accounts({"gpu-a": "worker"}, P), environ={"GPU_A_PASSWORD": hashed}) as server:
        assert await admits(server, "gpu-a", "secret")
        assert not await admits(server, "gpu-a", hashed)


async def test_a_setup_user_may_change_the_streams(closed_server: NatsServer):
    async with connected(closed_server, "admin") as admin:
        with pytest.raises(TimeoutError):
            await admin.client.request("another.subject", timeout=0.2)
        assert admin.refused
        info = await admin.client.jetstream().stream_info(P)
        await admin.client.jetstream().update_stream(info.config)
