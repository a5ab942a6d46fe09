"""How the site shows a console block: its copy button gives the commands, without prompts and output."""

from __future__ import annotations

from html import escape
from typing import Any

from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers.shell import BashLexer

from tests.docs.examples import Block, commands_of

BASH: Any = BashLexer(stripnl=False, ensurenl=False)  # pygments has no types
SPANS: Any = HtmlFormatter(nowrap=True)


def fence(source: str, language: str, class_name: str, options: dict[str, Any], md: object, **_: Any) -> str:
    """The HTML of a block: a format of pymdownx.superfences, named in .zensical.toml."""
    commands = commands_of(Block("", 0, "", language, "", "", f"{source}\n"))
    copied = escape("".join(command for command, _ in commands).rstrip("\n"))
    title = f'<span class="filename">{escape(options["title"])}</span>' if options.get("title") else ""
    shown = "".join(command_of(command) + output_of(output) for command, output in commands)
    return (
        f'<div class="language-{language} {class_name}" data-copy="{copied}">'
        f"{title}<pre><span></span><code>{shown}</code></pre></div>"
    )


def command_of(command: str) -> str:
    """The lines of *command*, each behind its prompt."""
    lines = highlight(command, BASH, SPANS).splitlines(keepends=True)
    return "".join(f'<span class="gp">{"&gt;" if number else "$"} </span>{line}' for number, line in enumerate(lines))


def output_of(output: str) -> str:
    """The lines that a command prints, none of them coloured as a command."""
    return f'<span class="go">{escape(output)}</span>' if output else ""
