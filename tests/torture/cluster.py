"""Several machines on real NATS servers, killed and stopped at random: ``make cluster-chaos`` runs this row alone."""

from __future__ import annotations

import sys

from tests.torture.figures import Figure, scaled
from tests.torture.fork_server import ForkServer

CALLS, WORKERS, SECONDS = 1000, 8, 600


def cluster(_: ForkServer, share: float) -> list[Figure]:
    """The figures of ten minutes in which servers and workers die."""
    from tests.cluster.chaos import chaos  # here: the other rows need no server

    figures, wrong = chaos(scaled(CALLS, share), WORKERS, scaled(SECONDS, share))
    for text in wrong:
        print(text, file=sys.stderr)
    return figures
