"""Plans that may run any number of times: what is there is not done again, and what is optional may fail."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.demo.server import Answer, FileServer, Hosted, Reset, free_port
from tests.adapters.cli.test_command import command, download, operation, recovery, touch, write_plan

FAILS = (sys.executable, "-S", "-c", "import sys; sys.exit('fatal: no luck')")
NEVER = {"max_retries": 0}
AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def test_an_optional_operation_may_fail_and_what_needs_it_begins(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, command("lora", *FAILS, optional=True), touch("after", needs=["lora"]))
    ended = recovery("run", plan)
    assert (ended.code, ended.errors) == (0, "")
    assert ended.out.splitlines()[-1] == "done, with 1 optional operation failed: lora"
    status = " ".join(recovery("status", plan).out.split())
    assert "succeeded launch" in status
    assert "done: 1 of 2, 1 failed failed: lora (optional)" in status


def test_the_last_line_and_the_exit_code_of_a_failed_launch_agree(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, touch("good"), command("bad", *FAILS), touch("after", needs=["bad"]))
    ended = recovery("run", plan)
    assert (ended.code, ended.out.splitlines()[-1]) == (1, "1 of 3 operations done; failed: bad; skipped: after")
    assert "succeeded" not in ended.out


def test_a_command_whose_folder_is_there_and_whole_is_done_however_often_the_plan_runs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for words in (
        ["init", "-q", str(source)],
        ["-C", str(source), *AUTHOR, "commit", "-q", "--allow-empty", "-m", "a"],
    ):
        subprocess.run(["git", *words], check=True, timeout=20)
    clone = command("clone", "git", "clone", str(source), "ComfyUI", creates="ComfyUI/.git/HEAD", retry=NEVER)
    plan = write_plan(tmp_path, clone, touch("after", needs=["clone"]))
    for _ in range(2):
        ended = recovery("run", plan)
        assert (ended.code, ended.out.splitlines()[-1]) == (0, "done")
    assert (tmp_path / "models" / "after").read_text() == "xx"  # which creates nothing that it names


def test_a_command_that_does_not_make_what_it_creates_has_failed(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, command("c", "true", creates="made"))
    ended = recovery("run", plan, "--json")
    assert (ended.code, ended.outcomes) == (1, {"c": "failed"})
    assert "c ended well, and made is not there" in ended.out


def test_the_retry_of_an_operation_is_in_force_for_it_alone(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, command("once", *FAILS, retry=NEVER), command("thrice", *FAILS, "x"))
    recovery("run", plan)
    logs = tmp_path / ".recovery" / "logs"
    assert [(logs / f"{name}.log").read_text().count("fatal: no luck") for name in ("once", "thrice")] == [1, 3]


def test_a_command_has_the_variables_of_the_plan_and_those_of_the_launcher_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_TEST", "hunter22abc")
    says = "import os, pathlib; pathlib.Path('said').write_text(os.environ['A'] + os.environ['B'])"
    env = {"A": "plain-", "B": "env:KEY_OF_TEST"}
    plan = write_plan(tmp_path, command("c", sys.executable, "-S", "-c", says, env=env))
    assert recovery("run", plan).code == 0
    assert (tmp_path / "models" / "said").read_text() == "plain-hunter22abc"
    journal = (tmp_path / ".recovery" / "launch.db").read_bytes()
    assert (b"hunter22abc" in journal, b"plain-" in journal, b"env:KEY_OF_TEST" in journal) == (False, False, True)


def test_a_download_goes_through_a_link_where_the_plan_follows_them(tmp_path: Path) -> None:
    with FileServer({"/a": Hosted(b"content")}) as server:
        plan = write_plan(tmp_path, operation(name="a", kind="download", url=f"{server.url}/a", destination="disk2/a"))
        (tmp_path / "disk2").mkdir()
        (tmp_path / "models" / "disk2").symlink_to(tmp_path / "disk2")
        refused = recovery("run", plan)
        plan.write_text(plan.read_text() + "[download]\nfollow_links = true\n")
        assert (refused.code, recovery("run", plan).code) == (2, 0)
    assert f"'disk2' is a link to {tmp_path / 'disk2'}" in refused.errors
    assert (tmp_path / "disk2" / "a").read_bytes() == b"content"


def test_bytes_of_an_earlier_launch_are_said_to_be_resumed(tmp_path: Path) -> None:
    content = b"0123456789abcdef" * 200_000
    with FileServer({"/a": Hosted(content, faults=[Reset(0.5)])}) as server:
        plan = write_plan(tmp_path, download("a", server.url, retry=NEVER))
        assert recovery("run", plan).code == 1
        ended = recovery("run", plan)
    assert ended.code == 0
    assert re.search(r"^a: done, 3\.2 MB, \d+\.\d [kM]B resumed$", ended.out, re.MULTILINE), ended.out
    assert re.search(r"3\.2 of 3\.2 MB, 100 %, \d+\.\d [kM]B resumed", recovery("status", plan).out)


def test_a_question_comes_with_the_command_that_answers_it(tmp_path: Path) -> None:
    with FileServer({"/a": Hosted(b"", faults=[Answer(401)] * 3)}) as server:
        plan = write_plan(tmp_path, "[wait]\nanswer = 0.5", download("a", server.url))
        ended = recovery("run", plan)
    question = f"token:{server.url.removeprefix('http://')}"
    assert f"answer it with: recovery answer {plan} {question}\n" in ended.out


def test_a_mirror_is_asked_where_the_first_host_is_not_reached(tmp_path: Path) -> None:
    with FileServer({"/a": Hosted(b"content")}) as server:
        gone = f"http://127.0.0.1:{free_port()}"
        plan = write_plan(tmp_path, download("a", gone, mirrors=[f"{server.url}/a"]))
        assert recovery("run", plan).code == 0
    assert (tmp_path / "models" / "a").read_bytes() == b"content"
