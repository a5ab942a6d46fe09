"""States of a launcher on a bad day, for pictures and tests of the page."""

from __future__ import annotations

import math
from time import localtime, strftime
from typing import Any

from msgspec.structs import replace

from adapters.web.charts import chart_cards
from adapters.web.state import (
    AlertCard,
    Bytes,
    CallLine,
    IncidentCard,
    PageState,
    QuestionCard,
)
from recovery.monitoring.minutes import Minute
from recovery.monitoring.snapshot import Distribution

LATER = ("retry", "pause", "give up", "cancel")


def lines(at: float) -> list[CallLine]:
    """Calls in each of the states, at the Unix time *at*."""
    return [
        CallLine(
            call="c1-1",
            name="vae-ft-mse.safetensors",
            operation="download",
            state="gave up",
            attempt=4,
            failures=4,
            sentence="The disk is full: 6.2 GB more are needed in models/vae.",
            said="OSError: [Errno 28] No space left on device",
            next="nothing by itself: 4 attempts failed, and no more are allowed",
            remedy="Free some space. Then start it again.",
            seen=at - 340,
            bytes=Bytes(done=1_900_000_000, size=8_100_000_000),
            actions=("again",),
        ),
        CallLine(
            call="c1-2",
            name="FLUX.1-dev",
            operation="download",
            state="waiting",
            attempt=2,
            failures=1,
            sentence="the model is for people with an access token.",
            said="HTTP 401 Unauthorized",
            next="waits for the answer to the question above",
            remedy="Make a token, and paste it above. It goes on by itself once that is answered.",
            waits_for="token of huggingface.co",
            seen=at - 65,
            actions=LATER,
        ),
        CallLine(
            call="c1-3",
            name="sd_xl_base_1.0.safetensors",
            operation="download",
            state="waiting",
            attempt=3,
            failures=2,
            sentence="huggingface.co does not answer.",
            said="ConnectTimeout: timed out after 10 s",
            next="waits for huggingface.co to work again; one call tries it for all",
            waits_for="huggingface.co",
            remedy="Check the network if it lasts. It goes on by itself once the host answers.",
            due=at + 42,
            deadline=at + 3600,
            seen=at - 18,
            bytes=Bytes(done=4_870_000_000, size=6_940_000_000),
            actions=LATER,
        ),
        CallLine(
            call="c1-4",
            name="ComfyUI-Manager",
            operation="clone",
            state="waiting",
            attempt=2,
            failures=1,
            sentence="Another git process holds the lock of the repository.",
            said="fatal: Unable to create '.git/index.lock': File exists.",
            next="tries again",
            due=at + 7,
            seen=at - 3,
            actions=LATER,
        ),
        CallLine(
            call="c1-5",
            name="4x-UltraSharp.pth",
            operation="download",
            state="running",
            attempt=2,
            failures=1,
            sentence="The connection broke in the middle of the file.",
            said="IncompleteRead: 41 MB read, 26 MB more expected",
            seen=at - 12,
            bytes=Bytes(done=52_000_000, size=67_000_000, rate=11_800_000),
            actions=("cancel",),
        ),
        CallLine(
            call="c1-6", name="torch 2.9", operation="install", state="running", seen=at - 95, actions=("cancel",)
        ),
        CallLine(
            call="c1-7",
            name="clip_l.safetensors",
            operation="download",
            state="paused",
            attempt=2,
            failures=1,
            sentence="civitai.com asks for fewer requests.",
            said="HTTP 429 Too Many Requests",
            next="stays paused until you continue it",
            seen=at - 200,
            actions=("unpause", "give up"),
        ),
        CallLine(
            call="c1-8", name="ComfyUI", operation="clone", state="succeeded", attempt=2, failures=1, seen=at - 600
        ),
        CallLine(call="c1-9", name="Python packages", operation="install", state="succeeded", seen=at - 480),
    ]


def bad_day(at: float, **changed: Any) -> PageState:
    """A launcher with everything that the page can show."""
    state = PageState(
        at=at,
        headline=f"2 downloads wait for huggingface.co, next try {strftime('%H:%M:%S', localtime(at + 42))}; 1 failed",
        source="launch.toml",
        is_live=True,
        may_change=True,
        notes=("A call in its first attempt is listed if it can be resumed; any other appears when it fails.",),
        calls={line.call: line for line in lines(at)},
        more={"succeeded": 1204},
        incidents=(
            IncidentCard(
                name="download[huggingface.co]",
                sentence="the other side was not reached: the calls wait, and one of them tries it",
                said="unreachable: ConnectTimeout: timed out after 10 s",
                since=at - 260,
                waiting=2,
                next_probe=at + 42,
            ),
        ),
        circuits={"download[huggingface.co]": "open", "prompt[127.0.0.1:8188]": "half-open"},
        questions=(
            QuestionCard(
                name="token of huggingface.co",
                kind="secret",
                text="Which access token may be used for huggingface.co?",
                link="https://huggingface.co/settings/tokens",
                calls=1,
            ),
            QuestionCard(
                name="overwrite", kind="confirm", text="May the changed plug-in folder be overwritten?", calls=1
            ),
            QuestionCard(
                name="mirror", kind="choice", text="Which mirror is nearest?", choices=("Europe", "Asia"), calls=0
            ),
        ),
        alerts=(
            AlertCard(
                name="download", sentence="62 % of downloads succeeded in 5 minutes, fewer than 90 %", since=at - 120
            ),
        ),
        charts=chart_cards(hour()),
    )
    return replace(state, **changed)


def many(at: float, number: int = 1000, step: int = 0) -> dict[str, CallLine]:
    """*number* live downloads; *step* changes each of them."""
    return {
        f"m-{one}": CallLine(
            call=f"m-{one}",
            name=f"model-{one}.safetensors",
            operation="download",
            state="waiting" if (one + step) % 7 == 0 else "running",
            attempt=1 + step,
            failures=step,
            sentence="huggingface.co does not answer." if (one + step) % 7 == 0 else "",
            due=at + 5 + one % 50 if (one + step) % 7 == 0 else None,
            next="Begins the next attempt" if (one + step) % 7 == 0 else "",
            seen=at + step / 4,
            bytes=Bytes(done=int(1e6 * (1 + math.fmod(one + step, 900))), size=1_000_000_000, rate=1e6 + one),
            actions=("pause", "cancel"),
        )
        for one in range(number)
    }


def hour() -> list[Minute]:
    """The minutes of an hour in which a host went down for ten of them."""
    minutes = []
    for one in range(60):
        is_down = 38 <= one < 48
        calls = 0 if 5 <= one < 9 else 12 + one % 5
        failed = 5 - one % 3 if is_down else int(one % 17 == 0)
        longest = (40.0 if is_down else 4.0) + one % 4
        minutes.append(
            Minute(
                began=one * 60.0,
                calls=calls,
                successes=max(calls - failed, 0),
                recovery=Distribution(count=3, mean=longest / 2, p50=longest / 3, p95=longest, p99=longest)
                if is_down or one % 6 == 0
                else None,
                overhead=(0.012 if is_down else 0.004) + one % 3 * 0.001 if calls else None,
            )
        )
    return minutes
