"""Laws of resource claims: what is admitted fits, nothing is leaked, no call is overtaken or starved."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from recovery.policies.resources import ResourceClaims, amount

RESOURCES = ("disk", "vram")
AMOUNTS = st.integers(0, 10).map(float)
NEEDS = st.dictionaries(st.sampled_from(RESOURCES), st.integers(1, 10).map(float), min_size=1)


class Claims(RuleBasedStateMachine):
    """Calls come, progress, go on and end in any order, while others use the resources too."""

    calls: Bundle[str] = Bundle("calls")

    @initialize(disk=AMOUNTS, vram=AMOUNTS)
    def begin(self, disk: float, vram: float) -> None:
        self.claims = ResourceClaims()
        self.free = {"disk": disk, "vram": vram}
        self.needs: dict[str, dict[str, float]] = {}
        self.number = 0

    def _is_told(self, before: set[str]) -> None:
        """What has been admitted since *before* fits, beside what was admitted then."""
        for resource in RESOURCES:
            if any(resource in self.needs[call] for call in set(self.claims.admitted) - before):
                assert self.claims.claimed(resource)[0] <= self.free[resource]

    @rule(target=calls, needs=NEEDS)
    def ask(self, needs: dict[str, float]) -> str:
        call, before = f"call-{self.number}", set(self.claims.admitted)
        self.number += 1
        self.needs[call] = needs
        shortage = self.claims.ask(call, needs, self.free.get)
        assert (shortage is None) is (call in self.claims.admitted) is (call not in self.claims.line)
        self._is_told(before)
        return call

    @rule(call=calls)
    def ask_again(self, call: str) -> None:
        before = set(self.claims.admitted)
        self.claims.ask(call, self.needs[call], self.free.get)
        assert before <= set(self.claims.admitted)
        self._is_told(before)

    @rule(call=consumes(calls))
    def end(self, call: str) -> None:
        before = set(self.claims.admitted)
        self.claims.release(call)
        del self.needs[call]
        admitted = self.claims.admit_next(self.free.get)
        assert set(self.claims.admitted) == (before - {call}) | set(admitted)
        self._is_told(before)

    @precondition(lambda self: self.claims.admitted)
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        """A call uses a part of its claim, which is then no longer free."""
        call = data.draw(st.sampled_from(sorted(self.claims.admitted)))
        resource = data.draw(st.sampled_from(sorted(self.claims.admitted[call])))
        used = data.draw(st.integers(0, int(self.claims.admitted[call][resource])))
        self.claims.reduce(call, resource, self.claims.admitted[call][resource] - used)
        self.free[resource] -= used

    @rule(resource=st.sampled_from(RESOURCES), now=AMOUNTS)
    def change(self, resource: str, now: float) -> None:
        """Another program uses or frees some."""
        self.free[resource] = now

    @invariant()
    def nothing_is_leaked(self) -> None:
        assert set(self.claims.admitted) | set(self.claims.line) == set(self.needs)
        assert not set(self.claims.admitted) & set(self.claims.line)
        if not self.needs:
            assert [self.claims.claimed(resource) for resource in RESOURCES] == [(0, 0)] * 2

    @invariant()
    def no_call_waits_for_a_later_one(self) -> None:
        """The first call of the line waits for what is short, not for others."""
        if self.claims.line:
            first, needs = next(iter(self.claims.line.items()))
            shortage = self.claims.ask(first, needs, self.free.get)
            if shortage is not None:
                assert shortage.ahead == 0
                assert shortage.free is not None
                assert shortage.claimed + shortage.needed > shortage.free


TestClaims = Claims.TestCase
TestClaims.settings = settings(max_examples=25, stateful_step_count=20)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(5, 10))
def test_a_call_in_line_is_overtaken_by_no_later_call_with_a_claim_on_its_resource(sizes: list[int], total: int):
    claims, order = ResourceClaims(), []
    claims.ask("first", {"vram": float(total)}, lambda _: float(total))
    for number, size in enumerate([5, *sizes]):
        claims.ask(f"{number}", {"vram": float(size)}, lambda _: float(total))
    assert list(claims.admitted) == ["first"]
    while claims.admitted:
        claims.release(next(iter(claims.admitted)))
        order += claims.admit_next(lambda _: float(total))
    assert order == [str(number) for number in range(len(sizes) + 1)]


def test_a_call_with_other_claims_passes_a_call_in_line():
    claims = ResourceClaims()
    claims.ask("big", {"vram": 2.0}, {"vram": 1.0, "disk": 1.0}.get)
    assert claims.ask("small", {"disk": 1.0}, {"vram": 1.0, "disk": 1.0}.get) is None
    shortage = claims.ask("later", {"vram": 1.0}, {"vram": 1.0}.get)
    assert shortage is not None
    assert shortage.text() == "needs 1 of vram; 1 are free, 1 call came earlier"


def test_a_shortage_says_what_is_short_and_why():
    claims = ResourceClaims()
    for number in range(3):
        claims.ask(f"{number}", {"disk:2049": 4e9}, lambda _: 21.1e9)
    shortage = claims.ask("next", {"disk:2049": 14.2e9}, lambda _: 21.1e9)
    assert shortage is not None
    assert shortage.text("disk:models", "B") == (
        "needs 14.2 GB of disk:models; 21.1 GB are free, 12 GB are claimed by 3 calls"
    )
    unknown = ResourceClaims().ask("next", {"vram": 1.0}, lambda _: None)
    assert unknown is not None
    assert unknown.text() == "needs 1 of vram; how much is free is unknown"
    assert [amount(number, "B") for number in (0.0, 999.0, 1500.0, 2e12)] == ["0 B", "999 B", "1.5 kB", "2 TB"]
