"""Generated secrets in generated failures: nothing of them is journalled, logged, noted or shown."""

from __future__ import annotations

import io
import logging
import random
import string
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from adapters.journals.status import read_status
from adapters.sqlite.store import SQLiteStore
from adapters.terminal.status_table import status_table
from events.operation_events import FailureClassified
from events.verdicts import GiveUp
from recovery.literals import LEAST_PART, MASK, folded, hide, unhide
from recovery.redact import MAX_READ
from recovery.service import Recovery
from recovery.subscribers.evidence_extraction import MAX_TEXT
from tests.slow import few

ALPHABETS = ("".join(map(chr, range(1, 127))), "".join(map(chr, range(1, 0x250))), string.ascii_letters + string.digits)
FILLERS = ("", "x ", "fatal: no such file\n", "| 12% \r", "\x1b[31mred\x1b[0m ", "/models/a.bin: ")
LENGTHS = st.one_of(st.integers(0, 60), st.sampled_from([MAX_TEXT, MAX_READ // 2, MAX_READ, 3 * MAX_READ]))


def secret_of(alphabet: str, length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=length))


def text_of(filler: str, before: int, after: int, offset: int) -> Callable[[str], str]:
    """A text that says a secret after *before* characters, less *offset*, and before *after* characters."""

    def text(said: str) -> str:
        head, tail = (filler * (length // len(filler) if filler else 0) for length in (before, after))
        return f"{head[: max(len(head) - offset, 0)]} {said} {tail}"

    return text


SECRETS = st.builds(secret_of, st.sampled_from(ALPHABETS), st.integers(12, 2000), st.integers(0, 2**32))
TEXTS = st.builds(text_of, st.sampled_from(FILLERS), LENGTHS, LENGTHS, st.integers(0, 2100))

Raises = Callable[[str, Callable[[str], str]], Exception]


def in_message(said: str, text: Callable[[str], str]) -> Exception:
    return ConnectionError(text(said))


def in_group(said: str, text: Callable[[str], str]) -> Exception:
    return ExceptionGroup(text(said), [OSError(5, text(said), said), ConnectionError(repr(text(said)))])


def in_cause(said: str, text: Callable[[str], str]) -> Exception:
    error = RuntimeError("failed")
    error.__cause__ = ValueError(text(said))
    return error


def in_process(said: str, text: Callable[[str], str]) -> Exception:
    return subprocess.CalledProcessError(128, ["tool", said, text(said)], stderr=text(said))


def in_output(said: str, text: Callable[[str], str]) -> Exception:
    return subprocess.TimeoutExpired(["tool", "-u", said], 5.0, output=text(said).encode())


def left_behind(error: Exception) -> str:
    """What the failure of a call leaves: rows, log lines, notes, the tables of its journal."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    logger = logging.getLogger("recovery")
    logger.addHandler(handler)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "calls.db")

            def fails() -> None:
                raise error

            with Recovery(store=SQLiteStore(path), enable_logging=True) as service:
                reason = GiveUp(f"{error}")
                service.bus.subscribe(FailureClassified, lambda event: reason if event.attempt > 1 else None)
                with pytest.raises(type(error)):
                    service.recoverable("fetch", initial_delay=0.0, max_retries=1)(fails)()
            rows = b"".join(file.read_bytes() for file in path.parent.iterdir()).decode("utf-8", "replace")
            console = Console(file=io.StringIO(), width=100)
            console.print(status_table(anyio.run(read_status, path), path, now=time.time(), show_all=True))
    finally:
        logger.removeHandler(handler)
    assert "FailureClassified" in rows
    assert "gave up" in lines.getvalue()
    notes = "\n".join(error.__notes__)
    return "\n".join((rows, lines.getvalue(), notes, console.file.getvalue()))  # type: ignore[attr-defined]  # a StringIO


def parts(secret: str) -> set[str]:
    """Every six characters of *secret* in a row, whatever quotes or escapes them."""
    said = folded(secret)
    return {said[at : at + LEAST_PART] for at in range(len(said) - LEAST_PART + 1)}


@pytest.fixture(autouse=True)
def own_literals() -> Iterator[None]:
    yield
    unhide()


@pytest.mark.parametrize("raises", few([in_message, in_group, in_cause, in_process, in_output], in_process))
@given(secret=SECRETS, text=TEXTS)
@settings(max_examples=settings.default.max_examples // 12)
@example(
    secret="-----BEGIN KEY-----\n\tab12cd34ef56 gh78\n  ij90kl12mn34\n-----END KEY-----", text=text_of("", 0, 0, 0)
)
@example(secret=secret_of(ALPHABETS[2], 1700, 1), text=lambda said: f"refused {said}, " * 8)
@example(secret=secret_of(ALPHABETS[2], 1700, 2), text=text_of("x ", MAX_TEXT, 3 * MAX_READ, 850))
def test_nothing_of_a_hidden_literal_is_left_behind(raises: Raises, secret: str, text: Callable[[str], str]) -> None:
    assume(len(folded(secret)) >= 8)
    unhide()
    nothing = folded(left_behind(raises(MASK, text)))
    wanted = {part for part in parts(secret) if part not in nothing}
    hide(secret)
    found = folded(left_behind(raises(secret, text)))
    assert [part for part in wanted if part in found] == []


CARRIERS: tuple[Callable[[str], str], ...] = (
    lambda secret: f"https://user:{quote(secret, safe='')}@example.org/x.git",
    lambda secret: f"https://example.org/m?sig={quote(secret, safe='')}&se=1",
    lambda secret: f"curl -u 'user:{secret}' https://example.org",
    lambda secret: f"{{'password': '{secret}'}}",
    lambda secret: f"Authorization: Bearer {secret}",
    lambda secret: f"ghp_{secret}",
    lambda secret: f"eyJhbGci.{secret}.{secret}",
)


@pytest.mark.parametrize("raises", [in_message, in_process, in_output])
@given(
    secret=st.builds(secret_of, st.just(ALPHABETS[2]), st.integers(20, 2000), st.integers(0, 2**32)),
    text=TEXTS,
    carrier=st.sampled_from(CARRIERS),
)
@settings(max_examples=settings.default.max_examples // 12)
def test_nothing_of_a_secret_that_has_a_known_shape_is_left_behind(
    raises: Raises, secret: str, text: Callable[[str], str], carrier: Callable[[str], str]
) -> None:
    found = folded(left_behind(raises(carrier(secret), text)))
    assert [part for part in parts(secret) if part in found] == []
