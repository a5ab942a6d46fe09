"""What is wrong with the settings of an operation before any call fails: findings, each with its cure. Pure.

for finding in lint("fetch", config):
    print(finding.text, finding.cure)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from events.evidence import Category
from recovery.explain import counted, duration
from recovery.policies.backoff import delay
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.retry import HOPELESS, NEVER, RetryPolicy, Strategy
from recovery.policies.rules import Rule
from recovery.settings import OperationConfig

LONG = 3600.0
"""Seconds that a call may take to fail without a finding."""

MANY = 5
"""Calls that come back in the same moment where their delays are not randomized."""

MOST_COUNTED = 10_000
"""Retries that are worked out one by one."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    Args:
        rule: What kind of finding it is, for programs.
        table: Where the value stands: "policy", "breaker", "budget" or "rule".
        field: Its name there.
        text: What will happen.
        cure: What to do.
    """

    rule: str
    table: str
    field: str
    text: str
    cure: str


def lint(name: str, config: OperationConfig, *, calls: int | None = None, key: str = "") -> list[Finding]:
    """The findings about an operation.

    Args:
        name: What to call its calls: "fetch".
        config: Its settings.
        calls: How many calls share its circuit, if that is known.
        key: The key that they share, if they share one.
    """
    policy, breaker = config.policy, config.breaker
    of = f" of {key}" if key else ""
    subject = f"a call of {name}" if calls is None else f"{counted(calls, name)}{of}"
    found = [*_ends(subject, config), *_times(policy), *_waits(policy), *_rules(config)]
    if breaker is not None:
        found += _circuit(policy, breaker, config)
    if config.budget is not None:
        found += _budget(config)
    if policy.jitter == "none" and (calls or 0) >= MANY:
        text = f"{subject} come back in the same moment after a failure that they share"
        found.append(_of_policy("no-jitter", "jitter", text, 'set jitter = "full" or "equal"'))
    return found


def longest_failure(policy: RetryPolicy, breaker: BreakerPolicy | None = None, *, waits: bool = False) -> float:
    """The most seconds until a call gives up that always fails in one way; infinite if it need not give up at all.

    It is the same for any number of calls of one circuit: a probe that fails counts for all that wait. The circuit
    opens just before the call begins, or would begin. On top come waits that a server asks for, or that end when a disk
    has room or a person has answered, and attempts without a timeout.

    Args:
        policy: The policy of the call.
        breaker: Of the circuit; ``None`` if there is none.
        waits: Whether a call waits for an open circuit before it begins (``when_open="wait"``).
    """
    told = (c for c, one in policy.per_category.items() if not one.wait_for or one.wait_timeout is None)
    categories = {Category.TRANSIENT, Category.UNREACHABLE, *told}
    longest = max(_until_given_up(policy, breaker, category, waits=waits) for category in categories)
    if policy.max_elapsed is None:
        return longest
    return min(longest, policy.max_elapsed + (policy.attempt_timeout or policy.stall_timeout or 0.0))


def _until_given_up(policy: RetryPolicy, breaker: BreakerPolicy | None, category: Category, *, waits: bool) -> float:
    strategy = policy.per_category.get(category)
    if category in HOPELESS and (strategy is None or category in NEVER):
        return 0.0
    parked = 0.0
    if strategy is not None and strategy.wait_for:
        parked = math.inf if strategy.wait_timeout is None else strategy.wait_timeout
    most = policy.retries_for(category)
    counted_ones = set(Category) - HOPELESS if breaker is None or breaker.categories is None else breaker.categories
    is_counted = breaker is not None and category in counted_ones
    if most is None or (is_counted and waits and breaker is not None and breaker.probe is not None):
        return math.inf
    attempt = policy.attempt_timeout or policy.stall_timeout or 0.0
    total = attempt + (_break(breaker, 0) if waits else 0.0)
    if breaker is not None and waits and not is_counted:
        total += attempt * breaker.half_open_successes  # probes of other calls: each answer is a success
    previous = 0.0
    for retry in range(1, min(most, MOST_COUNTED) + 1):
        previous = longest_delay(policy, strategy, retry, previous)
        pause = _break(breaker, retry - (not waits)) if is_counted else 0.0
        # A circuit may open in the moment in which the first retry is due.
        total += attempt + (previous + pause if retry == 1 and not waits else max(previous, pause))
    return total * max(1.0, most / MOST_COUNTED) + parked


def _break(breaker: BreakerPolicy | None, number: int) -> float:
    """The most seconds of the break after that many failed probes."""
    if breaker is None:
        return 0.0
    grown = breaker.break_duration * breaker.break_growth ** min(number, 100)
    return min(grown, max(breaker.max_break, breaker.break_duration)) * (1.0 + breaker.break_jitter)


def longest_delay(policy: RetryPolicy, strategy: Strategy | None, retry: int, previous: float = 0.0) -> float:
    """The most seconds before that *retry*, without what a server asks for."""
    fields = [policy.backoff, policy.jitter, policy.max_delay]
    for number, name in enumerate(("backoff", "jitter", "max_delay")):
        if strategy is not None and getattr(strategy, name) is not msgspec.UNSET:
            fields[number] = getattr(strategy, name)
    try:
        return delay(*fields, retry=retry, previous=previous, draw=1.0)  # type: ignore[arg-type]  # in this order
    except Exception:  # a function of the user's, which need not bear any number
        return 0.0


def _of_policy(rule: str, field: str, text: str, cure: str) -> Finding:
    return Finding(rule=rule, table="policy", field=field, text=text, cure=cure)


def _ends(subject: str, config: OperationConfig) -> Iterator[Finding]:
    policy, breaker, waits = config.policy, config.breaker, config.when_open == "wait"
    longest = longest_failure(policy, breaker, waits=waits)
    if longest == math.inf:
        field, why = _without_limit(policy)
        yield _of_policy("no-limit", field, f"{subject} may never end: {why}", "set max_elapsed")
    elif longest > LONG:
        most = policy.most_retries
        also = "" if breaker is None else " and the breaks of the circuit"
        why = "max_elapsed" if most is None else f"{'1 retry' if most == 1 else f'{most} retries'}{also}"
        is_bounded = policy.max_elapsed is not None
        yield _of_policy(
            "slow-to-fail",
            "max_elapsed" if is_bounded else "max_retries",
            f"{subject} may take {duration(longest)} to fail ({why})",
            "set a shorter max_elapsed" if is_bounded else "set max_elapsed, or fewer max_retries",
        )


def _without_limit(policy: RetryPolicy) -> tuple[str, str]:
    if policy.most_retries is None:
        return "max_retries", "max_retries sets no limit, and neither does max_elapsed"
    for category, strategy in policy.per_category.items():
        if strategy.wait_for and strategy.wait_timeout is None:
            return "per_category", f"what it waits for when it is {category} has no wait_timeout"
    return "max_elapsed", "it waits for the health probe of its circuit for as long as that fails"


def _times(policy: RetryPolicy) -> Iterator[Finding]:
    first = longest_delay(policy, None, 1)
    longest = policy.max_elapsed
    if longest is not None and policy.max_retries != 0 and longest <= first:
        text = f"max_elapsed of {duration(longest)} is over before the first retry, which may come after "
        text += duration(first)
        yield _of_policy("no-retry", "max_elapsed", text, "set a longer max_elapsed, or a shorter first delay")
    for name in ("attempt_timeout", "stall_timeout"):
        seconds = getattr(policy, name)
        if longest is not None and seconds is not None and seconds >= longest:
            text = f"{name} of {duration(seconds)} is as long as the whole call may take ({duration(longest)})"
            yield _of_policy("timeout-too-long", name, text, f"set a shorter {name}, or a longer max_elapsed")
    attempt, stall = policy.attempt_timeout, policy.stall_timeout
    if attempt is not None and stall is not None and stall >= attempt:
        text = f"stall_timeout of {duration(stall)} has no effect: attempt_timeout ends the attempt after "
        text += duration(attempt)
        yield _of_policy("timeout-without-effect", "stall_timeout", text, "set a shorter stall_timeout")


def _waits(policy: RetryPolicy) -> Iterator[Finding]:
    for category, strategy in policy.per_category.items():
        slow = [one for one in strategy.wait_for if getattr(one, "every", 0.0) >= (strategy.wait_timeout or math.inf)]
        for condition in slow:
            text = f"{condition} is looked at every {duration(getattr(condition, 'every', 0.0))}, and a call that is "
            text += f"{category} waits for {duration(strategy.wait_timeout or 0.0)}"
            yield _of_policy("wait-too-short", "per_category", text, "set a longer wait_timeout")


def _rules(config: OperationConfig) -> Iterator[Finding]:
    longest = config.policy.max_elapsed
    for rule in config.classifiers:
        if (
            isinstance(rule, Rule)
            and rule.retry_after is not None
            and longest is not None
            and rule.retry_after >= longest
        ):
            text = f"rule {rule.name!r} asks to wait {duration(rule.retry_after)}, and max_elapsed ends the call after "
            text += f"{duration(longest)}: it is never retried"
            yield Finding(
                rule="wait-too-long", table="rule", field="retry_after", text=text, cure="set a longer max_elapsed"
            )


def _circuit(policy: RetryPolicy, breaker: BreakerPolicy, config: OperationConfig) -> Iterator[Finding]:
    for name in ("attempt_timeout", "stall_timeout"):
        seconds = getattr(policy, name)
        if seconds is not None and seconds > breaker.lease:
            text = f"a probe may take {duration(seconds)} ({name}), and another call probes beside it after "
            text += f"{duration(breaker.lease)} (lease)"
            cure = f"set lease to at least {seconds:g}"
            yield Finding(rule="lease-too-short", table="breaker", field="lease", text=text, cure=cure)
    longest = policy.max_elapsed
    if config.when_open == "wait" and longest is not None and longest <= breaker.break_duration:
        text = "a call that finds the circuit open ends without an attempt: the break lasts "
        text += f"{duration(breaker.break_duration)}, and the call {duration(longest)} (max_elapsed)"
        cure = "set a shorter break_duration, or a longer max_elapsed"
        yield Finding(rule="break-too-long", table="breaker", field="break_duration", text=text, cure=cure)


def _budget(config: OperationConfig) -> Iterator[Finding]:
    budget, most = config.budget, config.policy.most_retries
    assert budget is not None
    if most is not None and budget.reserve < most:
        text = f"one call may retry {most} times, and the budget has {budget.reserve:g} retries for all calls together"
        cure = f"set reserve to at least {most}, or fewer max_retries"
        yield Finding(rule="budget-too-small", table="budget", field="reserve", text=text, cure=cure)
    if budget.ratio == budget.per_second == 0.0:
        text = f"the budget is used up after {budget.reserve:g} retries, for good"
        yield Finding(rule="budget-ends", table="budget", field="ratio", text=text, cure="set ratio or per_second")
