"""Orders: commands for the next process, in files of the inbox that wait until they are carried out.

The process that carries an order out claims it, and removes it once that is written to the journal. So a process that
is killed before loses no order, on Linux, which has such claims. A process that cannot carry it out leaves it to the
next one, and notes in it why.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.disk import decode_plain
from adapters.sqlite.claims import Claims
from adapters.sqlite.command_files import (
    MOST_BYTES,
    ORDER_ENDING,
    inbox_of,
    new_path,
    read_command,
    refuse,
    write_command,
)
from recovery.journal.errors import JournalError
from recovery.journal.orders import Order
from recovery.journal.store import Answer, CommandSink, Taken


def keep_order(journal: Path, order: Order) -> None:
    """Put *order* into the inbox for the next process. Raises OSError if the file cannot be written."""
    write_command(new_path(journal, order).with_suffix(ORDER_ENDING), order)


def read_orders(journal: Path) -> list[Order]:
    """The commands that wait for the next process, the oldest first; what cannot be read is left out."""
    found: list[Order] = []
    for path in sorted(inbox_of(journal).glob(f"*{ORDER_ENDING}")):
        with suppress(OSError, ValueError):
            found.append(decode_plain(path, Order, MOST_BYTES))
    return found


def drop_orders(journal: Path, call: str) -> None:
    """Withdraw the orders to run *call* again. Raises OSError for one that cannot be removed."""
    for path in inbox_of(journal).glob(f"*{ORDER_ENDING}"):
        with suppress(FileNotFoundError, ValueError):
            if decode_plain(path, Order, MOST_BYTES).about == call:
                path.unlink()


class Orders:
    """The orders that one process takes.

    Args:
        claims: What excludes other processes from an order.
    """

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self.seen: set[str] = set()
        """The names of the files that this process looks at no more: it has carried them out, or could not."""

    def take(self, path: Path, sink: CommandSink) -> None:
        """Have *sink* carry out the order in the file *path*, unless another process does."""
        try:
            order = read_command(path, Order)
            if order.name not in ("again", "probe"):
                raise JournalError(f"{order.name} is no order for the next process")
        except FileNotFoundError:
            return  # another process has carried it out
        except (JournalError, OSError, ValueError) as error:
            refuse(path, error)
            return
        if not sink.concerns(order.call):
            return
        if (claim := self._claim(path)) is None:
            return
        self.seen.add(path.name)

        def reply(answer: Answer) -> None:
            with suppress(OSError):  # the next process finds that it is carried out
                if answer.is_done:
                    path.unlink()
                else:
                    write_command(path, msgspec.structs.replace(order, refused=answer.said))
            claim()

        if (answer := sink.carry_out(order, "", reply)) is not None:
            reply(answer)

    def _claim(self, path: Path) -> Callable[[], object] | None:
        """Claim the order in the file *path*: what releases it, or None if another process has it, or had it."""
        try:
            claim = self._claims.take(path.name.encode())
        except (JournalError, OSError):  # no such locks here: it is taken by its removal, as other commands are
            try:
                path.unlink()
            except OSError:
                return None
            return lambda: None
        if isinstance(claim, Taken):
            return None
        if not path.exists():  # another process has carried it out since, and released its claim
            claim.release()
            return None
        return claim.release
