"""A bundle for a bug report: what is in it, and that no secret is."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import anyio
import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli.command import cli
from adapters.journals.export import MOST_LOGS, MOST_OF_A_LOG, clean, export_journal
from adapters.sqlite.remembered import write_remembered
from events.operation_events import CheckpointSaved, GaveUp, OperationStarted, OperationSucceeded
from recovery.journal.store import Remembered
from recovery.redact import unhide
from tests.adapters.sqlite import journals
from tests.adapters.terminal.test_view import of_call, started
from tests.failures import a_failure

IN_URL, IN_ARGUMENTS, IN_CHECKPOINT = "hunter2222", "given-to-the-call", "saved-by-the-call"
IN_VARIABLE, REMEMBERED, IN_LOG = "only-in-a-variable", "blue-horse-staple", "hf_" + "a1" * 12
SECRETS = (IN_URL, IN_ARGUMENTS, IN_CHECKPOINT, IN_VARIABLE, REMEMBERED, IN_LOG)
PLAN = """
[[operation]]
kind = "download"
name = "model"
url = "https://user:hunter2222@example.org/model"
destination = "model"
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A launch plan, with a journal, a log and remembered answers that hold secrets."""
    monkeypatch.setenv("SOME_TOKEN", IN_VARIABLE)
    plan = tmp_path / "launch.toml"
    plan.write_text(PLAN, encoding="utf-8")
    journal = tmp_path / ".recovery" / "launch.db"
    said = f"GET https://user:{IN_URL}@example.org/model with {IN_VARIABLE} and {REMEMBERED} in {Path.home()}/models"
    failure = a_failure(said, call="c1", operation="download")
    given = msgspec.Raw(msgspec.json.encode([["small"], {"style": IN_ARGUMENTS}]))
    events = [
        of_call(OperationSucceeded, call="fine"),
        started(call="c1"),
        of_call(CheckpointSaved, data=msgspec.Raw(msgspec.json.encode({"token": IN_CHECKPOINT}))),
        failure,
        of_call(GaveUp, reason=f"refused {REMEMBERED}"),
        of_call(OperationStarted, call="c2", operation="mine", arguments=given),
    ]
    journals.write(journal, journals.rows_of(events))
    anyio.run(write_remembered, journal, [Remembered("question", 1.0, REMEMBERED)])
    (journal.parent / "logs").mkdir()
    (journal.parent / "logs" / "pip.log").write_text(f"installing\nusing {IN_LOG}\x1b[31m\n", encoding="utf-8")
    return plan


@pytest.fixture(autouse=True)
def _secrets_are_forgotten_again() -> object:
    yield
    unhide()


def texts(bundle: Path) -> dict[str, str]:
    with zipfile.ZipFile(bundle) as opened:
        return {name: opened.read(name).decode() for name in opened.namelist()}


def export(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, arguments)])


def test_no_secret_is_in_the_bundle(plan: Path) -> None:
    export_journal(plan, plan.with_name("out.zip"))
    found = "\n".join(texts(plan.with_name("out.zip")).values())
    assert [secret for secret in SECRETS if secret in found] == []
    assert str(Path.home()) not in found


def test_arguments_checkpoints_and_results_stay_out_of_the_events(plan: Path) -> None:
    export_journal(plan, plan.with_name("out.zip"))
    events = texts(plan.with_name("out.zip"))["events.jsonl"]
    assert all(not {"arguments", "data", "recorded"} & {*msgspec.json.decode(line)} for line in events.splitlines())


def test_the_bundle_has_what_a_bug_report_needs(plan: Path) -> None:
    exported = export_journal(plan, plan.with_name("out.zip"))
    found = texts(plan.with_name("out.zip"))
    assert [one.name for one in exported.members] == list(found) == [
        "versions.json", "status.json", "why.json", "events.jsonl", "report.json", "verify.json", "plan.toml",
        "logs/pip.log",
    ]  # fmt: skip
    calls = {one["call"]: one for one in msgspec.json.decode(found["why.json"])["calls"]}
    assert set(calls) == {"c1", "c2"}  # the call that succeeded needs no story
    assert calls["c1"]["state"] == "gave up"
    kinds = [msgspec.json.decode(line)["event"] for line in found["events.jsonl"].splitlines()]
    assert {"OperationStarted", "FailureClassified", "GaveUp", "CheckpointSaved"} <= {*kinds}
    assert "launcher-recovery" in msgspec.json.decode(found["versions.json"])["packages"]
    assert found["logs/pip.log"] == "installing\nusing ***\n"
    assert 'url = "https://***@example.org/model"' in found["plan.toml"]


def test_only_its_user_can_read_the_bundle(plan: Path) -> None:
    exported = export_journal(plan, plan.with_name("out.zip"))
    assert stat.S_IMODE(Path(exported.path).stat().st_mode) == 0o600


def test_a_file_that_is_there_is_not_overwritten(plan: Path) -> None:
    target = plan.with_name("out.zip")
    target.write_text("mine", encoding="utf-8")
    said = export(plan, "-o", target)
    assert (said.exit_code, target.read_text(encoding="utf-8")) == (2, "mine")
    told = f"recovery: cannot write {target}: the file is there already; name another with --output"
    assert " ".join(said.stderr.split()) == told


def test_nothing_is_left_of_a_bundle_that_cannot_be_written(plan: Path) -> None:
    (plan.parent / ".recovery" / "launch.db").unlink()
    assert export(plan, "-o", plan.with_name("out.zip")).exit_code == 2
    assert not plan.with_name("out.zip").exists()


def test_of_very_many_logs_the_latest_are_in_the_bundle(plan: Path) -> None:
    logs = plan.parent / ".recovery" / "logs"
    for number in range(MOST_LOGS + 5):
        (logs / f"{number}.log").write_text("x", encoding="utf-8")
    (logs / "link.log").symlink_to(plan)
    exported = export_journal(plan, plan.with_name("out.zip"))
    names = [one.name for one in exported.members if one.name.startswith("logs/")]
    assert len(names) == MOST_LOGS
    assert "logs/link.log" not in names


def test_a_private_key_that_the_cut_of_a_log_divides_stays_out(plan: Path) -> None:
    log = plan.parent / ".recovery" / "logs" / "pip.log"
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA\n" * 60 + "-----END RSA PRIVATE KEY-----\n"
    log.write_text("x\n" * 40_000 + key + "y" * (MOST_OF_A_LOG - 500) + "\n", encoding="utf-8")
    export_journal(plan, plan.with_name("out.zip"))
    found = texts(plan.with_name("out.zip"))["logs/pip.log"]
    assert "yyy" in found
    assert "MIIEpAIBAAKCAQEA" not in found


def test_each_log_has_a_name_of_its_own(plan: Path) -> None:
    logs = plan.parent / ".recovery" / "logs"
    for name in ("sub/pip.log", "token=abcdefgh1.log", "token=abcdefgh2.log"):
        (logs / name).parent.mkdir(exist_ok=True)
        (logs / name).write_text("x", encoding="utf-8")
    names = [one.name for one in export_journal(plan, plan.with_name("out.zip")).members if "logs/" in one.name]
    assert sorted(names) == ["logs/pip.log", "logs/sub/pip.log", "logs/token=***", "logs/token=***-2"]


def test_the_bundle_of_a_damaged_journal_has_its_check_and_the_logs(plan: Path) -> None:
    (plan.parent / ".recovery" / "launch.db").write_bytes(b"damaged" * 1000)
    export_journal(plan, plan.with_name("out.zip"))
    found = texts(plan.with_name("out.zip"))
    assert list(found) == ["versions.json", "verify.json", "plan.toml", "logs/pip.log"]
    assert not msgspec.json.decode(found["verify.json"])["is_sound"]


def test_names_of_members_are_redacted_too() -> None:
    assert clean({"password=hunter2222": ["token=abcdefgh", 3, None]}) == {"password=***": ["token=***", 3, None]}


def test_the_command_lists_what_is_in_the_bundle(plan: Path) -> None:
    said = export(plan, "--output", plan.with_name("out.zip"))
    assert said.exit_code == 0
    assert said.stdout.splitlines()[0].startswith("versions.json: the versions of Python")
    assert said.stdout.splitlines()[-1].endswith("look at it before you give it away")
    shape = msgspec.json.decode(export(plan, "--output", plan.with_name("two.zip"), "--json").stdout)
    assert shape["format"] == "exported/1"
    assert {"name", "bytes", "about"} == {*shape["members"][0]}
