"""What every engine must do, seen through the room's gRPC: the scripted one, and the real one (marked `engine`)."""

import asyncio
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from brain.types.v1 import sampling_pb2 as types
from services.chassis.auth import Role
from services.chassis.errors import Conflict, InvalidInput, NotFound, Overloaded, PermissionDenied, Unavailable
from services.chassis.models.folder import user_cache
from services.chassis.rpc.client import connect, is_serving
from tests.generation_client import Client, GenerationRoom, conversation, running_generation
from tests.tiny_adapter import write_adapter

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenerationRoom]:
    with running_generation(tmp_path_factory.mktemp("generation"), "scripted://?mode=echo&window=2048") as room:
        yield room


@pytest.fixture(params=["scripted", pytest.param("vllm", marks=pytest.mark.engine)])
def room(request: pytest.FixtureRequest) -> GenerationRoom:
    fixture = {"scripted": "scripted", "vllm": "engine_room"}[request.param]
    return request.getfixturevalue(fixture)  # type: ignore[no-any-return]


@pytest.fixture
async def client(room: GenerationRoom) -> AsyncIterator[Client]:
    async with room.client() as client:
        yield client


async def base(client: Client) -> str:
    return (await client.list())[0].name


async def test_a_stream_says_what_it_is_and_ends_with_a_reason(client: Client) -> None:
    answer = await client.ask(conversation(QUESTION), temperature=0, max_tokens=24)
    assert answer.text()
    assert answer.first.model == await base(client)
    assert len(answer.first.prompt_hash) == 64
    assert answer.first.usage.prompt_tokens > 0
    assert [message.finish_reason for message in answer.messages[:-1]] == [types.FINISH_REASON_UNSPECIFIED] * (
        len(answer.messages) - 1
    )
    assert answer.last.finish_reason in {types.FINISH_REASON_STOP, types.FINISH_REASON_LENGTH}
    assert answer.last.usage.completion_tokens == len(answer.ids())


async def test_text_arrives_while_it_is_produced(client: Client) -> None:
    answer = await client.ask(conversation("Count from one to ten in words."), temperature=0, max_tokens=6)
    assert len([message for message in answer.messages if message.text]) >= 2


async def test_greedy_and_seeded_draws_repeat(client: Client) -> None:
    greedy = [await client.ask(conversation(QUESTION), temperature=0, max_tokens=8) for _ in range(2)]
    assert greedy[0].ids() == greedy[1].ids()
    drawn = [await client.ask(conversation(QUESTION), temperature=1.2, seed=11, max_tokens=8) for _ in range(2)]
    assert drawn[0].ids() == drawn[1].ids()


async def test_max_tokens_cuts_and_ignore_eos_goes_on_until_then(client: Client) -> None:
    cut = await client.ask(conversation(QUESTION), temperature=0, max_tokens=3)
    assert (len(cut.ids()), cut.last.finish_reason) == (3, types.FINISH_REASON_LENGTH)
    on = await client.ask(conversation(QUESTION), temperature=0, max_tokens=40, ignore_eos=True)
    assert (len(on.ids()), on.last.finish_reason) == (40, types.FINISH_REASON_LENGTH)
    least = await client.ask(conversation(QUESTION), temperature=0, min_tokens=20, max_tokens=40)
    assert len(least.ids()) >= 20


async def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(client: Client) -> None:
    whole = (await client.ask(conversation(QUESTION), temperature=0, max_tokens=12)).text()
    stop = whole.split()[3]
    stopped = await client.ask(conversation(QUESTION), temperature=0, max_tokens=12, stop=[stop])
    assert stopped.text() == whole[: whole.index(stop)]
    assert stopped.last.finish_reason == types.FINISH_REASON_STOP


async def test_several_continuations_share_a_stream(client: Client) -> None:
    answer = await client.ask(conversation(QUESTION), n=3, temperature=0.9, seed=3, max_tokens=8)
    ends = [message.index for message in answer.messages if message.finish_reason]
    assert sorted(ends) == [0, 1, 2]
    assert all(answer.text(index) for index in range(3))


async def test_logprobs_come_with_every_token(client: Client) -> None:
    answer = await client.ask(conversation(QUESTION), temperature=0, max_tokens=8, logprobs=True, top_logprobs=3)
    logprobs = answer.logprobs()
    assert len(logprobs) == len(answer.ids())
    for found in logprobs:
        assert found.logprob <= 0
        assert len(found.top) == 3
        # Greedy: what was said is the likeliest.
        assert found.top[0].token_bytes == found.token_bytes
        assert [it.logprob for it in found.top] == sorted((it.logprob for it in found.top), reverse=True)
    assert b"".join(found.token_bytes for found in logprobs).startswith(answer.text().encode())


async def test_output_satisfies_a_json_schema(client: Client) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "big": {"type": "boolean"}},
        "required": ["city", "big"],
        "additionalProperties": False,
    }
    answer = await client.ask(
        conversation("Name a city as JSON."), temperature=0, max_tokens=100, json_schema=json.dumps(schema)
    )
    found = json.loads(answer.text())
    assert set(found) == {"city", "big"}
    assert isinstance(found["big"], bool)
    assert len(found["city"]) <= 12


async def test_a_schema_that_is_none_is_refused(client: Client) -> None:
    with pytest.raises(InvalidInput, match="json_schema") as caught:
        await client.ask(conversation(QUESTION), json_schema='{"type": ')
    assert caught.value.param == "json_schema"
    with pytest.raises(InvalidInput):
        await client.ask(conversation(QUESTION), max_tokens=8, json_schema='{"$ref": "#/$defs/missing"}')


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"temperature": 3.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"n": 9}, "n"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"min_tokens": 5, "max_tokens": 2}, "min_tokens"),
        ({"stop": [""]}, "stop"),
    ],
)
async def test_parameters_out_of_range_are_named(client: Client, wrong: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await client.ask(conversation(QUESTION), **wrong)  # type: ignore[arg-type]
    assert caught.value.param == param


async def test_a_prompt_beyond_the_window_is_refused_with_both_numbers(client: Client) -> None:
    counted = await client.tokenize("word " * 3000)
    with pytest.raises(InvalidInput, match=rf"{counted.context_window}") as caught:
        await client.ask("word " * 3000)
    assert str(len(counted.sequences[0].ids))[:2] in caught.value.message
    with pytest.raises(InvalidInput, match="messages"):
        await client.ask(conversation())


async def test_ids_and_text_are_the_same_prompt(client: Client) -> None:
    ids = list((await client.tokenize(QUESTION)).sequences[0].ids)
    by_ids = await client.ask(ids, temperature=0, max_tokens=4)
    by_text = await client.ask(QUESTION, temperature=0, max_tokens=4)
    expected = hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()
    assert by_ids.first.prompt_hash == by_text.first.prompt_hash == expected
    assert by_ids.ids() == by_text.ids()


@pytest.mark.parametrize(
    "text", ["", "plain words", "  spaces\n\nand lines \t", "naïve café 東京 🦊🏽", "a\u0301 zero\u200bwidth"]
)
async def test_tokens_turn_back_into_their_text(client: Client, text: str) -> None:
    counted = await client.tokenize(text, "second")
    assert await client.detokenize(list(counted.sequences[0].ids)) == text
    assert len(counted.sequences) == 2


async def test_a_conversation_is_as_long_as_tokenize_says(client: Client) -> None:
    turns = conversation("Hello there.", "Hello!", QUESTION, system="Be brief.")
    counted = await client.tokenize(conversation=turns)
    answer = await client.ask(turns, max_tokens=1)
    assert counted.conversation_tokens == answer.first.usage.prompt_tokens
    assert counted.context_window == 2048


async def test_scores_tell_likely_from_unlikely(client: Client) -> None:
    prompt = "The sun is hot. The ice is cold. The sun is hot. The ice is"
    likely, unlikely = await client.score(prompt, " cold", " xylophone")
    assert likely.logprob / likely.token_count > unlikely.logprob / unlikely.token_count
    for score in (likely, unlikely):
        assert score.token_count == len(score.token_logprobs) > 0
        assert score.logprob == pytest.approx(sum(score.token_logprobs), abs=1e-4)
    many = await client.score(prompt, *[f" word{number}" for number in range(8)])
    assert len(many) == 8
    for wrong in ([], [""], ["x"] * 65):
        with pytest.raises(InvalidInput) as caught:
            await client.score(prompt, *wrong)
        assert caught.value.param == "continuations"


async def test_thirty_two_streams_at_once_all_finish(client: Client, room: GenerationRoom) -> None:
    answers = await asyncio.gather(
        *(client.ask(conversation(f"Tell me about the number {n}."), seed=n, max_tokens=12) for n in range(32))
    )
    assert all(answer.last.finish_reason for answer in answers)
    assert all(answer.text() for answer in answers)
    await idle(room)


async def test_a_caller_that_leaves_ends_the_work(client: Client, room: GenerationRoom) -> None:
    before = room.metric("brain_tokens_total")
    stream = client.stream(conversation(QUESTION), temperature=0, max_tokens=1900, ignore_eos=True)
    async for _ in stream:
        break
    assert room.metric("brain_generation_inflight_requests") >= 1
    await stream.aclose()
    await idle(room)
    assert room.metric("brain_tokens_total") - before < 1900


async def test_the_prefix_cache_is_kept_apart_by_tenant(room: GenerationRoom) -> None:
    story = conversation("Once upon a time there was a fox. " * 20 + os.urandom(4).hex() + QUESTION)
    async with room.client("acme") as acme, room.client("globex") as globex:
        first = await acme.ask(story, max_tokens=1)
        again = await acme.ask(story, max_tokens=1)
        foreign = await globex.ask(story, max_tokens=1)
    assert again.last.usage.cached_tokens >= 64
    # The template's own beginning may have been read for that tenant before; the story was not.
    assert first.last.usage.cached_tokens == 0 or first.last.usage.cached_tokens <= 32
    assert foreign.last.usage.cached_tokens <= 32


async def test_models_that_do_not_exist_are_not_found(client: Client) -> None:
    with pytest.raises(NotFound) as caught:
        await client.ask(QUESTION, model="nobody", max_tokens=1)
    assert caught.value.param == "model"
    with pytest.raises(NotFound):
        await client.unregister("nobody")


@pytest.fixture
def adapter(room: GenerationRoom, engine_adapter: Path | None) -> Path:
    """A directory in the room's adapter folder: trained for the real engine, made by hand for the scripted one."""
    return engine_adapter or write_adapter(room.adapters / "tiny")


@pytest.fixture
def engine_adapter(request: pytest.FixtureRequest, room: GenerationRoom) -> Path | None:
    if "vllm" not in request.node.name:
        return None
    target = room.adapters / "trained"
    if not target.exists():
        model = next((user_cache() / "models").glob("smollm2-135m-instruct-????????????"))
        subprocess.run(
            [sys.executable, "-m", "tests.tiny_adapter", str(model), str(target)],
            check=True,
            cwd=ROOT,
            env=dict(os.environ) | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
    return target


async def test_an_adapter_answers_beside_the_base_in_the_same_batch(
    client: Client, room: GenerationRoom, adapter: Path
) -> None:
    before = await client.ask(conversation(QUESTION), temperature=0, max_tokens=10)
    registered = await client.register("tiny@1", adapter.name)
    try:
        assert registered.digest == hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
        assert registered.model.parent == await base(client)
        assert [model.name for model in await client.list()][1:] == ["tiny@1"]
        answers = await asyncio.gather(
            *(
                client.ask(conversation(QUESTION), model=model, temperature=0, max_tokens=10)
                for model in ("", "tiny@1", "", "tiny@1")
            )
        )
        assert answers[0].text() == answers[2].text() == before.text()
        assert answers[1].text() == answers[3].text() != before.text()
        assert answers[1].first.model == "tiny@1"
        # Registered again it is the same; another tenant neither sees nor may use it.
        assert (await client.register("tiny@1", str(adapter))).digest == registered.digest
        async with room.client("globex") as globex:
            assert len(await globex.list()) == 1
            with pytest.raises(NotFound):
                await globex.ask(QUESTION, model="tiny@1", max_tokens=1)
        scores = [(await client.score(QUESTION, " Paris", model=model))[0].logprob for model in ("", "tiny@1")]
        assert scores[0] != scores[1]
    finally:
        await client.unregister("tiny@1")
    with pytest.raises(NotFound):
        await client.ask(QUESTION, model="tiny@1", max_tokens=1)


async def test_adapters_that_cannot_be_served_are_refused(client: Client, room: GenerationRoom) -> None:
    write_adapter(room.adapters / "good")
    write_adapter(room.adapters / "big", rank=64)
    for path in ("../../keys", "/etc", "", "nothing-here", "big"):
        with pytest.raises(InvalidInput) as caught:
            await client.register("bad", path)
        assert caught.value.param == "path"
    for name in ("", "-x", "a b", "x" * 257, await base(client)):
        with pytest.raises(InvalidInput) as caught:
            await client.register(name, "good")
        assert caught.value.param == "name"
    async with room.client(role=Role.CURATOR) as curator:
        with pytest.raises(PermissionDenied):
            await curator.register("good", "good")
    assert len(await client.list()) == 1


async def test_other_weights_under_a_taken_name_are_a_conflict(tmp_path: Path) -> None:
    with running_generation(tmp_path, "scripted://?mode=echo") as room:
        one, other = write_adapter(room.adapters / "one"), write_adapter(room.adapters / "other", inner=64, outer=64)
        async with room.client() as client, room.client("globex") as globex:
            await client.register("same", one)
            with pytest.raises(Conflict):
                await client.register("same", other)
            await globex.register("same", other)
            await client.register("gone", other)
            await client.unregister("gone")
    # A restart serves again what was served, each to its tenant; what changed on disk is left out.
    write_adapter(tmp_path / "generation" / "adapters" / "other", inner=32, outer=32)
    with running_generation(tmp_path, "scripted://?mode=echo") as room:
        async with room.client() as client, room.client("globex") as globex:
            assert [model.name for model in await client.list()] == ["scripted-echo", "same"]
            assert [model.name for model in await globex.list()] == ["scripted-echo"]
            assert "«same»" in (await client.ask(QUESTION, model="same")).text()


async def test_a_full_room_says_when_to_come_again(tmp_path: Path) -> None:
    with running_generation(tmp_path, "scripted://?mode=paced&rate=20&tokens=400", max_inflight=2) as room:
        async with room.client() as client:
            streams = [client.stream(QUESTION) for _ in range(2)]
            for stream in streams:
                await anext(stream)
            with pytest.raises(Overloaded) as caught:
                await client.ask(QUESTION)
            assert caught.value.retry_after_s
            for stream in streams:
                await stream.aclose()
            await idle(room)
            assert (await client.ask(QUESTION, max_tokens=1)).text()


async def test_a_stream_finishes_while_the_room_ends(tmp_path: Path) -> None:
    with running_generation(tmp_path, "scripted://?mode=paced&rate=20&tokens=40", drain_s=60) as room:
        async with room.client() as client, room.client() as late:
            stream = client.stream(QUESTION)
            messages = [await anext(stream)]
            os.kill(room.pid, signal.SIGTERM)
            async with connect(room.address) as probe:
                while await is_serving(probe):
                    await asyncio.sleep(0.05)
            with pytest.raises(Unavailable):
                await late.ask(QUESTION)
            messages += [message async for message in stream]
    assert messages[-1].finish_reason == types.FINISH_REASON_STOP
    assert messages[-1].usage.completion_tokens == 40


async def idle(room: GenerationRoom) -> None:
    """Wait until the room has nothing to do."""
    for _ in range(300):
        if room.metric("brain_generation_inflight_requests") == 0:
            return
        await asyncio.sleep(0.1)
    pytest.fail("The room is still busy.")
