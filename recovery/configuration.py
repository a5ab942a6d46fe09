"""A service's options from a TOML file and from environment variables: see the page *Configuration by file*.

    service = Recovery.from_config("recovery.toml")

The keys of a table are the fields of the struct that it stands for, so every field of a policy can be set, except what
only code can give (functions, conditions, classes). Variables come after the file: RECOVERY_POLICY__MAX_RETRIES=5.
"""

from __future__ import annotations

import functools
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, get_type_hints

import msgspec

from recovery import validation
from recovery.journal.config import JournalConfig
from recovery.policies.backoff import Exponential
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.retry import RetryPolicy
from recovery.policies.rules import Rule, in_order
from recovery.settings import Settings
from recovery.settings_check import (
    BACKOFF_FIELDS,
    BREAKER_FIELDS,
    POLICY_FIELDS,
    Defaults,
    changed,
    make_config,
)
from recovery.suggestions import hint
from recovery.tables import TableError, built, checked, define, given, list_of, plain, read, table_of

Source: TypeAlias = str | os.PathLike[str] | Mapping[str, Any]
"""A TOML file, or what such a file says."""

PREFIX = "RECOVERY_"
"""How the names of the variables begin; two underscores stand before each further key."""

OTHERS = ("config", "disabled")
"""Variables, without the prefix, that are no keys of a file."""

ALONE = frozenset((*POLICY_FIELDS, *BACKOFF_FIELDS, *BREAKER_FIELDS, "policy", "breaker", "claims"))
"""The settings of an operation that can be checked without those in the code."""


class ConfigurationError(ValueError):
    """A file or a variable that cannot be used. The message names it, the key, what is wrong and what to do."""


def make_policy(base: RetryPolicy | None = None, **values: Any) -> RetryPolicy:
    """*base* with *values*; the first delay and the factor of an exponential backoff may stand beside its fields.

        make_policy(max_retries=5, initial_delay=0.5)

    Args:
        base: What to change; by default ``RetryPolicy()``.
        values: Fields of ``RetryPolicy``, *initial_delay* and *backoff_factor*.

    Raises:
        TypeError: An unknown field, or a value of the wrong type.
        ValueError: A value out of range, or *backoff* beside *initial_delay* or *backoff_factor*.
    """
    base = RetryPolicy() if base is None else base
    shape = {field: values.pop(name) for name, field in BACKOFF_FIELDS.items() if name in values}
    if shape and "backoff" in values:
        raise ValueError("backoff and initial_delay or backoff_factor contradict each other; set one of them")
    if shape:
        values["backoff"] = changed(base.backoff if isinstance(base.backoff, Exponential) else Exponential(), shape)
    return changed(base, values)


def _kinds(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: plain(field.type) for field in msgspec.structs.fields(struct)}


POLICY = define("policy", {**_kinds(RetryPolicy), **dict.fromkeys(BACKOFF_FIELDS, float)}, make_policy)
"""The table of a ``RetryPolicy``."""

BREAKER = table_of(BreakerPolicy)
RULE = define("rule", {"name": str, **_kinds(Rule)}, dict, ["category"])
"""The table of a ``Rule``, which may go without a name."""

SETTINGS = define(
    "operation",
    {**{name: plain(kind) for name, kind in get_type_hints(Settings).items()}, "policy": POLICY},
    dict,
)
FILE = define(
    "file",
    {
        **_kinds(Defaults),
        "policy": POLICY,
        "journal_config": table_of(JournalConfig),
        "enabled": bool,
        "enable_classification": bool,
        "enable_logging": plain(bool | None),
        "max_keys": int,
        "rule": list_of(RULE),
    },
    dict,
)

TABLES = ("policy", "breaker", "budget", "journal_config")
"""The tables that variables may set."""


def policy_of(document: Mapping[str, Any], base: RetryPolicy, key: str) -> RetryPolicy:
    """*base* with what the table *key* says. Raises TableError."""
    values = {name: built(value, f"{key}.{name}") for name, value in given(read(document, POLICY, key)).items()}
    return checked(lambda: make_policy(base, **values), key, values)


def breaker_of(document: Mapping[str, Any], base: BreakerPolicy, key: str) -> BreakerPolicy:
    """*base* with what the table *key* says. Raises TableError."""
    values = {name: built(value, f"{key}.{name}") for name, value in given(read(document, BREAKER, key)).items()}
    return checked(lambda: changed(base, values), key, values)


def rules_of(documents: object, key: str = "rule") -> tuple[Rule, ...]:
    """The rules that the tables *key* say. Raises TableError."""
    rules = []
    for number, table in enumerate(read({key: documents}, define(key, {key: list_of(RULE)}, dict)).rule):
        values = {"name": f"rule {number + 1}", **given(table)}
        rules.append(checked(functools.partial(_rule, values), f"{key}[{number}]", values))
    return tuple(rules)


def _rule(values: Mapping[str, Any]) -> Rule:
    return Rule(**{name: built(value) for name, value in values.items()})


def options_of(source: Source | None = None, env: Mapping[str, str] | None = None, **options: Any) -> dict[str, Any]:
    """The keyword arguments of ``Recovery`` that a file and the environment give.

        service = presets.launcher(**options_of("recovery.toml"))

    Args:
        source: A TOML file, or a mapping of what one says; by default the file that RECOVERY_CONFIG names, if any.
        env: The variables; by default those of the process.
        options: Options of ``Recovery``, which come before those of the file and the variables; a *classifier* is
            asked after the rules of the file.

    Raises:
        ConfigurationError: A file that cannot be read, an unknown key, or a wrong value.
    """
    variables = os.environ if env is None else env
    chosen = variables.get("RECOVERY_CONFIG") or None if source is None else source
    document, name = _document(chosen)
    places = _add_variables(document, variables)
    try:
        found = _options(document)
    except TableError as error:
        # Of the keys with one beginning, the longest tells which variable it was.
        for key in sorted(places, reverse=True):
            if error.key == key or error.key.startswith((f"{key}.", f"{key}[")):
                said = "__".join(key.split(".")).upper()
                rest = error.key if f"{PREFIX}{said}" != places[key].upper() else error.key.removeprefix(key)
                where = f"{places[key]}: {rest.lstrip('.')}".removesuffix(": ")
                raise ConfigurationError(f"{where}: {error.reason}") from error
        raise ConfigurationError(f"{name}: {error}") from error
    rules = found.get("classifier", ())
    if rules and "classifier" in options:
        options["classifier"] = (*rules, *in_order("classifier", options["classifier"]))
    return {**found, **options}


def _options(document: dict[str, Any]) -> dict[str, Any]:
    operations = document.pop("operation", {})
    if not isinstance(operations, Mapping) or not all(isinstance(one, Mapping) for one in operations.values()):
        raise TableError("operation", 'must be tables by the name of the operation: [operation."fetch"]')
    table = read(document, FILE)
    values = given(table)
    values.pop("rule", None)
    rules = rules_of(document.get("rule", []))
    options = {key: built(value, key) for key, value in values.items()}
    checked(lambda: validation.whole("max_keys", options.get("max_keys", 1), least=1), "", options)
    overrides = {name: _settings(f'operation."{name}"', name, table) for name, table in operations.items()}
    return {
        **options,
        **({"classifier": rules} if rules else {}),
        **({"overrides": overrides} if overrides else {}),
    }


def _settings(key: str, name: str, table: Mapping[str, Any]) -> Settings:
    for below, value in table.items():
        if isinstance(value, Mapping) and below not in Settings.__annotations__:
            dotted = f'[operation."{name}.{below}"]'
            raise TableError(f"{key}.{below}", f"there is no such key; a name with dots stands in quotes: {dotted}")
    settings: Settings = built(read(table, SETTINGS, key), key)
    alone: Any = {name: value for name, value in settings.items() if name in ALONE}
    checked(lambda: make_config(alone, defaults=Defaults(), has_store=True), key, settings)
    return settings


def _document(source: Source | None) -> tuple[dict[str, Any], str]:
    """What *source* says, and its name in errors."""
    if source is None:
        return {}, "the environment"
    if isinstance(source, Mapping):
        return {**source}, "the configuration"
    try:
        return tomllib.loads(Path(source).read_text(encoding="utf-8-sig")), str(source)
    except OSError as error:
        raise ConfigurationError(f"{source}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source}: not TOML: {error}") from error


def _add_variables(document: dict[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
    """Set in *document* what *variables* say; returns the keys that they have made, each with its variable."""
    places: dict[str, str] = {}
    for variable in sorted(variables):
        parts = variable.removeprefix(PREFIX).lower().split("__")
        if not variable.startswith(PREFIX) or parts in ([one] for one in OTHERS):
            continue
        if parts[0] not in FILE.__struct_fields__:
            _refuse(variable, parts)
            continue
        table = document
        for number, part in enumerate(parts[:-1], 1):
            below = table.get(part)
            if not isinstance(below, Mapping):
                places.setdefault(".".join(parts[:number]), variable)
                below = {}
            table[part] = table = {**below}
        table[parts[-1]] = _value(variables[variable])
        places[".".join(parts)] = variable
    return places


def _refuse(variable: str, parts: Sequence[str]) -> None:
    """Raise ConfigurationError if *variable*, which is no key, was meant as one: it is not another program's."""
    table = next((key for key in TABLES if parts[0].startswith(f"{key}_")), None)
    said = hint(parts[0], (*FILE.__struct_fields__, *OTHERS))
    if parts[0] == "operation":
        said = "operations are set in the file"
    elif table is not None:
        meant = "__".join((table, parts[0].removeprefix(f"{table}_"), *parts[1:])).upper()
        said = f"two underscores stand before each further key: {PREFIX}{meant}"
    elif len(parts) == 1 and not said.startswith(("did you mean", "use ")):
        return
    else:
        said = f"there is no such key; {said}"
    raise ConfigurationError(f"{variable}: {said}")


def _value(text: str) -> object:
    """*text* as TOML reads a value; as it is where that is none."""
    try:
        values = tomllib.loads(f"value = {text.strip()}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return values["value"] if len(values) == 1 else text
