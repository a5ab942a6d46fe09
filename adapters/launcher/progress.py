"""How far a transfer is, how fast it goes and when it ends. Pure: times are arguments, on the clock of the events."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from recovery.explain import duration

WINDOW = 10.0
"""Seconds over which a rate is averaged."""

PAUSE = 3.0
"""Seconds without news of a transfer after which they lower its rate: its progress is saved about once a second."""

UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))

Samples: TypeAlias = tuple[tuple[float, int], ...]
"""Moments of an attempt, and how many bytes were there then."""


class Transfer(msgspec.Struct, frozen=True):
    """The checkpoint of a download.

    Args:
        offset: The bytes that are there.
        size: Those of the whole file, if that is known.
        start: Those with which its latest attempt began, if that is known: earlier attempts or launches received them.
    """

    offset: int
    size: int | None = None
    start: int | None = None


def saved_transfer(saved: bytes | msgspec.Raw | None) -> Transfer | None:
    """The transfer that a checkpoint describes; None if it describes none."""
    try:
        return None if saved is None else msgspec.json.decode(saved, type=Transfer)
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # of an operation of another program
        return None


def with_sample(samples: Samples, at: float, offset: int) -> Samples:
    """*samples* and a new one, without those that no window needs any more. Fewer bytes than before start over."""
    if samples and offset < samples[-1][1]:
        samples = ()
    outdated = sum(one[0] <= at - WINDOW for one in samples) - 1
    return (*samples[max(outdated, 0) :], (at, offset))


def rate(samples: Samples, now: float) -> float | None:
    """Bytes a second over the latest WINDOW seconds before *now*; None before there are two samples."""
    if len(samples) < 2:
        return None
    begin, base = next((one for one in reversed(samples) if one[0] <= now - WINDOW), samples[0])
    last, offset = samples[-1]
    seconds = (now if now - last > PAUSE else last) - begin
    return (offset - base) / seconds if seconds > 0.0 else None


def progress_words(
    offset: int, size: int | None, start: int = 0, speed: float | None = None, *, is_short: bool = False
) -> str:
    """``1.2 of 4.0 GB, 30 %, 48 MB/s, 58 s left, 1.1 GB resumed``; "" for what has no bytes.

    Args:
        offset: The bytes that are there.
        size: Those of the whole, if that is known.
        start: Those that earlier attempts or launches had received.
        speed: Bytes a second, if that is known.
        is_short: Leave out the bytes that are there: ``30 % of 4.0 GB, 48 MB/s, 58 s left, 1.1 GB resumed``.
    """
    if not offset and not size:
        return ""
    words = [amount(offset)]
    if size:
        percent = f"{offset * 100 // size} %"
        words = [f"{percent} of {amount(size)}"] if is_short else [f"{_of(offset, size)}, {percent}"]
    if speed is not None:
        words.append(f"{_figure(speed)}/s" if speed >= 1.0 else "stalled")
        if size and speed >= 1.0 and offset < size:
            words.append(f"{duration(max((size - offset) / speed, 1.0))} left")
    if start:
        words.append(f"{amount(start)} resumed")
    return ", ".join(words)


def amount(number: float) -> str:
    """A number of bytes for people: ``980 B``, ``4.0 GB``."""
    scale, unit = _unit(number)
    return f"{number / scale:.1f} {unit}" if scale > 1.0 else f"{number:.0f} B"


def _of(offset: int, size: int) -> str:
    scale, unit = _unit(max(offset, size))
    return f"{offset / scale:.1f} of {size / scale:.1f} {unit}" if scale > 1.0 else f"{offset} of {size} B"


def _figure(number: float) -> str:
    scale, unit = _unit(number)
    return f"{number / scale:.{1 if number / scale < 10.0 else 0}f} {unit}" if scale > 1.0 else f"{number:.0f} B"


def _unit(number: float) -> tuple[float, str]:
    return next((one for one in UNITS if number >= one[0]), (1.0, "B"))
