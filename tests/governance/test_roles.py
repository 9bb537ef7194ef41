from typing import get_args

import pytest

from tidegate.errors import AccessError
from tidegate.governance.roles import PERMISSIONS, Permission, may, require, require_stream
from tidegate.ports.identity import Principal, Role


def principal(*roles: Role, streams=frozenset()):
    return Principal("somebody", frozenset(roles), frozenset(streams))


def test_every_role_is_described_and_every_permission_is_held_by_someone():
    assert set(PERMISSIONS) == set(get_args(Role))
    assert set().union(*PERMISSIONS.values()) == set(get_args(Permission))


@pytest.mark.parametrize("role", get_args(Role))
@pytest.mark.parametrize("permission", get_args(Permission))
def test_require_agrees_with_the_table(role, permission):
    if permission in PERMISSIONS[role]:
        require(principal(role), permission)
    else:
        with pytest.raises(AccessError, match=permission) as refusal:
            require(principal(role), permission)
        assert refusal.value.known


def test_roles_add_up():
    assert not may(principal("auditor"), "lake:query")
    assert may(principal("auditor", "analyst"), "lake:query")
    assert not may(principal(), "metrics:read")


def test_duties_are_apart():
    for permissions in PERMISSIONS.values():
        assert not {"personal:reveal", "audit:read"} <= permissions
        assert not {"personal:reveal", "admin"} <= permissions


def test_a_source_writes_to_its_own_streams_only():
    pos = principal("source", streams={"transactions"})
    require_stream(pos, "transactions")
    with pytest.raises(AccessError, match="registered"):
        require_stream(pos, "customers")


def test_verdicts_come_from_people_and_from_the_source_of_labels():
    require_stream(principal("fraud_ops"), "labels")
    require_stream(principal("source", streams={"labels"}), "labels")
    for outsider in (principal("auditor"), principal("source", streams={"stock"})):
        with pytest.raises(AccessError):
            require_stream(outsider, "labels")
    with pytest.raises(AccessError):
        require_stream(principal("fraud_ops"), "transactions")
