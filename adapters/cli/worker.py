"""``recovery worker``: run calls of a fleet with the operations of a program, until a signal ends it."""

from __future__ import annotations

from recovery.installation import extra

with extra("launcher"):
    pass
