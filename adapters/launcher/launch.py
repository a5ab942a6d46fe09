"""Run a launch plan: each operation recovers by itself, and the launch resumes after a restart.

The launch itself is a resumable call: its checkpoint records which operations have ended, and how. A restart resumes
the launch, and with it the downloads and commands that were under way, with their attempts and delays.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import anyio.to_thread
import msgspec

from adapters.downloads import download
from adapters.downloads.client import make_client
from adapters.launcher.document import Download, Step
from adapters.launcher.plan import LaunchPlan
from adapters.processes.command import run_command
from events.errors import JoinedElsewhere
from events.operation_events import FailureClassified
from recovery import context
from recovery.explain import explain
from recovery.policies.hosts import host_of
from recovery.policies.retry import RetryPolicy
from recovery.redact import brief
from recovery.service import Recovery
from recovery.settings import Settings
from recovery.subscribers.classification import classify
from recovery.subscribers.evidence_extraction import extract_evidence

MOST_DEATHS = 1_000_000
"""Deaths of its process after which a launch is quarantined."""

State: TypeAlias = Literal["done", "failed", "skipped"]

log = logging.getLogger("recovery.launch")


class Outcome(msgspec.Struct, frozen=True):
    """How one operation of a launch ended, and why if it is not done.

    *version* changes with its part of the plan. One that is *optional* there need not be done.
    """

    state: State
    why: str = ""
    version: str = ""
    optional: bool = False

    @property
    def is_fine(self) -> bool:
        """Whether the launch goes on as if the operation was done."""
        return self.state == "done" or self.optional


class Launch:
    """One run of a plan.

    Args:
        plan: What to do.
        service: Must have a store, and is entered by ``run``.
        logs: The folder for the output of commands.

    Raises:
        EnvironmentVariableError: The plan has downloads, and the environment names a proxy or certificates that cannot
            be used.
    """

    def __init__(self, plan: LaunchPlan, service: Recovery, *, logs: Path) -> None:
        self._plan = plan
        self._logs = logs
        self._service = service
        has_downloads = any(isinstance(step, Download) for step in plan.steps)
        self._client = make_client(stall_timeout=plan.stall_timeout) if has_downloads else None
        self._slots = anyio.CapacityLimiter(plan.parallel)
        self.outcomes: dict[str, Outcome] = {}
        settings = settings_of(plan)
        self._launch = service.recoverable("launch", **settings["launch"])(self._run_steps)
        self._download = service.recoverable("download", **settings["download"])(self._download_step)
        self._command = service.recoverable("command", **settings["command"])(self._command_step)

    async def run(self) -> dict[str, Outcome]:
        """Go on with the launch that an earlier run left, or begin one. Returns how each operation ended."""
        async with AsyncExitStack() as stack:
            if self._client is not None:
                await stack.enter_async_context(self._client)
            await stack.enter_async_context(self._service)
            while True:
                try:
                    await self._launch(str(self._plan.path))
                except JoinedElsewhere as elsewhere:  # the files of that launch are here: this one is quick
                    log.warning("%s; it begins again", elsewhere)
                else:
                    return self.outcomes

    async def stop(self) -> None:
        """Leave what runs to the next run, before ``run`` is cancelled: in the journal nothing of it is."""
        await anyio.to_thread.run_sync(self._service.close)

    def _cancel_outdated(self) -> None:
        """Cancel what an earlier run left and the plan does not have any more; the bytes that it fetched are kept."""
        journal = self._service.journal
        assert journal is not None
        wanted = [[kind, [arguments, {}]] for kind, arguments in map(call_of, self._plan.steps)]
        for record in journal.pending(0.0).calls:
            name = name_in_arguments(record.operation, record.arguments)
            if name is None or [record.operation, msgspec.json.decode(record.arguments or b"")] in wanted:
                continue
            if self._service.calls.cancel(record.call):
                text = "%s: %s is changed or gone since the last run; its call %s is cancelled"
                log.warning(text, self._plan.path, brief(name), record.call)

    async def _run_steps(self, _path: str) -> None:
        self._cancel_outdated()  # before what is left resumes
        self._service.resume()
        saved = msgspec.convert(context.saved(default={}), dict[str, Outcome])
        self.outcomes = {
            step.name: msgspec.structs.replace(outcome, optional=step.optional)
            for step in self._plan.steps
            if (outcome := saved.get(step.name)) is not None and outcome.version == version_of(step)
        }
        ended = {step.name: anyio.Event() for step in self._plan.steps}

        async def run(step: Step) -> None:
            for need in step.needs:
                await ended[need].wait()
            if step.name not in self.outcomes:
                outcome = await self._outcome_of(step)
                self.outcomes[step.name] = msgspec.structs.replace(outcome, optional=step.optional)
                context.checkpoint(self.outcomes)
            ended[step.name].set()

        async with anyio.create_task_group() as group:
            for step in self._plan.steps:
                group.start_soon(run, step)

    async def _outcome_of(self, step: Step) -> Outcome:
        missing = [need for need in step.needs if not self.outcomes[need].is_fine]
        if missing:
            return Outcome("skipped", f"needs {', '.join(missing)}", version_of(step))
        kind, arguments = call_of(step)
        try:
            await (self._download if kind == "download" else self._command)(*arguments)
        except Exception as error:  # its retries are exhausted; the other operations go on
            return Outcome("failed", _cause_of(error), version_of(step))
        return Outcome("done", version=version_of(step))

    async def _download_step(
        self, _name: str, url: str, destination: str, sha256: str | None, size: int | None
    ) -> None:
        assert self._client is not None  # the plan has a download
        place = self._plan.place(destination)
        async with self._slots:
            await download(self._client, url, place, sha256=sha256, size=size, on_progress=_save_progress)

    async def _command_step(self, name: str, argv: list[str], cwd: str) -> None:
        self._plan.root.mkdir(parents=True, exist_ok=True)
        await run_command(name, argv, cwd=self._plan.place(cwd), logs=self._logs)


def settings_of(plan: LaunchPlan) -> dict[str, Settings]:
    """The settings of the operations that execute *plan*."""
    return {
        "launch": {
            "resumable": True,
            # An error of its own ends it. The death of its process is counted by the steps that ran.
            "policy": RetryPolicy(max_retries=MOST_DEATHS),
            "breaker": None,
            "retry_if_error": _never,
        },
        "download": {
            "resumable": True,
            # Counts failures in a row without progress: a large file breaks off more often than that.
            "policy": msgspec.structs.replace(plan.policy, progress_resets=None),
            "breaker": plan.breaker,
            "when_open": "wait",
            "key": lambda _name, url, *_: host_of(url),
            "classifier": plan.rules,
        },
        "command": {"resumable": True, "policy": plan.policy, "breaker": None, "classifier": plan.rules},
    }


def _never(_: Exception) -> bool:
    return False


def _save_progress(offset: int, size: int | None) -> None:
    context.checkpoint({"offset": offset, "size": size})
    context.progress(offset)


def _cause_of(error: Exception) -> str:
    """What *error* means, in plain words."""
    meaning = classify(error)
    failure = FailureClassified(
        at=0.0,
        operation="",
        call="",
        category=meaning.category,
        rule=meaning.rule,
        why=meaning.why,
        evidence=extract_evidence(error),
    )
    return explain(failure).short


def call_of(step: Step) -> tuple[str, list[Any]]:
    """The recoverable operation that executes *step*, and its arguments."""
    if isinstance(step, Download):
        return "download", [step.name, step.url, step.destination, step.sha256, step.size]
    return "command", [step.name, list(step.run), step.cwd]


def version_of(step: Step) -> str:
    """Twelve hex digits that change with what the plan says of *step*."""
    return hashlib.sha256(msgspec.json.encode(call_of(step))).hexdigest()[:12]


def name_in_arguments(operation: str, arguments: bytes | None) -> str | None:
    """The name in the plan of a call of *operation*: the first of its *arguments*, in JSON."""
    if operation not in ("download", "command") or not arguments:
        return None
    args, _ = msgspec.json.decode(arguments, type=tuple[list[Any], dict[str, Any]])
    return args[0] if args and isinstance(args[0], str) else None
