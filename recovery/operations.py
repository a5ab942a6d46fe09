"""The operations of a service: their settings, their keys, and the functions that resume their calls."""

from __future__ import annotations

import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias
from weakref import WeakValueDictionary, ref

from events.bus import Bus
from events.callables import is_async
from events.fork_locks import fork_safe
from events.operation import Operation
from recovery.redact import brief, redact
from recovery.serialization.arguments import ArgumentCodec
from recovery.settings import ConfigOf, OperationConfig

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

log = logging.getLogger("recovery")


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
        "__weakref__", "_alive", "_by_key", "_is_silent", "_lock", "_max_keys", "_warned", "call_configs", "codec",
        "config", "is_async", "learned", "operation", "resume", "switch",
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
        self.call_configs = {} if call_configs is None else call_configs
        self.operation = operation
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
        # An operation that is forgotten here, but held by its circuit, its budget or a call, keeps its counter.
        self._alive: WeakValueDictionary[str, Operation] = WeakValueDictionary()

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

    def keyed(self, key: str) -> Operation:
        """The operation for *key*, with its own success counter and circuit; the operation as a whole for ""."""
        if not key:
            return self.operation
        with self._lock:
            operation = self._by_key.get(key)
            if operation is None:
                self.warn_of_secret("key", key)
                operation = self._alive.get(key) or Operation(self.operation.name, self.operation.bus, key=key)
                self._by_key[key] = self._alive[key] = operation
                if len(self._by_key) > self._max_keys:
                    self._by_key.popitem(last=False)
            else:
                self._by_key.move_to_end(key)
            return operation


class Registry:
    """Operations by name. One name is one operation: one config and one circuit, which all its calls share.

    Args:
        bus: Where the operations emit their events.
        on_reuse: Called with a name that is given to a new operation after the operation that had it is gone.
        max_keys: How many keys of one operation are remembered.
    """

    def __init__(
        self, bus: Bus, on_reuse: Callable[[str], object] = lambda _name: None, *, max_keys: int = MAX_KEYS
    ) -> None:
        self._bus = bus
        self._on_reuse = on_reuse
        self._max_keys = max_keys
        self._lock = fork_safe(threading.Lock())
        # Weak: a function decorated in a loop (or in a property-based test) must not be remembered for ever.
        self._definitions: dict[str, ref[Definition]] = {}
        self._kept: set[Definition] = set()
        self._configs: dict[str, OperationConfig] = {}
        self.config_of: ConfigOf = self._configs.get
        """The config of the operation of that name, if it is defined: looked up six times for each failure."""
        self.call_configs: dict[str, OperationConfig] = {}
        """The configs of calls under way that have their own (``but``), by the call's id."""
        self.switch = Switch()
        """Whether the service recovers from failures."""
        self.logging: bool | None = None
        """What operations that leave it open log: everything, nothing, or (None) retries as details."""

    def __len__(self) -> int:
        return len(self._configs)

    def define(self, name: str, config: OperationConfig, *, explicit: bool) -> Definition:
        """The operation *name* with *config*: a new one, or the one that has the same name and config.

        A function's own name is used by that function alone: the next function of that name (a closure, a lambda) gets
        a number. A name that was chosen, or that belongs to a resumable operation, is never numbered, since callers or
        the journal find the operation by it.

        Args:
            name: The operation's name.
            config: Its checked settings.
            explicit: Whether the name was chosen, rather than taken from a function.

        Raises:
            ValueError: The name has other settings already, or holds a NUL, which separates names from keys.
        """
        if "\0" in name:
            raise ValueError(f"the name of an operation must not hold a NUL: {name!r}")
        with self._lock:
            chosen = name
            number = 1
            is_shared = explicit or config.resumable
            while (known := self.get(chosen)) is not None and not (is_shared and known.config == config):
                if is_shared:
                    raise ValueError(
                        f"operation {name!r} is already defined with other settings; give this one its own name"
                    )
                number += 1
                chosen = f"{name}#{number}"
            if known is None:
                known = self._add(chosen, config)
            if is_shared:
                self._kept.add(known)
            return known

    def _add(self, name: str, config: OperationConfig) -> Definition:
        if name in self._definitions:
            self._on_reuse(name)
        definition = Definition(
            config,
            Operation(name, self._bus),
            is_silent=self.is_silent,
            max_keys=self._max_keys,
            call_configs=self.call_configs,
            switch=self.switch,
        )
        self._definitions[name] = ref(definition, functools.partial(self._gone, name))
        self._configs[name] = config
        return definition

    def forget_pending(self) -> None:
        """Have each operation ask again which of its calls are pending."""
        for found in list(self._definitions.values()):
            if (definition := found()) is not None:
                definition.learned = ""

    def get(self, name: str) -> Definition | None:
        """The operation of that name, ``None`` if it is not defined."""
        found = self._definitions.get(name)
        return None if found is None else found()

    def _gone(self, name: str, _end: object) -> None:
        # No lock: the collector may call this anywhere, also where the lock is held.
        self._configs.pop(name, None)
        known = self.get(name)
        if known is not None:  # another thread has just defined the name again
            self._configs[name] = known.config

    def logs(self, name: str) -> bool | None:
        """What the operation of that name logs: everything, nothing, or (None) retries as details."""
        config = self.config_of(name)
        return self.logging if config is None or config.logging is None else config.logging

    def is_silent(self, name: str) -> bool:
        """Whether nothing of the operation of that name is logged."""
        return self.logs(name) is False

    def operation_of(self, name: str, key: str) -> Operation | None:
        """The operation of that name and key, ``None`` if it is not defined. A reference to it keeps its counter."""
        definition = self.get(name)
        return None if definition is None else definition.keyed(key)


def name_of_function(function: Any) -> str:
    """The default name of an operation: module and qualified name of the function, or of a callable's class."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"
