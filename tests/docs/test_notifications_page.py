"""docs/how-to/send-notifications.md describes every member of the JSON of a notification, as its docstring does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from adapters.launcher.document import NotificationsTable
from adapters.launcher.plan import load_plan
from adapters.notifications import Item, Notification
from tests.docs.plans_page import meanings

TEXT = (Path(__file__).parent.parent.parent / "docs" / "how-to" / "send-notifications.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("struct", [Notification, Item])
def test_the_page_describes_every_member(struct: type[msgspec.Struct]):
    said = meanings(struct)
    assert list(said) == list(struct.__struct_fields__)
    rows = [f"| `{name}` | {meaning.replace('``', '`')} |" for name, meaning in said.items()]
    assert [row for row in rows if row not in TEXT.splitlines()] == []


def test_the_table_of_the_page_is_that_of_a_plan(tmp_path: Path):
    path = tmp_path / "launch.toml"
    example = TEXT.partition("```toml\n")[2].partition("```")[0]
    path.write_text(f'{example}\n[[operation]]\nname = "a"\nkind = "command"\nrun = ["true"]\n', encoding="utf-8")
    table = load_plan(path).notifications
    assert table is not None
    assert [name for name in NotificationsTable.__struct_fields__ if f"{name} = " not in example] == []
