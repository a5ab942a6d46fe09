"""What is defined again: the same operation with the new settings, one beside it, or a refusal that says why."""

from __future__ import annotations

import contextlib
import functools
import gc
import types
from collections.abc import Callable
from typing import Any

import pytest

from events.errors import CallRejectedError
from recovery.execution.decorator import recovery_of
from recovery.policies.backoff import Linear
from recovery.policies.budget import RetryBudget
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.testing import Script
from tests.steps import steps_of

FAST: dict[str, Any] = {"initial_delay": 0.0}
BUDGET = RetryBudget(reserve=5.0, ratio=0.0, per_second=0.0)
NAMES = ["", "'fetch', "]


def run_cell(service: Recovery, code: str, **names: Any) -> Any:
    """The function ``fetch`` that a cell of a notebook defines."""
    module = types.ModuleType("notebook")
    vars(module).update(service=service, **names)
    exec(compile(code, "<cell>", "exec"), vars(module))
    return module.fetch


def cell(settings: str, name: str = "") -> str:
    return f"@service.recoverable({name}{settings})\ndef fetch(url='u', script=lambda: None):\n    return script()\n"


def name_of(function: Callable[..., Any]) -> str:
    return recovery_of(function).operation.name


def tries(call: Callable[..., Any]) -> int:
    script = Script(*[ConnectionError()] * 99)
    with contextlib.suppress(ConnectionError):
        call("u", script=script)
    return script.calls


@pytest.mark.parametrize("name", NAMES, ids=["own name", "chosen name"])
@pytest.mark.parametrize(
    "settings",
    [
        "key=lambda url, **_: url",
        "max_retries=2",
        "classifier=[lambda _: None]",
        "policy=__import__('recovery').RetryPolicy(backoff=lambda n: n)",
    ],
)
def test_a_cell_that_runs_again_is_the_same_operation(name: str, settings: str) -> None:
    service = Recovery()
    first = run_cell(service, cell(settings, name))
    again = run_cell(service, cell(settings, name))
    assert recovery_of(again).operation is recovery_of(first).operation


@pytest.mark.parametrize("name", NAMES, ids=["own name", "chosen name"])
def test_a_changed_cell_changes_the_settings_of_its_operation(name: str) -> None:
    service = Recovery()
    first = run_cell(service, cell("max_retries=1, initial_delay=0", name))
    again = run_cell(service, "\n" + cell("max_retries=3, initial_delay=0, key=lambda url, **_: url", name))
    assert name_of(again) == name_of(first)
    assert (tries(first), tries(again), tries(first)) == (2, 4, 2)


def test_a_call_under_way_keeps_its_settings_when_its_function_is_defined_again() -> None:
    service = Recovery()
    old = run_cell(service, cell("max_retries=4, initial_delay=0"))
    new: list[Any] = []

    class DefiningScript(Script):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if self.calls == 1:
                new.append(run_cell(service, cell("max_retries=0")))
            return super().__call__(*args, **kwargs)

    script = DefiningScript(*[ConnectionError()] * 99)
    with pytest.raises(ConnectionError):
        old(script=script)
    assert (script.calls, tries(new[0])) == (5, 1)


def test_a_plain_function_may_become_an_async_one_and_keeps_its_circuit() -> None:
    service = Recovery()
    service.circuits.force("notebook.fetch", "open")
    plain = run_cell(service, cell(""))
    again = run_cell(service, "@service.recoverable\nasync def fetch(): ...")
    with pytest.raises(CallRejectedError):
        again().send(None)
    del plain  # until here: an operation whose functions are gone is forgotten with its circuit


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"max_retries": 3}, {"max_retries": 5}, r"max_retries was 3 and is 5\."),
        ({"initial_delay": 1.0}, {}, r"backoff was Exponential\(initial=1.0"),
        (
            {"policy": RetryPolicy(backoff=Linear(1.0, 1.0))},
            {"jitter": "none"},
            r"backoff was Linear.*; jitter was 'full' and is",
        ),
        ({"circuit_breaker_threshold": 2}, {}, "circuit_breaker_threshold was 2 and is 5"),
        ({"breaker": None}, {}, "breaker was None"),
        ({"enable_logging": True}, {}, "enable_logging was True and is None"),
        ({"classifier": lambda _: None}, {"classifier": lambda _: ...}, "classifier is another function"),
        ({"classifier": lambda _: None}, {}, r"classifier was \(<function"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_other_settings_for_a_chosen_name_are_refused_by_their_names(before: Any, after: Any, told: str) -> None:
    service = Recovery()
    service.recoverable("fetch", **before)(lambda: None)
    with pytest.raises(ValueError, match=f"'fetch' is already defined with other settings: {told}"):
        service.recoverable("fetch", **after)(lambda: None)
    with pytest.raises(ValueError, match=told):
        service.operation("fetch", **after or {"enable_persistence": None})


def factory(service: Recovery, host: object, **settings: Any) -> Any:
    @service.recoverable("fetch", key=lambda: host, **settings)
    def fetch() -> None: ...

    return fetch


def test_a_factory_may_choose_a_name_and_make_the_settings() -> None:
    service = Recovery()
    assert recovery_of(factory(service, "a")).operation is recovery_of(factory(service, "a")).operation
    with pytest.raises(ValueError, match="key is a function that holds another 'host'"):
        factory(service, "b")


class Unequal:
    """What cannot be compared, as an array."""

    def __eq__(self, other: object) -> bool:
        raise ValueError

    __hash__ = None  # type: ignore[assignment]


def test_values_that_cannot_be_compared_are_the_same_only_as_objects() -> None:
    service, value = Recovery(), Unequal()
    assert factory(service, value) is not factory(service, value)
    with pytest.raises(ValueError, match="another 'host'"):
        factory(service, Unequal())


def test_a_function_that_holds_itself_is_compared_to_the_end() -> None:
    def make() -> Any:
        def key(depth: int = 0) -> str:
            return key(depth - 1) if depth else "host"

        return key

    service = Recovery()
    for _ in range(2):
        service.recoverable("fetch", key=make())(lambda: None)


def closure(service: Recovery, script: Script, **settings: Any) -> Callable[[], Any]:
    @service.recoverable(max_retries=0, circuit_breaker_threshold=3, **settings)
    def fetch() -> Any:
        return script()

    return fetch


def test_closures_made_for_one_call_each_share_a_circuit_which_opens() -> None:
    service, ended = Recovery(), []
    for _ in range(5):
        try:
            closure(service, Script(ConnectionError))()
        except (ConnectionError, CallRejectedError) as error:
            ended.append(type(error))
    assert ended == [ConnectionError] * 3 + [CallRejectedError] * 2


def test_a_success_of_such_a_closure_ends_the_row_of_failures() -> None:
    service = Recovery()
    for outcome in [ConnectionError, ConnectionError, "page", ConnectionError, ConnectionError, "page"]:
        with contextlib.suppress(ConnectionError):
            closure(service, Script(outcome))()
    assert closure(service, Script("page"))() == "page"


def test_closures_in_use_that_hold_other_values_or_have_other_settings_have_a_circuit_each() -> None:
    service = Recovery()
    kept = [closure(service, Script()), closure(service, Script()), closure(service, Script(), when_open="wait")]
    assert len({name_of(one) for one in kept}) == 3


def test_a_budget_is_shared_by_closures_too() -> None:
    service, scripts = Recovery(), [Script(*[ConnectionError] * 9) for _ in range(12)]

    def call_once(script: Script) -> None:
        @service.recoverable(max_retries=1, breaker=None, budget=BUDGET, **FAST)
        def fetch() -> Any:
            return script()

        with contextlib.suppress(ConnectionError):
            fetch()

    for script in scripts:
        call_once(script)
    assert sum(script.calls for script in scripts) == 12 + BUDGET.reserve


@pytest.mark.slow
def test_closures_that_are_gone_are_forgotten_with_their_last_failure() -> None:
    service = Recovery(max_keys=2)
    for number in range(9):
        with contextlib.suppress(ConnectionError):
            closure(service, Script(ConnectionError()), version=str(number))()
    gc.collect()
    assert len(service.bus.operations()) <= 3


def test_a_function_that_bears_the_name_of_another_one_is_another_operation() -> None:
    service = Recovery()
    base = run_cell(service, cell("max_retries=1, initial_delay=0"))

    @service.recoverable(max_retries=3, **FAST)
    @functools.wraps(base)
    def other(url: str, script: Any) -> Any:
        return base(url, script=script)

    assert (name_of(base), name_of(other)) == ("notebook.fetch", "notebook.fetch#2")
    assert tries(base) == 2


def test_a_copy_of_the_attributes_of_a_recoverable_function_is_not_recoverable() -> None:
    @functools.wraps(run_cell(Recovery(), cell("")))
    def plain() -> None: ...

    with pytest.raises(TypeError, match="is not recoverable"):
        recovery_of(plain)


@pytest.mark.slow
def test_many_closures_of_one_name_are_defined_in_proportion_to_their_number() -> None:
    service, kept = Recovery(), list[Any]()

    def decorate(number: int) -> None:
        kept.append(service.recoverable(max_retries=2)(lambda: number))

    steps = [steps_of(decorate, number) for number in range(200)]
    assert steps[-1] <= 1.2 * steps[50]


@pytest.mark.slow
def test_the_numbers_of_closures_that_are_gone_are_given_again() -> None:
    service, names = Recovery(), set[str]()

    def decorate(number: int) -> Any:
        return service.recoverable(max_retries=2)(lambda: number)

    kept = [decorate(number) for number in range(40)]
    names.update(recovery_of(one).operation.name for one in kept)
    del kept[20:]
    gc.collect()
    kept += [decorate(number) for number in range(40, 60)]
    assert {recovery_of(one).operation.name for one in kept} == names
