"""Who may do what on the servers of a cluster: roles, the subjects of each, and the accounts of a nats-server.

A role that reads alone gets an account of its own, without JetStream: a server sends the answer to a request to any
subject that the request names, so in the account of the streams each reader could write, too. The other roles guard
against mistakes: a program that may submit calls can also, with malice, record results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import msgspec

Role: TypeAlias = Literal["submitter", "worker", "viewer", "steerer", "setup"]
"""What a user of the servers does: submit calls and wait for them; run them; look; steer calls and circuits; make or
change the streams, which a new cluster needs once."""

_USER = re.compile(r"[A-Za-z0-9_-]+")


class Permissions(msgspec.Struct, frozen=True):
    """The subjects of a role, with wildcards.

    Args:
        publish: What it may publish or ask.
        subscribe: What it may listen to, beside its inbox.
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox(user: str) -> str:
    """How the inboxes of *user* begin, which no other user may listen to: the ``inbox_prefix`` of its connection.

    Raises:
        ValueError: *user* has other characters than letters, digits, ``-`` and ``_``.
    """
    if not _USER.fullmatch(user):
        raise ValueError(f"{user!r} is no user of a cluster: use letters, digits, - and _ alone")
    return f"_INBOX_{user}"


def inbox_of(user: str | None) -> str | None:
    """The same; None for no user, and for one whose name ``accounts`` refuses."""
    return inbox(user) if user and _USER.fullmatch(user) else None


def password_variable(user: str) -> str:
    """The environment variable of the server that holds the password of *user*, or its bcrypt hash."""
    return f"{user.upper().replace('-', '_')}_PASSWORD"


def permissions(role: Role, prefix: str = "recovery") -> Permissions:
    """What a user of *role* needs in the cluster with *prefix*, and no more.

    Args:
        role: What the user does.
        prefix: The first token of the cluster's subjects.
    """
    seen = (f"{prefix}-seen.call.>", f"{prefix}-seen.shared.>")
    told = (*seen, f"{prefix}-events.>", f"$KV.{prefix}-shared.>", f"$KV.{prefix}-nodes.>")
    return Permissions((_READ, *_written(role, prefix)), told)


_READ = "$JS.API.DIRECT.GET.>"
"""How every role reads messages. The account of a cluster has no other streams than its own."""

_ASK = ("$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.CONSUMER.INFO.>")
"""What every role but a viewer asks: the account of the viewers has no such questions, as JetStream is off there."""


def _written(role: Role, prefix: str) -> tuple[str, ...]:
    """What *role* may do beside looking."""
    events = f"{prefix}-events.>"
    shared, nodes = f"$KV.{prefix}-shared.>", f"$KV.{prefix}-nodes.>"
    match role:
        case "viewer":
            return ()
        case "submitter":
            return (*(f"{prefix}.{kind}.>" for kind in ("call", "args", "saved", "queue", "due")), events, *_ASK)
        case "steerer":
            kinds = "call", "args", "saved", "result", "queue", "due"
            return (*(f"{prefix}.{kind}.>" for kind in kinds), events, shared, *_ASK)
        case "worker":
            consumers = "$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.DELETE.>"
            leases = f"$JS.API.CONSUMER.MSG.NEXT.{prefix}.*", f"$JS.ACK.{prefix}.>"
            return (f"{prefix}.>", events, shared, nodes, *_ASK, *consumers, *leases)
        case "setup":
            return (f"{prefix}.>", events, shared, nodes, "$JS.API.>", f"$JS.ACK.{prefix}.>")


def roles_of(subject: str, verb: str, prefix: str = "recovery") -> list[str]:
    """The roles that may use *subject*, whose letters may be small ones.

    Args:
        subject: The subject.
        verb: "publish" or "listen".
        prefix: The first token of the cluster's subjects.
    """

    def may(role: Role) -> bool:
        allowed = permissions(role, prefix)
        return any(_covers(one, subject) for one in (allowed.publish if verb == "publish" else allowed.subscribe))

    return [role for role in get_args(Role) if may(role)]


def _covers(allowed: str, subject: str) -> bool:
    """Whether the subject *allowed*, with wildcards, is *subject* or has it."""
    pattern = re.escape(allowed).replace(r"\*", "[^.]+").removesuffix(">") + (".+" if allowed.endswith(">") else "")
    return re.fullmatch(pattern, subject, re.IGNORECASE) is not None


def accounts(users: Mapping[str, Role], prefix: str = "recovery") -> str:
    """The block ``accounts`` of a nats-server's configuration: one account for the cluster, one for its viewers.

    It holds no password: the servers read each from an environment variable (``password_variable``).

    Args:
        users: The role of each user.
        prefix: The first token of the cluster's subjects.

    Raises:
        ValueError: A user has other characters than letters, digits, ``-`` and ``_``.
    """
    viewers = [user for user, role in users.items() if role == "viewer"]
    cluster, view = json.dumps(prefix.upper()), json.dumps(f"{prefix.upper()}-VIEW")
    seen = permissions("viewer", prefix)
    exported = [f'{{service: "{one}", response_type: "Stream", accounts: [{view}]}}' for one in seen.publish]
    exported += [f'{{stream: "{one}", accounts: [{view}]}}' for one in seen.subscribe]
    imported = [f'{{service: {{account: {cluster}, subject: "{one}"}}}}' for one in seen.publish]
    imported += [f'{{stream: {{account: {cluster}, subject: "{one}"}}}}' for one in seen.subscribe]
    lines = [
        f"  {cluster}: {{",
        "    jetstream: enabled",
        *_list("users", [_user(user, role, prefix) for user, role in users.items() if role != "viewer"]),
        *_list("exports", exported),
        "  }",
        f"  {view}: {{",
        *_list("users", [_user(user, "viewer", prefix) for user in viewers]),
        *_list("imports", imported),
        "  }",
    ]
    return "\n".join(["accounts {", *lines, "}\n"])


def _list(name: str, entries: list[str]) -> list[str]:
    return [f"    {name}: [", *(f"      {entry}" for entry in entries), "    ]"]


def _user(user: str, role: Role, prefix: str) -> str:
    allowed = permissions(role, prefix)
    publish = _quoted(allowed.publish)
    subscribe = _quoted((f"{inbox(user)}.>", *allowed.subscribe))
    return (
        f'{{user: "{user}", password: ${password_variable(user)}, permissions: {{\n'
        f"        publish: {{allow: [{publish}]}}\n        subscribe: {{allow: [{subscribe}]}}\n      }}}}"
    )


def _quoted(subjects: tuple[str, ...]) -> str:
    return ", ".join(f'"{one}"' for one in subjects)
