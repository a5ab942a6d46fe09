"""What a record says of a call whose worker has died, every release can read."""

from __future__ import annotations

import msgspec

from adapters.nats.names import name_of
from adapters.nats.record import CallRecord
from adapters.nats.standing import leased_call, standing_of
from adapters.nats.transitions import submitted
from recovery import leased


def test_a_record_of_a_call_whose_worker_died_without_a_failure_can_be_read() -> None:
    record = submitted(name_of("render", "one"), b"[[],{}]", 5.0).record
    standing = standing_of(leased.after_death(leased_call(record)), 6.0)
    record = msgspec.structs.replace(record, standing=standing)
    assert msgspec.json.decode(msgspec.json.encode(record), type=CallRecord) == record
    assert standing.has_failed
