"""A service configured by a TOML file and by environment variables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.evidence import Category
from recovery import (
    BreakerPolicy,
    Exponential,
    JournalConfig,
    Linear,
    Recovery,
    RetryBudget,
    RetryPolicy,
    Rule,
    Strategy,
    presets,
)
from recovery.configuration import ConfigurationError, options_of
from recovery.tables import table_of
from recovery.testing import Script

ROOT = Path(__file__).parent.parent.parent
WHOLE = """
when_open = "wait"
enable_logging = false

[policy]
max_retries = "none"
initial_delay = 0.5
max_elapsed = 600

[policy.per_category.rate_limited]
max_retries = 10
backoff = { type = "Linear", initial = 1, step = 2.5 }

[breaker]
counts = "attempts"
categories = ["unreachable"]

[budget]
reserve = 3

[journal_config]
capacity = 100

[operation."fetch"]
max_retries = 1
initial_delay = 0.0

[[rule]]
exit_codes = [75]
category = "transient"

[[rule]]
name = "busy"
types = ["comfy.ServerBusy"]
category = "transient"
retry_after = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recovery.toml"
    path.write_text(WHOLE, encoding="utf-8")
    return path


def refused(source: Any = None, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as error:
        options_of(source, env or {})
    return str(error.value)


def test_every_table_of_a_file_becomes_an_option(file: Path) -> None:
    limited = Strategy(max_retries=10, backoff=Linear(1.0, 2.5))
    policy = RetryPolicy(
        max_retries=None, backoff=Exponential(0.5), max_elapsed=600.0, per_category={Category.RATE_LIMITED: limited}
    )
    assert options_of(file, {}) == {
        "when_open": "wait",
        "enable_logging": False,
        "policy": policy,
        "breaker": BreakerPolicy(counts="attempts", categories=frozenset({Category.UNREACHABLE})),
        "budget": RetryBudget(reserve=3.0),
        "journal_config": JournalConfig(capacity=100),
        "overrides": {"fetch": {"max_retries": 1, "initial_delay": 0.0}},
        "classifier": (
            Rule("rule 1", Category.TRANSIENT, exit_codes={75}),
            Rule("busy", Category.TRANSIENT, types=("comfy.ServerBusy",), retry_after=5),
        ),
    }


def test_tables_within_tables_are_read() -> None:
    found = options_of(
        {
            "operation": {"fetch": {"claims": {"vram": 8e9}}},
            "rule": [{"category": "auth", "statuses": [451], "remedy": {"sentence": "accept the licence"}}],
        },
        {},
    )
    assert found["overrides"] == {"fetch": {"claims": {"vram": 8e9}}}
    assert found["classifier"][0].remedy.sentence == "accept the licence"


def test_a_variable_comes_after_the_file_and_an_option_after_both(file: Path) -> None:
    env = {"RECOVERY_POLICY__MAX_RETRIES": "5", "RECOVERY_BREAKER": "none", "RECOVERY_CONFIG": str(file)}
    found = options_of(None, env, budget=None)
    assert (found["policy"].max_retries, found["policy"].max_elapsed) == (5, 600.0)
    assert (found["breaker"], found["budget"]) == (None, None)


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("none", None), ("'none'", None), (" 7 ", 7)],
    ids=["number", "none", "quoted", "space"],
)
def test_a_variable_is_read_as_toml_reads_a_value(text: str, value: object) -> None:
    assert options_of(None, {"RECOVERY_POLICY__MAX_RETRIES": text})["policy"].max_retries == value


def test_variables_of_other_programs_are_left_alone() -> None:
    assert options_of(None, {"RECOVERY_MODE": "x", "RECOVERY_DISABLED": "1", "MY_POLICY__X": "1"}) == {}


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOVERY_WHEN_OPEN", "wait")
    assert options_of() == {"when_open": "wait"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[policy]\nmax_retry = 5", "policy.max_retry: there is no such key; did you mean 'max_retries'?"),
        ("[polici]", "polici: there is no such key; did you mean 'policy'?"),
        ("[policy]\nmax_retries = 2.5", "policy.max_retries: must be a whole number or 'none', not float"),
        ("[policy]\nmax_retries = -1", "policy.max_retries: must be at least 0, not -1"),
        ("[policy]\njitter = 'ful'", "policy.jitter: must be 'none', 'full', 'equal' or 'decorrelated', not 'ful'"),
        ("[policy]\nbackoff = [1, -2]", "policy.backoff[1]: must be at least 0, not -2.0"),
        (
            "[policy]\nbackoff = {type='Linea'}",
            "policy.backoff.type: must be 'Constant', 'Linear' or 'Exponential', not 'Linea'",
        ),
        (
            "[policy]\nbackoff = [1]\ninitial_delay = 2",
            "policy: backoff and initial_delay or backoff_factor contradict each other; set one of them",
        ),
        (
            "[policy.per_category.rate_limit]",
            "policy.per_category.rate_limit: there is no such key; did you mean 'rate_limited'?",
        ),
        ("[breaker]\nlease = 0", "breaker.lease: must be greater than 0, not 0.0"),
        ("[[rule]]\nexit_codes = [75]", "rule[0].category: is missing"),
        (
            "[[rule]]\ncategory = 'auth'",
            "rule[0]: rule 'rule 1' looks for nothing: it would match ",
        ),
        ("[[rule]]\ncategory = 'auth'\nexit_codes = ['x']", "rule[0].exit_codes[0]: must be a whole number, not str"),
        ("[operation.fetch]\nmax_retrys = 1", 'operation."fetch".max_retrys: there is no such key; did you mean '),
        ("[operation.fetch]\nmax_retries = -1", 'operation."fetch".max_retries: must be at least 0, not -1'),
        ("[operation.fetch.claims]\nvram = 'x'", 'operation."fetch".claims[...]: must be a number, not str'),
        ("[[operation]]\nname = 'x'", 'operation: must be tables by the name of the operation: [operation."fetch"]'),
        ("policy = 3", "policy: must be a table, not int"),
        ("max_keys = 0", "max_keys: must be at least 1, not 0"),
        ("[policy]\nmax_retries = 'five'", "policy.max_retries: must be a whole number or 'none', not 'five'"),
        ("[operation.fetch.claims]\nvram = -1", "operation.\"fetch\".claims['vram']: must be at least 0, not -1"),
        (
            "[operation.fetch]\nmax_retries = 1\npolicy = {}",
            'operation."fetch": max_retries and policy contradict each other; set it in the policy',
        ),
        (
            "[operation.shop.orders]\nmax_retries = 1",
            'operation."shop".orders: there is no such key; a name with dots stands in quotes: '
            '[operation."shop.orders"]',
        ),
        ("[breaker]\nprobe = 'x'", "breaker.probe: only the code can give it"),
        ("[operation.fetch]\nbefore = 'x'", 'operation."fetch".before: only the code can give it'),
        (
            "[policy]\nbackoff = {type = 'Linear', x = 1}",
            "policy.backoff.x: there is no such key; it has delay, initial,",
        ),
        ("policy = ", "not TOML: Invalid value"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(given: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "recovery.toml"
    file.write_text(given, encoding="utf-8")
    assert refused(file).startswith(f"{file}: {said}")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("RECOVERY_POLICY__MAX_RETRIES", "five", "must be a whole number or 'none', not 'five'"),
        ("RECOVERY_POLICY__MAX_RETRIES", "-1", "must be at least 0, not -1"),
        ("RECOVERY_POLICY__MAX_RETRY", "5", "there is no such key; did you mean 'max_retries'?"),
        ("RECOVERY_WHEN_OPN", "wait", "there is no such key; did you mean 'when_open'?"),
        ("RECOVERY_OPERATION__FETCH__MAX_RETRIES", "5", "operations are set in the file"),
        ("RECOVERY_BREAKER", "{ window = 0 }", "window: must be at least 1, not 0"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, said: str) -> None:
    assert refused(env={variable: value}) == f"{variable}: {said}"


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("RECOVERY_POLICY__MAX_RETRIES", "must be a whole number or 'none', not ''"),
        (
            "RECOVERY_POLICY__PER_CATEGORY__AUT__MAX_RETRIES",
            "policy.per_category.aut: there is no such key; did you mean 'auth'?",
        ),
        ("RECOVERY_POLICY__MAX_RETRIES__X", "policy.max_retries: must be a whole number or 'none', not object"),
        ("RECOVERY_POLICY_MAX_RETRIES", "two underscores stand before each further key: RECOVERY_POLICY__MAX_RETRIES"),
        ("RECOVERY_DISABLE", "there is no such key; did you mean 'disabled'?"),
    ],
)
def test_a_variable_with_a_wrong_name_is_named_and_not_the_file(file: Path, variable: str, said: str) -> None:
    assert refused(file, env={variable: ""}) == f"{variable}: {said}"


def test_a_wrong_value_is_shown_in_brief_and_without_secrets() -> None:
    said = refused({"policy": {"max_retries": "x" * 5000}})
    assert len(said) < 200
    assert "hunter2" not in refused({"policy": {"max_retries": "token=hunter2-hunter2"}})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "gone.toml") == f"{tmp_path / 'gone.toml'}: cannot be read: No such file or directory"


def test_an_operation_of_the_file_overrides_the_code(file: Path) -> None:
    service = Recovery.from_config(file, env={})
    fetch = Script(*[ConnectionError("reset")] * 9)
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", max_retries=5, breaker=None)(fetch)()
    assert fetch.calls == 2


def test_a_field_of_the_file_changes_that_of_a_whole_policy_in_the_code() -> None:
    fetch = Script(*[ConnectionError("reset")] * 9)
    policy = RetryPolicy(max_retries=5, backoff=(0.0,))
    service = Recovery.from_config({"operation": {"fetch": {"max_retries": 1}}}, env={})
    with pytest.raises(ConnectionError):
        service.recoverable("fetch", policy=policy)(fetch)()
    assert fetch.calls == 2


def test_an_override_that_contradicts_the_code_is_named() -> None:
    service = Recovery.from_config({"operation": {"fetch": {"remember": 60.0}}}, env={})
    with pytest.raises(ValueError, match="remember needs an idempotency_key") as error:
        service.recoverable("fetch")(Script())
    assert error.value.__notes__ == ["operation 'fetch': its settings in the code are overridden by {'remember': 60.0}"]


def test_the_rules_of_the_file_are_asked_before_those_of_the_code(file: Path) -> None:
    mine = Rule("mine", Category.PERMANENT, exit_codes={75})
    found = options_of(file, {}, classifier=mine)["classifier"]
    assert [rule.name for rule in found] == ["rule 1", "busy", "mine"]


def test_a_preset_takes_the_options_of_a_file(file: Path) -> None:
    service = presets.launcher(**options_of(file, {}))
    fetch = Script(*[ConnectionError("reset")] * 9)
    with pytest.raises(ConnectionError):
        service.recoverable("fetch")(fetch)()
    assert fetch.calls == 2


@pytest.mark.parametrize("struct", [RetryPolicy, BreakerPolicy, RetryBudget, JournalConfig, Strategy])
def test_every_field_of_a_policy_that_is_data_is_a_key(struct: type[msgspec.Struct]) -> None:
    in_code_only = {"wait_for", "probe"}  # conditions
    fields = {field.name for field in msgspec.structs.fields(struct)}
    assert fields - set(table_of(struct).__struct_fields__) <= in_code_only


def test_the_examples_of_the_page_print_what_it_says(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    for example, printed in examples:
        exec(compile(example, "docs/reference/configuration.md", "exec"), {"__name__": "page"})
        assert capsys.readouterr().out == printed
