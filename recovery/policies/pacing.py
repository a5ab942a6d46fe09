"""How long a server asks its clients to wait, by the headers of an answer, and how a call keeps to it. Pure.

Servers say it as seconds with or without decimals, as milliseconds, as a date, as the moment at which a quota is
renewed (seconds or milliseconds since 1970), or as a duration such as ``6m0s``.

Source: RFC 9110, 10.2.3; draft-ietf-httpapi-ratelimit-headers-10; the documentation of GitHub's, Discord's, Azure's,
OpenAI's and Anthropic's APIs; gRPC's proposal A6.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache

from recovery.policies.backoff import Backoff, base_delay

DIRECT = (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("grpc-retry-pushback-ms", 0.001),
          ("retry-after", 1.0))  # fmt: skip
"""Headers that ask for a wait, with their unit in seconds; the first that can be read decides."""

QUOTAS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("x-ratelimit-remaining", ("x-ratelimit-reset-after", "x-ratelimit-reset")),
    ("x-rate-limit-remaining", ("x-rate-limit-reset",)),
    ("ratelimit-remaining", ("ratelimit-reset",)),
    *((f"x-ratelimit-remaining-{of}", (f"x-ratelimit-reset-{of}",)) for of in ("requests", "tokens")),
    *(
        (f"anthropic-ratelimit-{of}-remaining", (f"anthropic-ratelimit-{of}-reset",))
        for of in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
)
"""What is left of a quota, and when it is renewed: the first of these headers that can be read decides."""

HEADERS = frozenset(
    {"date", "ratelimit", "x-should-retry", *(name for name, _ in DIRECT)}
    | {name for left, resets in QUOTAS for name in (left, *resets)}
)
"""The headers that are read, in lower case; "x-should-retry" says whether, not when."""

EPOCH = 1e9
"""A larger number is no number of seconds to wait, but a moment: seconds since 1970, or above 1e11 milliseconds."""

LONGEST = 64
"""Characters of a date."""

NUMBER = r"[0-9]{1,18}(?:\.[0-9]{0,18})?"
DURATION = (
    r"(?=.)(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9}(?:\.[0-9]{0,9})?)s)?(?:([0-9]{1,9}(?:\.[0-9]{0,9})?)ms)?"
)
NONE_LEFT = r"0{1,9}(?:\.0{0,9})?|-[0-9]{1,18}"
QUOTA = r";\s*([rt])=([0-9]{1,18})(?![0-9])"

RATE_LIMIT = "rate limit"
"""With what the causes begin that a call waits for if a server has asked for that wait."""

SPREAD = 0.25
"""Share of a wait over which the calls that it holds resume, each at a random moment..."""

MAX_SPREAD = 5.0
"""...and the most seconds that this is."""

UNTOLD_LIMIT = 10.0
"""How many times longer than other failures a rate limit is waited for if the server does not say how long..."""

MOST_UNTOLD = 60.0
"""...and to how many seconds that extends a delay."""


def spread(wait: float) -> float:
    """The most seconds by which a call resumes later than the *wait* that a server asked for: not all come at once."""
    return min(wait * SPREAD, MAX_SPREAD)


def slower(backoff: Backoff) -> Backoff:
    """*backoff* for a rate limit of unknown length: the server wants fewer requests than after other failures."""

    def delay_before(retry: int) -> float:
        base = base_delay(backoff, retry)
        return max(base, min(UNTOLD_LIMIT * base, MOST_UNTOLD))

    return delay_before


def asked_to_wait(headers: Mapping[str, str], status: int | None, now: float) -> float | None:
    """Seconds that a server asks its client to wait, ``None`` if it does not say so.

    A date counts by the server's own clock where the answer has a ``Date``. An exhausted quota counts until it is
    renewed; a quota whose rest is not told counts as exhausted by a 429 alone. Fractions are rounded up to 0.01 s,
    the distance of two moments to 1 s.

    Args:
        headers: Names in lower case, of ``HEADERS``.
        status: The HTTP status of the answer.
        now: The time by the local clock, in seconds since 1970.
    """
    sent = _moment(headers.get("date", ""))
    clock = now if sent is None else sent
    for name, unit in DIRECT:
        wait = seconds_of(headers.get(name, ""), clock, unit=unit)
        if wait is not None:
            return wait
    waits = []
    for quota in headers.get("ratelimit", "").split(","):
        found = {name: int(value) for name, value in _compiled(QUOTA).findall(quota)}
        if found.get("r") == 0 and "t" in found:
            waits.append(found["t"] + 1.0)  # as it is rounded
    for left, resets in QUOTAS:
        rest = headers.get(left)
        if status == 429 if rest is None else _compiled(NONE_LEFT).fullmatch(rest.strip()):
            every = (seconds_of(headers.get(name, ""), clock) for name in resets)
            wait = next((wait for wait in every if wait is not None), None)
            if wait is not None:
                waits.append(wait + 1.0 if left == "ratelimit-remaining" else wait)
    return max(waits, default=None)


def seconds_of(text: str, clock: float, *, unit: float = 1.0) -> float | None:
    """Seconds from *clock* until what *text* says: a number, a duration or a moment; ``None`` if it is none of these.

    Args:
        text: ``5``, ``2.5``, ``6m0s``, ``1790000000``, ``Fri, 20 Mar 2026 10:00:00 GMT``, ``2026-03-20T10:00:00Z``.
        clock: The time from which moments count, in seconds since 1970.
        unit: Seconds of a plain number's unit.
    """
    text = text.strip()
    if _compiled(NUMBER).fullmatch(text):
        number = float(text) * unit
        if number < EPOCH:
            return rounded_up(number, 0.01)
        moment: float | None = number if number < 100 * EPOCH else number / 1000
    elif text and (parts := _compiled(DURATION).fullmatch(text)):
        units = (3600.0, 60.0, 1.0, 0.001)
        return rounded_up(sum(float(part or 0) * size for part, size in zip(parts.groups(), units, strict=True)), 0.01)
    else:
        moment = _moment(text)
    return None if moment is None else rounded_up(max(0.0, moment - clock), 1.0)


def rounded_up(seconds: float, step: float) -> float:
    """*seconds* as the next multiple of *step*; what a float adds to a decimal number is no reason to go on."""
    return round(math.ceil(round(seconds / step, 4)) * step, 4)


def _moment(text: str) -> float | None:
    """A date of HTTP (RFC 9110, 5.6.7) or of ISO 8601 in seconds since 1970; without a zone it is UTC."""
    if not text or len(text) > LONGEST or text.isdigit():  # Python takes some numbers for dates
        return None
    for parse in _readers_of_dates():
        try:
            date = parse(text)
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
    return None


@cache
def _readers_of_dates() -> tuple[Callable[[str], datetime], ...]:
    from email.utils import parsedate_to_datetime  # here, for dates alone: it takes milliseconds

    return parsedate_to_datetime, datetime.fromisoformat


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)  # when it is first needed: importing recovery stays light
