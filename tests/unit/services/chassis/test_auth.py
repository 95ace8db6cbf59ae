from contextvars import Context

import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from services.chassis.auth import (
    ANYONE,
    Bearer,
    Caller,
    Role,
    TokenMinter,
    TokenVerifier,
    WorkerMinter,
    acting_as,
    at_least,
    current_caller,
    current_token,
    generate_key_pair,
)
from services.chassis.errors import InvalidInput, Unauthenticated

ALICE = Caller("alice", "acme", frozenset({"hr"}), frozenset({Role.CONTRIBUTOR}))


def test_a_minted_token_carries_the_caller() -> None:
    private, public = generate_key_pair()
    assert TokenVerifier([public]).verify(TokenMinter(private, issuer="gateway").mint(ALICE)) == Bearer(ALICE)


def test_keys_rotate_without_a_gap() -> None:
    old_private, old_public = generate_key_pair()
    new_private, new_public = generate_key_pair()
    verifier = TokenVerifier([old_public, new_public])
    for private in (old_private, new_private):
        assert verifier.verify(TokenMinter(private, issuer="gateway").mint(ALICE)).caller == ALICE


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


def test_a_workers_token_says_who_signed_for_whom_and_in_which_work() -> None:
    _, public = generate_key_pair()
    private, worker = generate_key_pair()
    token = WorkerMinter(private, worker="finetuning").mint(ALICE, work="ftjob-1")
    assert TokenVerifier([public], worker_keys={"finetuning": worker}).verify(token) == Bearer(
        ALICE, "finetuning", "ftjob-1"
    )
    with pytest.raises(Unauthenticated):
        TokenVerifier([public]).verify(token)
    expired = WorkerMinter(private, worker="finetuning", lifetime_s=-60).mint(ALICE, work="ftjob-1")
    with pytest.raises(Unauthenticated):
        TokenVerifier([public], worker_keys={"finetuning": worker}).verify(expired)


def test_the_key_tells_who_signed_whatever_the_token_says() -> None:
    _, public = generate_key_pair()
    private, worker = generate_key_pair()
    for issuer in ("gateway", "evaluation"):
        posing = TokenMinter(private, issuer=issuer).mint(ALICE)
        assert TokenVerifier([public], worker_keys={"finetuning": worker}).verify(posing) == Bearer(ALICE, "finetuning")


def test_a_token_that_names_no_key_is_refused_also_where_there_is_but_one() -> None:
    private, worker = generate_key_pair()
    claims = {"sub": "alice", "ten": "acme", "rol": ["administrator"], "exp": 4_000_000_000}
    nameless = jwt.encode({"alg": "Ed25519"}, claims, OKPKey.import_key(private), algorithms=["Ed25519"])
    with pytest.raises(Unauthenticated):
        TokenVerifier([], worker_keys={"finetuning": worker}).verify(nameless)


@pytest.mark.parametrize("work", [None, True, 7, ["ftjob-1"], {"id": "ftjob-1"}])
def test_a_mark_that_names_no_work_is_none(work: object) -> None:
    private, worker = generate_key_pair()
    key = OKPKey.import_key(private)
    claims = {"sub": "alice", "ten": "acme", "exp": 4_000_000_000, "obo": work}
    token = jwt.encode({"alg": "Ed25519", "kid": key.thumbprint()}, claims, key, algorithms=["Ed25519"])
    assert TokenVerifier([], worker_keys={"finetuning": worker}).verify(token).work == ""


def test_two_rooms_with_one_key_are_refused_by_name() -> None:
    _, public = generate_key_pair()
    with pytest.raises(InvalidInput, match="worker_public_key_files: 'finetuning' and the gateway have the same key"):
        TokenVerifier([public], worker_keys={"finetuning": public})
    with pytest.raises(InvalidInput, match="'evaluation' and 'finetuning' have the same key"):
        TokenVerifier([], worker_keys={"finetuning": public, "evaluation": public})


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
