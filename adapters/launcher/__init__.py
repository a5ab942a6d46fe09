"""A launcher's downloads and commands, launch plans, and how they stand on the screen."""

from adapters.git.existing import OccupiedError, Repository
from adapters.git.failures import RefMissingError, RepositoryMissingError
from adapters.launcher.arguments import InvalidRequestError, NotDoneError
from adapters.launcher.launch import Launch, Outcome
from adapters.launcher.launcher import Launcher
from adapters.launcher.plan import LaunchPlan, PlanError, load_plan
from adapters.launcher.step_run import StepsUndoneError
from adapters.launcher.steps import Steps
from adapters.launcher.stopping import StoppedBySignal
from adapters.launcher.variables import MissingSecretError
from adapters.packages.venv import Venv, VenvError
from adapters.servers.ports import PortTakenError
from adapters.servers.restarts import RestartPolicy
from adapters.servers.server import Server, ServerGoneError

__all__ = [
    "InvalidRequestError", "Launch", "Launcher", "LaunchPlan", "load_plan", "MissingSecretError", "NotDoneError",
    "OccupiedError", "Outcome", "PlanError", "PortTakenError", "RefMissingError", "Repository",
    "RepositoryMissingError", "RestartPolicy", "Server", "ServerGoneError", "Steps", "StepsUndoneError",
    "StoppedBySignal", "Venv", "VenvError",
]  # fmt: skip
