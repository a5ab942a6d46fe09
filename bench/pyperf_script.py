"""The script that pyperf runs: a few calls, each timed in fresh processes."""

from __future__ import annotations

import pyperf

from bench.workloads import do_nothing, do_nothing_async, handwritten, handwritten_async
from recovery import Recovery

_SERVICE = Recovery()


def main() -> None:
    runner = pyperf.Runner()
    runner.bench_func("hand-written, sync", handwritten(do_nothing))
    runner.bench_func("launcher-recovery, sync", _SERVICE.recoverable("lone")(do_nothing))
    runner.bench_async_func("hand-written, async", handwritten_async(do_nothing_async))
    runner.bench_async_func("launcher-recovery, async", _SERVICE.recoverable("lone async")(do_nothing_async))


if __name__ == "__main__":
    main()
