"""docs/how-to/run-a-cluster.md shows the configuration whole that tests/cluster starts real servers with."""

from __future__ import annotations

import pytest

from tests.docs.examples import ROOT, blocks_of

FILES = ROOT / "tests" / "cluster" / "files"
SHOWN = {
    block.mark.removeprefix("part of "): block.text
    for block in blocks_of(ROOT / "docs" / "how-to" / "run-a-cluster.md")
    if block.mark.startswith("part of ")
}


@pytest.mark.parametrize("path", sorted(FILES.iterdir()), ids=lambda one: one.name)
def test_the_page_shows_the_whole_file_that_is_tried(path):
    assert SHOWN[f"{path.relative_to(ROOT)}"] == path.read_text(encoding="utf-8")
