from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from adapters.launcher.plan import load_plan

README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
EXAMPLES = [
    (title, example, printed)
    for title, text in SECTIONS
    for example, printed in re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
]


@pytest.mark.parametrize(("title", "example", "printed"), EXAMPLES, ids=[title for title, _, _ in EXAMPLES])
def test_an_example_prints_what_readme_shows(
    title: str,
    example: str,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    exec(compile(example, f"README.md, {title}", "exec"), {"__name__": title})
    assert capsys.readouterr().out == printed


def test_a_killed_example_goes_on_and_does_each_number_once(tmp_path: Path):
    [(example, console)] = re.findall(r"```python\n# count.py\n(.*?)```\n\n```console\n(.*?)```", README, re.DOTALL)
    (tmp_path / "count.py").write_text(example, encoding="utf-8")
    shown = ""
    for _ in range(console.count("$ python count.py")):
        run = subprocess.run([sys.executable, "count.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
        killed = "Killed\n" if run.returncode == -signal.SIGKILL else ""
        shown += f"$ python count.py\n{run.stdout}{run.stderr}{killed}"
    assert shown == console


def test_every_concept_has_an_example():
    uses = ["Retry a function", "Give up", "Subscribe to events", "Emit events by hand", "Wait for a cause"]
    assert list(dict.fromkeys(title for title, _, _ in EXAMPLES))[: len(uses)] == uses


def test_the_state_machine_of_readme_runs():
    [example] = re.findall(r"in five lines:\n\n```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {"__name__": "machine"}
    exec(compile(example, "README.md, the state machine", "exec"), names)
    names["TestSlowedDown"].settings = settings(max_examples=10, deadline=None)
    names["TestSlowedDown"]().runTest()


def test_the_launch_plan_of_readme_loads(tmp_path: Path):
    [plan] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "launch.toml"
    path.write_text(plan, encoding="utf-8")
    assert [step.name for step in load_plan(path).steps] == ["checkpoint", "comfyui", "server"]


def test_readme_begins_with_the_two_commands():
    commands = [line.split("#")[0].strip() for line in README.splitlines()[:12] if line.startswith("    make")]
    assert commands == ["make demo", "make test"]
