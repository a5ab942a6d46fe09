"""``hf://`` sources as URLs: tables."""

from __future__ import annotations

import pytest

from adapters.downloads.sources import url_of

HUB = "https://huggingface.co"


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("hf://org/repo/file.bin", "/org/repo/resolve/main/file.bin"),
        ("hf://models/org/repo/file.bin", "/org/repo/resolve/main/file.bin"),
        ("hf://datasets/org/repo/a/b.csv", "/datasets/org/repo/resolve/main/a/b.csv"),
        ("hf://spaces/org/repo@v1/app.py", "/spaces/org/repo/resolve/v1/app.py"),
        ("hf://org/repo@refs/pr/3/file.bin", "/org/repo/resolve/refs%2Fpr%2F3/file.bin"),
        ("hf://org/repo@refs%2Fpr%2F3/file.bin", "/org/repo/resolve/refs%2Fpr%2F3/file.bin"),
        ("hf://org/repo@refs/convert/parquet/a/b", "/org/repo/resolve/refs%2Fconvert%2Fparquet/a/b"),
        ("hf://org/repo@feature%2Fx/file.bin", "/org/repo/resolve/feature%2Fx/file.bin"),
        ("hf://org/repo/a@1/file@2.bin", "/org/repo/resolve/main/a%401/file%402.bin"),
        ("hf://org/repo/what? 50%#1.bin", "/org/repo/resolve/main/what%3F%2050%25%231.bin"),
        ("hf://buckets/org/some/file.bin", "/buckets/org/some/resolve/file.bin"),
    ],
)
def test_a_file_of_the_hub_has_a_url(source: str, path: str) -> None:
    assert url_of(source) == HUB + path
    assert url_of(source, "http://localhost:8080/hf/") == f"http://localhost:8080/hf{path}"


def test_another_url_stays_as_it_is() -> None:
    assert url_of("https://example.org/a b?c", "no endpoint") == "https://example.org/a b?c"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("hf://", "no file"),
        ("hf://gpt2", "no file"),
        ("hf://gpt2/config.json", "no file"),
        ("hf://org/repo", "no file"),
        ("hf://org/repo@main", "no file"),
        ("hf://org/repo/", "no file"),
        ("hf://datasets/org/repo", "no file"),
        ("hf://org/repo@/file.bin", "no revision behind '@'"),
        ("hf://dataset/org/repo/file.bin", "write 'datasets/'"),
        ("hf://org/repo//file.bin", "is empty"),
        ("hf://org/repo/../../api/file.bin", "'..'"),
        ("hf://org/re po/file.bin", "'org/re po' is no repository"),
        ("hf://org/repo--x/file.bin", "is no repository"),
        ("hf://@main/file.bin", "is no repository"),
        ("hf://repo@main/a/file.bin", "'repo' is no repository"),
    ],
)
def test_a_source_that_is_wrong_says_what_and_what_to_write(source: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"hf://org/repo/model\.safetensors") as caught:
        url_of(source)
    assert str(caught.value).startswith(f"{source}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("endpoint", ["hub.example.org", "ftp://hub.example.org", "https://", "https://x/?a=b"])
def test_a_wrong_endpoint_is_named(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"^HF_ENDPOINT: .* as https://huggingface\.co"):
        url_of("hf://org/repo/file.bin", endpoint)


def test_no_endpoint_is_the_public_hub() -> None:
    assert url_of("hf://org/repo/file.bin", "") == f"{HUB}/org/repo/resolve/main/file.bin"
