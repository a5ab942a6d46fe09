"""The same operations on more than one machine, over NATS JetStream: ``from adapters.nats import Cluster``.

Nothing of nats is imported before a cluster is opened. It needs the extra ``nats``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.nats.cluster import Cluster
    from adapters.nats.errors import (
        ClusterError,
        ClusterLimitError,
        RemoteCallError,
        UnknownCallError,
        UnreachableError,
    )
    from adapters.nats.handle import Handle, HandleStatus

__all__ = [
    "Cluster",
    "ClusterError",
    "ClusterLimitError",
    "Handle",
    "HandleStatus",
    "RemoteCallError",
    "UnknownCallError",
    "UnreachableError",
]

_HOMES = {"Cluster": "cluster", "Handle": "handle", "HandleStatus": "handle"}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
