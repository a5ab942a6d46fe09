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
WAIT = (
    ("initial_delay", "its seconds"),
    ("backoff_factor", "its growth"),
    ("max_delay", "its limit"),
    *FIRST_DELAY[1:],
)
JITTER = (("jitter", '"none", "full", "equal" or "decorrelated"'),)
POLICY = (("policy", "RetryPolicy(backoff=...) with a list, Linear, Constant, or a function of the retry's number"),)
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
    **dict.fromkeys(("wait", "wait_gen", "wait_exponential", "wait_random_exponential", "expo"), (*WAIT, *JITTER)),
    **dict.fromkeys(("wait_initial", "delay", "interval", "initial_delay", "wait_none"), FIRST_DELAY),
    **dict.fromkeys(("wait_exp_base", "exp_base", "base", "backoff_factor"), FACTOR),
    **dict.fromkeys(("multiplier", "factor"), (("initial_delay", "the first delay"), ("backoff_factor", "the growth"))),
    **dict.fromkeys(("wait_max", "max_value", "max_interval", "max"), (("max_delay", ""),)),
    **dict.fromkeys(("wait_jitter", "wait_full_jitter", "full_jitter", "random_jitter"), JITTER),
    **dict.fromkeys(
        ("wait_fixed", "wait_incrementing", "wait_exponential_jitter", "wait_chain", "wait_random", "wait_combine"),
        POLICY,
    ),
    **dict.fromkeys(("min", "initial", "start", "increment", "constant", "fibo"), POLICY),
    **dict.fromkeys(("max_time", "stop_after_delay", "stop_before_delay", "deadline"), TOTAL),
    **dict.fromkeys(("stop", "stop_any", "stop_all"), (*RETRIES, *TOTAL)),
    **dict.fromkeys(("stop_never", "retry_never"), (("max_retries", "None is without end, 0 is none"),)),
    **dict.fromkeys(
        ("retry", "on", "exception", "exceptions", "retry_if_exception_type", "retry_if_exception", "retry_any"),
        ON_ERROR,
    ),
    **dict.fromkeys(("retry_if_result", "retry_if_not_result", "predicate"), ON_ERROR[2:]),
    **dict.fromkeys(
        (
            "retry_all",
            "retry_base",
            "retry_if_exception_cause_type",
            "retry_if_exception_message",
            "retry_if_not_exception_type",
        ),
        ON_ERROR[1:2],
    ),
    "giveup": (("retry_if_error", "says true to what is retried"),),
    **dict.fromkeys(
        ("before_sleep", "on_backoff"), (("before_retry", "it prepares the attempt, a bus subscriber watches"),)
    ),
    **dict.fromkeys(
        ("retry_error_callback", "raise_on_giveup"), (("fallback", "a value, or a function of the exception"),)
    ),
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


def _subscribe(event: str) -> str:
    return f"subscribe to the event instead: service.bus.subscribe({event}, function)"


WORDS = {
    "name": "the name comes first: recoverable('fetch', max_retries=5)",
    **dict.fromkeys(
        ("reraise", "retry_error_cls"), "leave it out: the caller always gets the function's own exception"
    ),
    "sleep": "leave it out: the service waits, and in tests no_waiting or Recovery(clock=VirtualClock()) does",
    "enabled": "switch it off with service.configure(enabled=False)",
    **dict.fromkeys(
        ("logger", "before_log", "after_log", "before_sleep_log"),
        "leave it out: the logger 'recovery' has each retry; Log(logger=...) is for another",
    ),
    **dict.fromkeys(
        ("backoff_log_level", "giveup_log_level"), "enable_logging=True has retries at WARNING, False logs nothing"
    ),
    **dict.fromkeys(("before_nothing", "after_nothing", "before_sleep_nothing"), "leave it out"),
    **dict.fromkeys(("wait_exception", "runtime"), _subscribe("OperationFailed") + ", which returns Retry(after=...)"),
    **dict.fromkeys(
        ("stop_when_event_set", "sleep_using_event"), _subscribe("OperationFailed") + ", which returns GiveUp(...)"
    ),
    **dict.fromkeys(
        ("retry_always", "retry_unless_exception_type", "retry_if_not_exception_message"),
        "none does this: it repeats a function that succeeds; write the loop",
    ),
    "after": _subscribe("OperationFailed"),
    "on_giveup": _subscribe("GaveUp"),
    "on_success": _subscribe("OperationSucceeded"),
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
        return _subscribe("RetryScheduled")
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
