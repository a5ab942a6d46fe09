"""The loggers of this library, whose lines a handler may send on by a recoverable call.

Such a call fails where the collector is down, and would log that, which the handler sends on, and so on without end.
"""

from __future__ import annotations

import logging
import threading
import traceback
from typing import Any

_here = threading.local()


class OwnLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that says nothing while a handler of this thread has one of its lines.

    What a handler raises is printed, as ``logging`` prints what goes wrong in a handler: no call fails by it.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # the name is of logging
        """Whether such a line would be logged now."""
        return not getattr(_here, "is_handling", False) and self.logger.isEnabledFor(level)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As of any logger."""
        if not self.isEnabledFor(level):
            return
        _here.is_handling = True
        try:
            self.logger.log(level, msg, *args, **{"stacklevel": 2, **kwargs})
        except Exception:
            if logging.raiseExceptions:
                traceback.print_exc()
        finally:
            _here.is_handling = False


def own_log(name: str) -> OwnLog:
    """The library's logger of that *name*: ``recovery``, or one below it."""
    return OwnLog(logging.getLogger(name), {})
