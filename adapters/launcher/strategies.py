"""How the bricks of a launcher recover: when they retry, what they wait for, and which calls are one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from recovery.calls import Calls
from recovery.conditions import disk_space
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.classification import Classifier
from recovery.policies.hosts import host_of
from recovery.policies.retry import RetryPolicy
from recovery.presets import PATIENT, ROOM, waits_for_causes, when_full_of
from recovery.settings import Settings


def waiting(calls: Calls, root: Path, policy: RetryPolicy = PATIENT) -> RetryPolicy:
    """*policy*, with waits for room on the disk of *root*, for the host, and for an answer.

    A category for which the policy has a strategy of its own keeps that.
    """
    waits = waits_for_causes(calls, when_full_of(disk_space(root, ROOM)))
    return msgspec.structs.replace(policy, per_category={**waits, **policy.per_category})


def download_settings(
    policy: RetryPolicy, breaker: BreakerPolicy | None, classifier: Classifier | Sequence[Classifier]
) -> Settings:
    """The settings of downloads, whose second argument are the URLs."""
    return {
        "resumable": True,
        # Counts failures in a row without progress: a large file breaks off more often than that.
        "policy": msgspec.structs.replace(policy, progress_resets=None),
        "breaker": breaker,
        "when_open": "wait",
        "key": lambda _name, urls, *_: host_of(urls[0]),
        "classifier": classifier,
        "on_conflict": "reject",
    }


def command_settings(policy: RetryPolicy, classifier: Classifier | Sequence[Classifier]) -> Settings:
    """The settings of commands."""
    return {
        "resumable": True,
        "policy": policy,
        "breaker": None,
        "classifier": classifier,
        "on_conflict": "reject",
    }
