"""The operations of a service, by name."""

from __future__ import annotations

import functools
import heapq
import threading
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import ref

from events.bus import Bus
from events.fork_locks import fork_safe
from events.operation import Operation
from recovery.operations import MAX_KEYS, Definition, Switch
from recovery.sameness import code_of, differences, home_of
from recovery.settings import ConfigOf, OperationConfig

MOST_COMPARED = 16
"""Closures of one name that a new one is compared with; to compare thousands would make each definition slow."""


class Numbers:
    """The numbers above ``MOST_COMPARED`` that operations of one name have: the least free one is found at once."""

    def __init__(self) -> None:
        self._highest = MOST_COMPARED
        self._free: list[int] = []  # a heap
        self.gone: deque[int] = deque()
        """Those of operations that are gone. The collector may append here anywhere."""

    def take(self) -> int:
        """A number that no operation has taken."""
        while self.gone:
            heapq.heappush(self._free, self.gone.popleft())
        if self._free:
            return heapq.heappop(self._free)
        self._highest += 1
        return self._highest


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
        self._numbers: dict[str, Numbers] = {}
        self._kept: set[Definition] = set()
        self._configs: dict[str, OperationConfig] = {}
        self.config_of: ConfigOf = self._configs.get
        """The config of the operation of that name, if it is defined: looked up six times for each failure."""
        self.call_configs: dict[str, OperationConfig] = {}
        """The configs of the calls under way that have failed, by the call's id: ``but``, or a definition meanwhile,
        may have given their operation others."""
        self.switch = Switch()
        """Whether the service recovers from failures."""
        self.logging: bool | None = None
        """What operations that leave it open log: everything, nothing, or (None) retries as details."""

    def names(self) -> list[str]:
        """The names of the operations."""
        return list(self._configs)

    def __len__(self) -> int:
        return len(self._configs)

    def define(
        self, name: str, config: OperationConfig, *, explicit: bool, function: Callable[..., Any] | None = None
    ) -> Definition:
        """The operation *name* with *config*: a new one, or the one that it is again.

        The same function, defined again (a cell of a notebook, a reloaded module), is the same operation, with the new
        settings. A closure or a lambda is another function each time: one of the same code and settings is the same
        operation (of the first ``MOST_COMPARED`` of its name), another one gets a number. A name that was chosen, or
        that belongs to a resumable operation, is never numbered, since callers or the journal find it by the name.

        Args:
            name: The operation's name.
            config: Its checked settings.
            explicit: Whether the name was chosen, rather than taken from a function.
            function: What is defined; ``None`` for an operation by hand.

        Raises:
            ValueError: The name has other settings already, or holds a NUL, which separates names from keys.
        """
        if "\0" in name:
            raise ValueError(f"the name of an operation must not hold a NUL: {name!r}")
        is_shared = explicit or config.resumable
        code, home = code_of(function), home_of(function)
        with self._lock:
            chosen, number = name, 1
            while (known := self.get(chosen)) is not None:
                if home in known.homes:
                    if differences(known.config, config):
                        known.redefine(config)
                        self._configs[chosen] = config
                        self._bus.invalidate(chosen)
                    break
                if is_shared:
                    if others := differences(known.config, config):
                        raise ValueError(
                            f"operation {name!r} is already defined with other settings: {'; '.join(others)}. "
                            "Give this one its own name, or the same settings"
                        )
                    break
                if known.is_again(function, code) and not differences(known.config, config):
                    break
                # A function that may be written again is looked for among all of its name.
                number = number + 1 if home or number < MOST_COMPARED else self._numbers_of(name).take()
                chosen = f"{name}#{number}"
            if known is None:
                known = self._add(
                    chosen, config, self._numbers_of(name).gone if number > MOST_COMPARED else None, number
                )
            known.code = code
            if home is not None:
                known.homes.add(home)
            if is_shared:
                self._kept.add(known)
            return known

    def _numbers_of(self, name: str) -> Numbers:
        if name not in self._numbers:
            self._numbers[name] = Numbers()
        return self._numbers[name]

    def _add(self, name: str, config: OperationConfig, gone: deque[int] | None, number: int) -> Definition:
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
        self._definitions[name] = ref(definition, functools.partial(self._gone, name, gone, number))
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

    def _gone(self, name: str, gone: deque[int] | None, number: int, _end: object) -> None:
        # No lock: the collector may call this anywhere, also where the lock is held.
        if gone is not None:
            gone.append(number)
        if self.get(name) is None:
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
        """The operation of that name and key, ``None`` if it is not defined.

        A reference to it keeps its counter and its definition: a circuit outlives a closure that has failed, and is
        that of the next closure of the same code and settings.
        """
        definition = self.get(name)
        if definition is None:
            return None
        operation = definition.keyed(key)
        operation.owner = lambda: definition
        return operation


def name_of_function(function: Any) -> str:
    """The default name of an operation: module and qualified name of the function, or of a callable's class."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"
