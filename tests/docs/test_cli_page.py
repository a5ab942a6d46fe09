"""docs/reference/cli.md has every verb, with an example and its exit codes, and every shape of JSON."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from adapters.cli import command
from adapters.cli.command import cli
from adapters.launcher import stopping
from tests.adapters.cli.snapshots import COMMANDS, journal_of_a_launch
from tests.docs.cli_page import BEGIN, EXAMPLES, PAGE, SHAPES, exit_codes, page, verbs
from tests.docs.examples import FENCE, PAGES, ROOT, blocks_of, commands_of

CLI = Path(command.__file__).parent
SIGNALS = {128 + number for number in stopping.SIGNALS}


def printed_shapes() -> set[str]:
    """The shapes that are named in calls of ``print_json``."""
    calls = (node for path in CLI.glob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {
        str(call.args[0].value)
        for call in calls
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "print_json"
        if isinstance(call.args[0], ast.Constant)
    }


def test_the_page_is_that_of_the_commands_and_types():
    assert PAGE.read_text(encoding="utf-8").partition(BEGIN)[2] == page(), "run `make cli`"


def test_the_page_has_the_shapes_that_are_printed():
    assert set(SHAPES) == printed_shapes()


@pytest.mark.parametrize("verb", [name for name, command in verbs() if not isinstance(command, click.Group)])
def test_every_verb_has_an_example_and_json_and_says_its_exit_codes(verb: str):
    command = dict(verbs())[verb]
    for example in EXAMPLES[verb]:
        words = shlex.split(example)
        command.make_context(verb, words[words.index(verb.split()[-1]) + 1 :]).close()  # raises for a wrong option
    assert "Exit codes: 0" in " ".join((command.help or "").split())
    assert any("--json" in parameter.opts for parameter in command.params)


@pytest.mark.parametrize("name", [name for name, words in COMMANDS.items() if name != "status-failed"])
def test_the_json_of_a_verb_has_the_members_of_its_shape(name: str):
    with journal_of_a_launch():
        said: dict[str, Any] = msgspec.json.decode(CliRunner().invoke(cli, [*COMMANDS[name], "--json"]).stdout)
    shape, _, version = said.pop("format").partition("/")
    kind = SHAPES[shape]
    assert version == "1"
    assert list(said) == list(kind.__struct_encode_fields__)
    msgspec.convert(said, kind, strict=True)


def test_every_member_of_the_json_has_a_meaning():
    assert re.findall(r"^\| `\w+` \| .* \|  \|$", page(), re.MULTILINE) == []


def codes_in(module: str) -> set[int]:
    """The exit codes in the source of a module of verbs: in ``sys.exit(...)`` and by ``usage_error(...)``."""
    found = {0}
    for node in ast.walk(ast.parse((CLI / f"{module.rpartition('.')[2]}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "exit":
            found |= {
                one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, int)
            }
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "usage_error":
            found.add(2)
    return found - {128}  # 128 + the number of a signal


@pytest.mark.parametrize("verb", [name for name, command in verbs() if not isinstance(command, click.Group)])
def test_a_verb_tells_the_exit_codes_that_its_code_has(verb: str):
    command = dict(verbs())[verb]
    assert command.callback is not None
    assert exit_codes(command).keys() - SIGNALS == codes_in(inspect.unwrap(command.callback).__module__) | {2}


def test_run_tells_the_exit_code_of_every_signal_that_stops_it():
    told = exit_codes(dict(verbs())["run"])
    assert {told[code] for code in SIGNALS} == {number.name.replace("SIGINT", "Ctrl-C") for number in stopping.SIGNALS}


ENDED_BY_SIGNALS = {"launcher/stopping.py": "run", "web/serve.py": "web", "cli/demo.py": "demo"}
"""The modules that end a process with the exit code of a signal, and their verbs."""


def test_a_verb_that_handles_a_signal_tells_its_exit_code():
    adapters = CLI.parent
    found = {
        path.relative_to(adapters).as_posix()
        for path in adapters.rglob("*.py")
        if re.search(r"\(128 \+ ", path.read_text(encoding="utf-8"))
    }
    assert found == ENDED_BY_SIGNALS.keys()
    assert [verb for verb in ENDED_BY_SIGNALS.values() if exit_codes(dict(verbs())[verb]).get(143) != "SIGTERM"] == []


COMMAND = re.compile(r"(?:^|[\s;&|(/])recovery (?!needs |import |->)([^`#|;&<>\n]+)", re.MULTILINE)


def commands_shown_in(page: Path) -> list[str]:
    """The arguments of `recovery` in blocks of *page*, those that do not run here too, and in its text."""
    shown = []
    for block in blocks_of(page, page.parent):
        if block.language in {"ini", "dockerfile"}:
            shown.append(re.sub(r"[\[\]\",]+", " ", block.text))
        elif block.language == "console":
            shown += [command for command, _ in commands_of(block)]
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", FENCE.sub("", page.read_text(encoding="utf-8")))
    shown += [" ".join(span.split()) for span in spans]
    return [command.strip() for text in shown for command in COMMAND.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=[f"{page.relative_to(ROOT)}" for page in PAGES])
def test_every_command_that_a_page_shows_has_this_verb_and_these_options(page: Path):
    assert [line for line in commands_shown_in(page) if not is_understood(shlex.split(line.replace("'", "")))] == []


@pytest.mark.parametrize(
    "text",
    [
        "It is `recovery status a.toml --bogus`.\n",
        "It is `recovery status\na.toml --bogus`.\n",
        "It is `recovery --bogus status a.toml`.\n",
        "It is `cd x && recovery bogus a.toml`.\n",
        "```console\n$ docker compose exec app recovery status --bogus a.toml\n```\n",
        "```ini\nExecStart=/srv/bin/recovery bogus a.toml\n```\n",
        '```dockerfile\nCMD ["recovery", "bogus", "a.toml"]\n```\n',
    ],
)
def test_a_wrong_command_is_found_wherever_a_page_shows_it(tmp_path: Path, text: str):
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    [line] = commands_shown_in(path)
    assert not is_understood(shlex.split(line))


def is_understood(words: list[str]) -> bool:
    """Whether `recovery` has the verb and the options of *words*; their values do not matter."""
    before = [option for option in cli.params if isinstance(option, click.Option)]
    while words and words[0].startswith("-"):
        [option] = [one for one in before if words[0] in one.opts] or [None]
        if option is None and words[0] != "--help":
            return False
        words = words[1 if option is None or option.is_flag else 2 :]
    if not words:
        return True
    verb = cli.commands.get(words[0])
    options = {name for parameter in verb.params for name in parameter.opts} | {"--help"} if verb else set()
    return verb is not None and all(word.partition("=")[0] in options for word in words if word.startswith("-"))


def test_the_page_has_each_default_and_each_choice_that_the_help_has():
    text = PAGE.read_text(encoding="utf-8")
    for name, verb in verbs():
        rows = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0].splitlines()
        for option in (one for one in verb.params if isinstance(one, click.Option) and one.help):
            [row] = [row for row in rows if row.startswith(f"| `{', '.join(option.opts)}")]
            default = option.get_help_extra(click.Context(verb)).get("default")
            wanted = [] if default is None else [default.removesuffix(".0")]
            wanted += option.type.choices if isinstance(option.type, click.Choice) else ()
            assert [one for one in wanted if f"`{one}`" not in row] == []
