"""Which operations a service knows: their plans, their parts by key, and the functions that can be resumed."""

from __future__ import annotations

import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias
from weakref import WeakValueDictionary, ref

from events.bus import Bus
from events.fork_locks import fork_safe
from events.operation import Operation
from recovery.redact import printable, redact
from recovery.settings import ConfigOf, OperationConfig

OperationKey: TypeAlias = tuple[str, str]
"""An operation's name, and a key or ""."""

MAX_KEYS = 1024
"""How many keys of one operation are remembered; the one unused for longest is forgotten first."""

log = logging.getLogger("recovery")


class Definition:
    """One operation of a service: what it was declared with, and its parts by key."""

    __slots__ = ("__weakref__", "_alive", "_lock", "_parts", "_warned", "config", "operation", "resume")

    def __init__(self, config: OperationConfig, operation: Operation) -> None:
        self.config = config
        self.operation = operation
        self.resume: Callable[..., Any] | None = None
        self._warned: set[str] = set()
        self._lock = fork_safe(threading.Lock())
        self._parts: OrderedDict[str, Operation] = OrderedDict()
        # One that is forgotten here, but held by its circuit, its budget or a call, is found again with its counter.
        self._alive: WeakValueDictionary[str, Operation] = WeakValueDictionary()

    def resume_with(self, function: Callable[..., Any]) -> None:
        """Note the function that calls are resumed with. Raises ValueError if another one was noted before."""
        before, after = (getattr(one, "__qualname__", None) for one in (self.resume, function))
        if self.resume is not None and before != after:
            raise ValueError(
                f"operation {self.operation.name!r} is resumable as {before} already; name {after} otherwise"
            )
        self.resume = function

    def warn_once(self, what: str, why: str) -> None:
        """Log *what* is the matter with a call, and *why*; once for all calls of the operation."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning("%s: %s: %s", self.operation.name, what, printable(redact(why[:1000])))

    def warn_of_secret(self, setting: str, key: str) -> None:
        """Complain of a *key* with a secret in it: it is written as it is, for it is what things are found by."""
        if setting not in self._warned and redact(key) != key:
            self.warn_once(
                setting, "what it returns holds a secret, and is written and shown as it is; return a hash of it"
            )

    def keyed(self, key: str) -> Operation:
        """The part of the operation that *key* names, with its own counter and circuit; the whole for ""."""
        if not key:
            return self.operation
        with self._lock:
            part = self._parts.get(key)
            if part is None:
                self.warn_of_secret("key", key)
                part = self._alive.get(key) or Operation(self.operation.name, self.operation.bus, key=key)
                self._parts[key] = self._alive[key] = part
                if len(self._parts) > MAX_KEYS:
                    self._parts.popitem(last=False)
            else:
                self._parts.move_to_end(key)
            return part


class Registry:
    """Operations by name. One name is one operation: it has one plan, and its circuit is shared by all its calls.

    *renamed* is told of a name that is given once more, because nobody had the operation any more that it was for.
    """

    def __init__(self, bus: Bus, renamed: Callable[[str], object] = lambda _name: None) -> None:
        self._bus = bus
        self._renamed = renamed
        self._names: set[str] = set()
        self._lock = fork_safe(threading.Lock())
        # Weak: a function decorated in a loop (or in a property-based test) must not be remembered for ever.
        self._definitions: WeakValueDictionary[str, Definition] = WeakValueDictionary()
        self._kept: set[Definition] = set()
        self._ends: dict[str, ref[Definition]] = {}
        self._configs: dict[str, OperationConfig] = {}
        self.config_of: ConfigOf = self._configs.get
        """The plan of the operation of that name, if it is defined: asked six times for each failure."""

    def define(self, name: str, config: OperationConfig, *, explicit: bool) -> Definition:
        """The operation *name* with *config*, a new one or the one that was defined so before.

        If it was defined otherwise, a name that somebody chose (*explicit*) is refused with ValueError, as is any name
        of a resumable operation, since the journal knows it by that. A name taken from a function is that function's
        alone: another one of that name (a closure, a lambda) gets a number. So is one with a NUL, which keeps names and
        keys apart in the journal.
        """
        if "\0" in name:
            raise ValueError(f"the name of an operation must not hold a NUL: {name!r}")
        with self._lock:
            chosen = name
            number = 1
            is_shared = explicit or config.resumable
            while (known := self._definitions.get(chosen)) is not None and not (is_shared and known.config == config):
                if is_shared:
                    raise ValueError(
                        f"operation {name!r} is already defined with other settings; give this one its own name"
                    )
                number += 1
                chosen = f"{name}#{number}"
            if known is None:
                if chosen in self._names:
                    self._renamed(chosen)
                self._names.add(chosen)
                known = self._definitions[chosen] = Definition(config, Operation(chosen, self._bus))
                self._configs[chosen] = config
                self._ends[chosen] = ref(known, functools.partial(self._gone, chosen))
            if is_shared:
                self._kept.add(known)
            return known

    def get(self, name: str) -> Definition | None:
        """The operation of that name, if it is defined."""
        return self._definitions.get(name)

    def _gone(self, name: str, _end: object) -> None:
        # No lock: the collector may call this anywhere, also where the lock is held.
        self._configs.pop(name, None)
        known = self._definitions.get(name)
        if known is not None:  # somebody has been given the name just now
            self._configs[name] = known.config

    def operation_of(self, name: str, key: str) -> Operation | None:
        """That part of the operation, ``None`` if it is not defined. Whoever holds it keeps its counter."""
        definition = self._definitions.get(name)
        return None if definition is None else definition.keyed(key)


def name_of_function(function: Any) -> str:
    """What a function, or a callable object that has no name of its own, is called."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"
