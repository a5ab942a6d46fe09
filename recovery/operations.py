"""An operation of a service: its settings, its keys, and the function that resumes its calls."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ref

from events.callables import is_async
from events.fork_locks import fork_safe
from events.operation import Operation
from events.own_log import own_log
from recovery.redact import brief, redact
from recovery.sameness import is_same

if TYPE_CHECKING:
    from recovery.serialization.arguments import ArgumentCodec
    from recovery.settings import OperationConfig

OperationKey: TypeAlias = tuple[str, str]
"""An operation's name, and one of its keys; the key "" stands for the operation as a whole."""

OperationOf: TypeAlias = Callable[[str, str], Operation | None]
"""Finds an operation by its name and key; ``None`` for one that the service does not know."""

MAX_KEYS = 1024
"""How many keys of one operation are remembered by default; the least recently used is forgotten first."""

MAX_REASON = 1000
"""Characters of a reason that are logged."""

MAX_WARNINGS = 100
"""Warnings of one operation that differ in their reasons."""

log = own_log("recovery")


class Switch:
    """Whether a service recovers from failures: its functions ask when they fail, those with a runner at each call."""

    __slots__ = ("is_on",)

    def __init__(self) -> None:
        self.is_on = True


class Definition:
    """One operation of a service: its config, and an ``Operation`` for each of its keys.

    Args:
        config: The checked settings.
        operation: The operation as a whole.
        is_silent: Whether an operation of that name logs nothing.
        max_keys: How many keys are remembered.
        call_configs: As of the ``Registry``.
        switch: As of the ``Registry``.
    """

    __slots__ = (
        "__weakref__", "_by_key", "_is_silent", "_lock", "_max_keys", "_warned", "call_configs", "code",
        "codec", "config", "homes", "is_async", "learned", "operation", "resume", "switch", "wrapper",
    )  # fmt: skip

    def __init__(
        self,
        config: OperationConfig,
        operation: Operation,
        *,
        is_silent: Callable[[str], bool] = lambda _name: False,
        max_keys: int = MAX_KEYS,
        call_configs: dict[str, OperationConfig] | None = None,
        switch: Switch | None = None,
    ) -> None:
        self.switch = switch or Switch()
        self.config = config
        """The settings of the latest definition; functions of an earlier one keep theirs."""
        self.homes: set[str] = set()
        """Where its functions were written; one that is written there again may change the settings."""
        self.code: CodeType | None = None
        """The code of the function that was defined last."""
        self.wrapper: Callable[[], Any] = lambda: None
        """The wrapper around that function, ``None`` once it is gone."""
        self.call_configs = {} if call_configs is None else call_configs
        self.operation = self._owned(operation)
        self.resume: Callable[..., Any] | None = None
        """The function that resumed calls run."""
        self.codec: ArgumentCodec | None = None
        """Reads and writes the arguments of that function."""
        self.is_async: bool | None = None
        """Whether the functions of joinable calls are async; None while there is none."""
        self.learned = ""
        """The run of the journal whose pending calls of this operation are known."""
        self._is_silent = is_silent
        self._max_keys = max_keys
        self._warned: set[str] = set()
        self._lock = fork_safe(threading.Lock())
        self._by_key: OrderedDict[str, Operation] = OrderedDict()

    def is_again(self, function: object, code: CodeType | None) -> bool:
        """Whether the closure *function* is the one that was defined last, or takes its place: that one is gone."""
        last = self.wrapper()
        return code is not None and code == self.code and (last is None or is_same(last.__wrapped__, function))

    def redefine(self, config: OperationConfig) -> None:
        """Take the settings of a new definition of a function of the operation."""
        self.config = config
        self.resume = self.codec = self.is_async = None

    def add(self, function: Callable[..., Any]) -> None:
        """Note a function of the operation, if its calls can be resumed or joined. Raises ValueError for a conflict."""
        if self.config.resumable:
            self._resume_with(function)
        if self.config.joins:
            self._check_kind(function)

    def _resume_with(self, function: Callable[..., Any]) -> None:
        """Set the function that resumed calls run. Raises ValueError if another function was set before."""
        before, after = (getattr(one, "__qualname__", None) for one in (self.resume, function))
        if self.resume is not None and before != after:
            raise ValueError(
                f"operation {self.operation.name!r} already resumes its calls with {before}; "
                f"give {after} an operation name of its own"
            )
        from recovery.serialization.arguments import ArgumentCodec  # here, for resumable calls: it takes milliseconds

        self.resume, self.codec = function, ArgumentCodec(function)

    def _check_kind(self, function: Callable[..., Any]) -> None:
        """Raise ValueError if equal calls could join a call of the other kind: plain functions and async ones."""
        if self.is_async is not None and self.is_async is not is_async(function):
            raise ValueError(
                f"operation {self.operation.name!r} has plain and async functions, which cannot join each other; "
                "give each an operation name of its own, or set join=False"
            )
        self.is_async = is_async(function)

    @property
    def is_silent(self) -> bool:
        """Whether nothing of the operation is logged."""
        return self._is_silent(self.operation.name)

    def warn_once(self, what: str, why: str, *, per_reason: bool = False) -> None:
        """Log a warning about a call, once for all calls of the operation.

        Args:
            what: The problem; each one is logged once.
            why: Its reason, which is redacted and cut.
            per_reason: Whether another reason is logged again, up to ``MAX_WARNINGS``.
        """
        said = brief(why, MAX_REASON)
        problem = f"{what}: {said}" if per_reason else what
        if problem not in self._warned and not (per_reason and len(self._warned) >= MAX_WARNINGS):
            self._warned.add(problem)
            if not self.is_silent:
                log.warning("%s: %s: %s", self.operation.name, what, said)

    def warn_of_secret(self, setting: str, key: str) -> None:
        """Warn once that *key*, which *setting* returned, holds a secret: keys are written unredacted."""
        if setting not in self._warned and redact(key) != key:
            self.warn_once(
                setting, "what it returns holds a secret, and is written and shown as it is; return a hash of it"
            )

    def _owned(self, operation: Operation) -> Operation:
        operation.owner = ref(self)
        return operation

    def keyed(self, key: str) -> Operation:
        """The operation for *key*, with its own success counter and circuit; the operation as a whole for ""."""
        if not key:
            return self.operation
        with self._lock:
            operation, name, bus = self._by_key.get(key), self.operation.name, self.operation.bus
            if operation is None:
                if len(self._by_key) < self._max_keys:  # later ones are of the same kind
                    self.warn_of_secret("key", key)
                operation = self._by_key[key] = self._alive(key) or self._owned(Operation(name, bus, key=key))
                if len(self._by_key) > self._max_keys:
                    self._by_key.popitem(last=False)
            else:
                self._by_key.move_to_end(key)
            return operation

    def _alive(self, key: str) -> Operation | None:
        """The operation for *key* that is forgotten here, but held by its circuit, its budget or a call."""
        for operation in self.operation.bus.operations_of(self.operation.name, key):
            if isinstance(operation, Operation) and operation.owner() is self:
                return operation
        return None
