"""What every engine does with adapters that are announced: served, blocked, refused, while others are answered."""

import asyncio
import hashlib
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brain.events.v1 import adapter_pb2
from brain.generation.v1 import model_pb2
from brain.types.v1 import sampling_pb2 as types
from services.chassis.auth import Role
from services.chassis.blobs import open_blobs
from services.chassis.errors import BrainError, Conflict, InvalidInput, NotFound, PermissionDenied, TooLarge
from services.chassis.events.log import open_event_log
from tests.adapter_announcer import BLOCKED, DELETED, Announcer
from tests.generation_client import Answer, Client, GenerationRoom, conversation, running_generation
from tests.hostile_adapters import GOOD, GOOD_CONFIG, HOSTILE
from tests.tiny_adapter import CONFIG, write_adapter

QUESTION = conversation("What is the capital of France?")
# A room that runs already may have heard of the same names in a run before.
RUN = uuid.uuid4().hex[:8]
NAME = f"ft:base:acme:tiny:{RUN}"


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenerationRoom]:
    url = "scripted://?mode=echo&base_digest=aaaa&template_hash=bbbb"
    with running_generation(tmp_path_factory.mktemp("generation"), url) as room:
        yield room


@pytest.fixture(params=["scripted", pytest.param("vllm", marks=pytest.mark.engine)])
def room(request: pytest.FixtureRequest) -> GenerationRoom:
    fixture = {"scripted": "scripted", "vllm": "engine_room"}[request.param]
    return request.getfixturevalue(fixture)  # type: ignore[no-any-return]


@pytest.fixture
async def client(room: GenerationRoom) -> AsyncIterator[Client]:
    async with room.client() as client:
        yield client


@pytest.fixture
async def announce(room: GenerationRoom) -> AsyncIterator[Announcer]:
    async with announcing(room) as announcer, room.client(role=Role.ADMINISTRATOR) as client:
        yield announcer
        # The room is others' afterwards.
        await announcer.clear()
        for name in announcer.adapters:
            await listed(client, name, there=False)


@asynccontextmanager
async def announcing(room: GenerationRoom) -> AsyncIterator[Announcer]:
    log = open_event_log(f"sqlite:///{room.state_dir / 'events.db'}")
    try:
        yield Announcer(log, open_blobs(f"file://{room.state_dir / 'blobs'}"))
    finally:
        await log.close()


@pytest.fixture
def strong(tmp_path: Path) -> Path:
    return write_strong(tmp_path / "strong")


def write_strong(folder: Path, *, rank: int = 4) -> Path:
    """Write an adapter whose answers nobody takes for the base model's."""
    config = {"lora_alpha": 400, "target_modules": ["down_proj"]}
    return write_adapter(folder, rank=rank, config=config, layer="layers.15.mlp.down_proj", inner=1536)


async def base(client: Client) -> model_pb2.Model:
    return (await client.list())[0]


async def on_base(client: Client) -> dict[str, Any]:
    """What an announcement says of the base model when it fits."""
    model = await base(client)
    return {"base_model": model.name, "base_digest": model.base_digest, "template_hash": model.template_hash}


async def listed(client: Client, name: str, *, there: bool = True) -> None:
    async with asyncio.timeout(60):
        while (name in [model.name for model in await client.list()]) is not there:
            await asyncio.sleep(0.05)


async def ask(client: Client, model: str = "", **more: object) -> Answer:
    return await client.ask(QUESTION, model=model, **({"temperature": 0, "max_tokens": 10} | more))


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


async def test_hostile_adapters_are_refused_while_others_are_answered(
    room: GenerationRoom, client: Client, announce: Announcer, tmp_path: Path
) -> None:
    before, models = await ask(client), await client.list()
    gate = asyncio.Semaphore(12)

    async def plain(number: int) -> Answer:
        async with gate:
            return await ask(client, max_tokens=6, ignore_eos=True)

    others = [asyncio.create_task(plain(number)) for number in range(100)]
    refused = await looked_into(client, announce) + await announced(client, announce) + await by_hand(room, client)
    answers = await asyncio.gather(*others)
    assert refused >= 100
    assert [len(answer.ids()) for answer in answers] == [6] * 100
    assert {answer.last.finish_reason for answer in answers} == {types.FINISH_REASON_LENGTH}
    assert (await ask(client)).text() == before.text()
    assert await client.list() == models


async def looked_into(client: Client, announce: Announcer) -> int:
    """Each by itself: a typed error with the reason."""
    shapes = (await base(client)).engine == "vllm"
    cases = [hostile for hostile in HOSTILE if shapes or not hostile.shapes]
    for hostile in cases:
        files = await announce.put_bytes(hostile.config, hostile.weights)
        with pytest.raises(hostile.error) as caught:
            await client.check(files.config_blob_key, files.weights_blob_key)
        assert hostile.reason in caught.value.message, hostile.name
    return len(cases)


async def announced(client: Client, announce: Announcer) -> int:
    """All at once, as events; whoever asks for one is told why it is not served."""
    fits = await on_base(client)
    shapes = (await base(client)).engine == "vllm"
    good = await announce.put_bytes(GOOD_CONFIG, GOOD)
    faint = await announce.put_bytes(json.dumps(CONFIG | {"lora_alpha": 1e-12}).encode(), GOOD)
    foreign = Announcer(announce.log, announce.blobs, "globex")
    cases: list[tuple[str, adapter_pb2.AdapterState, dict[str, Any]]] = [
        ("changes nothing", faint, {}),
        ("other weights than announced", good, {"weights_digest": "0" * 64}),
        ("another configuration than announced", good, {"config_digest": hashlib.sha256(b"").hexdigest()}),
        ("no digest", good, {"weights_digest": ""}),
        ("a digest that is a path", good, {"config_digest": "../" * 20 + "etc"}),
        ("another base model", good, {"base_digest": "0" * 64}),
        ("an unknown base model", good, {"base_digest": ""}),
        ("another template", good, {"template_hash": "0" * 64}),
        ("no weights", good, {"weights_blob_key": "acme/adapters/nothing"}),
        (
            "another tenant's weights",
            good,
            {"weights_blob_key": (await foreign.put_bytes(b"{}", GOOD)).weights_blob_key},
        ),
        ("weights outside of the store", good, {"weights_blob_key": "acme/../../etc/passwd"}),
    ]
    cases += [
        (hostile.name, await announce.put_bytes(hostile.config, hostile.weights), {})
        for hostile in HOSTILE
        if shapes or not hostile.shapes
    ]
    for number, (_, state, changed) in enumerate(cases):
        await announce.adapter(f"bad-{RUN}-{number}", 1, state, **(fits | changed))
    for number, (what, _, _) in enumerate(cases):
        await told(client, f"bad-{RUN}-{number}", what)
    return len(cases)


async def told(client: Client, name: str, what: str) -> None:
    """Wait until an announcement has arrived, then see that it is refused for good."""
    async with asyncio.timeout(120):
        while (answer := await outcome(client, name)) is NotFound:
            await asyncio.sleep(0.05)
    assert answer is Conflict, what


async def outcome(client: Client, name: str) -> type[BrainError] | None:
    try:
        await ask(client, name, max_tokens=1)
    except BrainError as error:
        return type(error)
    return None


async def by_hand(room: GenerationRoom, client: Client) -> int:
    """In the folder itself, where there may be more than two files."""
    folder = room.adapters / f"by-hand-{RUN}"
    write_adapter(folder / "pickled").joinpath("adapter_model.bin").write_bytes(b"\x80\x04.")
    write_adapter(folder / "code").joinpath("modeling.py").write_text("import os")
    (write_adapter(folder / "sly") / "README.md").symlink_to("/etc/hostname")
    (folder / "link").symlink_to("/etc")
    inside = [f"{folder.name}/{name}" for name in ("pickled", "code", "sly", "link", "nothing-here", "../../keys")]
    paths = [*inside, "/etc", "../keys", "../../keys", "", "a\0b", "."]
    try:
        for path in paths:
            with pytest.raises(InvalidInput) as caught:
                await client.register(f"bad-{RUN}", path)
            assert caught.value.param == "path"
    finally:
        shutil.rmtree(folder)
    return len(paths)


async def test_weights_as_large_as_is_allowed_spoil_nothing_of_others(
    client: Client, announce: Announcer, tmp_path: Path
) -> None:
    """Each number is ordinary and the product is not: whatever comes of it, only who asked for it sees it."""
    before = await ask(client)
    tensors = {}
    for layer in range(30):
        for module, inner in (("self_attn.q_proj", 576), ("mlp.down_proj", 1536)):
            stem = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{stem}.lora_A.weight"] = np.full((4, inner), 6e4, np.float32)
            tensors[f"{stem}.lora_B.weight"] = np.full((576, 4), 6e4, np.float32)
    config = {"lora_alpha": 1e6, "target_modules": ["q_proj", "down_proj"]}
    name = f"huge-{RUN}"
    files = await announce.put(write_adapter(tmp_path / "huge", config=config, tensors=tensors))
    await announce.adapter(name, 1, files, **(await on_base(client)))
    async with asyncio.timeout(120):
        while await outcome(client, name) is NotFound:
            await asyncio.sleep(0.05)
    asking = asyncio.create_task(outcome(client, name))
    others = await asyncio.gather(*(ask(client) for _ in range(3)))
    await asking
    assert {answer.text() for answer in others} == {before.text()}
    assert (await ask(client)).text() == before.text()


async def test_too_large_weights_are_refused_before_they_are_fetched(tmp_path: Path, strong: Path) -> None:
    with running_generation(tmp_path / "room", "scripted://?mode=echo", max_adapter_bytes=4096) as room:
        async with room.client() as client, announcing(room) as announce:
            files = await announce.put(strong)
            with pytest.raises(TooLarge, match="4096"):
                await client.check(files.config_blob_key, files.weights_blob_key)
            await announce.adapter("big", 1, files)
            await told(client, "big", "too large")


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
