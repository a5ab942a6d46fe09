"""``recovery answer``: answer a question for which calls wait, or list the open ones."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from adapters.cli.cluster import FILE_OR_CALL, in_cluster, of_journal_or_cluster
from adapters.cli.output import JSON, TIMEOUT, journal_at, print_error, print_json, usage_error
from adapters.journals.answering import Question, answer_question, named, read_questions
from events.errors import RecoveryError
from recovery.answers import Value
from recovery.installation import extra
from recovery.redact import brief, printable, redacted
from recovery.serialization.secret import Secret

with extra("launcher"):
    import click

if TYPE_CHECKING:
    from adapters.nats.view import ClusterAddress

MOST_NAMED = 5
"""Questions that an error names."""

YES = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}
NOT_IN_ARGUMENTS = (
    "a secret is not taken from the command line, where other users and the shell's history see it: leave it out to be "
    "asked for it, send it to the standard input, or say where it is with --from env:NAME or --from file:PATH"
)


class Answered(msgspec.Struct, frozen=True):
    """What became of an answer.

    Args:
        question: The name of the question.
        kind: What answers it: "confirm", "choice", "text" or "secret".
        is_done: Whether a process has the answer.
        said: What happens now, or why it is not done.
    """

    question: str
    kind: str
    is_done: bool
    said: str


@click.command()
@click.argument("journal", type=FILE_OR_CALL, required=False)
@click.argument("question", required=False)
@click.argument("value", required=False)
@click.option("--from", "reference", metavar="env:NAME|file:PATH", help="Where a secret is; each process looks there.")
@click.option("--remember", is_flag=True, help="Keep a secret in a file beside the journal that only you can read.")
@TIMEOUT
@JSON
@of_journal_or_cluster("journal", "question", "value")
def answer(
    journal: Path,
    question: str | None,
    value: str | None,
    reference: str | None,
    remember: bool,
    timeout: float,
    as_json: bool,
    cluster: ClusterAddress | None = None,
) -> None:
    """Answer QUESTION, for which calls wait; without it, list the open questions.

    JOURNAL is a journal's file or a launch plan. VALUE is yes or no, one of the choices, or a text; without it you are
    asked, or one line of the standard input is read. A secret is never taken from the command line. "no" ends the calls
    that wait. With --cluster, QUESTION is the id of a call that has no retries left, or a part of it: yes tries it
    again. Exit codes: 0 done, 1 refused, 2 wrong usage, or no server.
    """
    try:
        if cluster is not None:
            _of_cluster(cluster, question, value, as_json=as_json)
            return
        path = journal_at(journal)
        questions = read_questions(path)
        if question is None:
            _list([one for one in questions if one.is_open], printable(str(journal)), as_json=as_json)
            return
        asked = named(questions, question, path)
    except LookupError as error:
        print_error(str(error.args[0]))
        sys.exit(1)
    except (RecoveryError, OSError, ValueError) as error:
        usage_error(error)
    try:
        given = _given(asked, value, reference, remember=remember)
        done = answer_question(path, asked, given, remember=remember, timeout=timeout)
    except (RecoveryError, OSError, TypeError, ValueError) as error:
        usage_error(error)
    _tell(Answered(asked.name, asked.kind, done.is_done, done.said), as_json=as_json)


def _of_cluster(cluster: ClusterAddress, question: str | None, value: str | None, *, as_json: bool) -> None:
    """As for a journal. Raises LookupError, ValueError."""
    questions = in_cluster(cluster, lambda found: found.questions())
    if question is None:
        _list(questions, cluster.source, as_json=as_json)
        return
    asked = [one for one in questions if question in one.name]
    if len(asked) != 1:
        several = ", ".join(one.name for one in asked[:MOST_NAMED])
        raise LookupError(f"{question!r} names {several}: give one" if asked else f"no call {question!r} asks anything")
    given = _given(asked[0], value, None, remember=False)
    done = in_cluster(cluster, lambda found: found.answer(asked[0].name, given))
    _tell(Answered(asked[0].name, "confirm", done.is_done, done.said), as_json=as_json)


def _tell(done: Answered, *, as_json: bool) -> NoReturn:
    if as_json:
        print_json("answer", redacted(done))
    elif done.is_done:
        click.echo(brief(f"the question {done.question!r} is answered: {done.said}"))
    else:
        print_error(f"cannot answer the question {done.question!r}: {done.said}")
    sys.exit(0 if done.is_done else 1)


def _given(question: Question, value: str | None, reference: str | None, *, remember: bool) -> Value:
    """What answers *question*. Raises ValueError for what cannot."""
    if question.kind != "secret":
        if reference is not None or remember:
            raise ValueError("--from and --remember are for secrets: any other answer is written to the journal")
        text = _line(question) if value is None else value
        if question.kind == "confirm" and text.lower() not in YES:
            raise ValueError(f"the answer to {question.name!r} must be yes or no")
        return YES[text.lower()] if question.kind == "confirm" else text
    if value is not None:
        raise ValueError(NOT_IN_ARGUMENTS)
    if reference is None:
        return _line(question)
    if remember:
        raise ValueError("--remember keeps a value, and --from says where it is: give one of them")
    return Secret(reference)


def _line(question: Question) -> str:
    """The answer from the terminal, of a secret without echo, or one line of the standard input."""
    if not sys.stdin.isatty():
        if not (line := sys.stdin.readline()):
            raise ValueError("no answer was given: the standard input is empty")
        return line.rstrip("\r\n")
    for said in filter(None, (question.reason, question.text, question.link)):
        click.echo(brief(said), err=True)
    hints = {"confirm": " (yes or no)", "choice": f" ({', '.join(question.choices)})", "secret": " (not shown)"}
    about = f"{printable(question.name)}{brief(hints.get(question.kind, ''))}"
    answered: str = click.prompt(about, hide_input=question.kind == "secret", err=True)
    return answered


def _list(questions: list[Question], source: str, *, as_json: bool) -> None:
    if as_json:
        print_json("questions", {"questions": [redacted(one) for one in questions]})
        return
    for one in questions:
        choices = f" ({', '.join(one.choices)})" if one.choices else ""
        asks = "" if one.runs else "no process that runs asks it"
        about = "; ".join(filter(None, (f"{one.kind}{choices}", asks, one.reason, one.text, one.link)))
        click.echo(f"{printable(one.name)}: {brief(about)}")
    if questions:
        words = ("recovery", "answer", *filter(None, (source, printable(questions[0].name))))
        click.echo(f"answer one with: {shlex.join(words)}", err=True)
    else:
        click.echo("no question is open")
