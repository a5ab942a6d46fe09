"""Check the settings of an operation, once, at definition, and make its config of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import msgspec

from events.callables import is_async
from events.conditions import Condition
from recovery import validation
from recovery.policies.backoff import Exponential
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.budget import RetryBudget
from recovery.policies.classification import Classifier
from recovery.policies.durability import durability_of, on_degraded_of
from recovery.policies.retry import RetryPolicy
from recovery.policies.rules import in_order
from recovery.settings import NO_FALLBACK, ClusterUse, OnConflict, OperationConfig, Settings, WhenOpen
from recovery.suggestions import refuse_unknown

S = TypeVar("S", bound=msgspec.Struct)


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of operations that declare none. Raises TypeError or ValueError for a wrong value."""

    policy: RetryPolicy = RetryPolicy()
    breaker: BreakerPolicy | None = BreakerPolicy()
    budget: RetryBudget | None = None
    key: Any = None  # a Callable[..., str]
    when_open: WhenOpen = "reject"

    def __post_init__(self) -> None:
        if not isinstance(self.policy, RetryPolicy):
            raise TypeError(f"policy must be a RetryPolicy, not {self.policy!r}")
        if not isinstance(self.breaker, BreakerPolicy | None):
            raise TypeError(f"breaker must be a BreakerPolicy or None, not {self.breaker!r}")
        if not isinstance(self.budget, RetryBudget | None):
            raise TypeError(f"budget must be a RetryBudget or None, not {self.budget!r}")
        _plain("key", self.key, "of the call's arguments")
        validation.choice("when_open", self.when_open, ("reject", "wait"))


FLAGS = (
    "enable_classification", "enable_persistence", "enable_logging", "resumable", "join", "retry_exhausted",
    "idempotent",
)  # fmt: skip
POLICY_FIELDS = (
    "max_retries", "max_delay", "max_elapsed", "attempt_timeout", "stall_timeout", "progress_resets",
    "max_rate_limits", "per_category", "jitter", "then",
)  # fmt: skip
BACKOFF_FIELDS = {"initial_delay": "initial", "backoff_factor": "factor"}
BREAKER_FIELDS = {"circuit_breaker_threshold": "failure_threshold", "circuit_breaker_timeout": "break_duration"}


CHANGEABLE = (
    *POLICY_FIELDS, *BACKOFF_FIELDS, "policy", "retry_on", "retry_if", "retry_if_error", "retry_exhausted",
    "before_retry", "fallback",
)  # fmt: skip
"""The settings that ``but`` may change: what one call decides with."""


def make_config(
    settings: Settings, *, defaults: Defaults, has_store: bool, caller: str = "recoverable"
) -> OperationConfig:
    """Check *settings* and complete them with the service's *defaults*.

    Args:
        settings: The settings as the user gave them.
        defaults: The defaults of the service.
        has_store: Whether the service has a store.
        caller: What errors call the function that was called with the settings.

    Raises:
        TypeError: An unknown setting, or a value of the wrong type.
        ValueError: A value out of range, or a contradiction.
    """
    given: dict[str, Any] = dict(settings)
    refuse_unknown(caller, given, Settings.__annotations__)
    validation.flags({name: given.get(name) for name in FLAGS})
    policies = changed(defaults, {name: given[name] for name in defaults.__struct_fields__ if name in given})
    return OperationConfig(
        policy=_policy(given, policies.policy),
        breaker=_breaker(given, policies.breaker),
        budget=policies.budget,
        when_open=policies.when_open,
        retry_on=_retry_on(given),
        classifiers=_classifiers(given),
        classification=given.get("enable_classification"),
        logging=given.get("enable_logging"),
        durability=durability_of(given, has_store=has_store),
        on_degraded=on_degraded_of(given),
        resumable=bool(given.get("resumable")),
        version=_version(given),
        idempotency_key=_plain("idempotency_key", given.get("idempotency_key"), "of the call's arguments"),
        remember=_remember(given),
        join=_join(given),
        on_conflict=_on_conflict(given),
        key=policies.key,
        retry_exhausted=bool(given.get("retry_exhausted")),
        **_hooks(given),
        idempotent=_idempotent(given),
        reconcile=given.get("reconcile"),
        before=_before(given),
        claims=_claims(given),
        cluster=_cluster(given),
    )


def checked_overrides(overrides: Mapping[str, Settings]) -> Mapping[str, Settings]:
    """*overrides*, if they are settings by name. Raises TypeError otherwise."""
    for name, settings in dict(overrides).items():
        if not isinstance(name, str) or not isinstance(settings, Mapping):
            raise TypeError(f"overrides must be settings by the name of an operation, not {name!r}: {settings!r}")
        refuse_unknown(f"overrides[{name!r}]", settings, Settings.__annotations__)
    return overrides


def overridden(settings: Settings, changes: Settings) -> Settings:
    """*settings* with *changes*, of which a single field of a policy or a breaker changes the one that is given."""
    given, changed_to = dict[str, Any](settings), dict[str, Any](changes)
    for whole, parts, make in (
        ("policy", (*POLICY_FIELDS, *BACKOFF_FIELDS), _policy),
        ("breaker", tuple(BREAKER_FIELDS), _breaker),
    ):
        single = {part: changed_to[part] for part in parts if part in changed_to}
        if whole in changed_to:
            given = {name: value for name, value in given.items() if name not in parts}
        elif whole in given and single:
            given[whole] = make(single, given[whole])
            changed_to = {name: value for name, value in changed_to.items() if name not in parts}
    return cast("Settings", {**given, **changed_to})


def vary(config: OperationConfig, settings: Settings, caller: str = "but") -> OperationConfig:
    """*config* with *settings*, for calls that decide otherwise than the others of their operation.

    Args:
        config: How the others decide.
        settings: The settings as the user gave them.
        caller: What errors call the function that was called with the settings.

    Raises:
        TypeError: An unknown setting, one that belongs to the operation as a whole, or a value of the wrong type.
        ValueError: A value out of range, or a contradiction.
    """
    given: dict[str, Any] = dict(settings)
    refuse_unknown(caller, given, Settings.__annotations__)
    for name in given:
        if name not in CHANGEABLE:
            raise TypeError(
                f"{caller}() cannot change {name}, which all calls of an operation share; "
                "decorate the function under a second name"
            )
    validation.flags({"retry_exhausted": given.get("retry_exhausted")})
    changes = {"policy": _policy(given, given.get("policy", config.policy))}
    if not isinstance(changes["policy"], RetryPolicy):
        raise TypeError(f"policy must be a RetryPolicy, not {changes['policy']!r}")
    checked = {**_hooks(given), "retry_on": _retry_on(given), "retry_exhausted": given.get("retry_exhausted")}
    return msgspec.structs.replace(config, **changes, **{name: checked[name] for name in checked if name in given})


def _hooks(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "retry_if": _function("retry_if", given.get("retry_if"), "of the result"),
        "retry_if_error": _function("retry_if_error", given.get("retry_if_error"), "of the exception"),
        "before_retry": _function("before_retry", given.get("before_retry"), "of the failure (FailureClassified)"),
        "fallback": _fallback(given),
    }


def changed(struct: S, changes: Mapping[str, Any]) -> S:
    """*struct* with *changes*, checked; ``msgspec.structs.replace`` checks nothing before msgspec 0.21."""
    return type(struct)(**{**msgspec.structs.asdict(struct), **changes}) if changes else struct


def _policy(given: dict[str, Any], policy: RetryPolicy) -> RetryPolicy:
    _refuse_both(given, "policy", (*POLICY_FIELDS, *BACKOFF_FIELDS))
    changes = {name: given[name] for name in POLICY_FIELDS if name in given}
    if "initial_delay" in given and "max_delay" in given:
        first, most = (validation.number(name, given[name]) for name in ("initial_delay", "max_delay"))
        if first > most:
            raise ValueError(
                f"initial_delay={first:g} and max_delay={most:g} contradict each other: no delay is longer"
            )
    shape = {field: given[name] for name, field in BACKOFF_FIELDS.items() if name in given}
    if shape:
        changes["backoff"] = changed(
            policy.backoff if isinstance(policy.backoff, Exponential) else Exponential(), shape
        )
    return changed(policy, changes)


def _breaker(given: dict[str, Any], breaker: BreakerPolicy | None) -> BreakerPolicy | None:
    _refuse_both(given, "breaker", BREAKER_FIELDS)
    threshold, timeout = BREAKER_FIELDS
    if threshold in given:
        validation.whole(threshold, given[threshold], least=1)
    if timeout in given:
        validation.number(timeout, given[timeout], above=0.0)
    changes = {field: given[name] for name, field in BREAKER_FIELDS.items() if name in given}
    return changed(breaker or BreakerPolicy(), changes) if changes else breaker


def _refuse_both(given: dict[str, Any], whole: str, parts: Iterable[str]) -> None:
    for part in parts:
        if whole in given and part in given:
            raise ValueError(f"{part} and {whole} contradict each other; set it in the {whole}")


def _retry_on(given: dict[str, Any]) -> tuple[type[Exception], ...] | None:
    if "retry_on" not in given:
        return None
    kinds = given["retry_on"] if isinstance(given["retry_on"], list | tuple) else (given["retry_on"],)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"retry_on must be a subclass of Exception, or several in a list or tuple, not {kind!r}")
    return tuple(kinds)


def _classifiers(given: dict[str, Any]) -> tuple[Classifier, ...]:
    if given.get("classifier") is None:
        return ()
    if given.get("enable_classification") is False:
        raise ValueError("classifier and enable_classification=False contradict each other")
    return in_order("classifier", given["classifier"])


def _function(name: str, function: Any, what: str) -> Any:
    if function is not None and not callable(function):
        raise TypeError(f"{name} must be a function {what}, not {function!r}")
    return function


def _fallback(given: dict[str, Any]) -> Any:
    fallback = given.get("fallback", NO_FALLBACK)
    if isinstance(fallback, type):
        raise TypeError(f"fallback must be a value, or a function of the exception; not the class {fallback!r}")
    return fallback


def _plain(name: str, function: Callable[..., Any] | None, what: str) -> Callable[..., Any] | None:
    if function is not None and (not callable(function) or is_async(function)):
        raise TypeError(f"{name} must be a plain function {what}, not {function!r}")
    return function


def _idempotent(given: dict[str, Any]) -> bool:
    reconcile, idempotent = given.get("reconcile"), given.get("idempotent")
    if reconcile is not None and not callable(reconcile):
        raise TypeError(f"reconcile must be a function of the call's arguments, not {reconcile!r}")
    if reconcile is not None and idempotent:
        raise ValueError("reconcile and idempotent=True contradict each other: reconcile implies idempotent=False")
    return idempotent is not False and reconcile is None


def _remember(given: dict[str, Any]) -> float | None:
    if "remember" not in given:
        return None
    if given.get("idempotency_key") is None:
        raise ValueError("remember needs an idempotency_key, by which results are recorded")
    return validation.number("remember", given["remember"], least=0.0)


def _cluster(given: dict[str, Any]) -> ClusterUse:
    use: ClusterUse = given.get("cluster", "optional")
    validation.choice("cluster", use, ("optional", "required"))
    return use


def _on_conflict(given: dict[str, Any]) -> OnConflict:
    choice: OnConflict = given.get("on_conflict", "join")
    validation.choice("on_conflict", choice, ("join", "reject"))
    if "on_conflict" in given and (given.get("idempotency_key") is None or given.get("join") is False):
        raise ValueError(
            f"on_conflict={choice!r} needs an idempotency_key, and calls that join: calls without a key are equal "
            "only if their arguments are"
        )
    return choice


def _join(given: dict[str, Any]) -> bool | None:
    join: bool | None = given.get("join")
    if join and not given.get("resumable") and given.get("idempotency_key") is None:
        raise ValueError("join=True needs resumable=True or an idempotency_key, which tell equal calls from others")
    return join


def _before(given: dict[str, Any]) -> tuple[Condition, ...]:
    several = given.get("before", ())
    several = (several,) if isinstance(several, Condition) else several
    if not isinstance(several, list | tuple) or not all(isinstance(one, Condition) for one in several):
        raise TypeError(
            f"before must be a Condition, or several in a list or tuple, not {given['before']!r}; "
            "a function is for service.bus.subscribe(OperationStarted, function)"
        )
    return tuple(several)


def _claims(given: dict[str, Any]) -> dict[str, Any]:
    claims = given.get("claims", {})
    if not isinstance(claims, Mapping):
        raise TypeError(f"claims must map names of resources to amounts, not {claims!r}")
    for name, needed in claims.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"claims must map names of resources to amounts; {name!r} is no name")
        if callable(needed):
            _plain(f"claims[{name!r}]", needed, "of the call's arguments")
        else:
            validation.number(f"claims[{name!r}]", needed)
    return dict(claims)


def _version(given: dict[str, Any]) -> str:
    version = given.get("version", "")
    if not isinstance(version, str):
        raise TypeError(f"version must be a str, not {version!r}")
    return version
