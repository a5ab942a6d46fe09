"""``hf://`` sources: ours means what the file system of huggingface_hub makes of it."""

from __future__ import annotations

import pytest
from huggingface_hub import HfFileSystem, hf_hub_url

from adapters.downloads.sources import url_of
from tests.evidence.loopback import Answer, http_server

SOURCES = [
    "hf://org/repo/file.bin",
    "hf://models/org/repo/file.bin",
    "hf://datasets/org/repo/a/b.csv",
    "hf://spaces/org/repo@v1/app.py",
    "hf://org/repo@refs/pr/3/file.bin",
    "hf://org/repo@refs/pr/3x/file.bin",
    "hf://org/repo@refs%2Fpr%2F3/file.bin",
    "hf://org/repo@refs/convert/parquet/a/b",
    "hf://org/repo@refs/heads/x",
    "hf://org/repo@feature%2Fx/file.bin",
    "hf://org/repo@v1/a@2/file.bin",
    "hf://org/repo/a@1/file@2.bin",
    "hf://org/repo/what? 50%#1.bin",
    "hf://org/repo/folder/",
    "hf://org/repo//file.bin",
    "hf://gpt2",
    "hf://gpt2/config.json",
    "hf://repo@main/file.bin",
    "hf://repo@main/a/file.bin",
    "hf://@main/file.bin",
    "hf://org/repo@/file.bin",
    "hf://dataset/org/repo/file.bin",
    "hf://org/re po/file.bin",
    "hf://org/repo--x/file.bin",
    "hf://org/repo.git/file.bin",
    "hf://org/repo",
]


def theirs(source: str, endpoint: str) -> str | None:
    """The URL that huggingface_hub downloads *source* from; None if it finds no file in it."""
    try:
        found = HfFileSystem(endpoint=endpoint, skip_instance_cache=True).resolve_path(source)
    except ValueError:
        return None
    if not found.path_in_repo:
        return None
    return hf_hub_url(
        found.repo_id,
        found.path_in_repo,
        repo_type=found.repo_type,
        revision=found.revision,
        endpoint=endpoint,
    )


def ours(source: str, endpoint: str) -> str | None:
    try:
        return url_of(source, endpoint)
    except ValueError:
        return None


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_means_what_the_hubs_own_library_makes_of_it(source: str) -> None:
    with http_server(Answer(200, body=b'{"id": "org/repo"}')) as url:
        assert ours(source, url) == theirs(source, url)
