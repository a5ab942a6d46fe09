"""The top line says what needs a look first, as short as possible."""

from __future__ import annotations

import pytest

from adapters.web.headline import headline
from adapters.web.state import CallLine, IncidentCard, QuestionCard


def calls(number: int, state: str, operation: str = "download", waits_for: str = "", due: float | None = None):
    names = [f"{operation}-{state}-{waits_for}-{one}" for one in range(number)]
    return [
        CallLine(call=name, name=name, operation=operation, state=state, waits_for=waits_for, due=due) for name in names
    ]


def said(moment: float) -> str:
    return f"at {moment:g}"


HOST = IncidentCard(name="download[huggingface.co:443]", sentence="", since=0.0, next_probe=50.0)
TOKEN = QuestionCard(name="token:huggingface", kind="secret")


@pytest.mark.parametrize(
    ("lines", "about", "expected"),
    [
        ([], {}, "no calls"),
        (
            calls(2, "waiting", waits_for="huggingface.co:443"),
            {"incidents": (HOST,)},
            "2 downloads wait for huggingface.co, next try at 50",
        ),
        (calls(1, "waiting", due=7.0), {}, "1 download waits, next try at 7"),
        (calls(1, "waiting", waits_for="disk space"), {}, "1 download waits for disk space"),
        (
            calls(1, "waiting", waits_for="disk space")
            + calls(3, "waiting", "git", "github.com")
            + calls(9, "running"),
            {},
            "3 repositories wait for github.com; 1 download waits for disk space",
        ),
        (
            calls(4, "waiting", waits_for="token:huggingface"),
            {"questions": (TOKEN,)},
            "4 downloads wait for your answer",
        ),
        (calls(1, "running"), {"questions": (TOKEN, TOKEN)}, "2 questions wait for your answers; 1 download runs"),
        ([], {"questions": (TOKEN,)}, "a question waits for your answer"),
        (calls(2, "running") + calls(1, "gave up"), {}, "2 downloads run; 1 failed"),
        (
            calls(1, "waiting", waits_for="token:huggingface") + calls(2, "waiting", due=7.0) + calls(4, "gave up"),
            {"questions": (TOKEN,)},
            "1 download waits for your answer; 4 failed",
        ),
        (
            [call for place in "abc" for call in calls(1, "waiting", waits_for=place, due=ord(place))],
            {},
            "3 downloads wait, next try at 97",
        ),
        (calls(1, "cancelled"), {}, "nothing runs"),
        (
            calls(1, "left"),
            {"questions": (TOKEN,), "is_live": False},
            "1 download interrupted; a question waits for your answer",
        ),
        (calls(1, "running", "fetch") + calls(1, "running"), {}, "2 calls run"),
        (calls(1, "left"), {"more": {"gave up": 3}}, "1 download interrupted; 3 failed"),
        (
            calls(1, "waiting", waits_for="token:huggingface") + calls(1, "left") + calls(2, "gave up"),
            {"questions": (TOKEN,)},
            "1 download waits for your answer; 2 failed; 1 was interrupted",
        ),
        (calls(1, "quarantined", "server"), {}, "1 server in quarantine"),
        (calls(2, "succeeded"), {"more": {"succeeded": 40}}, "all done: 42 calls succeeded"),
    ],
)
def test_the_line_is(lines: list[CallLine], about: dict[str, object], expected: str):
    assert headline(lines, said=said, **about) == expected
