"""Who may call which RPC: every method of every room against each kind of principal, through the real admission.

The expectations below are written by hand, away from the rooms' policy tables: an RPC without a row here, or a row
without an RPC, fails the build, and so does a policy that says something else.
"""

import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.chassis.auth import Caller, Role, TokenMinter, TokenVerifier, WorkerMinter, at_least, generate_key_pair
from services.chassis.errors import InvalidInput, PermissionDenied, Unauthenticated
from services.chassis.rpc.interceptors import RoomInterceptor, RpcMetrics

ROOT = Path(__file__).resolve().parents[2]
# Packages of the proto tree that are no rooms.
NO_ROOMS = {"events", "types"}

# The least role for each RPC. Each is what its verb needs: read and ask (viewer), bring and change what is one's own
# (contributor), change what the engine serves (trainer).
EXPECTED: dict[str, Role] = {
    "/brain.chat.v1.ChatService/Chat": Role.VIEWER,
    "/brain.chat.v1.ConversationService/ListConversations": Role.VIEWER,
    "/brain.chat.v1.ConversationService/GetConversation": Role.VIEWER,
    "/brain.chat.v1.ConversationService/DeleteConversation": Role.VIEWER,
    "/brain.chat.v1.FeedbackService/GiveFeedback": Role.VIEWER,
    "/brain.chat.v1.FeedbackService/GetFeedback": Role.VIEWER,
    "/brain.chat.v1.FeedbackService/ListFeedback": Role.VIEWER,
    "/brain.chat.v1.FeedbackService/WithdrawFeedback": Role.VIEWER,
    "/brain.chat.v1.FeedbackService/ExportFeedback": Role.CURATOR,
    "/brain.chat.v1.FeedbackService/Agreement": Role.CURATOR,
    "/brain.chat.v1.FeedbackService/SampleAnswers": Role.CONTRIBUTOR,
    "/brain.chat.v1.FeedbackService/ListComparisons": Role.VIEWER,
    "/brain.chat.v1.FeedbackService/GetComparison": Role.VIEWER,
    "/brain.chat.v1.FeedbackService/RankAnswers": Role.VIEWER,
    "/brain.chat.v1.FeedbackService/DeleteComparison": Role.CONTRIBUTOR,
    "/brain.chat.v1.ReceiptService/GetReceipt": Role.VIEWER,
    "/brain.chat.v1.ReceiptService/ReplayReceipt": Role.VIEWER,
    "/brain.finetuning.v1.JobService/CreateJob": Role.TRAINER,
    "/brain.finetuning.v1.JobService/CheckJob": Role.TRAINER,
    "/brain.finetuning.v1.JobService/GetJob": Role.TRAINER,
    "/brain.finetuning.v1.JobService/ListJobs": Role.TRAINER,
    "/brain.finetuning.v1.JobService/CancelJob": Role.TRAINER,
    "/brain.finetuning.v1.JobService/PauseJob": Role.TRAINER,
    "/brain.finetuning.v1.JobService/ResumeJob": Role.TRAINER,
    "/brain.finetuning.v1.JobService/ListEvents": Role.TRAINER,
    "/brain.finetuning.v1.JobService/ListCheckpoints": Role.TRAINER,
    "/brain.finetuning.v1.DatasetService/BuildDataset": Role.TRAINER,
    "/brain.finetuning.v1.DatasetService/GetDataset": Role.TRAINER,
    "/brain.finetuning.v1.DatasetService/ListDatasets": Role.TRAINER,
    "/brain.finetuning.v1.DatasetService/DeleteDataset": Role.TRAINER,
    "/brain.finetuning.v1.AdapterService/ListAdapters": Role.TRAINER,
    "/brain.finetuning.v1.AdapterService/GetAdapter": Role.TRAINER,
    "/brain.finetuning.v1.AdapterService/ImportAdapter": Role.TRAINER,
    "/brain.finetuning.v1.AdapterService/BlockAdapter": Role.TRAINER,
    "/brain.finetuning.v1.AdapterService/AcceptAdapter": Role.ADMINISTRATOR,
    "/brain.finetuning.v1.AdapterService/DeleteAdapter": Role.TRAINER,
    "/brain.finetuning.v1.AdapterService/WithholdSources": Role.CONTRIBUTOR,
    "/brain.finetuning.v1.AdapterService/RetrainAdapter": Role.TRAINER,
    "/brain.finetuning.v1.PromotionService/Promote": Role.TRAINER,
    "/brain.finetuning.v1.PromotionService/GetPromotion": Role.TRAINER,
    "/brain.finetuning.v1.PromotionService/ListPromotions": Role.TRAINER,
    "/brain.finetuning.v1.PromotionService/Rollback": Role.TRAINER,
    "/brain.finetuning.v1.PromotionService/ListAliases": Role.TRAINER,
    "/brain.finetuning.v1.GraderService/ValidateGrader": Role.TRAINER,
    "/brain.finetuning.v1.GraderService/RunGrader": Role.TRAINER,
    "/brain.finetuning.v1.WebhookService/CreateWebhook": Role.ADMINISTRATOR,
    "/brain.finetuning.v1.WebhookService/ListWebhooks": Role.ADMINISTRATOR,
    "/brain.finetuning.v1.WebhookService/DeleteWebhook": Role.ADMINISTRATOR,
    "/brain.generation.v1.GenerationService/Generate": Role.VIEWER,
    "/brain.generation.v1.GenerationService/Score": Role.VIEWER,
    "/brain.generation.v1.GenerationService/Tokenize": Role.VIEWER,
    "/brain.generation.v1.GenerationService/Detokenize": Role.VIEWER,
    "/brain.generation.v1.ModelService/ListModels": Role.VIEWER,
    "/brain.generation.v1.ModelService/RegisterAdapter": Role.TRAINER,
    "/brain.generation.v1.ModelService/UnregisterAdapter": Role.TRAINER,
    "/brain.generation.v1.ModelService/CheckAdapter": Role.TRAINER,
    "/brain.generation.v1.ModelService/WithholdAdapters": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.CollectionService/CreateCollection": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.CollectionService/GetCollection": Role.VIEWER,
    "/brain.ingestion.v1.CollectionService/ListCollections": Role.VIEWER,
    "/brain.ingestion.v1.CollectionService/UpdateCollection": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.CollectionService/DeleteCollection": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/UploadDocument": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/AddFile": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/GetDocument": Role.VIEWER,
    "/brain.ingestion.v1.DocumentService/ListDocuments": Role.VIEWER,
    "/brain.ingestion.v1.DocumentService/UpdateDocument": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/SetAccess": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/GetDocumentText": Role.VIEWER,
    "/brain.ingestion.v1.DocumentService/DeleteDocument": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/GetDeletion": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.DocumentService/CancelDocument": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.FileBatchService/CreateFileBatch": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.FileBatchService/GetFileBatch": Role.VIEWER,
    "/brain.ingestion.v1.FileBatchService/CancelFileBatch": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.FileService/UploadFile": Role.CONTRIBUTOR,
    "/brain.ingestion.v1.FileService/GetFile": Role.VIEWER,
    "/brain.ingestion.v1.FileService/ListFiles": Role.VIEWER,
    "/brain.ingestion.v1.FileService/DownloadFile": Role.VIEWER,
    "/brain.ingestion.v1.FileService/DeleteFile": Role.CONTRIBUTOR,
    "/brain.retrieval.v1.EmbeddingService/Embed": Role.VIEWER,
    "/brain.retrieval.v1.RerankService/Rerank": Role.VIEWER,
    "/brain.retrieval.v1.SearchService/Search": Role.VIEWER,
    "/brain.retrieval.v1.SearchService/Explain": Role.VIEWER,
    "/brain.retrieval.v1.SearchService/ResolveSpans": Role.VIEWER,
    "/brain.retrieval.v1.WithholdService/WithholdDocument": Role.CONTRIBUTOR,
    "/brain.retrieval.v1.WithholdService/RestrictDocument": Role.CONTRIBUTOR,
}

# What a worker may ask for with the rights of the caller whose work it does; everything else is refused to it.
DELEGATED: dict[str, frozenset[str]] = {
    "finetuning": frozenset(
        {
            "/brain.generation.v1.GenerationService/Generate",
            "/brain.generation.v1.GenerationService/Score",
            "/brain.generation.v1.GenerationService/Tokenize",
            "/brain.generation.v1.ModelService/CheckAdapter",
            "/brain.generation.v1.ModelService/ListModels",
            "/brain.generation.v1.ModelService/WithholdAdapters",
            "/brain.ingestion.v1.DocumentService/GetDocument",
            "/brain.ingestion.v1.DocumentService/GetDocumentText",
            "/brain.ingestion.v1.DocumentService/ListDocuments",
            "/brain.ingestion.v1.FileService/DeleteFile",
            "/brain.ingestion.v1.FileService/DownloadFile",
            "/brain.ingestion.v1.FileService/GetFile",
            "/brain.ingestion.v1.FileService/UploadFile",
            "/brain.retrieval.v1.EmbeddingService/Embed",
            "/brain.retrieval.v1.RerankService/Rerank",
            "/brain.retrieval.v1.SearchService/Search",
        }
    )
}

PRIVATE, PUBLIC = generate_key_pair()
# A worker that may ask for something, and one whose key is known and that may ask for nothing.
WORKERS = {worker: generate_key_pair() for worker in ("finetuning", "evaluation")}
FOREIGN, _ = generate_key_pair()
# Principals that carry no token the room believes.
UNKNOWN = {
    "anonymous": "",
    "malformed token": "not.a.token",
    "foreign key": TokenMinter(FOREIGN, issuer="elsewhere").mint(Caller("eve", "acme", roles=frozenset(Role))),
    "expired token": TokenMinter(PRIVATE, issuer="gateway", lifetime_s=-3600).mint(
        Caller("late", "acme", roles=frozenset(Role))
    ),
    "worker's expired token": WorkerMinter(WORKERS["finetuning"][0], worker="finetuning", lifetime_s=-3600).mint(
        Caller("late", "acme", roles=frozenset(Role)), work="ftjob-1"
    ),
    "worker of another stack": WorkerMinter(FOREIGN, worker="finetuning").mint(
        Caller("eve", "acme", roles=frozenset(Role)), work="ftjob-1"
    ),
}
# Principals that are known: one for each role, one with none, and an administrator of another tenant (who may call
# what administrators may; that his tenant's data alone answers him is shown where the data is).
KNOWN: dict[str, Caller] = {
    **{role.value: Caller(role.value, "acme", roles=frozenset({role})) for role in Role},
    "no role": Caller("nobody", "acme"),
    "other tenant's administrator": Caller("boss", "globex", roles=frozenset({Role.ADMINISTRATOR})),
}


def rooms() -> list[str]:
    return sorted(
        folder.name
        for folder in (ROOT / "protos" / "brain").iterdir()
        if folder.is_dir() and folder.name not in NO_ROOMS
    )


def methods() -> Iterator[str]:
    """Every RPC of the generated code."""
    for room in rooms():
        for proto in sorted((ROOT / "protos" / "brain" / room).rglob("*.proto")):
            module = ".".join(proto.relative_to(ROOT / "protos").with_suffix("").parts)
            descriptor = importlib.import_module(f"{module}_pb2").DESCRIPTOR
            for service in descriptor.services_by_name.values():
                yield from (f"/{service.full_name}/{method.name}" for method in service.methods)


def policy_of(method: str) -> Any:
    return importlib.import_module(f"services.{method.split('.')[1]}.policy")


class Call:
    """What admission reads of a gRPC call."""

    def __init__(self, token: str, remaining_s: float | None = 5.0) -> None:
        self._token = token
        self._remaining_s = remaining_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token}"),) if self._token else ()

    def time_remaining(self) -> float | None:
        return self._remaining_s


def admission(method: str, registry: CollectorRegistry | None = None) -> RoomInterceptor:
    return RoomInterceptor(
        policy=policy_of(method).POLICY,
        verifier=TokenVerifier([PUBLIC], worker_keys={worker: public for worker, (_, public) in WORKERS.items()}),
        metrics=RpcMetrics(registry or CollectorRegistry()),
        max_deadline_s=900,
        delegates=getattr(policy_of(method), "DELEGATES", None),
    )


def test_every_rpc_has_a_row_and_every_row_an_rpc() -> None:
    assert sorted(methods()) == sorted(EXPECTED)


@pytest.mark.parametrize("room", rooms())
def test_a_policy_lists_the_rpcs_of_its_room_and_no_others(room: str) -> None:
    policy = importlib.import_module(f"services.{room}.policy").POLICY
    assert sorted(policy) == sorted(method for method in EXPECTED if method.split(".")[1] == room)


@pytest.mark.parametrize("method", sorted(EXPECTED))
def test_strangers_are_refused(method: str) -> None:
    for token in UNKNOWN.values():
        with pytest.raises(Unauthenticated):
            admission(method).admit(method, Call(token))  # type: ignore[arg-type]


@pytest.mark.parametrize("principal", sorted(KNOWN))
@pytest.mark.parametrize("method", sorted(EXPECTED))
def test_the_known_may_do_what_their_role_is_for(method: str, principal: str) -> None:
    caller = KNOWN[principal]
    call: Any = Call(TokenMinter(PRIVATE, issuer="gateway").mint(caller))
    if caller.may(at_least(EXPECTED[method])):
        assert admission(method).admit(method, call) == caller
    else:
        with pytest.raises(PermissionDenied):
            admission(method).admit(method, call)


def test_what_is_delegated_to_workers_are_rpcs() -> None:
    assert frozenset().union(*DELEGATED.values()) <= set(methods())


@pytest.mark.parametrize("room", rooms())
def test_a_room_delegates_what_is_written_here_and_nothing_else(room: str) -> None:
    written = {
        worker: mine
        for worker, listed in DELEGATED.items()
        if (mine := frozenset(method for method in listed if method.split(".")[1] == room))
    }
    assert getattr(importlib.import_module(f"services.{room}.policy"), "DELEGATES", {}) == written


@pytest.mark.parametrize("worker", sorted(DELEGATED))
def test_what_is_delegated_to_a_worker_is_what_it_calls(worker: str) -> None:
    called: set[tuple[str, str]] = set()
    for source in sorted((ROOT / "services" / worker / "backends").glob("*.py")):
        text = source.read_text()
        room = re.search(r'^_ROOM(?:: Final)? = "(\w+)"', text, re.MULTILINE)
        named = re.findall(r'remote\(_ROOM, "(\w+)"', text)
        assert room or not named, source
        called |= {(room[1], method) for method in named} if room else set()
    assert {(method.split(".")[1], method.rpartition("/")[2]) for method in DELEGATED[worker]} == called


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("method", sorted(EXPECTED))
def test_a_worker_may_do_for_a_caller_what_is_listed_and_the_caller_may(method: str, role: Role) -> None:
    caller = Caller(role.value, "acme", roles=frozenset({role}))
    for worker, (private, _) in WORKERS.items():
        call: Any = Call(WorkerMinter(private, worker=worker).mint(caller, work="ftjob-1"))
        if method in DELEGATED.get(worker, ()) and caller.may(at_least(EXPECTED[method])):
            assert admission(method).admit(method, call) == caller
        else:
            with pytest.raises(PermissionDenied):
                admission(method).admit(method, call)


@pytest.mark.parametrize("method", sorted(EXPECTED))
def test_a_workers_token_that_names_no_work_is_refused_everywhere_and_counted(method: str) -> None:
    private, _ = WORKERS["finetuning"]
    for token in (
        # Signed with the worker's key as the gateway signs: without a mark, whoever it says it is.
        TokenMinter(private, issuer="gateway").mint(KNOWN["administrator"]),
        WorkerMinter(private, worker="finetuning").mint(KNOWN["administrator"], work=""),
    ):
        call: Any = Call(token)
        with pytest.raises(PermissionDenied, match="for which work"):
            admission(method, registry := CollectorRegistry()).admit(method, call)
        assert registry.get_sample_value("brain_authz_denied_total", {"reason": "permission_denied"}) == 1


def test_an_rpc_that_no_policy_lists_is_refused() -> None:
    call: Any = Call(TokenMinter(PRIVATE, issuer="gateway").mint(KNOWN["administrator"]))
    with pytest.raises(PermissionDenied):
        admission("/brain.chat.v1.ChatService/Chat").admit("/brain.chat.v1.ChatService/Forget", call)


def test_a_call_without_a_deadline_is_refused() -> None:
    token = TokenMinter(PRIVATE, issuer="gateway").mint(KNOWN["administrator"])
    for remaining in (None, time.time()):
        with pytest.raises(InvalidInput, match="deadline"):
            admission("/brain.chat.v1.ChatService/Chat").admit(
                "/brain.chat.v1.ChatService/Chat",
                Call(token, remaining),  # type: ignore[arg-type]
            )
