"""The ten failures that readers are tried with stand in the journal as their list of causes says."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from adapters.journals.status import JournalStatus, read_status
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
