"""GraderService as its callers meet it, with a generation and a retrieval room that answer on the wire."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from openai.types.fine_tuning.alpha import GraderRunResponse, GraderValidateResponse
from prometheus_client import CollectorRegistry

from brain.finetuning.v1 import grader_pb2, grader_pb2_grpc
from brain.generation.v1 import generation_pb2, generation_pb2_grpc
from brain.retrieval.v1 import embedding_pb2, embedding_pb2_grpc
from brain.types.v1 import sampling_pb2
from services.chassis.auth import ANYONE, Caller, Role, TokenMinter, TokenVerifier, current_caller, generate_key_pair
from services.chassis.errors import Internal, InvalidInput, NotFound, TooLarge
from services.chassis.rpc.client import connect, remote
from services.chassis.rpc.server import RpcServer, methods_of
from services.finetuning.api.graders import GraderServicer
from services.finetuning.backends.grader_embedder import RemoteEmbedder
from services.finetuning.backends.grader_judge import RemoteJudge
from services.finetuning.usecases.grading import GradeAnswer

TINA = Caller("tina", "acme", roles=frozenset({Role.TRAINER}))
JUDGE: dict[str, Any] = {
    "type": "score_model", "name": "judge", "model": "default",
    "input": [{"role": "user", "content": "How good is {{ sample.output_text }}?"}],
    "sampling_params": {"temperature": 0.5, "top_p": 0.9, "seed": 7, "max_completions_tokens": 12},
}  # fmt: skip
COSINE: dict[str, Any] = {
    "type": "text_similarity", "name": "meaning", "input": "{{ sample.output_text }}", "reference": "{{ item.text }}",
    "evaluation_metric": "cosine",
}  # fmt: skip


@dataclass
class Generation:
    """Answers in two steps what it is told; the rest of the service is not asked."""

    text: str = '{"result": 0.75}'
    silent: bool = False
    asked: list[Any] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def Score(self, request: Any, context: Any) -> Any:
        raise AssertionError("not asked")

    Tokenize = Detokenize = Score

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.asked.append(request)
        self.callers.append(current_caller())
        if request.model == "nobody":
            raise NotFound("model: there is no model 'nobody'.", param="model")
        usage = sampling_pb2.TokenUsage(prompt_tokens=30, cached_tokens=10, completion_tokens=0)
        yield generation_pb2.GenerateResponse(text=self.text[:5], model="smollm", usage=usage)
        try:
            await asyncio.sleep(3600 if self.silent else 0)
        finally:
            self.left.set()
        usage = sampling_pb2.TokenUsage(prompt_tokens=30, cached_tokens=10, completion_tokens=6)
        yield generation_pb2.GenerateResponse(
            text=self.text[5:], finish_reason=sampling_pb2.FINISH_REASON_STOP, usage=usage
        )


@dataclass
class Retrieval(embedding_pb2_grpc.EmbeddingServiceServicer):
    """Embeds every text as the first, or the second, axis."""

    dimension: int = 2

    async def Embed(self, request: Any, context: Any) -> Any:
        vectors = np.array([[1.0, 0.0] if "Bern" in text else [0.0, 1.0] for text in request.texts], dtype="<f4")
        return embedding_pb2.EmbedResponse(vectors=vectors.tobytes(), dimension=self.dimension)


@dataclass
class House:
    graders: Any
    generation: Generation
    retrieval: Retrieval
    token: str

    async def run(self, grader: Any, answer: str = "x", item: str = "") -> Any:
        request = grader_pb2.RunGraderRequest(grader_json=json.dumps(grader), model_sample=answer, item_json=item)
        with remote("finetuning", "RunGrader", token=self.token) as metadata:
            return await self.graders.RunGrader(request, timeout=30, metadata=metadata)

    async def validate(self, text: str) -> Any:
        with remote("finetuning", "ValidateGrader", token=self.token) as metadata:
            request = grader_pb2.ValidateGraderRequest(grader_json=text)
            return json.loads((await self.graders.ValidateGrader(request, timeout=30, metadata=metadata)).grader_json)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    private, public = generate_key_pair()
    servers: list[RpcServer] = []
    channels: list[grpc.aio.Channel] = []

    async def served(register: Any, servicer: object, service: str) -> grpc.aio.Channel:
        server = RpcServer(
            room=service.split(".")[1],
            listen="127.0.0.1:0",
            policy=dict.fromkeys(methods_of(service), ANYONE),
            verifier=TokenVerifier([public]),
            registry=CollectorRegistry(),
        )
        server.add(register, servicer, service)
        servers.append(server)
        channels.append(connect(await server.start()))
        return channels[-1]

    generation, retrieval = Generation(), Retrieval()
    judge = RemoteJudge(
        await served(
            generation_pb2_grpc.add_GenerationServiceServicer_to_server,
            generation,
            "brain.generation.v1.GenerationService",
        ),
        timeout_s=2.0,
    )
    embedder = RemoteEmbedder(
        await served(
            embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server, retrieval, "brain.retrieval.v1.EmbeddingService"
        ),
        timeout_s=10.0,
    )
    channel = await served(
        grader_pb2_grpc.add_GraderServiceServicer_to_server,
        GraderServicer(GradeAnswer(judge=judge, embedder=embedder)),
        "brain.finetuning.v1.GraderService",
    )
    stub: Any = grader_pb2_grpc.GraderServiceStub(channel)
    yield House(stub, generation, retrieval, TokenMinter(private, issuer="gateway").mint(TINA))
    for opened in channels:
        await opened.close()
    for server in servers:
        await server.stop(0)


async def test_a_grader_is_validated(house: House) -> None:
    document = await house.validate(json.dumps(JUDGE))
    assert document["range"] == [0, 1]
    GraderValidateResponse.model_validate({"grader": document})
    with pytest.raises(InvalidInput, match=r"grader.type: 'python' is not offered") as refused:
        await house.validate('{"type": "python", "name": "p", "source": "def grade(): return 1"}')
    assert refused.value.param == "grader.type"
    with pytest.raises(InvalidInput, match="grader: it is not JSON"):
        await house.validate("")


async def test_an_answer_is_graded_by_a_judge_with_the_callers_rights(house: House) -> None:
    answer = await house.run(JUDGE, "Bern")
    assert answer.reward == 0.75
    metadata = json.loads(answer.metadata_json)
    assert (metadata["sampled_model_name"], metadata["token_usage"]) == ("smollm", 36)
    assert metadata["model_grader_token_usage_per_model"]["smollm"]["cached_tokens"] == 10
    (asked,) = house.generation.asked
    assert asked.model == ""
    assert [turn.role for turn in asked.prompt.conversation.messages] == ["system", "user"]
    sampling = asked.sampling
    assert (sampling.temperature, sampling.seed, sampling.max_tokens) == (0.5, 7, 12)
    assert json.loads(sampling.json_schema)["properties"]["result"]["maximum"] == 1
    assert house.generation.callers == [TINA]


async def test_the_answer_is_the_one_that_the_sdk_reads(house: House) -> None:
    answer = await house.run(JUDGE, "Bern")
    metadata = json.loads(answer.metadata_json)
    per_model = metadata.pop("model_grader_token_usage_per_model")
    found = GraderRunResponse.model_validate(
        {
            "reward": answer.reward,
            "sub_rewards": dict(answer.sub_rewards),
            "metadata": metadata,
            "model_grader_token_usage_per_model": per_model,
        }
    )
    assert found.metadata.errors.api_model_grader_parse_error is False
    assert found.metadata.type == "score_model"


async def test_meaning_is_compared_by_retrievals_vectors(house: House) -> None:
    assert (await house.run(COSINE, "It is Bern", '{"text": "Bern"}')).reward == pytest.approx(1.0)
    assert (await house.run(COSINE, "Nobody knows", '{"text": "Bern"}')).reward == 0.0
    house.retrieval.dimension = 3
    with pytest.raises(Internal, match="another size"):
        await house.run(COSINE, "It is Bern", '{"text": "Bern"}')


async def test_parts_of_a_multi_grader_are_reported(house: House) -> None:
    multi = {"type": "multi", "graders": {"judge": JUDGE, "meaning": COSINE}, "calculate_output": "judge * meaning"}
    answer = await house.run(multi, "Bern", '{"text": "Bern"}')
    assert answer.reward == pytest.approx(0.75)
    assert dict(answer.sub_rewards) == pytest.approx({"judge": 0.75, "meaning": 1.0})


async def test_a_judge_that_is_silent_is_left_and_said(house: House) -> None:
    house.generation.silent = True
    answer = await house.run(JUDGE, "Bern")
    errors = json.loads(answer.metadata_json)["errors"]
    assert (answer.reward, errors["model_grader_server_error"]) == (0.0, True)
    assert errors["model_grader_server_error_details"]
    async with asyncio.timeout(30):
        await house.generation.left.wait()


async def test_a_judge_that_does_not_exist_is_named(house: House) -> None:
    with pytest.raises(NotFound, match="nobody") as missing:
        await house.run(JUDGE | {"model": "nobody"})
    assert missing.value.param == "model"


@pytest.mark.parametrize(
    ("item", "said"),
    [("[1]", "not a JSON object"), ("{", "not JSON"), ('{"a": ' + "[" * 70 + "]" * 70 + "}", "nests deeper than 64")],
)
async def test_a_row_that_is_none_is_refused(house: House, item: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"^item: .*{said}"):
        await house.run(COSINE, "x", item)


async def test_what_is_too_long_is_refused(house: House) -> None:
    with pytest.raises(TooLarge, match=r"^model_sample: 131073 characters are more than 131072"):
        await house.run(COSINE, "x" * 131_073)
    with pytest.raises(TooLarge, match=r"^item: "):
        await house.run(COSINE, "x", '{"text": "' + "x" * 262_144 + '"}')
