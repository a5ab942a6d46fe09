"""The laws of steps: whatever fails and whenever the process dies, all have their effect in the end, or none has."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from adapters.launcher import saga
from adapters.launcher.saga import Ask, Begin, Do, End, OnCrash, RunRecord, Undo

STEPS = ("move", "install", "clean")
ON_CRASH: st.SearchStrategy[OnCrash] = st.sampled_from(["finish", "undo"])


class Runs(RuleBasedStateMachine):
    """A run whose steps succeed, fail, are done in part, and whose process dies between any two of these."""

    @initialize(on_crash=ON_CRASH)
    def start(self, on_crash: OnCrash) -> None:
        self.on_crash: OnCrash = on_crash
        self.lives, self.is_over = 1, False
        self.effects = dict.fromkeys(STEPS, "none")  # "none", "half" or "whole"
        self.forward: list[str] = []
        self.back: list[str] = []
        self.record = self.committed(saga.taken_up(RunRecord(steps=STEPS, process="1"), "1", on_crash))

    def committed(self, record: RunRecord) -> RunRecord:
        return msgspec.json.decode(msgspec.json.encode(record), type=RunRecord)

    @property
    def action(self) -> saga.Action:
        return saga.next_action(self.record, STEPS)

    def commit(self, record: RunRecord) -> None:
        self.record = self.committed(record)

    @precondition(lambda self: isinstance(self.action, Begin))
    @rule()
    def begins(self) -> None:
        found = self.action
        assert isinstance(found, Begin)
        self.commit(saga.begin(self.record, found.step, None))

    @precondition(lambda self: isinstance(self.action, Do))
    @rule(how_far=st.sampled_from(["none", "half", "whole"]), is_committed=st.booleans())
    def runs(self, how_far: str, is_committed: bool) -> None:
        """A step runs; its process may die before the result is committed."""
        found = self.action
        assert isinstance(found, Do)
        assert found.step not in self.record.results, "it was done already"
        self.forward.append(found.step)
        self.effects[found.step] = how_far
        if how_far == "whole" and is_committed:
            self.commit(saga.finish(self.record, found.step))
        elif how_far != "whole" and is_committed:
            self.commit(saga.given_up(self.record, found.step, "it failed"))
        else:
            self.dies()

    @precondition(lambda self: isinstance(self.action, Ask))
    @rule()
    def is_asked(self) -> None:
        found = self.action
        assert isinstance(found, Ask)
        is_there = self.effects[found.step] == "whole"
        self.commit(saga.finish(self.record, None) if is_there else saga.not_there(self.record))

    @precondition(lambda self: isinstance(self.action, Undo))
    @rule(is_committed=st.booleans())
    def undoes(self, is_committed: bool) -> None:
        found = self.action
        assert isinstance(found, Undo)
        self.effects[found.step.name] = "none"
        self.back.append(found.step.name)
        if is_committed:
            self.commit(saga.undone(self.record))
        else:
            self.dies()

    @rule()
    def dies(self) -> None:
        self.lives += 1
        self.commit(saga.taken_up(self.record, str(self.lives), self.on_crash))

    @precondition(lambda self: isinstance(self.action, End))
    @rule()
    def ends(self) -> None:
        found = self.action
        assert isinstance(found, End)
        assert set(self.effects.values()) == ({"none"} if found.is_undone else {"whole"})

    @invariant()
    def effects_are_journalled(self) -> None:
        """A step that is neither open nor being undone has had its effect in whole, or not at all."""
        uncertain = self.record.begun[-1:] if self.record.why else [self.record.open] if self.record.open else []
        for step, effect in self.effects.items():
            if step not in [one.name for one in uncertain]:
                assert effect == ("whole" if step in self.record.results else "none")

    @invariant()
    def steps_are_undone_in_the_reverse_of_their_order(self) -> None:
        order = [STEPS.index(step) for step in dict.fromkeys(self.back)]
        assert order == sorted(order, reverse=True)


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

NAMES = st.lists(st.sampled_from("abcde"), unique=True, max_size=4)


@given(then=NAMES, now=NAMES, done=st.integers(0, 4), is_open=st.booleans())
def test_a_run_whose_steps_have_changed_goes_on_only_if_a_person_says_so(
    then: list[str], now: list[str], done: int, is_open: bool
) -> None:
    record = RunRecord(steps=tuple(then), process="1")
    for step in then[:done]:
        record = saga.finish(saga.begin(record, step, None), step)
    if is_open and done < len(then):
        record = saga.begin(record, then[done], None)
    names = [one.name for one in record.begun]
    is_asked = isinstance(saga.next_action(record, now), saga.AskPerson)
    assert is_asked == (now[: len(names)] != names)
    again, order = saga.adapted(record, now)
    assert {*order} == {*names, *now}
    assert not isinstance(saga.next_action(again, order), saga.AskPerson)
    assert again.open is None or again.open.name in now


@given(st.lists(st.booleans(), min_size=1, max_size=4), st.booleans())
def test_what_a_person_gives_up_is_said_to_be_there(kept: list[bool], is_left: bool) -> None:
    record: Any = RunRecord(steps=tuple("abcd"))
    for step in "abcd":
        record = saga.finish(saga.begin(record, step, None), None)
    record = saga.given_up(record, "d", "it failed")
    for is_kept in kept[: len(kept) - is_left]:
        record = saga.undone(record, is_kept=is_kept)
    record = saga.left(record)
    assert saga.next_action(record, tuple("abcd")) == End(is_undone=True)
    assert sorted(record.undone + record.kept) == list("abcd")
    assert all(step in saga.told(record) for step in "abcd")
