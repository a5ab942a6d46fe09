"""The site of the documentation in Debian's Chromium: ``make docs-look`` runs these tests, ``make test`` does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import MissingError, chromium
from tests.docs.site import SITE, built

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Whether this folder is left out: unless it, or a file in it, was named."""
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in named) else True


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    try:
        with chromium() as browser:
            yield browser
    except MissingError as missing:
        pytest.exit(str(missing), 1)


class Quiet(SimpleHTTPRequestHandler):
    """A plain server of files that prints no line for each request."""

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the built site, below a path of a plain server of files."""
    assert built() == []
    root = tmp_path_factory.mktemp("server")
    (root / "some" / "where").mkdir(parents=True)
    (root / "some" / "where" / "docs").symlink_to(SITE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=root))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/some/where/docs/"
    server.shutdown()
    server.server_close()
