"""What passes from one process to another: errors of ours, whole, in a pool of processes and in a copy."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from adapters.disk import UnsafeFileError
from adapters.downloads.client import EnvironmentVariableError
from adapters.downloads.partial_file import (
    DestinationBusyError,
    DownloadError,
    StalePartialFileError,
    WrongContentError,
)
from adapters.launcher.plan import PlanError
from events.errors import (
    AwaitableResultError,
    CallRejectedError,
    CodecError,
    JoinedElsewhere,
    Permanent,
    RecoveryError,
    Retryable,
    StaysPendingError,
    UnwantedResult,
)
from recovery.journal.errors import (
    DamagedJournalError,
    ForeignJournalError,
    JournalBusyError,
    JournalError,
    NewerJournalError,
    NotDurable,
)
from recovery.service import Recovery


class OwnError(Retryable):
    """An error of a user's, with other arguments than its text."""

    def __init__(self, code: int, *, host: str) -> None:
        super().__init__(f"{host} answered {code}", after=2.0)
        self.code = code


ERRORS: list[RecoveryError] = [
    CallRejectedError("fetch", "circuit open", 2.0),
    CodecError("no event"),
    DamagedJournalError("damaged"),
    DestinationBusyError("busy"),
    DownloadError("broken"),
    EnvironmentVariableError("no proxy"),
    ForeignJournalError("a.db"),
    JoinedElsewhere("fetch", "7f3a-2", "gave up", "KeyError"),
    JournalBusyError("a.db"),
    JournalError("unusable"),
    NewerJournalError("a.db", 9),
    AwaitableResultError("a coroutine"),
    NotDurable("full"),
    OwnError(503, host="example.org"),
    Permanent("no", 404),
    PlanError(Path("plan.toml"), "retry", "is missing"),
    RecoveryError(),
    Retryable("later", after=3.0),
    StalePartialFileError("stale"),
    StaysPendingError("pending"),
    UnsafeFileError(Path("a.db"), "is a pipe"),
    UnwantedResult([1]),
    WrongContentError("wrong"),
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


def reject() -> None:
    service = Recovery()
    service.circuits.force("fetch", "open")
    service.recoverable("fetch")(print)()


def leave_pending() -> None:
    error = StaysPendingError("pending")
    error.attempt = Recovery().operation("fetch").start()
    raise error


def test_errors_reach_the_parent_of_a_pool_which_works_on() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(CallRejectedError, match="circuit open") as rejected:
            pool.submit(reject).result()
        with pytest.raises(StaysPendingError, match="pending"):
            pool.submit(leave_pending).result()
        assert pool.submit(len, "four").result() == 4
    assert rejected.value.operation == "fetch"
