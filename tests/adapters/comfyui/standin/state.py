"""What a stand-in keeps: faults that a test has set, counts that outlive its process, and a log of its runs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass
class Faults:
    """What goes wrong next. A test sets them by ``POST /standin/faults``; each is spent as it happens.

    Attributes:
        drop_before: So many POSTs of prompts lose their connection, and are not taken.
        drop_after: So many POSTs of prompts are taken, and lose their connection before the answer.
        drop_late: So many POSTs of prompts lose their connection at once, and are taken ``late`` seconds later.
        late: Seconds; see above.
        hang_before: Seconds for which each POST of a prompt waits before it is taken.
        hang_after: Seconds for which each POST of a prompt waits after it was taken.
        unavailable: So many requests of any kind are answered with 503.
        slow: Seconds by which each answer is late.
        login: So many runs of a paid node fail with "Please login first".
        memory: So many runs of any node that makes a picture fail for want of memory.
        die_before: A signal that ends the process at the next POST of a prompt, before it is taken.
        die_after: A signal that ends the process at the next POST of a prompt, after it was taken, before the answer.
        die_at_end: A signal that ends the process once the next prompt's files are written, before history knows it.
        lose_cancel: So many deletes, interrupts and cancels are answered, and ignored.
    """

    drop_before: int = 0
    drop_after: int = 0
    drop_late: int = 0
    late: float = 0.1
    hang_before: float = 0.0
    hang_after: float = 0.0
    unavailable: int = 0
    slow: float = 0.0
    login: int = 0
    memory: int = 0
    die_before: int = 0
    die_after: int = 0
    die_at_end: int = 0
    lose_cancel: int = 0

    def set(self, values: dict[str, Any]) -> None:
        unknown = values.keys() - {one.name for one in fields(self)}
        if unknown:
            raise ValueError(f"no such faults: {sorted(unknown)}")
        for name, value in values.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def spend(self, name: str) -> bool:
        """Whether a fault happens now; it is counted down."""
        left: int = getattr(self, name)
        if left > 0:
            setattr(self, name, left - 1)
        return left > 0

    def die(self, name: str) -> None:
        """End the process if it is to die here."""
        if number := getattr(self, name):
            os.kill(os.getpid(), number)


class Counts:
    """Numbers in a file, by name: they outlive the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> dict[str, int]:
        try:
            counts: dict[str, int] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return counts

    def add(self, name: str) -> int:
        """Count once more.

        Returns:
            The count before.
        """
        counts = self.all()
        before = counts.get(name, 0)
        self.put(name, before + 1)
        return before

    def put(self, name: str, value: int) -> None:
        fresh = self._path.with_suffix(".tmp")
        fresh.write_text(json.dumps(self.all() | {name: value}))
        fresh.replace(self._path)


class RunLog:
    """The begin and the end of each run, a line each, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, word: str, prompt_id: str, *more: str) -> None:
        os.write(self._file, (" ".join((word, prompt_id, str(os.getpid()), *more)) + "\n").encode())
