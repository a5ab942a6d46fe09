"""Secrets planted everywhere a failure can carry one, and searched for in every byte that is left behind."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx2

from adapters.sqlite.reading import reading
from adapters.sqlite.store import SQLiteStore
from events.codec import decode
from events.conditions import Condition
from events.journal_events import JournalDegraded
from events.operation_events import FailureClassified, GaveUp, RetryScheduled
from events.verdicts import GiveUp, Park
from recovery.journal.store import Row
from recovery.policies.retry import RetryPolicy
from recovery.redact import hide
from recovery.serialization.secret import Secret
from recovery.service import Recovery
from recovery.testing import FaultyStore
from recovery.waiting.waiters import Latch
from tests.torture.figures import Figure, scaled
from tests.torture.fork_server import ForkServer

REPEATED = 10
POLICY = RetryPolicy(max_retries=1, backoff=(0.0,))


def in_url(secret: str) -> Exception:
    return ConnectionError(f"GET https://user:{secret}@example.org/m?token={secret}&x=1 failed")


def in_encoded_url(secret: str) -> Exception:
    return ConnectionError(f"next={quote(f'https://user:{secret}@example.org/m?api_key={secret}', safe='')}")


def in_header(secret: str) -> Exception:
    return ConnectionError(f"sent {{'Authorization': 'Bearer {secret}', 'Cookie': 'session={secret}'}}")


def in_request(secret: str) -> Exception:
    request = httpx2.Request(
        "GET", f"https://user:{secret}@example.org/m?token={secret}", headers={"Authorization": f"Bearer {secret}"}
    )
    response = httpx2.Response(503, request=request, headers={"Set-Cookie": f"id={secret}"}, text=f"token={secret}")
    return httpx2.HTTPStatusError(f"503 for url {request.url}", request=request, response=response)


def in_note(secret: str) -> Exception:
    error = ConnectionError("reset")
    error.add_note(f"was fetching https://user:{secret}@example.org/ with password={secret}")
    return error


def in_cause(secret: str) -> Exception:
    error = ConnectionError("reset")
    error.__cause__ = OSError(f"https://user:{secret}@example.org/")
    error.__cause__.__context__ = in_header(secret)
    return error


def in_group(secret: str) -> Exception:
    return ExceptionGroup(f"all of token={secret}", [in_url(secret), ExceptionGroup("inner", [in_note(secret)])])


def in_command(secret: str) -> Exception:
    command = ["git", "clone", f"https://user:{secret}@example.org/x.git", "--token", secret]
    return subprocess.CalledProcessError(
        128, command, output=f"password={secret}", stderr=f"fatal: https://{secret}@example.org/ ghp_{secret}"
    )


def in_arguments(secret: str) -> Exception:
    return OSError(5, f"token={secret}", f"https://user:{secret}@example.org/file")


def in_the_middle_of_a_long_text(secret: str) -> Exception:
    return ConnectionError("x " * 2040 + f"https://user:{secret}@example.org/?token={secret} " + "y " * 4000)


def as_a_literal(secret: str) -> Exception:
    hide(f"{secret}/ö")
    return ConnectionError(f"{secret}/ö, {quote(f'{secret}/ö')}, {quote(f'{secret}/ö', safe='')}")


def as_a_literal_in_lines(secret: str) -> Exception:
    hide(f"BEGIN\n\t{secret}  {secret}\r\nEND")
    said = f"BEGIN\n\t{secret}  {secret}\r\nEND"
    return subprocess.CalledProcessError(1, ["tool", said], stderr=f"refused:\n{said}\n" * 200)


def in_a_long_password(secret: str) -> Exception:
    return ConnectionError("x " * 2040 + f"https://aws:{secret * 40}@example.org/" + " y" * 100_000)


def in_a_command_of_curl(secret: str) -> Exception:
    return subprocess.CalledProcessError(22, ["curl", "-u", f"user:{secret}", "-H", f"Authorization: Basic {secret}"])


CARRIERS: tuple[Callable[[str], Exception], ...] = (
    *(in_url, in_encoded_url, in_header, in_request, in_note, in_cause, in_group, in_command, in_arguments),
    *(in_the_middle_of_a_long_text, as_a_literal, as_a_literal_in_lines, in_a_long_password, in_a_command_of_curl),
)


def fail_with(folder: str, secret: str) -> None:
    """Fail in every way with *secret*; kill this process when all of it is written."""
    logging.basicConfig(filename=f"{folder}/log", level=logging.DEBUG)
    logging.captureWarnings(True)
    os.environ["TORTURE_TOKEN"] = secret
    store = FaultyStore(
        SQLiteStore(f"{folder}/calls.db"), fail_at=4, error=lambda: OSError(f"smb://user:{secret}@nas/calls.db is away")
    )
    degraded = Latch()
    with Recovery(store=store, enable_logging=True) as service:
        service.bus.subscribe(JournalDegraded, lambda _: degraded.open())
        for carry in CARRIERS:
            _fail(service, carry.__name__, carry(secret))
        _fail_as_an_argument(service)
        with service.bus.subscribe(RetryScheduled, lambda _: _raise(in_url(secret))):
            _fail(service, "a subscriber", ConnectionError())
        answer = GiveUp(f"token={secret} is refused")
        with service.bus.subscribe(FailureClassified, lambda _: answer, operation="a plug-in"):
            _fail(service, "a plug-in", ConnectionError())
        for holds in (lambda: True, lambda: _raise(in_url(secret))):
            park = Park(after=0.0, until=(Condition(f"https://user:{secret}@example.org/", holds),), within=0.2)
            with service.bus.subscribe(FailureClassified, lambda _: park, operation="a condition"):  # noqa: B023  # within its turn
                _fail(service, "a condition", ConnectionError())
        _fail(service, "a failing classifier", ConnectionError(), classifier=lambda _: _raise(in_header(secret)))
        try:
            unwanted = service.recoverable("a result", policy=POLICY, retry_if=lambda _: True)
            unwanted(lambda: f"https://user:{secret}@example.org/")()
        except Exception:
            logging.info("the unwanted result is not returned")
        assert degraded.wait(20.0)
        service.bus.publish(GaveUp(at=0.0, operation="last", call="last"))
        while True:
            try:
                service.journal.receipt().wait()
            except Exception:
                time.sleep(0.01)  # the store has failed
            else:
                os.kill(os.getpid(), signal.SIGKILL)


def _raise(error: Exception) -> Any:
    raise error


def _fail(service: Recovery, name: str, error: Exception, **settings: Any) -> None:
    try:
        service.recoverable(name, policy=POLICY, breaker=None, **settings)(lambda: _raise(error))()
    except Exception:
        logging.info("%s gave up", name)


def _fail_as_an_argument(service: Recovery) -> None:
    def fetch(token: Secret) -> None:
        raise ConnectionError(f"{token.reveal()} was refused")

    try:
        service.recoverable("an argument", policy=POLICY, breaker=None, resumable=True)(fetch)(
            Secret("env:TORTURE_TOKEN")
        )
    except Exception:
        logging.info("an argument gave up")


def leaks(fork_server: ForkServer, share: float) -> list[Figure]:
    """The figure of leaked secrets."""
    repeated, leaked, looked_at = scaled(REPEATED, share), 0, 0
    for _ in range(repeated):
        secret = secrets.token_hex(20)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            child = fork_server.fork(fail_with, name, secret, out=folder / "out")
            code = child.wait(60.0)
            assert code == -signal.SIGKILL, child.out.read_text()
            assert (folder / "calls.db-wal").stat().st_size > 0
            for path in folder.iterdir():
                found = path.read_bytes() if path.is_file() else b""
                looked_at += len(found)
                leaked += _report(path.name, found, secret)
            read = str([decode(row.body) for row in anyio.run(_rows, folder / "calls.db")])
            assert all(carry.__name__ in read for carry in CARRIERS)
            leaked += _report("events", read.encode(), secret)
    how_often = f"{len(CARRIERS) + 8} carriers, {repeated} times"
    return [Figure("bytes of a planted secret left behind", how_often, f"{leaked} of {looked_at}", "0", leaked == 0)]


def _report(where: str, found: bytes, secret: str) -> int:
    count = found.count(secret.encode())
    for before in found.split(secret.encode())[:-1]:
        print(f"{where}: {before[-200:].decode(errors='replace')}", file=sys.stderr)
    return count * len(secret)


async def _rows(path: Path) -> list[Row]:
    async with reading(path) as reader:
        return list(await reader.rows())
