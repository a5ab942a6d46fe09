"""Secrets are redacted in what is journalled, logged and printed."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sqlite.store import SQLiteStore
from events.codec import decode, encode
from events.event import Event
from events.evidence import Evidence
from events.operation_events import FailureClassified, GaveUp
from recovery.literals import MASK
from recovery.redact import MAX_READ, brief, excerpt, hide, redact, redacted, unhide
from recovery.service import Recovery
from recovery.subscribers.evidence_extraction import MAX_TEXT, extract_evidence
from tests.failures import a_failure
from tests.slow import few

SECRET = "aBcDeFgHiJkLmNoPqRsTuVwXyZ012345"
GOLDEN = tomllib.loads((Path(__file__).parents[1] / "golden" / "failures.toml").read_text())["failure"]
JWT = f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}"

LEAKS = [
    f"clone of https://user:{SECRET}@example.org/x.git failed",
    f"clone of https://{SECRET}@example.org/x.git failed",
    f"https://user:p@ss{SECRET}@example.org/",
    f"url=https%3A%2F%2Fuser%3A{SECRET}%40example.org%2Fx",
    f"GET https://example.org/m?a=1&token={SECRET}&b=2",
    f"GET https://example.org/m?api_key={SECRET}#x",
    f"GET https://example.org/m?sig={SECRET} failed",
    f"GET https://example.org/m?key={SECRET}",
    f"GET https://example.org/m?Signature={SECRET}",
    f"GET https://example.org/m?client_secret={SECRET}",
    f"GET https://s3.example.org/?X-Amz-Credential={SECRET}%2F2026&X-Amz-Signature={SECRET}",
    f"next=https%3A%2F%2Fexample.org%2F%3Ftoken%3D{SECRET}%26b%3D1",
    f"password={SECRET}",
    f'{{"password": "{SECRET}"}}',
    f"{{'api_key': '{SECRET}'}}",
    f"Authorization: Bearer {SECRET} was refused",
    f"Authorization: Basic {SECRET}==",
    f"proxy-authorization: Digest username=u, response={SECRET}",
    f"{{'Authorization': 'Bearer {SECRET}'}}",
    f"[('authorization', 'Bearer {SECRET}')]",
    f"Cookie: session={SECRET}; other={SECRET}",
    f"Set-Cookie: id={SECRET}; Path=/",
    f"invalid token: {SECRET}",
    f"hf_{SECRET} is not valid",
    f"token%3Dhf_{SECRET}",
    f"ghp_{SECRET}",
    f"github_pat_{SECRET}_{SECRET}",
    f"(sk-proj-{SECRET})",
    f"glpat-{SECRET}",
    f"gho_{SECRET}",
    f"Bearer {SECRET} was refused",
    f"password = {SECRET}",
    f"password='two words {SECRET}'",
    f'{{"password": "quoted \\" {SECRET}"}}',
    f"password=***{SECRET}",
    f"Cookie: a=b ;c={SECRET}",
    f"refresh_token%22%3A%22{SECRET}%22",
    JWT,
    str(subprocess.CalledProcessError(1, ["tool", "--token", SECRET])),
    f"tool --password {SECRET} --verbose",
    f"tool --api-key={SECRET}",
    f"https://user:{SECRET * 30}@example.org/x.git",
    f"https://user:{SECRET * 1000}@example.org/x.git",
    f"https://user:{SECRET * 30} was cut off",
    f"https://user:{SECRET}/{SECRET}?{SECRET}#{SECRET}@example.org/x",
    f"https://user:{SECRET}'{SECRET}@example.org/x",
    f"https:\\/\\/user:{SECRET}@example.org",
    f"https://example.blob.core.windows.net/c?sv=1&sig={SECRET}%2F%3D&se=2",
    f"AccountName=a;AccountKey={SECRET}==",
    "xox" + f"b-123456789012-{SECRET}",
    "xox" + f"p-{SECRET}",
    f"pypi-AgEIcHlwaS5vcmc{SECRET}",
    f"npm_{SECRET}",
    f"AIza{SECRET}abc",
    f"sk-ant-api03-{SECRET}",
    f"r8_{SECRET}",
    "https://hooks.slack.com/services/" + f"T0/B0/{SECRET}",
    f"aws_secret_access_key = {SECRET}",
    json.dumps({"SecretAccessKey": SECRET}),
    json.dumps({"private_key": SECRET, "auth": SECRET, "api_key": SECRET}),
    json.dumps(json.dumps({"password": f'{SECRET} "{SECRET}'})),
    repr(json.dumps({"token": SECRET})),
    f"{{'token': b'{SECRET}'}}",
    *(form({"token": [SECRET]}) for form in (str, json.dumps)),
    *(form({"current_inputs": {"text": [SECRET]}, "current_outputs": ["9"]}) for form in (str, json.dumps)),
    f"token=SecretStr('{SECRET}')",
    f"[(b'authorization', b'Basic {SECRET}')]",
    f"auth=('me', '{SECRET}')",
    f"[(b'host', b'h'), (b'x-api-key', b'{SECRET}')]",
    f"Headers([('X-Auth-Token', '{SECRET}')])",
    f"next=https%253A%252F%252Fh%252F%253Ftoken%253D{SECRET}",
    f"url=https%253A%252F%252Fuser%253A{SECRET}%2540example.org",
    f"<Password>{SECRET} {SECRET}</Password>",
    f"machine example.org login me password {SECRET}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PRIVATE KEY-----\\n{SECRET}\\n{SECRET}",
    f"Authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, SignedHeaders=host, Signature={SECRET}",
    *(
        str(subprocess.CalledProcessError(22, command))
        for command in (
            ["curl", "-u", f"user:{SECRET}", "https://example.org"],
            ["curl", "--user", f"user:two words {SECRET} '{SECRET}"],
            ["curl", f"--user=user:{SECRET}"],
            ["curl", f"-uuser:{SECRET}"],
            ["curl", "-fsSLu", f"user:{SECRET}", "https://example.org"],
            f"curl -sSu user:{SECRET} https://example.org",
            f"curl -L -sSu 'user:two words {SECRET}' https://example.org",
            f"curl -uuser:{SECRET} https://example.org",
            f"curl -u user:{SECRET} https://example.org",
            f"curl -u 'user:two words {SECRET}' https://example.org",
            f'curl -H "Authorization: token {SECRET}" https://example.org',
            ["curl", "-H", f"Authorization: Basic {SECRET}=="],
            ["curl", "-H", f"PRIVATE-TOKEN: {SECRET}"],
            ["docker", "login", "-u", "me", "-p", SECRET],
            ["sshpass", "-p", SECRET, "ssh", "example.org"],
            ["openssl", "-passin", f"pass:{SECRET}"],
            ["tool", f"--password=a&{SECRET} {SECRET}'{SECRET}"],
            ["docker", "run", "-e", f"DB_PASSWORD=a&{SECRET} {SECRET}"],
            shlex.join(["tool", f"--password={SECRET}'{SECRET}"]),
        )
    ),
]


@pytest.fixture(autouse=True)
def own_literals() -> Iterator[None]:
    unhide()
    yield
    unhide()


@pytest.mark.parametrize("text", LEAKS)
def test_a_secret_is_taken_out_by_its_shape_once_and_for_all(text: str) -> None:
    assert SECRET not in redact(text)
    assert MASK in redact(text)
    assert redact(redact(text)) == redact(text)


QUOTATIONS: dict[str, Callable[[str], str]] = {
    "repr": repr,
    "json": json.dumps,
    "repr of repr": lambda text: repr(repr(text)),
    "repr of json": lambda text: repr(json.dumps(text)),
    "bytes": lambda text: repr(text.encode()),
    "arguments": lambda text: str(subprocess.CalledProcessError(1, ["sh", "-c", text])),
    "shell": lambda text: shlex.join(["sh", "-c", text.replace(f"'{SECRET}", "").replace(f"\"'\"'{SECRET}", "")]),
}


@pytest.mark.parametrize("before", ["\\n", "\\t", "\\u000a", "\\x0a", "\x1b[31m", "\\x1b[0m", "\x1b[m", "\n", "%0A"])
def test_a_secret_behind_an_escaped_line_end_or_a_color_is_taken_out(before: str) -> None:
    left = [text for text in LEAKS if SECRET in redact(f"refused{before}{text}")]
    assert left == []


@pytest.mark.parametrize("quotation", QUOTATIONS)
def test_a_secret_in_a_text_that_is_quoted_in_another_is_taken_out(quotation: str) -> None:
    left = [text for text in map(QUOTATIONS[quotation], LEAKS) if SECRET in redact(text)]
    assert left == []


@pytest.mark.parametrize("text", ["AKIA" + "IOSFODNN7EXAMPLE", "ASIA" + "IOSFODNN7EXAMPLE", f"x%3DAIza{SECRET}"])
def test_a_key_with_a_known_prefix_is_taken_out(text: str) -> None:
    assert redact(text).removeprefix("x%3D") == MASK


@pytest.mark.parametrize("text", LEAKS)
def test_a_redacted_text_is_kept_when_a_longer_line_is_redacted(text: str) -> None:
    line = f"({redact(text)}): again; attempt 1 failed"
    assert redact(line) == line


def test_what_is_around_a_secret_is_kept() -> None:
    assert redact(f"GET https://u:{SECRET}@host/m?a=1&token={SECRET}&b=2 failed") == (
        "GET https://***@host/m?a=1&token=***&b=2 failed"
    )


def test_of_a_failed_node_of_comfyui_all_but_its_inputs_is_kept() -> None:
    said = {"node_id": "3", "current_inputs": {"key": [SECRET], "seed": [1]}, "current_outputs": ["9"]}
    assert redact(str(said)) == "{'node_id': '3', 'current_inputs': ***, 'current_outputs': ['9']}"


def test_what_real_failures_say_is_left_alone() -> None:
    texts = json.dumps(GOLDEN)
    assert redact(texts) == texts


ORDINARY = [
    *(
        "",
        "disk-full",
        "sk-learn is missing",
        "KeyError: 'frame'",
        "mail a@b.org",
        "1 + 1",
        "Retry pass 3 of 4: pass: 3",
    ),
    *("sk-learn-contrib-extension", "hf_transfer_enabled_flag", "pypi-mirror-2024-01-01-snapshot", "max_tokens=4096"),
    *("npm_config_cache_directory", "eyjafjallajokull.example.org/volcano", "docker run -u 1000:1000 image", "x://y"),
    *("rsync -avu host:models /path", "curl -sSu 1000:1000 x", "missing: ['token', 'name']", "curl -u https://h/x"),
    *("python -u C:\\x\\y.py", "rsync -u host:/path .", "git push -u origin main", "http://host:4873/@scope/pkg"),
    *("https://localhost:5000/img@sha256:abc", "https://example.org:8080/a:b/c@d", "author: me", "s3://bucket/key/a"),
    *(
        "C:\\Users\\me\\.cache\\huggingface\\hub\\models--a--b",
        "no match for torch==2.1.0+cu118",
        "--user me --no-deps",
    ),
    *("waits for: an answer: secret:env:HF_TOKEN, at most 1 h", "an answer to 'secret:file:/run/key'; Give it"),
]


@pytest.mark.parametrize("text", ORDINARY)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert redact(text) == text


TELLING = [
    *(text for case in GOLDEN for text in case.values() if isinstance(text, str)),
    *(line for case in GOLDEN for line in str(case.get("stderr", "")).split("\n")),
    *(text for text in ORDINARY if text),
]
PATHS = st.lists(st.from_regex(r"[A-Za-z0-9_.]{1,20}", fullmatch=True), min_size=1, max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)
HASHES = st.binary(min_size=1, max_size=20).flatmap(
    lambda data: st.sampled_from([hashlib.sha256, hashlib.sha512, hashlib.md5]).map(lambda kind: kind(data).hexdigest())
)
WORDS = st.one_of(st.sampled_from(TELLING), PATHS, HASHES, st.uuids().map(str), st.integers().map(str))


@given(st.lists(WORDS, max_size=6), st.sampled_from([" ", "\n", ", ", ": ", " -- "]))
def test_ordinary_texts_are_left_alone(words: list[str], between: str) -> None:
    hide("x8f7d6s5a4-another-secret", "-----BEGIN KEY-----\nx8f7d6s5a4\n-----END KEY-----")
    text = between.join(words)
    assert redact(text) == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=8), st.text(), st.text())
def test_a_hidden_literal_is_found_as_it_is_and_percent_encoded(secret: str, before: str, after: str) -> None:
    unhide()
    hide(secret)
    if secret not in before + after and secret not in MASK:
        assert secret not in redact(f"{before}|{secret}|{after}").replace(MASK, "")
    assert redact(quote(secret, safe="")) == MASK


def test_a_literal_can_be_shown_again() -> None:
    hide("first secret", "second/secret")
    unhide("first secret")
    assert redact("first secret, first%20secret, second%2fsecret") == "first secret, first%20secret, ***"


@pytest.mark.parametrize(
    "spelt", ["Pass/Wörd=1", "Pass%2FW%C3%B6rd%3D1", "Pass%2fW%c3%b6rd%3d1", "Pass/W%C3%B6rd%3D1", "Pass/W%c3%b6rd=1"]
)
def test_a_hidden_literal_is_found_however_it_is_percent_encoded(spelt: str) -> None:
    hide("Pass/Wörd=1")
    assert redact(f"at {spelt}") == f"at {MASK}"


def test_a_literal_is_taken_out_whole_of_what_was_seen_before_it_was_hidden() -> None:
    assert redact("say open-sesame") == "say open-sesame"
    hide("open", "open-sesame")
    assert redact("say open-sesame") == f"say {MASK}"


@pytest.mark.parametrize(("secret", "error"), [("", ValueError), ("abc", ValueError), (b"bytes", TypeError)])
def test_what_cannot_be_hidden_is_refused(secret: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="secret"):
        hide(secret)


@pytest.mark.parametrize(
    "piece",
    few(
        [
            *("a", "a;", "-a", "--", "%3D", "token", "token=", "token:  ", "--token ", "X-Amz-", "sk-", "hf_-"),
            *("-u a:", "'-u', '", "auth=(", '"auth": \'', "<token>", "login -p", "login x password ", "sshpass -p '"),
            *(
                "-----BEGIN PRIVATE KEY-----",
                "://a:",
                "://a'",
                'token="',
                "token='\\",
                "token=\\'",
                "\\\\'token='",
                "key=f(",
            ),
            *(
                "'password='x'\"",
                "@://a:",
                "://a:/x@",
                "pypi-a",
                "sk-1",
                "eyJaaaa.eyJaaaa.",
                "xoxb-",
                "--token ','",
                "'",
                "\\",
            ),
            *(
                "://",
                "://a",
                "://" + "a" * 512,
                "%3A%2F%2F",
                "%252525",
                "curl -u",
                "('a-key', ",
                "eyJaaaa.",
                "eyJaaaa-",
                "Authorization: ",
                "cookie: a;",
            ),
        ],
        every=3,
    ),
)
@pytest.mark.slow
def test_redacting_takes_time_in_proportion_to_the_text(piece: str) -> None:
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        began = time.thread_time()
        redact(text)
        return time.thread_time() - began

    small = min(seconds(20_000) for _ in range(3))
    assert min(seconds(160_000) for _ in range(2)) < 24 * small + 0.05  # eight times as much; 64 if it were squared


def test_evidence_is_redacted_with_its_causes_and_what_a_event_is_found_by_is_not() -> None:
    inner = Evidence(type="x.Inner", message=f"token={SECRET}")
    evidence = Evidence(type="x.Outer", stderr=f"password={SECRET}", cause=inner)
    event = FailureClassified(at=0.0, operation="token=name", call="c", category="transient", evidence=evidence)  # type: ignore[arg-type]
    after = redacted(event)
    assert SECRET not in str(after)
    assert after.operation == "token=name"


def test_a_event_without_a_secret_stays_the_same_object() -> None:
    event = GaveUp(at=0.0, operation="fetch", call="c", reason="out of retries (3)", failure=a_failure())
    assert redacted(event) is event


class Why(StrEnum):
    LEAK = f"token={SECRET}"
    PLAIN = "the licence"


class Text(str):
    def __str__(self) -> str:
        return "another text"


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Why.LEAK, "token=***"), (Why.PLAIN, "the licence"), (Text(f"token={SECRET}"), "token=***"),
        (Text("the licence"), "the licence"), (ValueError(f"token={SECRET}"), "token=***"), (402, "402"),
    ],
)  # fmt: skip
def test_a_text_of_another_class_is_redacted_and_written_as_a_text(reason: Any, said: str) -> None:
    after = redacted(GaveUp(at=0.0, operation="fetch", call="c", reason=reason))
    assert after.reason == said
    assert decode(encode(after)) == after


def test_what_is_hidden_later_is_redacted_in_evidence_that_was_redacted_before() -> None:
    event = a_failure("no horse-battery-staple here")
    assert redacted(event) is event
    hide("horse-battery-staple")
    assert redacted(event).evidence.message == "no *** here"
    unhide("horse-battery-staple")
    assert redacted(event) is event


def test_each_evidence_is_redacted_by_itself() -> None:
    events = [a_failure(f"{word} token={SECRET}") for word in ("one", "two")]
    assert [redacted(event).evidence.message for event in events] == ["one token=***", "two token=***"]


def test_the_failure_that_an_outcome_tells_of_is_redacted() -> None:
    event = GaveUp(at=0.0, operation="fetch", call="c", failure=a_failure(f"token={SECRET}"))
    assert redacted(event).error == "ConnectionError: token=***"


def test_a_hidden_literal_of_several_lines_is_found_in_one_line() -> None:
    hide("BEGIN KEY\n\tab12cd34\nEND KEY")
    assert redact("refused: BEGIN KEY ab12cd34 END KEY!") == "refused: ***!"
    unhide()


def test_a_secret_with_escape_codes_in_it_is_taken_out_of_an_error_output() -> None:
    hide("open-sesame-4711")
    said = f"fatal: hf_{SECRET[:9]}\x1b[31m{SECRET[9:]}\x1b[0m, open-ses\x1b[1mame-4711\x1b[0m\n"
    error = subprocess.CalledProcessError(1, "tool", stderr=said)
    assert extract_evidence(error).stderr == "fatal: ***, ***"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n"])
def test_no_line_of_a_secret_that_a_process_printed_is_kept(newline: str) -> None:
    hide(newline.join(["BEGIN KEY", "ab12cd34", "END KEY"]))
    error = subprocess.CalledProcessError(1, "tool")
    error.stderr = newline.join(["fatal: refused:", "BEGIN KEY", "ab12cd34", "END KEY", "bye"])
    assert "ab12cd34" not in str(extract_evidence(error).stderr)


def test_a_secret_that_is_cut_in_half_where_reading_begins_is_dropped() -> None:
    error = subprocess.CalledProcessError(1, "tool")
    end = "\r" * (MAX_READ - 20)  # a bar, of which a terminal shows little
    error.stderr = f"hf_{SECRET * 2}\nno{end}"
    assert SECRET[-4:] not in str(extract_evidence(error).stderr)


@pytest.mark.parametrize("offset", range(-40, 8))
def test_a_secret_is_not_cut_before_it_is_recognised(offset: int) -> None:
    token = f"hf_{SECRET}"
    filled = "x " * (MAX_TEXT // 2) + " " * 48
    message = filled[: MAX_TEXT + offset] + token + " tail" * 10
    evidence = extract_evidence(OSError(message))
    assert SECRET[:6] not in evidence.message
    assert len(evidence.message) <= MAX_TEXT
    process = subprocess.CalledProcessError(1, "tool", stderr="head " * 10 + token + filled[: MAX_TEXT + offset])
    assert SECRET[-6:] not in str(extract_evidence(process).stderr)


@pytest.mark.parametrize("length", [40, 900, MAX_READ // 2 - 100, MAX_READ])
@pytest.mark.parametrize("offset", few([1, 2, 5, 20, 39], 2, 39))
@pytest.mark.parametrize("edge", [MAX_TEXT, MAX_READ // 2, MAX_READ])
def test_of_a_secret_at_a_cut_nothing_is_kept(length: int, offset: int, edge: int) -> None:
    """Neither of a password that is recognized by what follows it, nor of one recognized by what precedes it."""
    secret = "".join(random.Random(length).choices("aBcDeFgH0123456789", k=length))
    filler = "x " * MAX_READ
    head = filler[: edge - offset - len(" https://user:")] + f" https://user:{secret}@example.org/ " + filler
    tail = filler + f" token={secret} " + filler[: edge - length + offset]
    for kept in (excerpt(head), brief(head, MAX_TEXT), excerpt(tail, tail=True), brief(tail, MAX_TEXT, tail=True)):
        assert kept
        assert grams(secret).isdisjoint(grams(kept))


@pytest.mark.parametrize("edge", few([MAX_TEXT, MAX_READ // 2, MAX_READ], MAX_TEXT))
@pytest.mark.slow
def test_of_a_private_key_at_a_cut_no_line_is_kept(edge: int) -> None:
    secret = "".join(random.Random(edge).choices("aBcDeFgH0123456789", k=3200))
    lines = "\n".join(secret[at : at + 64] for at in range(0, 3200, 64))
    key = f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n"
    filler = "x " * MAX_READ
    for cut in (100, 1000, 3000):
        tail = excerpt(filler + key + filler[: edge - cut], tail=True)
        head = excerpt(filler[: edge - cut] + key + filler)
        assert all(grams(line).isdisjoint(grams(head + tail)) for line in lines.split("\n"))


@pytest.mark.slow
def test_a_hidden_literal_that_is_said_again_and_again_is_not_kept_where_the_text_is_cut() -> None:
    secret = "".join(random.Random(7).choices("aBcDeFgH0123456789/+=", k=1700))
    hide(secret)
    for times in range(1, 60, 3):
        said = f"refused {secret}, " * times
        error = subprocess.CalledProcessError(1, "tool", stderr=said)
        for evidence in map(extract_evidence, (error, OSError(said))):
            assert grams(secret).isdisjoint(grams(str(redacted(evidence))))


@pytest.mark.parametrize("tail", [False, True])
def test_a_message_of_a_hundred_megabytes_takes_milliseconds(tail: bool) -> None:
    hide("x8f7d6s5a4-another-secret")
    text = "token=abcdefgh https://user:pw@example.org " * 2_500_000
    began = time.thread_time()
    assert 0 < len(brief(text, MAX_TEXT, tail=tail)) <= MAX_TEXT
    assert len(excerpt(text, tail=tail)) <= MAX_READ
    assert time.thread_time() - began < 1.0


def grams(text: str) -> set[str]:
    """Every six characters of *text* in a row."""
    return {text[at : at + 6] for at in range(len(text) - 5)}


def test_no_byte_of_a_planted_secret_reaches_the_database_the_log_or_the_events_read_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last section of the durability contract: secrets."""
    path = tmp_path / "journal" / "calls.db"
    url = f"https://user:{SECRET}@example.org/m?token={SECRET}"

    def fails() -> None:
        try:
            raise ConnectionError(f"GET {url} with Authorization: Bearer {SECRET}")
        except ConnectionError as error:
            failed = subprocess.CalledProcessError(128, ["git", "clone", url], stderr=f"fatal: hf_{SECRET}")
            raise failed from error

    service = Recovery(store=SQLiteStore(path), enable_logging=True)
    with caplog.at_level(logging.INFO), service:
        with pytest.raises(subprocess.CalledProcessError):
            service.recoverable("fetch", initial_delay=0.0, max_retries=1)(fails)()
        assert service.journal is not None
        service.journal.receipt().wait(10.0)
        files = list(path.parent.iterdir())
        assert any(file.name.endswith("-wal") for file in files)
        on_disk = b"".join(file.read_bytes() for file in files)
    assert SECRET.encode() not in on_disk
    assert b"FailureClassified" in on_disk
    assert SECRET not in caplog.text
    assert "gave up" in caplog.text
    on_disk = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert SECRET.encode() not in on_disk
    program = (
        "import anyio, sys\nfrom adapters.sqlite.reading import reading\n"
        "async def main():\n  async with reading(sys.argv[1]) as r:\n"
        "    for row in await r.rows(): print(row.body.decode())\nanyio.run(main)"
    )
    read = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    events: list[Event] = [decode(line) for line in read.stdout.splitlines()]
    assert events
    assert SECRET not in str(events)
