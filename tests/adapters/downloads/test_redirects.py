"""Redirects: each hop gets what is for its origin, and nothing of another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.demo.server import Answer, FileServer, Hosted
from adapters.downloads import RefusedError, UnusableResponseError, WrongContentError, download
from tests.adapters.downloads.targets import CONTENT

pytestmark = pytest.mark.anyio

CREDENTIALS = ("authorization", "cookie", "x-key", "proxy-authorization")


class Hops:
    """Servers that redirect one to the next, *path* by path; the last one has the file."""

    def __init__(self, *hops: str) -> None:
        """Make a server for each different letter of *hops*: "AAB" redirects within A first, and then to B."""
        self.servers = {letter: FileServer({}) for letter in set(hops)}
        self.urls = [f"{self.servers[letter].url}/{at}" for at, letter in enumerate(hops)]
        for at, letter in enumerate(hops[:-1]):
            away = Answer(302, {"Location": self.urls[at + 1], "Set-Cookie": f"of{letter}=1; Path=/"})
            self.servers[letter].files[f"/{at}"] = Hosted(b"", faults=[away] * 9)
        self.servers[hops[-1]].files[f"/{len(hops) - 1}"] = Hosted(CONTENT)

    async def credentials(
        self, place: Path, *, url: str | None = None, tokens: Mapping[str, str] | None = None, **client: Any
    ) -> list[dict[str, str]]:
        """What each hop got of credentials. *tokens* are the hook's, by the start of a URL."""
        asked: list[dict[str, str]] = []

        async def note(request: httpx2.Request) -> None:
            asked.append({name: request.headers[name] for name in CREDENTIALS if name in request.headers})

        def headers(url: str) -> Mapping[str, str]:
            return next(({"X-Key": value} for start, value in (tokens or {}).items() if url.startswith(start)), {})

        with ExitStack() as stack:
            for server in self.servers.values():
                stack.enter_context(server)
            hooks = {"request": [note]}
            async with httpx2.AsyncClient(verify=False, follow_redirects=True, event_hooks=hooks, **client) as made:
                await download(made, url or self.urls[0], place / "model.bin", headers=headers)
        assert (place / "model.bin").read_bytes() == CONTENT
        return asked


async def test_each_hop_gets_the_token_that_is_for_it(tmp_path: Path) -> None:
    hops = Hops(*"AABA")
    tokens = {hops.servers[letter].url: letter for letter in "AB"}
    assert [each["x-key"] for each in await hops.credentials(tmp_path, tokens=tokens)] == [*"AABA"]


async def test_a_token_does_not_go_on_to_a_hop_that_the_hook_has_none_for(tmp_path: Path) -> None:
    hops = Hops(*"AAB")
    asked = await hops.credentials(tmp_path, tokens={hops.urls[0]: "first"})
    assert [each.get("x-key") for each in asked] == ["first", None, None]


async def test_no_other_origin_gets_the_clients_credentials(tmp_path: Path) -> None:
    given = {"headers": {"Authorization": "Bearer t", "Proxy-Authorization": "p"}, "cookies": {"session": "s"}}
    asked = await Hops(*"AABBA").credentials(tmp_path, **given)
    assert [each.get("authorization") for each in asked] == ["Bearer t", "Bearer t", None, None, "Bearer t"]
    assert [sorted(each) for each in asked[2:4]] == [[], []]
    assert "ofA=1" in asked[1]["cookie"]


async def test_the_user_of_a_url_is_known_at_its_origin_only(tmp_path: Path) -> None:
    hops = Hops(*"AAB")
    asked = await hops.credentials(tmp_path, url=hops.urls[0].replace("//", "//user:word@"))
    assert [each.get("authorization", "")[:5] for each in asked] == ["Basic", "Basic", ""]


# What the server that was asked says of the file


@pytest.mark.parametrize(("hops", "hop", "is_said"), [("AB", 0, True), ("AAB", 1, True), ("ABB", 1, False)])
async def test_the_server_that_was_asked_says_what_the_file_is_and_no_other(
    tmp_path: Path, hops: str, hop: int, is_said: bool
) -> None:
    made = Hops(*hops)
    [hosted] = [server.files[f"/{hop}"] for server in made.servers.values() if f"/{hop}" in server.files]
    linked = {"X-Linked-Etag": f'"{"0" * 64}"'}
    hosted.faults = [Answer(302, fault.headers | linked) for fault in hosted.faults if isinstance(fault, Answer)]
    with pytest.raises(WrongContentError, match="its sha256 is") if is_said else nullcontext():
        await made.credentials(tmp_path)


async def test_a_server_that_says_another_size_than_what_it_led_to_is_told_before_a_byte_is_written(
    tmp_path: Path,
) -> None:
    made = Hops(*"AB")
    away = Answer(302, {"Location": made.urls[1], "X-Linked-Etag": '"x"', "X-Linked-Size": "5"})
    made.servers["A"].files["/0"].faults = [away]
    with pytest.raises(UnusableResponseError, match=f"has 5 bytes, says the server; what it led to has {len(CONTENT)}"):
        await made.credentials(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_redirect_to_no_port_is_refused_in_one_line(tmp_path: Path) -> None:
    made = Hops(*"AB")
    made.servers["A"].files["/0"].faults = [Answer(302, {"Location": "http://127.0.0.1:99999/x?token=secret"})]
    with pytest.raises(RefusedError, match=r"led to http://127.0.0.1:99999/x, and ports end at 65535"):
        await made.credentials(tmp_path)
