"""Arguments of calls in the journal: they come back by the signature, or the refusal says what to do."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from events.operation_events import OperationStarted
from recovery.serialization.arguments import ArgumentCodec
from recovery.service import Recovery
from tests.recorded_events import events_of
from tests.recovery.resume.dead_process import leave, resume
from tests.recovery.serialization import annotated
from tests.recovery.serialization.annotated import (
    Box,
    Color,
    Counted,
    Doubled,
    Job,
    Label,
    Level,
    Loader,
    Mode,
    Point,
    Second,
    Step,
    Task,
)
from tests.recovery.serialization.test_results import HOSTILE
from tests.recovery.serialization.values import VALUES, WORDS, described

JOB = Job("a", Path("/m"), 30, (Step("s", Color.BLUE),), {"p": Point(1, Path("w"))}, Job("parent", "text", 1.5))
COUNTED = Counted(["a", "b"])
assert COUNTED.text == "a b"


def typed(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


@given(st.lists(VALUES, max_size=3), st.dictionaries(WORDS, VALUES, max_size=3))
def test_arguments_come_back_with_their_types(args: list[Any], kwargs: dict[str, Any]) -> None:
    codec = ArgumentCodec(typed)
    back = codec.decoded(codec.encoded(tuple(args), kwargs))
    assert described(back) == described((tuple(args), kwargs))


@given(st.builds(Job, st.text(), steps=st.just(()), points=st.just({}), parent=st.none() | st.just(JOB), note=VALUES))
def test_a_dataclass_comes_back_with_what_it_holds(job: Job) -> None:
    codec = ArgumentCodec(annotated.one)
    (back,), _ = codec.decoded(codec.encoded((job,), {}))
    assert type(back) is Job
    assert [described(getattr(back, name)) for name in job.__match_args__] == [
        described(getattr(job, name)) for name in job.__match_args__
    ]


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (annotated.one, [JOB]),
        (annotated.maybe, [JOB]),
        (annotated.maybe, [None]),
        (annotated.maybe, []),
        (annotated.optional, [JOB]),
        (annotated.either, [JOB]),
        (annotated.either, [Task("t")]),
        (annotated.either, [5]),
        (annotated.new, [JOB]),
        (annotated.bound, [Box("text")]),
        (annotated.alias, [[JOB]]),
        (annotated.listed, [[JOB, JOB]]),
        (annotated.sequence, [[JOB, Task("t")]]),
        (annotated.sequence, [(JOB, Task("t"))]),
        (annotated.pair, [(JOB, Task("t"))]),
        (annotated.many, [(JOB, JOB)]),
        (annotated.keyed, [{"a": JOB, "$path": JOB}]),
        (annotated.keyed, [{"$path": JOB}]),
        (annotated.mapped, [{Step("s"): [{Step("t", Color.BLUE)}]}]),
        (annotated.rest, [JOB, JOB]),
        (annotated.enums, [Color.BLUE, Level.LOW, Mode.READ | Mode.WRITE, Color.RED]),
        (annotated.point, [Point(1.5, Path("x"))]),
        (annotated.counted, [COUNTED]),
        (annotated.plain, ["x", 1.5]),
        (annotated.ghostly, [5, JOB]),
        (Loader().method, [JOB]),
        (Loader(), [JOB]),
        (functools.partial(annotated.either), [JOB]),
        (functools.wraps(annotated.one)(lambda *args: None), [JOB]),
        (max, [Path("a"), 2]),
        (dict, [{"a": (1, 2)}]),
    ],
)
def test_annotations_say_which_class_comes_back(function: Callable[..., Any], args: list[Any]) -> None:
    codec = ArgumentCodec(function)
    back, _ = codec.decoded(codec.encoded(tuple(args), {}))
    assert [type(one) for one in back] == [type(one) for one in args]
    assert list(back) == args


def test_keyword_arguments_come_back_by_their_annotations() -> None:
    for function, kwargs in (
        (annotated.keywords, {"a": JOB, "$path": JOB}),
        (annotated.one, {"job": JOB}),
        (functools.partial(annotated.plain, number=2), {"name": "x", "path": Path("p")}),
    ):
        codec = ArgumentCodec(function)
        assert codec.decoded(codec.encoded((), kwargs)) == ((), kwargs)


def test_a_field_keeps_an_int_where_a_float_is_annotated() -> None:
    codec = ArgumentCodec(annotated.one)
    (job,), _ = codec.decoded(codec.encoded((JOB,), {}))
    assert type(job.timeout) is int
    assert type(job.parent.path) is str


# Refusals

HOLDS_ITSELF: list[Any] = []
HOLDS_ITSELF.append(HOLDS_ITSELF)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]

PASS = "pass plain data and make it inside the function"
ITER = iter([1])


class FastJob(Job):
    pass


@pytest.mark.parametrize(
    ("function", "argument", "message"),
    [
        (annotated.anything, ITER, f"argument 'job' is a list_iterator, which cannot be journalled: {PASS}"),
        (
            annotated.anything,
            {"a": [ITER]},
            f"argument 'job' is a dict that holds a list_iterator, which cannot be journalled: {PASS}",
        ),
        (
            annotated.anything,
            logging.getLogger(),
            f"argument 'job' is a logging.RootLogger, which cannot be journalled: {PASS}",
        ),
        (
            annotated.anything,
            math.nan,
            "argument 'job' is a float that is nan, which JSON cannot hold: use None or a text",
        ),
        (
            annotated.anything,
            "\ud800",
            "argument 'job' is a str with a lone surrogate, which JSON cannot hold: use os.fsencode() of it",
        ),
        (
            annotated.anything,
            type("Own", (int,), {"__module__": "builtins"})(1),
            "argument 'job' is an Own, which would come back as int: pass int(...) of it",
        ),
        (annotated.anything, DEEP, f"argument 'job' is a list that is nested too deeply, or holds itself: {PASS}"),
        (
            annotated.anything,
            HOLDS_ITSELF,
            f"argument 'job' is a list that is nested too deeply, or holds itself: {PASS}",
        ),
        (
            annotated.unannotated,
            JOB,
            "argument 'job' is a Job: annotate the parameter with Job, so that it can be read back",
        ),
        (
            annotated.anything,
            Level.LOW,
            "argument 'job' is a Level: annotate the parameter with Level, so that it can be read back",
        ),
        (
            annotated.either,
            FastJob("x"),
            "argument 'job' is a FastJob: annotate the parameter with FastJob, so that it can be read back",
        ),
        (
            annotated.untyped_list,
            [JOB],
            "argument 'jobs' is a list that holds a Job: name Job in the annotation of what holds it, "
            "so that it can be read back",
        ),
        (
            annotated.one,
            Job("x", note=JOB),
            "argument 'job' is a Job that holds a Job: name Job in the annotation of what holds it, "
            "so that it can be read back",
        ),
        (
            functools.partial(annotated.ghostly, other=JOB),
            JOB,
            "argument 'job' is a Job: import Job at run time, since the annotation of the parameter cannot be "
            "evaluated, so that it can be read back",
        ),
        (
            annotated.one,
            {"name": "x"},
            "argument 'job' is a dict where Job is annotated: pass that, or change the annotation",
        ),
        (
            annotated.listed,
            ["x"],
            "argument 'jobs' is a list that holds a str where Job is annotated: pass that, or change the annotation",
        ),
        (annotated.doubled, Doubled(1), f"argument 'it' is a Doubled that would come back changed: {PASS}"),
        (annotated.equals, {Second(1)}, f"argument 'it' is a set that would come back changed: {PASS}"),
        (
            annotated.labelled,
            Label("red"),
            f"argument 'label' is a {Label.__module__}.Label, which would come back as str: pass str(...) of it",
        ),
        (annotated.confused, Box("x"), f"argument 'it' is a Box that would come back changed: {PASS}"),
    ],
)
def test_a_refusal_names_the_argument_its_type_and_what_to_do(
    function: Callable[..., Any], argument: Any, message: str
) -> None:
    with pytest.raises(ValueError) as refused:
        ArgumentCodec(function).encoded((argument,), {})
    assert str(refused.value) == message


def test_a_refusal_names_arguments_that_have_no_parameter_of_their_own() -> None:
    for args, kwargs, name in (((1, ITER), {}, "args[1]"), ((), {"client": ITER}, "client")):
        with pytest.raises(ValueError, match=f"argument '{name}'".replace("[", r"\[")):
            ArgumentCodec(typed).encoded(args, kwargs)


def test_a_refusal_names_the_largest_of_arguments_that_are_too_large() -> None:
    with pytest.raises(ValueError) as refused:
        ArgumentCodec(annotated.plain).encoded(("x",), {"path": "y" * 2_000_000})
    assert str(refused.value) == (
        "argument 'path' is a str that is too large: the arguments take more than 1048576 bytes of JSON, "
        "and this one most of them; pass the path of a file instead"
    )


def test_an_attribute_that_is_no_field_is_not_lost() -> None:
    task = Task("a")
    task.extra = 1  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="argument 'it' is a Task that would come back changed"):
        ArgumentCodec(annotated.confused).encoded((task,), {})


def test_a_class_that_raises_is_refused() -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    with pytest.raises(ValueError, match=r"argument 'job' is a .*Hostile"):
        ArgumentCodec(annotated.anything).encoded((Hostile(),), {})


# What is stored, and does not fit


@pytest.mark.parametrize(
    ("function", "data", "message"),
    [
        (annotated.one, b"[[],{}]", "do not fit the signature of one: missing a required argument: 'job'"),
        (annotated.one, b"[[1,2],{}]", "do not fit the signature of one: too many positional arguments"),
        (annotated.one, b'[[],{"jib":1}]', "do not fit the signature of one: missing a required argument: 'job'"),
        (annotated.maybe, b'[[],{"jib":1}]', "the signature of maybe: got an unexpected keyword argument 'jib'"),
        (annotated.one, b'[["a"],{}]', "argument 'job' does not fit the parameter: a str stands where Job is"),
        (annotated.one, b'[[{"$path":"a"}],{}]', "'job' does not fit the parameter: a pathlib.PosixPath stands where"),
        (
            annotated.one,
            b'[[{"$object":{"nome":"a"}}],{}]',
            "argument 'job' does not fit the parameter: $object cannot be read: it is no Job: ",
        ),
        (annotated.anything, b'[[{"$object":{}}],{}]', "$object cannot be read: no class for it is annotated"),
        (annotated.anything, b'[[{"$object":{}}],', "the stored arguments are damaged: "),
        (annotated.anything, b'{"a":1}', "the stored arguments are damaged: "),
        (annotated.anything, b"[" * 100_000, "the stored arguments are damaged: "),
    ],
)
def test_stored_arguments_that_do_not_fit_say_why(function: Callable[..., Any], data: bytes, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        ArgumentCodec(function).decoded(msgspec.Raw(data))
    assert message in str(refused.value)


@given(
    st.sampled_from([annotated.one, annotated.either, annotated.keyed, annotated.enums, typed]),
    st.lists(HOSTILE, max_size=4),
    st.dictionaries(WORDS, HOSTILE, max_size=2),
)
def test_planted_arguments_are_read_or_refused(function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    with suppress(ValueError):
        ArgumentCodec(function).decoded(msgspec.json.encode([args, kwargs]))


# In calls


BAD = {"NaN": math.nan, "an object": ITER, "a cycle": HOLDS_ITSELF, "a depth": DEEP, "megabytes": "x" * 2_000_000}


@pytest.mark.parametrize("argument", BAD.values(), ids=BAD)
def test_what_would_not_come_back_is_not_resumable_says_so_once_and_runs(
    argument: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store, seen = MemoryStore(), []
    with Recovery(store=store) as service, caplog.at_level(logging.WARNING):
        started = events_of(service, OperationStarted)
        call = service.recoverable("fetch", resumable=True)(lambda one: seen.append(one))
        call(argument)
        call(argument)
    assert [one is argument for one in seen] == [True, True]
    assert [bytes(event.arguments) for event in started if isinstance(event, OperationStarted)] == [b"", b""]
    assert caplog.text.count("fetch: a call is not resumable, and no equal call can join it: argument 'one' is a") == 1


def test_each_argument_that_cannot_be_journalled_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with Recovery(store=MemoryStore()) as service, caplog.at_level(logging.WARNING):
        call = service.recoverable("fetch", resumable=True)(lambda a, b=None: None)
        for _ in range(2):
            call(ITER)
            call(1, b=ITER)
    why = f"is a list_iterator, which cannot be journalled: {PASS}"
    assert caplog.messages == [
        f"fetch: a call is not resumable, and no equal call can join it: argument {name!r} {why}" for name in "ab"
    ]


def test_an_error_of_the_arguments_own_names_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    with Recovery(store=MemoryStore()) as service:
        service.recoverable("fetch", resumable=True)(leak)(Leaky(["a"]))
    assert "argument 'it' is a Leaky that would come back changed" in caplog.text
    assert "RuntimeError" in caplog.text
    assert "abcdefgh12345678" not in caplog.text


class Leaky(Counted):
    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        raise RuntimeError("token=abcdefgh12345678\n\x1b[31m")


def leak(it: Leaky) -> None: ...


def test_a_killed_call_is_resumed_with_objects_of_its_classes() -> None:
    store, seen = MemoryStore(), list[Any]()

    def work(path: Path, number: int) -> None:
        seen.append((path, number))

    leave(store, Path("/models"), 1)
    resume(store, work)
    assert seen == [(Path("/models"), 1)]


def test_stored_arguments_that_do_not_fit_stay_pending_and_are_said(caplog: pytest.LogCaptureFixture) -> None:
    store, seen = MemoryStore(), list[Any]()
    leave(store, 1, 2)
    (record,) = resume(store, lambda only: seen.append(only)).left
    assert f"1 call stays pending ({record.call}): the stored arguments do not fit" in caplog.text
    assert resume(store, lambda a, b: seen.append((a, b))).wait(10.0)
    assert seen == [(1, 2)]


def test_an_annotation_that_cannot_be_evaluated_does_not_fail_the_definition() -> None:
    with Recovery(store=MemoryStore()) as service:
        service.recoverable("ghostly", resumable=True)(annotated.ghostly)(1, JOB)


def test_nothing_is_computed_before_the_first_call() -> None:
    class Unready:
        def __call__(self) -> None: ...

        @property
        def __signature__(self) -> Any:
            raise AssertionError("asked for its signature")

    ArgumentCodec(Unready())
