"""What the room asks the engine about adapters, over the wire and in the name of a job's owner."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from brain.generation.v1 import generation_pb2, generation_pb2_grpc, model_pb2, model_pb2_grpc
from services.chassis.auth import Caller, Role, TokenVerifier, WorkerMinter, current_caller, generate_key_pair
from services.chassis.errors import BrainError, Conflict, NotFound, PermissionDenied, Unavailable
from services.chassis.rpc.client import connect
from services.chassis.rpc.server import RpcServer
from services.finetuning.backends.delegation import KeyedDelegation
from services.finetuning.backends.serving import RemoteServing
from services.generation.policy import DELEGATES, POLICY

TINA = Caller("tina", "acme", roles=frozenset({Role.TRAINER}))


@dataclass
class Models:
    """Lists what it is told to, and notes for whom."""

    listed: list[model_pb2.Model] = field(default_factory=lambda: [model_pb2.Model(name="base", max_adapter_rank=16)])
    asked_for: list[str] = field(default_factory=list)

    async def ListModels(self, request: Any, context: Any) -> model_pb2.ListModelsResponse:
        self.asked_for.append(current_caller().subject)
        return model_pb2.ListModelsResponse(models=self.listed)

    async def RegisterAdapter(self, request: Any, context: Any) -> Any:
        raise AssertionError("not asked")

    UnregisterAdapter = CheckAdapter = WithholdAdapters = RegisterAdapter


@dataclass
class Generation:
    """Says of every model that is not listed what it is told to say."""

    error: BrainError | None = None

    async def Tokenize(self, request: Any, context: Any) -> generation_pb2.TokenizeResponse:
        if self.error is not None:
            raise self.error
        return generation_pb2.TokenizeResponse(model=request.model)

    async def Score(self, request: Any, context: Any) -> Any:
        raise AssertionError("not asked")

    Generate = Detokenize = Score


@dataclass
class Engine:
    """The engine's room, and what asks it."""

    serving: RemoteServing
    models: Models
    generation: Generation


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    private, public = generate_key_pair()
    models, generation = Models(), Generation()
    server = RpcServer(
        room="generation",
        listen="127.0.0.1:0",
        policy=POLICY,
        verifier=TokenVerifier([], worker_keys={"finetuning": public}),
        registry=CollectorRegistry(),
        delegates=DELEGATES,
    )
    server.add(model_pb2_grpc.add_ModelServiceServicer_to_server, models, "brain.generation.v1.ModelService")
    server.add(
        generation_pb2_grpc.add_GenerationServiceServicer_to_server,
        generation,
        "brain.generation.v1.GenerationService",
    )
    channel = connect(await server.start())
    with KeyedDelegation(WorkerMinter(private, worker="finetuning")).acting_for(TINA, work="ftjob-1"):
        yield Engine(RemoteServing(channel, timeout_s=10), models, generation)
    await channel.close()
    await server.stop(0)


async def test_what_is_listed_is_served(engine: Engine) -> None:
    engine.models.listed.append(model_pb2.Model(name="ft:one", parent="base"))
    assert await engine.serving.serves("ft:one")
    assert engine.models.asked_for == ["tina"]
    assert (await engine.serving.limits()).max_rank == 16


@pytest.mark.parametrize("error", [None, NotFound("model: there is no model 'ft:one'.", param="model")])
async def test_what_is_loaded_or_not_heard_of_is_not_served_yet(engine: Engine, error: BrainError | None) -> None:
    engine.generation.error = error
    assert not await engine.serving.serves("ft:one")


@pytest.mark.parametrize(
    "error",
    [
        Conflict("model: 'ft:one' cannot be served (no_effect): …", param="model"),
        PermissionDenied("model: 'ft:one' is blocked (by_hand).", param="model"),
        Unavailable("The adapters are not known yet."),
    ],
)
async def test_why_an_adapter_is_not_served_is_said(engine: Engine, error: BrainError) -> None:
    engine.generation.error = error
    with pytest.raises(type(error)) as caught:
        await engine.serving.serves("ft:one")
    assert caught.value.message == error.message


async def test_an_alias_leads_where_the_engine_says(engine: Engine) -> None:
    engine.models.listed += [
        model_pb2.Model(name="ft:one", parent="base"),
        model_pb2.Model(name="support", parent="ft:one", alias=True),
    ]
    assert await engine.serving.leads("support") == "ft:one"
    # An adapter is no alias, whatever it was trained on.
    assert await engine.serving.leads("ft:one") == await engine.serving.leads("other") == ""
