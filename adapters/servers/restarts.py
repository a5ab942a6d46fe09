"""What to do when a server has ended: start it again, on another port, or ask a person. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

import msgspec

from recovery import validation
from recovery.policies.error_messages import PROCESSES, match_error_message
from recovery.suggestions import Suggesting

LAST_LINES = 20
"""Lines of the end of the output that are looked at, and that a question shows."""

MOST_MOVES = 5
"""Starts in a row that a taken port may end without using up a restart."""

MOVE_DELAY = 0.5
"""Seconds before the start after a port that was taken and is free again: an earlier run was closing."""

MOST_DELAY = 30.0
"""Seconds before a restart, at most."""

PORT_TAKEN = tuple(one for one in PROCESSES if one.name == "port-taken")
MISSING_MODULE = re.compile(r"(?:ModuleNotFoundError: |python\S*: )No module named '?([\w.]+)")
LINES_OF_AN_ERROR = 3
"""Lines from the end in which an error that ended a program stands."""

SHOWN = 3
"""Names of what a server goes on without that a line shows; the others are counted."""

CODES = {
    0: "ended by itself, with exit code 0 (as after Ctrl-C; one that goes on in the background cannot be held)",
    3: "ended itself at once, with exit code 3 (as a native library does that gives up)",
    0xC000_013A: "was ended by Ctrl-C, which the launcher did not send (exit code 3221225786)",
    0xC000_0409: "crashed: it found its memory damaged, and ended itself at once (exit code 3221226505)",
    0xC000_0005: "crashed: it used memory that is not its own (exit code 3221225477, an access violation)",
}
SIGNALS = {
    "SIGKILL": "was killed by SIGKILL: by the system for want of memory (the OOM killer), or by a person",
    "SIGABRT": "crashed: it gave up in native code (SIGABRT)",
    "SIGBUS": "crashed: a file or memory that it used was gone (SIGBUS)",
    "SIGSEGV": "crashed: it used memory that is not its own (SIGSEGV)",
}


class RestartPolicy(msgspec.Struct, metaclass=Suggesting, frozen=True, kw_only=True, repr_omit_defaults=True):
    """How often a server that ends by itself is started again before a person is asked.

    Args:
        max_restarts: Restarts that it may use up within *within*; 0 asks at the first crash.
        within: Seconds for which it must have been ready after a restart until that no longer counts.
        delay: Seconds before the first restart. Each further one that counts doubles them, up to 30 s.

    Raises:
        TypeError: An unknown field, or a value of the wrong type.
        ValueError: A value out of range.
    """

    max_restarts: int = 3
    within: float = 600.0
    delay: float = 1.0

    def __post_init__(self) -> None:
        validation.whole("max_restarts", self.max_restarts)
        validation.number("within", self.within)
        validation.number("delay", self.delay)


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a run of a server ended that the launcher did not end.

    Args:
        code: The exit code; ``None`` for a process that another launcher had started: only its parent learns it.
        output: The last lines that it printed.
        ready_for: Seconds for which it was ready.
        is_port_held: Whether another process listens on its port now.
        stuck: Why the launcher ended it all the same, because it was stuck; "" if it did not.
    """

    code: int | None
    output: Sequence[str] = ()
    ready_for: float = 0.0
    is_port_held: bool = False
    stuck: str = ""


class History(msgspec.Struct, frozen=True):
    """The restarts of a server that may count.

    Args:
        ready_for: Seconds for which it has been ready in all.
        restarts: For each restart, the *ready_for* at which it was.
        moves: Starts in a row that a taken port ended.
    """

    ready_for: float = 0.0
    restarts: tuple[float, ...] = ()
    moves: int = 0


class Restart(msgspec.Struct, frozen=True):
    """Start it again in *delay* seconds, on a free port. *number* restarts count; 0 if this one does not."""

    delay: float
    number: int


class Ask(msgspec.Struct, frozen=True):
    """Ask a person. *module* is the Python module that is not installed; "" if its restarts are used up."""

    module: str = ""


def decide(policy: RestartPolicy, history: History, ended: Ended) -> tuple[Restart | Ask, History]:
    """What to do after *ended*, and the history afterwards."""
    ready_for = history.ready_for + ended.ready_for
    counted = tuple(at for at in history.restarts if ready_for - at < policy.within)
    moves = 0 if ended.ready_for and not ended.is_port_held else history.moves
    if module := missing_module(ended):
        return Ask(module), History()
    if port_was_taken(ended) and moves < MOST_MOVES:
        return Restart(0.0 if ended.is_port_held else MOVE_DELAY, 0), History(ready_for, counted, moves + 1)
    if len(counted) >= policy.max_restarts:
        return Ask(), History()  # a yes begins the budget again
    delay = min(policy.delay * 2 ** len(counted), MOST_DELAY)
    return Restart(delay, len(counted) + 1), History(ready_for, (*counted, ready_for), moves)


def missing_module(ended: Ended) -> str:
    """The Python module without which the main program could not go on; "" if that was not the reason.

    The output of a program that goes on without a module, as with a plug-in, says so further up.
    """
    lines = [line for line in ended.output if line.strip()][-LINES_OF_AN_ERROR:]
    found = [found[1] for line in lines if (found := MISSING_MODULE.search(line))]
    return found[-1] if found and ended.code in (1, None) else ""


def port_was_taken(ended: Ended) -> bool:
    """Whether it ended because another process had its port."""
    said = match_error_message("\n".join(ended.output[-LAST_LINES:]), PORT_TAKEN)
    return said is not None and ended.code != 0 and (ended.is_port_held or not ended.ready_for)


def words_of(ended: Ended) -> str:
    """How a server ended, in words that follow its name."""
    code = ended.code
    if ended.stuck:
        return f"was ended, because {ended.stuck}"
    if code is None:
        return "ended; its exit code is not known, since an earlier run of the launcher had started it"
    if code in CODES:
        return CODES[code]
    if code < 0 or 128 < code < 193:  # a shell's way to report a signal
        try:
            name = signal.Signals(-code if code < 0 else code - 128).name
        except ValueError:
            return f"failed with exit code {code}"
        return SIGNALS.get(name, f"was ended by {name}, which the launcher did not send")
    return f"failed with exit code {code}"


def names_of(degraded: Sequence[str]) -> str:
    """What a server goes on without, for a line: ``a, b, c and 2 more``."""
    more = f" and {len(degraded) - SHOWN} more" if len(degraded) > SHOWN else ""
    return f"{', '.join(degraded[:SHOWN])}{more}"
