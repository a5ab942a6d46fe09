"""The notifications of a launch plan: its targets, checked before anything begins."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from adapters.launcher.plan import LaunchPlan, PlanError
from adapters.notifications.command import Command
from adapters.notifications.notifier import Notifier
from adapters.notifications.target import Target
from adapters.notifications.webhook import Webhook
from events.event import CallEvent
from recovery.service import Recovery


def notifying(
    plan: LaunchPlan, service: Recovery, *, target: str, name_of: Callable[[CallEvent], str | None]
) -> AbstractContextManager[object]:
    """The notifier of ``[notifications]`` for a run of *plan*; nothing is notified of without that table.

    Args:
        plan: The plan.
        service: What runs it.
        target: The plan, or its journal, as commands take it.
        name_of: Names the call of an event as the plan does.

    Raises:
        PlanError: A variable or a file with the URL is not there, it is no URL, or the command is not there.
    """
    table = plan.notifications
    if table is None:
        return nullcontext()
    targets: dict[str, Target] = {}
    if table.webhook is not None:
        kind, _, where = table.webhook.partition(":")
        is_file = kind == "file"
        targets["webhook"] = Webhook(f"file:{plan.path.parent / where}" if is_file else table.webhook)
    if table.command:
        targets["command"] = Command(table.command, cwd=plan.path.parent)
    for key, one in targets.items():
        try:
            one.prepare()
        except (LookupError, OSError, ValueError) as error:
            raise PlanError(plan.path, f"notifications.{key}", str(error)) from error
    if "alert" in table.kinds:
        with suppress(ImportError):  # the extra ``monitor`` is not installed
            service.monitor()
    return Notifier(
        service,
        list(targets.values()),
        every=table.every,
        kinds=table.kinds,
        name=plan.path.name,
        target=target,
        name_of=name_of,
    )
