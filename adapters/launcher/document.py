"""The tables of a launch plan, as types. The tables of docs/reference/plans.md are made from their docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec

from adapters.launcher.kinds.comfyui import ComfyUI
from adapters.launcher.kinds.command import Command
from adapters.launcher.kinds.download import Download
from adapters.launcher.kinds.git import Git
from adapters.launcher.kinds.operation import Operation
from adapters.launcher.kinds.packages import Packages
from adapters.launcher.kinds.prompt import Prompt
from adapters.launcher.kinds.server import Server
from adapters.launcher.kinds.steps import CommandWithUndo, Steps
from adapters.launcher.kinds.venv import Venv
from adapters.notifications.summary import KINDS as NOTIFIED
from adapters.notifications.summary import Kind
from recovery import validation


class DownloadTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[download]``: how the plan's files are downloaded.

    Args:
        parallel: How many downloads run at a time.
        stall_timeout: Seconds without a byte after which an attempt has stalled. It is retried, and goes on from there.
        follow_links: Whether destinations and folders may go through links that lead outside the root, to another disk
            say.
    """

    parallel: int = 4
    stall_timeout: float = 60.0
    follow_links: bool = False

    def __post_init__(self) -> None:
        validation.whole("parallel", self.parallel, least=1)
        validation.number("stall_timeout", self.stall_timeout, above=0.0)


class LaunchTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch]``: the launch as a whole.

    Args:
        orphans: What happens to a command that a killed launch left running, before the same command is run again:
            "wait" until it has ended, or "end" it.
    """

    orphans: Literal["wait", "end"] = "wait"


class WaitTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[wait]``: how long an operation waits for the cause of its failure to be gone; such a wait uses no retry.

    Args:
        disk: Seconds to wait for room on a full disk; with 0 it is retried like any other failure, as below.
        host: Seconds to wait until a host that cannot be reached accepts connections.
        answer: Seconds to wait for a person's answer: a token, a licence. With 0 it has failed at once.
    """

    disk: float = 3600.0
    host: float = 900.0
    answer: float = 3600.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            validation.number(name, getattr(self, name), least=0.0)


class NotificationsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[notifications]``: a URL or a program that is told what happens while the plan is run.

    Args:
        webhook: A URL that gets each notification by HTTP POST, as the variable or the file that holds it:
            `"env:SLACK_WEBHOOK"`, or `"file:webhook.url"` in the plan's folder.
        command: A program and its arguments, which gets each as JSON on its standard input, in the plan's folder.
        kinds: What is notified of. An "alert" needs the extra `monitor`; without it there are none.
        every: Seconds between two notifications. What happens meanwhile is one notification.
    """

    webhook: str | None = None
    command: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = NOTIFIED
    every: float = 60.0

    def __post_init__(self) -> None:
        if self.webhook is None and not self.command:
            raise ValueError("webhook must be given, or a command")
        if not self.kinds:
            raise ValueError("kinds must be one at least; without the table nothing is notified of")
        validation.number("every", self.every, least=0.0)


Step: TypeAlias = Download | Command | Git | Venv | Packages | Server | ComfyUI | Prompt | Steps


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys and tables of a plan.

    Args:
        operation: What is to be done: one `[[operation]]` for each.
        root: The folder of destinations and commands; relative to the plan's own folder.
        retry: Fields of `RetryPolicy`, for every operation. Unset, an operation has 5 retries, the first after 0.5 s.
        circuit: Fields of `BreakerPolicy`, for every host of downloads and of repositories, which count apart. It
            counts attempts that do not reach the host.
        download: How files are downloaded.
        launch: The launch as a whole.
        wait: How long operations wait for causes to be gone.
        notifications: Which URL or program is told what happens: *Send notifications* has examples.
        tokens: A token for each family of hosts (`huggingface`, `civitai`) or for one host (`"example.org"`, with its
            port if that is not 443), as the variable that holds it: `huggingface = "env:HF_TOKEN"`.
        rule: Fields of `Rule`, one table a rule. They are asked before the built-in rules.
    """

    operation: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1)]
    root: str = "."
    retry: dict[str, Any] = {}
    circuit: dict[str, Any] = {}
    download: DownloadTable = DownloadTable()
    launch: LaunchTable = LaunchTable()
    wait: WaitTable = WaitTable()
    notifications: NotificationsTable | None = None
    tokens: dict[str, str] = {}
    rule: tuple[dict[str, Any], ...] = ()


KINDS: Mapping[str, type[Operation]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Step)}
"""The kinds of operations, by their names."""
TABLES: Mapping[str, type[msgspec.Struct]] = {
    "": Document,
    "download": DownloadTable,
    "launch": LaunchTable,
    "notifications": NotificationsTable,
    "wait": WaitTable,
    "operation.steps": CommandWithUndo,
}
"""The types of a plan's tables, by their keys."""
