"""Hidden literals are found however they are spelt, wrapped, repeated and cut."""

from __future__ import annotations

import base64
import html
import json
import random
import reprlib
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from recovery.literals import LEAST_FOLDED, LEAST_PART, MASK, folded, hide, unhide
from recovery.redact import printable, redact
from tests.slow import few

KEY = "-----BEGIN KEY-----\n\tab12cd34ef56gh78/+\r\n  ij90kl12mn34op56==\n-----END KEY-----"
ALPHABETS = (
    "".join(map(chr, range(1, 127))),
    "".join(map(chr, range(1, 0x250))),
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=_-",
    "ab \n\t\\'\"%2541\\xn&;+\u00e4\u20ac\U0001f600\u202e\u0430",
)


@pytest.fixture(autouse=True)
def own_literals() -> Iterator[None]:
    unhide()
    yield
    unhide()


def secret_of(alphabet: str, length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=length))


SECRETS = st.builds(secret_of, st.sampled_from(ALPHABETS), st.integers(8, 2000), st.integers(0, 2**32))


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "repr": repr,
    "repr in ASCII": ascii,
    "code points": lambda secret: "".join(f"\\U{ord(one):08x}" if ord(one) > 127 else one for one in secret),
    "bytes in octal": lambda secret: "".join(f"\\{byte:03o}" if byte > 127 else chr(byte) for byte in secret.encode()),
    "repr of bytes": lambda secret: repr(secret.encode()),
    "repr of an error that says the repr": lambda secret: repr(ValueError(repr(secret))),
    "arguments": lambda secret: str(subprocess.CalledProcessError(1, ["tool", secret])),
    "json": json.dumps,
    "json with characters as they are": lambda secret: json.dumps(secret, ensure_ascii=False),
    "json in json": lambda secret: json.dumps(json.dumps(secret)),
    "percent": lambda secret: quote(secret, safe=""),
    "percent twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "form": quote_plus,
    "json in a query": lambda secret: quote(json.dumps(secret)),
    "query in json": lambda secret: json.dumps(quote(secret)),
    "html": html.escape,
    "html twice": lambda secret: html.escape(html.escape(secret)),
    "shell": shlex.quote,
    "one line": printable,
    "other new lines": lambda secret: secret.replace("\n", "\r\n"),
    "tabs": lambda secret: secret.replace(" ", "\t").replace("\n", " \t"),
}


def is_said(secret: str, text: str) -> bool:
    """Whether *text* says six characters of *secret*, in whatever spelling."""
    said = folded(text.replace(MASK, " | "))
    secret = folded(secret)
    return any(secret[at : at + LEAST_PART] in said for at in range(len(secret) - LEAST_PART + 1))


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(secret=SECRETS, around=st.sampled_from(["{}", "at {}: no", "<{}>", "'{}'", "a={}&b=2", "{0} and {0}"]))
@settings(max_examples=settings.default.max_examples // 3)
@example(secret=KEY, around="refused: {}")
def test_nothing_of_a_hidden_literal_is_kept_in_any_spelling(spelling: str, secret: str, around: str) -> None:
    assume(len(folded(secret)) >= LEAST_FOLDED and not is_said(secret, around))
    unhide()
    hide(secret)
    text = redact(around.format(SPELLINGS[spelling](secret)))
    assert not is_said(secret, text)
    assert redact(text) == text


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
@pytest.mark.parametrize("before", [b"", b"user:", b"x-access-token:", b"u:"])
@pytest.mark.parametrize("seed", range(3))
def test_a_literal_in_base64_is_masked(encode: Callable[[bytes], bytes], before: bytes, seed: int) -> None:
    secret = secret_of(ALPHABETS[1][31:], 12 + 40 * seed, seed)
    hide(secret)
    said = encode(before + secret.encode()).decode()
    for text in (said, json.dumps({"auth": said}), f"header: {said[: len(said) - 5]}..."):
        left = redact(text)
        assert not is_said(said[len(before) * 4 // 3 + 2 : -4], left), left


@pytest.mark.parametrize("color", ["\x1b[1;31m", "\x1b[K", "\\x1b[0m", "\\u001b[m"])
def test_a_literal_with_colors_in_it_is_masked(color: str) -> None:
    secret = secret_of(ALPHABETS[2], 40, 4)
    hide(secret)
    said = color.join(secret[at : at + 5] for at in range(0, 40, 5))
    assert redact(f"refused: {color}{said}{color}!") == f"refused: {color}***{color}!"


def test_a_literal_that_holds_what_looks_like_a_color_is_masked() -> None:
    secret = "3f\x1b[1m9c7a\x1b[0m41be"
    hide(secret)
    for said in (secret, quote(secret), quote(quote(secret)), json.dumps(secret), repr(secret)):
        assert not is_said(secret.replace("\x1b", ""), redact(said))


@pytest.mark.parametrize("width", [16, 40, 76])
def test_a_literal_that_is_wrapped_is_masked(width: int) -> None:
    secret = secret_of(ALPHABETS[2], 1700, 1)
    hide(secret)
    lines = "\n  ".join(secret[at : at + width] for at in range(0, len(secret), width))
    assert redact(f"the key\n  {lines}\nis wrong") == "the key\n  ***\nis wrong"


@pytest.mark.parametrize("spelling", ["as it is", "repr", "json", "percent", "one line"])
@pytest.mark.parametrize("end", ["", "...", "\u2026", "')", "... (1700 characters)"])
def test_a_literal_that_was_cut_by_others_is_masked(spelling: str, end: str) -> None:
    secret = secret_of(ALPHABETS[2], 200, 2)
    hide(secret)
    for length in (*range(LEAST_PART, 30), 199):
        beginning, ending = (SPELLINGS[spelling](part).strip("'\"") for part in (secret[:length], secret[-length:]))
        assert not is_said(secret, redact(f"refused: {beginning}{end}"))
        if end in ("", "...", "\u2026"):
            assert not is_said(secret, redact(f"{end}{ending} was refused"))


def test_a_literal_in_a_shortened_repr_is_masked() -> None:
    secret = secret_of(ALPHABETS[2], 200, 3)
    hide(secret)
    assert not is_said(secret, redact(reprlib.repr({"a": secret, "b": [secret]})))


@pytest.mark.parametrize("before", ["C:\\", "\\\\server\\", "100%", "a%2", "&#"])
def test_what_precedes_a_literal_does_not_hide_it(before: str) -> None:
    for seed in range(50):
        secret = secret_of('nt5x0b41fgh"', 40, seed)
        hide(secret)
        assert not is_said(secret, redact(f"at {before}{secret} and {before}{json.dumps(secret)[1:-1]}!"))
        unhide()


def test_a_line_of_a_literal_is_masked_alone() -> None:
    hide(KEY)
    assert redact("line 2: ab12cd34ef56gh78/+ is no key") == "line 2: *** is no key"


def test_a_literal_that_holds_another_is_masked_whole_in_any_spelling() -> None:
    hide("open", "open-sesame/now")
    assert redact("open%2Dsesame%2fnow, open-sesame/now, open") == "***, ***, ***"


def test_literals_that_are_hidden_at_the_same_time_are_all_kept() -> None:
    secrets = [f"secret-{number}-of-many" for number in range(200)]
    at_once = threading.Barrier(8)

    def work(own: list[str]) -> None:
        for secret in own:
            at_once.wait(10.0)
            hide(secret)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(secrets[at::8],)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert redact(" ".join(secrets)) == " ".join([MASK] * 200)


LITERAL = "aaaaaaab" * 200


@pytest.mark.parametrize(
    "piece",
    few(
        [
            *(
                "a",
                "aaaaaaab",
                "aaaaaa...",
                "...",
                "\\",
                "\\x",
                "\\u",
                "\\ud83d",
                "%",
                "%25",
                "%5C",
                "%C3",
                "%255C",
                "&amp;",
            ),
            *("&#", "\\\\n", " '", "\u00e9", LITERAL, f"{LITERAL[:-1]} ", f"{LITERAL[1:]}..."),
        ],
        every=3,
    ),
)
@pytest.mark.slow
def test_looking_for_literals_takes_time_in_proportion_to_the_text(piece: str) -> None:
    hide(LITERAL, "b" + LITERAL, "\u00e9" * 100)

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        began = time.thread_time()
        redact(text)
        return time.thread_time() - began

    small = min(seconds(20_000) for _ in range(3))
    assert min(seconds(160_000) for _ in range(2)) < 24 * small + 0.05  # eight times as much; 64 if it were squared
