"""``--cluster``: the verbs that show and steer a journal do so with a cluster of machines, too."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio

from adapters.cli.output import FilePath, usage_error
from events.errors import RecoveryError
from recovery.installation import extra

with extra("launcher"):
    import click

if TYPE_CHECKING:
    from adapters.nats.view import ClusterAddress, ClusterView

T = TypeVar("T")
VARIABLE = "RECOVERY_CLUSTER"
"""The environment variable with the address of a cluster."""
FILES = (".toml", ".db")
"""How the names of plans and journals end."""

_OPTIONS = (
    click.option(
        "--cluster",
        metavar="URL",
        is_eager=True,  # before the arguments, which a cluster changes
        help=f"Instead of a journal, the cluster at this address of NATS [{VARIABLE}, where no file is named].",
    ),
    click.option("--creds", metavar="FILE", type=click.Path(dir_okay=False), help="The file with its credentials."),
    click.option("--prefix", metavar="NAME", help="The first token of its subjects [recovery]."),
    click.option(
        "--inbox", metavar="NAME", help="How the subjects of answers begin [_INBOX_USER, _INBOX without a user]."
    ),
    click.option(
        "--tls",
        metavar="FOLDER",
        type=click.Path(exists=True, file_okay=False),
        help="The folder with ca.pem, client.pem and client.key, for servers that want certificates.",
    ),
)


class _Options(NamedTuple):
    """What else finds a cluster, as it was given."""

    creds: str | None
    prefix: str | None
    inbox: str | None
    tls: str | None


def of_journal_or_cluster(*positional: str, is_wanted: bool = True) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a verb the options that name a cluster, and its function the argument ``cluster``.

    With a cluster the arguments *positional* move up: the first of them is a journal's file otherwise. A verb of which
    *is_wanted* is false stays as it is.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        if not is_wanted:
            return function

        @functools.wraps(function)
        def run(*, cluster: str | None, **given: Any) -> T:
            options = _Options(*(given.pop(name) for name in _Options._fields))
            first = given[positional[0]]
            address = None if cluster is None and _is_file(first) else _address(cluster, options)
            if address is None:
                _refuse(first, options, positional[0])
                return function(**given, cluster=None)
            values = [None if given[name] is None else os.fspath(given[name]) for name in positional]
            if values[-1] is not None:
                raise click.UsageError(f"with --cluster no journal is named: {values[-1]!r} is one argument too many")
            given.update(zip(positional, [None, *values[:-1]], strict=True))
            return function(**given, cluster=address)

        for option in reversed(_OPTIONS):
            option(run)
        return run

    return decorate


def of_cluster(function: Callable[..., T]) -> Callable[..., T]:
    """Give a verb that needs a cluster the options that name it, and its function the argument ``cluster``."""

    @functools.wraps(function)
    def run(*, cluster: str | None, **given: Any) -> T:
        options = _Options(*(given.pop(name) for name in _Options._fields))
        address = _address(cluster, options)
        if address is None:
            raise click.UsageError(f"say which cluster: --cluster URL, or {VARIABLE} in the environment")
        return function(**given, cluster=address)

    for option in reversed(_OPTIONS):
        option(run)
    return run


class FileOrCall(FilePath):
    """A file; with a cluster, the call whose id, or a part of it, stands there instead."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path that *value* names; fails for a folder where no cluster is named."""
        named = ctx is not None and isinstance(ctx.params.get("cluster"), str)
        is_call = named or (VARIABLE in os.environ and not _is_file(Path(value)))
        return Path(value) if is_call else super().convert(value, param, ctx)


FILE_OR_CALL = FileOrCall()


def in_cluster(address: ClusterAddress, what: Callable[[ClusterView], Awaitable[T]]) -> T:
    """What *what* returns for the cluster at *address*.

    Ends the command with exit code 2 if no server answers, or if the extra "nats" is not installed.
    """

    async def connected() -> T:
        from adapters.nats import view  # here: it may need an extra, and one machine does not need it

        async with view.open_view(address) as found:
            return await what(found)

    without_log()
    try:
        return anyio.run(connected)
    except ModuleNotFoundError as error:
        usage_error(ModuleNotFoundError(str(error).removeprefix("recovery ")))
    except (RecoveryError, OSError) as error:
        usage_error(error)


def without_log() -> None:
    """Keep from the standard error what the connection logs: the error of the command says it."""
    for name in ("adapters.nats", "recovery", "nats"):
        logging.getLogger(name).addHandler(logging.NullHandler())


def _address(cluster: str | None, options: _Options) -> ClusterAddress | None:
    """Where the cluster is that the options, or the environment, name; None for none. Raises UsageError."""
    url = os.environ.get(VARIABLE, "") if cluster is None else cluster
    if not url:
        if cluster is not None:
            raise click.UsageError("--cluster needs an address, such as nats://gpu-queue:4222")
        return None
    from adapters.nats.view import ClusterAddress  # here: one machine does not need it

    prefix = options.prefix or "recovery"
    return ClusterAddress(
        url, options.creds or "", prefix, options.inbox, options.tls or "", is_default=cluster is None
    )


def _is_file(first: Path | None) -> bool:
    """Whether *first* names a journal or a plan, and no call."""
    return first is not None and (first.suffix in FILES or first.is_file())


def _refuse(first: Path | None, options: _Options, name: str) -> None:
    """Raise UsageError for a verb without a journal and a cluster, or with the options of a cluster alone."""
    if any(one is not None for one in options):
        raise click.UsageError("--creds, --prefix, --inbox and --tls go with --cluster")
    if first is None:
        raise click.UsageError(f"Missing argument '{name.upper()}', or --cluster URL.")
