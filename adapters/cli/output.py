"""What the verbs share: the kinds of their arguments, and how they print."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
from pathlib import Path
from typing import NoReturn

import msgspec

from adapters.launcher.plan import load_plan
from adapters.terminal.screen import make_console
from recovery.installation import extra
from recovery.redact import brief

with extra("launcher"):
    import click
    from rich.console import Console


class FilePath(click.Path):
    """A file, which need not be there yet."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path that *value* names; fails for a folder, also for "", and for what the system does not take."""
        path = Path(value)
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except FileNotFoundError:
            return path
        except OSError as error:
            self.fail(f"{path}: {error.strerror}", param, ctx)
        return self.fail(f"{path} is a folder", param, ctx) if is_folder else path


class Seconds(click.FloatRange):
    """Seconds to wait, 0 or more."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; fails for one below 0, and for NaN, which would be waited for without end."""
        seconds: float = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is no number of seconds", param, ctx) if math.isnan(seconds) else seconds


FILE = FilePath()
TIMEOUT = click.option(
    "--timeout",
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    type=Seconds(min=0),
    help="How long to wait for the running process.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


SPANS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def span(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """The seconds of a time span with its unit, as an option has it: ``90s``, ``30min``, ``12h``, ``7d``."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s?(s|min|h|d)", value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is no time span: write 90s, 30min, 12h or 7d")
    return float(found[1]) * SPANS[found[2]]


def console(*, as_json: bool) -> Console:
    """The screen for people; silent where JSON is printed."""
    return Console(quiet=True) if as_json else make_console()


def journal_at(path: Path) -> Path:
    """The journal at *path*, or of the launch plan there."""
    return load_plan(path).journal if path.suffix == ".toml" else path


def print_error(problem: str) -> None:
    """Print one line to stderr, redacted."""
    click.echo(f"recovery: {brief(problem)}", err=True)


def usage_error(error: Exception) -> NoReturn:
    """End the command with exit code 2: it was used wrongly. Raises *error* if it is that no reader is left."""
    if isinstance(error, BrokenPipeError):
        raise error  # as `| head` ends: click exits with 1, without a word
    print_error(str(error))
    sys.exit(2)


def print_json(shape: str, value: object, version: int = 1) -> None:
    """Print *value* as a line of JSON: an object whose first member, "format", names its *shape* and version.

    Args:
        shape: What is printed, such as "status"; docs/reference/cli.md describes each.
        value: A struct or a mapping, redacted.
        version: Grows when a member changes its meaning or goes; a new member does not change it.
    """
    text = msgspec.json.encode({"format": f"{shape}/{version}", **msgspec.to_builtins(value)}).decode()
    if not text.isprintable():  # a terminal shows JSON, too: marks of direction are escaped
        text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    click.echo(text.encode())
