"""What the bricks of a launcher share: settings, calls with their policies, places, and the end.

A brick is a family of calls in a module of its own (``download``, ``command``): a class that declares its calls and has
their methods. ``Launcher`` is all of them together.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from weakref import WeakKeyDictionary

import anyio
import msgspec

from adapters.downloads.space import when_full
from adapters.downloads.tokens import Tokens
from adapters.launcher.arguments import InvalidRequestError, check_settings
from adapters.launcher.asked_again import AskedAgain
from adapters.launcher.done_checks import DoneChecks
from adapters.launcher.nested_calls import note
from adapters.launcher.places import JOURNALS, outside
from adapters.launcher.variables import Variables
from adapters.processes.command import kill_all
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.classification import Classifier
from recovery.policies.hosts import HOST_BREAKER
from recovery.policies.retry import RetryPolicy
from recovery.presets import PATIENT, waits_for_causes
from recovery.resume.handles import Resumption
from recovery.serialization.secret import Secret
from recovery.service import Recovery

_roots: WeakKeyDictionary[Recovery, Path] = WeakKeyDictionary()
"""The roots of the launchers, by their services."""


class Bricks:
    """What every brick has; ``Launcher`` says what the arguments mean."""

    def __init__(
        self,
        service: Recovery,
        root: str | os.PathLike[str],
        *,
        tokens: Mapping[str, Secret] | None = None,
        parallel: int = 4,
        stall_timeout: float = 60.0,
        follow_links: bool = False,
        orphans: Literal["wait", "end"] = "wait",
        logs: str | os.PathLike[str] | None = None,
        policy: RetryPolicy | None = None,
        policies: Mapping[str, RetryPolicy] = MappingProxyType({}),
        breaker: BreakerPolicy | None = HOST_BREAKER,
        classifier: Classifier | Sequence[Classifier] = (),
    ) -> None:
        check_settings(parallel, stall_timeout, orphans)
        self.service = service
        self.root = Path(root).resolve()
        if (other := _roots.get(service)) is not None:
            raise ValueError(f"this service has a launcher already, for {other}: use that one, or make a service")
        self.logs = self.root / JOURNALS / "logs" if logs is None else Path(logs).resolve()
        self.follow_links = follow_links
        self._stall_timeout = stall_timeout
        self._orphans: Literal["wait", "end"] = orphans
        self._breaker = breaker
        self._classifier = classifier
        self._slots = anyio.CapacityLimiter(parallel)
        self._is_entered = False
        self._asked_again = AskedAgain()
        self._variables = Variables(service.calls, self._asked_again)
        self._checks = DoneChecks(self.place, self._asked_again)
        self._tokens = Tokens(service, tokens or {})
        waits = waits_for_causes(service.calls, partial(when_full, folder=self.root))
        patient = msgspec.structs.replace(PATIENT, per_category=waits)
        self._policies = {"": patient if policy is None else policy, **policies}
        self._functions: dict[tuple[str, str], Callable[..., Awaitable[Any]]] = {}
        self._keys: dict[str, Callable[..., str]] = {}
        self._declare()
        self.may_begin: Callable[[str], bool] = lambda _: True
        """Whether what a call needs is there, by its name: one that an earlier run left waits for it."""
        self.on_stop: list[Callable[[], object]] = []
        """Called after a stop, before what runs is cancelled."""
        _roots[service] = self.root

    # calls

    def _declare(self) -> None:
        """Declare the calls of the bricks: each brick extends it by its own, with ``_recoverable``."""

    def _recoverable(
        self,
        operation: str,
        body: Callable[..., Awaitable[Any]],
        idempotency_key: Callable[..., str],
        *,
        breaker: BreakerPolicy | None = None,
        policy: Mapping[str, Any] = MappingProxyType({}),
        resumable: bool = True,
        **settings: Any,
    ) -> None:
        """Declare the calls *operation*: resumable as a rule, and one at a time for each key.

        Those of a name with a policy of its own are operations of their own, ``operation NAME``.

        Args:
            operation: What the calls are named in events and in the journal.
            body: What a call does. Its first argument is the name that is shown.
            idempotency_key: What a call makes, from its arguments: equal calls join, and another wish is rejected.
            breaker: Its circuit.
            policy: Fields of the policy that are different for this kind of call.
            resumable: False for calls that another call makes again after a restart; with their retries and delays.
            settings: Those of ``service.recoverable``.
        """
        self._keys[operation] = idempotency_key

        @wraps(body)
        async def when_it_may(shown: str, *arguments: Any) -> Any:
            if not self.may_begin(shown):
                await self._asked_again.until(lambda: self.may_begin(shown), shown, "what it needs is not there yet")
            return await body(shown, *arguments)

        for name, one in self._policies.items():
            self._functions[operation, name] = self.service.recoverable(
                f"{operation} {name}" if name else operation,
                policy=msgspec.structs.replace(one, **policy),
                breaker=breaker,
                idempotency_key=idempotency_key,
                resumable=resumable,
                classifier=self._classifier,
                **{"on_conflict": "reject", **settings},
            )(when_it_may)

    async def _call(self, operation: str, name: str, *arguments: Any) -> Any:
        """Make the call *operation* that is shown as *name*. Raises as its body does, and JoinedElsewhere."""
        own = name if name in self._policies else ""
        await note(self._keys[operation](name, *arguments))
        return await self._functions[operation, own](name, *arguments)

    def resume(self) -> Resumption:
        """Go on with the calls that a dead process left, as ``service.resume``."""
        return self.service.resume()

    # places

    def place(self, text: str) -> Path:
        """*text* as an absolute path below the root, with its links followed as they are now.

        Raises InvalidRequestError if that is outside the root.
        """
        try:
            place = (self.root / text).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise InvalidRequestError(f"{text!r} is no place: {error}") from error
        if (reason := outside(self.root, text, place, follow_links=self.follow_links)) is not None:
            raise InvalidRequestError(reason)
        return place

    # the end

    def stop(self) -> None:
        """Leave what runs to the next run, before it is cancelled: in the journal nothing of it has an end."""
        self.service.stop()
        for each in self.on_stop:
            each()

    def kill(self) -> None:
        """End the processes of commands at once."""
        kill_all()
