"""The metrics, the alert rules and the dashboard's queries in the real Prometheus, with a service that it scrapes."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, start_http_server

import adapters.metrics
from adapters.memory import MemoryStore
from adapters.metrics.families import FAMILIES
from adapters.metrics.prometheus import RecoveryCollector, render
from adapters.web import app
from recovery.service import Recovery
from tests.adapters.web.serving import TOKEN, Served, serving

HERE = Path(__file__).parent
SHIPPED = Path(adapters.metrics.__file__).parent
RULES = SHIPPED / "alerts.yml"
DASHBOARD = json.loads((SHIPPED / "dashboard.json").read_text(encoding="utf-8"))
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
SECONDS = 30.0
"""The time that a query may take to have an answer, on a busy machine."""


def ask(server: str, path: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{server}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
        document = json.load(answer)
    assert document["status"] == "success"
    return document["data"]


def soon(get: Callable[[], Any]) -> Any:
    """What *get* returns once that is true."""
    end = time.monotonic() + SECONDS
    while not (found := get()):
        assert time.monotonic() < end, f"no answer within {SECONDS:.0f} s"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def service() -> Iterator[Recovery]:
    """A service that is busy: its calls succeed, recover, give up, and find a circuit open."""
    is_over = threading.Event()

    def work() -> None:
        number = 0
        while not is_over.wait(0.02):
            for _ in range(20):
                healthy()
            number += 1
            mirrored(f"mirror{number % 30}.example.org")
            with pytest.raises(ValueError, match="broken"):
                broken()

    with Recovery(store=MemoryStore(), breaker=None, enable_logging=False) as service:
        failed: set[str] = set()

        @service.recoverable("healthy")
        def healthy() -> int:
            return sum(range(1000))

        @service.recoverable("mirrored", key=lambda host: host, initial_delay=0.001)
        def mirrored(host: str) -> None:
            failed.symmetric_difference_update({host})
            if host in failed:
                raise ConnectionError(host)

        @service.recoverable("broken", max_retries=0)
        def broken() -> None:
            raise ValueError("broken")

        service.circuits.force("healthy", "open", key="elsewhere")
        worker = threading.Thread(target=work)
        worker.start()
        yield service
        is_over.set()
        worker.join()


@pytest.fixture(scope="module")
def page(service: Recovery) -> Iterator[Served]:
    """The page of ``service``, which asks for a token."""
    with serving(app(service, TOKEN, monitor=service.monitor())) as page:
        yield page


@pytest.fixture(scope="module")
def server(prometheus: str, service: Recovery, page: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that scrapes ``service`` five times a second, and its page."""
    folder = tmp_path_factory.mktemp("prometheus")
    registry = CollectorRegistry()
    registry.register(RecoveryCollector(service))
    exporter, thread = start_http_server(0, "127.0.0.1", registry)
    config = {
        "global": {"scrape_interval": "200ms", "evaluation_interval": "500ms"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "launcher", "static_configs": [{"targets": [f"127.0.0.1:{exporter.server_port}"]}]},
            {
                "job_name": "page",
                "authorization": {"credentials_file": "token"},
                "static_configs": [{"targets": [f"127.0.0.1:{page.port}"]}],
            },
        ],
    }
    (folder / "token").write_text(f"{TOKEN.value}\n", encoding="utf-8")
    (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([prometheus, *options], cwd=folder, stdout=log, stderr=log)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)
        exporter.shutdown()
        exporter.server_close()
        thread.join()


@pytest.fixture(scope="module")
def answering(server: str) -> str:
    """The same once it answers, and has scraped."""

    def has_scraped() -> bool:
        try:
            return bool(ask(server, "query", query="count_over_time(recovery_calls_total[1m]) > 10")["result"])
        except OSError:
            return False

    soon(has_scraped)
    return server


def test_promtool_finds_no_fault_in_the_metrics(promtool: str, service: Recovery):
    _, text = render(RecoveryCollector(service))
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_promtool_finds_no_fault_in_the_rules(promtool: str):
    checked = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_where_it_must(promtool: str):
    tests = HERE / "alerts_test.yml"
    checked = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = set(re.findall(r"alertname: (\w+)", tests.read_text(encoding="utf-8")))
    assert tested == set(re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8")))


def test_prometheus_knows_the_type_and_the_meaning_of_each_metric(answering: str):
    known = ask(answering, "metadata")
    for family in FAMILIES:
        if family.name in known or family.shown in known:  # a metric without samples is not written
            [of] = known.get(family.shown) or known[family.name]
            assert (of["type"], of["help"]) == (family.kind, family.help)
    assert len(known) > 20


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_query_of_the_dashboard_has_an_answer(answering: str, expression: str):
    query = expression.replace("$__rate_interval", "10s").replace("$job", ".*").replace("$operation", ".*")
    answer = soon(lambda: ask(answering, "query", query=query)["result"])
    assert all(sample["value"][1] != "NaN" for sample in answer) or soon(
        lambda: all(sample["value"][1] != "NaN" for sample in ask(answering, "query", query=query)["result"])
    )


def test_the_page_gives_its_metrics_for_its_token(answering: str):
    assert soon(lambda: ask(answering, "query", query='up{job="page"} == 1')["result"])
    assert soon(
        lambda: ask(answering, "query", query='recovery_calls_total{job="page", outcome="recovered"}')["result"]
    )


def test_each_rule_is_evaluated(answering: str):
    def rules() -> list[Any]:
        [group] = ask(answering, "rules")["groups"]
        return group["rules"] if all(rule["health"] != "unknown" for rule in group["rules"]) else []

    found = soon(rules)
    assert {rule["health"] for rule in found} == {"ok"}
    states = {rule["name"]: rule.get("state") for rule in found}
    assert states["RecoveryJournalUnwritable"] == "inactive"
    assert soon(lambda: ask(answering, "query", query='ALERTS{alertname="RecoveryCircuitOpen"}')["result"])


def test_no_counter_ever_falls(answering: str):
    counters = [family.shown for family in FAMILIES if family.kind == "counter"]
    counters += [f"{family.name}_bucket" for family in FAMILIES if family.kind == "histogram"]
    for counter in counters:
        assert ask(answering, "query", query=f"resets({counter}[10m]) > 0")["result"] == [], counter
    assert ask(answering, "query", query='count(recovery_calls_total{key="other"})')["result"]
