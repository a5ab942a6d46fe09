"""``service.circuits``: look at the circuits of a service, force them, wait for them."""

from __future__ import annotations

from events.conditions import Condition
from events.names import display_name
from recovery import validation
from recovery.operations import OperationKey
from recovery.policies.circuit_breaker import Circuit, Closed, Forced, Open
from recovery.subscribers.circuit_breaker import MODES, Break, Mode


class Circuits:
    """The circuits of one service. Safe to use from any thread.

    service.circuits.force("download", "open", key="example.org")
    Strategy(wait_for=service.circuits.closed("login"))
    """

    __slots__ = ("_break",)

    def __init__(self, break_: Break) -> None:
        self._break = break_

    def states(self) -> dict[OperationKey, Circuit | Forced]:
        """The state of each circuit by operation name and key, as it stands now.

        A closed circuit without a failure that still counts is left out, unless it is forced. A state is a ``Closed``,
        ``Open``, ``HalfOpen`` or ``Forced`` of ``recovery.policies.circuit_breaker``.
        """
        return self._break.states()

    def force(self, operation: str, mode: Mode, *, key: str = "") -> None:
        """Put a circuit into *mode* until it is forced again; an operation without a breaker can be forced, too.

        Where that opens or closes the circuit, ``CircuitOpened`` (*forced*) or ``CircuitClosed`` says so.

        Args:
            operation: The name of the operation.
            mode: "open" rejects or defers every attempt until it is forced again; "closed" lets every attempt begin;
                "metrics_only" publishes what the circuit would do, and lets every attempt begin; "auto" follows the
                policy again, and forgets earlier failures.
            key: One key of the operation; "" is the operation as a whole, and each key that is not forced itself.

        Raises:
            ValueError: There is no such mode.

        Source: the states DISABLED, FORCED_OPEN and METRICS_ONLY of resilience4j's CircuitBreaker.
        """
        validation.choice("mode", mode, MODES)
        self._break.force(operation, mode, key=key)

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
