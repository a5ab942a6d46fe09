"""What a launcher's service does: patience, a circuit for each host, waits for disk, network and persons."""

from __future__ import annotations

import errno
import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.error import HTTPError

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.conditions import Condition
from events.evidence import Category
from events.operation_events import FailureClassified, GaveUp, Parked, RetryScheduled
from events.question_events import QuestionAsked
from recovery import RetryPolicy, Rule, context
from recovery.policies.circuit_states import HalfOpen
from recovery.presets import launcher
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of

PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a page")

    def log_message(self, *_: Any) -> None:
        pass


class Host:
    """A host on the loopback whose server can be started; its port is taken from the beginning."""

    def __init__(self) -> None:
        self.server = HTTPServer(("127.0.0.1", 0), Page, bind_and_activate=False)
        self.server.server_bind()
        self.port: int = self.server.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/page"
        self.key = f"127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def start(self) -> None:
        self.server.server_activate()
        self.thread.start()

    def stop(self) -> None:
        if self.thread.is_alive():
            self.server.shutdown()
            self.thread.join()
        self.server.server_close()


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    found = [Host(), Host()]
    yield found
    for host in found:
        host.stop()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5.0) as response:
        page: bytes = response.read()
    return page


def denied(status: int = 401) -> HTTPError:
    return HTTPError("https://example.org/model", status, "denied", Message(), None)


# --- patience ---


@given(draws=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=10))
def test_ten_retries_take_two_and_a_half_to_five_minutes(draws: list[float]) -> None:
    clock, left = VirtualClock(), draws * 10
    fetch = Script(*[ConnectionResetError] * 99)
    with pytest.raises(ConnectionResetError):
        launcher(clock=clock, rng=left.pop).recoverable("fetch")(fetch)()
    assert fetch.calls == 11
    assert 150.0 <= clock() <= 303.0


def test_an_attempt_that_gets_further_gives_the_retries_back(clock: VirtualClock) -> None:
    @launcher(clock=clock).recoverable("download")
    def download(made: list[int]) -> int:
        made.append(1)
        if len(made) < 50:
            context.progress(len(made) // 5)
            raise ConnectionResetError
        return len(made)

    assert download([]) == 50


@pytest.mark.parametrize(
    "decode",
    [
        lambda answer: json.loads(answer),
        lambda answer: msgspec.json.decode(answer),
        lambda answer: msgspec.json.decode(answer, type=list),
        lambda answer: answer.decode("ascii"),
    ],
    ids=["json", "msgspec", "a schema of msgspec", "unicode"],
)
def test_an_answer_that_cannot_be_decoded_is_asked_for_again(
    decode: Callable[[bytes], Any], clock: VirtualClock
) -> None:
    answers = ['{"ä":'.encode(), b"[]"]
    service = launcher(clock=clock)
    failures = events_of(service, FailureClassified)
    service.recoverable("ask")(lambda: decode(answers.pop(0)))()
    [failure] = [event for event in failures if isinstance(event, FailureClassified)]
    assert (failure.category, failure.rule) == (Category.TRANSIENT, "undecodable answer")


def test_an_error_of_the_program_is_not_tried_again(clock: VirtualClock) -> None:
    fetch = Script(ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        launcher(clock=clock).recoverable("fetch")(fetch)()
    assert fetch.calls == 1


# --- keys and circuits ---


def test_each_host_has_its_own_circuit_and_a_healthy_host_is_not_touched(
    hosts: list[Host], clock: VirtualClock
) -> None:
    down, up = hosts
    up.start()
    service = launcher(clock=clock)
    fetch = service.recoverable("fetch", max_retries=0)(get)
    for _ in range(5):
        with pytest.raises(OSError):
            fetch(down.url)
        assert fetch(up.url) == b"a page"
    [(key, circuit)] = service.circuits.states().items()
    assert key == ("fetch", down.key)
    assert isinstance(circuit, HalfOpen)  # its break ended while the latest call waited


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_to_a_host_with_an_open_circuit_waits_and_is_not_rejected(
    backend: str, hosts: list[Host], clock: VirtualClock
) -> None:
    host = hosts[0]
    service = launcher(clock=clock)
    waits = events_of(service, Parked)
    pages: list[bytes] = []

    @service.recoverable("fetch")
    async def fetch(url: str) -> None:
        await anyio.lowlevel.checkpoint()
        pages.append(get(url))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(fetch, host.url)
            await anyio.sleep(1.0)
            host.start()
            group.start_soon(fetch, host.url)

    clock.run(main, backend=backend)
    assert pages == [b"a page"] * 6
    whys = [event.why for event in waits if isinstance(event, Parked)]
    assert whys[:6] == [f"{host.key} reachable"] * 5 + [f"circuit open: fetch[{host.key}]"]
    assert service.circuits.states() == {}
    assert clock() < 60.0


def test_an_operation_with_a_key_of_its_own_keeps_it(clock: VirtualClock) -> None:
    service = launcher(clock=clock)
    failures = events_of(service, FailureClassified)
    service.recoverable("from a mirror", key=lambda *_: "mirror")(Script(TimeoutError))("https://example.org")
    service.recoverable("without a key", key=None)(Script(TimeoutError))("https://example.org")
    service.recoverable("named")(Script(TimeoutError))("https://example.org")
    service.recoverable("without a URL")(Script(TimeoutError))("models")
    assert [event.key for event in failures] == ["mirror", "", "example.org:443", ""]


def test_an_operation_can_be_emitted_by_hand(clock: VirtualClock) -> None:
    launcher(clock=clock).operation("render").start().succeed()


# --- waits ---


def test_a_call_waits_until_its_host_accepts_connections_and_uses_no_retry(
    hosts: list[Host], clock: VirtualClock
) -> None:
    host = hosts[0]
    service = launcher(clock=clock)
    retries = events_of(service, RetryScheduled)
    parked: list[str] = []

    def repair(event: Parked) -> None:
        parked.append(event.why)
        host.start()

    service.bus.subscribe(Parked, repair)
    assert service.recoverable("fetch")(get)(host.url) == b"a page"
    assert (parked, retries) == ([f"{host.key} reachable"], [])


def test_a_host_that_stays_away_is_given_up_after_a_quarter_of_an_hour(hosts: list[Host], clock: VirtualClock) -> None:
    with pytest.raises(OSError):
        launcher(clock=clock).recoverable("fetch")(get)(hosts[0].url)
    assert 899.0 <= clock() <= 901.0


@pytest.mark.parametrize("key", ["mirror", "a/b:80", "host:0", "host:99999", "host:", ":80", ""])
def test_a_key_that_is_no_host_and_port_is_tried_again_by_the_clock(key: str, clock: VirtualClock) -> None:
    service = launcher(clock=clock, key=lambda *_: key)
    waits = events_of(service, Parked)
    assert service.recoverable("fetch")(Script(ConnectionRefusedError, "a page"))() == "a page"
    assert waits == []


@pytest.mark.parametrize("name", [*PROXIES, "HTTPS_PROXY"])
def test_behind_a_proxy_only_an_attempt_tells_whether_a_host_is_back(
    name: str, monkeypatch: pytest.MonkeyPatch, clock: VirtualClock
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:3128")
    service = launcher(clock=clock)
    waits = events_of(service, Parked)
    assert service.recoverable("fetch")(Script(ConnectionRefusedError, "a page"))("https://host.invalid") == "a page"
    assert waits == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        subprocess.CalledProcessError(1, "pip", stderr="OSError: [Errno 28] No space left on device"),
    ],
    ids=["ENOSPC", "EDQUOT", "pip"],
)
def test_a_call_that_finds_the_disk_full_waits_for_room(error: Exception, clock: VirtualClock) -> None:
    room = Condition("room", lambda: clock() > 600.0)
    service = launcher(clock=clock, disk=room)
    waits = events_of(service, Parked, RetryScheduled)
    assert service.recoverable("save")(Script(error, "saved"))() == "saved"
    assert [event.why for event in waits if isinstance(event, Parked)] == ["room"]
    assert len(waits) == 1
    assert clock() > 600.0


def test_the_disk_is_by_default_the_one_that_the_process_works_on(clock: VirtualClock) -> None:
    service = launcher(clock=clock)
    waits: list[str] = []
    service.bus.subscribe(Parked, lambda event: waits.append(event.why))
    service.recoverable("save")(Script(OSError(errno.ENOSPC, "full"), "saved"))()
    assert len(waits) == 1
    assert waits[0].startswith("1000000000 bytes free at /")


def test_other_trouble_of_the_machine_does_not_wait_for_the_disk(clock: VirtualClock) -> None:
    service = launcher(clock=clock, disk=Condition("room", lambda: False))
    assert service.recoverable("serve")(Script(OSError(errno.EADDRINUSE, "taken"), "serves"))() == "serves"


@pytest.mark.parametrize("url", ["https://example.org/model", "models"])
def test_a_call_that_is_denied_asks_a_person_and_asks_again_if_that_did_not_help(url: str, clock: VirtualClock) -> None:
    service = launcher(clock=clock)
    asked: list[tuple[str, str]] = []

    def help_out(event: QuestionAsked) -> None:
        asked.append((event.name, event.reason))
        service.calls.answer(event.name)

    service.bus.subscribe(QuestionAsked, help_out)
    where = "example.org:443" if url.startswith("https") else "fetch"
    assert service.recoverable("fetch")(Script(denied(), denied(403), "a model"))(url) == "a model"
    assert asked == [(f"help with {where}", ""), (f"help with {where}", "HTTPError: HTTP Error 403: denied")]


def test_a_question_without_an_answer_ends_the_call_after_an_hour(clock: VirtualClock) -> None:
    service = launcher(clock=clock)
    ends = events_of(service, GaveUp)
    with pytest.raises(HTTPError):
        service.recoverable("fetch")(Script(denied()))("https://example.org")
    assert [(event.reason, round(clock())) for event in ends if isinstance(event, GaveUp)] == [("out of time", 3600)]


# --- options ---


def test_a_classifier_is_asked_before_the_rule_of_the_preset(clock: VirtualClock) -> None:
    service = launcher(clock=clock, classifier=Rule("half", Category.PERMANENT, types=(json.JSONDecodeError,)))
    half, text = Script(json.JSONDecodeError("", "{", 1)), Script(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"))
    with pytest.raises(json.JSONDecodeError):
        service.recoverable("half")(half)()
    assert service.recoverable("text")(text)() == "done"
    assert (half.calls, text.calls) == (1, 2)


def test_a_policy_replaces_the_retries_and_the_waits(clock: VirtualClock) -> None:
    fetch = Script(denied())
    with pytest.raises(HTTPError):
        launcher(clock=clock, policy=RetryPolicy()).recoverable("fetch")(fetch)()
    assert fetch.calls == 1


def test_a_setting_of_an_operation_keeps_the_waits(clock: VirtualClock) -> None:
    service = launcher(clock=clock, disk=Condition("room", lambda: clock() > 60.0))
    save = Script(OSError(errno.ENOSPC, "full"), "saved")
    assert service.recoverable("save", max_retries=0, initial_delay=0.0)(save)() == "saved"
