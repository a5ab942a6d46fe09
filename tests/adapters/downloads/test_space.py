from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from subprocess import CalledProcessError
from typing import cast

import anyio
import msgspec
import pytest

from adapters.downloads import NoRoomError
from adapters.downloads.claims import CLAIMS
from adapters.downloads.space import Claim, NeverFitsError, headroom, room_for, when_full
from events.conditions import Condition
from events.evidence import Category, Evidence, Room
from events.operation_events import FailureClassified, Parked
from recovery.conditions import device_of
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.redact import hide, redacted, unhide
from recovery.service import Recovery
from recovery.subscribers.classification import classify
from recovery.subscribers.evidence_extraction import extract_evidence
from tests.adapters.downloads.targets import CONTENT, Target
from tests.forked import forked
from tests.slow import few
from tests.small_disk import small_disk

LARGE = 3 * CONTENT
SIZE = len(LARGE)


@pytest.fixture(autouse=True)
def own_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of five megabytes."""
    with small_disk("5m") as folder:
        yield folder


def fill(disk: Path, keep: int = 0) -> Path:
    """Fill *disk*, but for *keep* bytes; the file to remove again."""
    ballast = disk / "ballast"
    with ballast.open("ab") as file:
        file.write(bytes(max(0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - keep)))
    return ballast


def classified(error: Exception) -> FailureClassified:
    meaning = classify(error)
    return FailureClassified(
        at=0.0,
        operation="fetch",
        call="1",
        category=meaning.category,
        rule=meaning.rule,
        evidence=extract_evidence(error),
    )


def waits_for(error: Exception) -> Condition:
    condition = when_full(classified(error))
    assert condition is not None
    return condition


# Before the bytes come


@pytest.mark.anyio
@pytest.mark.parametrize("promise", [{"size": SIZE}, {}])
async def test_no_byte_is_written_where_there_is_no_room_for_all(disk: Path, promise: dict[str, int]) -> None:
    fill(disk, keep=2_000_000)
    with Target(disk, content=LARGE) as target:
        with pytest.raises(NoRoomError, match=r"model.bin needs 3 MB more; .* has 2 MB free of 5.24 MB; make room"):
            await target.attempt(**promise)
        assert [request.status for request in target.requests] == ([] if promise else [200])
        assert target.files() == set()


@pytest.mark.anyio
async def test_only_what_is_missing_needs_room(disk: Path) -> None:
    with Target(disk, content=LARGE) as target:
        target.leave(LARGE[:2_000_000])
        fill(disk, keep=1_200_000)
        assert (await target.attempt()).received == 1_000_000


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_two_downloads_do_not_share_room_for_one(disk: Path) -> None:
    with Target(disk, content=LARGE, rate=1e7) as one, Target(disk, content=LARGE) as other:
        other.destination = disk / "models" / "other.bin"

        async def ask_in_the_middle() -> None:
            while not CLAIMS.claimed(device_of(disk)):
                await anyio.sleep(0.001)
            with pytest.raises(NoRoomError, match=r"other downloads claim 3 MB of that"):
                await other.attempt(size=SIZE)
            assert other.requests == []

        async with anyio.create_task_group() as group:
            group.start_soon(one.attempt)
            group.start_soon(ask_in_the_middle)
    assert CLAIMS.claimed(device_of(disk)) == 0


def test_what_another_process_claims_is_no_room_until_it_is_killed(disk: Path) -> None:
    place = disk / "models" / "model.bin"

    def download(say: Callable[[str], object]) -> None:
        with Claim(place) as claim:
            claim.take(SIZE)
            say("claimed")
            anyio.run(anyio.sleep, 60.0)

    condition = room_for(place.parent, SIZE)
    with forked(download) as child:
        child.next_line()
        with Claim(place) as claim, pytest.raises(NoRoomError, match="3 MB of that"):
            claim.take(SIZE)
        assert not condition.is_met()
        child.end()
    assert condition.is_met()
    with Claim(place) as claim:
        claim.take(SIZE)


def test_a_claim_ends_with_its_attempt_and_small_ones_need_none(disk: Path) -> None:
    with Claim(disk / "model.bin") as claim:
        claim.take(SIZE)
        assert CLAIMS.claimed(device_of(disk)) == SIZE
        claim.take(100_000)
        assert CLAIMS.claimed(device_of(disk)) == 0
        claim.take(SIZE)
    assert CLAIMS.claimed(device_of(disk)) == 0


@pytest.mark.anyio
async def test_a_claim_shrinks_as_bytes_come_to_the_disk(disk: Path) -> None:
    claimed: list[tuple[int, int]] = []
    with Target(disk, content=LARGE, rate=5e7) as target:
        await target.attempt(
            save_every=1_000_000, on_progress=lambda saved, _: claimed.append((saved, CLAIMS.claimed(device_of(disk))))
        )
    assert len(claimed) > 2
    assert {saved + missing for saved, missing in claimed} == {SIZE}


def test_what_no_disk_of_that_size_holds_is_not_waited_for(disk: Path) -> None:
    with Claim(disk / "model.bin") as claim, pytest.raises(NeverFitsError, match="larger disk") as raised:
        claim.take(6_000_000)
    assert classify(raised.value).category is Category.PERMANENT


def test_a_file_system_that_does_not_tell_its_size_refuses_nothing() -> None:
    with Claim(Path("/proc/model.bin")) as claim:
        claim.take(10**15)


@pytest.mark.parametrize(("total", "kept"), [(10**12, 16 * 1024 * 1024), (5_000_000, 50_000)])
def test_some_room_is_left_for_the_journal(total: int, kept: int) -> None:
    assert headroom(total) == kept


# In mid-transfer


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:Async generator 'httpcore2")  # trio tells of one that httpx2 does not close
async def test_a_download_waits_on_a_disk_that_became_full_and_fetches_nothing_twice(disk: Path) -> None:
    def parked(event: Parked) -> None:
        whys.append(event.why)
        ballast.unlink()

    def fill_disk(_offset: int, _size: int | None) -> None:
        if not whys:
            fill(disk)

    def soon(failure: FailureClassified) -> Condition | None:
        condition = when_full(failure)
        return condition and msgspec.structs.replace(condition, every=0.01)

    whys: list[str] = []
    ballast = disk / "ballast"
    waits = {Category.ENVIRONMENT: Strategy(wait_for=(soon,), wait_timeout=60.0)}
    service = Recovery(policy=RetryPolicy(max_retries=0, per_category=waits))
    service.bus.subscribe(Parked, parked)
    with Target(disk, content=LARGE, rate=5e7) as target:

        @service.recoverable
        async def fetch() -> None:
            await target.attempt(save_every=1_000_000, on_progress=fill_disk)

        await fetch()
        second = target.requests[1]
    assert whys == [f"room for {(SIZE - second.start) / 1e6:.3g} MB at {target.destination.parent}"]
    assert second.start >= 1_000_000
    assert second.sent == SIZE - second.start
    assert target.destination.read_bytes() == LARGE


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:Async generator 'httpcore2")  # as above
@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_a_disk_that_was_full_before_the_first_save_costs_no_byte() -> None:
    async def fill_disk() -> None:
        while not target.partial.exists() or target.partial.stat().st_size < 300_000:
            await anyio.sleep(0.001)
        fill(disk)

    with small_disk("30m") as disk, Target(disk, content=LARGE * 6, rate=5e7) as target:
        async with anyio.create_task_group() as group:
            group.start_soon(fill_disk)
            with pytest.raises(NoRoomError):
                await target.attempt()
        kept = target.partial.stat().st_size
        assert kept >= 300_000
        (disk / "ballast").unlink()
        assert (await target.attempt()).start == kept


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_leaves_an_attempt_with_what_is_missing(number: int, tmp_path: Path) -> None:
    with pytest.raises(NoRoomError, match="became full, and it needs 3 MB more") as raised, Claim(tmp_path / "m") as it:
        it.take(SIZE)
        raise OSError(number, os.strerror(number))
    assert (raised.value.errno, raised.value.room) == (number, Room(str(tmp_path), SIZE))
    assert classify(raised.value).category is Category.ENVIRONMENT
    assert waits_for(raised.value).name == f"room for 3 MB at {tmp_path}"


def test_other_errors_leave_an_attempt_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="broken") as raised, Claim(tmp_path / "m"):
        raise OSError(errno.EIO, "broken")
    assert type(raised.value) is OSError


# What is waited for


def test_room_that_is_free_but_cannot_be_written_is_no_room(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))  # as with a quota, the system tells of free room
    try:
        with pytest.raises(OSError, match="File too large"):
            room_for(tmp_path / "models", 1_000_000).is_met()
        assert room_for(tmp_path / "models", 500_000).is_met()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.glob("tmp*"))


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (OSError(errno.ENOSPC, "full"), "room for 1 GB at /models"),
        (
            CalledProcessError(128, "git", stderr=b"fatal: write error: No space left on device"),
            "room for 1 GB at /models",
        ),
        (ConnectionError("reset"), None),
        (OSError(errno.EROFS, "read-only"), None),
    ],
)
def test_a_failure_that_does_not_say_where_waits_at_the_given_folder(error: Exception, name: str | None) -> None:
    condition = partial(when_full, folder="/models")(classified(error))
    assert (condition and condition.name) == name


def test_a_disk_smaller_than_the_guess_is_asked_for_a_share(disk: Path) -> None:
    with pytest.raises(NoRoomError, match="its size is unknown") as raised, Claim(disk / "m"):
        raise OSError(errno.ENOSPC, "full")
    for error, folder in ((raised.value, None), (OSError(errno.ENOSPC, "full"), disk)):
        condition = when_full(classified(error), folder=folder or ".")
        assert condition is not None
        assert condition.is_met()


def test_room_in_a_cause_is_found() -> None:
    error = RuntimeError("it failed")
    error.__cause__ = NoRoomError("full", Room("/models", 7_000_000))
    assert waits_for(error).name == "room for 7 MB at /models"


def test_the_folder_of_missing_room_is_redacted() -> None:
    hide("s3cret-folder")
    try:
        evidence = extract_evidence(NoRoomError("full", Room("/s3cret-folder", 7)))
        assert evidence.room == Room("/s3cret-folder", 7)
        assert redacted(evidence).room == Room("/***", 7)
    finally:
        unhide("s3cret-folder")


@pytest.mark.parametrize("room", ["a chat room", Room("models", cast("int", "many"))])
def test_room_of_another_type_is_no_evidence(room: object) -> None:
    class OwnError(OSError):
        pass

    error = OwnError("full")
    error.room = room  # type: ignore[attr-defined]  # as code without types may do
    assert extract_evidence(error) == Evidence(
        type=f"{__name__}.{OwnError.__qualname__}", kinds=("builtins.OSError",), message="full"
    )
