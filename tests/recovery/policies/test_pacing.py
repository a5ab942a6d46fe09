"""How long servers ask their clients to wait, as they really say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.policies.pacing import HEADERS, asked_to_wait, seconds_of

NOW = datetime(2026, 3, 20, 10, 0, tzinfo=UTC)
CLOCK = NOW.timestamp()
LATER = NOW + timedelta(seconds=45)
EPOCH = int(LATER.timestamp())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "299.997"}, 300.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "2.1"}, 2.1),
        ({"retry-after-ms": "2500"}, 2.5),
        ({"retry-after-ms": "2500", "retry-after": "3"}, 2.5),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"x-ms-retry-after-ms": "34"}, 0.04),
        ({"grpc-retry-pushback-ms": "1500"}, 1.5),
        ({"grpc-retry-pushback-ms": "-1"}, None),
        ({"retry-after": str(EPOCH)}, 45.0),
        ({"retry-after": LATER.isoformat()}, 45.0),
        ({"x-ratelimit-reset-after": "1.25"}, 1.25),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset-after": "1.25", "x-ratelimit-reset": str(EPOCH)}, 1.25),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH)}, 45.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{EPOCH}000"}, 45.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{EPOCH - 0.6}"}, 45.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "45"}, 45.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH - 90)}, 0.0),
        ({"x-ratelimit-remaining": "7", "x-ratelimit-reset": str(EPOCH)}, None),
        ({"x-rate-limit-remaining": "0", "x-rate-limit-reset": str(EPOCH)}, 45.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0.5s"}, 360.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-03-20T10:00:45Z"}, 45),
        ({"ratelimit": '"api";r=0;t=55'}, 56.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "30"}, 31.0),
        ({"retry-after": "a while"}, None),
        ({"retry-after": "1" * 400}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "tomorrow"}, None),
    ],
)
def test_a_server_is_waited_for_as_long_as_it_says(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_to_wait(headers, 429, CLOCK) == seconds


@pytest.mark.parametrize("hours", [-1, 0, 1])
@pytest.mark.parametrize("header", ["retry-after", "x-ratelimit-reset"])
def test_a_date_counts_by_the_servers_own_clock(header: str, hours: int) -> None:
    later = format_datetime(LATER, usegmt=True) if header == "retry-after" else str(EPOCH)
    headers = {header: later, "date": format_datetime(NOW, usegmt=True)}
    assert asked_to_wait(headers, 429, CLOCK + hours * 3600) == 45.0


@pytest.mark.parametrize("status", [403, 503, None])
def test_a_reset_alone_is_no_wish_except_with_a_429(status: int | None) -> None:
    headers = {"x-ratelimit-reset": str(EPOCH)}
    assert (asked_to_wait(headers, status, CLOCK), asked_to_wait(headers, 429, CLOCK)) == (None, 45.0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1h", 3600.0), ("1h2m3s", 3723.0), ("34.074s", 34.08), ("", None), ("s", None)]
)
def test_a_duration_is_read_in_its_units(text: str, seconds: float | None) -> None:
    assert seconds_of(text, CLOCK) == seconds


@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), st.text() | st.from_regex(r"\A[0-9:., TZGMhms+-]{0,40}\Z")))
def test_no_header_breaks_the_reading_of_headers(headers: dict[str, str]) -> None:
    asked = asked_to_wait(headers, 429, CLOCK)
    assert asked is None or asked >= 0.0
