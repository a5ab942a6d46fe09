"""How calls of the journal run: resumed after a restart, or again after their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ForwardRef

from events.evidence import Category
from recovery import validation
from recovery.definitions import Definitions
from recovery.registry import Registry
from recovery.service_lifetime import Lifetime
from recovery.waiting.calls import WaitingCalls

if TYPE_CHECKING:
    from recovery.resume.handles import Resumption
    from recovery.resume.repetition import EndedState, Repetition, Selection
else:  # for inspect.signature(..., eval_str=True); the classes themselves would make the import slow
    Resumption = ForwardRef("Resumption", module="recovery.resume.handles")
    EndedState, Repetition, Selection = (
        ForwardRef(name, module="recovery.resume.repetition") for name in ("EndedState", "Repetition", "Selection")
    )


class JournalledCalls:
    """The part of ``Recovery`` that runs calls of the journal."""

    _registry: Registry
    _definitions: Definitions
    _lifetime: Lifetime
    _waiting: WaitingCalls

    def resume(self) -> Resumption:
        """Resume the resumable calls that dead processes left in the journal. Never blocks.

        Define the operations first: a call finds its function by the operation's name, and nothing is imported. Under
        ``async with``, async calls run as tasks of the service, which waits for them at its end; plain calls run on
        four daemon threads. A second ``resume`` returns the same ``Resumption``, and resumes calls whose operation has
        been defined meanwhile. It is not ``loaded`` while the journal cannot be read. What processes leave that die
        later is resumed, too (``JournalConfig.adopt_every``).

        A caller that asks for an equal call joins it. What has ended before is owed: the first equal call made
        afterwards returns that result, or raises that error, without a run.

        Raises:
            ValueError: The service has no store.
        """
        return self._lifetime.resume(self._definitions.runner, self._waiting.jitter)

    def again(
        self,
        call: str | None = None,
        *,
        keep_checkpoint: bool = True,
        state: EndedState | Sequence[EndedState] | None = None,
        category: Category | Sequence[Category] | None = None,
        operation: str | None = None,
        since: float | None = None,
        limit: int = 1000,
    ) -> Repetition:
        """Run calls again that gave up, were cancelled or were rejected: a call by its id, or calls by a filter.

            service.again("7f3a9c01-2")
            service.again(state="gave up", category=Category.UNREACHABLE, since=3600.0)

        Each runs with its arguments from the journal, as a new call: ``calls.find`` tells of both which is the other
        (``former``, ``by``). Several start staggered, within 5 s. At most four plain calls run or wait at a time; one
        that asks a person is not counted. A call joins an equal one that runs or is pending. Never blocks.

        A call is refused, with the reason in ``Repetition.refused``, after a success, while it is pending or running,
        or without journalled arguments (``resumable=True``). So is one whose latest repetition is. A filter passes over
        calls that were run again already. What another living process began, or adopted, is run again there: this one
        does not find it. A plain call whose turn comes after the close of the service is not run. The journal keeps
        calls that gave up; cancelled and rejected ones it keeps as long as ``Retention`` says, by default seven days.

        Args:
            call: The id of a call.
            keep_checkpoint: Whether the new call goes on from the checkpoint of the former one.
            state: How the calls ended: "gave up" (the default of a filter), "cancelled", "rejected", or several.
            category: The category of their latest failure, or several.
            operation: The name of their operation.
            since: Only calls that ended at most that many seconds ago.
            limit: The most calls, the latest first.

        Raises:
            TypeError: A value of the wrong type, neither a call nor a filter, or both.
            ValueError: A value out of range, or the service has no store.
        """
        from recovery.resume.repetition import Selection, several  # here, for what is run again

        categories = tuple(validation.category("category", one) for one in several(category))
        selection = Selection(
            call=call, states=several(state), categories=categories, operation=operation, since=since, limit=limit
        )
        return self._repeat(selection, keep_checkpoint=keep_checkpoint)

    def _repeat(self, selection: Selection, *, keep_checkpoint: bool = True) -> Repetition:
        return self._lifetime.again(
            selection, self._definitions.runner, self._registry, self._waiting, keep_checkpoint=keep_checkpoint
        )
