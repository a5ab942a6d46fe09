"""What the monitor says of incidents: one line for all calls that wait for one, and alerts that name it."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from events.alert_events import AlertCleared, AlertRaised
from events.evidence import Category
from recovery.monitoring.alerts import ALL_OPERATIONS, Alerts, Reading, Thresholds
from recovery.subscribers.log import alert_in_words
from tests.recorded_events import events_of
from tests.recovery.test_incidents import Host

ONE, OTHER = ("get", "one"), ("get", "other")


def batch(host: Host, calls: int, seconds: float, *, every: float = 5.0) -> None:
    """Run that many calls at once, and take a snapshot every few seconds."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(calls):
                group.start_soon(host.call, number)
            for _ in range(int(seconds / every)):
                await anyio.sleep(every)
                host.service.monitor().snapshot()

    host.run(main)


def test_a_snapshot_lists_the_incident_that_calls_wait_for_in_one_line() -> None:
    host = Host()
    monitor = host.service.monitor()

    async def main() -> None:
        async with host.calls(30):
            shown = monitor.snapshot()
            [incident] = shown.incidents
            assert (incident.operation, incident.key, incident.category) == ("get", "host", Category.UNREACHABLE)
            assert (len(incident.waiting), shown.waiting) == (30, 30)
            line = "get[host]: unreachable: ConnectionRefusedError; 30 calls wait, next probe in 9 s"
            assert str(shown).splitlines() == ["0 of 0 calls succeeded in 1 s", f"incident {line}"]
            assert repr(monitor) == f"<Monitor: 1 operations, 0 alerts; {line}>"
            assert msgspec.json.decode(msgspec.json.encode(shown))["incidents"][0]["next_probe"] == 9.0
            host.is_up = True

    host.run(main)
    shown = monitor.snapshot()
    assert (shown.incidents, shown.windows["all"].incidents) == ((), 1)
    assert str(shown).splitlines()[0].startswith("30 of 30 calls succeeded in")


def test_calls_that_wait_for_something_else_are_counted_apart() -> None:
    host = Host()

    async def main() -> None:
        async with host.calls(3):
            waiting = host.service.monitor().snapshot()
            text = str(msgspec.structs.replace(waiting, waiting=5))
            assert text.startswith("0 of 0 calls succeeded in 1 s; 2 calls waiting\n")
            host.is_up = True

    host.service.monitor()
    host.run(main)


def test_a_batch_that_gives_up_with_an_incident_is_one_alert_which_names_it() -> None:
    host = Host(max_retries=2)
    host.service.monitor()
    alerts = events_of(host.service, AlertRaised, AlertCleared)
    batch(host, 300, 60.0)
    assert len(host.errors) == 300
    assert [(type(alert), alert.operation) for alert in alerts] == [(AlertRaised, "get"), (AlertRaised, "")]
    for alert in alerts:
        assert isinstance(alert, AlertRaised)
        assert (alert.cause, alert.incidents) == ("unreachable", ("get[host]",))
        assert "; incident get[host]; most failures are unreachable, as that of call" in alert_in_words(alert)


def test_an_alert_is_not_raised_again_for_each_batch_of_one_incident() -> None:
    host = Host(max_retries=2)
    monitor = host.service.monitor()
    alerts = events_of(host.service, AlertRaised, AlertCleared)
    batch(host, 50, 600.0, every=30.0)
    batch(host, 50, 600.0, every=30.0)
    assert [type(alert) for alert in alerts] == [AlertRaised, AlertRaised]
    host.service.circuits.force("get", "closed", key="host")
    assert monitor.snapshot().alerts == ()


def test_a_monitor_that_is_attached_late_knows_the_incidents_that_are_open() -> None:
    host = Host(max_retries=2)

    async def main() -> None:
        async with host.calls(50):
            monitor = host.service.monitor()
            await anyio.sleep(60.0)
            [alert, _] = monitor.snapshot().alerts
            assert alert.incidents == ("get[host]",)

    host.run(main)


@pytest.mark.parametrize(
    ("key", "cause", "named"),
    [
        (ONE, "unreachable", ("get[one]",)),
        (ONE, "", ("get[one]",)),
        (ONE, "auth", ()),
        (OTHER, "unreachable", ()),
        (("render", ""), "unreachable", ()),
        (ALL_OPERATIONS, "unreachable", ("get[one]", "save")),
        (("save", "disk"), "unreachable", ("save",)),  # the whole operation is shut
    ],
)
def test_an_alert_names_the_incidents_of_its_operations_and_its_cause(
    key: tuple[str, str], cause: str, named: tuple[str, ...]
) -> None:
    open_now = {ONE: Category.UNREACHABLE, ("save", ""): Category.UNREACHABLE, ("login", ""): Category.LOST}
    [raised] = Alerts(Thresholds(), open_now).evaluate("success", key, Reading(0.1, 100), 0.0, cause)
    assert isinstance(raised, AlertRaised)
    assert raised.incidents == named


def test_of_many_incidents_an_alert_names_three() -> None:
    alert = AlertRaised(at=0.0, alert="success", value=0.0, threshold=0.9, incidents=tuple("abcde"))
    assert alert_in_words(alert) == "success rate 0 % is below 90 %; incident a, b, c and 2 more"
