"""How prompts stand on the screen, in lines, in lists and on the page: in words of their own."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from adapters.comfyui.record import Posted, PromptProgress, PromptRecord
from adapters.launcher.checkpoint_words import ServerNote, note_words, saved_note, saved_words
from adapters.launcher.kinds.comfyui import ComfyUI
from adapters.launcher.kinds.prompt import Prompt
from adapters.launcher.saga import RunRecord
from adapters.terminal.progress_lines import QUIET, ProgressLines
from adapters.terminal.view import LaunchView
from events.event import CallEvent, Event
from events.operation_events import OperationSucceeded
from tests.adapters.launcher.test_server_lines import saved, started
from tests.adapters.terminal.test_screen import drawn
from tests.adapters.terminal.test_view import of_call

POSTED = Posted("5f0c", "100 1.0", 1.0)
SAMPLER = PromptProgress(node="KSampler", step=12, steps=20, share=0.45)
STEPS = (
    ComfyUI(name="studio", path="ComfyUI"),
    Prompt(name="portrait", server="studio", workflow="portrait.json"),
    Prompt(name="poster", server="studio", workflow="poster.json"),
)
STUDIO = started("server", "studio", "s1")
READY = msgspec.structs.replace(saved(ServerNote("ready", "http://127.0.0.1:8188")), call="s1")
PORTRAIT = started("comfyui-prompt", "portrait", "c1")
POSTER = started("comfyui-prompt", "poster", "c2")


def record(progress: PromptProgress = SAMPLER, posted: Posted | None = POSTED) -> PromptRecord:
    return PromptRecord(queued=1.0, posted=posted, progress=progress)


def told(progress: PromptProgress = SAMPLER, posted: Posted | None = POSTED, call: str = "c1") -> CallEvent:
    return msgspec.structs.replace(saved(record(progress, posted)), call=call)


def fed(*events: Event) -> LaunchView:
    view = LaunchView(STEPS)
    for event in events:
        view.feed(event)
    return view


@pytest.mark.parametrize(
    ("progress", "posted", "words"),
    [
        (SAMPLER, POSTED, "KSampler, step 12 of 20, 45 %"),
        (PromptProgress(node="VAE Decode", share=0.999), POSTED, "VAE Decode, 99 %"),
        (PromptProgress(share=1.0), POSTED, "100 %"),
        (PromptProgress(node="n" * 60, share=0.5), POSTED, f"{'n' * 29}…, 50 %"),
        (PromptProgress(place=3), None, "3 before it"),
        (PromptProgress(place=3, waits_for="the server starts"), None, "3 before it; waits: the server starts"),
        (PromptProgress(waits_for="the server starts"), None, "waits: the server starts"),
        (PromptProgress(), None, "next"),
        (PromptProgress(), POSTED, "waits in the server"),
        (PromptProgress(), msgspec.structs.replace(POSTED, was_running=True), "begins"),
    ],
)
def test_a_prompt_says_its_place_what_it_waits_for_or_how_far_it_is(
    progress: PromptProgress, posted: Posted | None, words: str
) -> None:
    assert note_words(record(progress, posted)) == words


@pytest.mark.parametrize("note", [ServerNote("ready", "http://a:1"), RunRecord(steps=("a",)), record()])
def test_each_checkpoint_is_taken_for_what_it_is(note: msgspec.Struct) -> None:
    assert saved_note(msgspec.json.encode(note)) == note


def test_words_are_of_calls_whose_checkpoints_are_ours() -> None:
    there = msgspec.json.encode(record())
    assert (
        saved_words("comfyui-prompt", there)
        == saved_words("comfyui-prompt studio", there)
        == "KSampler, step 12 of 20, 45 %"
    )
    assert (saved_words("render", there), saved_words("comfyui-prompt", None), saved_words("comfyui-prompt", b"")) == (
        "",
        "",
        "",
    )


@pytest.mark.parametrize("width", [80, 120])
def test_prompts_are_seen_with_how_far_they_are(width: int) -> None:
    waits = told(PromptProgress(place=1), None, "c2")
    text = drawn(fed(STUDIO, READY, PORTRAIT, told(), POSTER, waits), width=width, now=10.0)
    rows = [" ".join(row.split()) for row in text.splitlines()]
    assert max(map(len, text.splitlines())) <= width
    bar = "━" * 5
    assert any(row.startswith("portrait ▶ running 1") and "KSampler, step 12 of 20, 45 %" in row for row in rows)
    assert any(row.startswith("poster ▶ running 1") and row.endswith("1 before it") for row in rows)
    assert (bar in text) == (width == 120)


def test_a_prompt_that_is_over_says_no_more_how_far_it_was() -> None:
    text = drawn(fed(STUDIO, READY, PORTRAIT, told(), of_call(OperationSucceeded, call="c1")), width=80, now=10.0)
    assert "KSampler" not in text


def test_the_heartbeat_says_how_far_prompts_are_and_no_line_comes_for_each_step() -> None:
    view, lines = LaunchView(STEPS), list[str]()
    printer = ProgressLines(view, lines.append)
    for event in (STUDIO, READY, PORTRAIT, told(), told(PromptProgress(node="VAE", share=0.9))):
        view.feed(event)
        printer.feed(event)
    printer.flush()
    assert lines == ["studio: begins", "studio: ready at http://127.0.0.1:8188", "portrait: begins"]
    assert "portrait: VAE, 90 %" in printer.summary(10.0)


def test_the_heartbeat_is_quicker_while_a_prompt_goes_on() -> None:
    view = fed(STUDIO, READY, PORTRAIT, told(PromptProgress(node="VAE", share=0.2)))
    printer = ProgressLines(view, lambda _: None)
    assert printer.beat(0.0) is None
    assert printer.beat(QUIET / 2) is None  # nothing has changed
    view.feed(told(PromptProgress(node="VAE", share=0.9)))
    assert "VAE, 90 %" in (printer.beat(QUIET / 2) or "")


def test_what_a_checkpoint_says_needs_no_client_of_comfyui() -> None:
    words = "import sys; sys.modules['websockets'] = None; import adapters.journals.status, adapters.comfyui.progress"
    assert subprocess.run([sys.executable, "-c", words], check=False, timeout=60).returncode == 0
