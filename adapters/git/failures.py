"""What a failed git call means: whether another server may do better, and the error that tells a person. Pure."""

from __future__ import annotations

import re
import subprocess

from adapters.downloads.refusals import PAGES_OF_TOKENS, AccessError
from adapters.git.addresses import origin_of, shown
from adapters.git.attempts import Failure
from events.errors import NeedsPerson, Permanent
from events.evidence import Remedy
from recovery.policies.error_messages import match_error_message
from recovery.policies.error_output import telling_line

NO_REF = re.compile(
    r"remote branch .{0,300} not found|couldn't find remote ref|not our ref|unadvertised object|"
    r"bad revision|did not match any file",
    re.IGNORECASE,
)
DENIED = re.compile(r"requested url returned error: 40[13]", re.IGNORECASE)
REFUSALS = ("git-missing", "git-login", "disk-full", "not-allowed")
ELSEWHERE = ("git-unreachable", "git-server", "network")
"""Names of the rules that read what git prints."""

ASKED = re.compile(r"(?:could not read \w+|authentication failed) for '(https?://[^']{1,300})'", re.IGNORECASE)
OF_SSH = re.compile(r"permission denied \(|host key verification failed", re.IGNORECASE)


class RepositoryMissingError(Permanent):
    """The server has no such repository, or does not show it to this user."""


class RefMissingError(Permanent):
    """The repository has no branch, tag or commit of that name."""


def lacks_ref(output: str) -> bool:
    """Whether git found the repository, and in it no such branch, tag or commit."""
    return NO_REF.search(output) is not None


def kind_of(error: BaseException, output: str) -> Failure:
    """How an attempt failed, from its *error* and what git printed."""
    if not isinstance(error, subprocess.CalledProcessError):
        return "broken off"
    rule = match_error_message(output)
    name = "" if rule is None else rule.name
    if DENIED.search(output) or name in REFUSALS:
        return "refused"
    return "elsewhere" if name in ELSEWHERE else "broken off"


def explained(
    error: subprocess.CalledProcessError, output: str, url: str, *, family: str, has_token: bool
) -> Exception:
    """An error that says more than *error*, where what git printed tells more; else *error* itself.

    Args:
        error: How git failed.
        output: What it printed.
        url: The repository elsewhere that it talked to.
        family: Where it leads (``family_of``).
        has_token: Whether a token was sent.
    """
    where, line = shown(url), telling_line(output)
    if (asked := ASKED.search(output)) is not None and origin_of(asked[1]) != origin_of(url) != "":
        return Permanent(f"{where} leads to {origin_of(asked[1])}, which wants a token; give that URL instead ({line})")
    if OF_SSH.search(output):
        host = where.partition("://")[2].partition("/")[0] or where.partition(":")[0]
        sentence = f"Let ssh reach {host} without a question: add your key to the agent, and the host to known_hosts."
        remedy = Remedy(sentence, question=f"ssh:{host}")
        return NeedsPerson(f"{where}: ssh is not let in: {line}", remedy=remedy)
    rule = match_error_message(output)
    if DENIED.search(output) or (rule is not None and rule.name == "git-login"):
        return _denied(where, line, family, has_token=has_token)
    if rule is not None and rule.name == "git-missing" and not lacks_ref(output):
        why = "the token may not see it" if has_token else "it is private, and no token was given"
        return RepositoryMissingError(f"{where} was not found: there is no such repository, or {why} ({line})")
    return error


def _denied(where: str, line: str, family: str, *, has_token: bool) -> AccessError:
    remedy = Remedy(
        f"Give a token for {family} that may read the repository; check its URL, too.",
        link=PAGES_OF_TOKENS.get(family, ""),
        question=f"token:{family}",
        kind="secret",
    )
    if has_token:
        return AccessError(
            f"{where} did not take the token ({line})", remedy=remedy, reason=f"the token was refused: {line}"
        )
    return AccessError(f"{where} is private, or does not exist: git does not say which ({line})", remedy=remedy)
