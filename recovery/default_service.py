"""The default service, which the module-level ``recoverable`` uses: one object, no store, no thread.

A recoverable function that is pickled by value (``cloudpickle``) is a function of the default service where it is
loaded: with its name and its settings, and without the journal of the service that it came from.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any

from recovery.execution.exact_wrapper import factory_of
from recovery.execution.held_runner import HeldRunner
from recovery.execution.joinable import JoinableCalls
from recovery.execution.runner import Runner
from recovery.operations import Definition, Switch
from recovery.service import Recovery as Recovery  # its home in ``recovery``: this module lets its functions be pickled
from recovery.settings import OperationConfig

default = Recovery()
"""The service of the functions that bare ``recoverable`` makes, without a journal.

    default.bus.subscribe(GaveUp, tell)
"""

recoverable = default.recoverable
"""``Recovery.recoverable`` of the default service, which has no journal."""

configure = default.configure
"""``Recovery.configure`` of the default service."""


def load_definition(name: str, config: OperationConfig, function: Callable[..., Any] | None) -> Definition:
    """The operation of a function that was pickled, in the default service of this process."""
    return default._definitions.load(name, config, function)


def load_runner(function: Callable[..., Any], definition: Definition, config: OperationConfig | None) -> Runner:
    """Runs the calls of a function that was pickled; *config* is that of a copy that was made with ``but``."""
    factory_of(function)  # the loaded wrapper is known here by the code that is generated for it
    return default._definitions.runner(function, definition, config)


def load_switch() -> Switch:
    """Whether the default service recovers from failures."""
    return default._definitions.switch


def load_joinable() -> JoinableCalls:
    """The joinable calls of the default service."""
    return default._definitions.joinable


def reduce_definition(definition: Definition) -> tuple[Any, ...]:
    """Pickle an operation by its name, its settings and its function."""
    function = getattr(definition.wrapper(), "__wrapped__", None)
    return load_definition, (definition.operation.name, definition.config, function)


def reduce_runner(runner: Runner) -> tuple[Any, ...]:
    """Pickle a runner by its function and its operation."""
    config = None if runner.config is runner.definition.config else runner.config
    return load_runner, (runner.original, runner.definition, config)


copyreg.pickle(Definition, reduce_definition)
copyreg.pickle(Runner, reduce_runner)
copyreg.pickle(HeldRunner, reduce_runner)
copyreg.pickle(Switch, lambda _switch: (load_switch, ()))
copyreg.pickle(JoinableCalls, lambda _joinable: (load_joinable, ()))
