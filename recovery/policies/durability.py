"""How much of a call is journalled: the settings that decide it, and their contradictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from recovery import validation

Durability: TypeAlias = Literal["off", "lazy", "journal", "strict"]
OnDegraded: TypeAlias = Literal["run", "refuse"]

NEED_A_STORE = ("resumable", "idempotency_key", "enable_persistence", "durability")

OR_SUBMIT = ". For calls of a cluster alone, leave it out, and name the call: cluster.submit(..., idempotency_key=...)"
"""What a program does that has no store, and only submits."""


def durability_of(given: Mapping[str, Any], *, has_store: bool) -> Durability | None:
    """The durability that the settings *given* ask for, ``None`` if they leave it to the service.

    Raises:
        ValueError: A contradiction, or a durability that needs a store where the service has none.
    """
    durability: Durability | None = given.get("durability")
    if "durability" in given:
        validation.choice("durability", durability, ("off", "lazy", "journal", "strict"))
    persistence = given.get("enable_persistence")
    if persistence is False:
        if durability not in (None, "off"):
            raise ValueError(f"enable_persistence=False and durability={durability!r} contradict each other")
        durability = "off"
    if persistence is True:
        if durability == "off":
            raise ValueError("enable_persistence=True and durability='off' contradict each other")
        durability = durability or "lazy"
    for name in ("resumable", "idempotency_key"):
        if given.get(name):
            if durability in ("off", "lazy") and ("durability" in given or persistence is False):
                asked = "enable_persistence=False" if persistence is False else f"durability={durability!r}"
                what = "resumable=True" if name == "resumable" else name
                raise ValueError(f"{what} and {asked} contradict each other")
            durability = "strict" if durability == "strict" else "journal"
    if durability in ("lazy", "journal", "strict") and not has_store:
        name = next(name for name in NEED_A_STORE if given.get(name))
        cure = OR_SUBMIT if name == "idempotency_key" else ""
        raise ValueError(f"{name}={given[name]!r} needs a service with a store: Recovery(store=...){cure}")
    return durability


def on_degraded_of(given: Mapping[str, Any]) -> OnDegraded:
    """What a strict call does while the journal cannot be written. Raises ValueError if nothing is strict."""
    choice: OnDegraded = given.get("on_degraded", "run")
    validation.choice("on_degraded", choice, ("run", "refuse"))
    if "on_degraded" in given and given.get("durability") != "strict":
        raise ValueError(f"on_degraded={choice!r} needs durability='strict': other calls do not wait for the journal")
    return choice
