"""A page, an error or nothing under the name of a model: refused, with what came."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest

from adapters.demo.server import Answer, Reset
from adapters.downloads import WrongContentError
from adapters.downloads.content import what_came
from tests.adapters.downloads.targets import CONTENT, SHA256, Target

# trio tells of one that httpx2 does not close
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpcore2")

PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
HEADER = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def zipped() -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr(zipfile.ZipInfo("a"), "b")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("model.safetensors", SAFETENSORS),
        ("MODEL.SafeTensors", SAFETENSORS),
        ("model.gguf", b"GGUF\3\0\0\0"),
        ("nodes.zip", zipped()),
        ("nodes.tar.gz", gzip.compress(b"x", mtime=0)),
        ("image.png", b"\x89PNG\r\n\x1a\n"),
        ("image.jpg", b"\x89PNG\r\n\x1a\n"),  # another kind of image still opens
        ("model.bin", b"anything"),
        ("model.bin", b""),
        ("__init__.py", b""),
        ("config.json", b'{"a": 1}'),
        ("page.html", PAGE),
        ("README", PAGE),
    ],
)
def test_a_file_that_may_be_what_its_name_says_is_taken(name: str, head: bytes) -> None:
    assert what_came(name, head) is None


@pytest.mark.parametrize(
    ("name", "head", "came"),
    [
        ("model.safetensors", PAGE, "an HTML page: '\\n<!DOCTYPE html>"),
        ("model.safetensors", b"", "no bytes at all"),
        ("model.safetensors", b'{"error": "Invalid credentials"}', 'no .safetensors file: \'{"error": "Invalid'),
        ("model.safetensors", LFS, "no .safetensors file: 'version https://git-lfs"),
        ("model.safetensors", zipped(), "no .safetensors file: 'PK"),
        ("model.safetensors", (2**60).to_bytes(8, "little") + b"{}", "no .safetensors file"),
        ("model.gguf", b"", "no bytes at all"),
        ("model.gguf", b"lmgg", "no .gguf file"),
        ("nodes.zip", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "AccessDenied"),
        ("image.png", b"not found", "no .png file: 'not found'"),
        ("model.bin", PAGE, "an HTML page"),
        ("model.ckpt", b"\xef\xbb\xbf<HTML>", "an HTML page"),
        ("requirements.txt", PAGE, "an HTML page"),
        ("config.json", b"<html lang='en'>", "an HTML page"),
    ],
)
def test_what_cannot_be_what_its_name_says_is_named(name: str, head: bytes, came: str) -> None:
    assert came in (what_came(name, head) or "")


# On a real server


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "came"), [(PAGE, "an HTML page: .*Sign in"), (b"", "no bytes at all")], ids=["page", "nothing"]
)
async def test_a_page_or_nothing_under_a_models_name_is_refused_with_what_came(
    tmp_path: Path, body: bytes, came: str
) -> None:
    with Target(tmp_path, content=body) as target:
        target.destination = target.destination.with_name("model.safetensors")
        with pytest.raises(WrongContentError, match=came):
            await target.attempt()
        assert target.files() == set()


@pytest.mark.anyio
async def test_what_an_earlier_run_took_for_a_model_is_fetched_again(tmp_path: Path) -> None:
    with Target(tmp_path, content=SAFETENSORS) as target:
        target.destination = target.destination.with_name("model.safetensors")
        target.destination.parent.mkdir()
        target.destination.write_bytes(PAGE)
        await target.attempt()
        assert target.destination.read_bytes() == SAFETENSORS


@pytest.mark.anyio
async def test_a_known_hash_says_more_than_a_name(tmp_path: Path) -> None:
    with Target(tmp_path) as target:
        target.destination = target.destination.with_name("model.gguf")
        await target.attempt(sha256=SHA256)
        assert target.files() == {"model.gguf"}


@pytest.mark.anyio
async def test_a_login_page_does_not_cost_the_bytes_that_are_there(tmp_path: Path) -> None:
    page = Answer(200, {"Content-Type": "text/html", "Content-Length": str(len(PAGE))}, PAGE)
    with Target(tmp_path, faults=[Reset(0.5), page]) as target:
        kept = await target.broken_attempt()
        with pytest.raises(WrongContentError, match="an HTML page"):
            await target.attempt()
        assert (await target.attempt()).start == kept > 0
    assert target.destination.read_bytes() == CONTENT


@pytest.mark.anyio
@pytest.mark.parametrize(("sha256", "is_taken"), [(None, False), (SHA256, True)])
async def test_bytes_that_stay_encoded_are_taken_only_if_their_hash_is_right(
    tmp_path: Path, sha256: str | None, is_taken: bool
) -> None:
    encoded = Answer(200, {"Content-Encoding": "br", "Content-Length": str(len(CONTENT))}, CONTENT)
    with Target(tmp_path, faults=[encoded]) as target:
        if is_taken:
            await target.attempt(sha256=sha256)
        else:
            with pytest.raises(WrongContentError, match=r"encoded \('br'\)"):
                await target.attempt(sha256=sha256)
        assert target.files() == ({"model.bin"} if is_taken else set())
