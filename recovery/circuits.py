"""``service.circuits``: look at the circuits of a service, force them, wait for them."""

from __future__ import annotations

from events.conditions import Condition
from events.names import display_name
from recovery import validation
from recovery.operations import OperationKey
from recovery.policies.circuit_states import Circuit, Closed, Forced, Open
from recovery.subscribers.circuit_breaker import Break
from recovery.subscribers.overrides import MODES, Mode


class Circuits:
    """The circuits of one service. Safe to use from any thread.

    service.circuits.force("download", "open", key="example.org", seconds=600.0)
    Strategy(wait_for=service.circuits.closed("login"))
    """

    __slots__ = ("_break",)

    def __init__(self, break_: Break) -> None:
        self._break = break_

    def states(self) -> dict[OperationKey, Circuit | Forced]:
        """The state of each circuit by operation name and key, as it stands now.

        An open circuit whose break is over is half-open. A closed circuit without a failure that still counts is left
        out, unless it is forced.

        Returns:
            A ``Closed``, ``Open``, ``HalfOpen`` or ``Forced`` for each (operation name, key).
        """
        return self._break.states()

    def force(self, operation: str, mode: Mode, *, key: str = "", seconds: float | None = None) -> None:
        """Put a circuit into *mode* until it is forced again; an operation without a breaker can be forced, too.

        Each transition is an event: ``CircuitOpened`` (*forced*), ``CircuitHalfOpened`` or ``CircuitClosed``.

        Args:
            operation: The name of the operation.
            mode: "open" rejects or defers every attempt; "closed" lets every attempt begin; "metrics_only" publishes
                what the circuit would do, and lets every attempt begin; "auto" follows the policy again, and forgets
                earlier failures; "half_open" lets calls probe now, and follows the policy from there.
            key: One key of the operation; "" is the operation as a whole, and each key that is not forced itself.
            seconds: How long "open", "closed" or "metrics_only" lasts; then the circuit is closed and follows the
                policy again. ``None``: until it is forced again.

        Raises:
            TypeError: *seconds* is no number.
            ValueError: There is no such mode; *seconds* is not positive, or given for a mode that does not last; or
                "half_open" for an operation without a breaker.

        Source: the states DISABLED, FORCED_OPEN and METRICS_ONLY of resilience4j's CircuitBreaker.
        """
        validation.choice("mode", mode, MODES)
        if seconds is not None:
            validation.number("seconds", seconds, above=0.0)
            if mode in ("auto", "half_open"):
                raise ValueError(f"seconds must not be given for mode {mode!r}, which does not last")
        if mode == "half_open":
            self._check(operation, "mode 'half_open' needs a breaker")
        self._break.force(operation, mode, key=key, seconds=seconds)

    def open_for(self, operation: str, seconds: float, *, key: str = "") -> None:
        """Open a circuit for *seconds*: a server has announced maintenance, say. Then calls probe, as after any break.

        It ends a forced mode of the circuit, and outlasts a restart.

        Args:
            operation: The name of the operation.
            seconds: How long the break is.
            key: One key of the operation; "" is the operation as a whole.

        Raises:
            TypeError: *seconds* is no number.
            ValueError: *seconds* is not positive, or the operation has no breaker.
        """
        validation.number("seconds", seconds, above=0.0)
        self._check(operation, "open_for() needs a breaker")
        self._break.open_for(operation, seconds, key=key)

    def _check(self, operation: str, need: str) -> None:
        if not self._break.has_circuits(operation):
            raise ValueError(
                f"{need}, and operation {operation!r} has none (breaker=None); "
                f"force({operation!r}, 'open', seconds=...) works without one"
            )

    def closed(self, operation: str, *, key: str = "") -> Condition:
        """The condition that a circuit lets a call begin, if only to probe: for ``Park`` and ``Strategy(wait_for=)``.

        Args:
            operation: The name of the operation.
            key: One key of the operation; "" is the operation as a whole.
        """
        name = f"circuit closed: {display_name(operation, key)}"
        return Condition(name, lambda: self._break.lets_pass(operation, key))

    def __repr__(self) -> str:
        states = "; ".join(f"{display_name(*one)} {_in_words(state)}" for one, state in self.states().items())
        return f"<Circuits: {states or 'all closed'}>"


def _in_words(state: Circuit | Forced) -> str:
    match state:
        case Forced(mode):
            return f"forced {mode}"
        case Closed():
            return f"closed, {state.failures} failed"
        case Open():
            return "open"
    return "half-open"
