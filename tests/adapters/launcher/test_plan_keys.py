"""The keys of a plan that say how an operation runs: tokens, links, variables, what is there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.kinds.command import Command
from adapters.launcher.kinds.download import Download
from adapters.launcher.plan import PlanError, load_plan
from recovery.policies.backoff import Exponential
from recovery.serialization.secret import Secret
from tests.adapters.launcher.test_plan import command, download, load, place_of, refusal

TOKEN = "hf_" + "aBcDeFgHiJ" * 3 + "kLmN"


def test_every_key_of_an_operation_is_what_the_plan_says(tmp_path: Path) -> None:
    plan = load(
        tmp_path,
        '[launch]\norphans = "end"\n[tokens]\nhuggingface = "env:HF_TOKEN"\n[retry]\nmax_delay = 9.0',
        download(mirrors='["https://mirror.example/model"]', optional="true", retry="{ max_retries = 9 }"),
        command(creates='"venv/bin/python"', env='{ A = "1", B = "env:SECRET_B" }', silence="60"),
    )
    model, install = plan.steps
    assert isinstance(model, Download)
    assert isinstance(install, Command)
    assert model.urls == ("https://example.org/model", "https://mirror.example/model")
    assert (model.optional, install.optional) == (True, False)
    assert (install.creates, install.silence) == ("venv/bin/python", 60.0)
    assert install.env == {"A": "1", "B": "env:SECRET_B"}
    assert (plan.orphans, plan.tokens) == ("end", {"huggingface": Secret("env:HF_TOKEN")})


def test_the_retry_of_an_operation_changes_that_of_the_plan_for_it_alone(tmp_path: Path) -> None:
    plan = load(tmp_path, "[retry]\ninitial_delay = 2.0", download(retry="{ max_retries = 9 }"), command())
    assert (plan.policies["model"].max_retries, plan.policies["model"].backoff) == (9, Exponential(2.0))
    assert (list(plan.policies), plan.policy.max_retries) == (["model"], 5)


@pytest.mark.parametrize("url", ["hf://org/repo@main/model.safetensors", "hf://datasets/org/repo/a.bin"])
def test_a_file_may_be_on_the_hub(tmp_path: Path, url: str) -> None:
    load(tmp_path, download(url=f'"{url}"'))


def test_a_source_that_is_no_file_of_the_hub_is_refused_with_an_example(tmp_path: Path) -> None:
    _, reason = refusal(tmp_path, download(url='"hf://org"'))
    assert reason.startswith("'hf://org' is no file of a hub: ")
    assert "hf://org/repo/model.safetensors" in reason


@pytest.mark.parametrize(
    ("parts", "key", "reason"),
    [
        ((download(retry="{ retries = 1 }"),), "operation[0].retry.retries",
         "there is no such key; use max_retries (which does not count the first attempt)"),
        ((download(), command(retry="{ max_retries = -1 }")), "operation[1].retry.max_retries",
         "must be at least 0, not -1"),
        (('[[rule]]\ncategory = "transient"\nexit_code = [75]', download()), "rule[0].exit_code",
         "there is no such key; did you mean 'exit_codes'?"),
        (('[launch]\norphan = "end"', download()), "launch.orphan", "there is no such key; did you mean 'orphans'?"),
        (('[launch]\norphans = "kill"', download()), "launch.orphans", "must be 'wait' or 'end', not 'kill'"),
        (("[download]\nfollow_link = true", download()), "download.follow_link",
         "there is no such key; did you mean 'follow_links'?"),
        ((command(create='"a"'),), "operation[0].create", "there is no such key; did you mean 'creates'?"),
        ((download(creates='"a"'),), "operation[0].creates",
         "there is no such key; operations of kind 'command' have it"),
        ((download(), command(needs='["modle"]')), "operation[1].needs",
         "there is no operation 'modle'; did you mean 'model'?"),
        ((command(silence="0"),), "operation[0].silence", "must be greater than 0, not 0.0"),
        ((command(silence="true"),), "operation[0].silence", ""),
        ((download(mirrors='["ftp://a/"]'),), "operation[0].mirrors[0]", "'ftp://a/' is no http or https URL"),
        ((download(mirrors='["https://a/", "https://a/"]'),), "operation[0].mirrors[1]", "'https://a/' is named twice"),
        ((command(creates='"../a"'),), "operation[0].creates", ""),
        ((command(creates='"."'),), "operation[0].creates", "'.' is the plan's root itself"),
        ((command(creates='".recovery/launch.db"'),), "operation[0].creates", ""),
        ((command(env='{ "A=B" = "1" }'),), "operation[0].env.A=B", ""),
        ((command(env='{ A = "a\\u0000" }'),), "operation[0].env.A", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_was_meant(
    tmp_path: Path, parts: tuple[str, ...], key: str, reason: str
) -> None:
    found = refusal(tmp_path, *parts)
    assert found == (key, reason or found[1])


# Secrets


@pytest.mark.parametrize(
    "value", [TOKEN, f"env:{TOKEN}", "", "HF_TOKEN", "env:", "env:A B", "env:A\n", f"file:/{TOKEN}", f"env:{TOKEN}!"]
)
def test_a_token_is_the_name_of_a_variable_and_anything_else_is_refused_unseen(tmp_path: Path, value: str) -> None:
    written = value.replace("\n", "\\n")
    key, reason = refusal(tmp_path, f'[tokens]\ncivitai = "{written}"', download())
    assert (key, "env:NAME" in reason, TOKEN in reason) == ("tokens.civitai", True, False)


def test_a_family_of_hosts_that_is_not_known_is_refused_with_the_near_one(tmp_path: Path) -> None:
    found = refusal(tmp_path, '[tokens]\nhugingface = "env:HF_TOKEN"', download())
    said = "there is no such family of hosts, and it is no host; did you mean 'huggingface'?"
    assert found == ("tokens.hugingface", said)


@pytest.mark.parametrize("host", ["models.example.org", "localhost:8080", "[::1]:8080", "hf.co", "10.0.0.1"])
def test_a_token_may_be_for_one_host(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, f'[tokens]\n"{host}" = "env:TOKEN"', download()).tokens == {host: Secret("env:TOKEN")}


@pytest.mark.parametrize(
    ("name", "value"), [("HF_TOKEN", "abcdefgh12345678"), ("API_KEY", "abcdefgh12345678"), ("A", TOKEN)]
)
def test_a_variable_that_looks_like_a_secret_is_refused_with_the_cure(tmp_path: Path, name: str, value: str) -> None:
    key, reason = refusal(tmp_path, command(env=f'{{ {name} = "{value}" }}'))
    assert (key, value in reason) == (f"operation[0].env.{name}", False)
    assert reason.endswith(f'set the variable where the launcher is started, and write {name} = "env:{name}"')


@pytest.mark.parametrize("variable", ['HF_HOME = "cache"', 'TOKENIZERS_PARALLELISM = "false"', 'HF_TOKEN = ""'])
def test_a_variable_that_is_no_secret_is_taken(tmp_path: Path, variable: str) -> None:
    load(tmp_path, command(env=f"{{ {variable} }}"))


# Links


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder with a root, ``models``, in which ``checkpoints`` is a link to another disk."""
    (tmp_path / "disk2").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "checkpoints").symlink_to("../disk2")
    return tmp_path


def test_a_link_that_leads_outside_is_named_with_where_it_leads_and_the_cure(linked: Path) -> None:
    key, reason = refusal(linked, 'root = "models"', download(destination='"checkpoints/sd/model"'))
    assert key == "operation[0].destination"
    assert reason == (
        f"'checkpoints/sd/model' is outside the root: 'checkpoints' is a link to {linked / 'disk2'}; "
        "follow_links = true allows it"
    )


FOLLOW = 'root = "models"\n[download]\nfollow_links = true'


def test_a_plan_that_follows_links_puts_files_where_they_lead(linked: Path) -> None:
    plan = load(
        linked,
        FOLLOW,
        download(destination='"checkpoints/model"'),
        command(cwd='"checkpoints"', creates='"checkpoints/x"'),
    )
    assert place_of(plan, "checkpoints/model") == linked / "disk2" / "model"


@pytest.mark.parametrize("place", ["..", "../disk2/model", "/etc/passwd", "checkpoints/../../disk2/model"])
def test_a_plan_that_follows_links_is_not_led_outside_by_dots(linked: Path, place: str) -> None:
    key, reason = refusal(linked, FOLLOW, download(destination=f'"{place}"'))
    assert (key, "is outside the root, " in reason) == ("operation[0].destination", True)


def test_a_link_to_the_plan_or_its_journal_is_not_followed(linked: Path) -> None:
    (linked / "models" / "up").symlink_to("..")
    for place in ("up/launch.toml", "up/.recovery/launch.db"):
        assert refusal(linked, FOLLOW, download(destination=f'"{place}"'))[1].endswith("the plan and its journal are")


def test_a_link_that_is_made_during_the_launch_is_refused_where_links_are_not_followed(linked: Path) -> None:
    plan = load(linked, 'root = "models"', download(destination='"later/model"'))
    (linked / "models" / "later").symlink_to("../disk2")
    with pytest.raises(InvalidRequestError, match=r"'later' is a link to .*disk2"):
        place_of(plan, "later/model")


# What was late once


def test_wrong_values_are_found_before_anything_begins_and_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_bytes(b"\xef\xbb\xbf" + download(url='"https://example.org:99999/"').encode())
    with pytest.raises(PlanError) as caught:
        load_plan(tmp_path / "plan.toml")
    assert str(caught.value).endswith("'https://example.org:99999/' has the port 99999, and ports are 1 to 65535")
