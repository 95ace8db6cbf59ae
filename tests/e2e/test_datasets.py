"""Datasets from the running rooms: the real index finds the passages, and chat sends the very prompts that rows hold."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest

from brain.generation.v1 import generation_pb2, generation_pb2_grpc
from brain.types.v1 import sampling_pb2
from examples.generate import generate
from services.chassis.auth import Caller, Role, TokenMinter
from services.chassis.errors import NotFound
from services.chassis.rpc.client import connect, remote
from services.finetuning.backends import generation, ingestion, retrieval
from services.finetuning.backends.prompt_files import read_writing
from services.finetuning.backends.tokenizer import FolderTokens
from services.finetuning.domain.building import BuildSpec, DatasetKind, Progress
from services.finetuning.domain.near_duplicates import question_in
from services.finetuning.domain.row_reading import read_rows
from services.finetuning.domain.rows import ChatRow, DocumentSource, RowKind
from services.finetuning.usecases.building import BuildDataset, Built
from services.finetuning.usecases.facts import FindFacts
from services.finetuning.usecases.reading import ReadRows
from services.finetuning.usecases.reading_sets import MakeReadingRows
from services.finetuning.usecases.sources import ReadSources
from services.finetuning.usecases.written_facts import WriteFacts
from services.layout.texts import read_layout
from services.layout.turns import Message
from tests.running_stack import RunningStack, indexed, new_collection
from tests.unit.services.finetuning.memory import MemoryJudgements
from tests.unit.services.finetuning.small_model import write_model

pytestmark = [pytest.mark.timeout(900)]

LAYOUT = read_layout()
MADE = generate(11, 60)
SECRET = {made.key for made in MADE[:10]}
# Wide enough that nothing is cut, whoever counts the tokens.
WINDOW = 16_384


@dataclass
class Company:
    """The stack with sixty documents, ten of which only the owner may read."""

    stack: RunningStack
    owner: httpx.Client
    collection: str


@pytest.fixture(scope="module")
def company(scripted_stack: RunningStack) -> Iterator[Company]:
    with scripted_stack.client(scripted_stack.key("trainer", role="trainer")) as owner:
        collection = new_collection(owner, "company")
        for made in MADE:
            query: list[tuple[str, str | int | float | bool | None]] = [
                ("collection", collection),
                ("filename", made.key.rpartition("/")[2]),
                ("key", made.key),
            ]
            if made.key not in SECRET:
                query.append(("access", "group:everyone"))
            answer = owner.post("/brain/v1/documents", params=query, content=made.text.encode())
            assert answer.status_code in {200, 202}, answer.text
        assert indexed(owner, collection, 60)["completed"] == 60
        yield Company(scripted_stack, owner, collection)


@dataclass
class Rooms:
    """The back ends of the finetuning room, acting for somebody."""

    files: ingestion.RemoteFiles
    documents: ingestion.RemoteDocuments
    passages: retrieval.RemotePassages
    models: generation.RemoteModels
    to_generation: grpc.aio.Channel
    token: Any

    async def build(self, spec: BuildSpec, tokens: FolderTokens) -> tuple[Built, list[Progress]]:
        heard: list[Progress] = []
        read = ReadRows(files=self.files)
        build = BuildDataset(
            documents=self.documents,
            judgements=MemoryJudgements(),
            files=self.files,
            read_rows=read,
            read_sources=ReadSources(documents=self.documents),
            find_facts=FindFacts(
                read_rows=read,
                write_facts=WriteFacts(
                    writer=self.models, passages=self.passages, writing=read_writing(), layout=LAYOUT
                ),
            ),
            make_reading_rows=MakeReadingRows(
                passages=self.passages, tokens=tokens, layout=LAYOUT, served_passages=5, window=WINDOW
            ),
            layout=LAYOUT,
        )
        return await build(spec, name="reading", report=heard.append), heard


@pytest.fixture
async def channels(company: Company) -> AsyncIterator[dict[str, grpc.aio.Channel]]:
    opened = {
        "ingestion": connect(company.stack.address("ingestion"), idempotent=ingestion.IDEMPOTENT),
        "retrieval": connect(company.stack.address("retrieval"), idempotent=retrieval.IDEMPOTENT),
        "generation": connect(company.stack.address("generation"), idempotent=generation.IDEMPOTENT),
    }
    yield opened
    for channel in opened.values():
        await channel.close()


def rooms_for(company: Company, channels: dict[str, grpc.aio.Channel], subject: str) -> Rooms:
    minter = TokenMinter((company.stack.state_dir / "keys" / "internal.pem").read_bytes(), issuer="finetuning")
    caller = Caller(subject, "main", frozenset(), frozenset({Role.TRAINER}))

    def token() -> str:
        return minter.mint(caller)

    return Rooms(
        ingestion.RemoteFiles(channels["ingestion"], timeout_s=30, transfer_timeout_s=60, token=token),
        ingestion.RemoteDocuments(channels["ingestion"], timeout_s=30, token=token),
        retrieval.RemotePassages(channels["retrieval"], timeout_s=30, token=token),
        generation.RemoteModels(
            channels["generation"], call_timeout_s=30, first_token_timeout_s=30, stall_timeout_s=30, token=token
        ),
        channels["generation"],
        token,
    )


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> FolderTokens:
    return FolderTokens(write_model(tmp_path_factory.mktemp("model")))


async def rows_of(rooms: Rooms, file_id: str) -> list[ChatRow]:
    pieces = [piece async for piece in rooms.files.download(file_id)]
    found = read_rows(pieces, RowKind.CHAT)
    assert found.errors == ()
    return [one.row for one in found.rows if isinstance(one.row, ChatRow)]


async def test_a_reading_set_of_more_than_a_hundred_rows_is_served_by_chat_as_it_is_trained(
    company: Company, channels: dict[str, grpc.aio.Channel], tokens: FolderTokens
) -> None:
    rooms = rooms_for(company, channels, "trainer")
    spec = BuildSpec(DatasetKind.RAFT, collection_ids=(company.collection,), max_rows=240, seed=5)
    built, heard = await rooms.build(spec, tokens)
    rows = await rows_of(rooms, built.training_file)
    held_out = await rows_of(rooms, built.held_out_file)
    assert len(rows) >= 180
    assert abs(sum(row.origin.extra["answerable"] for row in rows) - 0.8 * len(rows)) <= 1.5
    assert {one.step for one in heard} == {"documents", "questions", "passages", "rows", "files"}
    about = await rooms.files.about(built.training_file)
    assert (about.purpose, about.filename) == ("fine-tune", "reading-training.jsonl")

    same = asked = 0
    for row in [row for row in held_out if row.origin.extra["answerable"]][:8]:
        question = question_in(row.messages[-2].content, LAYOUT.question)
        body = {
            "model": "default",
            "temperature": 0,
            "messages": [{"role": "user", "content": question}],
            "collections": [company.collection],
        }
        answer = company.owner.post("/v1/chat/completions", json=body).json()
        receipt = company.owner.get(f"/brain/v1/receipts/{answer['receipt_id']}").json()
        asked += 1
        same += receipt["prompt_hash"] == await prompt_hash(rooms, row)
    # One row may hold a gold passage that the index alone does not show.
    assert asked >= 5
    assert same >= asked - 1


async def prompt_hash(rooms: Rooms, row: ChatRow) -> str:
    """The hash that the engine gives the prompt of a row."""
    turns = [sampling_pb2.Message(role=turn.role, content=turn.content) for turn in row.messages[:-1]]
    prompt = generation_pb2.Prompt(conversation=generation_pb2.Conversation(messages=turns))
    request = generation_pb2.GenerateRequest(prompt=prompt, sampling=sampling_pb2.Sampling(max_tokens=1))
    stub = generation_pb2_grpc.GenerationServiceStub(rooms.to_generation)
    with remote("generation", token=rooms.token()) as metadata:
        async for step in stub.Generate(request, timeout=30, metadata=metadata):
            return str(step.prompt_hash)
    raise AssertionError("the engine said nothing")


async def test_what_somebody_may_not_read_is_in_none_of_their_rows(
    company: Company, channels: dict[str, grpc.aio.Channel], tokens: FolderTokens
) -> None:
    rooms = rooms_for(company, channels, "mallory")
    listed = [one async for one in rooms.documents.of_collection(company.collection)]
    assert len(listed) == 50
    assert not {one.key for one in listed} & SECRET
    spec = BuildSpec(DatasetKind.RAFT, collection_ids=(company.collection,), max_rows=60, held_out_share=0.0)
    built, _ = await rooms.build(spec, tokens)
    rows = await rows_of(rooms, built.training_file)
    allowed = {one.document_id for one in listed}
    named = {source.document for row in rows for source in row.origin.sources if isinstance(source, DocumentSource)}
    assert named <= allowed
    names = [re.split(r"[\n#]+", made.text)[1].strip() for made in MADE if made.key in SECRET]
    said = "\n".join(turn.content for row in rows for turn in row.messages)
    assert not [name for name in names if name in said]
    owner = rooms_for(company, channels, "trainer")
    all_listed = [one async for one in owner.documents.of_collection(company.collection)]
    secret = [one for one in all_listed if one.key in SECRET]
    assert len(secret) == 10
    assert await rooms.documents.text(secret[0]) is None
    assert await rooms.documents.readable([secret[0].document_id, listed[0].document_id]) == {listed[0].document_id}
    text = await owner.documents.text(secret[0])
    assert text is not None
    assert text.sections
    assert text.text.startswith("# ")
    with pytest.raises(NotFound):
        await rooms.files.about((await owner.files.upload("x.jsonl", [b"{}\n"])).file_id)


async def test_files_go_and_come_back_in_pieces(company: Company, channels: dict[str, grpc.aio.Channel]) -> None:
    files = rooms_for(company, channels, "trainer").files
    data = [bytes([at % 251]) * 700_001 for at in range(5)]
    stored = await files.upload("rows.jsonl", data)
    assert stored.size_bytes == 3_500_005
    assert b"".join([piece async for piece in files.download(stored.file_id)]) == b"".join(data)
    await files.delete(stored.file_id)
    await files.delete(stored.file_id)
    with pytest.raises(NotFound):
        await files.about(stored.file_id)


async def test_models_write_sample_and_weigh(company: Company, channels: dict[str, grpc.aio.Channel]) -> None:
    models = rooms_for(company, channels, "trainer").models
    asked = [
        Message(
            "user",
            f'<document number="1" title="x">\n{MADE[0].text}\n</document>\n\nQuestion: {MADE[0].facts[0].phrasings[0]}',
        )
    ]
    written = await models.write(asked, model="", max_tokens=40, seed=1)
    assert written
    drawn = await models.sample(asked, model="", count=11, temperature=1.0, max_tokens=5, seed=2**63 + 5)
    assert len(drawn) == 11
    assert all(drawn)
    weighed = await models.logprobs(asked, ["A", "B B B"] * 40, model="")
    assert len(weighed) == 80
    assert weighed[0] == weighed[2] < 0
    with pytest.raises(NotFound):
        await models.write(asked, model="no-such-model", max_tokens=5, seed=1)
