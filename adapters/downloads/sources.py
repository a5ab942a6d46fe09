"""The URL of a source: ``hf://org/repo@revision/file`` means a file of the Hugging Face Hub. Pure.

    hf://[datasets/ | spaces/ | models/ | kernels/]org/repo[@revision]/path/to/file
    hf://buckets/org/bucket/path/to/file

The revision is a branch, a tag or a commit, ``main`` by default. A slash in it is written ``%2F``, but for those of
``refs/pr/3`` and ``refs/convert/parquet``. An ``@`` behind the repository is part of a file's name.

Source: ``HfFileSystem`` of huggingface_hub 2.4; ``tests/evidence`` compares the two.
"""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import quote, unquote, urlsplit

ENDPOINT = "https://huggingface.co"
SCHEME = "hf://"
EXAMPLE = "hf://org/repo/model.safetensors, or hf://datasets/org/repo@revision/file"

KINDS = ("models", "datasets", "spaces", "kernels", "buckets")
REPOSITORY = re.compile(r"(?:\b[\w\-.]{1,96}\b/)\b[\w\-.]{1,96}\b", re.ASCII)
REVISION_WITH_SLASHES = re.compile(r"refs/(?:convert/[\w.-]+|pr/\d+)")


def url_of(source: str, endpoint: str | None = None) -> str:
    """The http URL of *source*; one that does not begin with ``hf://`` is returned as it is.

    Args:
        source: A URL.
        endpoint: Where the hub is, as in the environment variable ``HF_ENDPOINT``; the public hub by default.

    Raises:
        ValueError: *source* or *endpoint* is wrong; the message names what, where, and what to write.
    """
    if not source.startswith(SCHEME):
        return source
    kind, rest = _kind_and_rest(source)
    hub = _hub(endpoint)
    if kind == "buckets":
        bucket, path = _split(source, rest)
        return f"{hub}/buckets/{bucket}/resolve/{quote(path)}"
    repository, revision, path = _repository(source, rest)
    if not REPOSITORY.fullmatch(repository) or "--" in repository or ".." in repository or repository.endswith(".git"):
        _refuse(source, f"{repository!r} is no repository: org and name have letters, digits, '-', '_' and '.'")
    prefix = "" if kind == "models" else f"{kind}/"
    return f"{hub}/{prefix}{repository}/resolve/{quote(revision, safe='')}/{quote(path)}"


def _kind_and_rest(source: str) -> tuple[str, str]:
    """The kind of the repository, and what follows it."""
    location = source.removeprefix(SCHEME)
    kind, slash, rest = location.partition("/")
    if f"{kind}s" in KINDS:
        _refuse(source, f"{kind!r} is no organisation; write '{kind}s/'")
    if kind in KINDS and slash:
        return kind, rest.strip("/")
    return "models", location.strip("/")


def _repository(source: str, location: str) -> tuple[str, str, str]:
    """Repository, revision and path of *location*."""
    before, at, after = location.partition("@")
    if not at or before.count("/") > 1:
        repository, path = _split(source, location)
        return repository, "main", path
    if not before.count("/"):
        _refuse(source, f"{before!r} is no repository: it has no organisation")
    if special := REVISION_WITH_SLASHES.match(after):
        revision, path = special.group(), after[special.end() :].removeprefix("/")
    else:
        revision, _, path = after.partition("/")
    if not revision:
        _refuse(source, "there is no revision behind '@'; write one, or leave the '@' out")
    repository, path = _split(source, f"{before}/{path}")
    return repository, unquote(revision), path


def _split(source: str, location: str) -> tuple[str, str]:
    """The repository or bucket (org/name), and the path of the file in it."""
    parts = location.split("/", 2)
    if len(parts) < 3 or not parts[2]:
        _refuse(source, "it names no file in a repository")
    if {"", ".", ".."} & set(location.split("/")):
        _refuse(source, "a part of its path is empty, '.' or '..'")
    return f"{parts[0]}/{parts[1]}", parts[2]


def _hub(endpoint: str | None) -> str:
    hub = (endpoint or ENDPOINT).rstrip("/")
    parts = urlsplit(hub)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"HF_ENDPOINT: {hub!r} is no http or https URL of a hub, as {ENDPOINT}")
    return hub


def _refuse(source: str, problem: str) -> NoReturn:
    raise ValueError(f"{source}: {problem}; expected {EXAMPLE}")
