"""The ``Launcher``, its results and errors, and launch plans. Those of downloads are in ``adapters.downloads``."""

from adapters.git.commands import GitMissingError
from adapters.git.destination import OccupiedError, Repository
from adapters.git.failures import RefMissingError, RepositoryMissingError
from adapters.git.locks import LockedError
from adapters.git.repository import RepositoryError
from adapters.git.update import ChangesError
from adapters.launcher.arguments import InvalidRequestError, NotDoneError
from adapters.launcher.blocking import BlockingLauncher, BlockingSteps
from adapters.launcher.launch import Launch, Outcome
from adapters.launcher.launcher import Launcher
from adapters.launcher.plan import LaunchPlan, PlanError, load_plan
from adapters.launcher.step_run import StepsUndoneError
from adapters.launcher.steps import Steps
from adapters.launcher.stopping import StoppedBySignal
from adapters.launcher.variables import MissingSecretError
from adapters.packages.consent import RefusedRequirementsError
from adapters.packages.install import BrokenPackagesError, Installed, NotInstalledError
from adapters.packages.installer import NoInstallerError, PackageBuildError, PackageConflictError
from adapters.packages.requirements import InvalidRequirementsError
from adapters.packages.venv import Venv, VenvError
from adapters.servers.blocking import BlockingServer
from adapters.servers.ports import PortTakenError
from adapters.servers.restarts import RestartPolicy
from adapters.servers.server import Server, ServerGoneError

__all__ = [
    "BlockingLauncher", "BlockingServer", "BlockingSteps", "BrokenPackagesError", "ChangesError", "GitMissingError",
    "Installed", "InvalidRequestError", "InvalidRequirementsError", "Launch", "Launcher", "LaunchPlan", "load_plan",
    "LockedError", "MissingSecretError", "NoInstallerError", "NotDoneError", "NotInstalledError", "OccupiedError",
    "Outcome", "PackageBuildError", "PackageConflictError", "PlanError", "PortTakenError", "RefMissingError",
    "RefusedRequirementsError", "Repository", "RepositoryError", "RepositoryMissingError", "RestartPolicy", "Server",
    "ServerGoneError", "Steps", "StepsUndoneError", "StoppedBySignal", "Venv", "VenvError",
]  # fmt: skip
