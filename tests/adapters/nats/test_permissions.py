"""Who may do what: the lists of subjects; ``tests/cluster`` tries them against a real server."""

from __future__ import annotations

from typing import get_args

import pytest

from adapters.nats.permissions import Role, accounts, inbox, password_variable, permissions, roles_of

ROLES: tuple[Role, ...] = get_args(Role)


def covers(pattern: str, subject: str) -> bool:
    """Whether the wildcards of *pattern* fit *subject*."""
    have, want = pattern.split("."), subject.split(".")
    fits = all(one in ("*", ">", other) for one, other in zip(have, want, strict=False))
    return fits and (len(have) <= len(want) if have[-1] == ">" else len(have) == len(want))


def may_publish(role: Role, subject: str) -> bool:
    return any(covers(pattern, subject) for pattern in permissions(role, "p").publish)


@pytest.mark.parametrize(
    ("subject", "roles"),
    [
        ("p.call.render.k", {"submitter", "worker", "steerer", "setup"}),
        ("p.result.render.k", {"worker", "steerer", "setup"}),
        ("p.saved.render.k", {"submitter", "worker", "steerer", "setup"}),
        ("$KV.p-shared.circuit", {"worker", "steerer", "setup"}),
        ("$KV.p-nodes.gpu-a", {"worker", "setup"}),
        ("$JS.ACK.p.high.1.1.1.1.1", {"worker", "setup"}),
        ("$JS.API.CONSUMER.MSG.NEXT.p.high", {"worker", "setup"}),
        ("$JS.API.STREAM.DELETE.p", {"setup"}),
        ("$JS.API.STREAM.PURGE.p", {"setup"}),
        ("$JS.API.DIRECT.GET.p", {*ROLES}),
        ("other.call.render.k", set()),
        ("p-seen.call.render.k", set()),
    ],
)
def test_a_role_may_publish_what_its_work_needs(subject: str, roles: set[Role]):
    assert {role for role in ROLES if may_publish(role, subject)} == roles


@pytest.mark.parametrize("role", ROLES)
def test_no_role_listens_to_the_inboxes_of_others(role: Role):
    assert not any(one == ">" or one.startswith(("_INBOX", "*")) for one in permissions(role).subscribe)


def test_a_viewer_writes_nothing():
    assert all(one.startswith("$JS.API.") for one in permissions("viewer").publish)
    assert not any(".CREATE" in one or ".DELETE" in one or ".NEXT" in one for one in permissions("viewer").publish)


def test_accounts_name_a_variable_in_place_of_each_password():
    text = accounts({"gpu-a": "worker", "screen": "viewer"})
    assert "password: $GPU_A_PASSWORD," in text
    assert f"password: ${password_variable('screen')}," in text


def test_viewers_are_in_an_account_without_jetstream():
    cluster, _, view = accounts({"gpu-a": "worker", "screen": "viewer"}, "p").partition('"P-VIEW": {')
    assert '"gpu-a"' in cluster
    assert '"screen"' in view
    assert "jetstream" not in view


@pytest.mark.parametrize("user", ["", "a.b", "a b", "*", ">", 'a"'])
def test_a_user_that_could_widen_its_inbox_is_refused(user: str):
    with pytest.raises(ValueError, match="is no user of a cluster"):
        inbox(user)
    with pytest.raises(ValueError, match="is no user of a cluster"):
        accounts({user: "worker"})


def test_the_roles_that_may_use_a_subject_are_found_by_it_in_small_letters_too():
    assert roles_of("$js.api.stream.create.recovery", "publish") == ["setup"]
    assert roles_of("recovery.call.render.k", "publish") == ["submitter", "worker", "steerer", "setup"]
    assert roles_of("recovery.call", "publish") == ["worker", "setup"], "recovery.call.> has no such subject"
    assert roles_of("recovery-seen.call.render.k", "listen") == list(get_args(Role))
