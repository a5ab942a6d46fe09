"""``recovery sentences``: what failures mean, as a file to translate; ``recovery --sentences FILE`` reads one."""

from __future__ import annotations

from pathlib import Path

from adapters.cli.output import FILE, JSON, print_json, usage_error
from recovery.installation import extra
from recovery.policies.sentences import Sentences, spoken
from recovery.translation import as_toml, read_translation

with extra("launcher"):
    import click


def _chosen(_context: click.Context, _option: click.Parameter, path: Path | None) -> None:
    try:
        (Sentences() if path is None else read_translation(path)).speak()
    except OSError as error:
        named = "--sentences, or the variable RECOVERY_SENTENCES, names it"
        usage_error(ValueError(f"{path}: cannot be read: {error.strerror}; {named}"))
    except ValueError as error:
        usage_error(error)


LANGUAGE = click.option(
    "--sentences",
    type=FILE,
    envvar="RECOVERY_SENTENCES",
    expose_value=False,
    callback=_chosen,
    help="A TOML file with the sentences about failures in another language.",
)


@click.command()
@JSON
def sentences(*, as_json: bool) -> None:
    """Print the sentences about failures, as a TOML file to translate.

    What a translation leaves out stays English: recovery --sentences FILE sentences prints the whole. Exit codes: 0
    printed, 2 wrong usage or a wrong translation.
    """
    if as_json:
        causes = {key: one._asdict() for key, one in spoken().causes.items()}
        print_json("sentences", {"next": spoken().following, "causes": causes})
    else:
        click.echo(as_toml(), nl=False)
