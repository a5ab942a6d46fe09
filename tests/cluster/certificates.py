"""Certificates of an authority of ours, for the loopback, by the commands of the documentation (openssl)."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

from tests.cluster.servers import MissingError

HERE = Path(__file__).parent
COMMANDS = HERE / "files" / "certificates.sh"


def make_certificates(folder: Path, hosts: str = "127.0.0.1") -> Path:
    """Write ca.pem, server.pem, client.pem and a key for each to *folder*; returns it.

    Raises:
        MissingError: There is no openssl.
    """
    if shutil.which("openssl") is None:
        raise MissingError("this needs openssl: apt-get install openssl")
    folder.mkdir(parents=True, exist_ok=True)
    script = COMMANDS.read_text(encoding="utf-8").replace("DNS:nats-a,DNS:nats-b,DNS:nats-c", f"IP:{hosts}")
    done = subprocess.run(["sh", "-e", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def trusting(folder: Path, *, as_client: bool = False) -> ssl.SSLContext:
    """What a client needs that trusts the authority in *folder*, and shows its own certificate if *as_client*."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if as_client:
        context.load_cert_chain(folder / "client.pem", folder / "client.key")
    return context
