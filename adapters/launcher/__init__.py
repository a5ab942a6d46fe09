"""Launch plans: run them, show them, report on them."""

from adapters.launcher.launch import Launch, Outcome
from adapters.launcher.plan import LaunchPlan, PlanError, load_plan

__all__ = ["Launch", "LaunchPlan", "load_plan", "Outcome", "PlanError"]
