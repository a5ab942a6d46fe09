"""The tables of a launch plan, as types. The tables of docs/plans.md are made from their docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from recovery import validation
from recovery.serialization.secret import Secret

REFERENCE = "env:"
"""How a value begins that names an environment variable."""


class DownloadTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[download]``: how the plan's files are downloaded.

    Args:
        parallel: How many downloads run at a time.
        stall_timeout: Seconds without a byte after which an attempt has stalled. It is retried, and goes on from there.
        follow_links: Whether destinations and folders may go through links that lead outside the root, to another disk
            say.
    """

    parallel: int = 4
    stall_timeout: float = 60.0
    follow_links: bool = False

    def __post_init__(self) -> None:
        validation.whole("parallel", self.parallel, least=1)
        validation.number("stall_timeout", self.stall_timeout, above=0.0)


class LaunchTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch]``: the launch as a whole.

    Args:
        orphans: What happens to a command that a killed launch left running, before the same command is run again:
            "wait" until it has ended, or "end" it.
    """

    orphans: Literal["wait", "end"] = "wait"


class WaitTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[wait]``: how long an operation waits for the cause of its failure to be gone; such a wait uses no retry.

    Args:
        disk: Seconds to wait for room on a full disk; with 0 it is retried like any other failure, as below.
        host: Seconds to wait until a host that cannot be reached accepts connections.
        answer: Seconds to wait for a person's answer: a token, a licence. With 0 it has failed at once.
    """

    disk: float = 3600.0
    host: float = 900.0
    answer: float = 3600.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            validation.number(name, getattr(self, name), least=0.0)


class Operation(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """``[[operation]]``: what every operation has.

    Args:
        name: Its name on the screen and for the other verbs; at most 200 characters.
        needs: The names of the operations that must be done before it begins.
        optional: Whether it may fail: the launch then succeeds all the same, and what needs it begins all the same.
        retry: Fields of `RetryPolicy` for this operation alone, over those of `[retry]`.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    needs: tuple[str, ...] = ()
    optional: bool = False
    retry: dict[str, Any] = {}


class Download(Operation, frozen=True, kw_only=True, tag="download"):
    """``kind = "download"``: a file. One that is there and fits is not fetched again.

    Args:
        url: Where the file is: `http://`, `https://`, or `hf://org/repo@revision/file`.
        destination: Where it goes, below the root.
        mirrors: Further places of the same file, asked in this order where the first cannot be reached.
        sha256: Its SHA-256, in 64 hex digits. It is verified, and tells whether a file that is there fits.
        size: Its bytes. They are verified.
    """

    url: str
    destination: str
    mirrors: tuple[str, ...] = ()
    sha256: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """All places of the file; the first comes first."""
        return (self.url, *self.mirrors)


class Command(Operation, frozen=True, kw_only=True, tag="command"):
    """``kind = "command"``: a program, run without a shell.

    Args:
        run: The program and its arguments.
        cwd: The folder in which it runs, below the root.
        creates: A file or folder below the root that the command makes. Where it is there, the command is done and is
            not run. Where it is still not there after the command ended with 0, the command has failed. Without it,
            each launch runs the command. Name what is made last, as half of a folder is a folder too.
        env: Variables that are set for it besides those of the launcher. `"env:NAME"` takes the value of the
            launcher's variable `NAME` when the command begins; a secret is given in this way alone.
        silence: Seconds without output, processor time, and input and output of all its processes, after which the
            command counts as stalled: it is ended, and retried. Unset, it may be silent.
    """

    run: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    cwd: str = "."
    creates: str | None = None
    env: dict[str, str] = {}
    silence: float | None = None

    def __post_init__(self) -> None:
        if self.silence is not None:
            validation.number("silence", self.silence, above=0.0)

    @property
    def environment(self) -> dict[str, str | Secret]:
        """What ``env`` says: a text, or the reference to a variable."""
        return {name: Secret(value) if value.startswith(REFERENCE) else value for name, value in self.env.items()}


Step: TypeAlias = Download | Command


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys and tables of a plan.

    Args:
        operation: What is to be done: one `[[operation]]` for each file and command.
        root: The folder of destinations and commands; relative to the plan's own folder.
        retry: Fields of `RetryPolicy`, for every operation. Unset, an operation has 5 retries, the first after 0.5 s.
        circuit: Fields of `BreakerPolicy`, for every host of downloads. It counts attempts that do not reach the host.
        download: How files are downloaded.
        launch: The launch as a whole.
        wait: How long operations wait for causes to be gone.
        tokens: A token for each family of hosts (`huggingface`, `civitai`) or for one host (`"example.org"`, with its
            port if that is not 443), as the variable that holds it: `huggingface = "env:HF_TOKEN"`.
        rule: Fields of `Rule`, one table a rule. They are asked before the built-in rules.
    """

    operation: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1)]
    root: str = "."
    retry: dict[str, Any] = {}
    circuit: dict[str, Any] = {}
    download: DownloadTable = DownloadTable()
    launch: LaunchTable = LaunchTable()
    wait: WaitTable = WaitTable()
    tokens: dict[str, str] = {}
    rule: tuple[dict[str, Any], ...] = ()


KINDS: Mapping[str, type[Download | Command]] = {"download": Download, "command": Command}
TABLES: Mapping[str, type[msgspec.Struct]] = {
    "": Document,
    "download": DownloadTable,
    "launch": LaunchTable,
    "wait": WaitTable,
}
"""The types of a plan's tables, by their keys."""
