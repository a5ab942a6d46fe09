"""What a refused download means: real answers of hosts of models, in ``tests/golden/refusals.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.demo.server import Answer, Reset
from adapters.downloads import download, refusals
from adapters.downloads.families import family_of
from adapters.downloads.refusals import AccessError, is_login, refused
from events.evidence import Category
from recovery import classify
from recovery.redact import redact
from tests.adapters.downloads.targets import CONTENT, Target

TABLE = tomllib.loads((Path(__file__).parents[2] / "golden" / "refusals.toml").read_text(encoding="utf-8"))["refusal"]


def refusal(row: dict[str, Any]) -> Exception | None:
    return refused(
        row["status"],
        row.get("headers", {}),
        row.get("body", "").encode(),
        url=row.get("url", row["asked"]),
        asked=row["asked"],
        has_token=row.get("token", False),
        endpoint=row.get("endpoint"),
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["name"])
def test_a_refusal_says_what_it_means_and_how_it_is_healed(row: dict[str, Any]) -> None:
    error = refusal(row)
    if row["error"] == "none":
        assert error is None
        return
    assert error is not None
    assert (type(error).__name__, row["said"] in str(error)) == (row["error"], True), error
    told = classify(error)
    assert told.category == Category(row["category"])
    remedy = told.remedy
    assert ("" if remedy is None else remedy.question) == row.get("question", "")
    assert ("" if remedy is None else remedy.link) == row.get("link", "")
    if isinstance(error, AccessError):
        assert remedy is not None
        assert (remedy.kind == "secret") == remedy.question.startswith("token:")
        assert error.reason.startswith(row.get("reason", ""))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["name"])
def test_a_refusal_is_one_line_without_a_secret(row: dict[str, Any]) -> None:
    error = refusal(row)
    remedy = getattr(error, "remedy", None)
    for text in (str(error), repr(remedy), getattr(error, "reason", "")):
        assert text.isprintable()
        if "question" not in text:
            assert redact(text) == text  # nothing that is masked by mistake
        assert not [secret for secret in ("hidden", "abcdefgh", "?", "Signature") if secret in text]


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("https://civitai.com/login?returnUrl=%2Fmodels%2F1&reason=download-auth", True),
        ("https://civitai.com/model-versions/1?reason=download-auth", True),
        ("https://auth.civitai.com/login/", True),
        ("https://example.org/users/sign_in", True),
        ("https://civitai.com/pricing?reason=early-access", True),
        ("https://b2.civitai.com/file/model.zip?Authorization=3_2026&b2ContentDisposition=attachment", False),
        ("https://example.org/login/model.bin", False),
        ("https://example.org/model.bin?next=/login", False),
    ],
)
def test_a_login_page_is_known_by_its_url(url: str, is_one: bool) -> None:
    assert is_login(url) is is_one


@pytest.mark.parametrize(
    ("url", "family"),
    [
        ("https://huggingface.co/a", "huggingface"),
        ("https://WWW.HuggingFace.co./a", "huggingface"),
        ("https://hf.co/a", "huggingface"),
        ("https://civitai.red/a", "civitai"),
        ("https://cdn-lfs.huggingface.co/a", "cdn-lfs.huggingface.co"),
        ("https://b2.civitai.com/a", "b2.civitai.com"),
        ("https://huggingface.co.evil.example/a", "huggingface.co.evil.example"),
        ("https://huggingface.co@evil.example/a", "evil.example"),
        ("https://huggingface.co:8443/a", "huggingface.co:8443"),
        ("http://127.0.0.1:8000/a", "127.0.0.1:8000"),
        ("http://[::1]:8000/a", "[::1]:8000"),
        ("https://mirror.example/a", "huggingface"),
        ("http://mirror.example/a", "mirror.example"),
        ("ftp://huggingface.co/a", ""),
        ("nothing", ""),
    ],
)
def test_a_url_belongs_to_the_family_of_its_host(url: str, family: str) -> None:
    assert family_of(url, endpoint="https://mirror.example/hub") == family


@given(
    st.integers(300, 599),
    st.dictionaries(st.sampled_from(["x-error-code", "x-error-message", "retry-after"]), st.text(max_size=50)),
    st.binary(max_size=200) | st.just(b"[" * refusals.MOST_BODY) | st.just(b'{"error": {"message": [1, null]}}'),
    st.sampled_from(["https://huggingface.co/a/b", "https://civitai.com/", "https://[::1]:1/", "http://a/%ff"]),
    st.booleans(),
)
def test_no_answer_breaks_the_reading(
    status: int, headers: dict[str, str], body: bytes, url: str, has_token: bool
) -> None:
    error = refused(status, headers, body, url=url, asked=url, has_token=has_token)
    assert error is None or str(error).isprintable()


GATED = Answer(403, {"X-Error-Code": "GatedRepo"}, b"Access to model o/r is restricted.")
LOGIN = Answer(302, {"Location": "/login?reason=download-auth"})


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:Async generator 'httpcore2")  # trio tells of one that httpx2 does not close
@pytest.mark.parametrize(("answer", "said"), [(GATED, "needs a token"), (LOGIN, "it led to the login page")])
async def test_a_refusal_keeps_what_is_there_and_follows_no_redirect_to_a_login_page(
    tmp_path: Path, answer: Answer, said: str
) -> None:
    with Target(tmp_path, faults=[Reset(0.5), answer]) as target:
        kept = await target.broken_attempt()
        async with httpx2.AsyncClient(follow_redirects=True) as client:
            with pytest.raises(AccessError, match=said):
                await download(client, target.url, target.destination)
            assert (await download(client, target.url, target.destination)).start == kept > 0
        assert {request.path for request in target.requests} == {"/model.bin"}
    assert target.destination.read_bytes() == CONTENT
