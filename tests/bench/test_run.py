from __future__ import annotations

from bench.measure import Spread
from bench.row import Row
from bench.run import Group, pooled


def group(*middles: float | None, error: str = "") -> Group:
    rows = []
    for number, middle in enumerate(middles):
        found = Spread(middle or 0.0, middle or 0.0, middle or 0.0, 1)
        measured = None if middle is None else found
        rows.append(Row(key=str(number), what="", unit="x", measured=measured, peers={"peer": found.scaled(2.0)}))
    return Group("success", "A call that succeeds", 1.0, rows, error)


def test_several_processes_are_pooled_for_us_and_for_peers():
    found = pooled([group(1.0, 5.0), group(3.0, 4.0), group(1.1, 6.0)])
    assert [row.measured.middle for row in found.rows if row.measured] == [1.1, 5.0]
    assert [row.peers["peer"].middle for row in found.rows] == [2.2, 10.0]
    assert found.seconds == 3.0


def test_a_process_that_could_not_measure_is_reported():
    assert pooled([group(1.0), group(error="no such module")]).error == "no such module"
    assert pooled([group(1.0), group(None)]).rows[0].measured is None
