"""Single calls timed by pyperf in fresh processes: a check on the figures that were measured side by side."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pyperf

from bench.measure import Effort, spread
from bench.row import Row

SCRIPT = "bench.pyperf_script"


def measure(effort: Effort) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "pyperf.json"
        processes = max(effort.some(8), 3)
        command = [sys.executable, "-m", SCRIPT, "--quiet", "--processes", str(processes), "--values", "4"]
        command += ["--warmups", "1", "--min-time", "0.02", "--output", str(output)]
        subprocess.run(command, check=True, capture_output=True)
        suite = pyperf.BenchmarkSuite.load(str(output))
    return [
        Row(
            key=f"lone-{benchmark.get_name().replace(' ', '-')}",
            what=benchmark.get_name(),
            unit="ns",
            measured=spread(benchmark.get_values()).scaled(1e9),
            note=f"{processes} processes",
        )
        for benchmark in suite
    ]
