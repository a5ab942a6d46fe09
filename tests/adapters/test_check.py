"""``recovery check``: what is in force, and the findings, of plans, configuration files and services."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from adapters.cli.check import inspection_table
from adapters.cli.command import cli
from adapters.inspection import inspect
from adapters.named_service import TargetError
from recovery import lint

DOWNLOADS = "".join(
    f'[[operation]]\nname = "model-{number}"\nkind = "download"\nurl = "https://huggingface.co/{number}"\n'
    f'destination = "{number}.safetensors"\n'
    for number in range(30)
)
OTHERS = """[[operation]]
name = "clip"
kind = "download"
url = "https://example.org/clip"
destination = "clip.safetensors"

[[operation]]
name = "requirements"
kind = "command"
run = ["pip", "list"]
"""
SLOW = '[retry]\nmax_retries = 40\njitter = "none"\n\n[circuit]\nmax_break = 3600\n'
SHOP = """
from recovery import Recovery, host_of

service = Recovery.from_config({"operation": {"fetsh": {"max_retries": 3}}}, env={})
text = "no service"


@service.recoverable("fetch", max_retries=None, key=host_of)
def fetch(url): ...


@service.recoverable
def save(): ...


service.operation("by hand", max_retries=1)
"""

DOCS = Path(__file__).parent.parent.parent / "docs" / "reference"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "launch.toml"
    path.write_text(DOWNLOADS + OTHERS)
    return path


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A program with a service, in the folder that is the current one."""
    (tmp_path / "shop_of_test.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "shop_of_test:service"
    sys.modules.pop("shop_of_test", None)


def check(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["check", *map(str, arguments)])


def test_a_plan_that_is_well_set_has_exit_code_0(plan: Path) -> None:
    result = check(plan)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("\nnothing is wrong\n")


def test_a_server_needs_no_limit_and_steps_show_the_retries_of_a_step(plan: Path) -> None:
    """A server lasts as long as the launch; a run of steps is not retried, its steps are."""
    plan.write_text(
        '[[operation]]\nname = "web"\nkind = "server"\nrun = ["serve", "{port}"]\nready = "http://127.0.0.1:{port}/"\n'
        '[[operation]]\nname = "up"\nkind = "steps"\nsteps = [{ name = "a", run = ["a"] }]\n'
        "retry = { max_retries = 2 }\n"
        '[[operation]]\nname = "app"\nkind = "git"\nurl = "https://example.org/app"\ndestination = "app"\n'
    )
    found = inspect(str(plan))
    assert [(row.names, row.retries) for row in found.operations] == [(("web",), None), (("up",), 2), (("app",), 5)]
    assert found.findings == ()


def test_calls_that_share_a_key_share_a_row(plan: Path) -> None:
    rows = {row.key: row for row in inspect(str(plan)).operations}
    assert {key: len(row.names) for key, row in rows.items()} == {"huggingface.co:443": 30, "example.org:443": 1, "": 1}
    host = rows["huggingface.co:443"]
    assert (host.retries, host.delays, host.fails_within) == (5, (0.5, 8.0), 1950.0)
    assert (host.circuit, host.durability) == (("5 attempts, 30 s", "calls wait"), "journal")


def test_a_finding_names_the_line_of_the_plan(plan: Path) -> None:
    plan.write_text(SLOW + DOWNLOADS + OTHERS)
    found = {one.rule: one for one in inspect(str(plan)).findings if one.operation == "download"}
    assert found["slow-to-fail"].where == f"{plan}:2"
    assert found["no-jitter"].where == f"{plan}:3"
    assert found["slow-to-fail"].text.startswith("30 downloads of huggingface.co:443 may take 1 d ")
    assert check(plan).exit_code == 1


def test_a_finding_about_what_is_not_set_names_the_table_or_the_file(plan: Path) -> None:
    plan.write_text('[[rule]]\nexit_codes = [75]\ncategory = "transient"\nretry_after = 900\n' + DOWNLOADS)
    assert [one.where for one in inspect(str(plan)).findings] == []
    plan.write_text("[circuit]\n[retry]\nattempt_timeout = 90\n" + DOWNLOADS)
    assert [(one.rule, one.where) for one in inspect(str(plan)).findings] == [("lease-too-short", f"{plan}:1")]
    plan.write_text("[retry]\nattempt_timeout = 90\n" + DOWNLOADS)
    assert [one.where for one in inspect(str(plan)).findings] == [f"{plan}"]


def steps(*runs: str, more: str = "") -> str:
    return "".join(
        f'[[operation]]\nname = "c{number}"\nkind = "command"\nrun = {run.split()}\n{more}\n'
        for number, run in enumerate(runs)
    )


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        ("git clone --depth 1 https://example.org/a/ComfyUI.git", "git"),
        ("/usr/bin/git clone git@example.org:a/ComfyUI.git", "git"),
        ("pip install -r requirements.txt", "packages"),
        ("env/bin/python -I -m pip install torch", "packages"),
        ("uv pip install torch", "packages"),
        ("python3.12 -m venv env", "venv"),
        ("uv venv env", "venv"),
        ("git pull", None),
        ("pip list", None),
        ("python main.py -m pip", None),
        ("mkdir -p models", None),
    ],
)
def test_a_command_that_another_kind_does_better_is_named_with_that_kind(
    plan: Path, run: str, kind: str | None
) -> None:
    plan.write_text(steps("true", run))
    findings = [one for one in inspect(str(plan)).findings if one.rule != "no-program"]
    found = [(one.rule, one.where, one.cure) for one in findings]
    assert found == ([("own-kind", f"{plan}:7", f'use kind = "{kind}"')] if kind else [])


def test_a_plan_of_each_kind_is_well_set(plan: Path) -> None:
    [example] = re.findall(
        r"```toml\n(# launch\.toml\n.*?)```", (DOCS / "plans.md").read_text(encoding="utf-8"), re.DOTALL
    )
    plan.write_text(example)
    found = inspect(str(plan))
    names = re.findall(r'^name = "(.*)"', example, re.M)
    names.remove("far studio")  # a server that the launch does not start: it has no call of its own
    assert [name for row in found.operations for name in row.names] == names
    assert found.findings == ()


STUDIO = '[[operation]]\nname = "studio"\nkind = "comfyui"\npath = "ComfyUI"\nhold = false\n'
PORTRAIT = '[[operation]]\nname = "portrait"\nkind = "prompt"\nserver = "studio"\nworkflow = "portrait.json"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"3": {"class_type": "SaveImage", "inputs": {}}}', None),
        ('{"nodes": []}', "portrait.json is of the format that the browser saves for itself, which no server runs"),
        ("[]", "portrait.json is no workflow to run: it is not a workflow: its JSON is a list, and not an object"),
    ],
)
def test_a_workflow_that_no_server_runs_is_named_with_how_to_export_it(plan: Path, text: str, said: str | None) -> None:
    plan.write_text(STUDIO + PORTRAIT)
    findings = inspect(str(plan)).findings
    assert [(one.rule, one.cure) for one in findings] == [
        ("no-program", 'add an operation that makes it (kind = "git", say)'),
        ("no-program", 'add an operation that makes it (kind = "download", say)'),
    ]
    (plan.parent / "ComfyUI").mkdir()
    (plan.parent / "ComfyUI" / "main.py").touch()
    (plan.parent / "portrait.json").write_text(text)
    found = [(one.rule, one.text, "Export (API)" in one.cure) for one in inspect(str(plan)).findings]
    assert found == ([] if said is None else [("no-graph", said, True)])


def test_a_folder_that_is_made_again_is_named_with_what_it_creates(plan: Path) -> None:
    plan.write_text(steps("mkdir models/"))
    [found] = inspect(str(plan)).findings
    assert (found.rule, found.cure) == ("no-creates", 'set creates = "models", or a file in it that is made last')
    plan.write_text(steps("mkdir models", more='creates = "models"'))
    assert inspect(str(plan)).findings == ()


ENVIRONMENT = '[[operation]]\nname = "python"\nkind = "venv"\ndestination = "env"\n'


@pytest.mark.parametrize(
    ("before", "more", "cures"),
    [
        ("", "", ['add an operation that makes it (kind = "venv", say)']),
        (ENVIRONMENT, "", ["add 'python' to needs"]),
        (ENVIRONMENT, 'needs = ["python"]', []),
        (
            ENVIRONMENT.replace('"env"', '"other"'),
            'needs = ["python"]',
            ['add an operation that makes it (kind = "venv", say)'],
        ),
        ('[[operation]]\nname = "make"\nkind = "command"\nrun = ["make", "env"]\n', 'needs = ["make"]', []),
        (
            '[[operation]]\nname = "web"\nkind = "packages"\nenvironment = "env"\nrequirements = ["web"]\n',
            'needs = ["web"]',
            [],
        ),
    ],
)
def test_a_program_that_nothing_makes_is_named(plan: Path, before: str, more: str, cures: list[str]) -> None:
    plan.write_text(before + steps("../env/bin/serve 80", more=f'cwd = "app"\n{more}'))
    findings = inspect(str(plan)).findings
    assert [(one.rule, one.cure) for one in findings] == [("no-program", cure) for cure in cures]
    (plan.parent / "env/bin").mkdir(parents=True)
    (plan.parent / "env/bin/serve").touch()
    assert inspect(str(plan)).findings == ()


def test_a_program_outside_the_root_or_on_the_path_is_not_looked_for(plan: Path) -> None:
    plan.write_text('root = "models"\n' + steps("/nowhere/serve 80", "serve 81", "../serve 82"))
    assert inspect(str(plan)).findings == ()


def test_a_secret_in_a_plan_is_named_and_not_shown(plan: Path) -> None:
    undone = '[{ name = "a", run = ["true"], undo = ["curl", "-u", "me:hunter22", "x"] }]'
    more = f'[[operation]]\nname = "s"\nkind = "steps"\nsteps = {undone}\n'
    plan.write_text(steps("curl -u me:hunter22 x") + DOWNLOADS.replace("/0", "/0?token=hunter22abc") + more)
    result = check(plan)
    assert (result.exit_code, result.output.count("[secret-in-plan]")) == (1, 3)
    assert "hunter22" not in result.output


def test_json_has_all_settings_and_findings(plan: Path) -> None:
    plan.write_text(SLOW + DOWNLOADS)
    result = check(plan, "--json")
    document: dict[str, Any] = msgspec.json.decode(result.stdout)
    [row] = document["operations"]
    assert (result.exit_code, row["settings"]["policy"]["max_retries"], len(row["names"])) == (1, 40, 30)
    assert row["settings"]["policy"]["backoff"] == {"type": "Exponential", "initial": 0.5, "factor": 2.0}
    assert {one["rule"] for one in document["findings"]} == {"slow-to-fail", "no-jitter"}


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(plan: Path, width: int) -> None:
    plan.write_text(SLOW + DOWNLOADS + OTHERS)
    console = Console(width=width, record=True, file=open(os.devnull, "w"), markup=False)  # noqa: SIM115  # it is empty
    with console.file:
        console.print(inspection_table(inspect(str(plan))))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    [row] = [line for line in lines if line.startswith("model-0")]
    assert row.endswith("40       0.5-60 s   1 d 11 h     5 attempts, 30 s journal ")


def test_a_service_shows_each_operation_where_it_is_defined(shop: str) -> None:
    found = inspect(shop)
    rows = {row.names[0]: row for row in found.operations}
    assert list(rows) == ["by hand", "fetch", "shop_of_test.save"]
    assert (rows["fetch"].key, rows["fetch"].where) == ("host_of", "shop_of_test.py:8")
    assert (rows["fetch"].retries, rows["fetch"].fails_within, rows["fetch"].durability) == (None, None, "off")
    assert [(one.rule, one.where) for one in found.findings] == [
        ("no-limit", "shop_of_test.py:8"),
        ("unknown-operation", ""),
    ]


def test_the_default_service_is_named_by_its_recoverable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain_of_test.py").write_text(
        "from recovery import recoverable\n@recoverable('plain of test', max_retries=9)\ndef plain(): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    rows = inspect("plain_of_test:recoverable").operations
    assert [row.retries for row in rows if row.names == ("plain of test",)] == [9]
    del sys.modules["plain_of_test"]


def test_an_operation_that_only_the_configuration_has_is_named(shop: str) -> None:
    result = check(shop)
    assert result.exit_code == 1
    assert "the configuration sets operation 'fetsh', and the service has no such operation" in result.stdout
    assert "cure: use one of by hand, fetch, shop_of_test.save" in result.stdout


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop_of_test:servic", "shop_of_test:servic: shop_of_test has no 'servic'"),
        ("shop_of_test:text", "shop_of_test:text: is of type str, no Recovery; name the service, or `recoverable` of "),
        ("no_such_module:service", "no_such_module:service: no_such_module cannot be imported: ModuleNotFoundError: "),
        (
            "shop_of_test.py:service",
            "shop_of_test.py:service: a service is named by its module, not by its file: shop_o",
        ),
        ("a/b.py", "a/b.py: a service is named by its module, not by its file: a.b:service"),
        ("nothing", "nothing: there is no such file; a service is named module:service, as in shop.jobs:service"),
    ],
)
def test_a_target_that_is_no_service_is_named(shop: str, target: str, said: str) -> None:
    with pytest.raises(TargetError) as refused:
        inspect(target)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("launch.toml", "[retry]\nmax_retry = 1\n" + DOWNLOADS, "retry.max_retry: there is no such key; did you mean"),
        ("recovery.toml", "[policy]\nmax_retry = 1\n", "policy.max_retry: there is no such key; did you mean"),
        ("gone.toml", None, "No such file"),
    ],
)
def test_a_wrong_file_is_exit_code_2(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    result = check(path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"recovery: {path}: {said}")


def test_a_configuration_file_shows_the_defaults_and_each_operation(tmp_path: Path) -> None:
    path = tmp_path / "recovery.toml"
    path.write_text('[policy]\nmax_retries = 7\n\n[operation."fetch"]\nmax_retries = "none"\n')
    found = inspect(str(path))
    assert {row.names[0]: row.retries for row in found.operations} == {"every operation": 7, "fetch": None}
    assert [(one.rule, one.where) for one in found.findings] == [("no-limit", f"{path}:5")]


def test_a_setting_of_a_file_may_need_what_the_code_gives(tmp_path: Path) -> None:
    path = tmp_path / "recovery.toml"
    path.write_text('[operation."fetch"]\nremember = 60\nmax_retries = 9\n')
    assert [row.retries for row in inspect(str(path)).operations] == [3, 9]
    assert check(path).exit_code == 0


def test_a_program_that_ends_while_it_is_imported_is_named(shop: str, tmp_path: Path) -> None:
    (tmp_path / "shop_of_test.py").write_text("raise SystemExit(3)")
    result = check(shop)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "shop_of_test cannot be imported: it ends the program (sys.exit(3)); put what it runs below" in result.stderr


def test_what_a_program_prints_while_it_is_imported_is_no_part_of_the_json(shop: str, tmp_path: Path) -> None:
    (tmp_path / "shop_of_test.py").write_text("print('hello')" + SHOP)
    result = check(shop, "--json")
    assert msgspec.json.decode(result.stdout)["operations"]
    assert result.stderr == "hello\n"


def test_the_page_lists_every_rule() -> None:
    page, folder = (DOCS / "configuration.md").read_text(encoding="utf-8"), Path(lint.__file__).parent.parent
    files = ("recovery/lint.py", "adapters/inspection.py", "adapters/launcher/plan_lint.py")
    sources = [(folder / name).read_text(encoding="utf-8") for name in files]
    rules = {rule for text in sources for rule in re.findall(r'(?:rule=|_of_policy\(\s*)"([a-z-]+)"', text)}
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == sorted(rules)
