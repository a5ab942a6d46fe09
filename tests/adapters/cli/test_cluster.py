"""``--cluster``: the verbs show and steer a cluster; one machine imports nothing of it; errors are one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli import cluster_status
from adapters.cli.command import cli
from adapters.nats import view
from adapters.nats.record import CallRecord
from adapters.nats.status import ClusterStatus
from tests.adapters.nats.practice_cluster import URL, Practice, practice_cluster


@pytest.fixture
def practice() -> Iterator[Practice]:
    with practice_cluster() as one:
        yield one


def recovery(*words: str, **environ: str | None) -> Result:
    return CliRunner().invoke(cli, words, env={"RECOVERY_CLUSTER": None, **environ})


def record(practice: Practice, call: str) -> CallRecord:
    return anyio.run(practice.record, call)


def test_the_json_of_a_cluster_has_its_nodes_and_every_call(practice: Practice) -> None:
    said: dict[str, Any] = msgspec.json.decode(recovery("status", "--cluster", URL, "--json").stdout)
    assert said.pop("format") == "cluster/1"
    status = msgspec.convert(said, ClusterStatus)
    assert [node.node for node in status.nodes] == ["gpu-a", "gpu-b", "gpu-c"]
    assert sum(status.counts.values()) == len(status.calls) == 10
    assert status.cluster == URL


def test_failed_shows_those_alone_and_says_so_in_its_exit_code(practice: Practice) -> None:
    said = recovery("status", "--cluster", URL, "--failed")
    assert said.exit_code == 1
    assert "render/gave-up" in said.output
    assert "render/waiting" not in said.output


def test_a_watched_cluster_tells_each_call_that_stands_otherwise(
    practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    async def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            await practice.claim("render/queued", "gpu-b")
        elif len(looks) == 2:
            practice.engine.is_cut = True  # a look that fails is made again
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(cluster_status.anyio, "sleep", sleep)
    said = recovery("status", "--cluster", URL, "--watch")
    assert said.exit_code == 130
    lines = [line for line in said.output.splitlines() if "render/queued" in line]
    assert len(lines) == 2
    assert "attempt 1 runs on gpu-b" in lines[1]
    assert "render/gave-up" in said.output


@pytest.mark.parametrize(
    ("words", "says", "state"),
    [
        (("retry", "waiting"), "call render/waiting: its next attempt begins as soon as a worker is free", "queued"),
        (("cancel", "render/waiting", "--reason", "old"), "call render/waiting: cancelled", "cancelled"),
        (("give-up", "asks"), "call render/asks: given up", "gave up"),
        (("move", "bound", "--to", "gpu-b"), "call render/bound: gpu-b alone runs it from now on", "queued"),
        (("move", "bound", "--to", "any"), "call render/bound: any node runs it from now on", "queued"),
        (("answer", "asks", "yes"), "the question 'render/asks' is answered: its next attempt begins", "queued"),
        (("answer", "asks", "no"), "the question 'render/asks' is answered: given up", "gave up"),
    ],
)
def test_a_verb_steers_a_call_of_the_cluster(practice: Practice, words: tuple[str, ...], says: str, state: str) -> None:
    said = recovery(words[0], "--cluster", URL, *words[1:])
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout.startswith(says)
    [call] = [name for name in ("render/waiting", "render/asks", "render/bound") if name in said.stdout]
    assert record(practice, call).state == state


def test_what_a_command_tells_to_do_next_names_the_cluster(practice: Practice) -> None:
    said = recovery("pause", "--cluster", URL, "queued").output
    assert f"`recovery unpause --cluster={URL} queued` continues it" in said
    assert recovery("unpause", f"--cluster={URL}", "queued").exit_code == 0


def test_a_refused_command_says_why(practice: Practice) -> None:
    said = recovery("retry", "--cluster", URL, "render/done")
    assert (said.exit_code, said.stderr) == (1, "recovery: cannot retry render/done: it is over: succeeded\n")


def test_a_filter_steers_many_calls_after_a_question(practice: Practice) -> None:
    asked = recovery("cancel", "--cluster", URL, "--operation", "render", "--state", "queued")
    assert asked.exit_code == 2
    assert "cancel 2 calls" in asked.stderr
    done = recovery("cancel", "--cluster", URL, "--operation", "render", "--state", "queued", "--yes")
    assert done.exit_code == 0
    assert "cancel: done with 2 of 2 calls" in done.output
    assert [record(practice, call).state for call in ("render/queued", "render/bound")] == ["cancelled"] * 2


def test_the_json_of_a_move_is_that_of_the_other_verbs(practice: Practice) -> None:
    said = msgspec.json.decode(recovery("move", "--cluster", URL, "bound", "--to", "any", "--json").stdout)
    assert (said["format"], said["command"]) == ("steered/1", "move")
    assert said["calls"][0]["is_done"]


def test_why_of_no_call_or_of_several_is_an_error(practice: Practice) -> None:
    said = recovery("why", "--cluster", URL, "nothing")
    assert (said.exit_code, said.stderr.count("\n")) == (1, 1)
    assert recovery("why", "--cluster", URL, "render").exit_code == 1


def test_the_environment_names_the_cluster_where_no_file_is_named(practice: Practice, tmp_path: Path) -> None:
    said = recovery("why", "bound", RECOVERY_CLUSTER=URL)
    assert said.exit_code == 0
    assert "recovery move render/bound --to any" in said.output, "the environment need not be repeated"
    assert practice.opened[-1].url == URL
    before = len(practice.opened)
    named = recovery("status", str(tmp_path / "calls.db"), RECOVERY_CLUSTER=URL)
    assert (named.exit_code, len(practice.opened)) == (2, before), "a file that is named is meant"
    assert "calls.db" in named.stderr
    assert "--cluster" not in named.stderr


def test_the_options_reach_the_connection(practice: Practice, tmp_path: Path) -> None:
    creds = tmp_path / "viewer.creds"
    recovery(
        "status", "--cluster", URL, "--creds", str(creds), "--prefix", "farm", "--inbox", "_INBOX_me", "--tls", "."
    )
    assert practice.opened == [view.ClusterAddress(URL, str(creds), "farm", "_INBOX_me", ".")]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("status",), "Missing argument 'PATH', or --cluster URL."),
        (("why", "--creds", "x", "a.db"), "--creds, --prefix, --inbox and --tls go with --cluster"),
        (("status", "--cluster", URL, "x"), "'x' is one argument too many"),
        (("why", "--cluster", URL, "render", "x"), "'x' is one argument too many"),
        (("status", "--cluster", ""), "--cluster needs an address, such as nats://gpu-queue:4222"),
        (("move", "x", "--to", "any"), "say which cluster: --cluster URL, or RECOVERY_CLUSTER in the environment"),
        (("retry", "--cluster", URL), "give a CALL, or say which calls"),
    ],
)
def test_wrong_usage_says_what_to_write(practice: Practice, words: tuple[str, ...], says: str) -> None:
    said = recovery(*words)
    assert said.exit_code == 2
    assert says in " ".join(said.stderr.split())


@pytest.mark.parametrize("verb", [("status",), ("why", "render"), ("retry", "render/x"), ("answer",), ("web",)])
def test_without_a_server_a_verb_says_so_in_one_sentence(practice: Practice, verb: tuple[str, ...]) -> None:
    practice.servers.is_reachable = False
    said = recovery(verb[0], "--cluster", "nats://user:pa55word@queue.example.org:4222", *verb[1:])
    assert said.exit_code == 2
    assert said.stderr == f"recovery: no server answers at {URL}: start one with `nats-server -js`\n"


def test_without_the_extra_a_verb_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats", None)
    for name in [name for name in sys.modules if name.startswith(("adapters.nats.connection", "adapters.nats.link"))]:
        monkeypatch.delitem(sys.modules, name)
    said = recovery("status", "--cluster", URL)
    cure = "recovery: needs the extra 'nats': pip install 'launcher-recovery[nats]'\n"
    assert (said.exit_code, said.stderr) == (2, cure)


LOADED = """
import sys
import adapters.memory, adapters.sqlite.store, events, recovery, recovery.leased
from click.testing import CliRunner
from adapters.cli.command import cli
journals = [f"{verb} none.db x" for verb in ("status", "why", "retry", "pause", "cancel", "give-up", "again", "answer")]
helps = [f"{verb} --help" for verb in cli.commands]
for line, code in (("--help", 0), *((line, 2) for line in journals), *((line, 0) for line in helps)):
    assert CliRunner().invoke(cli, line.split()).exit_code == code, line
    assert not [name for name in sys.modules if name == "nats" or name.startswith(("nats.", "adapters.nats"))], line
"""


def test_one_machine_imports_nothing_of_a_cluster(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LOADED], check=True, timeout=60, cwd=tmp_path)
