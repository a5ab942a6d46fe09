"""Unknown names of settings: one error that says which name was meant.

``PEERS`` holds the words of other libraries (tenacity 9, backoff 2, stamina 26, resilience4j 2, Polly 8) with the
setting that does the same.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec

P = ParamSpec("P")
R = TypeVar("R")

CUTOFF = 0.7
"""How similar a known name must be to be suggested (difflib's ratio, from 0 to 1)."""

NO_FIRST = "which does not count the first attempt"
SHAPE = "Constant, Linear, Exponential, or a list of delays"

RETRIES = (("max_retries", NO_FIRST),)
FIRST_DELAY = (("initial_delay", ""), ("backoff", SHAPE))
FACTOR = (("backoff_factor", ""), ("backoff", SHAPE))
TOTAL = (("max_elapsed", "the whole call"), ("wait_timeout", "the wait for conditions"))
THRESHOLD = (("circuit_breaker_threshold", ""), ("failure_threshold", ""))
BREAK = (("circuit_breaker_timeout", ""), ("break_duration", ""))
ON_ERROR = (
    ("retry_on", "exception classes"),
    ("retry_if_error", "a function of the exception"),
    ("retry_if", "a function of the result"),
)

PEERS: dict[str, tuple[tuple[str, str], ...]] = {
    "timeout": (
        ("attempt_timeout", "one attempt"),
        ("max_elapsed", "the whole call, as stamina's timeout"),
        *BREAK[1:],
    ),
    **dict.fromkeys(("retries", "attempts", "tries", "max_tries", "max_attempts", "stop_after_attempt"), RETRIES),
    "wait": (
        ("initial_delay", "its seconds"),
        ("backoff_factor", "its growth"),
        ("max_delay", "its limit"),
        *FIRST_DELAY[1:],
    ),
    **dict.fromkeys(("wait_initial", "delay", "interval", "wait_fixed", "initial_delay"), FIRST_DELAY),
    **dict.fromkeys(("wait_exp_base", "factor", "base", "multiplier", "backoff_factor"), FACTOR),
    **dict.fromkeys(("wait_max", "max_value", "max_interval"), (("max_delay", ""),)),
    "wait_jitter": (("jitter", '"none", "full", "equal" or "decorrelated"'),),
    **dict.fromkeys(("max_time", "stop_after_delay", "deadline"), TOTAL),
    "stop": (*RETRIES, *TOTAL),
    **dict.fromkeys(
        ("retry", "on", "exception", "exceptions", "retry_if_exception_type", "retry_if_exception"),
        ON_ERROR,
    ),
    "retry_if_result": ON_ERROR[2:],
    "giveup": (("retry_if_error", "says true to what is retried"),),
    **dict.fromkeys(
        ("before_sleep", "on_backoff"), (("before_retry", "it prepares the attempt, a bus subscriber watches"),)
    ),
    "retry_error_callback": (("fallback", "a value, or a function of the exception"),),
    **dict.fromkeys(("wait_for", "wait_timeout"), (("per_category", "a Strategy for each category has it"),)),
    **dict.fromkeys(("backoff", "max_retries"), (("policy", "a RetryPolicy has it"),)),
    **dict.fromkeys(("fail_max", "threshold", "failure_threshold", "circuit_breaker_threshold"), THRESHOLD),
    **dict.fromkeys(("reset_timeout", "recovery_timeout", "break_duration", "circuit_breaker_timeout"), BREAK),
    **dict.fromkeys(("sampling_duration", "sliding_window_seconds"), (("window_seconds", ""),)),
    **dict.fromkeys(("minimum_throughput", "minimum_number_of_calls"), (("minimum_calls", ""),)),
    "slow_call_rate_threshold": (("slow_call_rate", "from 0 to 1"),),
    "slow_call_duration_threshold": (("slow_call_seconds", ""),),
    "success_threshold": (("half_open_successes", ""),),
}
"""A word of another library, or of another object of this one -> the names that do the same, each with a note."""

WORDS = {
    "name": "the name comes first: recoverable('fetch', max_retries=5)",
    "reraise": "leave it out: the caller always gets the function's own exception",
}
"""A word of another library that no setting here corresponds to -> what to write instead."""

CALLBACKS = ("on_", "before", "after")
"""How the callbacks of other libraries begin (``on_backoff``, ``before_sleep``): here they are subscribers."""


def refuse_unknown(caller: str, given: Iterable[str], known: Collection[str], kind: str = "setting") -> None:
    """Raise TypeError for the first name in *given* that is not in *known*; it says which name was meant.

    Args:
        caller: What the error calls the function.
        given: The names of the keyword arguments.
        known: The names that the function has.
        kind: What the error calls a name.
    """
    for name in given:
        if name not in known:
            raise TypeError(f"{caller}() has no {kind} {name!r}; {hint(name, known)}")


def hint(name: str, known: Collection[str]) -> str:
    """Which of the names *known* was meant by *name*, as the end of a sentence."""
    meant = [(setting, note) for setting, note in PEERS.get(name, ()) if setting in known]
    if meant:
        return "use " + " or ".join(f"{setting} ({note})" if note else setting for setting, note in meant)
    if name in WORDS:
        return WORDS[name]
    import difflib  # here, for the error alone

    close = difflib.get_close_matches(name, known, n=1, cutoff=CUTOFF)
    if close:
        return f"did you mean {close[0]!r}?"
    if name.startswith(CALLBACKS):
        return "subscribe to the event instead: service.bus.subscribe(RetryScheduled, function)"
    return f"it has {', '.join(known)}"


def with_suggestions(caller: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function explain an unknown keyword argument. Its signature stays.

    Args:
        caller: What the error calls the function.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known = [name for name in inspect.signature(function).parameters if name != "self"]

        @functools.wraps(function)
        def explained(*args: P.args, **kwargs: P.kwargs) -> R:
            refuse_unknown(caller, kwargs, known, "option")
            return function(*args, **kwargs)

        return explained

    return decorate


class Suggesting(msgspec.StructMeta):
    """Makes the constructor of a struct explain an unknown keyword argument."""

    if not TYPE_CHECKING:  # type checkers know the fields of a struct, which a __call__ of ours would hide

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """An instance. Raises TypeError for an argument that it has not, with the name that was meant."""
            refuse_unknown(self.__name__, kwargs, self.__struct_fields__, "field")
            places = len(self.__match_args__)  # which leaves out the fields that are keywords only
            if places < len(args) and places < len(self.__struct_fields__):
                example = f"{self.__struct_fields__[places]}={args[places]!r:.40}"
                raise TypeError(f"{self.__name__}() takes keywords: {self.__name__}({example})")
            return super().__call__(*args, **kwargs)
