"""Which boot of the machine this is."""

from __future__ import annotations

from functools import cache


@cache
def boot_id() -> str:
    """The id of this boot of the machine; "" where the system has none: then restarts compare wall clocks."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
