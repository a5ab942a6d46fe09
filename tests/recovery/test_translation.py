"""Sentences in another language: a TOML file, read, checked and spoken."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from adapters.cli.command import cli
from events.operation_events import GaveUp, Parked
from recovery.explain import explain
from recovery.policies.sentences import ENGLISH, NEXT, Sentences
from recovery.translation import as_toml, read_translation, translation
from tests.recovery.policies.test_sentences import FULL
from tests.recovery.test_explain import failed, outcome

GERMAN = """
[next]
ended = "[{step} Danach noch einmal starten.]"
[causes.disk-full]
sentence = "die Platte ist voll[: {size} fehlen in {folder}]"
itself = "Es geht von selbst weiter, sobald Platz ist."
"""


@pytest.fixture(autouse=True)
def english_afterwards() -> Iterator[None]:
    yield
    Sentences().speak()


def test_what_a_translation_leaves_out_stays_english() -> None:
    translation(tomllib.loads(GERMAN)).speak()
    assert explain(outcome(Parked, FULL, after=0.0, why="room")).plain == (
        "Die Platte ist voll: 6.2 GB fehlen in models. Free some space on the disk of models. "
        "Es geht von selbst weiter, sobald Platz ist."
    )
    assert explain(outcome(GaveUp)).plain == (
        "The connection broke off. Check the network connection. Danach noch einmal starten."
    )


def test_english_comes_back_when_no_translation_is_spoken() -> None:
    translation({"causes": {"broke-off": {"sentence": "aus"}}}).speak()
    assert explain(failed()).sentence == "aus"
    Sentences().speak()
    assert explain(failed()).sentence == "the connection broke off"


def test_the_printed_sentences_are_a_file_that_has_every_key(tmp_path: Path) -> None:
    document = tomllib.loads(as_toml())
    assert document["causes"].keys() == ENGLISH.keys()
    assert document["next"].keys() == NEXT.keys() - {""}
    (tmp_path / "english.toml").write_text(as_toml(), encoding="utf-8")
    assert read_translation(tmp_path / "english.toml").causes == ENGLISH


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[causes.disk-ful]", "causes.disk-ful: there is no such key; did you mean 'disk-full'?"),
        ("[next]\nwait = ''", "next.wait: there is no such key; did you mean 'waits'?"),
        ("[causes.disk-full]\nstep = 7", "causes[...].step: must be a text, not int"),
        ("[cause.disk-full]", "cause: there is no such key; did you mean 'causes'?"),
        (
            "[causes.disk-full]\nstep = '{size}'",
            "causes.disk-full.step: a {name} stands outside of [brackets]: they say what is left out where it",
        ),
        ("[causes.disk-full]\nstep = 'a [b'", "causes.disk-full.step: a bracket has no partner, or is inside another"),
        ("[causes.disk-full]\nstep = '[b]'", "causes.disk-full.step: [b] names no detail, such as {host}"),
        ("[causes.disk-full]\nstep = '[{size]'", "causes.disk-full.step: [{size] has a brace without partner"),
        ("[next]\nended = '[{host}]'", "next.ended: {host} is unknown: it may name step, itself"),
        ("[", "Invalid"),
    ],
)
def test_a_mistake_is_told_with_the_file_the_key_and_the_cure(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "german.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{re.escape(f'{path}: {problem}')}"):
        read_translation(path)


def test_the_command_prints_the_sentences_of_the_translation_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "german.toml").write_text(GERMAN, encoding="utf-8")
    found = CliRunner().invoke(cli, ["--sentences", str(tmp_path / "german.toml"), "sentences"])
    assert tomllib.loads(found.output)["causes"]["disk-full"]["sentence"].startswith("die Platte ist voll")
    variable = {"RECOVERY_SENTENCES": str(tmp_path / "german.toml")}
    found = CliRunner().invoke(cli, ["sentences", "--json"], env=variable)
    document = msgspec.json.decode(found.output)
    assert document["format"] == "sentences/1"
    assert document["next"]["ended"].endswith("noch einmal starten.]")


def test_a_translation_that_is_wrong_ends_the_command_before_it_does_anything(tmp_path: Path) -> None:
    found = CliRunner().invoke(cli, ["--sentences", str(tmp_path / "none.toml"), "sentences"])
    assert found.exit_code == 2
    assert found.output.startswith(f"recovery: {tmp_path}")
    assert "none.toml: cannot be read: No such file or directory; --sentences" in found.output
