"""Which prompts may be posted next."""

from __future__ import annotations

from adapters.comfyui.turns import InServer, Waiting, in_order, may_post


def test_priorities_come_first_and_then_the_order_of_asking():
    waiting = [
        Waiting("low", 1.0, "low"),
        Waiting("second", 3.0),
        Waiting("suspected", 0.0, "high", is_suspected=True),
        Waiting("first", 2.0),
        Waiting("high", 9.0, "high"),
    ]
    order = ["high", "first", "second", "low", "suspected"]
    assert [one.id for one in in_order(waiting)] == order
    assert may_post(waiting, [], window=10) == tuple(order[:-1])
    assert may_post(waiting, [InServer("a")], window=2) == ("high",)


def test_prompts_of_other_clients_take_no_room_and_keep_a_suspected_one_waiting():
    foreign = [InServer()] * 5
    assert may_post([Waiting("a", 1.0)], foreign, window=1) == ("a",)
    assert may_post([Waiting("a", 1.0, is_suspected=True)], foreign) == ()


def test_the_work_grows_with_those_that_wait_and_not_faster():
    class Counted(float):
        compared = 0

        def __lt__(self, other: object) -> bool:
            Counted.compared += 1
            return float(self) < other

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return float(self) == other

        __hash__ = float.__hash__

    waiting = [Waiting(str(number), Counted(-number)) for number in range(10_000)]
    assert may_post(waiting, [InServer("a"), InServer("b")]) == ()
    assert Counted.compared == 0
    assert may_post(waiting, [InServer("a")]) == ("9999",)
    assert Counted.compared < 100_000
