"""The environment of our git calls: nothing asks at a terminal, no hook runs, a silent server is cut off. Pure.

Settings reach git by ``GIT_CONFIG_COUNT``, and those that the user passes in the same way are kept. A token stands in
a variable, and in no command line, which every user of the computer can read. git gets it from a credential helper that
is bound to one origin: where a redirect leads elsewhere, git does not ask it.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from adapters.git.addresses import PROTOCOLS, is_path, origin_of

OF_A_REPOSITORY = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CEILING_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE", "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS",
    "GIT_LITERAL_PATHSPECS", "GIT_ICASE_PATHSPECS", "GIT_TRACE_REDACT", "GIT_QUARANTINE_PATH", "GIT_REFLOG_ACTION",
    "GIT_ATTR_SOURCE",
)  # fmt: skip
"""Variables that would have git work on another repository, as where a launcher is started by a hook."""

QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",  # git then asks no other program either
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
    "GIT_EDITOR": "true",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",  # its messages are read
    "LANGUAGE": "",
}

SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "credential.interactive": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "advice.detachedHead": "false",
}

SSH = "ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=15 -oServerAliveCountMax=4"
"""Asks for nothing, and ends a connection that is dead."""

LEAST_SPEED = 1
"""Bytes a second: a server that says less is silent. One that counts objects sends some bytes every 5 s."""

TOKEN = "LAUNCHER_RECOVERY_GIT_TOKEN"
"""The variable with the token of a call."""

HELPER = f'!f() {{ test "$1" != get || printf "username=%s\\npassword=%s\\n" "${{{TOKEN}_USER}}" "${{{TOKEN}}}"; }}; f'
"""A credential helper that answers with the token, and keeps nothing."""

USERS = {"gitlab.com": "oauth2", "bitbucket.org": "x-token-auth"}
"""The user to whom a token belongs, by host; every other host takes ``x-access-token``, or any name."""


def variables(
    environ: Mapping[str, str],
    *,
    cwd: str = "",
    url: str = "",
    token: str = "",
    silence: float | None = None,
    has_ssh_command: bool = False,
    settings: Mapping[str, str] | None = None,
) -> dict[str, str | None]:
    """What a git call needs in its environment beside *environ*; ``None`` stands for a variable that is taken away.

    Args:
        environ: The environment of this process.
        cwd: The folder that git runs in: it does not look for a repository around that.
        url: The repository elsewhere that the call talks to; "" for none.
        token: A token for the origin of *url*, or "user:password". That origin gets it once it asks, and no other.
        silence: Seconds after which a server that sends nothing is given up.
        has_ssh_command: The user has chosen a program for ssh in the configuration of git (``core.sshCommand``).
        settings: Further settings of git.
    """
    chosen: dict[str, str | None] = {**dict.fromkeys(OF_A_REPOSITORY), **QUIET}
    chosen["GIT_ALLOW_PROTOCOL"] = allowed(url, environ.get("GIT_ALLOW_PROTOCOL"))
    if not (has_ssh_command or environ.get("GIT_SSH_COMMAND") or environ.get("GIT_SSH")):
        chosen["GIT_SSH_COMMAND"] = SSH
    if cwd:
        chosen["GIT_CEILING_DIRECTORIES"] = os.path.dirname(cwd)
    given = [*SETTINGS.items(), *(settings or {}).items()]
    if silence is not None:
        given += [("http.lowSpeedLimit", str(LEAST_SPEED)), ("http.lowSpeedTime", str(max(1, round(silence))))]
        chosen |= {"GIT_HTTP_LOW_SPEED_LIMIT": None, "GIT_HTTP_LOW_SPEED_TIME": None}
    if token and (origin := origin_of(url)):
        user, password = user_and_password(token, url)
        chosen |= {f"{TOKEN}_USER": user, TOKEN: password}
        # The first one, which is empty, keeps the user's helpers from it: they would store it.
        given += [(f"credential.{origin}.helper", ""), (f"credential.{origin}.helper", HELPER)]
    return chosen | configuration(given, environ.get("GIT_CONFIG_COUNT", ""))


def configuration(settings: Sequence[tuple[str, str]], count: str) -> dict[str, str | None]:
    """The variables that pass *settings* to git, after the *count* ones that the user passes in the same way."""
    first = int(count) if re.fullmatch(r"[0-9]{1,4}", count) else 0
    chosen: dict[str, str | None] = {"GIT_CONFIG_COUNT": str(first + len(settings))}
    for number, (key, value) in enumerate(settings, first):
        chosen |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return chosen


def allowed(url: str, users: str | None) -> str:
    """The protocols that a call with *url* may speak: of those that the *user* allows, if there is such a list."""
    protocols = (*PROTOCOLS, "file") if is_path(url) else PROTOCOLS
    return ":".join(protocols if users is None else [one for one in protocols if one in users.split(":")])


def user_and_password(token: str, url: str) -> tuple[str, str]:
    """How *token* is given to the host of *url*: hosts of git take it as the password of a user."""
    user, mark, password = token.partition(":")
    return (user, password) if mark else (USERS.get(urlsplit(url).hostname or "", "x-access-token"), token)
