"""Where a call stands: what a leg leaves is what the next one begins with."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from adapters.nats.names import name_of
from adapters.nats.record import CallRecord, Standing
from adapters.nats.standing import leased_call, standing_of
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from recovery.leased import LeasedCall, later

SECONDS = st.floats(0.0, 1e6)
FAILURE = FailureClassified(
    operation="render", call="render/a@3", attempt=2, at=5.0, category=Category.TRANSIENT, evidence=Evidence(type="E")
)
CALLS = st.builds(
    LeasedCall,
    id=st.sampled_from(["render/a", "render/~00112233aabbccdd"]),
    fence=st.just(3),
    attempt=st.integers(1, 9),
    retries=st.integers(0, 9),
    elapsed=SECONDS,
    delay=SECONDS,
    within=st.none() | SECONDS,
    looks=st.integers(0, 9),
    is_parked=st.booleans(),
    failure=st.none() | st.just(FAILURE),
    has_failed=st.booleans(),
    is_cut_off=st.booleans(),
    done=SECONDS,
    progress_resets=st.integers(0, 9),
    deaths=st.integers(0, 9),
)


def read_back(standing: Standing) -> Standing:
    return msgspec.json.decode(msgspec.json.encode(standing), type=Standing)


@given(CALLS, SECONDS, SECONDS)
def test_a_call_goes_on_where_it_was_left(call: LeasedCall, now: float, passed: float) -> None:
    standing = read_back(standing_of(call, now + 1.0)).at(now + 1.0 + passed)
    record = CallRecord(call=call.id, operation="render", fence=3, standing=standing)
    found, expected = leased_call(record, b"[[],{}]"), later(call, (now + 1.0 + passed) - (now + 1.0))
    assert msgspec.structs.replace(found, idempotency_key="") == expected
    assert found.idempotency_key == ("a" if call.id == "render/a" else "")


def test_a_call_that_has_not_begun_has_no_age() -> None:
    record = CallRecord(call=name_of("render", "a").call, operation="render", standing=Standing().at(1e6))
    assert leased_call(record).elapsed == 0.0
