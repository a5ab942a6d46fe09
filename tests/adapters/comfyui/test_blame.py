"""Which prompt a death counts against, as looks find it out one after another."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from adapters.comfyui.blame import blame
from adapters.comfyui.suspects import Suspects

SERVING = cast(Any, SimpleNamespace(name="comfyui", last_end=""))
OURS, NEXT = "77@3.25@boot", "78@9.50@boot"


def lost(key: str, sent_at: float, server: str = "", *, was_running: bool = False, number: float | None = 1.0) -> Any:
    return SimpleNamespace(
        key=key, shown=key, sent_at=sent_at, posted_to=server, number=number, was_running=was_running,
        verdict="lost", saw_death=True, is_blamed=False, is_watched=True,
    )  # fmt: skip


def suspects(tmp_path: Path, now: float = 50.0) -> Suspects:
    return Suspects(tmp_path / "suspects.json", lambda: now)


@pytest.mark.parametrize("server", ["", OURS], ids=["of another", "ours"])
def test_a_death_counts_once_though_an_open_post_is_found_lost_later(tmp_path: Path, server: str) -> None:
    noted = suspects(tmp_path)
    blame(SERVING, noted, [lost("ran", 40.0, server, was_running=True)], NEXT, foreign_before=False)
    blame(SERVING, noted, [lost("open", 41.0, server, number=None)], NEXT, foreign_before=False)
    assert (len(noted.deaths("ran")), len(noted.deaths("open"))) == (1, 0)


def test_a_later_death_of_the_server_of_another_counts_too(tmp_path: Path) -> None:
    noted = suspects(tmp_path)
    blame(SERVING, noted, [lost("ran", 40.0, was_running=True)], "", foreign_before=False)
    blame(SERVING, noted, [lost("ran", 60.0, was_running=True)], "", foreign_before=False)
    assert len(noted.deaths("ran")) == 2


def test_a_stop_of_ours_and_another_boot_count_against_none(tmp_path: Path) -> None:
    noted = suspects(tmp_path)
    noted.note_stop(OURS)
    blame(SERVING, noted, [lost("ran", 40.0, OURS, was_running=True)], NEXT, foreign_before=False)
    blame(SERVING, noted, [lost("ran", 40.0, "5@1.00@before", was_running=True)], NEXT, foreign_before=False)
    assert noted.deaths("ran") == ()
