from __future__ import annotations

import gzip
import resource
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
import pytest

from adapters.demo.server import Answer, Fault, Reset, Stall
from adapters.downloads import (
    Downloaded,
    DownloadError,
    StalePartialFileError,
    UnusableResponseError,
    WrongContentError,
    http,
)
from adapters.downloads.partial_file import PartialFile
from adapters.downloads.sidecar import Sidecar
from recovery.service import Recovery
from tests.adapters.downloads.targets import CONTENT, HALF, SHA256, Target

pytestmark = pytest.mark.anyio

WHOLE = Answer(200, {"Content-Length": str(len(CONTENT))}, CONTENT)


def from_byte(start: int) -> Answer:
    return Answer(206, {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}, CONTENT[start:])


# One attempt


@pytest.mark.parametrize("promise", [{}, {"sha256": SHA256}, {"sha256": SHA256.upper()}, {"size": len(CONTENT)}])
async def test_a_file_arrives_whole_and_nothing_is_left_beside_it(tmp_path: Path, promise: dict[str, Any]) -> None:
    with Target(tmp_path) as target:
        arrived = await target.attempt(**promise)
    assert arrived == Downloaded(path=str(target.destination), size=len(CONTENT), start=0, received=len(CONTENT))
    assert target.destination.read_bytes() == CONTENT
    assert target.files() == {"model.bin"}


async def test_an_empty_file_arrives_too(tmp_path: Path) -> None:
    with Target(tmp_path, content=b"") as target:
        assert (await target.attempt(size=0)).size == 0
    assert target.files() == {"model.bin"}


async def test_a_file_that_is_there_is_not_fetched(tmp_path: Path) -> None:
    with Target(tmp_path) as target:
        await target.attempt()
        noted: list[tuple[int, int | None]] = []
        again = await target.attempt(sha256=SHA256, size=len(CONTENT), on_progress=lambda *both: noted.append(both))
    assert (again.size, again.received, len(target.requests)) == (len(CONTENT), 0, 1)
    assert noted == [(len(CONTENT), len(CONTENT))]


@pytest.mark.parametrize("is_there", [True, False])
async def test_what_a_process_left_that_was_killed_while_it_renamed_a_file_is_removed(
    tmp_path: Path, is_there: bool
) -> None:
    with Target(tmp_path) as target:
        target.leave(b"")
        target.partial.unlink()
        target.sidecar.rename(target.sidecar.with_name(f"{target.sidecar.name}.new"))
        target.sidecar.write_bytes(b"{}")
        if is_there:
            target.destination.write_bytes(CONTENT)
        await target.attempt()
    assert target.files() == {"model.bin"}
    assert len(target.requests) == (0 if is_there else 1)


@pytest.mark.parametrize("promise", [{"sha256": SHA256}, {"size": len(CONTENT)}])
async def test_a_file_that_is_there_but_is_another_is_replaced(tmp_path: Path, promise: dict[str, Any]) -> None:
    with Target(tmp_path) as target:
        target.destination.parent.mkdir()
        target.destination.write_bytes(b"an older model")
        await target.attempt(**promise)
    assert target.destination.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 503])
async def test_a_refusal_leaves_nothing_behind(tmp_path: Path, status: int) -> None:
    with Target(tmp_path, faults=[Answer(status)]) as target, pytest.raises(httpx2.HTTPStatusError):
        await target.attempt()
    assert target.files() == set()


async def test_a_refusal_keeps_what_came_before(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Answer(503)]) as target:
        target.leave(CONTENT[:HALF])
        with pytest.raises(httpx2.HTTPStatusError):
            await target.attempt()
        assert (await target.attempt()).start == HALF


async def test_the_final_name_is_borne_by_nothing_but_a_whole_file(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Reset(0.3), Reset(0.5), WHOLE], rate=5e7) as target:
        sizes: set[int] = set()
        is_over = anyio.Event()

        async def watch() -> None:
            while not is_over.is_set():
                if target.destination.exists():
                    sizes.add(target.destination.stat().st_size)
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            for _ in range(2):
                with pytest.raises(httpx2.TransportError):
                    await target.attempt()
            await target.attempt()
            await anyio.sleep(0.005)
            is_over.set()
    assert sizes == {len(CONTENT)}


# Resuming


async def test_after_a_reset_only_the_rest_is_asked_for_and_sent(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Reset(0.5)]) as target:
        kept = await target.broken_attempt()
        arrived = await target.attempt()
    assert 0 < kept < len(CONTENT)
    assert (arrived.start, arrived.received) == (kept, len(CONTENT) - kept)
    assert [(request.status, request.start) for request in target.requests] == [(200, 0), (206, kept)]
    assert target.requests[1].sent == len(CONTENT) - kept
    assert target.destination.read_bytes() == CONTENT
    first, second = target.asked
    assert "range" not in first
    assert (second["range"], second["if-range"]) == (f"bytes={kept}-", target.hosted.etag)
    assert second["accept-encoding"] == "identity"


async def test_a_broken_transfer_notes_what_it_knows(tmp_path: Path) -> None:
    noted: list[int] = []
    with Target(tmp_path, faults=[Reset(0.5)], rate=5e7) as target:
        kept = await target.broken_attempt(sha256=SHA256, on_progress=lambda offset, _: noted.append(offset))
    sidecar = msgspec.json.decode(target.sidecar.read_bytes(), type=Sidecar)
    assert msgspec.structs.replace(sidecar, written_to=None) == Sidecar(
        url=target.url, etag=target.hosted.etag, size=len(CONTENT), sha256=SHA256, offset=kept
    )
    assert 0 < kept == noted[-1]


@pytest.mark.parametrize(
    ("faults", "left", "known"),
    [([WHOLE], CONTENT[:HALF], {}), ([], bytes(HALF), {"etag": '"what it was"', "size": 123})],
    ids=["a server without ranges", "a file that has changed"],
)
async def test_a_whole_file_in_answer_to_a_range_starts_over(
    tmp_path: Path, faults: list[Fault], left: bytes, known: dict[str, Any]
) -> None:
    with Target(tmp_path, faults=faults) as target:
        target.leave(left, **known)
        arrived = await target.attempt()
    assert (arrived.start, arrived.received, target.requests[0].status) == (0, len(CONTENT), 200)
    assert target.destination.read_bytes() == CONTENT


@pytest.mark.parametrize("by", [-1, -1000, -HALF])
async def test_a_part_that_begins_too_early_is_written_from_where_it_is_new(tmp_path: Path, by: int) -> None:
    with Target(tmp_path, faults=[from_byte(HALF + by)]) as target:
        target.leave(CONTENT[:HALF])
        arrived = await target.attempt()
    assert (arrived.start, arrived.received, len(target.requests)) == (HALF, HALF, 1)
    assert target.destination.read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [from_byte(HALF + 1), from_byte(HALF + 1000), Answer(206, {}, CONTENT[HALF:])])
async def test_a_part_that_does_not_fit_is_never_written_and_costs_no_kept_byte(tmp_path: Path, answer: Answer) -> None:
    with Target(tmp_path, faults=[answer]) as target:
        target.leave(CONTENT[:HALF])
        assert (await target.attempt()).start == HALF
    assert ["range" in headers for headers in target.asked] == [True, False]
    assert target.destination.read_bytes() == CONTENT


async def test_a_server_of_which_no_response_fits_costs_no_kept_byte(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[from_byte(HALF + 1)] * 2) as target:
        target.leave(CONTENT[:HALF])
        with pytest.raises(UnusableResponseError, match=f"got those from {HALF + 1} to 1000000"):
            await target.attempt()
        assert target.partial.read_bytes() == CONTENT[:HALF]
        assert (await target.attempt()).start == HALF


async def test_a_server_that_says_of_the_kept_bytes_that_they_cannot_be_has_them_dropped(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Answer(416)]) as target:
        target.leave(CONTENT[:HALF])
        assert (await target.attempt()).start == 0
    assert [request.status for request in target.requests] == [416, 200]
    assert target.destination.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("known", "statuses"),
    [({"sha256": SHA256}, [416]), ({"size": len(CONTENT)}, [416]), ({"sha256": SHA256, "size": len(CONTENT)}, [])],
    ids=["size unknown", "without a hash", "both known"],
)
async def test_what_a_dead_process_had_received_is_asked_for_only_in_doubt(
    tmp_path: Path, known: dict[str, Any], statuses: list[int]
) -> None:
    with Target(tmp_path) as target:
        target.leave(CONTENT, **known)
        arrived = await target.attempt(sha256=known.get("sha256"))
    assert (arrived.received, [request.status for request in target.requests]) == (0, statuses)
    assert target.destination.read_bytes() == CONTENT


async def test_the_rest_of_another_file_is_not_appended(tmp_path: Path) -> None:
    rest = {"Content-Range": "bytes 4-7/8", "ETag": '"new"'}  # from a server that does not know If-Range
    with Target(tmp_path, faults=[Answer(206, rest, b"NEW2"), Answer(200, {"ETag": '"new"'}, b"NEW1NEW2")]) as target:
        target.leave(b"OLD1", etag='"old"', size=8)
        await target.attempt()
    assert target.destination.read_bytes() == b"NEW1NEW2"


async def test_what_nothing_identifies_is_fetched_from_its_beginning(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Reset(0.5)], etag=False) as target:
        await target.broken_attempt()
        await target.attempt()
    assert not [headers for headers in target.asked if "range" in headers]
    assert target.destination.read_bytes() == CONTENT


async def test_a_hash_is_enough_to_resume(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Reset(0.5)], etag=False) as target:
        kept = await target.broken_attempt(sha256=SHA256)
        assert (await target.attempt(sha256=SHA256)).start == kept
    assert "if-range" not in target.asked[1]


@pytest.mark.parametrize("left", [HALF, len(CONTENT)])
async def test_pieces_that_do_not_fit_together_are_dropped_and_fetched_again(tmp_path: Path, left: int) -> None:
    with Target(tmp_path) as target:
        target.leave(bytes(left), sha256=SHA256)
        with pytest.raises(StalePartialFileError, match="sha256"):
            await target.attempt(sha256=SHA256)
        assert target.files() == {"model.bin.part.json"}  # which says that it happened
        assert (await target.attempt(sha256=SHA256)).start == 0
    assert target.destination.read_bytes() == CONTENT


@pytest.mark.parametrize("promise", [{"sha256": "0" * 64}, {"size": 999_999}, {"size": 1_000_001}, {"size": 0}])
async def test_another_file_than_was_promised_is_refused_for_good(tmp_path: Path, promise: dict[str, Any]) -> None:
    with Target(tmp_path) as target, pytest.raises(WrongContentError, match=r"model\.bin"):
        await target.attempt(**promise)
    assert target.files() == set()


async def test_a_size_that_was_not_promised_is_seen_before_the_bytes_come(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Stall(0.1, seconds=0.3)]) as target, pytest.raises(WrongContentError):
        await target.attempt(size=7, silence=0.1)


async def test_a_stall_ends_the_attempt_and_what_came_is_kept(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Stall(0.5, seconds=0.3)]) as target:
        with pytest.raises(httpx2.ReadTimeout):
            await target.attempt(silence=0.1)
        assert (await target.attempt()).start > 0
    assert target.destination.read_bytes() == CONTENT


async def test_a_cancelled_attempt_keeps_its_bytes_and_unlocks(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Stall(0.5, seconds=0.3)]) as target:
        with anyio.move_on_after(0.1) as scope:
            await target.attempt()
        assert scope.cancelled_caught
        assert (await target.attempt()).start > 0
    assert target.destination.read_bytes() == CONTENT


@pytest.mark.filterwarnings("ignore:Async generator 'httpcore2")  # trio tells of one that httpx2 does not close
async def test_a_full_disk_keeps_what_came_before(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Target(tmp_path) as target:
        resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                await target.attempt(save_every=100_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (await target.attempt()).start > 0
    assert target.destination.read_bytes() == CONTENT


async def test_what_another_download_has_finished_meanwhile_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Target(tmp_path) as target:

        def open_late(*args: Any, **options: Any) -> PartialFile:
            target.destination.parent.mkdir()
            target.destination.write_bytes(CONTENT)
            return PartialFile(*args, **options)

        monkeypatch.setattr(http, "PartialFile", open_late)
        await target.attempt(sha256=SHA256)
    assert target.requests == []
    assert target.files() == {"model.bin"}


# What no decent server does


@pytest.mark.parametrize("content_range", ["bytes 4-6/*", "bytes 4-9/*"])
async def test_a_part_of_a_file_of_unknown_length_is_not_taken_for_the_whole(
    tmp_path: Path, content_range: str
) -> None:
    with Target(
        tmp_path, faults=[Answer(206, {"Content-Range": content_range, "Content-Length": "3"}, b"567")]
    ) as target:
        target.leave(CONTENT[:4])
        await target.attempt()
    assert target.destination.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"\u00e9t\u00e9"', '"' + "\\" * 40_000 + '"'], ids=["not ASCII", "long"])
async def test_an_entity_tag_that_cannot_be_sent_back_is_as_good_as_none(tmp_path: Path, etag: str) -> None:
    with Target(tmp_path, faults=[Reset(0.5)]) as target:
        target.hosted.etag = etag
        await target.broken_attempt()
        await target.attempt()
    assert "if-range" not in target.asked[1]
    assert target.destination.read_bytes() == CONTENT


async def test_an_entity_tag_that_was_made_to_harm_is_not_sent(tmp_path: Path) -> None:
    with Target(tmp_path) as target:
        target.leave(CONTENT[:4], etag='"x"\r\nEvil: 1')
        await target.attempt()
    assert target.destination.read_bytes() == CONTENT


@pytest.mark.parametrize("encoding", ["", "Identity"])
async def test_an_encoding_that_is_none_is_none(tmp_path: Path, encoding: str) -> None:
    with Target(
        tmp_path, faults=[Answer(200, {"Content-Encoding": encoding, "Content-Length": "3"}, b"123")]
    ) as target:
        await target.attempt()
    assert target.destination.read_bytes() == b"123"


async def test_an_answer_that_is_encoded_all_the_same_is_decoded(tmp_path: Path) -> None:
    notes: list[int] = []
    body = gzip.compress(CONTENT)
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}
    with Target(tmp_path, faults=[Answer(200, headers, body)]) as target:
        note = {"on_progress": lambda offset, _: notes.append(offset), "save_every": 300_000}
        await target.attempt(sha256=SHA256, size=len(CONTENT), **note)
    assert target.destination.read_bytes() == CONTENT
    assert len(notes) <= len(CONTENT) // 300_000 + 1


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
async def test_a_compressed_file_is_not_decoded_because_its_server_names_the_encoding(
    tmp_path: Path, encoding: str
) -> None:
    body = gzip.compress(CONTENT)
    headers = {"Content-Encoding": encoding, "Content-Length": str(len(body))}
    with Target(tmp_path, faults=[Answer(200, headers, body)]) as target:
        target.destination = target.destination.with_name("nodes.tar.gz")
        await target.attempt()
    assert target.destination.read_bytes() == body


async def test_an_encoded_response_that_breaks_off_is_not_resumed(tmp_path: Path) -> None:
    body = gzip.compress(CONTENT)
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(body)), "ETag": '"x"'}
    with Target(tmp_path, faults=[Answer(200, headers, body[:HALF]), Answer(200, headers, body)]) as target:
        with pytest.raises(httpx2.TransportError):
            await target.attempt(sha256=SHA256)
        await target.attempt(sha256=SHA256)
    assert "range" not in target.asked[1]
    assert target.destination.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None], ids=["size known", "unknown"])
@pytest.mark.parametrize("came", [HALF // 2, HALF, len(CONTENT) - 1])
async def test_a_whole_file_that_comes_again_without_its_length_is_not_taken_for_whole_when_it_is_cut(
    tmp_path: Path, came: int, size: int | None
) -> None:
    headers = {"ETag": '"x"', "Connection": "close"}
    cut, whole = (
        Answer(200, {**headers, **more}, body) for more, body in (({}, CONTENT[:came]), (WHOLE.headers, CONTENT))
    )
    with Target(tmp_path, faults=[cut, whole, whole]) as target:
        target.leave(CONTENT[:HALF], etag='"x"', size=size)
        if came < HALF:
            with pytest.raises(UnusableResponseError, match=f"ended {HALF - came} bytes before"):
                await target.attempt()
        if size is not None or came < HALF:
            await target.attempt()
            assert target.destination.read_bytes() == CONTENT


async def test_a_rest_without_an_entity_tag_keeps_the_known_one(tmp_path: Path) -> None:
    first = Answer(206, {"Content-Range": "bytes 4-9/10", "Content-Length": "6"}, b"56")
    with Target(tmp_path, faults=[first, Answer(206, {"Content-Range": "bytes 6-9/10"}, b"7890")]) as target:
        target.leave(b"1234", etag='"x"')
        await target.broken_attempt()
        await target.attempt()
    assert target.asked[1]["if-range"] == '"x"'
    assert target.destination.read_bytes() == b"1234567890"


async def test_a_body_that_ends_before_its_length_is_kept_but_not_whole(tmp_path: Path) -> None:
    with Target(tmp_path, faults=[Answer(200, {"Content-Length": "10", "ETag": '"x"'}, b"12345")]) as target:
        assert await target.broken_attempt() == 5
    assert not target.destination.exists()


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (Answer(200, {}, b"12345"), WrongContentError, "5 bytes arrived of 6"),  # without a Content-Length
        (Answer(204), DownloadError, "204"),
    ],
)
async def test_an_answer_that_is_not_the_file_is_not_written(
    tmp_path: Path, answer: Answer, error: type[Exception], message: str
) -> None:
    with Target(tmp_path, faults=[answer]) as target, pytest.raises(error, match=message):
        await target.attempt(size=6)
    assert target.files() == set()


# Under recovery


async def test_a_download_recovers_from_all_of_it(tmp_path: Path) -> None:
    faults = [Answer(503), Reset(0.3), Answer(429, {"Retry-After": "0"}), Reset(0.6), from_byte(1)]
    service = Recovery()
    with Target(tmp_path, faults=faults) as target:

        @service.recoverable(max_retries=6, initial_delay=0.0)
        async def fetch() -> Downloaded:
            return await target.attempt(sha256=SHA256)

        arrived = await fetch()
    assert (arrived.size, target.files()) == (len(CONTENT), {"model.bin"})
    assert target.destination.read_bytes() == CONTENT
    assert [request.status for request in target.requests] == [503, 200, 429, 206, 206]


async def test_a_file_that_is_not_what_was_promised_is_not_fetched_twice(tmp_path: Path) -> None:
    service = Recovery()
    with Target(tmp_path) as target:

        @service.recoverable(max_retries=6, initial_delay=0.0)
        async def fetch() -> Downloaded:
            return await target.attempt(sha256="0" * 64)

        with pytest.raises(WrongContentError):
            await fetch()
    assert len(target.requests) == 1
