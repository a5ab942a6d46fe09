"""The service of a program, by the name of its module and its own: ``shop.jobs:service``."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import redirect_stdout

from recovery.service import Recovery


class TargetError(ValueError):
    """What was to be checked is neither a file nor a service that can be imported."""


def import_service(target: str) -> Recovery:
    """The service that *target* names, as ``module:name``; the module's top level runs. Raises TargetError."""
    module, _, name = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as for ``python -m``
    try:
        with redirect_stdout(sys.stderr):  # what the program prints is no part of what is shown, or of the JSON
            found: object = importlib.import_module(module)
    except SystemExit as error:
        said = f"it ends the program (sys.exit({error.code!r})); put what it runs below `if __name__ == '__main__':`"
        raise TargetError(f"{target}: {module} cannot be imported: {said}") from error
    except Exception as error:  # whatever the program does when it is imported
        raise TargetError(f"{target}: {module} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise TargetError(f"{target}: {module} has no {name!r}") from error
    found = getattr(found, "__self__", found)  # ``recoverable`` of the default service stands for it
    if not isinstance(found, Recovery):
        said = f"is of type {type(found).__name__}, no Recovery; name the service, or `recoverable` of the default one"
        raise TargetError(f"{target}: {said}")
    return found
