import asyncio

import pytest

from services.chassis.errors import Conflict, InvalidInput, NotFound
from services.chassis.ids import new_id
from services.finetuning.domain.jobs import JobEvent
from services.finetuning.domain.promotions import PromotionState
from services.finetuning.ports.records import Page
from services.finetuning.usecases.promoting import Gate, NewPromotion
from tests.unit.services.finetuning.conftest import BASE, BOSS, EVE, MARA, Room

SKIP = "tried by hand"


async def losses(room: Room, job_id: str, *values: float) -> None:
    async with room.ledger.change() as change:
        for step, value in enumerate(values):
            await change.add_event(
                "acme",
                JobEvent(new_id("ftevent-"), job_id, 1.0, "info", "", "metrics", {"step": step, "valid_loss": value}),
            )


async def promoted(room: Room, alias: str, name: str) -> None:
    await room.publish(name)
    await room.promotions.promote(MARA, NewPromotion(alias, name, skip_gate_reason=SKIP))


async def test_the_first_adapter_of_an_alias_answers_everybody(room: Room) -> None:
    await room.publish("ft:one", job_id="ftjob-1")
    await losses(room, "ftjob-1", 2.0, 1.2)
    done = await room.promotions.promote(MARA, NewPromotion("support", "ft:one"))
    assert done.state is PromotionState.PROMOTED
    assert "2.0000 → 1.2000" in done.history[-1].reason
    assert [(one.alias, one.target, one.canary) for one in await room.promotions.aliases(MARA)] == [
        ("support", "ft:one", "")
    ]
    assert ("alias_moved", "alias:support") in await room.announced()


async def test_the_gate_refuses_what_did_not_improve_and_what_was_not_measured(room: Room) -> None:
    await room.publish("ft:worse", job_id="ftjob-1")
    await losses(room, "ftjob-1", 1.0, 1.3)
    await room.publish("ft:blind", job_id="ftjob-2")
    for name, word in (("ft:worse", "1.0000 → 1.3000"), ("ft:blind", "no validation file")):
        refused = await room.promotions.promote(MARA, NewPromotion("support", name))
        assert refused.state is PromotionState.REFUSED
        assert word in refused.history[-1].reason
    assert await room.promotions.aliases(MARA) == []


async def test_who_moved_an_alias_is_answered_when_the_engine_has_heard_of_it(room: Room) -> None:
    await promoted(room, "support", "ft:one")
    assert room.engine.asked == ["support"]
    await room.publish("ft:two")
    await room.promotions.promote(MARA, NewPromotion("support", "ft:two", 0.0, skip_gate_reason=SKIP))
    await room.promotions.rollback(MARA, "support", "")
    assert room.engine.asked == ["support"] * 3
    # Who may not ask the target would wait for nothing: the engine does not show the alias.
    await room.publish("ft:sales", principals=("group:sales",))
    await room.promotions.promote(BOSS, NewPromotion("support", "ft:sales", 0.0, skip_gate_reason=SKIP))
    # A canary is a share of the callers: there is nothing to wait for.
    await room.publish("ft:three")
    await room.promotions.promote(MARA, NewPromotion("support", "ft:three", 0.1, skip_gate_reason=SKIP))
    assert room.engine.asked == ["support"] * 3


async def test_a_checkpoint_passes_the_gate_by_the_loss_at_its_own_step(room: Room) -> None:
    await losses(room, "ftjob-1", 2.0, 2.5, 1.0)
    await room.publish("ft:one:ckpt-step-1", job_id="ftjob-1", step=1)
    refused = await room.promotions.promote(MARA, NewPromotion("support", "ft:one:ckpt-step-1"))
    assert refused.state is PromotionState.REFUSED
    assert "2.0000 → 2.5000" in refused.history[-1].reason


async def test_a_canary_that_pleases_takes_over(room: Room) -> None:
    await promoted(room, "support", "ft:old")
    await room.publish("ft:new")
    opened = await room.promotions.promote(MARA, NewPromotion("support", "ft:new", 0.2, skip_gate_reason=SKIP))
    assert opened.state is PromotionState.CANARY
    alias = (await room.promotions.aliases(MARA))[0]
    assert (alias.target, alias.canary, alias.canary_weight) == ("ft:old", "ft:new", 0.2)
    for number in range(5):
        await room.promotions.judged("acme", alias="support", model="ft:new", key=f"fb_{number}", bad=False)
    done = await room.promotions.get(MARA, opened.promotion_id)
    assert done.state is PromotionState.PROMOTED
    alias = (await room.promotions.aliases(MARA))[0]
    assert (alias.target, alias.previous, alias.canary) == ("ft:new", "ft:old", "")


async def test_a_judgement_counts_once_and_only_for_the_two_in_question(room: Room) -> None:
    await promoted(room, "support", "ft:old")
    await room.publish("ft:new")
    opened = await room.promotions.promote(MARA, NewPromotion("support", "ft:new", 0.2, skip_gate_reason=SKIP))
    for model, key in (("ft:new", "fb_1"), ("ft:new", "fb_1"), ("ft:else", "fb_2"), ("ft:old", "fb_3")):
        await room.promotions.judged("acme", alias="support", model=model, key=key, bad=True)
    await room.promotions.judged("globex", alias="support", model="ft:new", key="fb_9", bad=True)
    now = await room.promotions.get(MARA, opened.promotion_id)
    assert (now.of_candidate.judged, now.of_current.judged) == (1, 1)


async def test_a_canary_that_displeases_goes_back_by_itself(room: Room) -> None:
    await promoted(room, "support", "ft:old")
    await room.publish("ft:new")
    opened = await room.promotions.promote(MARA, NewPromotion("support", "ft:new", 0.2, 1000, SKIP))
    for number in range(60):
        await room.promotions.judged("acme", alias="support", model="ft:old", key=f"good_{number}", bad=False)
    for number in range(30):
        await room.promotions.judged("acme", alias="support", model="ft:new", key=f"bad_{number}", bad=True)
    done = await room.promotions.get(MARA, opened.promotion_id)
    assert done.state is PromotionState.ROLLED_BACK
    alias = (await room.promotions.aliases(MARA))[0]
    assert (alias.target, alias.canary) == ("ft:old", "")


async def test_a_canary_whose_answers_fail_goes_back(room: Room) -> None:
    await promoted(room, "support", "ft:old")
    await room.publish("ft:new")
    opened = await room.promotions.promote(MARA, NewPromotion("support", "ft:new", 0.2, skip_gate_reason=SKIP))
    for number in range(20):
        await room.promotions.answered("acme", alias="support", model="ft:old", key=f"o{number}", failed=False)
        await room.promotions.answered("acme", alias="support", model="ft:new", key=f"n{number}", failed=True)
    assert (await room.promotions.get(MARA, opened.promotion_id)).state is PromotionState.ROLLED_BACK


async def test_rolling_back_moves_the_alias_to_where_it_led(room: Room) -> None:
    await promoted(room, "support", "ft:old")
    with pytest.raises(Conflict):
        await room.promotions.rollback(MARA, "support", "nothing before")
    await room.publish("ft:new")
    await room.promotions.promote(MARA, NewPromotion("support", "ft:new", 0.0, skip_gate_reason=SKIP))
    done = await room.promotions.rollback(MARA, "support", "complaints")
    assert (done.state, done.history[-1].by) == (PromotionState.ROLLED_BACK, "mara")
    assert (await room.promotions.aliases(MARA))[0].target == "ft:old"


async def test_one_promotion_at_a_time_and_a_blocked_candidate_ends_it(room: Room) -> None:
    await promoted(room, "support", "ft:old")
    await room.publish("ft:new")
    opened = await room.promotions.promote(MARA, NewPromotion("support", "ft:new", 0.2, skip_gate_reason=SKIP))
    await room.publish("ft:third")
    with pytest.raises(Conflict):
        await room.promotions.promote(MARA, NewPromotion("support", "ft:third", skip_gate_reason=SKIP))
    await room.registry.block(MARA, "ft:new", "bad")
    assert (await room.promotions.get(MARA, opened.promotion_id)).state is PromotionState.ROLLED_BACK
    assert (await room.promotions.aliases(MARA))[0].canary == ""
    with pytest.raises(Conflict):
        await room.promotions.promote(MARA, NewPromotion("support", "ft:new", skip_gate_reason=SKIP))


async def test_a_verdict_opens_the_gate_once(room: Room) -> None:
    room.promotions._gate = Gate.VERDICT
    await room.publish("ft:one")
    opened = await room.promotions.promote(MARA, NewPromotion("support", "ft:one"))
    assert opened.state is PromotionState.GATED
    assert ("promotion_announced", f"promotion:{opened.promotion_id}") in await room.announced()
    await room.promotions.verdict("acme", opened.promotion_id, passed=True, reason="verdict passed; h_read +0.1")
    await room.promotions.verdict("acme", opened.promotion_id, passed=False, reason="late")
    assert (await room.promotions.get(MARA, opened.promotion_id)).state is PromotionState.PROMOTED


async def test_what_is_wrong_is_refused_by_name(room: Room) -> None:
    await room.publish("ft:one")
    for new, param in (
        (NewPromotion("ft:x", "ft:one"), "alias"),
        (NewPromotion(BASE, "ft:one"), "alias"),
        (NewPromotion("support", "ft:one", 1.0), "canary_weight"),
    ):
        with pytest.raises(InvalidInput) as caught:
            await room.promotions.promote(MARA, new)
        assert caught.value.param == param
    with pytest.raises(NotFound):
        await room.promotions.promote(EVE, NewPromotion("support", "ft:one"))
    with pytest.raises(NotFound):
        await room.promotions.rollback(MARA, "nobody", "")
    found, more = await room.promotions.page(MARA, Page(10), alias="")
    assert (found, more) == ([], False)


async def test_of_two_promotions_opened_in_one_moment_one_is_refused(room: Room) -> None:
    for name in ("ft:one", "ft:two"):
        await room.publish(name)
    await promoted(room, "support", "ft:old")
    found = await asyncio.gather(
        *(
            room.promotions.promote(MARA, NewPromotion("support", name, 0.2, skip_gate_reason=SKIP))
            for name in ("ft:one", "ft:two")
        ),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in found) == ["Conflict", "Promotion"]
