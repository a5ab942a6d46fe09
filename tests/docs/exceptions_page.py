"""Write the tree of docs/reference/exceptions.md from the classes.

python -m tests.docs.exceptions_page
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from adapters.comfyui.errors import PromptFailedError as PromptFailedError
from adapters.launcher.all_bricks import AllBricks as AllBricks  # with it, the module of every error is imported
from adapters.launcher.launch import Launch as Launch
from adapters.launcher.stopping import StoppedBySignal
from adapters.nats.errors import ClusterError as ClusterError
from adapters.sqlite.store import SQLiteStore as SQLiteStore
from events.errors import RecoveryError
from recovery.configuration import ConfigurationError

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "exceptions.md"
ROOTS: tuple[type[BaseException], ...] = (RecoveryError, ConfigurationError, StoppedBySignal)
TREE = re.compile(r'(?<=```text title="the tree"\n).*?(?=```)', re.DOTALL)


def is_ours(kind: type) -> bool:
    """Whether the library, and no test, has defined *kind*."""
    return kind.__module__.split(".")[0] in ("events", "recovery", "adapters")


def every_error() -> list[type[BaseException]]:
    """Every exception class of the library, each once."""
    found: dict[type[BaseException], None] = {}
    todo = [*ROOTS]
    while todo:
        kind = todo.pop(0)
        if is_ours(kind):
            found[kind] = None
            todo += kind.__subclasses__()
    return list(found)


def tree() -> str:
    """The classes below their bases; one with two bases of ours stands below the first, and names the other."""
    return "".join(f"{line}\n" for root in ROOTS for line in _lines(root, "", ""))


def _lines(kind: type[BaseException], first: str, further: str) -> Iterator[str]:
    others = [base.__name__ for base in kind.__bases__[0 if kind in ROOTS else 1 :] if base is not Exception]
    yield f"{first}{kind.__name__}" + (f"  (also {', '.join(others)})" if others else "")
    below = [one for one in kind.__subclasses__() if is_ours(one) and one.__bases__[0] is kind]
    below.sort(key=lambda one: one.__name__)
    for one in below:
        is_last = one is below[-1]
        yield from _lines(one, f"{further}{'└── ' if is_last else '├── '}", f"{further}{'    ' if is_last else '│   '}")


def main() -> None:
    """Write the page."""
    PAGE.write_text(TREE.sub(lambda _: tree(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
