"""README is one screen: what it is, two commands, an example and a part of one, a picture, links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_begins_with_the_two_commands():
    commands = [line.split("#")[0].strip() for line in README.splitlines()[:12] if line.startswith("$ make")]
    assert commands == ["$ make demo", "$ make test"]


def test_readme_is_one_screen_with_one_example_and_one_picture():
    assert README.count("\n") <= 90
    assert README.count("```python") == 1 + README.count("<!-- part of ") == 2  # test_examples.py runs the first
    [picture] = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert (ROOT / picture).stat().st_size < 150_000


def test_readme_leads_to_the_tutorial_the_map_of_the_pages_and_the_changes():
    links = set(re.findall(r"\]\(([^)#\s]+)", README))
    assert {"docs/tutorial/first-steps.md", "docs/index.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= links
