"""Share of calls that succeed when each attempt fails with probability 0.3; 1 - 0.3**4 is possible."""

from __future__ import annotations

import random
from collections.abc import Callable

from bench.measure import Effort, exact
from bench.peers import peers
from bench.row import Row, least
from recovery import Recovery

CALLS = 20_000
FAILURE_RATE = 0.3
SEED = 20_260


def measure(effort: Effort) -> list[Row]:
    service = Recovery(rng=random.Random(SEED).random)
    ours = share_rescued(service.recoverable("rescued", max_retries=3, initial_delay=0.0))
    others = {peer.name: share_rescued(peer.plain) for peer in peers(effort) if peer.retries and peer.plain is not None}
    return [
        Row(
            key="rescued",
            what="transient failures rescued: 0.3 per attempt, 3 retries, seeded, n = 20 000",
            unit="%",
            measured=exact(ours),
            goal=least(99.0),
            required=least(90.0),
            before="24 %",
            best="99.2 %",
            peers={name: exact(share) for name, share in others.items()},
            note=f"{100 * (1 - FAILURE_RATE**4):.2f} % is possible",
        )
    ]


def share_rescued(wrap: Callable[[Callable[[], None]], Callable[[], None]], calls: int = CALLS) -> float:
    """Percent of the calls that succeed. Every candidate gets the same seeded sequence of failures."""
    rng = random.Random(SEED)

    def fails_sometimes() -> None:
        if rng.random() < FAILURE_RATE:
            raise ConnectionError("reset")

    call = wrap(fails_sometimes)
    rescued = 0
    for _ in range(calls):
        try:
            call()
        except ConnectionError:
            continue
        rescued += 1
    return 100.0 * rescued / calls
