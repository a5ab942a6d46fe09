"""Requirements files: every line, with the files that they include, and what a person must be asked about.

A plug-in's requirements file is written by strangers, and pip obeys its options: ``--index-url`` sends each package to
another server, ``-e`` and URLs run code from anywhere. Such lines are named with file and line.
"""

from __future__ import annotations

import codecs
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import msgspec

from adapters.disk import read_plain
from events.errors import Permanent
from recovery.installation import extra
from recovery.redact import redact

with extra("launcher"):
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

MOST_BYTES = 1024 * 1024
"""Bytes of a requirements file."""

MOST_FILES = 100
"""Files that one requirements file may include, those that they include among them."""

SHORT = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url", "-f": "--find-links"}

HARMLESS = frozenset({"--require-hashes", "--prefer-binary", "--only-binary"})
"""Options that are passed on without a question: they make an install stricter."""

HARMLESS_VALUE = re.compile(r"(?:[\w:.,][\w:.,-]*)?")
"""Their value: names of packages. A space, quote or dash could begin an option that is not asked about."""

ASKED = {
    "--index-url": "takes every package from another index",
    "--pypi-url": "takes every package from another index",
    "--extra-index-url": "takes packages from a further index",
    "--find-links": "takes packages from a page or folder",
    "--no-index": "takes no package from an index",
    "--trusted-host": "does not check who a server is",
    "--pre": "takes unfinished releases",
    "--editable": "installs a folder or repository as it stands",
    "--requirement": "includes a file of a server",
    "--constraint": "includes a file of a server",
}
"""What options do that a person is asked about."""

LOCAL = "; write 'NAME @ file:///PATH' for a folder or an archive of this computer"
COMMENT = re.compile(r"(?:^|\s+)#.*$")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
ARCHIVE = re.compile(r"\.(?:whl|zip|tar|tar\.(?:gz|bz2|xz)|tgz|tbz|txz)(?:\[|$)", re.IGNORECASE)
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class InvalidRequirementsError(Permanent, ValueError):
    """A requirements file cannot be used: the message names file, line and cure."""


class Line(msgspec.Struct, frozen=True):
    """One line of a requirements file.

    Args:
        text: A requirement with its marker and hashes, or an option. Paths are absolute.
        file: The file that has it.
        number: Its line there, from 1 on.
        is_constraint: Whether it only limits versions.
        asks: What it does that a person must be asked about; "" for nothing.
    """

    text: str
    file: str
    number: int
    is_constraint: bool = False
    asks: str = ""

    @property
    def shown(self) -> str:
        """Its place, text and what it does, for a person; without passwords."""
        return f"{self.file}, line {self.number}: {redact(self.text)} ({self.asks})"


class Requirements(msgspec.Struct, frozen=True):
    """What requirements files say: *lines* are every line of them, in order."""

    lines: tuple[Line, ...] = ()

    @property
    def asked(self) -> tuple[Line, ...]:
        """The lines that a person must be asked about."""
        return tuple(one for one in self.lines if one.asks)

    def without_asked(self) -> Requirements:
        """These without the lines that a person must be asked about."""
        return Requirements(tuple(one for one in self.lines if not one.asks))

    def text(self, *, constraints: bool = False) -> str:
        """The content of one requirements file, or constraints file, that says the same; "" if there is no line."""
        return "".join(f"{one.text}\n" for one in self.lines if one.is_constraint == constraints)


def requirement_lines(texts: tuple[str, ...], root: Path | None = None) -> Requirements:
    """Requirements that a program names itself, which need no question. The path of a wheel is one.

    Args:
        texts: The requirements.
        root: The folder that relative paths of wheels count from. With it, the wheels must be there.

    Raises:
        InvalidRequirementsError: A text is no requirement, or the wheel is missing.
    """
    lines = []
    for number, given in enumerate(texts, 1):
        is_wheel = given.endswith(".whl") and not SCHEME.match(given) and "@" not in given
        text = _of_wheel(given, root) if is_wheel else given
        try:
            Requirement(text)
        except InvalidRequirement as error:
            cure = LOCAL if "/" in given and not SCHEME.match(given) else ""
            raise InvalidRequirementsError(f"{redact(given)!r} is no requirement: {_first(error)}{cure}") from error
        lines.append(Line(text, "requirements", number))
    return Requirements(tuple(lines))


def _of_wheel(text: str, root: Path | None) -> str:
    """The requirement that the wheel at the path *text* is."""
    try:
        name, *_ = parse_wheel_filename(PurePath(text).name)
    except InvalidWheelFilename as error:
        raise InvalidRequirementsError(f"{text!r} is no wheel: {_first(error)}") from error
    place = Path(os.path.normpath(Path("/" if root is None else root) / text))
    if root is not None and not place.is_file():
        raise InvalidRequirementsError(f"the wheel {place} does not exist: correct the path, or add the file")
    return f"{name} @ {place.as_uri()}"


def read_file(path: Path) -> bytes:
    """The bytes of a requirements file, or of what a link of that name leads to. Raises as ``read_plain``."""
    return read_plain(path.resolve(), MOST_BYTES)


def read_requirements(path: Path, read: Callable[[Path], bytes] = read_file) -> Requirements:
    """What the requirements file *path* says, with the files that it includes.

    UTF-8, UTF-16 with a byte order mark (as PowerShell writes it) and Latin-1 are read, and any kind of line end.

    Args:
        path: The file.
        read: Reads a file; the only input.

    Raises:
        InvalidRequirementsError: A file is missing, includes itself, or has a line that is no requirement.
    """
    return Requirements(tuple(_Reader(read).lines(path, (), is_constraint=False)))


class _Reader:
    """Reads a file and what it includes; each file once."""

    def __init__(self, read: Callable[[Path], bytes]) -> None:
        self._read = read
        self._seen: set[tuple[Path, bool]] = set()

    def lines(self, path: Path, around: tuple[Path, ...], *, is_constraint: bool, by: str = "") -> Iterator[Line]:
        path = Path(os.path.normpath(path))
        if path in around:
            raise InvalidRequirementsError(f"{by} includes {path}, which includes this file: remove one of the lines")
        if (path, is_constraint) in self._seen:
            return
        self._seen.add((path, is_constraint))
        if len(self._seen) > MOST_FILES:
            raise InvalidRequirementsError(f"{by}: more than {MOST_FILES} files are included")
        for number, text in _logical(_decoded(path, self._content(path, by))):
            line = Line(text, str(path), number, is_constraint)
            if text.startswith("-"):
                yield from self._option(line, path, around)
            else:
                yield _requirement(line, path)

    def _content(self, path: Path, by: str) -> bytes:
        place = f"{by} includes {path}, which" if by else f"the requirements file {path}"
        try:
            return self._read(path)
        except FileNotFoundError as error:
            raise InvalidRequirementsError(f"{place} does not exist: correct the path, or add the file") from error
        except OSError as error:
            raise InvalidRequirementsError(f"{place} cannot be read: {error.strerror or error}") from error

    def _option(self, line: Line, path: Path, around: tuple[Path, ...]) -> Iterator[Line]:
        name, value = _name_and_value(line)
        if name in ("--requirement", "--constraint") and not SCHEME.match(value):
            inner, is_constraint = path.parent / value, name == "--constraint"
            yield from self.lines(
                inner, (*around, path), is_constraint=is_constraint, by=f"{line.file}, line {line.number}"
            )
        elif name in HARMLESS and HARMLESS_VALUE.fullmatch(value):
            yield msgspec.structs.replace(line, text=f"{name} {value}".strip())
        else:
            if name in ("--editable", "--find-links"):
                value = _absolute(value, path)
                if " " in value:  # uv knows no quotes
                    place, bracket, extras = value.partition("[")
                    value = Path(place).as_uri() + bracket + extras
            text = f"{name} {value}".strip()
            yield msgspec.structs.replace(line, text=text, asks=ASKED.get(name, "changes how packages are installed"))


def _name_and_value(line: Line) -> tuple[str, str]:
    """The long name of the option, and its value. Raises InvalidRequirementsError for one that needs a value."""
    words = re.split(r"[\s=]+", line.text, maxsplit=1)
    name, value = words[0], words[1] if len(words) > 1 else ""
    if not name.startswith("--") and len(name) > 2:  # -rmore.txt
        name, value = name[:2], line.text[2:]
    name = SHORT.get(name, name)
    try:
        value = " ".join(shlex.split(value)) if "\\" not in value else value
    except ValueError as error:
        raise _wrong(line, str(error)) from error
    if name in SHORT.values() and not value:
        raise _wrong(line, f"{name} needs a value")
    return name, value


def _requirement(line: Line, path: Path) -> Line:
    """*line* checked, with what it does that a person must be asked about."""
    text, options = _split_options(line.text)
    if ARCHIVE.search(text) and not SCHEME.match(text) and "@" not in text:
        return _local(line, text, options, path)
    try:
        parsed = Requirement(text)
    except InvalidRequirement as error:
        if SCHEME.match(text):
            return msgspec.structs.replace(line, asks=_of_url(text))
        if text.startswith(".") or "/" in text.partition(";")[0] or "\\" in text:
            return _local(line, text, options, path)
        raise _wrong(line, _first(error)) from error
    if parsed.url is not None:
        return msgspec.structs.replace(line, asks=_of_url(parsed.url))
    if any(not one.startswith("--hash=") for one in options.split()):
        return msgspec.structs.replace(line, asks="changes how the package is built")
    return line


def _of_url(url: str) -> str:
    scheme = url.partition(":")[0].lower()
    if scheme == "file":
        return "installs a file or folder of this computer"
    return "installs a repository" if "+" in scheme else "installs a file of a server, not of an index"


def _local(line: Line, text: str, options: str, path: Path) -> Line:
    place = f"{_absolute(text, path)} {options}".strip()
    return msgspec.structs.replace(line, text=place, asks="installs a file or folder of this computer")


def _absolute(value: str, path: Path) -> str:
    """*value* with a relative path made absolute: it counts from the folder of its file."""
    place, bracket, extras = value.partition("[")
    if SCHEME.match(value) or Path(place).is_absolute():
        return value
    return os.path.normpath(path.parent / place) + bracket + extras


def _split_options(text: str) -> tuple[str, str]:
    """A requirement, and the options after it."""
    match = re.search(r"\s+(--?\w.*)$", text)
    return (text[: match.start()], match[1].replace("--hash ", "--hash=")) if match else (text, "")


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers: continued ones joined, without comments and blank ones."""
    begun, parts = 0, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        begun = begun if parts else number
        is_comment = COMMENT.match(line) is not None
        if line.endswith("\\") and not is_comment:
            parts.append(line.rstrip("\\"))
            continue
        whole = COMMENT.sub("", "".join([*parts, "" if is_comment else line])).strip()
        parts.clear()
        if whole:
            yield begun, whole


def _decoded(path: Path, data: bytes) -> str:
    encoding = next((encoding for mark, encoding in BOMS if data.startswith(mark)), "")
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding:
            raise InvalidRequirementsError(f"{path} is no {encoding.upper()}, as its first bytes say") from error
        text = data.decode("latin-1")  # of an old editor: a name in a comment, mostly
    if "\0" in text:
        raise InvalidRequirementsError(f"{path} is no text: save it as UTF-8")
    return text


def _wrong(line: Line, why: str) -> InvalidRequirementsError:
    return InvalidRequirementsError(f"{line.file}, line {line.number}: {redact(line.text)!r} is no requirement: {why}")


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0]
