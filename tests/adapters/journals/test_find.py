"""Calls are found by what people write."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.journals.find import find_call, find_calls, title
from adapters.journals.status import CallStatus, JournalStatus


def call(id_: str, state: str = "waiting", **changes: Any) -> CallStatus:
    known: dict[str, Any] = {
        "call": id_, "operation": "download", "key": "example.org", "name": None, "state": state, "attempt": 1,
        "retries": 0, "restarts": 0, "failures": (), "which": "", "cause": "", "reason": "", "seen": 0.0,
    }  # fmt: skip
    return CallStatus(**known | changes)


def journal(*calls: CallStatus, more: dict[str, int] | None = None) -> JournalStatus:
    return JournalStatus(
        path="calls.db", is_being_written=False, calls=calls, circuits={}, unreadable=0, more=more or {}
    )


def found(text: str, *calls: CallStatus) -> list[str]:
    return [one.call for one in find_calls(journal(*calls), text)]


def test_an_id_is_the_call_and_not_those_that_begin_with_it() -> None:
    assert found("7f3a-1", call("7f3a-10"), call("7f3a-1")) == ["7f3a-1"]


def test_the_unique_beginning_of_an_id_is_enough() -> None:
    assert found("7f3a", call("7f3a-1"), call("8f3a-1")) == ["7f3a-1"]


@pytest.mark.parametrize("text", ["weights", "download weights", "download[example.org]", "download"])
def test_a_call_is_found_by_its_name_and_its_operation(text: str) -> None:
    assert found(text, call("a-1", name="weights"), call("b-1", operation="git", key="", name="nodes")) == ["a-1"]


def test_an_operation_of_its_own_is_found_as_it_is_shown() -> None:
    own = call("a-1", operation="download weights", name="weights")
    assert title(own) == "download weights"
    assert found("download weights", own) == ["a-1"]


def test_a_short_beginning_of_an_id_is_taken_for_a_typing_error() -> None:
    with pytest.raises(LookupError, match="has the id or name '7f3'"):
        found("7f3", call("7f3a-1"))


def test_a_name_that_is_its_kind_is_said_once() -> None:
    assert title(call("a-1", operation="server", name="server")) == "server"


def test_a_name_comes_before_the_beginning_of_an_id() -> None:
    assert found("7f3a", call("7f3a-1"), call("b-1", name="7f3a")) == ["b-1"]


def test_a_function_is_found_without_its_module() -> None:
    assert found("render", call("a-1", operation="shop.jobs.render"), call("b-1")) == ["a-1"]


def test_calls_that_are_not_over_come_before_one_that_is() -> None:
    calls = call("a-1", "gave up", seen=5.0), call("a-2"), call("a-3", "left")
    assert found("download", *calls) == ["a-2", "a-3"]


def test_of_calls_that_are_over_the_latest_is_meant() -> None:
    calls = call("a-1", "gave up", seen=1.0), call("a-3", "succeeded", seen=3.0), call("a-2", "gave up", seen=2.0)
    assert found("download", *calls) == ["a-3"]


def test_several_calls_are_listed_with_what_tells_them_apart() -> None:
    calls = call("a-1", which="https://example.org/1"), call("a-2", which="https://example.org/2")
    with pytest.raises(LookupError, match=r"names 2 calls .* a-1 \(download\[example.org\], https://example.org/1"):
        find_call(journal(*calls), "download")


def test_an_ambiguous_beginning_lists_a_few_and_counts_the_rest() -> None:
    calls = [call(f"abcd-{number}") for number in range(20)]
    with pytest.raises(LookupError, match=r"20 ids .* begin with 'abcd': .* and 12 more; give one of these ids"):
        find_calls(journal(*calls), "abcd")


def test_what_is_not_there_names_what_may_be_meant() -> None:
    with pytest.raises(LookupError, match="do you mean 'weights'"):
        find_calls(journal(call("a-1", name="weights")), "wieghts")


@pytest.mark.parametrize("text", ["", "nothing\x1b[31m"])
def test_what_is_not_there_says_how_to_find_it(text: str) -> None:
    with pytest.raises(LookupError, match="`recovery status` lists them with their ids; 3 older calls") as error:
        find_calls(journal(call("a-1"), more={"succeeded": 3}), text)
    assert "\x1b" not in str(error.value)
