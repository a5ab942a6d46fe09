"""The command ``recovery``: check and run a launch plan, show its journal, steer its calls, answer its questions, watch
the demonstration.

Exit codes: 0 everything is done, 1 something failed, 2 the command or the plan is wrong (then nothing was started),
130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
"""

from __future__ import annotations

import errno
import sys

from adapters.cli.answer import answer
from adapters.cli.check import check
from adapters.cli.demo import demo
from adapters.cli.export import export
from adapters.cli.history import history
from adapters.cli.incidents import incidents
from adapters.cli.move import move
from adapters.cli.output import print_error
from adapters.cli.prune import prune
from adapters.cli.report import report
from adapters.cli.run import run
from adapters.cli.sentences import LANGUAGE, sentences
from adapters.cli.status import status
from adapters.cli.steer import VERBS
from adapters.cli.verify import verify
from adapters.cli.web import web
from adapters.cli.why import why
from adapters.cli.worker import worker
from adapters.terminal.ascii_marks import use_marks
from recovery.installation import extra

with extra("launcher"):
    import click

AFTER_INTERRUPT = "ended by Ctrl-C; run it again, and it goes on from here"


class Interruptible(click.Group):
    """Commands that say after Ctrl-C what happens next, and exit with 130."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was chosen."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print_error(AFTER_INTERRUPT if ctx.invoked_subcommand == "run" else "interrupted")
            sys.exit(130)


@click.group(cls=Interruptible, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="launcher-recovery")
@LANGUAGE
def cli() -> None:
    """Run launches that recover by themselves.

    Exit codes: 0 done, 1 something failed, 2 wrong usage or a wrong plan, 130 Ctrl-C; SIGTERM ends
    `run` with 143, SIGHUP with 129.
    """


for _verb in (
    run, status, why, history, *VERBS, move, incidents, answer, report, export, prune, verify, check, web, worker,
    sentences, demo,
):  # fmt: skip
    cli.add_command(_verb)


def main() -> None:
    """The console script."""
    use_marks()
    try:
        cli()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print_error(
            f"there is no room for what is printed: {error.strerror}; `recovery status` shows how a launch stands"
        )
        sys.exit(1)
