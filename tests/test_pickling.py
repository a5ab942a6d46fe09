"""What passes from one process to another: errors of ours and of the caller's, and recoverable functions."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from adapters.comfyui.errors import (
    BrokenContextError,
    InvalidGraphError,
    MemoryFullError,
    MissingModelError,
    MissingNodeError,
    NoAnswerError,
    OutcomeUnknownError,
    OutOfMemoryError,
    PaidAccountError,
    PaidLoginError,
    PaidNodesError,
    PoisonedContextError,
    PromptFailedError,
    PromptInterruptedError,
    PromptLostError,
    PromptQuarantinedError,
    PromptRefusedError,
    ServerBusyError,
    ServerDownError,
)
from adapters.disk import UnsafeFileError
from adapters.downloads.client import EnvironmentVariableError
from adapters.downloads.partial_file import (
    DestinationBusyError,
    DownloadError,
    StalePartialFileError,
    UnusableResponseError,
    WrongContentError,
)
from adapters.downloads.refusals import AccessError, RefusedError, RefusedForNowError
from adapters.downloads.space import NeverFitsError, NoRoomError
from adapters.downloads.watchdog import TrickleError
from adapters.git.commands import GitMissingError, UnusablePlaceError
from adapters.git.destination import OccupiedError
from adapters.git.failures import RefMissingError, RepositoryMissingError
from adapters.git.locks import LockedError
from adapters.git.repository import RepositoryError
from adapters.git.update import ChangesError
from adapters.launcher.arguments import InvalidRequestError, NotDoneError
from adapters.launcher.asked_again import NotAskedForError
from adapters.launcher.plan import PlanError
from adapters.launcher.step_run import StepsUndoneError
from adapters.launcher.stopping import StoppedBySignal
from adapters.launcher.variables import MissingSecretError
from adapters.memory import MemoryStore
from adapters.nats.errors import (
    ChangeRefusedError,
    ClusterError,
    ClusterLimitError,
    ForbiddenError,
    LeaseLostError,
    NotSentError,
    RemoteCallError,
    StaleError,
    TooLargeError,
    UnknownCallError,
    UnreachableError,
    UnreadableError,
)
from adapters.packages.consent import RefusedRequirementsError, UnusualRequirementsError
from adapters.packages.install import BrokenPackagesError, NotInstalledError
from adapters.packages.installer import CutDownloadError, NoInstallerError, PackageBuildError, PackageConflictError
from adapters.packages.requirements import InvalidRequirementsError
from adapters.packages.venv import LostPackagesError, VenvError
from adapters.processes.command import SilentCommandError
from adapters.servers.ports import PortTakenError
from adapters.servers.server import ServerGoneError
from adapters.servers.supervisor import ServerEndedError
from events.bus import Bus
from events.errors import (
    AwaitableResultError,
    CallCancelledError,
    CallRejectedError,
    CodecError,
    JoinedElsewhere,
    NeedsPerson,
    Permanent,
    RecoveryError,
    Retryable,
    StaysPendingError,
    UnwantedResult,
)
from events.evidence import Remedy, Room
from events.operation import Operation
from recovery import context
from recovery.default_service import configure
from recovery.execution.decorator import recovery_of
from recovery.journal.errors import (
    DamagedJournalError,
    ForeignJournalError,
    JournalBusyError,
    JournalError,
    NewerJournalError,
    NotDurable,
)
from recovery.outcome import outcome_of
from recovery.service import Recovery
from recovery.testing import Script


class OwnError(Retryable):
    """An error of a user's, with other arguments than its text."""

    def __init__(self, code: int, *, host: str) -> None:
        super().__init__(f"{host} answered {code}", after=2.0)
        self.code = code


ERRORS: list[RecoveryError] = [
    AccessError("401", remedy=Remedy("Give a token.", question="token:huggingface"), reason="refused"),
    BrokenPackagesError("broken"),
    InvalidRequirementsError("no requirement"),
    LostPackagesError("lost", remedy=Remedy("Decide.", question="venv:x")),
    NoInstallerError("no pip"),
    PackageBuildError("no compiler", remedy=Remedy("Decide.", question="build:x")),
    PackageConflictError("a conflict"),
    PortTakenError("8188 is taken"),
    RefusedRequirementsError("refused"),
    ServerEndedError("code 1"),
    ServerGoneError("gone", remedy=Remedy("Decide.", question="restart:x")),
    StepsUndoneError("undone"),
    UnusualRequirementsError("-e", remedy=Remedy("Decide.", question="options:x")),
    VenvError("no venv"),
    ClusterError("not open"),
    ClusterLimitError("too long"),
    ForbiddenError("a viewer"),
    LeaseLostError("lost"),
    NotSentError("no server"),
    ChangeRefusedError("it is over"),
    RemoteCallError("render/a", "gave up", "out of retries", ("ValueError", "no scene"), "gpu-a"),
    StaleError("stale"),
    TooLargeError("large"),
    UnknownCallError("gone"),
    UnreachableError("no answer"),
    UnreadableError("newer"),
    CallCancelledError("cancelled"),
    CutDownloadError("cut"),
    NotInstalledError("elsewhere"),
    UnusablePlaceError("a bare name"),
    CallRejectedError("fetch", "circuit open", 2.0),
    ChangesError("a.txt was changed", ["a.txt"], Remedy("Decide.", question="changes:x")),
    CodecError("no event"),
    DamagedJournalError("damaged"),
    DestinationBusyError("busy"),
    DownloadError("broken"),
    EnvironmentVariableError("no proxy"),
    ForeignJournalError("a.db"),
    GitMissingError("no git"),
    JoinedElsewhere("fetch", "7f3a-2", "gave up", "KeyError"),
    JournalBusyError("a.db"),
    JournalError("unusable"),
    LockedError("in use"),
    MissingSecretError("KEY is needed", remedy=Remedy("Give it.", question="secret:env:KEY")),
    NeedsPerson("401", remedy=Remedy("Log in.")),
    PortTakenError("port 8188 is held"),
    ServerEndedError("crashed", after=1.0),
    ServerGoneError("crashed often", remedy=Remedy("Answer yes.", question="restart:small")),
    NeverFitsError("no such disk", Room("models", 7)),
    NewerJournalError("a.db", 9),
    NoRoomError("no room", Room("models", 7)),
    AwaitableResultError("a coroutine"),
    NotAskedForError("not asked for"),
    NotDoneError("c ended well"),
    NotDurable("full"),
    OwnError(503, host="example.org"),
    OccupiedError("x is a file"),
    Permanent("no", 404),
    PlanError(Path("plan.toml"), "retry", "is missing"),
    RecoveryError(),
    RefMissingError("no v9"),
    RefusedError("404"),
    RefusedForNowError("403", after=60.0),
    RepositoryError("bare"),
    RepositoryMissingError("not found"),
    Retryable("later", after=3.0),
    SilentCommandError("silent"),
    StalePartialFileError("stale"),
    UnusableResponseError("unusable"),
    StaysPendingError("pending"),
    StepsUndoneError("no wheel", "update comfyui", "install", ("install",), ("move",)),
    UnsafeFileError(Path("a.db"), "is a pipe"),
    TrickleError("slow"),
    UnwantedResult([1]),
    InvalidRequestError("no program"),
    WrongContentError("wrong"),
    BrokenContextError("broken", remedy=Remedy("Decide.", question="context:cat")),
    InvalidGraphError("no"),
    MemoryFullError("no"),
    MissingModelError("no cat.safetensors", remedy=Remedy("Decide.", question="model:cat.safetensors")),
    MissingNodeError("no Cat", remedy=Remedy("Decide.", question="node:Cat")),
    OutcomeUnknownError("gone", remedy=Remedy("Decide.", question="resubmit:cat")),
    OutOfMemoryError("full", remedy=Remedy("Decide.", question="memory:cat")),
    PaidAccountError("no credits", remedy=Remedy("Decide.", question="account:cat")),
    PaidLoginError("expired", after=5.0),
    PaidNodesError("it costs money", remedy=Remedy("Decide.", question="pay:cat")),
    PoisonedContextError("no"),
    PromptFailedError("no"),
    PromptInterruptedError("interrupted", remedy=Remedy("Decide.", question="resubmit:cat")),
    PromptLostError("no"),
    PromptQuarantinedError("died twice", remedy=Remedy("Decide.", question="run-again:cat")),
    PromptRefusedError("no"),
    NoAnswerError("no"),
    ServerBusyError("no"),
    ServerDownError("no"),
]


def subclasses(kind: type) -> Iterator[type]:
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


def ours(kind: type) -> bool:
    return kind.__module__.split(".")[0] in ("events", "recovery", "adapters")


def test_each_error_of_ours_is_tested_here() -> None:
    assert {type(error) for error in ERRORS} - {OwnError} == set(filter(ours, subclasses(RecoveryError)))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL, "copy"])
def test_an_error_is_whole_after_it_was_pickled_or_copied(error: RecoveryError, protocol: int | str) -> None:
    error.__notes__ = ["a note"]
    loaded = copy.copy(error) if isinstance(protocol, str) else pickle.loads(pickle.dumps(error, protocol))
    assert (type(loaded), str(loaded), loaded.args, vars(loaded)) == (type(error), str(error), error.args, vars(error))
    if isinstance(error, OSError):
        assert (loaded.errno, loaded.filename) == (error.errno, error.filename)


def test_a_stop_is_whole_after_it_was_pickled() -> None:
    stopped = StoppedBySignal(15)
    loaded = pickle.loads(pickle.dumps(stopped))
    assert (str(loaded), loaded.code, loaded.signal) == (str(stopped), 143, stopped.signal)


def reject() -> None:
    service = Recovery()
    service.circuits.force("fetch", "open")
    service.recoverable("fetch")(print)()


def leave_pending() -> None:
    error = StaysPendingError("pending")
    error.attempt = Recovery().operation("fetch").start()
    raise error


@pytest.mark.slow
def test_errors_reach_the_parent_of_a_pool_which_works_on() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(CallRejectedError, match="circuit open") as rejected:
            pool.submit(reject).result()
        with pytest.raises(StaysPendingError, match="pending"):
            pool.submit(leave_pending).result()
        assert pool.submit(len, "four").result() == 4
    assert rejected.value.operation == "fetch"


module_service = Recovery()


@module_service.recoverable(max_retries=1, initial_delay=0.0)
def fetch(outcomes: list[type[Exception]]) -> int:
    if outcomes:
        raise outcomes.pop()
    return os.getpid()


class Client:
    @module_service.recoverable("client", initial_delay=0.0)
    def fetch(self) -> int:
        return os.getpid()


@pytest.mark.slow
def test_decorated_functions_and_methods_work_in_a_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pids = {pool.submit(fetch, [ConnectionError]).result(), pool.submit(Client().fetch).result()}
        with pytest.raises(KeyError) as raised:
            pool.submit(fetch, [KeyError]).result()
    assert os.getpid() not in pids
    assert outcome_of(raised.value) is not None


def given_up(error: Exception, **settings: Any) -> Exception:
    try:
        Recovery().recoverable("fetch", max_retries=1, initial_delay=0.0, **settings)(Script(error, error))()
    except Exception as raised:
        return raised
    raise AssertionError


@pytest.mark.parametrize("settings", [{}, {"retry_on": KeyError}, {"max_elapsed": 9.0}, {"key": lambda: "host"}])
@pytest.mark.parametrize("error", [ConnectionError("reset"), KeyError(3), ExceptionGroup("two", [OSError(5, "I/O")])])
def test_an_error_of_the_callers_own_is_loaded_without_this_library(error: Exception, settings: Any) -> None:
    sent = pickle.dumps(given_up(error, **settings))
    code = (
        "import pickle, sys; error = pickle.load(sys.stdin.buffer); print(len(error.__notes__) > 0)\n"
        "print([one for one in sys.modules if one.split('.')[0] in ('events', 'recovery', 'msgspec')])"
    )
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], input=sent, capture_output=True, check=True)
    assert ran.stdout.decode().split("\n")[:2] == ["True", "[]"]


CLOSURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "runner": {"max_elapsed": 60.0},
    "keyed": {"key": lambda _: "host"},
    "resumable": {"resumable": True},
    "joinable": {"idempotency_key": str},
    "judged": {"retry_if": lambda result: not result},
    "fallback": {"fallback": lambda _: "fallen back"},
    "strict": {"durability": "strict"},
}


def make(failures: int, *, is_async: bool = False, max_retries: int = 2, **settings: Any) -> Any:
    service, calls = Recovery(store=MemoryStore()), []

    def fetch(value: int) -> tuple[int, int]:
        calls.append(value)
        if len(calls) <= failures:
            raise ConnectionError
        return value, len(calls)

    async def afetch(value: int) -> tuple[int, int]:
        return fetch(value)

    return service.recoverable(max_retries=max_retries, initial_delay=0.0, **settings)(afetch if is_async else fetch)


LOAD = """
import asyncio, inspect, pickle, sys
from recovery import recovery_of

def call(sent):
    function = pickle.loads(sent)
    assert recovery_of(function).operation.name.startswith("tests.test_pickling.")
    try:
        result = function(7)
        return asyncio.run(result) if inspect.isawaitable(result) else result
    except Exception as error:
        return type(error).__name__

for sent in pickle.load(sys.stdin.buffer):
    print(call(sent))
"""


def loaded(*functions: Any) -> list[str]:
    """What another process gets from each of *functions*, called with 7."""
    cloudpickle = pytest.importorskip("cloudpickle")
    sent = pickle.dumps([cloudpickle.dumps(function) for function in functions])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", LOAD], input=sent, capture_output=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode().splitlines()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_closure_recovers_in_the_process_that_loads_it(is_async: bool) -> None:
    assert loaded(*(make(2, is_async=is_async, **one) for one in CLOSURES.values())) == ["(7, 3)"] * len(CLOSURES)


def test_closures_of_one_code_and_equal_settings_share_a_circuit_where_they_are_loaded() -> None:
    sick = [make(9, max_retries=0, circuit_breaker_threshold=2) for _ in range(3)]
    assert loaded(*sick) == ["ConnectionError", "ConnectionError", "CallRejectedError"]


def test_a_varied_copy_keeps_its_settings_where_it_is_loaded() -> None:
    assert loaded(recovery_of(make(3)).but(max_retries=3)) == ["(7, 4)"]


def test_a_closure_that_calls_itself_is_loaded() -> None:
    @Recovery().recoverable(initial_delay=0.0)
    def dive(depth: int) -> int:
        return dive(depth - 1) + 1 if depth else 0

    assert loaded(dive) == ["7"]


def test_a_loaded_function_knows_its_attempt() -> None:
    service = Recovery()

    @service.recoverable(initial_delay=0.0)
    def attempt(_a_name_of_its_own: int) -> int | None:
        return context.attempt()

    @service.recoverable(initial_delay=0.0, fallback=None)
    def attempt_or_none(_another_name: int, *, default: int = 0) -> int | None:
        return context.attempt()

    assert loaded(attempt, attempt_or_none) == ["1", "1"]


def test_a_closure_follows_the_switch_of_the_service_that_loads_it() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    function = pickle.loads(cloudpickle.dumps(make(1)))
    configure(enabled=False)
    try:
        with pytest.raises(ConnectionError) as raised:
            function(7)
        assert outcome_of(raised.value) is None
    finally:
        configure(enabled=True)


def test_an_operation_of_no_service_says_that_it_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="operation 'fetch', which no service has defined"):
        pickle.dumps(Operation("fetch", Bus()))
