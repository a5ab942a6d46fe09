"""A notifier with real servers and real commands: what they get, and what becomes of what they do not take."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from adapters.memory import MemoryStore
from adapters.notifications import Command, Notification, Notifier, Webhook
from events.operation_events import GaveUp
from recovery import RetryPolicy
from recovery.monitoring.alerts import Threshold, Thresholds
from recovery.policies.backoff import Constant
from recovery.service import Recovery
from tests.adapters.notifications.receiver import PATH, Receiver
from tests.adapters.notifications.test_summary import FULL, OPENED, asks
from tests.until import wait_until

SAVES = "import sys, pathlib; pathlib.Path(sys.argv[1]).open('ab').write(sys.stdin.buffer.read() + b'\\n')"
QUICK: Any = {"gather": 0.0, "every": 0.0}


class Impatient(Webhook):
    """A webhook that is asked again at once, two times."""

    policy = RetryPolicy(max_retries=2, backoff=Constant(0.0))


@pytest.fixture
def service() -> Recovery:
    return Recovery(policy=RetryPolicy(max_retries=0), breaker=None, enable_logging=False)


def fail(service: Recovery, times: int = 1, operation: str = "download") -> None:
    """Make calls of *service* give up."""

    def raise_full() -> None:
        raise FULL

    function = service.recoverable(operation)(raise_full)
    for _ in range(times):
        with pytest.raises(OSError, match="No space"):
            function()


def saving(folder: Path) -> Command:
    """A command that appends what it gets to the file "told"."""
    return Command([sys.executable, "-S", "-c", SAVES, folder / "told"])


def told(folder: Path) -> list[Notification]:
    path = folder / "told"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Notification) for line in lines]


def test_a_webhook_gets_what_happens_in_a_while_as_one_notification(service: Recovery):
    with Receiver() as receiver, Notifier(service, Webhook(receiver.url), gather=30.0, name="nightly") as notifier:
        fail(service, 12)
        notifier.close()
        [notification] = receiver.taken
    assert notification.summary.startswith("nightly: 12 downloads failed: the disk is full")
    assert notification.format == "notification/1"
    assert abs(notification.at - time.time()) < 60.0
    assert (notifier.tally.sent, notifier.tally.unsent) == (1, 0)


def test_a_command_gets_each_notification_as_json_on_its_input(service: Recovery, tmp_path: Path):
    with Notifier(service, saving(tmp_path), **QUICK) as notifier:
        fail(service)
        wait_until(lambda: notifier.tally.sent == 1)
        service.bus.publish(OPENED)
    assert [one.items[0].what for one in told(tmp_path)] == ["gave up", "incident opened"]


class Inbox:
    """A target of this process."""

    policy = RetryPolicy(max_retries=0)

    def __init__(self) -> None:
        self.counts: list[int] = []

    def prepare(self) -> None:
        pass

    async def send(self, notification: bytes) -> None:
        self.counts.append(sum(item.count for item in msgspec.json.decode(notification, type=Notification).items))


def test_between_two_notifications_a_target_is_left_alone(service: Recovery):
    slow, quick = Inbox(), Inbox()
    with Notifier(service, slow, gather=0.0, every=60.0), Notifier(service, quick, **QUICK):
        for times in range(1, 5):
            fail(service)
            wait_until(lambda times=times: sum(quick.counts) == times and slow.counts)
        assert slow.counts == [1]
    assert slow.counts == [1, 3]


def test_only_the_kinds_that_were_asked_for_are_notified_of(service: Recovery):
    with Receiver() as receiver:
        with Notifier(service, Webhook(receiver.url), kinds=["question"]):
            fail(service)
            service.bus.publish(OPENED)
            service.bus.publish(asks())
        assert [item.what for one in receiver.taken for item in one.items] == ["question asked"]


def test_the_alerts_of_the_monitor_are_notified_of(service: Recovery):
    monitor = service.monitor(Thresholds(success=Threshold(raised=0.9, cleared=0.93, least=5)))
    with Receiver() as receiver:
        with Notifier(service, Webhook(receiver.url), kinds=["alert"], gather=30.0):
            fail(service, 20)
            monitor.snapshot()
        item = next(one for one in receiver.taken[0].items if one.operation)
    assert (item.what, item.operation, item.category) == ("alert raised", "download", "environment")
    assert item.text.startswith("download: success rate 0 % is below 90 % (of 20 calls)")


def test_the_answer_429_is_waited_out_and_the_notification_sent_again(service: Recovery):
    with Receiver([429, 503], {"Retry-After": "0"}) as receiver:
        with Notifier(service, Impatient(receiver.url), **QUICK) as notifier:
            fail(service)
            wait_until(lambda: notifier.tally.sent == 1)
        assert (receiver.asked, len(receiver.taken)) == (3, 1)


def test_a_webhook_follows_no_redirect(service: Recovery, caplog: pytest.LogCaptureFixture):
    with Receiver([307], {"Location": PATH}) as receiver:
        with Notifier(service, Webhook(receiver.url), **QUICK) as notifier:
            fail(service)
            wait_until(lambda: notifier.tally.failed == 1)
        assert receiver.asked == 1
    assert "the webhook got no notification of 1 event: " in caplog.text


def test_what_a_target_does_not_take_is_logged_and_counted_in_the_next_notification(
    service: Recovery, caplog: pytest.LogCaptureFixture
):
    with (
        Receiver([404, 503, 503, 503]) as receiver,
        Notifier(service, Impatient(receiver.url), **QUICK) as notifier,
    ):
        for failed in (1, 2):
            service.bus.publish(OPENED)
            wait_until(lambda failed=failed: notifier.tally.failed == failed)
        fail(service)
        wait_until(lambda: notifier.tally.sent == 1)
    assert [one.unsent for one in receiver.taken] == [notifier.tally.unsent] == [2]
    assert receiver.taken[0].summary.endswith("2 earlier events could not be notified of")
    assert "the webhook got no notification of 1 event: " in caplog.text
    assert "(HTTP 404)" in caplog.text


def test_a_failing_target_notifies_of_nothing(service: Recovery):
    seen: list[GaveUp] = []
    service.bus.subscribe(GaveUp, seen.append)
    with Receiver([404] * 9) as receiver, Notifier(service, Webhook(receiver.url), **QUICK) as notifier:
        fail(service)
        wait_until(lambda: notifier.tally.failed == 1)
        time.sleep(0.01)
        assert (receiver.asked, len(seen)) == (1, 1)


def test_a_webhook_that_hangs_holds_up_neither_operations_nor_other_targets(
    service: Recovery, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with Receiver([None]) as receiver:
        both = [Webhook(receiver.url), saving(tmp_path)]
        with Notifier(service, both, **QUICK, flush=0.05):
            began = time.perf_counter()
            fail(service, 3)
            assert time.perf_counter() - began < 1.0
            wait_until(lambda: receiver.asked and sum(item.count for one in told(tmp_path) for item in one.items) == 3)
    assert "the webhook got no notification of 3 events" in caplog.text


def test_close_sends_what_is_left_and_ends_when_a_target_hangs(service: Recovery, caplog: pytest.LogCaptureFixture):
    with Receiver([None]) as receiver:
        with Notifier(service, Webhook(receiver.url), flush=0.05) as notifier:
            fail(service, 4)
            began = time.perf_counter()
        assert time.perf_counter() - began < 2.0
    assert (notifier.tally.sent, notifier.tally.unsent) == (0, 4)
    assert "the webhook got no notification of 4 events: the notifier was closed" in caplog.text
    notifier.close()  # again
    assert not [one for one in threading.enumerate() if one.name == "recovery-notifier"]


@pytest.mark.parametrize("way", ["url", "env", "file"])
def test_the_url_of_a_webhook_is_shown_nowhere(
    service: Recovery, way: str, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.DEBUG)
    with Receiver([404]) as receiver:
        monkeypatch.setenv("WEBHOOK_OF_TEST", receiver.url)
        (tmp_path / "url").write_text(f"{receiver.url}\n", encoding="utf-8")
        url = {"url": receiver.url, "env": "env:WEBHOOK_OF_TEST", "file": f"file:{tmp_path / 'url'}"}[way]
        webhook = Webhook(url)
        with Notifier(service, webhook, **QUICK) as notifier:
            fail(service)
            wait_until(lambda: notifier.tally.failed == 1)
            said = f"{webhook} {webhook!r} {notifier!r} {caplog.text}"
    assert "HTTP Request: POST ***" in caplog.text
    assert (receiver.url in said, PATH in said) == (False, False)


def test_no_journal_has_the_url_of_a_webhook():
    store = MemoryStore()
    with (
        Receiver([404]) as receiver,
        Recovery(store=store, policy=RetryPolicy(max_retries=0), enable_logging=False) as service,
        Notifier(service, Webhook(receiver.url), **QUICK) as notifier,
    ):
        fail(service)
        wait_until(lambda: notifier.tally.failed == 1)
    rows = repr(vars(store))
    assert "download" in rows
    assert ("notify" in rows, PATH in rows) == (False, False)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('x' * 99_999 + '\\nfatal: no such user')", "fatal: no such user"),
        ("import time; time.sleep(30)", "has not answered within 0.2 s"),
    ],
)
def test_a_command_that_fails_or_hangs_is_logged(
    service: Recovery, caplog: pytest.LogCaptureFixture, code: str, said: str
):
    with Notifier(service, Command([sys.executable, "-S", "-c", code], timeout=0.2), **QUICK) as notifier:
        fail(service)
        wait_until(lambda: notifier.tally.failed == 1)
    assert f"the command {sys.executable} got no notification of 1 event: " in caplog.text
    assert said in caplog.text


def test_a_command_that_does_not_read_its_input_has_taken_the_notification(service: Recovery):
    with Notifier(service, Command([sys.executable, "-S", "-c", ""]), **QUICK) as notifier:
        fail(service)
        wait_until(lambda: notifier.tally.sent == 1)


def test_nothing_of_an_event_is_read_by_a_shell(service: Recovery, tmp_path: Path):
    with Notifier(service, saving(tmp_path), **QUICK, name="$(touch hacked); `touch hacked`") as notifier:
        fail(service)
        wait_until(lambda: notifier.tally.sent == 1)
    assert told(tmp_path)[0].name == "$(touch hacked); `touch hacked`"
    assert not (Path.cwd() / "hacked").exists()


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (Webhook("env:NOT_THERE_AT_ALL"), "the environment has no NOT_THERE_AT_ALL"),
        (Webhook("file:not-there"), "No such file"),
        (Webhook("ftp://example.org/abc"), "the webhook is no http or https URL; what was given (21 characters)"),
        (Webhook("https://[::1/abc"), "the webhook is no http or https URL"),
        (Command(["true"], cwd="no-such-folder"), "the command true cannot run in no-such-folder: there is no such"),
        (Command(["no-such-program-at-all"]), "the command no-such-program-at-all is not there"),
    ],
)
def test_a_target_that_cannot_work_is_refused_before_anything_is_sent(service: Recovery, target: Any, error: str):
    with pytest.raises((LookupError, OSError, ValueError)) as raised, Notifier(service, target):
        pass
    assert error in str(raised.value)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (
            lambda service: Notifier(service, "https://example.org/abc"),
            "to must be targets, as Webhook(url) or Command([...]), not str",
        ),
        (lambda service: Notifier(service, []), "to must name a target at least"),
        (lambda service: Notifier(service, Webhook("https://a.org"), kinds=["quesion"]), "did you mean 'question'?"),
        (lambda service: Notifier(service, Webhook("https://a.org"), kinds=[]), "kinds must name a kind at least: 'qu"),
        (lambda service: Notifier(service, Webhook("https://a.org"), name=5), "name must be a text, not 5"),
        (
            lambda service: Notifier(service, Webhook("https://a.org"), target=5),
            "target must be the path of a plan or a journal, not 5",
        ),
        (lambda service: Notifier(service, Webhook("https://a.org"), name_of="a"), "name_of must be a function, not"),
        (
            lambda service: Notifier(service, Webhook),
            "to must be targets, as Webhook(url) or Command([...]), not the cl",
        ),
        (lambda service: Notifier(service, Webhook("https://a.org"), every=-1.0), "every must be at least 0, not -1.0"),
        (lambda _: Command([]), "argv must be a program and its arguments, not []"),
        (lambda _: Command("echo"), "argv must be a collection, not 'echo'"),
        (lambda _: Webhook(b"https://a.org"), "the url of a webhook must be a text, not bytes"),
    ],
)
def test_a_wrong_option_is_one_clear_error(service: Recovery, make: Any, error: str):
    with pytest.raises((TypeError, ValueError)) as raised:
        make(service)
    assert error in str(raised.value)


def test_a_name_of_that_fails_is_logged_once_and_the_calls_are_notified_of(
    service: Recovery, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with Notifier(service, saving(tmp_path), target=tmp_path / "launch.db", name_of=lambda event: f"{event.no_such}"):
        fail(service, 12)
    [notification] = told(tmp_path)
    assert notification.summary.startswith("12 downloads failed: the disk is full")
    assert notification.items[0].command.startswith(f"recovery why {tmp_path / 'launch.db'} ")
    assert caplog.text.count("name_of failed, so that notifications do not name calls: AttributeError") == 1


def test_a_notifier_is_begun_once(service: Recovery):
    with Notifier(service, Webhook("https://example.org/begun")) as notifier:
        pass
    with pytest.raises(RuntimeError, match="was begun already"):
        notifier.__enter__()


def test_async_code_closes_a_notifier_without_blocking_its_loop(service: Recovery, tmp_path: Path):
    async def run() -> None:
        async with Notifier(service, saving(tmp_path)):
            fail(service)

    anyio.run(run)
    assert len(told(tmp_path)) == 1
