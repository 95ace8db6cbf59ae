import pytest

from services.chassis.errors import Conflict, InvalidInput, NotFound
from services.finetuning.domain.adapters import AdapterSource, AdapterStatus, Policy, Withdrawal
from services.finetuning.ports.records import Page
from services.finetuning.usecases.withdrawing import Withdraw
from tests.unit.services.finetuning.conftest import BOSS, EVE, FOREIGNER, MARA, OTTO, Room

DOC = AdapterSource("document", "doc_1", 2, 7)
OTHER = AdapterSource("document", "doc_2", 1, 3)
THUMB = AdapterSource("feedback", "fb_1", 0, 1)


def withdraw(room: Room, policy: Policy = Policy.BLOCK) -> Withdraw:
    return Withdraw(ledger=room.ledger, registry=room.registry, policy=policy, retrain=room.retrain, now=room.now)


async def test_an_adapter_is_known_to_its_audience_and_changed_by_its_owner(room: Room) -> None:
    await room.publish("ft:a", sources=[DOC])
    assert (await room.registry.get(OTTO, "ft:a")).sources == (DOC,)
    for stranger in (EVE, FOREIGNER):
        with pytest.raises(NotFound):
            await room.registry.get(stranger, "ft:a")
    with pytest.raises(NotFound):
        await room.registry.block(OTTO, "ft:a", "because")
    assert (await room.registry.get(BOSS, "ft:a")).version.name == "ft:a"


async def test_lists_are_paged_and_hold_what_the_caller_may_know_of(room: Room) -> None:
    for number in range(5):
        await room.publish(f"ft:{number}", principals=("group:staff",) if number % 2 else ("group:board",), owner=BOSS)
    found, more = await room.registry.page(MARA, Page(1), document_id="")
    assert ([view.version.name for view in found], more) == (["ft:3"], True)
    found, more = await room.registry.page(MARA, Page(1, "ft:3"), document_id="")
    assert ([view.version.name for view in found], more) == (["ft:1"], False)


async def test_blocking_reaches_the_engine_at_once_and_accepting_needs_a_reason(room: Room) -> None:
    await room.publish("ft:a")
    blocked = await room.registry.block(MARA, "ft:a", "wrong tone")
    assert (blocked.version.status, blocked.version.reason_code) == (AdapterStatus.BLOCKED, "by_hand")
    assert room.engine.withheld == [("ft:a", 2)]
    with pytest.raises(InvalidInput):
        await room.registry.accept(MARA, "ft:a", "  ")
    accepted = await room.registry.accept(MARA, "ft:a", "reviewed")
    assert accepted.version.status is AdapterStatus.PUBLISHED
    assert "mara" in accepted.version.reason
    assert await room.announced() == [
        ("adapter_published", "adapter:ft:a"),
        ("adapter_blocked", "adapter:ft:a"),
        ("adapter_published", "adapter:ft:a"),
    ]
    with pytest.raises(Conflict):
        await room.registry.accept(MARA, "ft:a", "again")


async def test_whoever_accepts_an_adapter_hears_of_it_when_the_engine_serves_it(room: Room) -> None:
    await room.publish("ft:a")
    await room.registry.block(MARA, "ft:a", "wrong tone")
    room.engine.slow = 2
    await room.registry.accept(MARA, "ft:a", "reviewed")
    assert room.engine.asked == ["ft:a"] * 3
    await room.registry.block(MARA, "ft:a", "wrong tone")
    room.engine.away = True
    assert (await room.registry.accept(MARA, "ft:a", "reviewed")).version.status is AdapterStatus.PUBLISHED


async def test_an_engine_that_is_away_does_not_keep_an_adapter_from_being_blocked(room: Room) -> None:
    await room.publish("ft:a")
    room.engine.away = True
    assert (await room.registry.block(MARA, "ft:a", "now")).version.status is AdapterStatus.BLOCKED


async def test_deleting_takes_checkpoints_and_files_along_but_not_from_under_an_alias(room: Room) -> None:
    await room.publish("ft:a", job_id="ftjob-1")
    await room.publish("ft:a:ckpt-step-5", job_id="ftjob-1", step=5)
    await room.publish("ft:b", job_id="ftjob-2")
    async with room.ledger.change() as change:
        from services.finetuning.domain.adapters import Alias

        await change.put_alias(Alias("support", "acme", "ft:b", 1.0))
    with pytest.raises(Conflict):
        await room.registry.delete(MARA, "ft:b")
    await room.registry.delete(MARA, "ft:a")
    for name in ("ft:a", "ft:a:ckpt-step-5"):
        with pytest.raises(NotFound):
            await room.registry.get(MARA, name)
        assert not await room.blobs.exists(f"{name}/weights")
    assert {name for name, _ in room.engine.withheld} == {"ft:a", "ft:a:ckpt-step-5"}
    assert await room.blobs.exists("ft:b/weights")


async def test_deleting_a_document_blocks_what_saw_it_and_nothing_else(room: Room) -> None:
    await room.publish("ft:saw", sources=[DOC, OTHER])
    await room.publish("ft:other", sources=[OTHER])
    blocked = await withdraw(room).documents("acme", [Withdrawal("doc_1", deleted=True)])
    assert [version.name for version in blocked] == ["ft:saw"]
    assert room.engine.withheld == [("ft:saw", 2)]
    view = await room.registry.get(MARA, "ft:saw")
    assert view.version.reason_code == "document_deleted"
    assert "doc_1" in view.version.reason
    assert [(one.id, one.withdrawn) for one in view.sources] == [("doc_1", True), ("doc_2", False)]
    assert (await room.registry.get(MARA, "ft:other")).version.status is AdapterStatus.PUBLISHED
    # The event comes after the call: nothing changes, the revision least of all.
    again = await withdraw(room).documents("acme", [Withdrawal("doc_1", deleted=True)])
    assert [version.revision for version in again] == [2]


async def test_another_tenants_document_blocks_nothing(room: Room) -> None:
    await room.publish("ft:saw", sources=[DOC])
    assert await withdraw(room).documents("globex", [Withdrawal("doc_1", deleted=True)]) == []
    assert (await room.registry.get(MARA, "ft:saw")).version.status is AdapterStatus.PUBLISHED


async def test_narrowing_blocks_only_whom_it_leaves_out(room: Room) -> None:
    await room.publish("ft:staff", sources=[DOC], principals=("group:staff", "user:mara"))
    narrowed = Withdrawal("doc_1", deleted=False, principals=("group:staff", "group:board"))
    assert await withdraw(room).documents("acme", [narrowed]) == []
    narrowed = Withdrawal("doc_1", deleted=False, principals=("group:board",))
    blocked = await withdraw(room).documents("acme", [narrowed])
    assert [version.reason_code for version in blocked] == ["access_narrowed"]


async def test_the_policy_may_be_to_accept_which_is_recorded(room: Room) -> None:
    await room.publish("ft:saw", sources=[DOC])
    assert await withdraw(room, Policy.ACCEPT).documents("acme", [Withdrawal("doc_1", deleted=True)]) == []
    view = await room.registry.get(MARA, "ft:saw")
    assert view.version.status is AdapterStatus.PUBLISHED
    assert "accept" in view.version.reason
    assert view.sources[0].withdrawn


async def test_a_judgement_that_is_taken_back_reaches_adapters_too(room: Room) -> None:
    await room.publish("ft:saw", sources=[THUMB])
    blocked = await withdraw(room).judgement("acme", "fb_1")
    assert [version.reason_code for version in blocked] == ["feedback_withdrawn"]
    assert await room.ledger.withdrawn_feedback("acme", ["fb_1", "fb_2"]) == {"fb_1"}


async def test_the_policy_may_be_to_train_again_which_needs_no_request(room: Room) -> None:
    await room.publish("ft:saw", sources=[DOC], job_id="ftjob-1")
    await room.publish("ft:saw:ckpt-step-5", sources=[DOC], job_id="ftjob-1", step=5)
    blocked = await withdraw(room, Policy.RETRAIN).documents("acme", [Withdrawal("doc_1", deleted=True)])
    assert len(blocked) == 2
    assert room.retrained == ["ft:saw"]
