"""Steps and ``kill -9``: real processes that die at every write to the journal, before it and after it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slow import few

LIVES = """
import json, os, shutil, signal, sys
from pathlib import Path
import msgspec
from adapters.launcher import Launcher, StepsUndoneError
from adapters.launcher.saga import RunRecord
from adapters.sqlite import SQLiteStore
from events.codec import decode
from recovery import Constant, RetryPolicy
from recovery.service import Recovery

root, on_crash, fails, kills_each = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "fails", int(sys.argv[4])

def note(line):
    with (root / "log").open("a") as log:
        log.write(line + "\\n")

class Dying(SQLiteStore):
    left = 0.0

    async def append(self, rows):
        Dying.left -= 1
        if Dying.left == 0.5: os.kill(os.getpid(), signal.SIGKILL)
        await super().append(rows)
        for row in rows:
            ends = row.kind in ("OperationSucceeded", "OperationRecovered", "GaveUp")
            if ends and decode(row.body).operation == "steps update":
                note("over")
            if row.kind == "CheckpointSaved":
                for name in msgspec.json.decode(bytes(decode(row.body).data), type=RunRecord).results:
                    note(f"recorded {name}")
        if Dying.left == 0: os.kill(os.getpid(), signal.SIGKILL)

def live(after):
    Dying.left = after
    policy = RetryPolicy(max_retries=20, backoff=Constant(0.0), progress_resets=None)
    service = Recovery(store=Dying(root / "journal.db"))
    with Launcher.blocking(service, root, policy=policy) as launcher:
        update = launcher.steps("update", on_crash=on_crash)

        def restore(before):
            note("undo move")
            (root / "version").write_text(before)

        @update.step(before=lambda: (root / "version").read_text(), undo=restore)
        def move(ref):
            note("move")
            (root / "version").write_text(ref)

        def uninstall():
            note("undo install")
            (root / "installed").unlink(missing_ok=True)

        @update.step(undo=uninstall, done=lambda: (root / "installed").exists())
        async def install(ref):
            note("install")
            if fails: raise FileNotFoundError(2, "no such wheel")
            (root / "installed").touch()

        launcher.resume()
        try:
            update.run("site", ref="v1")
        except StepsUndoneError as error:
            note(str(error))
        else:
            note("finished")

stories = []
for after in (half / 2 for half in range(2, 99, 1 if kills_each > 1 else 2)):
    root.mkdir()
    (root / "version").write_text("v0")
    kills = 0
    while True:
        if not (pid := os.fork()):
            live(after if kills < kills_each else 0.0)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != -signal.SIGKILL: break
        kills += 1
    stories.append((kills, (root / "version").read_text(), (root / "installed").exists(), (root / "log").read_text()))
    shutil.rmtree(root)
    if code or not kills: break
print(json.dumps(stories))
"""


@pytest.mark.parametrize(
    ("on_crash", "outcome", "kills"),
    few(
        [(one, two, kills) for one in ("finish", "undo") for two in ("works", "fails") for kills in (1, 3)],
        ("undo", "works", 1),
    ),
)
def test_steps_are_whole_or_undone_wherever_their_process_is_killed(
    on_crash: str, outcome: str, kills: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", LIVES, str(tmp_path / "site"), on_crash, outcome, str(kills)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert not output.returncode, output.stderr
    stories = json.loads(output.stdout)
    assert len(stories) > 5
    assert not stories[-1][0]  # at the last write every process lives on
    for _kills, version, is_installed, log in stories:
        is_whole = log.removesuffix("over\n").endswith("finished\n")
        assert (version, is_installed) == (("v1", True) if is_whole else ("v0", False)), log
        assert outcome == "works" or not is_whole, log
        assert on_crash == "undo" or is_whole == (outcome == "works"), log
        for run in log.split("over\n"):
            lines = run.splitlines()
            for step in ("move", "install"):
                if f"recorded {step}" in lines:
                    assert step not in lines[lines.index(f"recorded {step}") :], log
            if "undo install" in lines and "undo move" in lines:
                assert lines.index("undo install") < lines.index("undo move"), log
