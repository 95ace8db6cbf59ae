from dataclasses import replace

import pytest

from services.chassis.errors import InvalidInput
from services.finetuning.domain.adapters import (
    AdapterStatus,
    AdapterVersion,
    adapter_name,
    audience_of,
    check_alias,
    checkpoint_name,
    is_covered,
)
from services.finetuning.domain.owners import Owner

MARA = Owner("mara", ("staff",), ("trainer",))
VERSION = AdapterVersion(
    "ft:base:acme:hr:1", "acme", "hr", 1, MARA, 1.0, AdapterStatus.PUBLISHED,
    "c", "w", "d", "e", 10, 8, "base", "", "", "", principals=("group:staff", "user:mara"),
)  # fmt: skip
EVERYONE = ("group:everyone",)


def test_a_name_is_one_that_the_engine_takes_whatever_its_parts_are() -> None:
    name = adapter_name(
        base="meta-llama/Llama 3.1", tenant="Acme GmbH & Co", suffix="hr team", job_id="ftjob-" + "ab12" * 8
    )
    assert name == "ft:meta-llama-Llama-3.1:Acme-GmbH-Co:hr-team:ab12ab12ab12"
    longest = adapter_name(base="b" * 300, tenant="t" * 300, suffix="s" * 64, job_id="ftjob-" + "0" * 32)
    assert len(checkpoint_name(longest, 1_000)) <= 142
    assert len(longest) <= 128


def test_the_audience_is_who_may_read_everything() -> None:
    assert audience_of(EVERYONE, MARA, []) == ("group:everyone", "user:mara")
    assert audience_of(EVERYONE, MARA, [("group:staff",), EVERYONE]) == ("group:staff", "user:mara")
    assert audience_of(EVERYONE, MARA, [("group:staff", "user:otto"), ("user:otto",)]) == ("user:mara", "user:otto")
    assert audience_of(("group:sales",), MARA, [("group:staff",)]) == ("user:mara",)


def test_narrowing_is_noticed_for_the_audience_and_for_the_owner() -> None:
    assert is_covered(VERSION, EVERYONE)
    assert is_covered(VERSION, ("group:staff",))
    assert not is_covered(VERSION, ("group:board",))
    # The owner may read it by name, the audience may not.
    assert not is_covered(VERSION, ("user:mara",))
    private = replace(VERSION, principals=("user:mara",))
    assert is_covered(private, ("user:mara",))
    assert not is_covered(private, ("user:otto",))
    boss = replace(private, owner=Owner("boss", (), ("administrator",)), principals=("user:boss",))
    assert is_covered(boss, ("user:otto",))


@pytest.mark.parametrize("alias", ["", "default", "ft:base:acme:hr:1", "a b", "-x", "x" * 65, "ä"])
def test_what_looks_like_a_model_is_no_alias(alias: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_alias(alias)
    assert caught.value.param == "alias"
