"""The ten failures that readers are tried with stand in the journal as their list of causes says."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from adapters.journals.reading_why import read_why
from adapters.journals.status import JournalStatus, read_status
from adapters.journals.why import Why
from adapters.web.journal_source import JournalSource
from adapters.web.state import PageState
from tests.ten_failures import CAUSES, LEFT, ten_failures


@pytest.mark.slow
def test_each_of_the_ten_has_failed_in_a_way_of_its_own(tmp_path: Path):
    async def run() -> JournalStatus:
        async with ten_failures(tmp_path / "ten"):
            await anyio.sleep(1.0)  # until the journal has written it
            return await read_status(tmp_path / "ten" / "journal.db")

    calls = {one.name or one.operation: one for one in anyio.run(run).calls}
    assert calls.keys() == CAUSES.keys()
    waiting = {"checkpoint", "encoder", "upscaler", "licensed", "plug-in"}
    assert {name for name, call in calls.items() if call.state == "waiting"} == waiting
    assert calls[LEFT].state == "left"
    assert len({call.cause for call in calls.values()}) == len(CAUSES)


@pytest.mark.slow
def test_why_and_the_page_tell_of_each_what_failed_what_happens_next_and_what_can_be_done(tmp_path: Path):
    journal = tmp_path / "ten" / "journal.db"

    async def run() -> tuple[list[Why], PageState]:
        async with ten_failures(journal.parent):
            await anyio.sleep(1.0)  # until the journal has written it
            whys = [await anyio.to_thread.run_sync(read_why, journal, name) for name in CAUSES]
            return whys, await anyio.to_thread.run_sync(JournalSource(journal).read)

    whys, page = anyio.run(run)
    assert len({why.sentence for why in whys}) == len(CAUSES)
    assert [why.name for why in whys if not (why.sentence and why.next_line and why.story and why.commands)] == []
    assert [why.name for why in whys if not why.remedy] == [LEFT]
    lines = page.calls.values()
    assert [line.name for line in lines if not (line.sentence and line.next and line.remedy and line.actions)] == []
    assert len({line.sentence for line in lines}) == len(CAUSES)
    assert page.headline == "1 download waits for your answer; 4 failed; 1 was interrupted"
