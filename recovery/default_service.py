"""The default service, which the module-level ``recoverable`` uses: one object, no store, no thread."""

from __future__ import annotations

from recovery.service import Recovery

default = Recovery()

recoverable = default.recoverable
configure = default.configure
