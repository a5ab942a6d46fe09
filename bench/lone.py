"""What pyperf runs: a few calls, each in processes of its own."""

from __future__ import annotations

import pyperf

from bench.workloads import handwritten, handwritten_async, work, work_async
from recovery import Recovery

_SERVICE = Recovery()


def main() -> None:
    runner = pyperf.Runner()
    runner.bench_func("hand-written, sync", handwritten(work))
    runner.bench_func("launcher-recovery, sync", _SERVICE.recoverable("lone")(work))
    runner.bench_async_func("hand-written, async", handwritten_async(work_async))
    runner.bench_async_func("launcher-recovery, async", _SERVICE.recoverable("lone async")(work_async))


if __name__ == "__main__":
    main()
