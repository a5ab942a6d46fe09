"""What the compiled failure path knows in advance of an operation: its subscribers, its journal, what its errors mean.

A ``Plan`` is good for one generation: until a subscriber or a setting changes on which failures depend. A ``Route``
says what the errors of one class mean; it is learnt from the general path when such an error is first raised.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from events.bus import Bus
from events.event import Event
from events.evidence import Evidence
from events.kinds import ON_REQUEST
from events.operation import Operation
from events.operation_events import FailureClassified, OperationFailed, OperationRecovered, RetryScheduled
from events.ready import Ready
from events.subscription import Subscription
from recovery.journal.lane import LONGEST_TEXT, Lane
from recovery.policies.classification import UNKNOWN
from recovery.policies.retry import UNSENT, delays
from recovery.registry import Registry
from recovery.settings import OperationConfig
from recovery.subscribers.built_in import BuiltIn
from recovery.subscribers.classification import Meaning
from recovery.subscribers.evidence_extraction import is_plain, message_of
from recovery.waiting.jumps import Jumps, watched

if TYPE_CHECKING:
    from recovery.journal.core import JournalCore

LOGGER, ROOT, INFO = logging.getLogger("recovery"), logging.getLogger(), logging.INFO

MAX_KNOWN = 256
"""Classes of errors that a plan knows at a time, and texts that a route knows."""


def call_id(bus: Bus, call: int | str) -> str:
    """The id of the call of a record. Most records hold the number of the call: its id is made when an event is."""
    return call if type(call) is str else f"{bus.run}-{call}"


class Route:
    """What the plain failures of one class of errors mean, and when they are retried; makes the events of its records.

    A record is ``(route, call, attempt, at, began, waited, text, after)``: the number of the call or its id, the number
    of the attempt, the times of this failure and of the first, the seconds waited before the attempt and after it, and
    the arguments of the error: a text, or nothing.

    Args:
        operation: What has failed.
        meaning: What every such failure means.
        delays: As of ``recovery.policies.retry.delays``, for retry 1 and those after it.
        jumps: Watches the clock.
        has_errno: Whether errors of the class may have one; then they are not plain.
        is_by_text: Whether the text decides too.
    """

    __slots__ = ("_latest", "delays", "has_errno", "is_by_text", "known", "listed", "meaning", "operation")

    weight = 2
    """How many events a record stands for."""

    def __init__(
        self,
        operation: Operation,
        meaning: Meaning,
        delays: tuple[tuple[float, float], ...],
        jumps: Jumps,
        *,
        has_errno: bool,
        is_by_text: bool,
    ) -> None:
        self.operation = operation
        self.meaning = meaning
        self.listed = ((0.0, 0.0), *delays)  # by number
        self.delays = watched(self.listed, jumps)
        """The same; to look one up looks for a jump of the clock, if it is not zero."""
        self.has_errno = has_errno
        self.is_by_text = is_by_text
        self.known: set[tuple[str, ...]] = set()
        """The arguments of errors that are known to mean this."""
        self._latest: tuple[Any, Evidence] = None, meaning.evidence

    def admits(self, args: Any) -> bool:
        """Whether errors with these arguments, a short text or nothing, mean the same; from now on they are known."""
        text = args[0] if args else ""
        if (
            len(args) > 1
            or type(text) is not str
            or len(text) > LONGEST_TEXT
            or (self.is_by_text and args not in self.known)
        ):
            return False
        if len(self.known) >= MAX_KNOWN:
            self.known.clear()
        self.known.add(args)
        return True

    def classified(self, record: Any) -> FailureClassified:
        """The classified failure of *record*."""
        _, call, attempt, at, began, waited, text, _ = record
        operation, (answer, like, _) = self.operation, self.meaning
        known, evidence = self._latest
        if known != text:  # most errors of a class say the same
            evidence = Evidence(type=like.type, kinds=like.kinds, message=message_of(text[0]) if text else "")
            self._latest = text, evidence
        return FailureClassified(
            at=at,
            operation=operation.name,
            call=call if type(call) is str else f"{operation.bus.run}-{call}",
            attempt=attempt,
            category=answer.category,
            rule=answer.rule,
            why=answer.why,
            evidence=evidence,
            retries=attempt - 1,
            elapsed=at - began,
            waited=waited,
            done=0.0,  # written, as it is by the general path
        )

    def scheduled(self, record: Any, *, with_failure: bool = True) -> RetryScheduled:
        """The retry of *record*; its failure is part of the event if that is wanted."""
        _, call, attempt, at, _, _, _, after = record
        operation = self.operation
        return RetryScheduled(
            at=at,
            operation=operation.name,
            call=call if type(call) is str else f"{operation.bus.run}-{call}",
            attempt=attempt,
            after=after,
            retry=attempt,
            category=self.meaning.answer.category,
            failure=self.classified(record) if with_failure else None,
        )

    def events(self, record: Any) -> tuple[Event, ...]:
        """The events that *record* stands for; a journal holds the failure once, as the first of them."""
        return self.classified(record), self.scheduled(record, with_failure=False)


class Observers(NamedTuple):
    """The subscribers, beside the built-in ones, of each event of a failure that is retried."""

    failed: Ready
    classified: Ready
    scheduled: Ready
    recovered: Ready


class Plan(NamedTuple):
    """What the failures of one function depend on, for one generation of its operation.

    Args:
        generation: That generation: the operation's own, and that of the bus, added.
        level: The level of the log. Up to INFO, subscribers to details are called.
        routes: What is known of classes of errors; ``None`` for those that take the general path.
        lane: Takes the records for the journal.
        clock: The clock of the bus.
        observers: The subscribers that are not built in; ``None`` if there are none.
        long: Those of a ``RetryScheduled`` that waits long (``LONG_WAIT``).
        is_usual: Whether failures may take the compiled path; if not, all take the general one.
    """

    generation: int
    level: int
    routes: dict[type, Any]  # of Route or None, which the checker would ask for at each use
    lane: Lane
    clock: Callable[[], float]
    observers: Observers | None
    long: Ready
    is_usual: bool


NO_JOURNAL = Lane()
"""The lane of operations that are not journalled: it takes every record and keeps none."""
NO_JOURNAL.records, NO_JOURNAL.limit = deque(maxlen=0), 1

NO_LANE = Lane()
"""Takes no record."""
NO_LANE.limit = 0

NO_PLAN = Plan(-1, 0, {}, NO_JOURNAL, float, None, (), is_usual=False)
"""The plan before the first failure: of no generation, so the first failure makes another."""


class Planner:
    """Makes plans, and learns routes, for the functions of one service.

    Args:
        bus: The service's bus.
        registry: Its operations.
        built_in: Its subscribers.
        journal: The journal, once there is one.
        jumps: Watches the clock.
    """

    def __init__(
        self,
        bus: Bus,
        registry: Registry,
        built_in: BuiltIn,
        journal: Callable[[], JournalCore | None],
        jumps: Jumps,
    ) -> None:
        self.bus, self.rng, self.jumps = bus, built_in.rng, jumps
        self.circuits = built_in.circuit_breaker.known
        self._registry, self._built_in, self._journal = registry, built_in, journal

    def own(self) -> set[Subscription]:
        """The subscriptions of the service itself that decide about failures, or write them."""
        journal = self._journal()
        return self._built_in.subscriptions | (set() if journal is None else {journal.subscription})

    def plan(self, operation: Operation, config: OperationConfig) -> Plan:
        """The plan of the functions of *operation* with that *config*, as of now."""
        bus, journal = self.bus, self._journal()
        generation = operation.generation + bus.generation
        own = self.own()
        level, is_usual = log_level(), is_simple(config)
        is_usual &= self._registry.switch.is_on and self._registry.config_of(operation.name) is config
        found: list[Ready] = []
        kinds = (OperationFailed, FailureClassified, RetryScheduled, OperationRecovered)
        for kind, detailed in (*((kind, level <= INFO) for kind in kinds), (RetryScheduled, True)):
            ready = bus.subscribers(kind, operation.name, details=detailed)
            # A receiver that is connected through blinker needs the general path, and may go without notice.
            is_usual &= not bus.signal(kind).is_muted and all(one is not None for _, one in ready)
            found.append(tuple(one for one in ready if one[1] not in own))
        observers = Observers(*found[:4])
        is_kept = journal is not None and config.durability != "off"
        return Plan(
            generation,
            level,
            {},
            journal.lane if journal is not None and is_kept else NO_JOURNAL,
            bus.clock,
            observers if any(observers) else None,
            found[4],
            is_usual,
        )

    def starts(self, operation: Operation) -> tuple[int, Lane]:
        """The generation of *operation*, and the lane for its starts and successes; ``NO_LANE`` if others get them."""
        bus, journal = self.bus, self._journal()
        generation = operation.generation + bus.generation
        config = self._registry.config_of(operation.name)
        is_kept = self._registry.switch.is_on and config is not None and config.durability != "off"
        if journal is None or not is_kept:
            return generation, NO_LANE
        for kind in ON_REQUEST:
            functions = [function for function, _ in bus.subscribers(kind, operation.name, details=True)]
            if bus.signal(kind).is_muted or functions != [journal.record]:
                return generation, NO_LANE
        return generation, journal.lane

    def learn(self, plan: Plan, error: Exception, operation: Operation, config: OperationConfig) -> bool:
        """Learn what *error* means, if that is not known yet; whether it takes the compiled path from now on."""
        if not (plan.is_usual and is_plain(error)):
            return False
        if error.args and len(error.args[0]) > LONGEST_TEXT:
            return False  # it takes the general path, and much memory here
        kind, known = type(error), plan.routes.get(type(error))
        if kind in plan.routes and (known is None or not known.is_by_text or error.args in known.known):
            return False
        meaning = self._built_in.classify.of_class(error, config, operation.name)
        if meaning is not None and meaning.is_by_text and meaning.answer.rule != UNKNOWN:
            return False  # this text has a meaning of its own
        if known is None:
            known = None if meaning is None else self._route(kind, meaning, operation, config)
            if len(plan.routes) >= MAX_KNOWN:
                plan.routes.clear()
            plan.routes[kind] = known
        if known is None:
            return False
        if len(known.known) >= MAX_KNOWN:
            known.known.clear()
        known.known.add(error.args)
        return True

    def _route(self, kind: type, meaning: Meaning, operation: Operation, config: OperationConfig) -> Route | None:
        category = meaning.answer.category
        listed = delays(config.policy, category)
        if not listed or not (config.may_repeat or category in UNSENT) or meaning.answer.retry_after:
            return None
        has_errno, is_by_text = issubclass(kind, OSError), meaning.is_by_text
        return Route(operation, meaning, listed, self.jumps, has_errno=has_errno, is_by_text=is_by_text)


def is_simple(config: OperationConfig) -> bool:
    """Whether a failure of a call with that *config* may be decided by its class, its text and its number alone."""
    hooks = (config.retry_if, config.retry_if_error, config.before_retry, config.reconcile, config.budget)
    counts_calls = config.breaker is None or config.breaker.counts == "calls"
    return counts_calls and not config.classifiers and all(hook is None for hook in hooks)


def log_level() -> int:
    """The level of the log now, as for the bus: it wants details up to INFO."""
    return LOGGER.level or ROOT.level
