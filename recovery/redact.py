"""Redact secrets in texts that leave the process: journal, log and output.

Secrets are recognized by their shape: user names, passwords and query parameters of URLs, headers that authorize,
names that give a secret away, and tokens with a known prefix. ``hide`` adds literals. The caller's own exception keeps
its text, and so do the arguments and checkpoints of resumable calls, which must come back as they were.

The order is always the same, and ``brief`` keeps it: a text is redacted first, then made one line, then cut. Every
pattern takes time in proportion to the text: no repetition can match in two ways, and of a long text ``MAX_READ``
characters are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TypeVar

import msgspec

from events.evidence import Evidence, Remedy, Room
from events.operation_events import FailureClassified
from recovery.literals import MASK, Literals, hidden, masked
from recovery.literals import hide as hide
from recovery.literals import unhide as unhide

S = TypeVar("S", bound=msgspec.Struct)

MAX_READ = 32_768
"""Characters of a text that are read where only a part of it is kept; a secret of half as many is still recognized."""

MOST_OF_A_HOST = 255
"""Characters of a host and its port: what is longer, between :// and the path, is the beginning of a password."""

NAMES = "token|secret|password|passwd|pwd|passphrase|credentials?"
MARK = r"(?:'\"'\"'|\\{0,8}['\"])"  # a quote, as a shell or a further quotation spells it
QUOTE = rf"(?:{MARK}|%22|%27|&quot;|&#39;)"
CODED = "%(?:25){0,3}"  # what is percent-encoded may be encoded again
IS = rf"{QUOTE}?\s{{0,2}}(?:=>|[=:]|{CODED}3[DA])\s{{0,2}}(?:\[\s{{0,9}})?+"
BEGINS = r"(?P<escape>\\{0,8})(?P<quote>'\"'\"'|['\"])"
OPEN = rf"(?P<open>(?:[\w.]{{1,40}}\(|b)?{BEGINS})"
TO_CLOSE = r"(?:(?!(?<!\\)(?P=escape)(?P=quote))[^\r\n])*(?P<close>(?P=escape)(?P=quote))"
JOINED = r"(?:\\{0,8}\"[^\"\r\n]*\"|(?P=escape)'[^'\r\n]*'|\\')*"  # as shells join quoted parts into one word
WORD = rf"(?:{MARK}|%22|%27)?(?:(?!%2[267]|&[\w.%-]{{1,40}}=)[^\s'\"<>])+"
UNMASKED = r"(?!\*{3}[^\w\s]{0,3}(?:\s|\Z))"
"""Not what is masked already, whose punctuation is not part of a secret: texts are redacted again in a longer line."""
VALUE = rf"{UNMASKED}(?:{OPEN}{TO_CLOSE}{JOINED}|{WORD})"
AFTER_OPTION = rf"(?:=|{MARK}?,?\s{{1,4}}|{MARK},)"
USER = r"(?![a-z]:[\\/]|[0-9]{1,9}:[0-9]{1,9}(?![\w]))[^\s'\":/@]{1,256}:(?!/)"
ESCAPED = r"(?<=%[0-9A-F]{2})|(?<=\\[a-z])|(?<=\\x[0-9A-F]{2})|(?<=\\u[0-9A-F]{4})|(?<=[0-9\[]m)"
"""Behind what is percent-encoded, a new line as ``repr`` and JSON write it, or a colour."""
WORD_BEGINS = rf"(?:(?<![A-Z0-9])|{ESCAPED})"
OPTION_BEGINS = rf"(?:(?<![\w-])|{ESCAPED})"
NAME_BEGINS = rf"(?:(?<![a-z])|{ESCAPED})"
ASKED = r"token:[\w.-]{1,32}(?![\w.-])|secret:(?:env|file):[\w./-]{1,64}(?![\w./-])"  # the name of a question
QUESTION = rf"(?:(?<!an answer: )(?<!answer to ['\"])(?<!question ['\"])|(?!{ASKED}))"
SECRET_NEEDLES = ("token", "secret", "pass", "pwd", "credential")

SHAPES: tuple[tuple[tuple[str, ...], str], ...] = (
    # What a failed node of ComfyUI was given: API keys among prompts.
    (("current_inputs",), rf"(current_inputs{IS}){UNMASKED}{{(?:(?!,\s{{0,9}}{QUOTE}current_outputs)[\s\S])*"),
    # Private keys (RFC 7468), in lines, in one line, or escaped; the end may be missing.
    (
        ("private",),
        r"(-----BEGIN[A-Z0-9%+ ]{0,40}PRIVATE(?:\s|%20|\+)KEY(?:(?:\s|%20|\+)BLOCK)?-----)"
        rf"{UNMASKED}(?:(?!-----)[^<>{{}}])*",
    ),
    # scheme://user:password@host; the password may itself hold an @, a quote, or a slash that is no path's.
    (("@",), r"(:(?:\\{0,4}/){2})(?:[^\s/?#'\"<>]|'(?![\s,:;)\]}]))+(?P<close>@)"),
    (
        ("@",),
        r"(://)[^\s/?#'\"<>:@]*:(?![0-9]{0,5}[/?#\\])(?:(?!://)[^\s'\"<>@])+(?P<close>@)",
    ),
    (("://",), rf"(://)[^\s/?#'\"<>@]{{{MOST_OF_A_HOST + 1},}}"),
    (
        ("3a%2",),
        rf"({CODED}3A{CODED}2F{CODED}2F)(?:(?!{CODED}(?:2F|40))[^\s/?#@'\"<>&])+(?P<close>{CODED}40|@)",
    ),
    # A quoted word of name=value, as in a list of arguments: to its quote, whatever is in it.
    (
        (*SECRET_NEEDLES, "key"),
        rf"({BEGINS}-{{0,2}}[\w.-]{{0,60}}(?:{NAMES}|key)=)(?!['\"]){TO_CLOSE}{JOINED}",
    ),
    # name=value or name: value, in queries (also percent-encoded), JSON, headers, prose and XML.
    (SECRET_NEEDLES, rf"({QUESTION}(?:{NAMES}){IS}){VALUE}"),
    (
        ("key", "sig", "x-amz-", "pass", "auth"),
        rf"((?:key|sig|signature|{NAME_BEGINS}pass|[?&_]auth|X-Amz-[\w-]{{1,40}})(?:=|%3D)){VALUE}",
    ),
    (
        ("key",),
        rf"((?:(?:api|access|secret)[-_ ]?|(?:private|account|subscription)[-_]?)key{IS}){VALUE}",
    ),
    (
        (*SECRET_NEEDLES, "key"),
        rf"(<[\w:.-]{{0,40}}(?:{NAMES}|(?:api|access|secret)_?key)>){UNMASKED}[^<]+",
    ),
    # A pair of headers, as httpx shows them.
    (
        (*SECRET_NEEDLES, "key"),
        rf"(\(b?{MARK}[\w-]{{0,40}}(?:{NAMES}|key){MARK},\s{{0,2}}){UNMASKED}{OPEN}{TO_CLOSE}(?=\))",
    ),
    # --name value, and as the list of arguments that CalledProcessError shows.
    (
        (*SECRET_NEEDLES, "key"),
        rf"({OPTION_BEGINS}-{{1,2}}[\w-]{{0,40}}(?:{NAMES}|key){MARK}?,?\s{{1,4}})(?!{MARK}?--\w){VALUE}",
    ),
    # curl -u user:password, sshpass -p password, docker login -p password, a line of .netrc, openssl -pass pass:...
    (
        ("-u", "-user"),
        rf"({OPTION_BEGINS}(?:-u|--(?:proxy-)?user){AFTER_OPTION}{BEGINS}{USER}){TO_CLOSE}",
    ),
    (
        ("-u", "-user"),
        rf"((?:{OPTION_BEGINS}(?:-u|--(?:proxy-)?user){AFTER_OPTION}|(?<=['\"])-u){USER}){UNMASKED}[^\s'\"]+",
    ),
    (
        ("curl",),
        rf"(curl\b[^\r\n]{{0,100}}?[\s'\"]-[a-z#]{{0,12}}u{MARK}?,?\s{{0,4}}{BEGINS}"
        rf"{USER}){TO_CLOSE}",
    ),
    (
        ("curl",),
        rf"(curl\b[^\r\n]{{0,100}}?[\s'\"]-[a-z#]{{0,12}}u{MARK}?,?\s{{0,4}}{USER}){UNMASKED}[^\s'\"]+",
    ),
    (
        ("sshpass", "login"),
        rf"((?:sshpass|login\b[^\r\n]{{0,200}}?\s){MARK}?,?\s{{0,4}}{MARK}?-p{MARK}?,?\s{{0,4}}){VALUE}",
    ),
    (("login",), rf"(login\s{{1,4}}\S{{1,200}}\s{{1,4}}password\s{{1,4}}){VALUE}"),
    (("pass:",), rf"(-pass(?:in|out)?{AFTER_OPTION}{MARK}?pass:){UNMASKED}[^\s'\"]+"),
    (
        ("authorization",),
        rf"(authorization{QUOTE}?\s{{0,2}}[:=,]\s{{0,2}}(?:b?{MARK})?+){UNMASKED}"
        r"(?:digest\s[^\r\n]*|(?:[a-z][a-z0-9-]{0,29}\s{1,4})?[^\s'\"\\]+)",
    ),
    (("auth",), rf"({NAME_BEGINS}auth['\"]?\s{{0,2}}[=:]\s{{0,2}})(?P<open>\()[^()\r\n]{{1,999}}(?P<close>\))"),
    (("auth",), rf"({NAME_BEGINS}auth\\{{0,8}}['\"]\s{{0,2}}:\s{{0,2}})(?!\(){VALUE}"),
    (("bearer",), r"(bearer\s{1,4})[\w.~+/-]{16,}=*"),
    (
        ("cookie",),
        rf"(cookie{QUOTE}?\s{{0,2}}[:=,]\s{{0,2}}(?:b?{MARK})?+){UNMASKED}"
        r"[^\s;'\"]+(?:\s{0,2};\s{0,2}[^\s;'\"]+)*",
    ),
    # Addresses that are secrets: webhooks, bots.
    (
        ("hooks",),
        r"((?:hooks\.slack\.com/\w{1,20}|discord(?:app)?\.com/api/webhooks)/)"
        rf"{UNMASKED}[^\s'\"<>]+",
    ),
    (("bot",), r"(/bot)[0-9]{6,12}:[\w-]{30,}"),
    # Hugging Face, Replicate, Groq, npm, Docker, DigitalOcean, Together, RubyGems; GitHub, GitLab; OpenAI,
    # Anthropic, NVIDIA; Stripe; AWS; Google; Slack; PyPI.
    (
        ("hf_", "r8_", "gsk_", "npm_", "pat_", "_v1_", "rubygems_"),
        r"(?:hf|r8|gsk|npm|dckr_pat|dop_v1|tgp_v1|rubygems)_[A-Z0-9]{16,}",
    ),
    (
        ("gh", "glp", "gld", "glr"),
        r"(?:gh[pousr]_|github_pat_|gl(?:pat|dt|rt)-)[A-Z0-9]{16}[A-Z0-9_-]*",
    ),
    (("sk-", "nvapi-"), rf"{WORD_BEGINS}(?:sk|nvapi)-(?=[\w-]{{0,60}}[0-9])[\w-]{{16,}}"),
    (("k_live_", "k_test_"), rf"{WORD_BEGINS}[spr]k_(?:live|test)_[A-Z0-9]{{10,}}"),
    (
        ("akia", "asia", "abia", "acca"),
        rf"(?:(?-i:(?<![A-Z0-9]))|{ESCAPED})(?-i:(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{16,}})",
    ),
    (("aiza", "ya29.", "gocspx-"), rf"{WORD_BEGINS}(?-i:AIza|ya29\.|GOCSPX-)[\w-]{{20,}}"),
    (("xox", "xapp-"), rf"{WORD_BEGINS}(?:xox[a-z](?:\.xox[a-z])?|xapp)-[\w-]{{10,}}"),
    (("pypi-",), rf"{WORD_BEGINS}pypi-(?=[\w-]{{0,60}}[0-9])(?=[\w-]{{0,60}}(?-i:[A-Z]))[\w-]{{16,}}"),
    # JSON Web Tokens (RFC 7519); the signature may be missing.
    (("eyj",), rf"{OPTION_BEGINS}(?-i:eyJ)[\w-]{{4,}}\.[\w-]{{4,}}(?:\.[\w-]*)*"),
)
"""Needles and pattern. A pattern is tried only if one of its needles is in the lower-case text.

The first group, and those named "open" and "close", are kept.
"""

BY_NEEDLE = {
    needle: [number for number, shape in enumerate(SHAPES) if needle in shape[0]]
    for shape in SHAPES
    for needle in shape[0]
}
"""The numbers of the patterns of each needle: a text without a secret pays for one look at each needle."""

_OF_CALLS = ("operation", "key", "call", "version", "type", "rule", "command", "received", "subscriber")
IDENTITY = frozenset({*_OF_CALLS, "idempotency_key", "name", "question"})
"""The fields by which events are found; they are not redacted."""

MAX_CACHED = 256
"""Characters of a text whose redaction is cached: most failures repeat the text of others."""


def redact(text: str) -> str:
    """*text* with every recognized secret replaced by ``***``; *text* itself if there is none."""
    return _redacted_short(text, hidden()) if len(text) <= MAX_CACHED else _redacted(text, hidden())


@cache
def _pattern(number: int) -> re.Pattern[str]:
    return re.compile(SHAPES[number][1], re.IGNORECASE)  # when it is first needed: importing recovery stays light


def _redacted(text: str, literals: Literals) -> str:
    text = masked(text, literals)
    lower = text.lower()
    if found := [needle for needle in BY_NEEDLE if needle in lower]:
        for number in sorted({number for needle in found for number in BY_NEEDLE[needle]}):
            text = _pattern(number).sub(_masked, text)
    return text


def _masked(found: re.Match[str]) -> str:
    """What replaces *found*. A function, since ``re`` imports a module for a template, which fails at exit."""
    if not found.re.groups:
        return MASK
    named = found.groupdict(default="")
    return f"{found[1]}{named.get('open', '')}{MASK}{named.get('close', '')}"


_redacted_short = lru_cache(maxsize=1024)(_redacted)


def printable(text: str) -> str:
    """*text* in one line without control characters or direction marks, for a log or a terminal."""
    if text.isprintable():
        return text
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def brief(text: str, most: int = MAX_READ, *, reshape: Callable[[str], str] = printable, tail: bool = False) -> str:
    """*text* as it may leave the process: redacted first, then in one line, then cut.

    It is redacted again in one line, since what no terminal shows may have interrupted a secret.

    Args:
        text: The text; ``excerpt`` reads a long one.
        most: How many characters are kept.
        reshape: What makes it one line, or lines.
        tail: Whether the end is kept, not the beginning.
    """
    text = redact(text) if len(text) <= MAX_READ else excerpt(text, tail=tail)
    shaped = reshape(text)
    if shaped is not text:
        shaped = redact(shaped)
    return shaped if len(shaped) <= most else shaped[-most:] if tail else shaped[:most]


def excerpt(text: str, *, tail: bool = False) -> str:
    """*text* redacted; of one longer than ``MAX_READ`` about half as many characters, in a bounded time.

    A secret across a cut may not be recognized. So two parts of different length are redacted, and what both agree on
    is kept: a secret across the cut of the shorter part is whole in the longer one.

    Args:
        text: The text.
        tail: Whether its end is read, not its beginning.
    """
    if len(text) <= MAX_READ:
        return redact(text)
    if not tail:
        longer, shorter = (redact(text[:size]) for size in (MAX_READ, MAX_READ // 2))
        return shorter[: _agreement(longer, shorter)]
    longer, shorter = (redact(text[-size:])[::-1] for size in (MAX_READ, MAX_READ // 2))
    kept = shorter[: _agreement(longer, shorter)][::-1]
    return kept[
        len(kept.split(maxsplit=1)[0]) if kept.strip() else 0 :
    ]  # its first word may be cut, however long it is


def _agreement(one: str, other: str) -> int:
    """How many characters both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one.startswith(other[:middle]) else (low, middle - 1)
    return low


def redacted(event: S) -> S:
    """An event, or evidence, with its texts redacted, except those by which it is found; itself without a secret."""
    changes: dict[str, object] | None = None
    for name in with_texts(type(event)):
        value = getattr(event, name)
        if not value:
            continue
        after: object
        if type(value) is str:
            after = _redacted_short(value, hidden()) if len(value) <= MAX_CACHED else excerpt(value)
        elif type(value) is Evidence:
            after = _redacted_evidence(value)
        elif isinstance(value, msgspec.Struct):
            after = redacted(value)
        else:  # a text of another class, as of an enum, which no JSON takes as it is; or no text at all
            after = excerpt(str.__str__(value) if isinstance(value, str) else str(value))
        if after is not value and (type(after) is not type(value) or after != value):
            changes = changes or {}
            changes[name] = after
    return event if changes is None else msgspec.structs.replace(event, **changes)


_latest_evidence: tuple[Evidence | None, Literals, Evidence | None] = None, Literals(), None


def _redacted_evidence(evidence: Evidence) -> Evidence:
    """*evidence* redacted. The latest is kept: failures of one class that say the same share theirs."""
    global _latest_evidence  # of the whole process
    known, literals, after = _latest_evidence  # one tuple, which another thread may replace
    if after is None or evidence is not known or literals is not hidden():
        literals, after = hidden(), redacted(evidence)
        _latest_evidence = evidence, literals, after
    return after


@lru_cache(maxsize=128)
def with_texts(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields that may hold a text, or evidence, a failure, a remedy or room, which have texts."""
    wanted = (str, str | None, Evidence, Evidence | None, FailureClassified | None, Remedy | None, Room | None)
    fields = msgspec.structs.fields(kind)
    return tuple(field.name for field in fields if field.name not in IDENTITY and field.type in wanted)
