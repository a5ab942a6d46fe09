"""The partial file of a download, on a real disk."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.disk import UnsafeFileError
from adapters.downloads.identity import Identity
from adapters.downloads.names import files_of, partial_path
from adapters.downloads.partial_file import (
    DestinationBusyError,
    PartialFile,
    StalePartialFileError,
    WrongContentError,
)
from adapters.downloads.sidecar import Sidecar
from recovery.subscribers.classification import classify

URL = "https://example.org/model.bin"
SHA256 = hashlib.sha256(b"a model").hexdigest()


def opened(folder: Path, **wanted: Any) -> PartialFile:
    return PartialFile(folder / "model.bin", **{"url": URL, "sha256": None, "size": None, **wanted})


def left(folder: Path, data: bytes = b"12345", **known: Any) -> None:
    (folder / "model.bin.part").write_bytes(data)
    known = {"url": URL, "offset": len(data)} | known
    (folder / "model.bin.part.json").write_bytes(msgspec.json.encode(Sidecar(**known)))


def known_of(folder: Path) -> Sidecar:
    return msgspec.json.decode((folder / "model.bin.part.json").read_bytes(), type=Sidecar)


@pytest.mark.parametrize(
    ("known", "wanted", "offset"),
    [
        ({}, {}, 5),
        ({"offset": 3}, {}, 3),
        ({"offset": 7}, {}, 5),
        ({}, {"url": f"{URL}?signature=2"}, 5),
        ({"sha256": "a" * 64}, {"sha256": "a" * 64}, 5),
        ({"sha256": "a" * 64}, {"sha256": "A" * 64}, 5),
        ({"sha256": "a" * 64, "url": "https://other.org/"}, {"sha256": "a" * 64}, 5),
        ({"sha256": "a" * 64}, {"sha256": "b" * 64}, 0),
        ({"sha256": "a" * 64}, {}, 5),
        ({}, {"sha256": "a" * 64}, 5),
        ({"sha256": "a" * 64, "url": "https://other.org/"}, {}, 5),
        ({"linked": "a" * 40, "url": "https://other.org/"}, {}, 5),
        ({"size": 9}, {"size": 9}, 5),
        ({"size": 9}, {"size": 8}, 0),
        ({"size": 9}, {}, 5),
    ],
)
def test_a_part_is_trusted_as_far_as_it_is_the_same_content(
    tmp_path: Path, known: dict[str, Any], wanted: dict[str, Any], offset: int
) -> None:
    left(tmp_path, **known)
    partial = opened(tmp_path, **wanted)
    assert (partial.offset, partial_path(partial.destination).stat().st_size) == (offset, offset)
    partial.close()


@pytest.mark.parametrize("known", [{"etag": '"a"'}, {"linked": "a" * 40}, {}], ids=str)
def test_bytes_of_another_url_that_nothing_identifies_stay_as_they_are_until_others_come(
    tmp_path: Path, known: dict[str, Any]
) -> None:
    left(tmp_path, **known, url="https://other.org/")
    before = known_of(tmp_path)
    partial = opened(tmp_path, sha256=SHA256)
    partial.close()
    assert (partial.offset, known_of(tmp_path)) == (
        5,
        msgspec.structs.replace(before, written_to=partial.sidecar.written_to),
    )
    partial = opened(tmp_path, sha256=SHA256)
    partial.restart()
    assert (partial.offset, partial.sidecar.url, partial.sidecar.etag, partial.sidecar.sha256) == (0, URL, None, SHA256)
    partial.close()


def killed(folder: Path, *, boot: str = "this boot") -> None:
    """As a process leaves it that saved five bytes and was killed after it had written eight."""
    partial = opened(folder, boot=boot)
    partial.write(b"12345")
    partial.save()
    partial.write(b"678")
    shutil.copytree(folder, folder / "copy")
    partial.close()
    for name in PLACES:
        with (folder / name).open("r+b") as file:
            file.truncate(0)
            file.write((folder / "copy" / name).read_bytes())


@pytest.mark.parametrize(
    ("boot", "boot_now", "offset"),
    [("this boot", "this boot", 8), ("an earlier boot", "this boot", 5), ("", "", 5)],
    ids=["same boot", "another boot", "no boot id"],
)
def test_the_length_is_trusted_only_in_the_boot_that_wrote_it(
    tmp_path: Path, boot: str, boot_now: str, offset: int
) -> None:
    killed(tmp_path, boot=boot)
    partial = opened(tmp_path, boot=boot_now)
    assert (partial.offset, partial_path(partial.destination).read_bytes()) == (offset, b"12345678"[:offset])
    partial.close()


def test_the_length_of_another_file_in_the_place_of_the_part_is_not_trusted(tmp_path: Path) -> None:
    killed(tmp_path)
    part = tmp_path / "model.bin.part"
    part.rename(tmp_path / "away")  # its inode is not free for the other
    part.write_bytes(b"12345678")
    partial = opened(tmp_path, boot="this boot")
    assert partial.offset == 5
    partial.close()


def test_a_part_that_is_longer_than_the_whole_is_not_trusted_beyond_its_sync(tmp_path: Path) -> None:
    killed(tmp_path)
    sidecar = tmp_path / "model.bin.part.json"
    noted = known_of(tmp_path)
    sidecar.write_bytes(msgspec.json.encode(msgspec.structs.replace(noted, size=7)))
    partial = opened(tmp_path, boot="this boot")
    assert partial.offset == 5
    partial.close()


def test_a_part_for_another_content_has_no_sidecar_when_its_first_bytes_come(tmp_path: Path) -> None:
    killed(tmp_path)
    partial = opened(tmp_path, url="https://other.org/", boot="this boot")
    partial.restart()
    partial.write(b"others")
    assert not (tmp_path / "model.bin.part.json").exists()
    partial.close()


def test_bytes_beside_a_part_leave_its_sidecar_as_it_is(tmp_path: Path) -> None:
    left(tmp_path, etag='"x"')
    partial = opened(tmp_path)
    partial.write_beside()
    before = (tmp_path / "model.bin.part.json").read_bytes()
    partial.write(b"678")
    partial.save()
    assert (partial.sidecar.offset, (tmp_path / "model.bin.part.json").read_bytes()) == (0, before)
    partial.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == PLACES


@pytest.mark.parametrize(
    "sidecar",
    [
        None,
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"url":1}',
        b'{"url":"https://example.org/model.bin","offset":-1}',
        b'{"url":"https://example.org/model.bin","offset":5,"size":-1}',
        b'{"url":"https://example.org/model.bin","offset":1e99}',
    ],
)
def test_a_sidecar_that_says_nothing_sensible_is_not_believed(tmp_path: Path, sidecar: bytes | None) -> None:
    left(tmp_path)
    (tmp_path / "model.bin.part.json").unlink()
    if sidecar is not None:
        (tmp_path / "model.bin.part.json").write_bytes(sidecar)
    partial = opened(tmp_path)
    assert partial.offset == 0
    partial.close()


def test_a_partial_file_is_opened_once_at_a_time(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(DestinationBusyError, match=r"model\.bin\.part"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()


def test_a_part_that_another_download_has_just_finished_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = tmp_path / "model.bin"
    first = opened(tmp_path)
    first.write(b"whole")
    flock = fcntl.flock

    def finished_meanwhile(*args: Any) -> None:
        monkeypatch.undo()
        first.finish()
        flock(*args)

    monkeypatch.setattr(fcntl, "flock", finished_meanwhile)
    second = opened(tmp_path)
    second.write(b"pa")
    assert destination.read_bytes() == b"whole"
    second.close()


def test_a_part_that_starts_over_forgets_on_the_disk_before_new_bytes_come(tmp_path: Path) -> None:
    left(tmp_path, etag='"old"', sha256=None)
    partial = opened(tmp_path)
    partial.restart()
    partial.describe(Identity(etag='"new"'), size=9)
    partial.write(b"n")
    assert not (tmp_path / "model.bin.part.json").exists()
    partial.close()


def test_what_is_saved_is_on_the_disk_to_the_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    partial = opened(tmp_path)
    partial.write(b"12345")
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    assert partial.save() == 5
    assert sizes == [5]
    partial.close()


def test_what_is_noted_tells_no_secrets(tmp_path: Path) -> None:
    partial = opened(tmp_path, url="https://user:hunter2@example.org/model.bin?token=hunter2#hunter2")
    partial.write(b"12345")
    partial.close()
    sidecar = tmp_path / "model.bin.part.json"
    assert b"hunter2" not in sidecar.read_bytes()
    assert stat.S_IMODE(sidecar.stat().st_mode) == 0o600


def test_every_file_that_a_part_makes_is_known(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    partial.save()
    assert set(tmp_path.iterdir()) <= set(files_of(tmp_path / "model.bin"))
    assert not set(tmp_path.iterdir()) & set(files_of(tmp_path / "model.ckpt"))  # names that differ in their ending
    partial.close()


@pytest.mark.parametrize("letter", ["a", "模", "\udcff"], ids=["ASCII", "three bytes", "not UTF-8"])
def test_names_of_any_length_give_each_destination_files_of_its_own(tmp_path: Path, letter: str) -> None:
    longest = 255 // len(os.fsencode(letter))
    names = [letter * (longest - less) for less in range(8)]
    names += [name[: -len(end)] + end for name in names for end in (".bin", ".ckpt")]
    names += [partial_path(tmp_path / name).name.removesuffix(".part") for name in names]  # made to be taken
    names = list(dict.fromkeys(names))
    found = [file.name for name in names for file in files_of(tmp_path / name)]
    assert len(set(found)) == len(found)
    assert max(len(os.fsencode(name)) for name in found) == 255


def test_a_file_with_the_longest_name_arrives(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path / ("模" * 85), url=URL, sha256=None, size=None)
    partial.write(b"12345")
    partial.save()
    partial.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["模" * 85]


def test_a_part_to_which_nothing_came_is_not_left_behind(tmp_path: Path) -> None:
    opened(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_closing_a_part_twice_is_harmless(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    partial.write(b"12345")
    partial.close()
    partial.close()
    assert (tmp_path / "model.bin.part").read_bytes() == b"12345"


@pytest.mark.parametrize(("kept", "error"), [(b"", WrongContentError), (b"1234", StalePartialFileError)])
def test_wrong_bytes_are_dropped_and_permanent_only_for_one_transfer(
    tmp_path: Path, kept: bytes, error: type[Exception]
) -> None:
    left(tmp_path, kept, sha256=SHA256)
    partial = opened(tmp_path, sha256=SHA256)
    partial.write(b"something else")
    with pytest.raises(error, match=r"model\.bin is not the file that was promised: its sha256 is"):
        partial.finish()
    partial.close()
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin.part.json"] * bool(kept)


def test_bytes_of_several_responses_that_are_wrong_twice_are_wrong_for_good(tmp_path: Path) -> None:
    for error in (StalePartialFileError, WrongContentError):
        partial = opened(tmp_path, sha256=SHA256)
        for _ in range(2):
            partial.describe(Identity(), size=14)
            partial.write(b"another")
        with pytest.raises(error):
            partial.finish()
        partial.close()
    assert list(tmp_path.iterdir()) == []


# What others may have put in the place of its files


PLACES = ["model.bin.part", "model.bin.part.json"]


def planted(path: Path, kind: str) -> Path:
    """Put something that is no plain file at *path*, and return the file outside that must stay as it is."""
    outside = path.parent.parent / "outside"
    outside.write_bytes(b"precious")
    match kind:
        case "link":
            path.symlink_to(outside)
        case "dangling link":
            path.symlink_to(path.parent.parent / "nothing")
        case "hard link":
            path.hardlink_to(outside)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    return outside


@pytest.mark.parametrize(
    ("place", "kind"),
    [(PLACES[0], "hard link"), *itertools.product(PLACES, ["link", "dangling link", "pipe", "folder"])],
)
def test_what_is_no_plain_file_is_refused_at_once_and_nothing_outside_is_touched(
    tmp_path: Path, place: str, kind: str
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    if place == PLACES[1]:
        (folder / PLACES[0]).write_bytes(b"12345")
    outside = planted(folder / place, kind)
    with pytest.raises(UnsafeFileError, match=rf"{place} (is|has) a") as caught:
        opened(folder)
    assert classify(caught.value).recoverability == "never"
    assert outside.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "outside"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "pipe"])
def test_a_leftover_of_the_sidecar_is_replaced_and_nothing_outside_is_touched(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    outside = planted(folder / "model.bin.part.json.new", kind)
    partial = opened(folder)
    partial.write(b"12345")
    partial.close()
    assert outside.read_bytes() == b"precious"
    assert msgspec.json.decode((folder / "model.bin.part.json").read_bytes(), type=Sidecar).offset == 5
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_destination_that_a_file_cannot_replace_is_refused_before_anything_comes(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    planted(folder / "model.bin", kind)
    with pytest.raises(UnsafeFileError, match=r"model\.bin is no file"):
        opened(folder)
    assert [path.name for path in folder.iterdir()] == ["model.bin"]


@pytest.mark.parametrize("text", [b"[" * 30_000, b'{"url":"' + b"x" * 1_000_000 + b'"}', b'{"url":"\xff"}'])
def test_a_sidecar_that_was_made_to_harm_is_read_in_bounds(tmp_path: Path, text: bytes) -> None:
    left(tmp_path)
    (tmp_path / "model.bin.part.json").write_bytes(text)
    if len(text) > 100_000:
        with pytest.raises(UnsafeFileError, match="has more than 524288 bytes"):
            opened(tmp_path)
    else:
        opened(tmp_path).close()


@pytest.mark.parametrize("becomes", [b"another file, and a longer one", None])
def test_a_part_that_is_removed_or_replaced_meanwhile_is_never_given_the_name(
    tmp_path: Path, becomes: bytes | None
) -> None:
    partial = opened(tmp_path)
    partial.write(b"12345")
    partial_path(partial.destination).unlink()
    if becomes is not None:
        partial_path(partial.destination).write_bytes(becomes)
    with pytest.raises(StalePartialFileError, match="removed or replaced"):
        partial.finish()
    partial.close()
    assert not partial.destination.exists()


@pytest.mark.parametrize("end", ["save", "finish"])
def test_a_folder_that_takes_the_place_of_the_parts_folder_is_not_touched(tmp_path: Path, end: str) -> None:
    folder, outside = tmp_path / "models", tmp_path / "outside"
    outside.mkdir()
    partial = opened(folder)
    partial.write(b"12345")
    partial.save()
    for name in PLACES:
        (outside / name).write_bytes(b"precious")
    folder.rename(tmp_path / "moved")
    folder.symlink_to(outside)
    with pytest.raises(StalePartialFileError, match="removed or replaced"):
        getattr(partial, end)()
    partial.close()
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == dict.fromkeys(PLACES, b"precious")


def test_a_sidecar_with_a_second_name_is_replaced_and_the_other_name_keeps_its_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    outside = planted(folder / PLACES[1], "hard link")
    partial = opened(folder)
    partial.write(b"12345")
    partial.close()
    assert outside.read_bytes() == b"precious"


# The length that was promised


@pytest.mark.parametrize(("kept", "error"), [(b"", WrongContentError), (b"12", StalePartialFileError)])
def test_a_byte_too_many_is_never_written(tmp_path: Path, kept: bytes, error: type[Exception]) -> None:
    left(tmp_path, kept, size=5)
    partial = opened(tmp_path, size=5)
    partial.describe(Identity(), size=None)
    partial.write(b"12345"[len(kept) :])
    with pytest.raises(error, match="more than 5 bytes came"):
        partial.write(b"6")
    partial.close()
    assert not (tmp_path / "model.bin.part").exists()
