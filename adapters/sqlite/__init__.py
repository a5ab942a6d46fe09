"""The journal's store in SQLite files."""

from adapters.sqlite.retention import Retention
from adapters.sqlite.store import SQLiteStore

__all__ = ["Retention", "SQLiteStore"]
