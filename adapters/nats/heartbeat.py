"""The heartbeat of a worker: it extends the leases of its calls, and sees whether they are still its own.

It looks at the record of a call before each extension: a worker that stood still must not extend the lease of the next
one. It does all its work in one asyncio loop; ``leases.Leases`` runs it in a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from adapters.nats.boot_clock import boottime
from adapters.nats.engine import Engine, sought
from adapters.nats.errors import UnreachableError
from adapters.nats.record import Stored
from events.own_log import own_log

log = own_log("recovery.cluster")

BEATS = 3
"""Extensions in the time of one lease: two may be lost."""

RETRIES = 30
"""A failed extension is repeated after the lease divided by this number of seconds."""

PROBE = "-/~0000000000000000"
"""A call that never is: to read it shows whether the servers answer."""

LOST = "its lease was lost"
"""How the reason of a leg begins that has lost its call."""

CUT_OFF = "cut off: its lease ended"
"""Why a call has to end that must not go on without the servers."""


class Callbacks(msgspec.Struct, frozen=True):
    """What is told about calls, in the thread of the heartbeat. An error of a callback is logged.

    Args:
        on_lost: Another worker may hold this call: its id, its fence, and why.
        on_cancel: This call is to be cancelled: its id, and why. Told once.
        on_back: The servers answer again.
    """

    on_lost: Callable[[str, int, str], object]
    on_cancel: Callable[[str, str], object]
    on_back: Callable[[], object] = lambda: None


class Kept(msgspec.Struct, eq=False):
    """A lease that is kept.

    Args:
        lease: What extends it.
        call: The id of the call.
        fence: The fence of the claim.
        token: The random digits of the claim.
        is_required: Whether the call ends with its lease.
        confirmed: When the last extension was sent that a server has taken.
        is_over: Whether it is kept no more.
        is_cancelled: Whether the worker was told to cancel the call.
        task: What extends it.
        end: What ends it, if it is required.
    """

    lease: str
    call: str
    fence: int
    token: str
    is_required: bool
    confirmed: float
    is_over: bool = False
    is_cancelled: bool = False
    task: asyncio.Task[None] | None = None
    end: asyncio.TimerHandle | None = None


class Heartbeat:
    """Extends leases. All of it happens in one asyncio loop.

    Args:
        lease: Seconds after its last extension at which a lease ends.
        callbacks: What is told.
        clock: Monotonic seconds.
    """

    def __init__(self, lease: float, callbacks: Callbacks, clock: Callable[[], float] = boottime) -> None:
        self._lease = lease
        self._callbacks = callbacks
        self._clock = clock
        self._engine: Engine
        self._is_connected = asyncio.Event()
        self._logged: set[str] = set()
        self.is_cut_off = False

    async def run(self, engine: Engine) -> None:
        """Extend leases by *engine*, and look whether its servers answer; until it is cancelled."""
        self._engine = engine
        self._is_connected.set()
        try:
            while True:
                await self.probe(engine)
                await asyncio.sleep(self._lease / BEATS / 2)
        finally:
            self._is_connected.clear()

    async def probe(self, engine: Engine) -> None:
        """Look whether the servers answer."""
        try:
            await engine.read(PROBE)
        except UnreachableError as error:
            self.cut_off(str(error))
        except Exception as error:
            self._log_once("whether the servers answer cannot be seen", error)
        else:
            self._is_back()

    def cut_off(self, reason: str) -> None:
        """The servers do not answer, for *reason*."""
        if not self.is_cut_off:
            self.is_cut_off = True
            log.warning(
                "this node is cut off from its cluster: %s. Calls that run go on; no new ones are taken",
                reason,
            )

    def _is_back(self) -> None:
        if self.is_cut_off:
            self.is_cut_off = False
            self._logged.clear()
            log.warning("this node reaches its cluster again")
            self._tell(self._callbacks.on_back)

    def begin(self, kept: Kept) -> None:
        """Keep the lease of *kept* from now on."""
        if not kept.is_over:
            if kept.is_required:
                self._arm(kept)
            kept.task = asyncio.get_running_loop().create_task(self._keep(kept))

    def end(self, kept: Kept) -> None:
        """Keep the lease of *kept* no more."""
        kept.is_over = True
        if kept.end is not None:
            kept.end.cancel()
        if kept.task is not None and kept.task is not asyncio.current_task():
            kept.task.cancel()

    async def _keep(self, kept: Kept) -> None:
        while not kept.is_over:
            try:
                await self._watch(kept)
            except UnreachableError:
                pass  # the probe says so
            except Exception as error:
                self._log_once("a lease is not extended", error)
            await asyncio.sleep(self._lease / RETRIES)

    async def _watch(self, kept: Kept) -> None:
        """Extend the lease of *kept* in time, and look at its record whenever that changes."""
        await self._is_connected.wait()
        engine = self._engine
        async with engine.watch(kept.call) as changes:
            while self._judge(kept, await sought(lambda: engine.read(kept.call))):
                now = self._clock()
                if now >= kept.confirmed + self._lease / BEATS:
                    await engine.extend(kept.lease)
                    kept.confirmed = now
                await changes.next(max(kept.confirmed + self._lease / BEATS - self._clock(), 0.0))

    def _judge(self, kept: Kept, stored: Stored | None) -> bool:
        """Whether *kept* goes on being kept, after a look at its record."""
        if kept.is_over:
            return False
        if stored is None:
            self._lost(kept, "its record is gone")
            return False
        if stored.seq <= kept.fence:
            raise UnreachableError(f"{kept.call}: a server answers that lags behind")
        record = stored.record
        if (record.fence, record.token) != (kept.fence, kept.token):
            self._lost(kept, f"{LOST}: {record.stands}")
            return False
        if record.cancel is not None and not kept.is_cancelled:
            kept.is_cancelled = True
            self._tell(self._callbacks.on_cancel, kept.call, record.cancel)
        return record.state == "running"  # otherwise its own worker has ended it

    def _arm(self, kept: Kept) -> None:
        left = kept.confirmed + self._lease - self._clock()
        left = min(max(left, 0.0), self._lease / RETRIES)  # the loop's clock stands still while the machine does
        kept.end = asyncio.get_running_loop().call_later(left, self._run_out, kept)

    def _run_out(self, kept: Kept) -> None:
        if kept.confirmed + self._lease > self._clock():
            self._arm(kept)
        else:
            self._lost(kept, CUT_OFF)

    def _lost(self, kept: Kept, reason: str) -> None:
        self.end(kept)
        self._tell(self._callbacks.on_lost, kept.call, kept.fence, reason)

    def _tell(self, told: Callable[..., object], *args: object) -> None:
        try:
            told(*args)
        except Exception as error:
            self._log_once("a worker was told of its call, and failed", error)

    def _log_once(self, what: str, error: Exception) -> None:
        text = f"{what}: {type(error).__name__}: {error}"
        if text not in self._logged:
            self._logged.add(text)
            log.warning("%s", text)
