from contextvars import Context

import pytest

from services.chassis.auth import (
    ANYONE,
    Caller,
    Role,
    TokenMinter,
    TokenVerifier,
    acting_as,
    at_least,
    current_caller,
    current_token,
    generate_key_pair,
)
from services.chassis.errors import Unauthenticated

ALICE = Caller("alice", "acme", frozenset({"hr"}), frozenset({Role.CONTRIBUTOR}))


def test_a_minted_token_carries_the_caller() -> None:
    private, public = generate_key_pair()
    assert TokenVerifier([public]).verify(TokenMinter(private, issuer="gateway").mint(ALICE)) == ALICE


def test_keys_rotate_without_a_gap() -> None:
    old_private, old_public = generate_key_pair()
    new_private, new_public = generate_key_pair()
    verifier = TokenVerifier([old_public, new_public])
    for private in (old_private, new_private):
        assert verifier.verify(TokenMinter(private, issuer="gateway").mint(ALICE)) == ALICE


@pytest.mark.parametrize(
    "token", ["", "nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsInRlbiI6ImFjbWUifQ."]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    _, public = generate_key_pair()
    with pytest.raises(Unauthenticated):
        TokenVerifier([public]).verify(token)


def test_a_foreign_signature_and_an_expired_token_are_refused() -> None:
    private, public = generate_key_pair()
    stranger, _ = generate_key_pair()
    with pytest.raises(Unauthenticated):
        TokenVerifier([public]).verify(TokenMinter(stranger, issuer="gateway").mint(ALICE))
    with pytest.raises(Unauthenticated):
        TokenVerifier([public]).verify(TokenMinter(private, issuer="gateway", lifetime_s=-60).mint(ALICE))


def test_principals_name_the_caller_its_groups_and_everyone() -> None:
    assert ALICE.principals == ("user:alice", "group:hr", "group:everyone")


def test_roles_include_what_lies_below_them() -> None:
    assert at_least(Role.VIEWER) == ANYONE
    assert at_least(Role.CURATOR) == {Role.CURATOR, Role.ADMINISTRATOR}
    assert not ALICE.may(at_least(Role.CURATOR))
    assert ALICE.may(at_least(Role.CONTRIBUTOR))


def test_the_caller_is_known_only_while_served() -> None:
    def served() -> None:
        with acting_as(ALICE, "token"):
            assert current_caller() == ALICE
            assert current_token() == "token"
        assert current_token() is None
        with pytest.raises(Unauthenticated):
            current_caller()

    # A context of its own, as every request has one: an interceptor that another test called may have entered this one.
    Context().run(served)
