"""What commands print, on its way into their logs: lines, bounds, and the file that their processes write to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.processes.lines import MOST_OF_A_LINE, Lines
from adapters.processes.log_file import TOLD, LogFile
from adapters.processes.output import CHUNK, MOST_RAW, Output
from recovery.redact import hide, unhide


def lines_of(*chunks: bytes) -> list[str]:
    lines = Lines()
    return [line for chunk in chunks for line in lines.feed(chunk)] + lines.finish()


# Lines


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"one\ntwo"], ["one", "two"]),
        ([b"o", b"n", b"e\n\n"], ["one", ""]),
        ([b"one\r\ntwo\r", b"\n"], ["one", "two"]),
        ([b"  0%\r 50%\r", b"100%", b"\rdone\n"], ["done"]),
        ([b"\x1b[31mERR", b"OR\x1b[0m\n"], ["ERROR"]),
        ([b"\x1b[2K 12%\r\x1b[2K 13%"], [" 13%"]),
        ([b"\tif x:\a\n"], ["\tif x:"]),
        (["é".encode()[:1], "é\n".encode()[1:]], ["é"]),
        ([b"\xff\n"], ["\ufffd"]),
        ([b"\rx" * 100_000], ["x"]),
        ([b"password=hunt", b"er22\nvisible"], ["password=***", "visible"]),
        ([b"pass\x1b[0mword=hunter22\n"], ["password=***"]),
        ([b"password=\0hunter22\n"], ["password=***"]),
        ([b"x" * MOST_OF_A_LINE * 3, b"password=hunter22\nnext"], ["x" * 16_384, "next"]),
    ],
)
def test_a_line_is_what_a_terminal_shows_without_its_secrets(chunks: list[bytes], lines: list[str]) -> None:
    assert lines_of(*chunks) == lines


def test_a_private_key_is_masked_over_all_its_lines() -> None:
    key = b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\nowIB\n-----END RSA PRIVATE KEY-----\nafter\n"
    text = "\n".join(lines_of(key))
    assert "MIIE" not in text
    assert "owIB" not in text
    assert text.endswith("***\nafter")


def test_a_key_without_an_end_does_not_mask_all_that_follows() -> None:
    assert lines_of(b"-----BEGIN PRIVATE KEY-----\n" + b"line\n" * 300)[-1] == "line"


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\x1b[1m", "é".encode()[:1], "é".encode()[1:]]), max_size=30))
def test_no_line_depends_on_how_the_output_was_cut_into_chunks(parts: list[bytes]) -> None:
    assert lines_of(*parts) == lines_of(b"".join(parts))


# The log


def test_a_log_keeps_the_beginning_and_the_end_of_each_run(tmp_path: Path) -> None:
    path, first, last = tmp_path / "c.log", "0" * 99, "9" * 99
    with closing(LogFile(path, earlier=1000, head=500, tail=2000)) as log:
        for line in (first, *["x" * 99] * 900, last):
            log.write([line])
            assert path.stat().st_size <= 500 + 2 * 2000 + 50
        text = path.read_text()
        assert text.startswith(f"{first}\n")
        assert text.count("bytes are left out ...]\n") == 1
        assert text.endswith(f"\n{last}\n")
        assert len(log.told()) == 2 * TOLD
        log.begin()
        log.write(["of the next run"])
        assert path.read_text() == f"{'x' * 99}\n" * 8 + f"{last}\nof the next run\n"
        assert log.told() == "of the next run\n"


def test_a_log_counts_what_it_leaves_out(tmp_path: Path) -> None:
    with closing(LogFile(tmp_path / "c.log", head=500, tail=2000)) as log:
        for number in range(10_000):
            log.write([f"{number:09}"])
    head, _, rest = (tmp_path / "c.log").read_text().partition("[... ")
    count, _, tail = rest.partition(" bytes are left out ...]\n")
    assert len(head) + int(count) + len(tail) == 100_000


# The file that processes write to


class Copied:
    """An ``Output``, the lines that it has told, and how far the copy was noted."""

    def __init__(self, folder: Path, offset: int = 0, most_raw: int = MOST_RAW) -> None:
        self.lines: list[str] = []
        self.offsets: list[int] = []
        self.raw, self.log = folder / "c.raw", LogFile(folder / "c.log")
        told, copied = self.lines.append, self.offsets.append
        self.output = Output(
            "c", self.raw, self.log, offset=offset, on_output=told, on_copied=copied, most_raw=most_raw
        )

    def close(self) -> bool:
        self.log.close()
        return self.output.close()

    def write(self, data: bytes) -> None:
        file = self.output.open_for_process()
        os.write(file, data)
        os.close(file)


def test_what_a_killed_launcher_has_copied_is_not_copied_again(tmp_path: Path) -> None:
    with closing(Copied(tmp_path)) as first:
        first.write(b"whole\nbeg")
        first.output.copy()
        assert (first.lines, first.offsets) == (["whole"], [6])
        with closing(Copied(tmp_path, offset=6)) as second:
            second.write(b"un\n")
            second.output.copy_rest()
        assert second.lines == ["begun"]
    assert (tmp_path / "c.log").read_text() == "whole\nbegun\n"


def test_the_file_is_emptied_and_processes_go_on_writing(tmp_path: Path) -> None:
    with closing(Copied(tmp_path, most_raw=1000)) as copied:
        file = copied.output.open_for_process()
        for number in range(100):
            os.write(file, b"%d\n" % number * 20 + b"end of a line that may be cut\n")
            copied.output.copy()
        os.close(file)
        assert copied.raw.stat().st_size < 2000
    assert copied.lines[-1] == "end of a line that may be cut"
    assert {"0", "50", "99"} <= set(copied.lines)


def test_the_file_is_emptied_although_it_is_not_read_to_its_end(tmp_path: Path) -> None:
    with closing(Copied(tmp_path, most_raw=1000)) as copied:
        copied.write(b"flood\n" * CHUNK)
        copied.write(b"last\n")
        copied.output.copy()
        assert copied.raw.stat().st_size == 0
    assert copied.lines[-1] == "last"


@pytest.mark.slow
def test_the_beginning_is_kept_however_fast_the_rest_comes(tmp_path: Path) -> None:
    with closing(Copied(tmp_path)) as copied:
        copied.output.begin()
        copied.write(b"first cause\n" + b"x" * 99 + b"\n" * 4_000_000 + b"last\n")
        copied.output.copy_rest()
    assert (copied.lines[0], copied.lines[-1]) == ("first cause", "last")
    assert any("bytes are left out ...]" in line for line in copied.lines)


def test_output_that_comes_too_fast_is_left_out_in_the_middle(tmp_path: Path) -> None:
    with closing(Copied(tmp_path)) as copied:
        copied.write(b"first\n")
        copied.output.copy()
        copied.write(b"password=" + b"hunter22" * 500_000 + b"\nlast\n")
        copied.output.copy_rest()
    assert copied.lines[0] == "first"
    assert "bytes are left out ...]" in copied.lines[1]
    assert copied.lines[2:] == ["last"]  # the rest of the secret is no line of its own


def test_the_file_stays_as_long_as_a_process_writes_to_it(tmp_path: Path) -> None:
    copied = Copied(tmp_path)
    file = copied.output.open_for_process()
    assert copied.close()
    later = Copied(tmp_path)
    os.write(file, b"of a helper\n")
    os.close(file)
    later.output.begin()
    assert later.lines == ["of a helper"]
    assert later.log.told() == ""
    assert not later.close()
    assert not copied.raw.exists()


class FullLog(LogFile):
    def write(self, lines: Sequence[str]) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_disk_ends_the_log_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []
    with closing(FullLog(tmp_path / "c.log")) as full:
        out = Output("c", tmp_path / "c.raw", full, on_output=lines.append)
        out.note("one")
        out.note("two")
        out.close()
    assert lines == ["[one]", "[two]"]
    assert caplog.text.count("the output of c is not logged any more: [Errno 28]") == 1


def test_an_observer_of_the_output_never_breaks_the_command(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(line: str) -> None:
        raise RuntimeError(line)

    with closing(LogFile(tmp_path / "c.log")) as log:
        out = Output("c", tmp_path / "c.raw", log, on_output=fail)
        out.note("one")
        out.note("two")
        out.close()
    assert caplog.text.count("is not called again") == 1
    assert (tmp_path / "c.log").read_text() == "[one]\n[two]\n"


def test_a_hidden_literal_is_in_no_log(tmp_path: Path) -> None:
    hide("opensesame42")
    try:
        with closing(Copied(tmp_path)) as copied:
            copied.write(b"say opensesame42\n")
            copied.output.copy_rest()
    finally:
        unhide("opensesame42")
    assert (tmp_path / "c.log").read_text() == "say ***\n"
