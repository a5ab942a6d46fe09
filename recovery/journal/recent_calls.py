"""What the journal still knows without looking into the file: the calls and the results it wrote latest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from events.event import CallFact, Fact
from events.operation_events import (
    CallRejected,
    FailureClassified,
    OperationCancelled,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Recorded,
)
from recovery.journal.history import CallRecord, fold
from recovery.journal.size_estimate import weigh

MOST_BYTES = 4 * 1024 * 1024
"""About how much memory the calls may take, and the results."""
FOLDED_AT = 16
"""Facts of one call that are kept before they are folded."""

FIRST = (OperationStarted, FailureClassified, CallRejected, OperationCancelled)
"""With one of these the journal's knowledge of a call begins, if it is of the first attempt."""


class _Call:
    """A call's record until now, and facts that are not in it yet: folding them can wait until somebody asks."""

    __slots__ = ("facts", "record", "weight")

    def __init__(self, record: CallRecord | None) -> None:
        self.record = record
        self.facts: list[Fact] = []
        self.weight = 0


class Recent:
    """The calls and results that *run* wrote latest, least recently used first to go. Safe to use from any thread.

    A call is known whole or not at all: of one that was let go while it went on, or was begun by another run, nothing
    is known here any more.
    """

    def __init__(self, run: str, most_bytes: int = MOST_BYTES) -> None:
        self._run = run
        self._most = most_bytes
        self._lock = threading.RLock()
        self._calls: OrderedDict[str, _Call] = OrderedDict()
        self._calls_weight = 0
        self._let_go = False
        self._up_to = 0
        self._results: OrderedDict[str, Recorded] = OrderedDict()
        self._results_weight = 0
        self.has_looked = False
        """Whether what earlier runs recorded has been noted."""
        self.knows_every_result = False
        """Whether a result that is not known here is in no file either."""

    def add(self, facts: Iterable[tuple[int, Fact]]) -> None:
        """Note facts with their numbers, which were written in this order."""
        with self._lock:
            for number, fact in facts:
                self._up_to = number
                if isinstance(fact, CallFact):
                    self._add(fact)
                    self._remember(fact)

    def _add(self, fact: CallFact) -> None:
        call = self._calls.get(fact.call)
        if call is None:
            if not self._is_first(fact):
                return
            call = self._calls[fact.call] = _Call(None)
        else:
            self._calls.move_to_end(fact.call)
        call.facts.append(fact)
        weight = weigh(fact)
        call.weight += weight
        self._calls_weight += weight
        if len(call.facts) >= FOLDED_AT:
            self._fold(fact.call, call)
        while self._calls_weight > self._most:
            _, gone = self._calls.popitem(last=False)
            self._calls_weight -= gone.weight
            self._let_go = True

    def _is_first(self, fact: CallFact) -> bool:
        if isinstance(fact, OperationStarted):
            return fact.attempt == 1 and not fact.again
        # Of a call that was let go after its start this may be the second fact.
        return not self._let_go and fact.attempt == 1 and isinstance(fact, FIRST)

    def _fold(self, name: str, call: _Call) -> None:
        records = {} if call.record is None else {name: call.record}
        call.record = fold(records, self._run, call.facts)[name]
        call.facts = []
        texts = sum(map(len, call.record.failures)) + len(call.record.arguments or b"") + len(call.record.saved or b"")
        self._calls_weight += 1000 + texts - call.weight
        call.weight = 1000 + texts

    def _remember(self, fact: Fact) -> None:
        recorded = recorded_in(fact)
        if recorded is None:
            return
        key = result_key(fact.operation, recorded.key)
        old = self._results.pop(key, None)
        self._results_weight -= 0 if old is None else _weight_of(old)
        self._results[key] = recorded
        self._results_weight += _weight_of(recorded)
        while self._results_weight > self._most and len(self._results) > 1:
            _, gone = self._results.popitem(last=False)
            self._results_weight -= _weight_of(gone)
            self.knows_every_result = False

    def know_results(self, newest_first: Iterable[Fact], *, are_all: bool) -> None:
        """Note what is recorded in the file; *are_all* if it has no more."""
        with self._lock:
            self.has_looked = True
            self.knows_every_result = are_all
            newer, self._results, self._results_weight = self._results, OrderedDict(), 0
            for fact in reversed(list(newest_first)):
                self._remember(fact)
            self._results |= newer
            self._results_weight = sum(map(_weight_of, self._results.values()))

    def forget_results(self) -> None:
        """Look into the file again for every result: it has got some that were not written by this run."""
        with self._lock:
            self.has_looked = self.knows_every_result = False
            self._results, self._results_weight = OrderedDict(), 0

    def result(self, operation: str, key: str) -> Recorded | None:
        """The latest result of that idempotency key, whether it is still good or not."""
        with self._lock:
            found = self._results.get(result_key(operation, key))
            if found is not None:
                self._results.move_to_end(result_key(operation, key))
            return found

    def call(self, name: str, waiting: Iterable[tuple[int, Fact]] = ()) -> CallRecord | None:
        """Where the call stands, with its facts *waiting* to be written; ``None`` if it is not known whole."""
        with self._lock:
            call = self._calls.get(name)
            facts = self._not_in(waiting)
            if call is None:
                if not (facts and isinstance(facts[0], CallFact) and self._is_first(facts[0])):
                    return None
                return fold({}, self._run, facts)[name]
            self._calls.move_to_end(name)
            self._fold(name, call)
            records = {} if call.record is None else {name: call.record}
        return fold(records, self._run, facts)[name]

    def after(self, records: dict[str, CallRecord], waiting: Iterable[tuple[int, Fact]]) -> dict[str, CallRecord]:
        """*records*, read from the file, with those facts *waiting* that the file does not have."""
        with self._lock:
            return fold(records, self._run, self._not_in(waiting))

    def _not_in(self, waiting: Iterable[tuple[int, Fact]]) -> list[Fact]:
        # A batch is noted here before it leaves the queue: what is in both is not counted twice.
        return [fact for number, fact in waiting if number > self._up_to]


def result_key(operation: str, key: str) -> str:
    """What a store finds the result of *key* by: keys are the operation's own."""
    return f"{operation}\0{key}"


def _weight_of(recorded: Recorded) -> int:
    return 400 + len(recorded.key) + len(memoryview(recorded.result))


def recorded_in(fact: Fact) -> Recorded | None:
    """The result that *fact* records, if it does."""
    return fact.recorded if isinstance(fact, (OperationSucceeded, OperationRecovered)) else None
