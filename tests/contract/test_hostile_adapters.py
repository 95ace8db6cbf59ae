"""Adapters that must not be served: each engine refuses them while it answers others."""

import asyncio
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brain.events.v1 import adapter_pb2
from brain.types.v1 import sampling_pb2 as types
from services.chassis.errors import InvalidInput, NotFound, TooLarge
from tests.adapter_announcer import Announcer
from tests.generation_client import Answer, Client, GenerationRoom, running_generation
from tests.hostile_adapters import GOOD, GOOD_CONFIG, HOSTILE
from tests.served_adapters import RUN, announcing, ask, base, on_base, outcome, told
from tests.tiny_adapter import CONFIG, write_adapter


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
