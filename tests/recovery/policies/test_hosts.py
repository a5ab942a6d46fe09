"""The host and port of a call's URL."""

from __future__ import annotations

import contextlib
import re
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery import host_of
from recovery.policies.hosts import without_port

WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8)
SECRET = st.text(st.characters(codec="utf-8", exclude_characters="[]/?#@ \t\r\n", exclude_categories=["Z", "C"]))


class Unreadable:
    def __str__(self) -> str:
        raise ValueError("not today")


class BadUrl(Unreadable):
    pass


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://example.org/a?token=1", "example.org:443"),
        ("HTTPS://Example.org:443", "example.org:443"),
        ("http://user:secret@example.org:8080/a", "example.org:8080"),
        ("http://user@name:secret@example.org?a", "example.org:80"),
        ("http://example.org.:/a", "example.org:80"),
        ("ws://[::1]:8188/ws", "[::1]:8188"),
        ("wss://example.org#a", "example.org:443"),
        ("ftp://example.org", "example.org:21"),
        ("git://example.org/a.git", "example.org:9418"),
        ("git+https://example.org/a.git@main", "example.org:443"),
        ("ssh://git@example.org/a.git", "example.org:22"),
        ("git@example.org:owner/repository.git", "example.org:22"),
        # no URL of a host
        ("example.org/a", ""),
        ("see https://example.org", ""),
        ("file:///etc/hosts", ""),
        ("s3://bucket/a", ""),
        ("me@example.org: hello", ""),
        ("https://", ""),
        ("https://user:secret@", ""),
        ("https://user:secret@bad host/", ""),
        ("https://example.org:https/", ""),
    ],
)
def test_the_key_of_a_url_is_its_host_and_port(url: str, key: str) -> None:
    assert host_of(url) == key


def test_the_first_url_counts_and_positional_arguments_come_first() -> None:
    assert host_of(1, "models", None, "https://a.org", "https://b.org") == "a.org:443"
    assert host_of("models", mirror="https://b.org", url="https://a.org") == "b.org:443"
    assert host_of("https://a.org", url="https://b.org") == "a.org:443"
    assert host_of() == host_of(1, ["https://a.org"], url=None) == ""


def test_an_object_that_is_a_url_counts_and_no_other_object_is_read() -> None:
    assert host_of(httpx2.URL("https://example.org/a")) == "example.org:443"
    assert host_of(Unreadable(), BadUrl(), "https://example.org") == "example.org:443"


@given(
    scheme=st.sampled_from(["http", "wss", "git+ssh"]),
    user=SECRET,
    secret=SECRET,
    host=WORD,
    port=st.integers(1, 65535),
)
def test_a_user_name_or_password_is_never_in_the_key(scheme: str, user: str, secret: str, host: str, port: int) -> None:
    assert host_of(f"{scheme}://{user}:{secret}@{host}:{port}/") == f"{host}:{port}"


@given(text=st.text() | st.text("htps:/@[].a1 #?\n").map("http://{}".format))
def test_a_key_is_made_of_any_text_and_holds_what_a_client_connects_to(text: str) -> None:
    key = host_of(text)
    assert key == "" or re.fullmatch(r"(\[[0-9a-f:.]+\]|[\w.-]+):[0-9]+", key)
    if key:
        with contextlib.suppress(ValueError):  # no client connects to [00]
            assert key.rpartition(":")[0].strip("[]") == (urlsplit(text).hostname or "").rstrip(".")


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("example.org:443", "example.org"),
        ("[::1]:80", "[::1]"),
        ("hub", "hub"),
        ("a:b", "a:b"),
        (":80", ":80"),
        ("", ""),
    ],
)
def test_people_name_a_host_without_its_port(key: str, host: str) -> None:
    assert without_port(key) == host
