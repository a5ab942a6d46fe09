"""Claims exclude the calls of other processes, and end with their process however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.disk import locked_range, try_lock_range, unlock_range
from adapters.sqlite.claims import Claims
from recovery.journal.errors import JournalError
from recovery.journal.store import Claim, Taken

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such locks"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]

BEGIN = """
import os, sys, threading
from pathlib import Path
from adapters.sqlite.claims import Claims

claims = Claims(Path(sys.argv[1]))
claim = claims.take(b"a")
"""
HOLD = """
print("held", flush=True)
sys.stdin.read()
"""
FORK = """
threading.Thread(target=threading.Event().wait, daemon=True).start()  # a process that has been at work
if not os.fork():
    claim.release()  # it is the parent's: nothing happens
    print(getattr(claims.take(b"a"), "pid", "free") == os.getppid(), flush=True)
    sys.stdin.read()
    os._exit(0)
threading.Event().wait()
"""


@contextmanager
def holder(path: Path, script: str = HOLD) -> Iterator[subprocess.Popen[str]]:
    """A process that claims ``a`` in the journal *path*; it and its children end with the block."""
    command = [sys.executable, "-W", "ignore", "-c", BEGIN + script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def claimed(claim: Claim | Taken) -> Claim:
    assert not isinstance(claim, Taken)
    return claim


def opened(claims: Claims) -> list[Path]:
    """The descriptors of this process that have the file of *claims* open."""
    return [one for one in Path("/proc/self/fd").iterdir() if os.path.realpath(one) == str(claims.path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "calls.db"


@pytest.fixture
def claims(path: Path) -> Claims:
    return Claims(path)


@pytest.fixture
def others(path: Path) -> Claims:
    """Another opening of the same file: as good as another process."""
    return Claims(path)


def test_a_claim_names_its_process_and_ends_with_it(path: Path, claims: Claims) -> None:
    with holder(path) as process:
        assert line_of(process) == "held"
        assert claims.take(b"a") == Taken(process.pid)
        claimed(claims.take(b"b"))
        process.kill()
        process.wait()
        claimed(claims.take(b"a"))


def test_d13_a_forked_child_does_not_keep_the_claims_of_its_parent(path: Path, claims: Claims) -> None:
    with holder(path, FORK) as process:
        assert line_of(process) == "True"
        assert claims.take(b"a") == Taken(process.pid)
        process.kill()
        process.wait()
        claimed(claims.take(b"a"))
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        with pytest.raises(BlockingIOError):  # no end of the file: the child lives
            os.read(process.stdout.fileno(), 1)


def test_a_program_that_was_started_does_not_keep_a_claim(claims: Claims, others: Claims) -> None:
    claim = claimed(claims.take(b"a"))
    with subprocess.Popen(["cat"], close_fds=False, stdin=subprocess.PIPE):
        claim.release()
        claims.close()
        claimed(others.take(b"a"))


def test_a_claim_is_released_once_and_from_any_thread(claims: Claims, others: Claims) -> None:
    first = claimed(claims.take(b"a"))
    assert others.take(b"a") == Taken(os.getpid())
    thread = threading.Thread(target=first.release)
    thread.start()
    thread.join()
    claimed(others.take(b"a")).release()
    second = claimed(claims.take(b"a"))
    first.release()
    assert others.take(b"a") == Taken(os.getpid())
    second.release()
    claimed(others.take(b"a"))


def test_of_many_threads_one_gets_the_claim(claims: Claims) -> None:
    barrier, found = threading.Barrier(8), list[Claim | Taken]()

    def take() -> None:
        barrier.wait()
        found.append(claims.take(b"a"))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(Taken(os.getpid())) == 7


def test_many_claims_do_not_exclude_each_other(claims: Claims, others: Claims) -> None:
    for number in range(1000):
        claimed((claims, others)[number % 2].take(b"%d" % number))


def test_locks_of_any_length_exclude_each_other_and_are_freed_whole(tmp_path: Path) -> None:
    longest = 2**22 - 1
    with (tmp_path / "a").open("wb") as one, (tmp_path / "a").open("wb") as two:
        for ours, theirs in ((longest, 1), (1, longest), (7, 8)):
            assert try_lock_range(one.fileno(), 2**62, ours)
            assert not try_lock_range(two.fileno(), 2**62, theirs)
            assert locked_range(two.fileno(), 2**62, 2**23) == (2**62, ours)
            unlock_range(one.fileno(), 2**62, 2**23)
            assert locked_range(two.fileno(), 2**62, 2**23) is None


def test_the_files_are_private(path: Path, claims: Claims) -> None:
    claims.take(b"a")
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (claims.path, claims.path.parent, path.parent)]
    assert modes == [0o600, 0o700, 0o700]
    assert claims.path.stat().st_size == 0


def test_claims_are_made_again_in_a_file_that_replaces_theirs(claims: Claims, others: Claims) -> None:
    claims.take(b"a")
    claims.path.unlink()
    claims.take(b"b")
    assert [others.take(name) for name in (b"a", b"b")] == [Taken(os.getpid())] * 2


def test_a_claim_outlives_the_journal_and_the_file_is_closed_after_it(claims: Claims, others: Claims) -> None:
    claim = claimed(claims.take(b"a"))
    claims.close()
    assert others.take(b"a") == Taken(os.getpid())
    claim.release()
    others.close()
    assert not opened(claims)
    claimed(claims.take(b"a"))


def test_a_lock_of_another_program_names_no_process(claims: Claims) -> None:
    claimed(claims.take(b"a")).release()
    with claims.path.open("r+b") as file:
        assert try_lock_range(file.fileno(), 0, 0)  # to its end, wherever that is
        assert claims.take(b"a") == Taken(None)
    claimed(claims.take(b"a"))


def link(path: Path) -> None:
    (path.parent / "elsewhere").touch()
    path.symlink_to(path.parent / "elsewhere")


def hard_link(path: Path) -> None:
    (path.parent / "elsewhere").touch()
    path.hardlink_to(path.parent / "elsewhere")


def foreign(path: Path) -> None:
    path.touch()
    os.chown(path, 12345, 12345)


NOT_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")


@pytest.mark.parametrize("make", [link, hard_link, Path.mkdir, os.mkfifo, pytest.param(foreign, marks=NOT_ROOT)])
def test_a_file_that_must_not_be_written_is_refused(make: Callable[[Path], object], claims: Claims) -> None:
    claims.path.parent.mkdir(parents=True)
    make(claims.path)
    with pytest.raises(JournalError, match="claims"):
        claims.take(b"a")


def test_a_folder_that_is_a_link_is_refused(claims: Claims, tmp_path: Path) -> None:
    claims.path.parent.parent.mkdir()
    claims.path.parent.symlink_to(tmp_path)
    with pytest.raises(JournalError, match="symbolic link"):
        claims.take(b"a")


def test_where_there_are_no_such_locks_an_error_says_so(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "fcntl", fail)
        with pytest.raises(JournalError, match=r"exclude each other.*claims.*No locks available"):
            claims.take(b"a")
        patch.undo()
        patch.delattr(fcntl, "F_OFD_SETLK")
        with pytest.raises(JournalError, match=r"exclude each other.*this system has no locks"):
            claims.take(b"a")
    claimed(claims.take(b"a"))


def test_d13_a_child_that_is_forked_beside_a_first_claim_has_no_file_open(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_open, may_go_on = threading.Event(), threading.Event()
    system_open = os.open

    def slow_open(*args: Any) -> int:
        file = system_open(*args)
        is_open.set()
        may_go_on.wait(0.1)  # the fork waits for this
        return file

    monkeypatch.setattr(os, "open", slow_open)
    thread = threading.Thread(target=claims.take, args=(b"a",))
    thread.start()
    is_open.wait(5.0)
    pid = os.fork()
    if not pid:
        os._exit(len(opened(claims)))
    may_go_on.set()
    thread.join()
    assert len(opened(claims)) == 1
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("do", [Path.unlink, lambda path: path.write_bytes(b"") or path.rename(path.with_name("away"))])
def test_d3_claims_are_held_again_soon_after_their_file_was_removed(do: Callable[[Path], Any], tmp_path: Path) -> None:
    claims = Claims(tmp_path / "calls.db")
    claim = claims.take(b"a")
    do(claims.path)
    claims.check()
    assert Claims(tmp_path / "calls.db").take(b"a") == Taken(os.getpid())
    assert not isinstance(claim, Taken)
    claim.release()
