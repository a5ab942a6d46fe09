"""The cells of a page show in a kernel of Jupyter what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.examples import PAGES, ROOT, Example, blocks_of, cells_of, fits

pytestmark = pytest.mark.docs

NOTEBOOKS = {f"{page.relative_to(ROOT)}": cells for page in PAGES if (cells := cells_of(blocks_of(page)))}


@pytest.mark.parametrize("cells", NOTEBOOKS.values(), ids=NOTEBOOKS)
@pytest.mark.filterwarnings("default")  # those of Jupyter's libraries
def test_the_cells_of_a_page_show_what_it_says(cells: list[Example], tmp_path: Path) -> None:
    from tests.docs.kernel import Kernel  # here: the group docs has it

    with Kernel(tmp_path) as kernel:
        for cell in cells:
            match cell.program.mark:
                case "cell, killed":
                    shown = kernel.kill_in(cell.program.text, cell.printed)
                case mark:
                    shown = kernel.run(cell.program.text, is_interrupted=mark == "cell, interrupted")
            assert fits(cell.printed, shown), f"{cell}: {shown}"
