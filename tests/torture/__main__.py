"""Print the figures of the long suites: ``python -m tests.torture [WORD ...] [--share 0.1] [--json FILE]``.

With words, only the rows whose name contains one of them run. Exits with 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

import msgspec

from tests.torture.asked_again import asked_again
from tests.torture.cluster import cluster
from tests.torture.downloads import downloads
from tests.torture.exits import exit_matrix
from tests.torture.faults import fault_sweep
from tests.torture.figures import Figure, Row, shown
from tests.torture.fork_server import ForkServer
from tests.torture.installs import installs, launches
from tests.torture.io_errors import io_errors
from tests.torture.kills import kill_loop
from tests.torture.leaks import leaks
from tests.torture.machine import state_machine
from tests.torture.power import power
from tests.torture.prompts import prompts
from tests.torture.restarts import restarts
from tests.torture.retention import retention
from tests.torture.stalls import memory, publishing
from tests.torture.takeover import takeover
from tests.torture.torn import torn_log
from tests.torture.two_processes import two_processes

ROWS = (
    Row("kills", kill_loop),
    Row("again", asked_again),
    Row("faults", fault_sweep),
    Row("io errors", io_errors),
    Row("publishing", publishing),
    Row("memory", memory),
    Row("restarts", restarts),
    Row("exits", exit_matrix),
    Row("leaks", leaks),
    Row("retention", retention),
    Row("machine", state_machine),
    Row("torn", torn_log),
    Row("power", power),
    Row("processes", two_processes),
    Row("takeover", takeover),
    Row("downloads", downloads),
    Row("installs", installs),
    Row("launches", launches),
    Row("prompts", prompts),
    Row("cluster", cluster),
)


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description=f"Rows: {', '.join(r.name for r in ROWS)}"
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="only rows whose name contains it")
    parser.add_argument("--share", type=float, default=1.0, help="the share of the full count, for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    given = parser.parse_args()
    chosen = [row for row in ROWS if not given.words or any(word in row.name for word in given.words)]
    if not chosen:
        parser.error(f"no row has any of {given.words} in its name")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    figures: list[Figure] = []
    with ForkServer() as fork_server:
        for row in chosen:
            began = time.monotonic()
            figures += row.work(fork_server, given.share)
            print(f"{row.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    code = shown(figures)
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
    return code


if __name__ == "__main__":
    sys.exit(main())
