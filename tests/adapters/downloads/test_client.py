"""Variables of the environment that the HTTP client of a launch cannot use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.downloads.client import PROXIES, EnvironmentVariableError, make_client

PASSWORD = "s3cr3tpassword"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize(
    "value",
    ["foo://h", "socks5://h", "http://", "h:99999", f"http://u:{PASSWORD}@h:0", "http://[::1", "http://\x01"],
)
def test_a_proxy_that_no_connection_can_be_made_to_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentVariableError, match=f"^{name}: the proxy cannot be used: ") as caught:
        make_client(stall_timeout=1.0)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("value", ["h:3128", "http://u:p@[::1]:3128", "https://h", ""])
def test_a_proxy_that_may_be_right_is_taken(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("https_proxy", value)
    monkeypatch.setenv("HTTP_PROXY", value)
    make_client(stall_timeout=1.0)


def test_a_proxy_that_another_variable_overrides_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "foo://h")
    monkeypatch.setenv("https_proxy", "http://h:3128")
    make_client(stall_timeout=1.0)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_certificates_are_read_from_a_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(EnvironmentVariableError, match=r"SSL_CERT_FILE: .* it is no file"):
        make_client(stall_timeout=1.0)
