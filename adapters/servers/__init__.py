"""Servers that a launcher holds: started on a free port, probed, started again after a crash within a budget."""

from adapters.servers.ports import PortTakenError
from adapters.servers.restarts import RestartPolicy
from adapters.servers.server import Server, ServerGoneError

__all__ = ["PortTakenError", "RestartPolicy", "Server", "ServerGoneError"]
