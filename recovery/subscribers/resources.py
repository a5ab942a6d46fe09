"""``Resources``: what is free of each resource, and the parking of calls that do not fit beside the admitted ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from events.call import Call
from events.callables import is_async
from events.conditions import Condition
from events.fork_locks import fork_safe
from events.own_log import own_log
from events.verdicts import GiveUp, Park
from recovery import validation
from recovery.policies.resources import ResourceClaims, Shortage, amount

DISK = "disk:"
"""What the names of disks begin with: the path of a folder follows."""

FIRST_LOOK, LOOK_PER_CALL, LONGEST_LOOK = 1.0, 0.05, 30.0
"""Seconds between two looks of a call in line, and how much longer it is for each call ahead. Claims that end are told
at once; a look finds what others have freed."""

log = own_log("recovery")


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that calls claim.

    Args:
        name: What claims call it.
        free: Returns how much is free now; None: always *total*.
        total: How much there is in all; None if that is unknown.
        unit: The unit of its amounts.
        by_progress: Whether ``context.progress`` tells how much of its claim a call has used.
    """

    name: str
    free: Callable[[], float] | None = None
    total: float | None = None
    unit: str = ""
    by_progress: bool = False


class ResourceState(msgspec.Struct, frozen=True, kw_only=True):
    """How a resource is used now.

    Args:
        name: What claims call it.
        free: How much is free, claims not counted; None if that is unknown.
        claimed: How much the admitted calls still need.
        calls: How many calls these are.
        waiting: How many calls wait for it.
    """

    name: str
    free: float | None
    claimed: float
    calls: int
    waiting: int


class Claim(msgspec.Struct):
    """A call that claims resources, what it calls these, and what it waits for while it is in line."""

    call: Call
    needs: dict[str, float]
    names: dict[str, str]
    condition: Condition | None = None


class Resources:
    """The resources of one service, and the calls that claim them. Safe to use from any thread.

    A call claims from ``enter`` to ``leave``. It is admitted when it asks to begin, and all that it needs is free.

    Args:
        poll_soon: Has a condition polled now that a call waits for.
    """

    def __init__(self, poll_soon: Callable[[Condition], object]) -> None:
        self._poll_soon = poll_soon
        self._lock = fork_safe(threading.RLock())
        self._resources: dict[str, Resource] = {}
        self._reported: set[str] = set()
        self.begin_run()

    def begin_run(self) -> None:
        """No call claims anything: at first, and again in a forked child, where no other thread can be at work."""
        self._claims = ResourceClaims()
        self._calls: dict[str, Claim] = {}

    def declare(self, resource: Resource) -> None:
        """Add *resource*, or put it in the place of another one of its name. Raises TypeError or ValueError."""
        if not isinstance(resource.name, str) or not resource.name:
            raise TypeError(f"the name of a resource must be a text that is not empty, not {resource.name!r}")
        if resource.free is None and resource.total is None:
            raise ValueError(
                f"resource {resource.name!r} needs total=, a number, or free=, a function that returns one"
            )
        if resource.total is not None:
            validation.number("total", resource.total)
        if resource.free is not None and (not callable(resource.free) or is_async(resource.free)):
            raise TypeError(f"free must be a plain function without arguments, not {resource.free!r}")
        if not isinstance(resource.unit, str):
            raise TypeError(f"unit must be a text, not {resource.unit!r}")
        validation.flags({"by_progress": resource.by_progress})
        with self._lock:
            self._resources[resource.name] = resource
        self._settle()

    def states(self) -> list[ResourceState]:
        """Every resource that is declared or was claimed, as it is used now."""
        with self._lock:
            self._refresh()
            found = []
            for identity, resource in self._resources.items():
                claimed, calls = self._claims.claimed(identity)
                waiting = sum(identity in needs for needs in self._claims.line.values())
                about = ResourceState(
                    name=resource.name, free=self._free(identity), claimed=claimed, calls=calls, waiting=waiting
                )
                found.append(about)
            return found

    def enter(self, call: Call, claims: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note what *call* claims. One that another process began is admitted now if it fits.

        Raises TypeError or ValueError for an amount that is no number, and for a resource that is not declared; what a
        function of the claims raises passes.
        """
        needs, names = dict[str, float](), dict[str, str]()
        for name, given in claims.items():
            needed = given(*args, **kwargs) if callable(given) else given
            if needed is None:
                continue
            needed = validation.number(f"{call.operation.name} was not started: claims[{name!r}]", needed)
            identity = self._identity_of(name, call.operation.name)
            if needed:
                needs[identity] = needs.get(identity, 0.0) + needed
                names[identity] = name
        if not needs:
            return
        with self._lock:
            self._calls[call.id] = Claim(call, needs, names)
            if call.is_resumed:  # it may have used a part of its claim already
                self._refresh()
                if self._claims.ask(call.id, needs, self._free) is not None:
                    self._claims.release(call.id)  # it may wait for a retry first: it is in line once it asks

    def leave(self, call: str) -> None:
        """End the claims of *call*, and admit those in line that fit now."""
        with self._lock:
            if self._calls.pop(call, None) is None:
                return
            self._claims.release(call)
        self._settle()

    def ask(self, call: str) -> Park | GiveUp | None:
        """Whether *call* may begin: ``None`` admits it; GiveUp if it never fits."""
        with self._lock:
            claim = self._calls.get(call)
            if claim is None:
                return None
            for identity, needed in claim.needs.items():
                resource = self._resources[identity]
                if resource.total is not None and needed > resource.total and call not in self._claims.admitted:
                    most = amount(resource.total, resource.unit)
                    short = f"needs {amount(needed, resource.unit)} of {claim.names[identity]}"
                    return GiveUp(f"it can never fit: {short}, of which there are {most} in all")
            self._refresh()
            shortage = self._claims.ask(call, claim.needs, self._free)
            if shortage is None:
                return None
            claim.condition = self._condition(claim, shortage)
            return Park(0.0, (claim.condition,))

    def force(self, call: str) -> None:
        """Admit *call*, whether it fits or not: a person wants that."""
        with self._lock:
            if (claim := self._calls.get(call)) is not None and call not in self._claims.admitted:
                self._claims.force(call, claim.needs)

    def _condition(self, claim: Claim, shortage: Shortage) -> Condition:
        """That *claim* is admitted. Its name has the call's id: conditions of one name are polled once for all."""
        call, resource = claim.call.id, self._resources[shortage.resource]

        def is_admitted() -> bool:
            with self._lock:
                if call not in self._calls or call in self._claims.admitted:
                    return True
                self._refresh()
                return self._claims.ask(call, claim.needs, self._free) is None

        every = min(FIRST_LOOK + LOOK_PER_CALL * shortage.ahead, LONGEST_LOOK)
        return Condition(
            f"call {call} {shortage.text(claim.names[shortage.resource], resource.unit)}", is_admitted, every=every
        )

    def _settle(self) -> None:
        with self._lock:
            self._refresh()
            admitted = [self._calls[call].condition for call in self._claims.admit_next(self._free)]
        for condition in admitted:
            if condition is not None:
                self._poll_soon(condition)

    def _refresh(self) -> None:
        """Note what progress has made of the claims: what is used is no longer free, and no longer claimed."""
        for call in self._claims.admitted:
            claim = self._calls[call]
            for identity, needed in claim.needs.items():
                if self._resources[identity].by_progress and (progress := claim.call.progress) is not None:
                    self._claims.reduce(call, identity, max(needed - progress.reached, 0.0))

    def _free(self, identity: str) -> float | None:
        resource = self._resources[identity]
        if resource.free is None:
            return resource.total
        try:
            return validation.number("what it returned", resource.free(), least=-1e300)
        except Exception:
            if identity not in self._reported:
                self._reported.add(identity)
                log.exception("how much of %s is free is unknown; no call that claims it begins", resource.name)
            return None

    def _identity_of(self, name: str, operation: str) -> str:
        """What claims on one and the same thing have in common: for a disk, its device, whatever path names it."""
        if name in self._resources:
            return name
        if not name.startswith(DISK) or not name.removeprefix(DISK):
            raise ValueError(
                f"{operation} was not started: it claims {name!r}, which the service does not know; declare it with "
                f"service.resource({name!r}, total=...) or free=..., or claim a disk as 'disk:FOLDER'"
            )
        from recovery.conditions import device_of, disk_usage  # here, for a disk

        path = name.removeprefix(DISK)
        identity = f"{DISK}{device_of(path)}"
        with self._lock:
            if identity not in self._resources:
                total = float(disk_usage(path).total)
                self._resources[identity] = Resource(
                    name=name, free=lambda: disk_usage(path).free, total=total, unit="B", by_progress=True
                )
        return identity
