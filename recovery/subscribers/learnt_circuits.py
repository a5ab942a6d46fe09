"""``LearntCircuits``: circuits that another node of a cluster has opened, probes and closes, as if calls here had.

What is learnt is published with the name of the *node*, so that it is not told to the cluster as news.
"""

from __future__ import annotations

from collections.abc import Callable

from events.circuit_events import CircuitClosed, CircuitHalfOpened
from events.event import Event
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from recovery.operations import OperationKey
from recovery.policies.circuit_states import Circuit, HalfOpen, Open, Permit, Reopened
from recovery.policies.incidents import seen_by
from recovery.subscribers.circuit_control import CircuitControl, opening

SAME = 0.05
"""Seconds by which two readings of one moment may differ on the clocks of two nodes."""


class LearntCircuits(CircuitControl):
    """Applies to circuits what other nodes know. A circuit that is forced by hand learns nothing meanwhile."""

    cluster: Callable[[str, str], float] | None = None
    """Asks the cluster whether a call of an operation and key may probe: seconds to wait for the answer, 0.0: yes."""

    def ask_cluster(self, operation: str, key: str) -> float:
        """Seconds to wait for the cluster's leave to probe; 0.0 if there is none to wait for."""
        return 0.0 if self.cluster is None else self.cluster(operation, key)

    def seen_by(self, operation_key: OperationKey) -> str:
        """What a reason says of the node from which the circuit was learnt; "" if calls here opened it."""
        return seen_by(self._known.nodes.get(operation_key, ""))

    def learn_open(self, operation: str, key: str, reopened: Reopened, node: str) -> None:
        """Open a circuit as *node* did. If its probe failed, that counts as an attempt of every call that waits."""
        operation_key, circuit, now = (operation, key), reopened.circuit, self._bus.clock()
        cause = f"{reopened.cause}{seen_by(node)}".removeprefix(", ")
        with self._lock:
            before = self._circuits.get(operation_key)
            if isinstance(before, Open) and before.times >= circuit.times and before.until >= circuit.until - SAME:
                return
            events = self._learn(operation_key, circuit, node, now)
            if operation_key in self._known.nodes:
                events.append(opening(operation_key, circuit, now, reopened.category, cause, node=node))
        has_failed = isinstance(before, Open | HalfOpen) and circuit.times > before.times
        if events and has_failed and reopened.category is not None:
            self._waits.probe_failed(_failure(operation_key, reopened.category, cause, now))
        self._publish(events)

    def learn_probe(self, operation: str, key: str, until: float, times: int, node: str) -> None:
        """Have every call wait for the probe of *node*, at most until that time on the bus's clock."""
        operation_key, policy, now = (operation, key), self._known.policy_of(operation), self._bus.clock()
        permits = 1 if policy is None else policy.half_open_permits
        probe = HalfOpen(tuple(Permit(f"{node}/{number}", until) for number in range(permits)), times)
        with self._lock:
            before = self._circuits.get(operation_key)
            events = self._learn(operation_key, probe, node, now)
            if operation_key in self._known.nodes and not isinstance(before, HalfOpen):
                events.append(CircuitHalfOpened(at=now, operation=operation, key=key, node=node))
        self._publish(events)

    def learn_closed(self, operation: str, key: str, node: str) -> None:
        """Close a circuit: a probe of *node* has succeeded."""
        operation_key, now = (operation, key), self._bus.clock()
        with self._lock:
            if self._mode(operation_key, now) is not None:
                return
            was_open = isinstance(self._circuits.get(operation_key), Open | HalfOpen)
            if was_open:
                self._known.drop(operation_key)
        if was_open:
            self._publish([CircuitClosed(at=now, operation=operation, key=key, node=node)])

    def is_probing(self, operation: str, key: str) -> bool:
        """Whether a call of this process probes now."""
        now = self._bus.clock()
        with self._lock:
            circuit, is_learnt = self._circuits.get((operation, key)), (operation, key) in self._known.nodes
        return (
            isinstance(circuit, HalfOpen) and not is_learnt and any(permit.expires > now for permit in circuit.permits)
        )

    def _learn(self, operation_key: OperationKey, circuit: Circuit, node: str, now: float) -> list[Event]:
        """Note the state, unless the circuit is forced, has no policy here, or is less important than all others."""
        if self._known.policy_of(operation_key[0]) is None or self._mode(operation_key, now) is not None:
            return []
        was_open = isinstance(self._circuits.get(operation_key), Open | HalfOpen)
        events = self._known.remember(operation_key, circuit, now)
        if operation_key in self._circuits:
            self._known.nodes[operation_key] = node
            if not was_open:
                self._known.subscribe(operation_key)
        return events


def _failure(operation_key: OperationKey, category: Category, cause: str, now: float) -> FailureClassified:
    """The failure of a probe of another node. Its category and its ``brief`` are all that is known of it."""
    (operation, key), rule = operation_key, cause.removeprefix(f"{category}: ")
    evidence = Evidence(type="", exit_code=0)  # then ``brief`` is the category and the rule
    return FailureClassified(
        at=now, operation=operation, key=key, call="", category=category, evidence=evidence, rule=rule
    )
