"""Who answers when a request names an alias."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.auth import Role
from services.chassis.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from services.generation.domain import AliasState, in_share
from tests.adapter_announcer import BLOCKED, Announcer
from tests.generation_parts import ANNA, Room, caller, running
from tests.tiny_adapter import write_adapter

CROWD = [caller(f"user-{number}") for number in range(200)]


async def publish(room: Room, tmp_path: Path, *names: str, **changed: object) -> Announcer:
    announce = room.announcer()
    for name in names:
        folder = write_adapter(tmp_path / f"files-{name}", rank=len(name))
        await announce.adapter(name, 1, await announce.put(folder), **changed)
    boss = caller("boss", "acme", Role.ADMINISTRATOR)
    await room.until(lambda: set(names) <= set(room.names(boss)))
    return announce


async def aliased(room: Room, count: float) -> None:
    await room.until(lambda: room.value("brain_adapter_events_total", outcome="applied") == count)


async def test_an_alias_leads_to_an_adapter_and_the_answer_names_it(tmp_path: Path) -> None:
    async with running(tmp_path) as room:
        announce = await publish(room, tmp_path, "one", "three")
        await announce.alias("support", "one", 1)
        await aliased(room, 3)
        assert await room.answer("support") == "«one» hello"
        assert room.names() == ["base", "one", "three", "support"]
        listed = room.models.list(ANNA)[-1]
        assert (listed.alias, listed.parent, listed.limits) == (True, "one", None)
        assert (await room.count.tokenize(caller=ANNA, model="support", texts=[], conversation=None)).model == "one"
        # Moved, moved to the base, gone.
        await announce.alias("support", "three", 2)
        await announce.alias("support", "one", 1)
        await aliased(room, 4)
        assert await room.answer("support") == "«three» hello"
        await announce.alias("support", "base", 3)
        await aliased(room, 5)
        assert await room.answer("support") == "hello"
        assert [it.parent for it in room.models.list(ANNA) if it.alias] == ["base"]
        await announce.alias("support", "", 4)
        await aliased(room, 6)
        with pytest.raises(NotFound):
            await room.answer("support")
        assert room.value("brain_alias_resolutions_total", outcome="target") == 3
        assert room.value("brain_alias_resolutions_total", outcome="nobody") == 1


async def test_an_alias_belongs_to_its_tenant_and_outlives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as room:
        announce = await publish(room, tmp_path, "one")
        await announce.alias("support", "one", 1)
        await aliased(room, 2)
        with pytest.raises(NotFound):
            await room.answer("support", caller("eve", "globex"))
    async with running(tmp_path) as room:
        assert await room.answer("support") == "«one» hello"


async def test_a_share_of_the_callers_meets_the_canary_and_each_always_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as room:
        announce = await publish(room, tmp_path, "one", "three")

        async def met(weight: float, revision: int) -> dict[str, str]:
            await announce.alias("support", "one", revision, canary="three", weight=weight)
            await aliased(room, 2 + revision)
            return {who.subject: room.models.find(who, "support") for who in CROWD}

        none, few, many, everybody = [await met(weight, place + 1) for place, weight in enumerate((0, 0.2, 0.6, 1))]
        assert set(none.values()) == {"one"}
        assert set(everybody.values()) == {"three"}
        assert 20 <= sum(name == "three" for name in few.values()) <= 60
        assert 90 <= sum(name == "three" for name in many.values()) <= 150
        # A larger share takes in others; nobody who had met the canary leaves it.
        assert all(many[subject] == "three" for subject, name in few.items() if name == "three")
        assert await met(0.6, 5) == many
        lucky = next(who for who in CROWD if many[who.subject] == "three")
        assert await room.answer("support", lucky) == "«three» hello"
        assert room.value("brain_alias_resolutions_total", outcome="canary") == 1


async def test_a_canary_that_cannot_answer_takes_no_share(tmp_path: Path) -> None:
    async with running(tmp_path) as room:
        announce = await publish(room, tmp_path, "one")
        await publish(room, tmp_path, "three", principals=["user:zoe"])
        await announce.alias("support", "one", 1, canary="three", weight=1.0)
        await aliased(room, 3)
        # Not for Anna, and for Zoe only until it is blocked.
        assert await room.answer("support") == "«one» hello"
        assert await room.answer("support", caller("zoe")) == "«three» hello"
        await announce.adapter("three", 2, status=BLOCKED)
        await aliased(room, 4)
        assert await room.answer("support", caller("zoe")) == "«one» hello"
        assert room.value("brain_alias_resolutions_total", outcome="instead_of_canary") == 2


async def test_an_alias_whose_target_cannot_answer_is_refused_and_never_answered_by_the_base(tmp_path: Path) -> None:
    async with running(tmp_path) as room:
        announce = await publish(room, tmp_path, "one")
        await publish(room, tmp_path, "three", principals=["user:zoe"])
        for number, (alias, target) in enumerate((("a", "one"), ("b", "three"), ("c", "nothing"), ("d", "a"))):
            await announce.alias(alias, target, 1)
            await aliased(room, 3 + number)
        await announce.adapter("one", 2, status=BLOCKED, reason="access_narrowed")
        await aliased(room, 7)
        with pytest.raises(PermissionDenied, match=r"alias 'a' leads to .*'one' is blocked \(access_narrowed\)"):
            await room.answer("a")
        # Whoever may not know the target learns nothing; an alias leads to no alias.
        for alias in ("b", "c", "d"):
            with pytest.raises(NotFound, match=f"no model '{alias}'"):
                await room.answer(alias)
        assert room.names() == ["base"]
        assert room.names(caller("zoe")) == ["base", "three", "b"]
        await room.withhold("acme", {"three": 1})
        with pytest.raises(PermissionDenied, match="withheld"):
            await room.answer("b", caller("zoe"))


async def test_a_refused_target_is_said_to_be_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as room:
        announce = room.announcer()
        found = await announce.put(write_adapter(tmp_path / "files"))
        await announce.adapter("bad", 1, found, weights_digest="0" * 64)
        await announce.alias("support", "bad", 1)
        await room.until(lambda: room.value("brain_generation_adapters", state="refused") == 1)
        with pytest.raises(Conflict, match="alias 'support' leads to"):
            await room.answer("support")


async def test_an_alias_does_not_shadow_a_model(tmp_path: Path) -> None:
    async with running(tmp_path) as room:
        announce = await publish(room, tmp_path, "one", "three")
        await announce.alias("base", "one", 1)
        await announce.alias("three", "one", 1)
        await aliased(room, 4)
        assert await room.answer("base") == "hello"
        assert await room.answer("three") == "«three» hello"
        assert room.names() == ["base", "one", "three"]
        # A model that comes later takes the name from the alias too, also for those who may not ask it.
        await announce.alias("later", "one", 1)
        await aliased(room, 5)
        assert await room.answer("later") == "«one» hello"
        await publish(room, tmp_path, "later", principals=["user:zoe"])
        await aliased(room, 6)
        with pytest.raises(NotFound):
            await room.answer("later")


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_is_from_none_to_all(weight: float) -> None:
    with pytest.raises(InvalidInput, match="canary_weight"):
        AliasState("acme", "support", "one", "three", weight, 1)


@given(subject=st.text(), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_share_holds_every_smaller_one(subject: str, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert not in_share("acme", "support", subject, 0)
    assert in_share("acme", "support", subject, 1)
    assert in_share("acme", "support", subject, high) or not in_share("acme", "support", subject, low)
