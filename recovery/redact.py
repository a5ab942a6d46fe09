"""Redact secrets in texts that leave the process: journal, log and output.

Secrets are recognized by their shape: user names, passwords and query parameters of URLs, headers that authorize,
options that name a secret, and tokens with a known prefix. ``hide`` adds literals. The caller's own exception keeps its
text, and so do the arguments and checkpoints of resumable calls, which must come back as they were.

Every pattern takes time in proportion to the text: no repetition can match in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar
from urllib.parse import quote, quote_plus

import msgspec

from events.evidence import Evidence
from events.operation_events import FailureClassified

S = TypeVar("S", bound=msgspec.Struct)

MASK = "***"
"""What replaces a secret."""

SUB_DELIMITERS = "/?:@!$&'()*+,;="
"""Characters that need no percent-encoding in the path or query of a URL (RFC 3986)."""

LEAST_LITERAL = 4
"""Characters that a literal must have: a shorter one would redact too much else."""

MARGIN = 512
"""Characters at a cut that may be part of a secret which can no longer be recognized."""

NAMES = "token|secret|password|passwd|pwd|passphrase|credentials?"
IS = r"(?:['\"]|%22|%27)?\s{0,2}(?:[=:]|%3D|%3A)\s{0,2}(?:%22|%27)?"
WORD = r"['\"]?(?:(?!%2[267])[^&#\s'\"<>])+"
UNMASKED = r"(?!\*{3}[^\w\s]{0,3}(?:\s|\Z))"
"""Not what is masked already, whose punctuation is not part of a secret: texts are redacted again in a longer line."""
VALUE = rf"{UNMASKED}(?:'(?:[^'\\\r\n]|\\.)*'|\"(?:[^\"\\\r\n]|\\.)*\"|{WORD})"


def _masked(found: re.Match[str]) -> str:
    """The name, and the masked value in its quotes, so that the text around it can still be read and redacted."""
    value = found[0].removeprefix(found[1])
    quotes = value[0] if value[0] in "'\"" and value[0] == value[-1] else ""
    return f"{found[1]}{quotes}{MASK}{quotes}"


SHAPES: tuple[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (needles, re.compile(pattern, re.IGNORECASE), replacement)
    for needles, pattern, replacement in (
        # scheme://user:password@host; the password may itself hold an @.
        (("://",), rf"(://)[^\s/?#'\"<>]{{1,{MARGIN}}}@", rf"\1{MASK}@"),
        (("%3a%2f%2f",), rf"(%3A%2F%2F)(?:(?!%2F|%40)[^\s/?#@'\"<>&]){{1,{MARGIN}}}(%40|@)", rf"\1{MASK}\2"),
        # name=value or name: value, in queries (also percent-encoded), JSON, headers and prose.
        (("token", "secret", "pass", "pwd", "credential"), rf"((?:{NAMES}){IS}){VALUE}", _masked),
        (("key", "sig", "x-amz-"), rf"((?:key|sig|signature|X-Amz-[\w-]{{1,40}})(?:=|%3D)){VALUE}", _masked),
        (("api",), rf"(api[-_ ]?key{IS}){VALUE}", _masked),
        # --name value, and as the list of arguments that CalledProcessError shows.
        (("--",), rf"(--[\w-]{{0,40}}(?:{NAMES}|key)['\"]?,?\s{{1,4}}){VALUE}", _masked),
        (
            ("authorization",),
            rf"(authorization['\"]?\s{{0,2}}[:=,]\s{{0,2}}['\"]?){UNMASKED}"
            r"(?:digest\s[^\r\n]*|(?:[a-z-]{1,20}\s{1,4})?[^\s'\"]+)",
            rf"\1{MASK}",
        ),
        (("bearer",), r"(bearer\s{1,4})[\w.~+/-]{16,}=*", rf"\1{MASK}"),
        (
            ("cookie",),
            rf"(cookie['\"]?\s{{0,2}}[:=,]\s{{0,2}}['\"]?){UNMASKED}"
            r"[^\s;'\"]+(?:\s{0,2};\s{0,2}[^\s;'\"]+)*",
            rf"\1{MASK}",
        ),
        # Hugging Face, GitHub, GitLab, OpenAI; JSON Web Tokens (RFC 7519).
        (("hf_",), r"hf_[A-Z0-9_-]{16,}", MASK),
        (("gh",), r"(?:gh[pousr]_|github_pat_)[A-Z0-9_-]{16,}", MASK),
        (("glpat-",), r"glpat-[A-Z0-9_-]{16,}", MASK),
        (("sk-",), r"(?:(?<![A-Z0-9])|(?<=%[0-9A-F]{2}))sk-[A-Z0-9_-]{16,}", MASK),
        (("eyj",), r"(?<![\w-])eyJ[\w-]{4,}\.[\w-]{4,}\.[\w-]*", MASK),
    )
)
"""Needles, pattern and replacement. A pattern is tried only if one of its needles is in the lower-case text."""

IDENTITY = frozenset(
    {"operation", "key", "call", "version", "type", "rule", "command", "received", "subscriber", "idempotency_key"}
)
"""The fields by which events are found; they are not redacted."""

MAX_CACHED = 256
"""Characters of a text whose redaction is cached: most failures repeat the text of others."""

_literals: tuple[str, ...] = ()


def hide(*secrets: str) -> None:
    """Redact these literals in every text from now on, as they are and percent-encoded.

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
    global _literals  # of the whole process
    literals = {*_literals}.union(*map(_spellings, secrets))
    _literals = tuple(sorted(literals, key=len, reverse=True))  # the whole before a part of it


def unhide(*secrets: str) -> None:
    """Stop redacting these literals, or all of them if none is given: after a token is revoked, and in tests."""
    global _literals
    shown = {*_literals} if not secrets else set[str]().union(*map(_spellings, secrets))
    _literals = tuple(literal for literal in _literals if literal not in shown)


def _spellings(secret: str) -> set[str]:
    """*secret* as it is, in one line, quoted by ``repr``, and percent-encoded in each way that is allowed."""
    spared = [quote(secret, safe=safe, errors="replace") for safe in ("", "/", SUB_DELIMITERS)]
    encoded = [*spared, quote_plus(secret, errors="replace")]
    in_lower = [re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), one) for one in encoded]
    in_line = " ".join(printable(secret).split())
    return {secret, in_line if len(in_line) >= LEAST_LITERAL else secret, repr(secret)[1:-1], *encoded, *in_lower}


def redact(text: str) -> str:
    """*text* with every recognized secret replaced by ``***``; *text* itself if there is none."""
    return _redacted_short(text, _literals) if len(text) <= MAX_CACHED else _redacted(text, _literals)


def _redacted(text: str, literals: tuple[str, ...]) -> str:
    for secret in literals:
        text = text.replace(secret, MASK)
    lower = text.lower()
    for needles, pattern, replacement in SHAPES:
        for needle in needles:
            if needle in lower:
                text = pattern.sub(replacement, text)
                break
    return text


_redacted_short = lru_cache(maxsize=1024)(_redacted)


def clipped(text: str, most: int, *, tail: bool = False) -> str:
    """*text* cut to *most* characters; a text that is longer is redacted before the cut.

    Half a secret could not be recognized. Of a text that is more than twice as long, twice as much is read.

    Args:
        text: The text.
        most: How many characters are kept.
        tail: Whether the end is kept, not the beginning.
    """
    if len(text) <= most:
        return text
    if tail:
        return redact(text[-2 * most :])[MARGIN if len(text) > 2 * most else 0 :][-most:]
    return redact(text[: 2 * most])[: -MARGIN if len(text) > 2 * most else None][:most]


def redacted(event: S) -> S:
    """An event, or evidence, with its texts redacted, except those by which it is found; itself without a secret."""
    changes: dict[str, object] = {}
    for name in _with_texts(type(event)):
        value = getattr(event, name)
        if not value:
            continue
        after = redact(value) if isinstance(value, str) else redacted(value)
        if after is not value and after != value:
            changes[name] = after
    return msgspec.structs.replace(event, **changes) if changes else event


@lru_cache(maxsize=128)
def _with_texts(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields that may hold a text, or evidence or a failure, which have texts."""
    wanted = (str, str | None, Evidence, Evidence | None, FailureClassified | None)
    fields = msgspec.structs.fields(kind)
    return tuple(field.name for field in fields if field.name not in IDENTITY and field.type in wanted)


def printable(text: str) -> str:
    """*text* in one line without control characters or direction marks, for a log or a terminal."""
    if text.isprintable():
        return text
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
