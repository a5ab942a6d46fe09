"""Which process a server is, as a text that the journal keeps."""

from __future__ import annotations

from adapters.processes import identity


def identity_of(pid: int | None) -> str:
    """The boot of the machine, the process *pid* and its start; "" if there is none. No other process has the same."""
    found = None if pid is None else identity.identity_of(pid)
    return "" if found is None else f"{found.pid}@{found.start:.2f}@{found.boot}"
