"""``Knowledge``: what the nodes of a cluster learn from each other about hosts, applied to one service.

What leaves a service is seen on its bus: ``CircuitOpened``, ``CircuitHalfOpened``, ``CircuitClosed`` and
``FailureClassified`` with a rate limit; ``usage`` has what it used of its retry budgets. What comes in is applied by
the ``learn_*`` methods here. Events that they publish name the *node*, so that it is not told again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from events.circuit_events import CircuitOpened
from events.evidence import Category
from recovery.operations import OperationKey
from recovery.policies.circuit_states import Open, Reopened
from recovery.service import Recovery
from recovery.subscribers.budget import Usage


class Knowledge:
    """What other nodes know, for one service. Safe to use from any thread; times are on the bus's clock.

        knowledge = Knowledge(service)
        knowledge.learn_open("download", "example.org", until=service.bus.clock() + 30.0, node="gpu-a")

    Args:
        service: The service that learns.
    """

    def __init__(self, service: Recovery) -> None:
        self._subscribers = service._subscribers
        self._waiting = service._waiting

    def learn_open(
        self,
        operation: str,
        key: str = "",
        *,
        until: float,
        node: str,
        failures: int = 0,
        times: int = 1,
        category: Category | None = None,
        cause: str = "",
    ) -> None:
        """Hold or reject calls as *node* does, whose circuit is open; nothing for a circuit that is forced here.

        Where *times* has grown, a probe has failed: it counts as an attempt of every call that waits here.

        Args:
            operation: The name of the operation.
            key: Its key; "" for the operation as a whole.
            until: The end of the break.
            node: Who saw it; incidents and reasons name it.
            failures: How many failures were counted.
            times: How often in a row the circuit has opened.
            category: The category of the failure that opened it.
            cause: What that failure means, in a few words.
        """
        reopened = Reopened(Open(until, failures, times), category, cause)
        self._subscribers.circuit_breaker.learn_open(operation, key, reopened, node)

    def learn_probe(self, operation: str, key: str = "", *, until: float, node: str, times: int = 1) -> None:
        """Have calls wait for the answer of the probe of *node*, at most *until* then.

        Args:
            operation: The name of the operation.
            key: Its key; "" for the operation as a whole.
            until: When another node may probe in its place.
            node: Who probes.
            times: How often in a row the circuit has opened.
        """
        self._subscribers.circuit_breaker.learn_probe(operation, key, until, times, node)

    def learn_closed(self, operation: str, key: str = "", *, node: str) -> None:
        """Let calls begin: a probe of *node* has succeeded.

        Args:
            operation: The name of the operation.
            key: Its key; "" for the operation as a whole.
            node: Who probed.
        """
        self._subscribers.circuit_breaker.learn_closed(operation, key, node)

    def learn_limit(self, operation: str, key: str = "", *, until: float, node: str) -> None:
        """Let no call begin before *until*: a server has asked *node* for that pause.

        Args:
            operation: The name of the operation.
            key: Its key; "" for the operation as a whole.
            until: The end of the pause.
            node: Who was asked.
        """
        self._subscribers.rate_limits.learn(operation, key, until, node)

    def learn_used(
        self,
        operation: str,
        key: str = "",
        *,
        taken: float,
        successes: int = 0,
        tokens: float | None = None,
        age: float = 0.0,
    ) -> None:
        """Count what another node has used of a retry budget since it was last counted.

        Args:
            operation: The name of the operation.
            key: Its key; "" for the operation as a whole.
            taken: The tokens that its retries have taken.
            successes: Its successes, which bring tokens here too.
            tokens: For a node that is counted for the first time: how many tokens it had left. There are at most as
                many here.
            age: Seconds since it had them.
        """
        self._subscribers.budgets.learn(operation, key, taken=taken, successes=successes, tokens=tokens, age=age)

    def usage(self) -> Mapping[OperationKey, Usage]:
        """What this service has used of each retry budget that is not full, by operation and key."""
        return self._subscribers.budgets.usage()

    def ask_before_probes(self, ask: Callable[[str, str], float] | None) -> None:
        """Ask the cluster before a call probes; ``None``: each service probes by itself.

        Args:
            ask: Gets an operation and a key, from any thread and under a lock: it must not block, nor call back. It
                returns 0.0 if the call may probe, else the seconds for which the call waits before it asks again.
        """
        self._subscribers.circuit_breaker.cluster = ask

    def may_probe(self, operation: str, key: str = "") -> None:
        """Let the next call that waits for a circuit ask at once: the cluster has answered."""
        self._waiting.may_probe(operation, key)

    def is_probing(self, operation: str, key: str = "") -> bool:
        """Whether a call of this service probes now."""
        return self._subscribers.circuit_breaker.is_probing(operation, key)

    def opened_here(self) -> list[CircuitOpened]:
        """How each circuit opened last that calls of this service have opened: the news for a cluster that it joins."""
        latest = [incident.latest for incident in self._subscribers.incidents.all()]
        return [opened for opened in latest if not opened.forced and not opened.node]
