"""Take secrets out of texts that leave the process: what is journalled, logged, or printed.

One function for all, by shape: what an URL carries as user name or in its query, headers that authorise, options that
name a secret, and tokens that are known by their prefix. ``hide`` adds literals. The caller's own exception keeps its
text; so do the arguments and checkpoints of resumable calls, which must come back as they were.

Every pattern takes time in proportion to the text: nothing that repeats can match in two ways.
"""

from __future__ import annotations

import re
from typing import TypeVar
from urllib.parse import quote, quote_plus

import msgspec

from events.facts import Evidence, Fact

S = TypeVar("S", bound=msgspec.Struct)

MASK = "***"

LEAST_LITERAL = 4
"""Shorter literals would take too much else along."""

NAMES = "token|secret|password|passwd|pwd|passphrase|credentials?"
VALUE = r"(?:(?!%26|\*\*\*)[^&#\s'\"<>])+"

SHAPES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # scheme://user:password@host; the password may itself hold an @.
        (r"(://)(?!\*\*\*@)[^\s/?#'\"<>]{1,512}@", rf"\1{MASK}@"),
        (r"(%3A%2F%2F)(?!\*\*\*)(?:(?!%2F|%40)[^\s/?#@'\"<>&]){1,512}(%40|@)", rf"\1{MASK}\2"),
        # name=value, in queries (also percent-encoded) and elsewhere.
        (rf"((?:{NAMES}|key|sig|signature|X-Amz-[\w-]{{1,40}})(?:=|%3D))['\"]?{VALUE}", rf"\1{MASK}"),
        # name: value, in JSON, in headers and in prose.
        (rf"((?:{NAMES}|api[-_ ]?key)['\"]?:\s{{0,2}})['\"]?{VALUE}", rf"\1{MASK}"),
        # --name value, and as the list of arguments that CalledProcessError shows.
        (rf"(--[\w-]{{0,40}}(?:{NAMES}|key)['\"]?,?\s{{1,4}})['\"]?{VALUE}", rf"\1{MASK}"),
        (
            r"(authorization['\"]?\s{0,2}[:=,]\s{0,2}['\"]?)"
            r"(?!\*\*\*)(?:digest\s[^\r\n]*|(?:[a-z-]{1,20}\s{1,4})?[^\s'\"]+)",
            rf"\1{MASK}",
        ),
        (r"(cookie['\"]?\s{0,2}[:=,]\s{0,2}['\"]?)(?!\*\*\*)[^\s;'\"]+(?:;\s{0,2}[^\s;'\"]+){0,100}", rf"\1{MASK}"),
    )
)
TOKENS = re.compile(
    r"(?:hf_|gh[pousr]_|github_pat_|glpat-|(?:(?<![A-Za-z0-9])|(?<=%[0-9A-F]{2}))sk-)[A-Za-z0-9_-]{16,}"
    r"|(?<![\w-])eyJ[\w-]{4,}\.[\w-]{4,}\.[\w-]*"
)
"""Hugging Face, GitHub, GitLab, OpenAI; JSON Web Tokens (RFC 7519)."""

IDENTITY = frozenset({"operation", "key", "call", "version", "type", "rule", "command", "heard", "subscriber"})
"""What facts are found by; it is not touched."""

_literals: set[str] = set()


def hide(*secrets: str) -> None:
    """Take these literals out of every text from now on, as they are and percent-encoded.

    Raises TypeError for what is no text, ValueError for fewer than four characters: that would hide too much else.
    """
    for secret in secrets:
        if not isinstance(secret, str):
            raise TypeError(f"a secret is a str, not a {type(secret).__name__}")
        if len(secret) < LEAST_LITERAL:
            raise ValueError(f"a secret to hide has at least {LEAST_LITERAL} characters, not {len(secret)}")
    for secret in secrets:
        encoded = quote(secret, safe="", errors="replace")
        _literals.update({secret, encoded, encoded.lower(), quote_plus(secret, errors="replace"), repr(secret)[1:-1]})


def redact(text: str) -> str:
    """*text* with every secret that can be recognised replaced by ``***``; the same object if there is none."""
    for secret in sorted(_literals, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = TOKENS.sub(MASK, text)
    for pattern, replacement in SHAPES:
        text = pattern.sub(replacement, text)
    return text


def redacted(fact: S) -> S:
    """*fact*, or evidence, with all its texts redacted but those that it is found by; itself if there is no secret."""
    changes: dict[str, object] = {}
    for name in fact.__struct_fields__:
        value = getattr(fact, name)
        after: object = value
        if type(value) is str and name not in IDENTITY:
            after = redact(value)
        elif isinstance(value, Fact | Evidence):
            after = redacted(value)
        if after is not value and after != value:
            changes[name] = after
    return msgspec.structs.replace(fact, **changes) if changes else fact
