"""The routes of feedback and comparisons, before a chat room that only remembers what it is asked."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry

from brain.chat.v1 import chat_pb2, feedback_pb2, feedback_pb2_grpc
from brain.types.v1 import sampling_pb2
from gateway.bootstrap.serving import Assembled, assemble
from gateway.domain.identity import KeyGrant
from gateway.settings import GatewaySettings
from services.chassis.auth import ANYONE, Role, TokenVerifier
from services.chassis.errors import NotFound, Unavailable
from services.chassis.rpc.server import RpcServer, methods_of
from tests.asgi_client import Client

SERVICE = "brain.chat.v1.FeedbackService"
NOON = Timestamp(seconds=1_795_694_400)
GIVEN = feedback_pb2.Feedback(
    feedback_id="fb_1",
    kind=feedback_pb2.FEEDBACK_KIND_EDIT,
    receipt_id="rcpt_1",
    rater="user:ann",
    created_at=NOON,
    model="support@7",
    asked_model="support",
    collection_ids=["vs_1"],
    sources=[feedback_pb2.JudgedSource(document_id="doc_1", version=2)],
    available=True,
    question="How long?",
    answers=[feedback_pb2.JudgedAnswer(text="22 weeks.")],
    edited="26 weeks.",
)
COMPARISON = feedback_pb2.Comparison(
    comparison_id="cmp_1",
    created_at=NOON,
    messages=[sampling_pb2.Message(role="user", content="How long?")],
    answers=[
        feedback_pb2.ComparedAnswer(answer_id="ans_b", text="26 weeks."),
        feedback_pb2.ComparedAnswer(answer_id="ans_a", text="22 weeks."),
    ],
    own=True,
)
ROWS = ['{"messages":[],"label":true}', '{"messages":[{"role":"user","content":"one\u2028two"}],"label":false}']


@dataclass
class ChatRoom(feedback_pb2_grpc.FeedbackServiceServicer):
    """Remembers requests, and answers always the same."""

    asked: list[Any] = field(default_factory=list)
    breaks_off: bool = False

    async def GiveFeedback(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return feedback_pb2.GiveFeedbackResponse(feedback=GIVEN, replaced_id="fb_0")

    async def GetFeedback(self, request: Any, context: Any) -> Any:
        if request.feedback_id != "fb_1":
            raise NotFound(f"No feedback {request.feedback_id!r}.", param="feedback_id")
        hidden = feedback_pb2.Feedback(answers=[feedback_pb2.JudgedAnswer()], kind=GIVEN.kind, feedback_id="fb_1")
        return feedback_pb2.GetFeedbackResponse(feedback=hidden)

    async def ListFeedback(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return feedback_pb2.ListFeedbackResponse(feedback=[GIVEN], has_more=True)

    async def WithdrawFeedback(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return feedback_pb2.WithdrawFeedbackResponse()

    async def ExportFeedback(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.asked.append(request)
        yield feedback_pb2.ExportFeedbackResponse(counts=feedback_pb2.ExportCounts(judgements=3, unreadable=1))
        for row in ROWS:
            yield feedback_pb2.ExportFeedbackResponse(row_json=row)
            if self.breaks_off:
                raise Unavailable("The database is not available.")

    async def Agreement(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        thumbs = feedback_pb2.AgreementScore(
            status=feedback_pb2.AGREEMENT_STATUS_MEASURED, alpha=0.5, low=0.25, high=0.75, raters=2, units=9,
            pairable_values=18, values=30,
        )  # fmt: skip
        rankings = feedback_pb2.AgreementScore(status=feedback_pb2.AGREEMENT_STATUS_NOT_ENOUGH_OVERLAP, values=3)
        return feedback_pb2.AgreementResponse(thumbs=thumbs, rankings=rankings)

    async def SampleAnswers(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        usage = sampling_pb2.TokenUsage(prompt_tokens=20, completion_tokens=7)
        used = feedback_pb2.ModelUsage(model="base", usage=usage)
        return feedback_pb2.SampleAnswersResponse(comparison=COMPARISON, usages=[used])

    async def ListComparisons(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return feedback_pb2.ListComparisonsResponse(comparisons=[COMPARISON])

    async def GetComparison(self, request: Any, context: Any) -> Any:
        return feedback_pb2.GetComparisonResponse(comparison=COMPARISON)

    async def RankAnswers(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return feedback_pb2.RankAnswersResponse(feedback=GIVEN)

    async def DeleteComparison(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return feedback_pb2.DeleteComparisonResponse(rankings_removed=2)


@dataclass
class Front:
    """A gateway before that room, with a client for each role."""

    room: ChatRoom
    made: Assembled
    client: Callable[[Role], Awaitable[Client]]

    async def ask(self, method: str, path: str, body: Any = None, role: Role = Role.CURATOR) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        return await (await self.client(role)).ask(method, f"/brain/v1/{path}", data)


@pytest.fixture
async def front(settings_in: Callable[..., GatewaySettings], tmp_path: Path) -> AsyncIterator[Front]:
    settings = settings_in(tmp_path)
    private = load_pem_private_key(settings.token_private_key_file.read_bytes(), None)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    room = ChatRoom()
    server = RpcServer(
        room="chat",
        listen="127.0.0.1:0",
        policy=dict.fromkeys(methods_of(SERVICE), ANYONE),
        verifier=TokenVerifier([public]),
        registry=CollectorRegistry(),
    )
    server.add(feedback_pb2_grpc.add_FeedbackServiceServicer_to_server, room, SERVICE)
    address = await server.start()
    made = await assemble(settings.model_copy(update={"chat_address": address}), CollectorRegistry())

    async def client(role: Role) -> Client:
        grant = KeyGrant(tenant="acme", subject=role.value, roles=frozenset({role}))
        return Client(made.app, (await made.services.keys.create(grant))[1])

    yield Front(room, made, client)
    await made.close()
    await server.stop(0)


async def test_thumbs_and_edits_are_given(front: Front) -> None:
    answer = await front.ask("POST", "feedback", {"receipt_id": "rcpt_1", "thumb": "down", "comment": "No."})
    assert answer.status == 201
    assert answer.json() == {
        "id": "fb_1",
        "kind": "edit",
        "receipt_id": "rcpt_1",
        "comparison_id": None,
        "rater": "user:ann",
        "created_at": "2026-11-26T12:00:00+00:00",
        "model": "support@7",
        "asked_model": "support",
        "collections": ["vs_1"],
        "sources": [{"document": "doc_1", "version": 2}],
        "available": True,
        "question": "How long?",
        "answers": [{"text": "22 weeks.", "rank": None}],
        "edited": "26 weeks.",
        "comment": None,
        "replaced": "fb_0",
    }
    thumb = front.room.asked[-1]
    assert (thumb.kind, thumb.comment) == (feedback_pb2.FEEDBACK_KIND_THUMB_DOWN, "No.")
    await front.ask("POST", "feedback", {"receipt_id": "rcpt_1", "edited": "26 weeks."}, Role.VIEWER)
    edit = front.room.asked[-1]
    assert (edit.kind, edit.edited) == (feedback_pb2.FEEDBACK_KIND_EDIT, "26 weeks.")


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "feedback", {"thumb": "up"}, "receipt_id"),
        ("POST", "feedback", {"receipt_id": "rcpt_1"}, "thumb"),
        ("POST", "feedback", {"receipt_id": "rcpt_1", "thumb": "up", "edited": "x"}, "thumb"),
        ("POST", "feedback", {"receipt_id": "rcpt_1", "thumb": "sideways"}, "thumb"),
        ("GET", "feedback?kind=stars", None, "kind"),
        ("GET", "feedback?rater=bert", None, "rater"),
        ("GET", "feedback?limit=0", None, "limit"),
        ("POST", "feedback/export", {"kind": ["stars"]}, "kind[0]"),
        ("GET", "agreement?since=yesterday", None, "since"),
        ("GET", "agreement?since=0001-01-01T00:00:00%2B05:00", None, "since"),
        ("POST", "comparisons", {}, "question"),
        ("POST", "comparisons", {"question": "x", "messages": [{"role": "user", "content": "x"}]}, "question"),
        ("POST", "comparisons", {"question": "x", "answers": 5}, "answers"),
        ("POST", "comparisons", {"question": "x", "temperature": 0}, "temperature"),
        ("POST", "comparisons", {"question": "x", "raters": ["all"]}, "raters[0]"),
        ("POST", "comparisons/cmp_1/rank", {"ranks": []}, "ranks"),
        ("POST", "comparisons/cmp_1/rank", {"ranks": [{"answer_id": "a", "rank": 0}] * 2}, "ranks[0].rank"),
    ],
)
async def test_a_wrong_field_is_named(front: Front, method: str, path: str, body: Any, param: str) -> None:
    answer = await front.ask(method, path, body)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert front.room.asked == []


async def test_a_list_is_narrowed_and_goes_on(front: Front) -> None:
    query = "kind=thumb_up&kind=edit&collection=vs_1&model=support&rater=user:ann&since=2026-11-01T00:00:00Z&after=fb_9"
    answer = await front.ask("GET", f"feedback?limit=5&{query}")
    assert (answer.json()["has_more"], answer.json()["next"]) == (True, "fb_1")
    asked = front.room.asked[-1]
    assert list(asked.filter.kinds) == [feedback_pb2.FEEDBACK_KIND_THUMB_UP, feedback_pb2.FEEDBACK_KIND_EDIT]
    assert (asked.filter.collection_id, asked.filter.model, asked.filter.rater) == ("vs_1", "support", "user:ann")
    assert asked.filter.since.ToJsonString() == "2026-11-01T00:00:00Z"
    assert not asked.filter.HasField("until")
    assert (asked.limit, asked.after) == (5, "fb_9")


async def test_what_may_not_be_read_is_null_and_what_is_not_there_is_404(front: Front) -> None:
    hidden = (await front.ask("GET", "feedback/fb_1")).json()
    assert hidden["available"] is False
    assert (hidden["question"], hidden["answers"], hidden["edited"]) == (None, [{"text": None, "rank": None}], None)
    missing = await front.ask("GET", "feedback/fb_2")
    assert (missing.status, missing.json()["error"]["param"]) == (404, "feedback_id")
    assert (await front.ask("DELETE", "feedback/fb_1")).json() == {"id": "fb_1", "deleted": True}


async def test_an_export_is_json_lines_with_its_counts_in_the_head(front: Front) -> None:
    answer = await front.ask("POST", "feedback/export", {"kind": "thumb_up", "collection": "vs_1"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert (answer.headers["x-brain-judgements"], answer.headers["x-brain-unreadable"]) == ("3", "1")
    # One line to every reader, whatever stands in a text.
    assert [json.loads(line) for line in answer.body.decode().splitlines()] == [json.loads(row) for row in ROWS]
    assert list(front.room.asked[-1].filter.kinds) == [feedback_pb2.FEEDBACK_KIND_THUMB_UP]


async def test_an_export_is_written_down(front: Front) -> None:
    await front.ask("POST", "feedback/export", {})
    entries = await front.made.services.audit.read("acme", limit=10)
    assert [(one.action, one.subject, one.status) for one in entries] == [
        ("POST /brain/v1/feedback/export", "curator", 200)
    ]


async def test_an_export_that_breaks_off_does_not_look_whole(front: Front) -> None:
    front.room.breaks_off = True
    answer = await front.ask("POST", "feedback/export", {})
    assert len(answer.body.splitlines()) == 1
    assert not answer.is_complete


async def test_agreement_has_a_number_or_says_why_not(front: Front) -> None:
    told = (await front.ask("GET", "agreement?collection=vs_1&until=2026-12-01T00:00:00Z")).json()
    assert told["thumbs"] == {
        "status": "measured",
        "level": "nominal",
        "alpha": 0.5,
        "interval": [0.25, 0.75],
        "raters": 2,
        "units": 9,
        "pairable_values": 18,
        "values": 30,
    }
    assert (told["rankings"]["status"], told["rankings"]["alpha"]) == ("not_enough_overlap", None)
    assert front.room.asked[-1].collection_id == "vs_1"


async def test_answers_are_sampled_metered_and_shown_without_names(front: Front) -> None:
    body = {
        "question": "How long?", "models": ["default", "ft:pirate"], "answers": 3, "temperature": 0.9, "seed": 4,
        "grounding": "open", "raters": ["group:raters"], "max_tokens": 50,
    }  # fmt: skip
    answer = await front.ask("POST", "comparisons", body, Role.CONTRIBUTOR)
    assert answer.status == 201
    made = answer.json()
    assert (made["id"], made["own"], made["feedback_id"]) == ("cmp_1", True, None)
    assert made["answers"] == [{"id": "ans_b", "text": "26 weeks."}, {"id": "ans_a", "text": "22 weeks."}]
    assert "base" not in answer.body.decode()
    asked = front.room.asked[-1]
    assert list(asked.models) == ["", "ft:pirate"]
    assert (asked.answers, asked.sampling.seed, asked.sampling.max_tokens) == (3, 4, 50)
    assert asked.sampling.temperature == pytest.approx(0.9)
    assert asked.grounding == chat_pb2.GROUNDING_OPEN
    assert list(asked.raters) == ["group:raters"]
    await front.made.ledger.flush()
    (spent,) = await front.made.services.meter.usage("acme", since=datetime(2000, 1, 1, tzinfo=UTC))
    assert (spent.model, spent.prompt_tokens, spent.completion_tokens) == ("base", 20, 7)


async def test_comparisons_are_listed_ranked_and_deleted(front: Front) -> None:
    page = (await front.ask("GET", "comparisons?collection=vs_1", role=Role.VIEWER)).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (["cmp_1"], False)
    assert (await front.ask("GET", "comparisons/cmp_1", role=Role.VIEWER)).json()["messages"] == [
        {"role": "user", "content": "How long?"}
    ]
    ranks = [{"answer_id": "ans_a", "rank": 2}, {"answer_id": "ans_b", "rank": 1}]
    answer = await front.ask("POST", "comparisons/cmp_1/rank", {"ranks": ranks, "comment": "Clear."}, Role.VIEWER)
    assert (answer.status, answer.json()["replaced"]) == (201, None)
    asked = front.room.asked[-1]
    assert [(one.answer_id, one.rank) for one in asked.ranks] == [("ans_a", 2), ("ans_b", 1)]
    assert (asked.comparison_id, asked.comment) == ("cmp_1", "Clear.")
    gone = await front.ask("DELETE", "comparisons/cmp_1")
    assert gone.json() == {"id": "cmp_1", "deleted": True, "rankings": 2}
