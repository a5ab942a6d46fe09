"""Run a launch plan: each operation recovers by itself, and the launch resumes after a restart.

The launch itself is a resumable call: its checkpoint records which operations have ended, and how. A restart resumes
the launch, and with it the downloads and commands that were under way, with their attempts and delays.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import anyio.to_thread
import msgspec

from adapters.downloads.client import check_environment
from adapters.downloads.space import when_full
from adapters.launcher.document import KINDS, Step
from adapters.launcher.kinds.download import Download
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.launcher import Launcher
from adapters.launcher.plan import LaunchPlan
from adapters.launcher.server import FOLDER
from adapters.servers.orphans import end_orphan
from events.errors import JoinedElsewhere
from events.operation_events import FailureClassified
from recovery import context
from recovery.explain import explain
from recovery.policies.retry import RetryPolicy
from recovery.presets import waits_for_causes
from recovery.redact import brief
from recovery.service import Recovery
from recovery.subscribers.classification import classify
from recovery.subscribers.evidence_extraction import extract_evidence

MOST_DEATHS = 1_000_000
"""Deaths of its process after which a launch is quarantined."""

CALLS = {call for kind in KINDS.values() for call in kind.CALLS}
"""The recoverable operations that execute those of plans."""

State: TypeAlias = Literal["done", "failed", "skipped"]

log = logging.getLogger("recovery.launch")


class Outcome(msgspec.Struct, frozen=True):
    """How one operation of a launch ended.

    Args:
        state: Whether it is done.
        why: Why it is not; "" if it is.
        version: Changes with its part of the plan.
        optional: Whether the plan says that it need not be done.
    """

    state: State
    why: str = ""
    version: str = ""
    optional: bool = False

    @property
    def is_fine(self) -> bool:
        """Whether the launch goes on as if the operation was done."""
        return self.state == "done" or self.optional


class Progress(msgspec.Struct, frozen=True):
    """The checkpoint of a launch: the *outcomes* of its operations, and the *wordings* in its plan, by name."""

    outcomes: dict[str, Outcome] = {}
    wordings: dict[str, str] = {}


class Launch:
    """One run of a plan.

    Args:
        plan: What to do.
        service: Must have a store, and is entered by ``run``.
        logs: The folder for the output of commands.
    """

    def __init__(self, plan: LaunchPlan, service: Recovery, *, logs: Path) -> None:
        self._plan = plan
        self._service = service
        full = partial(when_full, folder=plan.root)
        waits = waits_for_causes(service.calls, full, **msgspec.structs.asdict(plan.waits))

        def waiting(policy: RetryPolicy) -> RetryPolicy:
            return msgspec.structs.replace(policy, per_category={**waits, **policy.per_category})

        self._launcher = Launcher(
            service,
            plan.root,
            tokens=plan.tokens,
            parallel=plan.parallel,
            stall_timeout=plan.stall_timeout,
            follow_links=plan.follow_links,
            orphans=plan.orphans,
            logs=logs,
            policy=waiting(plan.policy),
            policies={name: waiting(policy) for name, policy in plan.policies.items()},
            breaker=plan.breaker,
            classifier=plan.rules,
        )
        self._launcher.answer_timeout = plan.waits.answer
        self._executes = {step.name: step.declare(self._launcher) for step in plan.steps}
        self.on_stop = self._launcher.on_stop
        """Called when a signal has stopped the launch, before what runs is cancelled."""
        self.outcomes: dict[str, Outcome] = {}
        """How each operation has ended so far, by name."""
        self._begun: set[str] = set()
        names = {step.name for step in plan.steps}
        self._launcher.may_begin = lambda name: name not in names or name in self._begun
        self._launch = service.recoverable(
            "launch",
            resumable=True,
            # An error of its own ends it. The death of its process is counted by the steps that ran.
            policy=RetryPolicy(max_retries=MOST_DEATHS),
            breaker=None,
            retry_if_error=_never,
        )(self._run_steps)

    def check_environment(self) -> None:
        """Check that downloads can use the proxy and the certificates that the environment names.

        Raises:
            EnvironmentVariableError: They cannot.
        """
        if any(isinstance(step, Download) for step in self._plan.steps):
            check_environment()

    async def run(self) -> dict[str, Outcome]:
        """Go on with the launch that an earlier run left, or begin one. Returns how each operation ended.

        Raises:
            StoppedBySignal: SIGTERM or SIGHUP, once its processes have ended; Ctrl-C raises KeyboardInterrupt.
            EnvironmentVariableError: As ``check_environment``.
        """
        self.check_environment()
        async with self._launcher:
            while True:
                try:
                    await self._launch(str(self._plan.path))
                except JoinedElsewhere as elsewhere:  # the files of that launch are here: this one is quick
                    log.warning("%s; it begins again", elsewhere)
                else:
                    return self.outcomes

    async def _cancel_outdated(self, wordings: Mapping[str, str]) -> None:
        """Cancel what an earlier run left and the plan does not have any more; the bytes that it fetched are kept.

        *wordings* are those of the operations in that run's plan, by name.
        """
        journal = self._service.journal
        assert journal is not None
        steps = {step.name: step for step in self._plan.steps}
        for record in journal.pending(0.0).calls:
            name = name_in_arguments(record.operation, record.arguments)
            if name is None:
                continue
            if name in steps and steps[name].goes_on(record.operation, wordings.get(name)):
                continue
            if self._service.calls.cancel(record.call):
                text = "%s: %s is changed or gone since the last run; its call %s is cancelled"
                log.warning(text, self._plan.path, brief(name), record.call)
            is_server = record.operation.partition(" ")[0] == "server"
            if is_server and not (name in steps and steps[name].LASTS and steps[name].calls):
                # else the next one takes it over, or ends it
                await end_orphan(name, self._launcher.logs / FOLDER)

    async def _run_steps(self, _path: str) -> None:
        saved = msgspec.convert(context.saved(default=Progress()), Progress, from_attributes=True)
        await self._cancel_outdated(saved.wordings)  # before what is left resumes
        self.outcomes = {
            step.name: msgspec.structs.replace(outcome, optional=step.optional)
            for step in self._plan.steps
            if (outcome := saved.outcomes.get(step.name)) is not None and outcome.version == step.version
        }
        self._begun = set(self.outcomes)
        self._save()  # before a call begins
        self._service.resume()
        may_begin = {step.name: anyio.Event() for step in self._plan.steps}
        servers = Servers(on_ready=lambda name: may_begin[name].set())
        others = {step.name for step in self._plan.steps if not step.LASTS}

        async def run(step: Step) -> None:
            for need in step.needs:
                await may_begin[need].wait()
            if step.name not in self.outcomes:
                outcome = await self._outcome_of(step, servers)
                self.outcomes[step.name] = msgspec.structs.replace(outcome, optional=step.optional)
                self._save()
            may_begin[step.name].set()
            if others <= self.outcomes.keys():
                servers.others_are_over.set()

        if not others:
            servers.others_are_over.set()
        async with anyio.create_task_group() as group:
            for step in self._plan.steps:
                group.start_soon(run, step)

    def _save(self) -> None:
        context.checkpoint(Progress(self.outcomes, {step.name: step.wording for step in self._plan.steps}))

    async def _outcome_of(self, step: Step, servers: Servers) -> Outcome:
        fine = {name for name, outcome in self.outcomes.items() if outcome.is_fine}
        missing = [need for need in step.needs if need not in fine and (need in self.outcomes or need not in servers)]
        if missing:
            return Outcome("skipped", f"needs {', '.join(missing)}", step.version)
        self._begun.add(step.name)  # what an earlier run left of it goes on: a server that it needs is ready
        try:
            await self._executes[step.name](servers)
        except Exception as error:  # its retries are exhausted; the other operations go on
            return Outcome("failed", _cause_of(error), step.version)
        return Outcome("done", version=step.version)


def _never(_: Exception) -> bool:
    return False


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


def name_in_arguments(operation: str, arguments: bytes | None) -> str | None:
    """The name in the plan of a call of *operation*: the first of its *arguments*, in JSON."""
    if operation.partition(" ")[0] not in CALLS or not arguments:
        return None
    args, _ = msgspec.json.decode(arguments, type=tuple[list[Any], dict[str, Any]])
    return args[0] if args and isinstance(args[0], str) else None
