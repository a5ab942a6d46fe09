"""Write the table of docs/reference/metrics.md from the metrics that the collector has.

python -m tests.docs.metrics_page
"""

from __future__ import annotations

import re
from pathlib import Path

from adapters.metrics.families import BUCKETS, FAMILIES, JOURNAL_RESULTS, OUTCOMES
from events.evidence import Category
from recovery.monitoring import Thresholds

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "metrics.md"
TITLE = "## All metrics\n"
BEGIN = "<!-- `python -m tests.docs.metrics_page` writes this section from adapters/metrics/families.py -->\n"


def section() -> str:
    """The section of the page that is made from the metrics."""
    rows = [
        f"| `{one.shown}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help.rstrip('.')} |\n"
        for one in FAMILIES
    ]
    labels = (
        ("outcome", "; ".join(f"`{name}`: {meaning}" for name, meaning in OUTCOMES.items())),
        ("category", ", ".join(f"`{one.value}`" for one in Category)),
        ("result", "; ".join(f"`{name}`: {meaning}" for name, meaning in JOURNAL_RESULTS.items())),
        ("alert", ", ".join(f"`{name}`" for name in Thresholds.__struct_fields__)),
    )
    bounds = ", ".join(f"{bound:g}" for bound in BUCKETS)
    return "".join(
        (
            f"\n{BEGIN}\n| metric | type | labels | meaning |\n|---|---|---|---|\n",
            *rows,
            "\n| label | values |\n|---|---|\n",
            *(f"| `{name}` | {values} |\n" for name, values in labels),
            f"\nThe buckets of the histograms end at {bounds} s, and\n",
            "a value within 1 % of a bound may be counted beyond it. Without a journal, its metrics are absent.\n\n",
        )
    )


def written(text: str) -> str:
    """*text*, the page, with that section as it must be."""
    return re.sub(rf"(?<={re.escape(TITLE)}).*?(?=^## )", lambda _: section(), text, flags=re.DOTALL | re.MULTILINE)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
