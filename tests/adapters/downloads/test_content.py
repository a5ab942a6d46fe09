"""A page, an error or nothing under the name of a model: refused, with what came."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.demo.server import Answer, Reset
from adapters.downloads import WrongContentError
from adapters.downloads.content import HEAD, what_is_wrong
from tests.adapters.downloads.targets import CONTENT, SHA256, Target

# trio tells of one that httpx2 does not close
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpcore2")

PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
UNAUTHORIZED = b'{"error":"Unauthorized","message":"The creator of this asset requires you to be logged in"}'


def safetensors(header: object, data: int = 4) -> bytes:
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + bytes(data)


WEIGHT = {"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
SAFETENSORS = safetensors(WEIGHT)
GGUF = b"GGUF\3\0\0\0" + bytes(16)


def zipped(comment: bytes = b"") -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr(zipfile.ZipInfo("a"), "b" * 1000)
        archive.comment = comment
    return file.getvalue()


def judged(name: str, content: bytes) -> str | None:
    return what_is_wrong(name, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", SAFETENSORS),
        ("MODEL.SafeTensors", SAFETENSORS),
        ("ae.sft", safetensors({"__metadata__": {"format": "pt"}, **WEIGHT})),
        ("no-tensors.safetensors", safetensors({"__metadata__": {}}, data=0)),
        ("model.gguf", GGUF),
        ("big-endian.gguf", b"GGUF\0\0\0\3" + bytes(16)),
        ("nodes.zip", zipped()),
        ("nodes.zip", zipped(comment=b"c" * 65_535)),
        ("model.pt", zipped()),
        ("old.ckpt", b"\x80\x02}q\x00."),
        ("nodes.tar.gz", gzip.compress(b"x", mtime=0)),
        ("image.png", b"\x89PNG\r\n\x1a\n"),
        ("image.jpg", b"\x89PNG\r\n\x1a\n"),  # another kind of image still opens
        ("model.bin", b"anything"),
        ("model.bin", b'{"model_type": "bert"}'),
        ("__init__.py", b""),
        (".gitkeep", b""),
        ("config.json", b'\xef\xbb\xbf {"a": 1}\n'),
        ("tsconfig.json", b'// strict\n{"a": 1} // the end'),
        ("scale.json", b"NaN"),
        ("utf-16.json", "{}".encode("utf-16")),
        ("answer.json", UNAUTHORIZED),
        ("answer.txt", UNAUTHORIZED),
        ("page.html", PAGE),
        ("feed.xml", b"<?xml version='1.0'?><Error></Error>"),
    ],
)
def test_a_file_that_may_be_what_its_name_says_is_taken(name: str, content: bytes) -> None:
    assert judged(name, content) is None


S3 = b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>"


@pytest.mark.parametrize(
    ("name", "content", "came"),
    [
        ("model.safetensors", PAGE, "an HTML page (a login may be needed): '<!DOCTYPE html> <html><head><title>Sign"),
        ("model.safetensors", b"", "no bytes at all"),
        ("model.safetensors", UNAUTHORIZED, 'an error in JSON: \'{"error":"Unauthorized"'),
        ("model.safetensors", LFS, "a pointer of git LFS, not the file that it stands for: 'version https://git-lfs"),
        ("model.safetensors", zipped(), "no .safetensors file: 'PK"),
        ("model.safetensors", (2**60).to_bytes(8, "little") + b"{}", "no .safetensors file"),
        ("model.safetensors", SAFETENSORS[:20], "its header has 66 bytes, and 12 came"),
        ("model.safetensors", SAFETENSORS[:-1], "cut off: by its header it has 78 bytes, and 77 came"),
        ("model.safetensors", SAFETENSORS + b"x", "bytes that are none of it: by its header it has 78 bytes, and 79"),
        ("model.safetensors", safetensors({"weight": {"dtype": "F32"}}), "its header cannot be read"),
        ("model.safetensors", safetensors({"weight": {"data_offsets": [0, "4"]}}), "its header cannot be read"),
        ("model.gguf", b"", "no bytes at all"),
        ("model.gguf", b"lmgg", "no .gguf file"),
        ("model.gguf", b"GGUF", "no .gguf file"),
        ("model.gguf", b"GGUF" + b"\xff" * 8, "no .gguf file"),
        ("nodes.zip", S3, "an error in XML: \"<?xml version='1.0'?> <Error><Code>AccessDenied"),
        ("nodes.zip", b"not a zip", "no .zip file: 'not a zip'"),
        ("nodes.zip", zipped()[:-30], "a ZIP archive that is cut off"),
        ("nodes.zip", zipped(comment=b"c" * 100)[:-1], "a ZIP archive that is cut off"),
        ("model.ckpt", zipped()[:500], "a ZIP archive that is cut off: its directory is missing at the end of its 500"),
        ("image.png", b"not found", "no .png file: 'not found'"),
        ("model.bin", b"", "no bytes at all"),
        ("model", b"", "no bytes at all"),
        ("model", PAGE, "an HTML page"),
        ("README", PAGE, "an HTML page"),
        ("model.bin", PAGE, "an HTML page"),
        ("model.v1.5", UNAUTHORIZED, "an error in JSON"),
        ("model.bin", b'{"message": "' + b"m" * HEAD, "an error in JSON"),
        ("model.onnx", b'{"timestamp": 1, "status": 404, "error": "Not Found"}', "an error in JSON"),
        ("model.bin", LFS, "a pointer of git LFS"),
        ("model.ckpt", b"\xef\xbb\xbf<HTML>", "an HTML page: "),
        ("requirements.txt", PAGE, "an HTML page"),
        ("config.json", b"<html lang='en'>", "an HTML page"),
        ("workflow.json", b"404: Not Found", "no JSON: '404: Not Found'"),
        ("workflow.json", b'{"nodes": [1,', "JSON that is cut off: it ends with"),
        ("workflow.json", b"", "no bytes at all"),
    ],
)
def test_what_cannot_be_what_its_name_says_is_named(name: str, content: bytes, came: str) -> None:
    assert came in (judged(name, content) or "")


@given(st.binary(max_size=200), st.sampled_from(["a.safetensors", "a.gguf", "a.zip", "a.json", "a.ckpt", "a"]))
def test_any_bytes_are_judged_in_one_line(content: bytes, name: str) -> None:
    for one in (content, SAFETENSORS[:9] + content):
        assert (judged(name, one) or "").isprintable()


# On a real server


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "came"),
    [(PAGE, "an HTML page .*Sign in"), (b"", "no bytes at all"), (SAFETENSORS[:-1], "cut off: by its header")],
    ids=["page", "nothing", "cut off"],
)
async def test_what_is_no_model_is_refused_under_a_models_name_with_what_came(
    tmp_path: Path, body: bytes, came: str
) -> None:
    with Target(tmp_path, content=body) as target:
        target.destination = target.destination.with_name("model.safetensors")
        with pytest.raises(WrongContentError, match=came):
            await target.attempt()
        assert target.files() == set()


@pytest.mark.anyio
@pytest.mark.parametrize("taken", [PAGE, SAFETENSORS[:-1]], ids=["page", "cut off"])
async def test_what_an_earlier_run_took_for_a_model_is_fetched_again(tmp_path: Path, taken: bytes) -> None:
    with Target(tmp_path, content=SAFETENSORS) as target:
        target.destination = target.destination.with_name("model.safetensors")
        target.destination.parent.mkdir()
        target.destination.write_bytes(taken)
        await target.attempt()
        assert target.destination.read_bytes() == SAFETENSORS


@pytest.mark.anyio
async def test_a_known_hash_says_more_than_a_name(tmp_path: Path) -> None:
    with Target(tmp_path) as target:
        target.destination = target.destination.with_name("model.gguf")
        await target.attempt(sha256=SHA256)
        assert target.files() == {"model.gguf"}


@pytest.mark.anyio
async def test_an_empty_file_is_taken_if_that_is_its_promised_size(tmp_path: Path) -> None:
    with Target(tmp_path, content=b"") as target:
        await target.attempt(size=0)
        await target.attempt(size=0)
        assert (target.files(), len(target.requests)) == ({"model.bin"}, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("sha256", [None, SHA256], ids=["no hash", "hash"])
@pytest.mark.parametrize("body", [PAGE, UNAUTHORIZED, LFS, b""], ids=["page", "error", "pointer", "nothing"])
async def test_what_is_no_file_does_not_cost_the_bytes_that_are_there(
    tmp_path: Path, body: bytes, sha256: str | None
) -> None:
    instead = Answer(200, {"Content-Length": str(len(body))}, body)
    with Target(tmp_path, faults=[Reset(0.5), instead]) as target:
        kept = await target.broken_attempt(sha256=sha256)
        with pytest.raises(WrongContentError, match="is not what the server sent: what came is"):
            await target.attempt(sha256=sha256)
        assert (await target.attempt(sha256=sha256)).start == kept > 0
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
