"""``[notifications]`` of a plan: what ``recovery run`` sends, and what is refused before anything begins."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from adapters.demo.server import Answer, FileServer, Hosted
from adapters.launcher.notifying import notifying
from adapters.launcher.plan import PlanError, load_plan
from adapters.notifications import Notification
from recovery.service import Recovery
from tests.adapters.cli.test_command import command, download, recovery, touch, write_plan
from tests.adapters.notifications.receiver import PATH, Receiver

FAILS = (sys.executable, "-S", "-c", "import sys; sys.exit('fatal: no ' + 'luck')")
SAVES = "#!/bin/sh\ncat >> told\necho >> told\n"


def table(**values: object) -> str:
    lines = [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in values.items()]
    return "\n".join(("[notifications]", *lines))


@pytest.mark.slow
def test_a_run_tells_its_webhook_and_its_command_what_failed_and_what_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tell").write_text(SAVES, encoding="utf-8")
    (tmp_path / "tell").chmod(0o755)
    with Receiver() as receiver, FileServer({"/a": Hosted(b"", faults=[Answer(401)] * 3)}) as server:
        monkeypatch.setenv("WEBHOOK_OF_TEST", receiver.url)
        targets = table(webhook="env:WEBHOOK_OF_TEST", command=["./tell"])
        steps = [command("settings", *FAILS, retry={"max_retries": 0}), download("a", server.url)]
        plan = write_plan(tmp_path, "[wait]\nanswer = 0.1", targets, *steps)
        ended = recovery("run", plan)
    assert ended.code == 1
    assert PATH not in ended.out + ended.errors
    assert PATH.encode() not in (tmp_path / ".recovery" / "launch.db").read_bytes()
    told = [msgspec.json.decode(line, type=Notification) for line in (tmp_path / "told").read_bytes().splitlines()]
    items = [item for one in receiver.taken for item in one.items]
    assert [item for one in told for item in one.items] == items
    assert {one.name for one in told} == {"launch.toml"}
    failed = next(item for item in items if item.names == ("settings",))
    assert failed.example == "fatal: no luck"
    assert failed.command.startswith(f"recovery why {plan} ")
    question = next(item for item in items if item.what == "question asked")
    assert question.command == f"recovery answer {plan} {question.question}"


def test_a_webhook_that_takes_nothing_is_a_warning_and_the_launch_ends_as_without_it(tmp_path: Path) -> None:
    with Receiver([404]) as receiver:
        (tmp_path / "url").write_text(receiver.url, encoding="utf-8")
        failing = command("bad", *FAILS, optional=True, retry={"max_retries": 0})
        ended = recovery("run", write_plan(tmp_path, table(webhook="file:url", kinds=["gave up"]), failing))
        assert (ended.code, receiver.asked) == (0, 1)
    assert f"warning: the webhook file:{tmp_path / 'url'} got no notification of 1 event: " in ended.errors
    assert PATH not in ended.errors


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"webhook": "env:NOT_THERE_AT_ALL"}, "webhook: the environment has no NOT_THERE_AT_ALL"),
        ({"webhook": "file:url"}, "webhook: [Errno 2] No such file"),
        ({"command": ["./no-such-program"]}, "command: the command ./no-such-program is not there"),
    ],
)
def test_a_run_does_not_begin_without_its_webhook_or_command(
    tmp_path: Path, values: dict[str, object], error: str
) -> None:
    plan = load_plan(write_plan(tmp_path, table(**values), command("good", "true")))
    with pytest.raises(PlanError) as raised:
        notifying(plan, Recovery(), target="launch.toml", name_of=lambda _event: None)
    assert str(raised.value).startswith(f"{plan.path}: notifications.{error}")


def test_the_command_line_says_what_its_webhook_lacks_and_runs_nothing(tmp_path: Path) -> None:
    ended = recovery("run", write_plan(tmp_path, table(webhook="env:NOT_THERE_AT_ALL"), touch("good")))
    assert (ended.code, (tmp_path / "models" / "good").exists()) == (2, False)
    assert "notifications.webhook: the environment has no NOT_THERE_AT_ALL" in ended.errors


@pytest.mark.parametrize(
    ("values", "key", "error"),
    [
        ({}, "webhook", "must be given, or a command"),
        ({"every": 5.0}, "webhook", "must be given, or a command"),
        (
            {"webhook": "https://hooks.slack.com/services/T/B/x"},
            "webhook",
            'must be "env:NAME" or "file:PATH", the variable or the file that holds it, as a plan is no place for a '
            "secret; what was given (38 characters) is not that",
        ),
        ({"webhook": "file:"}, "webhook", 'must be "env:NAME" or "file:PATH", '),
        ({"command": []}, "webhook", "must be given, or a command"),
        (
            {"command": ["curl", "--token", "abcdefgh"]},
            "command",
            "holds what looks like a secret (curl --token ***), and a plan is no place for one: let the program read",
        ),
        ({"command": ["true"], "every": -1.0}, "every", "must be at least 0, not -1.0"),
        ({"command": ["true"], "kinds": ["quesion"]}, "kinds[0]", "must be 'question', 'gave up', "),
        ({"command": ["true"], "kinds": []}, "kinds", "must be one at least; without the table nothing"),
        ({"command": ["true"], "webhok": "env:A"}, "webhok", "there is no such key; did you mean 'webhook'?"),
    ],
)
def test_a_wrong_table_is_one_clear_error(tmp_path: Path, values: dict[str, object], key: str, error: str) -> None:
    with pytest.raises(PlanError) as raised:
        load_plan(write_plan(tmp_path, table(**values), command("good", "true")))
    assert raised.value.key == f"notifications.{key}"
    assert raised.value.reason.startswith(error)
