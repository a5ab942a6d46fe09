"""Have hypothesis tell stories of a journal, and see whether the model holds in each."""

from __future__ import annotations

import logging
import traceback

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.torture.figures import Figure, times
from tests.torture.fork_server import ForkServer
from tests.torture.machine import JournalMachine

EXAMPLES = 300
STEPS = 40


def try_machine(examples: int, steps: int, machine: type[JournalMachine] = JournalMachine) -> None:
    """Run it; raises AssertionError, or whatever broke. A story that breaks something is made short for the journal."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if machine is JournalMachine else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


class HastyMachine(JournalMachine):
    """With a store that says too early that a batch is written: the bug that the machine must see."""

    lag = 1


def machine(fork_server: ForkServer, share: float) -> list[Figure]:
    """The figure of the state machine."""
    del fork_server
    logging.getLogger("recovery").addHandler(logging.NullHandler())
    examples, problem = times(EXAMPLES, share), ""
    try:
        try_machine(examples, STEPS)
    except Exception as error:
        traceback.print_exc()
        problem = type(error).__name__
    how_often = f"{examples} stories of {STEPS} steps"
    try:
        try_machine(EXAMPLES, STEPS, HastyMachine)
        is_seen = False
    except AssertionError:
        is_seen = True
    return [
        Figure("crashes, locks, a full disk against a model", how_often, problem or "0 broken", "0", not problem),
        Figure(
            "the same, acknowledged before the commit",
            f"at most {EXAMPLES} stories",
            "seen" if is_seen else "not seen",
            "seen",
            is_seen,
        ),
    ]
