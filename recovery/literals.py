"""Hidden literals: texts that are masked wherever they are said, however they are spelt, wrapped or cut off."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import NamedTuple

from events.fork_locks import fork_safe

MASK = "***"
"""What replaces a secret."""

LEAST_LITERAL = 4
"""Characters that a literal must have: a shorter one would mask too much else."""

LEAST_FOLDED = 8
"""Characters that a folded literal must have: a shorter one is looked for in its usual spellings alone."""

LEAST_PART = 6
"""Characters of a literal that are masked where a text is cut."""

LEAST_LINE = 16
"""Characters of a line of a literal that is masked alone."""

SUB_DELIMITERS = "/?:@!$&'()*+,;="
"""Characters that need no percent-encoding in the path or query of a URL (RFC 3986)."""

HEX = "[0-9A-F]"
PERCENT = "%(?:25)*"  # what is percent-encoded may be encoded again
BACKSLASH = rf"(?:\\|{PERCENT}5C)"
ESCAPE = (
    rf"(?:\x1b|{BACKSLASH}+(?:x1b|u001b|033))\[[0-9;?]{{0,20}}[A-Z]"
    rf"|(?P<utf8>(?:(?:{PERCENT}|{BACKSLASH}+x)[89A-F]{HEX}|{BACKSLASH}+[23][0-7]{{2}})+)"
    rf"|{BACKSLASH}+(?:(?-i:[abefnrtv])|x(?P<byte>[0-7]{HEX})|u(?P<high>D[89AB]{HEX}{{2}}){BACKSLASH}+u(?P<low>D[C-F]{HEX}{{2}})"
    rf"|(?-i:u)(?P<unit>{HEX}{{4}})|(?-i:U)(?P<code>{HEX}{{8}})|(?P<octal>[01][0-7]{{2}}))?"
    rf"|{PERCENT}(?P<ascii>[0-7]{HEX})"
    rf"|&(?:amp;)*(?P<entity>(?:amp|lt|gt|quot|apos|#[0-9]{{1,7}}|#x{HEX}{{1,6}});)"
)
"""What a tool may write in place of a character: no two parts match alike."""

BYTE = r"(?<=[\\C])([23][0-7]{2})|([89A-F][0-9A-F])(?=[%\\]|$)"
"""A byte of the part ``utf8``: in octal behind a backslash (``%5C``, too), or two hex digits."""

LEFT_OUT = dict.fromkeys([*range(33), *map(ord, "'\"\\+"), *range(127, 161)])
"""Characters that differ between the spellings of a text: blanks, and what quotes and escapes."""

BYTES_OF_NO_CHARACTER = {0xDC00 + byte: byte for byte in range(128, 256)}
"""What Python decodes a byte to that is not UTF-8, and its character in ISO 8859-1."""

OF_URLS = str.maketrans("+/", "-_")
"""From base64 to that of URLs and file names (RFC 4648, 5)."""

CUT = r"\.{3,}|\u2026"
"""How a tool says that it has left something out."""

CLOSING = ")]}>,;:."
"""What may follow the end of a text that was cut."""


class Literals(NamedTuple):
    """What is masked: in these spellings, and in any spelling that folds to one of these. The longest come first."""

    spelt: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()


_lock = fork_safe(threading.Lock())
_secrets: dict[str, None] = {}
_literals = Literals()


def hide(*secrets: str) -> None:
    """Redact these literals in every text from now on, whatever quotes, escapes, wraps or cuts them.

    Base64, percent-encoding, the escapes of JSON, HTML, Python, shells and terminals, and blanks, tabs and new lines
    in other places are seen through. So is a cut: at the ends of a text, and at dots that stand for what is left out,
    parts of six characters are masked. A line of 16 characters is a literal of its own.

    Args:
        secrets: Texts of at least four characters.

    Raises:
        TypeError: A secret is no text.
        ValueError: A secret is shorter: it would redact too much else.
    """
    for secret in secrets:
        if not isinstance(secret, str):
            raise TypeError(f"a secret is a str, not a {type(secret).__name__}")
        if len(secret) < LEAST_LITERAL:
            raise ValueError(f"a secret to hide has at least {LEAST_LITERAL} characters, not {len(secret)}")
    with _lock:
        if any(secret not in _secrets for secret in secrets):
            _secrets.update(dict.fromkeys(secrets))
            _renew()


def unhide(*secrets: str) -> None:
    """Stop redacting literals: after a token is revoked, and in tests.

    Args:
        secrets: As given to ``hide``; all of them if none is given.
    """
    with _lock:
        for secret in secrets or tuple(_secrets):
            _secrets.pop(secret, None)
        _renew()


def hidden() -> Literals:
    """The literals that are hidden now."""
    return _literals


@cache
def _unescape() -> Callable[[str], str]:
    from html import unescape  # here, for what is hidden: its table of entities takes milliseconds

    return unescape


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)  # when it is first needed: importing recovery stays light


def _renew() -> None:
    global _literals  # of the whole process
    _unescape()  # a text may be masked when the interpreter imports nothing any more
    parts = [
        *_secrets,
        *(line for secret in _secrets for line in secret.splitlines() if len(folded(line)) >= LEAST_LINE),
    ]
    spelt = set[str]().union(*map(_spellings, parts))
    encoded = (one for secret in _secrets for one in _in_base64(secret))
    bare = (part.replace("\x1b", "") for part in parts)  # where it is percent-encoded, no colour is seen
    folds = {fold for fold in map(folded, (*parts, *bare, *encoded)) if len(fold) >= LEAST_FOLDED}
    _literals = Literals(*(tuple(sorted(one, key=len, reverse=True)) for one in (spelt, folds)))


@lru_cache(maxsize=256)
def _spellings(secret: str) -> set[str]:
    """*secret* as it is, in one line, quoted by ``repr`` and ``ascii``, and percent-encoded in each way there is."""
    from urllib.parse import quote, quote_plus  # here, for what is hidden: it takes milliseconds

    spared = [quote(secret, safe=safe, errors="replace") for safe in ("", "/", SUB_DELIMITERS)]
    encoded = [*spared, quote_plus(secret, errors="replace")]
    in_lower = [re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), one) for one in encoded]
    in_line = " ".join("".join(c if c.isprintable() else " " for c in secret).split())
    quoted = repr(secret)[1:-1], ascii(secret)[1:-1]
    return {secret, in_line if len(in_line) >= LEAST_LITERAL else secret, *quoted, *encoded, *in_lower}


@lru_cache(maxsize=256)
def _in_base64(secret: str) -> set[str]:
    """What is the same of *secret* in base64, also in that of URLs, behind any number of other bytes."""
    data = secret.encode(errors="surrogatepass")
    found = set[str]()
    for before in range(3):
        text = base64.b64encode(bytes(before) + data).decode()[before and before + 1 : (before + len(data)) * 8 // 6]
        found |= {text, text.translate(OF_URLS)}
    return found


def masked(text: str, literals: Literals) -> str:
    """*text* with each of *literals* replaced by ``***``, in time proportional to its length."""
    spans = [span for one in literals.spelt for span in _occurrences(text, one)]
    if literals.folded:
        said = folded(text)
        if any(part in said for one in literals.folded for part in _needles(one)):
            spans += _traced(text, literals.folded)
    if not spans:
        return text
    kept: list[str] = []
    at = 0
    for begin, end in sorted(spans):
        if begin >= at:
            kept += [text[at:begin], MASK]
        at = max(at, end)
    return "".join((*kept, text[at:]))


def _occurrences(text: str, literal: str) -> Iterator[tuple[int, int]]:
    at = text.find(literal)
    while at >= 0:
        yield at, at + len(literal)
        at = text.find(literal, at + len(literal))


def folded(text: str) -> str:
    """*text* without what differs between its spellings."""
    if any(sign in text for sign in "\\%&\x1b"):
        text = _compiled(ESCAPE).sub(_said, text)
    said = text.translate(LEFT_OUT)
    return said if said.isprintable() else "".join(filter(str.isprintable, said))


def _traced(text: str, literals: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Where in *text* the *literals* are, which are folded."""
    traced = [*_characters(text)]
    said = "".join(character for character, _, _ in traced)
    for literal in literals:
        for first, after in (*_whole(said, literal), *_cut(said, literal)):
            yield traced[first][1], traced[after - 1][2]


def _characters(text: str) -> Iterator[tuple[str, int, int]]:
    """Each character of *text* folded, and where in *text* it begins and ends."""
    at = 0
    for found in (*_compiled(ESCAPE).finditer(text), None):
        begin, end = found.span() if found else (len(text), len(text))
        for place in range(at, begin):
            if _is_kept(text[place]):
                yield text[place], place, place + 1
        for character in _said(found) if found else "":
            if _is_kept(character):
                yield character, begin, end
        at = end


def _is_kept(character: str) -> bool:
    return ord(character) not in LEFT_OUT and character.isprintable()


def _said(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind is None:
        return ""  # a colour, a blank, or the backslash before a quote
    digits = found[kind]
    match kind:
        case "utf8":
            said = bytes(int(octal or "0", 8) or int(pair, 16) for octal, pair in _compiled(BYTE).findall(digits))
            return said.decode(errors="surrogateescape").translate(BYTES_OF_NO_CHARACTER)
        case "low":
            units = int(found["high"], 16) - 0xD800, int(digits, 16) - 0xDC00
            return chr(0x10000 + (units[0] << 10) + units[1])
        case "entity":
            return _unescape()(f"&{digits}")
        case "octal":
            return chr(int(digits, 8))
    return chr(min(int(digits, 16), 0x10FFFF))


def _core(literal: str) -> tuple[str, str, str]:
    """*literal*, its two edges apart: a backslash before it, or half an escape, may take a part of an edge along."""
    edge = LEAST_PART - 1 if len(literal) >= 4 * LEAST_PART else 0
    return literal[:edge], literal[edge : len(literal) - edge], literal[len(literal) - edge :]


def _needles(literal: str) -> tuple[str, str, str]:
    """What a text says, one at least, that says *literal* or a part of it at a cut. All are folded."""
    return literal[:LEAST_PART], literal[-LEAST_PART:], _core(literal)[1]


def _whole(said: str, literal: str) -> Iterator[tuple[int, int]]:
    """Where *literal* is said, without what of its edges is not."""
    before, core, after = _core(literal)
    for begin, end in _occurrences(said, core):
        missing = next(number for number in range(len(before) + 1) if said.endswith(before[number:], 0, begin))
        follows = next(number for number in range(len(after), -1, -1) if said.startswith(after[:number], end))
        yield begin - len(before) + missing, end + follows


def _cut(said: str, literal: str) -> Iterator[tuple[int, int]]:
    """Where the beginning of *literal* is said before a cut, or its end after one."""
    head, tail = literal[:LEAST_PART], literal[-LEAST_PART:]
    has_head, has_tail = head in said, tail in said
    if not has_head and not has_tail:
        return
    cuts = [0, *(place for found in _compiled(CUT).finditer(said) for place in found.span()), len(said)]
    pieces = [*zip(cuts[::2], cuts[1::2], strict=True), (0, len(said.rstrip(CLOSING)))]  # between cuts, and the whole
    for begin, end in pieces:
        if has_head:
            at = said.find(head, max(begin, end - len(literal) + 1), end)
            while at >= 0 and not literal.startswith(said[at:end]):
                at = said.find(head, at + 1, end)
            if at >= 0:
                yield at, end
        if has_tail:
            at = said.rfind(tail, begin, min(end, begin + len(literal) - 1))
            while at >= 0 and not literal.endswith(said[begin : at + LEAST_PART]):
                at = said.rfind(tail, begin, at + LEAST_PART - 1)
            if at >= 0:
                yield begin, at + LEAST_PART
