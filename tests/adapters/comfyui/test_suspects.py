"""Deaths and stops survive the launcher, and whatever happens to their file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from adapters.comfyui import identity
from adapters.comfyui.suspects import MOST_BYTES, MOST_DEATHS, MOST_KEYS, MOST_STOPS, MOST_WORDS, Death, Noted, Suspects


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "comfyui.suspects"


def test_deaths_and_stops_are_there_after_a_restart(path: Path):
    suspects = Suspects(path, clock=lambda: 5.0)
    suspects.died("a", "10@1.0@b", "exit code 3")
    suspects.note_stop("11@1.0@b")
    again = Suspects(path)
    assert again.deaths("a") == (Death("10@1.0@b", "exit code 3", 5.0),)
    assert again.deaths("b") == ()
    assert again.was_ours("11@1.0@b")
    assert not again.was_ours("10@1.0@b")


def test_a_death_counts_once_however_often_it_is_told(path: Path):
    for _ in range(3):
        Suspects(path).died("a", "10@1.0@b")
    assert len(Suspects(path).deaths("a")) == 1
    assert Suspects(path).is_counted("10@1.0@b")
    assert not Suspects(path).is_counted("11@1.0@b")


def test_a_success_clears_the_deaths(path: Path):
    suspects = Suspects(path)
    suspects.died("a", "10@1.0@b")
    suspects.clear("a")
    suspects.clear("unknown")
    assert Suspects(path).deaths("a") == ()


def test_a_stop_that_did_not_happen_is_taken_back(path: Path):
    suspects = Suspects(path)
    suspects.note_stop("10@1.0@b")
    suspects.forget_stop("10@1.0@b")
    suspects.forget_stop("unknown")
    assert not Suspects(path).was_ours("10@1.0@b")


def test_a_server_without_an_identity_is_not_noted(path: Path):
    Suspects(path).note_stop("")
    assert not Suspects(path).was_ours("")
    assert not path.exists()


def test_the_latest_are_kept_in_a_file_of_bounded_size(path: Path):
    words = "\0" * MOST_WORDS  # the longest in JSON
    deaths = {
        f"{number:01000}": tuple(Death(f"{one}", words) for one in range(MOST_DEATHS)) for number in range(MOST_KEYS)
    }
    path.write_bytes(msgspec.json.encode(Noted(deaths, [str(number) for number in range(MOST_STOPS)])))
    suspects = Suspects(path)
    suspects.died(f"{0:01000}", "another")
    suspects.died("new", "s", words + words)
    suspects.note_stop("new")
    again = Suspects(path)
    assert again.deaths(f"{1:01000}") == ()
    assert [one.server for one in again.deaths(f"{0:01000}")] == ["1", "2", "another"]
    assert again.deaths("new")[0].words == words
    assert not again.was_ours("0")
    assert again.was_ours("1")
    assert again.was_ours("new")
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"deaths": {"a": 3}}', b"\xff" * 100])
def test_a_damaged_file_counts_as_empty_and_is_kept(path: Path, damage: bytes, caplog: pytest.LogCaptureFixture):
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        suspects = Suspects(path)
    assert suspects.deaths("a") == ()
    assert f"{path}.damaged" in caplog.text
    assert Path(f"{path}.damaged").read_bytes() == damage
    suspects.died("a", "s")
    assert len(Suspects(path).deaths("a")) == 1


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need rights on Windows")
def test_a_link_is_not_followed(path: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    path.symlink_to(other)
    Suspects(path).died("a", "s")
    assert other.read_bytes() == b"precious"
    assert not path.is_symlink()


def test_a_death_counts_though_it_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    suspects = Suspects(tmp_path / "missing" / "file")
    suspects.died("a", "s")
    assert len(suspects.deaths("a")) == 1
    assert "not known any more once the launcher ends" in caplog.text


def test_a_process_lives_by_its_identity_until_it_ends():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        server = identity.of(process.pid)
        assert server == identity.of(process.pid)
        assert server != identity.of(os.getpid())
        assert identity.is_living(server)
        pid, _, rest = server.partition("@")
        assert not identity.is_living(f"{pid}@1.0@{rest.partition('@')[2]}")
        assert not identity.is_living(f"{server}-of-another-boot")
        process.kill()
    assert not identity.is_living(server)
    assert identity.of(process.pid) == ""


@pytest.mark.parametrize("server", ["", "x", "1", "1@", "1@x@b", "1@1.0", f"{10**40}@1.0@b", "-1@1.0@b"])
def test_a_text_that_means_no_process_lives_nowhere(server: str):
    assert not identity.is_living(server)
