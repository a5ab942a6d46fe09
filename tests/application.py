"""What launchers of tests install and run: models, an application in a git repository, a package, and its server.

The server paints a picture for each prompt, ``PUT /ID``: once, however often it is asked. It needs the package.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from adapters.demo.painter import BRUSH, MODELS, SERVER, safetensors
from adapters.demo.server import FileServer, Hosted
from tests.adapters.git.servers import GitServer, git
from tests.adapters.packages.index import Index


class Application:
    """Where launchers get it from: the servers of its models, its repository and its package.

    Args:
        folder: An empty folder for the repository.
        stack: Ends the servers.
        seconds: How long a picture takes.
    """

    def __init__(self, folder: Path, stack: ExitStack, *, seconds: float = 0.0) -> None:
        self.models = {name: Hosted(safetensors(2_000_000, number)) for number, name in enumerate(MODELS)}
        self.files = stack.enter_context(FileServer({f"/{name}": one for name, one in self.models.items()}))
        self.index = stack.enter_context(Index())
        self.index.add("brush", "1.0", files={"brush/__init__.py": BRUSH})
        self.git = stack.enter_context(GitServer(folder))
        place = folder / "painter"
        place.mkdir(parents=True)
        (place / "server.py").write_text(SERVER.replace("SECONDS", str(seconds)))
        (place / "requirements.txt").write_text("brush==1.0\n")
        git(place, "init", "--quiet")
        git(place, "add", ".")
        git(place, "commit", "--quiet", "--message", "one")
        self.repository = self.git.url("painter")

    def begun(self) -> Counter[str]:
        """How often each thing was asked for, by the name of its call."""
        begun = Counter(f"models{request.path}" for request in self.files.requests)
        begun["program"] = self.git.asked_for("info/refs")
        begun["packages program/requirements.txt"] = self.index.asked(".whl")
        return begun
