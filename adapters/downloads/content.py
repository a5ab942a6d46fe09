"""What the first bytes of a file are, compared with the ending of its name; for files without a known hash. Pure.

A login page, an error page or nothing at all often comes with status 200. Two things are refused: bytes that do not
begin as every file with this ending does, and an HTML page under any name that is not that of a page.
"""

from __future__ import annotations

from pathlib import PurePath

IMAGE = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"\0\0\0")
"""PNG, JPEG, GIF, WebP, BMP, AVIF: an image that is named after another kind still opens."""
ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
GZIP = (b"\x1f\x8b",)

BEGINNINGS: dict[str, tuple[bytes, ...]] = {
    ".gguf": (b"GGUF",),
    ".zip": ZIP, ".whl": ZIP, ".npz": ZIP,
    ".gz": GZIP, ".tgz": GZIP,
    ".bz2": (b"BZh",), ".xz": (b"\xfd7zXZ\0",), ".7z": (b"7z\xbc\xaf\x27\x1c",),
    ".png": IMAGE, ".jpg": IMAGE, ".jpeg": IMAGE, ".gif": IMAGE, ".webp": IMAGE,
}  # fmt: skip
"""How every file begins whose name ends so. A ``.safetensors`` file begins with its header: see ``_is_safetensors``."""

PAGES = ("", ".htm", ".html", ".xhtml", ".shtml", ".php", ".asp", ".aspx", ".jsp")
"""Endings of names that an HTML page may bear."""

HEAD = 512
"""Bytes that are enough to tell."""


def has_known_beginning(name: str) -> bool:
    """Whether every file whose name ends as *name* begins in a known way."""
    return (ending := PurePath(name).suffix.lower()) in BEGINNINGS or ending == ".safetensors"


def is_page(name: str, head: bytes) -> bool:
    """Whether *head* begins an HTML page, and *name* is not that of one."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html")) and PurePath(name).suffix.lower() not in PAGES


def what_came(name: str, head: bytes) -> str | None:
    """What came instead of a file of this *name*, whose first ``HEAD`` bytes are *head*; None if they may be right."""
    if is_page(name, head):
        return f"an HTML page: {_shown(head)}"
    if not has_known_beginning(name):
        return None
    if not head:
        return "no bytes at all"
    ending = PurePath(name).suffix.lower()
    is_right = _is_safetensors(head) if ending == ".safetensors" else head.startswith(BEGINNINGS[ending])
    return None if is_right else f"something that is no {ending} file: {_shown(head)}"


def _is_safetensors(head: bytes) -> bool:
    """Whether *head* is the length of a header (eight bytes, little-endian, at most 100 MB) and the start of its JSON.

    Source: https://github.com/huggingface/safetensors, "Format".
    """
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 100_000_000


def _shown(head: bytes) -> str:
    return repr(head[:60].decode("latin-1"))
