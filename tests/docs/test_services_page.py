"""docs/how-to/services-and-signals.md: systemd reads the unit without a complaint, where systemd is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.examples import ROOT, blocks_of

BLOCKS = blocks_of(ROOT / "docs" / "how-to" / "services-and-signals.md")
PROGRAM = "/srv/comfyui/env/bin/recovery"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze, of Debian's systemd")
def test_systemd_reads_each_line_of_the_unit(tmp_path: Path) -> None:
    [unit] = [block.text for block in BLOCKS if block.language == "ini"]
    assert PROGRAM in unit
    path = tmp_path / "comfyui.service"
    path.write_text(unit.replace(PROGRAM, sys.executable), encoding="utf-8")
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
