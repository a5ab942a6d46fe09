"""What one operation was declared with: the settings, checked once, at definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypedDict

import msgspec

from events.receivers import is_async
from recovery import checks
from recovery.backoff import Exponential, Jitter
from recovery.breaker import BreakerPolicy
from recovery.classify import Classifier
from recovery.policy import RetryPolicy

Durability: TypeAlias = Literal["off", "lazy", "journal", "strict"]
WhenOpen: TypeAlias = Literal["reject", "wait"]


class Settings(TypedDict, total=False):
    """The keyword arguments of ``recoverable`` and ``Recovery.operation``; what is left out has the service's default.

    ``max_retries``, ``initial_delay``, ``backoff_factor``, ``max_delay``, ``max_elapsed``, ``timeout``, ``jitter``
        As in ``RetryPolicy``; seconds. Not together with ``policy``.
    ``policy``
        A whole ``RetryPolicy``.
    ``retry_on``
        An exception class, or a tuple of them: only these are worth a retry, whatever any rule says.
    ``classifier``
        Asked before the built-in classification; see ``recovery.classify.Classifier``.
    ``enable_classification``
        False treats every ``Exception`` as transient (``Permanent`` and ``Retryable`` still mean what they say).
    ``enable_persistence``
        False is durability "off", True at least "lazy".
    ``enable_logging``
        Attach ``Log``: failures, retries and circuits to the standard library's logging; quiet on success.
    ``circuit_breaker_threshold``, ``circuit_breaker_timeout``
        ``failure_threshold`` and ``break_duration`` of the circuit. Not together with ``breaker``.
    ``breaker``
        A whole ``BreakerPolicy``, or ``None`` for no circuit.
    ``when_open``
        What an open circuit does to a call that has not begun: "reject" it (the default), or let it "wait".
    ``key``
        Called with the call's arguments; names the part of the operation (the host, say) with a circuit of its own.
    ``resumable``
        Carry a call on after a restart: durability "journal" at least; the arguments must be plain data.
    ``version``
        A call journalled under another version is not carried on.
    ``durability``
        "off", "lazy", "journal" or "strict"; what each loses is in the README.
    ``retry_spent``
        Retry even what an inner recoverable call has already tried in vain.
    ``retry_if``, ``idempotent``, ``reconcile``
        Reserved; NotImplementedError.
    """

    max_retries: int | None
    initial_delay: float
    backoff_factor: float
    max_delay: float
    max_elapsed: float | None
    timeout: float | None
    jitter: Jitter
    policy: RetryPolicy
    retry_on: type[Exception] | tuple[type[Exception], ...]
    classifier: Classifier
    enable_classification: bool | None
    enable_persistence: bool | None
    enable_logging: bool | None
    circuit_breaker_threshold: int
    circuit_breaker_timeout: float
    breaker: BreakerPolicy | None
    when_open: WhenOpen
    key: Callable[..., str]
    resumable: bool
    version: str
    durability: Durability
    retry_spent: bool
    retry_if: Callable[[Any], bool]
    idempotent: bool
    reconcile: Callable[..., Any]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The checked settings of one operation. ``None`` for an *enable_…* or the durability: the service decides."""

    policy: RetryPolicy
    breaker: BreakerPolicy | None
    when_open: WhenOpen = "reject"
    retry_on: tuple[type[Exception], ...] | None = None
    classifier: Any = None  # a Classifier; msgspec need not look into it
    classification: bool | None = None
    logging: bool | None = None
    durability: Durability | None = None
    resumable: bool = False
    version: str = ""
    key: Any = None  # a Callable[..., str]
    retry_spent: bool = False

    @property
    def journalled(self) -> bool:
        """Whether starts are written down too, so that there is something to carry on."""
        return self.durability == "journal"


LATER = ("retry_if", "idempotent", "reconcile")
FLAGS = ("enable_classification", "enable_persistence", "enable_logging", "resumable", "retry_spent")
POLICY_FIELDS = ("max_retries", "max_delay", "max_elapsed", "timeout", "jitter")
POLICY_NAMES = (*POLICY_FIELDS, "initial_delay", "backoff_factor")
BREAKER_NAMES = ("circuit_breaker_threshold", "circuit_breaker_timeout")


def make_plan(settings: Settings, *, policy: RetryPolicy, breaker: BreakerPolicy | None, has_store: bool) -> Plan:
    """Check *settings* and fill them up from the service's *policy* and *breaker*.

    Raises TypeError for an unknown name or a wrong type, ValueError for a value out of range or a contradiction (each
    names the setting), NotImplementedError for what a later release brings.
    """
    given: dict[str, Any] = dict(settings)
    for name in given:
        if name not in Settings.__annotations__:
            raise TypeError(f"recoverable() has no setting {name!r}")
    for name in LATER:
        if name in given:
            raise NotImplementedError(f"{name}= is not implemented yet")
    for name in FLAGS:
        if not isinstance(given.get(name), bool | None):
            raise TypeError(f"{name} must be True or False, not {given[name]!r}")
    return Plan(
        policy=_policy(given, policy),
        breaker=_breaker(given, breaker),
        when_open=checks.choice("when_open", given.get("when_open", "reject"), ("reject", "wait")),  # type: ignore[arg-type]  # checked
        retry_on=_retry_on(given),
        classifier=_classifier(given),
        classification=given.get("enable_classification"),
        logging=given.get("enable_logging"),
        durability=_durability(given, has_store=has_store),
        resumable=bool(given.get("resumable")),
        version=_text(given, "version"),
        key=_key(given),
        retry_spent=bool(given.get("retry_spent")),
    )


def _policy(given: dict[str, Any], default: RetryPolicy) -> RetryPolicy:
    single = {name: given[name] for name in POLICY_NAMES if name in given}
    whole = given.get("policy")
    if "policy" in given:
        if not isinstance(whole, RetryPolicy):
            raise TypeError(f"policy must be a RetryPolicy, not {whole!r}")
        if single:
            raise ValueError(f"{next(iter(single))} and policy contradict each other; put it into the policy")
        return whole
    changes = {name: single[name] for name in POLICY_FIELDS if name in single}
    if "initial_delay" in single or "backoff_factor" in single:
        shape = default.backoff if isinstance(default.backoff, Exponential) else Exponential()
        changes["backoff"] = Exponential(
            single.get("initial_delay", shape.initial), single.get("backoff_factor", shape.factor)
        )
    # Not structs.replace, which would not check.
    return RetryPolicy(**{**msgspec.structs.asdict(default), **changes}) if changes else default


def _breaker(given: dict[str, Any], default: BreakerPolicy | None) -> BreakerPolicy | None:
    single = [name for name in BREAKER_NAMES if name in given]
    if "breaker" in given:
        if single:
            raise ValueError(f"{single[0]} and breaker contradict each other; put it into the breaker")
        whole = given["breaker"]
        if not isinstance(whole, BreakerPolicy | None):
            raise TypeError(f"breaker must be a BreakerPolicy or None, not {whole!r}")
        return whole
    if not single:
        return default
    changes: dict[str, Any] = {}
    if "circuit_breaker_threshold" in given:
        name = "circuit_breaker_threshold"
        changes["failure_threshold"] = checks.whole(name, given[name], least=1)
    if "circuit_breaker_timeout" in given:
        name = "circuit_breaker_timeout"
        changes["break_duration"] = checks.number(name, given[name], above=0.0)
    return BreakerPolicy(**{**msgspec.structs.asdict(default or BreakerPolicy()), **changes})


def _retry_on(given: dict[str, Any]) -> tuple[type[Exception], ...] | None:
    if "retry_on" not in given:
        return None
    kinds = given["retry_on"] if isinstance(given["retry_on"], tuple) else (given["retry_on"],)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"retry_on must name subclasses of Exception, not {kind!r}")
    return kinds


def _classifier(given: dict[str, Any]) -> Classifier | None:
    classifier: Classifier | None = given.get("classifier")
    if classifier is None:
        return None
    if not callable(classifier) or is_async(classifier):
        raise TypeError(f"classifier must be a plain function of the evidence, not {classifier!r}")
    if given.get("enable_classification") is False:
        raise ValueError("classifier and enable_classification=False contradict each other")
    return classifier


def _key(given: dict[str, Any]) -> Callable[..., str] | None:
    key: Callable[..., str] | None = given.get("key")
    if key is not None and (not callable(key) or is_async(key)):
        raise TypeError(f"key must be a plain function of the call's arguments, not {key!r}")
    return key


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {value!r}")
    return value


def _durability(given: dict[str, Any], *, has_store: bool) -> Durability | None:
    durability: Durability | None = given.get("durability")
    if "durability" in given:
        checks.choice("durability", durability, ("off", "lazy", "journal", "strict"))
    if durability == "strict":
        raise NotImplementedError('durability="strict" is not implemented yet; "journal" is the safest today')
    persistence = given.get("enable_persistence")
    if persistence is False:
        if durability not in (None, "off"):
            raise ValueError(f"enable_persistence=False and durability={durability!r} contradict each other")
        durability = "off"
    if persistence is True:
        if durability == "off":
            raise ValueError("enable_persistence=True and durability='off' contradict each other")
        durability = durability or "lazy"
    if given.get("resumable"):
        if durability in ("off", "lazy") and ("durability" in given or persistence is False):
            asked = "enable_persistence=False" if persistence is False else f"durability={durability!r}"
            raise ValueError(f"resumable=True and {asked} contradict each other")
        durability = "journal"
    if durability in ("lazy", "journal") and not has_store:
        name = next(name for name in ("resumable", "enable_persistence", "durability") if given.get(name))
        raise ValueError(f"{name}={given[name]!r} needs a service with a store: Recovery(store=...)")
    return durability
