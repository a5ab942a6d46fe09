"""What a file is by its bytes, compared with the ending of its name; for files without a known hash.

A login page, an error, a pointer or nothing at all often comes with status 200. Three things are refused: what stands
for a file under any name that is not that of such a thing, bytes that do not begin as every file with this ending does,
and a file that says itself that it is longer. A file with a known sha256 is taken, whatever it is.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Protocol

import msgspec

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
"""How every file begins whose name ends so. A safetensors file begins with its header: see ``_wrong_safetensors``."""

SAFETENSORS = (".safetensors", ".sft")
CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin")
"""What torch saves is a ZIP archive, or in an old format, or something else."""

PAGES = (".htm", ".html", ".xhtml", ".shtml", ".php", ".asp", ".aspx", ".jsp")
"""Endings of names that an HTML page may bear."""
JSONS = (".json", ".jsonl", ".ndjson", ".jsonc", ".json5", ".jsonld", ".geojson", ".gltf", ".ipynb", ".map", ".har",
         ".webmanifest", ".txt", ".log")  # fmt: skip
"""Endings of names that a JSON object with an error in it may bear."""
TEXTS = (
    ".bat", ".c", ".cfg", ".conf", ".cpp", ".css", ".csv", ".cu", ".env", ".h", ".htm", ".html", ".ini", ".j2",
    ".jinja", ".jsonl", ".js", ".keep", ".lock", ".log", ".lua", ".md", ".ndjson", ".ps1", ".py", ".pyi", ".rst", ".sh",
    ".sql", ".svg", ".toml", ".ts", ".tsv", ".txt", ".typed", ".xml", ".yaml", ".yml",
)  # fmt: skip
"""Endings of names that an empty file may bear. A name that begins with a dot may as well."""

HEAD = 2048
"""Bytes that are enough to tell what stands for a file."""
END_OF_ZIP = b"PK\x05\x06"
MOST_ZIP_END = 22 + 65_535
"""Bytes at the end of a ZIP archive among which its last record begins: its own, and the longest comment."""
MOST_SAFETENSORS_HEADER = 100_000_000

LFS = b"version https://git-lfs.github.com/spec/"
ERROR_KEYS = frozenset({"detail", "error", "error_code", "errorCode", "errors", "message"})
FIRST_KEY = re.compile(rb'\{\s*"(?:detail|error|error_code|errorCode|errors|message)"\s*:')
SCALAR = re.compile(rb"(?:-?[0-9][0-9.eE+-]*|true|false|null|NaN|-?Infinity)\s*")
LOGIN = re.compile(rb"log[ -]?in\b|sign[ -]?in\b|password")


class Readable(Protocol):
    """A file that is open to be read, at any place."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place; returns where that is."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """Read at most *size* bytes from there on."""
        ...


def has_known_beginning(name: str) -> bool:
    """Whether every file whose name ends as *name* begins in a known way."""
    return (ending := _ending(name)) in BEGINNINGS or ending in SAFETENSORS


def what_came(name: str, head: bytes) -> str | None:
    """What came instead of a file of this *name*, as far as its first bytes tell: a page, an error, a pointer, nothing.

    None if the bytes may be right.

    Args:
        name: The name of the file.
        head: The first bytes, up to ``HEAD``; fewer tell less. None at all are an empty file.
    """
    ending, text = _ending(name), head[:HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text.lower()
    if not head:
        return None if ending in TEXTS or name.startswith(".") else "no bytes at all"
    if lower.startswith((b"<!doctype html", b"<html")) and ending not in PAGES:
        login = " (a login may be needed)" if LOGIN.search(lower) else ""
        return f"an HTML page{login}: {_shown(head)}"
    if lower.startswith((b"<?xml", b"<error")) and b"<error>" in lower and ending != ".xml":
        return f"an error in XML: {_shown(head)}"
    if head.startswith(LFS):
        return f"a pointer of git LFS, not the file that it stands for: {_shown(head)}"
    if text.startswith(b"{") and ending not in JSONS and _is_error(text):
        return f"an error in JSON: {_shown(head)}"
    return None


def what_is_wrong(name: str, file: Readable) -> str | None:
    """What a whole *file* is that cannot be what its *name* says; None if it may be right."""
    size, head = file.seek(0, 2), first_bytes(file)
    if (came := what_came(name, head)) is not None:
        return came
    ending = _ending(name)
    no_such = f"something that is no {ending} file: {_shown(head)}"
    if ending in SAFETENSORS:
        return _wrong_safetensors(size, head, file)
    if ending in BEGINNINGS and not head.startswith(BEGINNINGS[ending]):
        return no_such
    if ending == ".gguf" and not any(0 < int.from_bytes(head[4:8], order) < 100 for order in ("little", "big")):
        return no_such
    is_zip = head.startswith(ZIP) and (BEGINNINGS.get(ending) == ZIP or ending in CHECKPOINTS)
    if is_zip and not _has_end_of_zip(_read(file, max(0, size - MOST_ZIP_END), MOST_ZIP_END)):
        return f"a ZIP archive that is cut off: its directory is missing at the end of its {size} bytes"
    if ending == ".json":
        return _wrong_json(head, _read(file, max(0, size - HEAD), HEAD))
    return None


def first_bytes(file: Readable) -> bytes:
    """What ``what_came`` looks at of *file*."""
    return _read(file, 0, HEAD)


def _read(file: Readable, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _ending(name: str) -> str:
    return PurePath(name).suffix.lower()


def _is_error(text: bytes) -> bool:
    """Whether a JSON object, or the beginning of one, tells an error."""
    try:
        return not ERROR_KEYS.isdisjoint(msgspec.json.decode(text, type=dict[str, msgspec.Raw]))
    except msgspec.DecodeError:  # longer than the head
        return FIRST_KEY.match(text) is not None


def _wrong_safetensors(size: int, head: bytes, file: Readable) -> str | None:
    """What is wrong with a file that begins with the length of its header, in eight bytes, and the header, in JSON.

    The header says where each tensor lies behind it. Together they fill the file.

    Source: https://github.com/huggingface/safetensors, "Format".
    """
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or not 2 <= length <= MOST_SAFETENSORS_HEADER:
        return f"something that is no .safetensors file: {_shown(head)}"
    if size < 8 + length:
        return f"a .safetensors file that is cut off: its header has {length} bytes, and {size - 8} came of it"
    try:
        header = msgspec.json.decode(_read(file, 8, length), type=dict[str, dict[str, object]])
        tensors = msgspec.convert([header[one] for one in header if one != "__metadata__"], list[_Tensor])
    except (ValueError, RecursionError) as error:
        return f"something that is no .safetensors file: its header cannot be read: {error}"
    whole = 8 + length + max((one.data_offsets[1] for one in tensors), default=0)
    if size == whole:
        return None
    problem = "that is cut off" if size < whole else "with bytes that are none of it"
    return f"a .safetensors file {problem}: by its header it has {whole} bytes, and {size} came"


class _Tensor(msgspec.Struct):
    """Where a tensor lies, from the end of the header on."""

    data_offsets: tuple[int, int]


def _has_end_of_zip(tail: bytes) -> bool:
    at = tail.rfind(END_OF_ZIP)
    return at >= 0 and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") <= len(tail)


def _wrong_json(head: bytes, tail: bytes) -> str | None:
    """What is wrong with a JSON text, as far as its two ends tell: some tools allow comments in it."""
    text, last = head.removeprefix(b"\xef\xbb\xbf").lstrip(), tail.rstrip()[-1:]
    first = text[:1]
    if first.isascii() and first not in (b"{", b"[", b"/", b'"') and not SCALAR.fullmatch(text):
        return f"something that is no JSON: {_shown(head)}"
    ends = {b"{": b"}", b"[": b"]"}
    has_comment = b"//" in tail.rstrip().rpartition(b"\n")[2] or last == b"/"
    if last != ends.get(first, last) and not has_comment:
        return f"JSON that is cut off: it ends with {_shown(tail[-60:])}"
    return None


def _shown(head: bytes) -> str:
    """The beginning of *head* in one line."""
    return repr(" ".join(head[:400].decode("latin-1").split())[:100])
