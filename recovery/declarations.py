"""How operations are declared: decorated functions, operations for code by hand, blocks of code."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ForwardRef, ParamSpec, TypeVar, Unpack, overload

from events.operation import Operation
from recovery.definitions import Definitions
from recovery.registry import Registry
from recovery.settings import Settings

if TYPE_CHECKING:
    from recovery.execution.blocks import Attempts
else:  # for inspect.signature(..., eval_str=True); the class itself would make the import slow
    Attempts = ForwardRef("Attempts")

P = ParamSpec("P")
R = TypeVar("R")


class Declarations:
    """The part of ``Recovery`` by which operations are declared."""

    _registry: Registry
    _definitions: Definitions

    @property
    def is_enabled(self) -> bool:
        """Whether ``recoverable`` does anything: the option *enabled*, unless RECOVERY_DISABLED=1 is set."""
        return self._registry.switch.is_on and os.environ.get("RECOVERY_DISABLED", "") not in ("1", "true", "yes")

    @property
    def overrides(self) -> Mapping[str, Settings]:
        """The settings by operation that override those in the code, as a configuration file gives them."""
        return self._definitions.overrides

    @overload
    def recoverable(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def recoverable(
        self, name: str | None = None, /, **settings: Unpack[Settings]
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def recoverable(self, name: Any = None, /, **settings: Unpack[Settings]) -> Any:
        """Make a function, plain or async, recover by itself: ``@recoverable``, or with a name and settings.

        The function keeps its signature and type. After the last attempt the caller gets the function's own exception,
        with a note of what was tried.

        Args:
            name: The operation's name on the bus, in logs and in the journal; by default the function's module and
                qualified name.
            settings: The settings of ``recovery.Settings``; the page *Settings* of the documentation describes each.

        Raises:
            TypeError: The function is a generator, a setting is unknown or has a wrong type.
            ValueError: A value out of range, a contradiction, an ``attempt_timeout`` for a plain function, or a name
                that is already defined with other settings.
            CallRejectedError: (by the function) An open circuit, or a subscriber, turned the call away.
        """
        if name is not None and not isinstance(name, str):
            if settings:
                raise TypeError("recoverable() takes a name and settings, or a function: @recoverable(max_retries=5)")
            return self.recoverable(None)(name)
        if name == "":
            raise ValueError("the name of an operation must not be empty")
        config = self._definitions.config(settings, "recoverable")

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            return self._definitions.function(function, name, config, settings, is_enabled=self.is_enabled)

        return decorate

    def operation(self, name: str, **settings: Unpack[Settings]) -> Operation:
        """The operation of that name, for code that emits by hand; defined with *settings* if it is new.

        The same name with the same settings, or with none, gives the same operation.

        Args:
            name: The operation's name on the bus, in logs and in the journal.
            settings: The settings of ``recovery.Settings``, except those that need a wrapper around the function
                (``attempt_timeout``, ``key``, ``resumable``, ...).

        Raises:
            TypeError: A setting is unknown or has a wrong type.
            ValueError: A value out of range, a contradiction, a setting that needs a wrapper, or a name that is
                already defined with other settings.
        """
        return self._definitions.operation(name, settings, is_enabled=self.is_enabled)

    def attempts(self, name: str, **settings: Unpack[Settings]) -> Attempts:
        """Make a block of code recover by itself, in a plain function or an async one.

            async for attempt in service.attempts("fetch", max_retries=5):
                with attempt:
                    return await client.get(url)

        Each loop is one call of the operation *name*. A block that ends without an error, also by ``return``, ends the
        call as succeeded; a loop that is left otherwise ends it as cancelled. The last failure leaves the block.

        Args:
            name: The operation's name on the bus, in logs and in the journal.
            settings: As of ``operation``; durability "strict" is refused, since a block cannot wait for its end.

        Raises:
            TypeError: A setting is unknown or has a wrong type.
            ValueError: As ``operation``.
            CallRejectedError: (by the loop) An open circuit, or a subscriber, turned the call away.
        """
        return self._definitions.attempts(name, settings, is_enabled=lambda: self.is_enabled)
