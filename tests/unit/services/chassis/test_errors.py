import inspect

import grpc
import pytest

from services.chassis import errors
from services.chassis.errors import FAMILY, BrainError, from_grpc, grpc_status, http_status


def test_every_member_has_a_status_and_a_code_of_its_own() -> None:
    members = {
        member
        for _, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, BrainError) and member is not BrainError
    }
    assert members == set(FAMILY)
    assert len({member.code for member in members}) == len(members)


@pytest.mark.parametrize("member", FAMILY)
def test_a_member_survives_the_wire(member: type[BrainError]) -> None:
    error = member("top_k: 0 is not allowed; give 1 to 50.", param="top_k", retry_after_s=2.0)
    assert 400 <= http_status(error) < 600
    back = from_grpc(grpc_status(error), error.message, code=error.code, param="top_k", retry_after_s=2.0)
    assert type(back) is member
    assert (back.message, back.param, back.retry_after_s) == (error.message, "top_k", 2.0)


def test_an_unknown_status_is_our_fault() -> None:
    assert http_status(from_grpc(grpc.StatusCode.UNKNOWN, "?")) == 500
