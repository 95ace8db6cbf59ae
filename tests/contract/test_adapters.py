"""What every engine does with adapters that are announced: served to its audience, blocked, restarted."""

import asyncio
from pathlib import Path

import pytest

from brain.types.v1 import sampling_pb2 as types
from services.chassis.auth import Role
from services.chassis.errors import BrainError, InvalidInput, NotFound, PermissionDenied
from tests.adapter_announcer import BLOCKED, DELETED, Announcer
from tests.generation_client import Client, GenerationRoom, running_generation
from tests.served_adapters import QUESTION, RUN, announcing, ask, base, listed, on_base, write_strong

NAME = f"ft:base:acme:tiny:{RUN}"


async def test_an_adapter_is_served_when_it_is_announced_and_refused_when_it_is_blocked(
    room: GenerationRoom, client: Client, announce: Announcer, strong: Path
) -> None:
    fits = await on_base(client)
    before = await ask(client)
    files = await announce.put(strong)
    await announce.adapter(NAME, 1, files, **fits)
    await listed(client, NAME)
    [shown] = [model for model in await client.list() if model.name == NAME]
    assert (shown.parent, shown.base_digest, shown.alias) == (fits["base_model"], fits["base_digest"], False)
    tuned, plain = await asyncio.gather(ask(client, NAME), ask(client))
    assert tuned.text() != plain.text() == before.text()
    assert tuned.first.model == NAME

    # Withheld: refused before the next request, and what runs ends with a reason.
    running = client.stream(QUESTION, model=NAME, temperature=0, max_tokens=1500, ignore_eos=True)
    heard = [await anext(running)]
    async with room.client(role=Role.CONTRIBUTOR) as contributor:
        await contributor.withhold(**{NAME: 1})
    with pytest.raises(PermissionDenied, match="withheld"):
        await ask(client, NAME)
    with pytest.raises(PermissionDenied, match="withheld"):
        async for message in running:
            heard.append(message)  # noqa: PERF401  what came before the error is looked at
    assert heard[-1].finish_reason == types.FINISH_REASON_ERROR
    assert sum(len(message.token_ids) for message in heard) < 1500

    # The event that follows takes over, and a later one lifts it.
    await announce.adapter(NAME, 2, files, status=BLOCKED, reason="document_deleted", **fits)
    async with asyncio.timeout(60):
        while "document_deleted" not in await refusal(client, NAME):
            await asyncio.sleep(0.05)
    await announce.adapter(NAME, 3, files, **fits)
    await listed(client, NAME)
    assert (await ask(client, NAME)).text() == tuned.text()
    await announce.adapter(NAME, 4, files, status=DELETED, **fits)
    await listed(client, NAME, there=False)
    with pytest.raises(NotFound):
        await ask(client, NAME)
    assert (await ask(client)).text() == before.text()


async def refusal(client: Client, name: str) -> str:
    """What a caller is told who asks an adapter that is refused."""
    with pytest.raises(BrainError) as caught:
        await ask(client, name)
    return caught.value.message


async def test_an_adapter_is_its_audiences_and_an_alias_leads_to_it(
    room: GenerationRoom, client: Client, announce: Announcer, strong: Path
) -> None:
    name, alias_name = f"ft:base:acme:hr:{RUN}", f"people-{RUN}"
    fits = await on_base(client)
    await announce.adapter(name, 1, await announce.put(strong), principals=["group:hr"], **fits)
    await announce.alias(alias_name, name, 1)
    async with (
        room.client(role=Role.VIEWER, subject="hanna", groups=frozenset({"hr"})) as hanna,
        room.client(role=Role.ADMINISTRATOR, subject="boss") as boss,
        room.client("globex", role=Role.ADMINISTRATOR, groups=frozenset({"hr"})) as foreign,
    ):
        await listed(hanna, alias_name)
        for who in (client, foreign):
            assert {name, alias_name}.isdisjoint(model.name for model in await who.list())
            for asked in (name, alias_name):
                with pytest.raises(NotFound):
                    await ask(who, asked)
        [alias] = [model for model in await hanna.list() if model.alias]
        assert (alias.name, alias.parent) == (alias_name, name)
        by_alias = await ask(hanna, alias_name)
        assert by_alias.first.model == name
        assert by_alias.text() == (await ask(boss, name)).text() != (await ask(hanna)).text()
        assert (await hanna.tokenize("a", model=alias_name)).model == name
        # Never somebody else in its place.
        await announce.adapter(name, 2, status=BLOCKED, reason="access_narrowed", principals=["group:hr"], **fits)
        await listed(hanna, alias_name, there=False)
        with pytest.raises(PermissionDenied, match="access_narrowed"):
            await ask(hanna, alias_name)


async def test_each_model_answers_for_itself_in_a_batch_of_more_adapters_than_have_places(
    client: Client, announce: Announcer, tmp_path: Path
) -> None:
    """The engine keeps four adapters ready to compute with (`max_loras`); here are six, and the base model between."""
    fits = await on_base(client)
    names = ["", *(f"ft:base:acme:many-{number}:{RUN}" for number in range(6))]
    for number, name in enumerate(names[1:]):
        folder = write_strong(tmp_path / f"many-{number}", rank=number + 1)
        await announce.adapter(name, 1, await announce.put(folder), **fits)
        await listed(client, name)

    async def likely(model: str) -> float:
        [score] = await client.score("The capital of France is", " Paris, a city on the Seine.", model=model)
        return score.logprob

    alone, said = {name: await likely(name) for name in names}, (await ask(client)).text()
    if (await base(client)).engine == "vllm":
        assert min(abs(alone[""] - alone[name]) for name in names[1:]) > 3
    # Three of the four places are taken the whole time, the fourth goes from one adapter to the next.
    talking = [
        client.stream(QUESTION, model=name, temperature=0, max_tokens=1500, ignore_eos=True) for name in names[:4]
    ]
    for stream in talking:
        await anext(stream)
    for name in names:
        # Numbers of a batch differ a little from those of one alone; those of another model differ by much.
        assert await likely(name) == pytest.approx(alone[name], abs=1.0), name
    assert (await ask(client)).text() == said
    for stream in talking:
        await stream.aclose()


async def test_the_base_model_says_what_an_adapter_must_be(client: Client, room: GenerationRoom) -> None:
    first, *others = await client.list()
    assert first.max_adapter_rank == 16
    assert {"q_proj", "v_proj"} <= set(first.adapter_modules)
    assert first.max_adapter_bytes == 1 << 30
    assert first.base_digest
    assert first.template_hash
    assert all(not model.max_adapter_rank for model in others)


async def test_an_adapter_is_looked_into_before_anybody_announces_it(
    room: GenerationRoom, client: Client, announce: Announcer, strong: Path
) -> None:
    files = await announce.put(strong)
    found = await client.check(files.config_blob_key, files.weights_blob_key)
    assert (found.weights_digest, found.config_digest) == (files.weights_digest, files.config_digest)
    assert found.rank == 4
    assert found.size_bytes == size_of(strong)
    assert not [name for name in names_in(room.adapters) if name.startswith(".unfinished")]
    for wrong, param in (
        (("globex/config", files.weights_blob_key), "config_blob_key"),
        ((files.config_blob_key, "acme/../globex/weights"), "weights_blob_key"),
        ((files.config_blob_key, ""), "weights_blob_key"),
    ):
        with pytest.raises(InvalidInput) as caught:
            await client.check(*wrong)
        assert caught.value.param == param
    with pytest.raises(NotFound):
        await client.check(files.config_blob_key, "acme/adapters/nothing")
    async with room.client(role=Role.CONTRIBUTOR) as contributor:
        with pytest.raises(PermissionDenied):
            await contributor.check(files.config_blob_key, files.weights_blob_key)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


async def test_a_restart_knows_what_is_blocked_before_it_answers(tmp_path: Path, strong: Path) -> None:
    state = tmp_path / "room"
    with running_generation(state, "scripted://?mode=echo") as room:
        async with room.client() as client, announcing(room) as announce:
            for name in ("kept", "blocked", "withheld"):
                await announce.adapter(name, 1, await announce.put(strong))
                await listed(client, name)
            await client.withhold(withheld=1)
    async with announcing(room) as announce:
        await announce.adapter("blocked", 2, status=BLOCKED, reason="by_hand")
    with running_generation(state, "scripted://?mode=echo") as room:
        async with room.client() as client:
            assert [model.name for model in await client.list()] == ["scripted-echo", "kept"]
            assert (await ask(client, "kept")).text().startswith("«kept»")
            assert "by_hand" in await refusal(client, "blocked")
            assert "withheld" in await refusal(client, "withheld")
