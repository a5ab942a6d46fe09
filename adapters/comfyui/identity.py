"""Which process a server is, as the text that journals keep: its pid, its start, and the boot of the machine."""

from __future__ import annotations

from adapters.processes.identity import Identity, identity_of, process_of


def of(pid: int) -> str:
    """The text of the process *pid*: no other process has it, also after a boot. "" if there is no such process."""
    found = identity_of(pid)
    return "" if found is None else f"{found.pid}@{found.start!r}@{found.boot}"


def is_living(server: str) -> bool:
    """Whether the process with the text *server* still runs. False for "", and for a text that means none."""
    pid, _, rest = server.partition("@")
    start, _, boot = rest.partition("@")
    try:
        return process_of(Identity(int(pid), float(start), boot)) is not None
    except (ValueError, OverflowError):
        return False
