"""Count the deaths of a server against the prompts that it was executing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from adapters.comfyui.deaths import Lost, blamed
from adapters.comfyui.queued_run import QueuedRun
from adapters.comfyui.serving import Serving
from adapters.comfyui.suspects import Suspects

log = logging.getLogger("recovery.launch")


def blame(serving: Serving, suspects: Suspects, runs: Sequence[QueuedRun], now: str, *, foreign_before: bool) -> None:
    """Count each death that a look has found against the prompt that was running, of all that the server took along.

    Args:
        serving: The server.
        suspects: Knows what counts already, and which ends were those of the launcher.
        runs: The prompts that it had, each with the verdict of the look.
        now: The process that serves now (``identity.of``).
        foreign_before: Whether it had prompts of other clients at the look before.
    """
    lost = [one for one in runs if one.verdict == "lost" and one.saw_death and not one.is_blamed]
    counted = suspects.counted_at()  # a POST without an answer is looked for, and found lost later than the others
    lost = [one for one in lost if one.posted_to or one.sent_at > counted]
    for server in {one.posted_to for one in lost}:
        is_counted = bool(server) and suspects.is_counted(server)  # and this one was still looked for then
        if is_counted or suspects.was_ours(server) or (server and boot_of(server) != boot_of(now)):
            continue
        of_it = [one for one in lost if one.posted_to == server]
        is_foreign = foreign_before or not all(one.is_watched for one in of_it)
        known = [Lost(one.key, one.number, one.was_running) for one in of_it]
        key = blamed(known, was_ours=False, foreign_ran=is_foreign)
        for culprit in (one for one in of_it if one.key == key):
            culprit.is_blamed = True
            words = f"{serving.name} died while {culprit.shown} ran{serving.last_end}"
            log.warning("%s", words)
            suspects.died(culprit.key, server or str(culprit.sent_at), words)


def boot_of(server: str) -> str:
    """The boot of the machine in which the process *server* ran."""
    return server.rpartition("@")[2]
