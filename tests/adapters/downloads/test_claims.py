from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.downloads.claims import CLAIMS, Claims, folder_of_user
from tests.forked import forked

DISK, OTHER_DISK = 7, 8


def claims_in(folder: Path) -> Claims:
    return Claims(lambda: folder)


def below(most: int, needed: int) -> Callable[[int], bool]:
    return lambda others: others + needed <= most


def test_others_see_a_claim_shrink_and_end(tmp_path: Path) -> None:
    here, there = claims_in(tmp_path), claims_in(tmp_path)
    here.take("model", DISK, 700, lambda _: True)
    here.take("small", DISK, 5, lambda _: True)
    seen = [there.claimed(DISK)]
    for owner, missing in (("model", 300), ("model", 0), ("small", 0), ("none", 9)):
        here.shrink(owner, missing)
        seen.append(there.claimed(DISK))
    assert seen == [705, 305, 5, 0, 0]
    assert not list(tmp_path.glob("*.claims"))


def test_the_claims_of_a_killed_process_do_not_count(tmp_path: Path) -> None:
    def download(say: Callable[[str], object]) -> None:
        claims_in(tmp_path).take("model", DISK, 700, lambda _: True)
        say("claimed")
        time.sleep(60.0)

    claims = claims_in(tmp_path)
    with forked(download) as child:
        child.next_line()
        before = claims.claimed(DISK), claims.claimed(OTHER_DISK)
        child.end()
    assert (before, claims.claimed(DISK)) == ((700, 0), 0)
    assert not list(tmp_path.glob("*.claims"))


@pytest.mark.slow
def test_a_forked_child_has_no_claims_and_holds_none_of_a_dead_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def parent(say: Callable[[str], object]) -> None:
        CLAIMS.take("model", DISK, 700, lambda _: True)
        if os.fork() == 0:
            claimed = CLAIMS.claimed(DISK)
            CLAIMS.take("model", DISK, 40, lambda _: True)
            say(f"{claimed} {os.getpid()}")
        time.sleep(60.0)

    with forked(parent) as child:
        claimed, grandchild = child.next_line().split()
        try:
            assert (claimed, CLAIMS.claimed(DISK)) == ("700", 740)
            child.end()
            assert CLAIMS.claimed(DISK) == 40
        finally:
            os.kill(int(grandchild), signal.SIGKILL)


def test_a_claim_is_not_granted_beside_others_that_leave_no_room(tmp_path: Path) -> None:
    here, there = claims_in(tmp_path), claims_in(tmp_path)
    assert here.take("a", DISK, 60, below(100, 60)) is None
    assert here.take("b", DISK, 50, below(100, 50)) == 60
    assert there.take("c", DISK, 50, below(100, 50)) == 60
    assert there.take("c", OTHER_DISK, 50, below(100, 50)) is None
    assert here.take("a", DISK, 90, below(100, 90)) is None  # in the place of its own
    assert there.claimed(DISK) == 90


def test_processes_that_claim_at_once_never_claim_more_than_there_is(tmp_path: Path) -> None:
    go = tmp_path / "go"

    def claim(say: Callable[[str], object]) -> None:
        def fits(others: int) -> bool:
            time.sleep(0.02)
            return others + 100 <= 250

        claims = claims_in(tmp_path)
        while not go.exists():
            time.sleep(0.001)
        say("refused" if claims.take("model", DISK, 100, fits) is not None else "granted")
        time.sleep(60.0)

    with forked(claim) as a, forked(claim) as b, forked(claim) as c:
        go.touch()
        assert sorted(child.next_line() for child in (a, b, c)) == ["granted", "granted", "refused"]


def test_a_process_that_was_stopped_in_its_turn_stops_no_other(tmp_path: Path) -> None:
    claims, seen = claims_in(tmp_path), list[float]()

    def fits(_: int) -> bool:
        began = time.monotonic()
        other = Claims(lambda: tmp_path, turn=0.05)
        other.take("small", DISK, 5, lambda _: True)
        other.shrink("small", 4)
        seen.append(time.monotonic() - began)
        return True

    claims.take("model", DISK, 700, fits)
    assert 0.05 <= seen[0] < 5.0


def test_a_folder_of_claims_is_made_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert folder_of_user() == tmp_path / "launcher-recovery"
    assert folder_of_user().stat().st_mode & 0o777 == 0o700


def linked(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


def opened(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def a_file(folder: Path) -> None:
    folder.touch()


@pytest.mark.parametrize("left", [linked, opened, a_file])
def test_claims_are_not_told_in_a_folder_that_others_may_have_made(
    left: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    left(tmp_path / "launcher-recovery")
    claims = Claims()
    with caplog.at_level(logging.WARNING):
        claims.take("a", DISK, 60, below(100, 60))
        assert claims.take("b", DISK, 50, below(100, 50)) == 60
    assert [record.message for record in caplog.records][1:] == []
    assert "may be promised the same room" in caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".claims"]


def test_a_file_of_claims_that_was_removed_is_written_again(tmp_path: Path) -> None:
    claims = claims_in(tmp_path)
    claims.take("a", DISK, 60, lambda _: True)
    next(tmp_path.glob("*.claims")).unlink()
    claims.take("b", DISK, 20, lambda _: True)
    assert claims_in(tmp_path).claimed(DISK) == 80


def test_claims_that_cannot_be_read_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "9-x.claims").write_text("[]")
    (tmp_path / "10-x.claims").mkdir()
    assert claims_in(tmp_path).claimed(DISK) == 0
