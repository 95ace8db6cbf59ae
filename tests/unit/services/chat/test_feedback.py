"""Feedback from outside: who may judge what, what is kept and told of it, and what others see."""

from pathlib import Path
from typing import Any

import pytest

from brain.chat.v1 import chat_pb2, conversation_pb2, feedback_pb2, receipt_pb2
from brain.events.v1 import answer_pb2
from brain.events.v1 import feedback_pb2 as events
from services.chassis.errors import InvalidInput, NotFound, PermissionDenied, Unavailable
from tests.unit.services.chat.perks import ANNA, ANSWER, BERT, CHIEF, CLARA, QUESTION, STRANGER, TOM

BETTER = "Up to $1,000 a year, gym memberships and yoga classes included."


async def asked(room: Any, a_request: Any, *turns: str, caller: Any = ANNA, **fields: Any) -> str:
    heard = await room.ask(a_request(*(turns or (QUESTION,)), **fields), caller)
    return str(heard.finished.receipt_id)


async def test_a_thumb_is_kept_told_and_read_by_other_rooms(room: Any, a_request: Any) -> None:
    receipt = await asked(room, a_request, system="Be brief.")
    given = (await room.judge(receipt, "THUMB_UP", comment="  Right. ")).feedback
    assert given.rater == "user:anna"
    assert (given.question, given.answers[0].text, given.comment) == (QUESTION, ANSWER, "Right.")
    assert given.available
    assert [source.document_id for source in given.sources] == ["doc_perks"]

    (told,) = await room.told("feedback", 1)
    assert (told.feedback_id, told.receipt_id) == (given.feedback_id, receipt)
    assert told.kind == events.FEEDBACK_KIND_THUMB_UP
    assert (told.model, told.asked_model) == ("base", "base")
    assert list(told.collection_ids) == ["vs_1"]
    assert [(source.document_id, source.version) for source in told.sources] == [("doc_perks", 1)]

    content = events.FeedbackContent.FromString((room.folder / "blobs" / told.blob_key).read_bytes())
    assert [(turn.role, turn.content) for turn in content.turns] == [("system", "Be brief."), ("user", QUESTION)]
    assert list(content.answers) == [ANSWER]
    assert (content.comment, content.rater, list(content.ranks)) == ("Right.", "user:anna", [])
    assert room.metric("brain_feedback_total", kind="thumb_up") == 1


async def test_events_carry_no_text(room: Any, a_request: Any) -> None:
    receipt = await asked(room, a_request)
    await room.judge(receipt, "EDIT", edited=BETTER, comment="Too short, says Zebediah.")
    await room.told("feedback", 1)
    await room.told("answer", 1)
    log = b"".join(path.read_bytes() for path in room.folder.glob("events.db*"))
    assert receipt.encode() in log
    for text in (b"gym", b"yoga", b"Zebediah"):
        assert text not in log


async def test_a_later_thumb_takes_the_place_of_the_earlier_and_leaves_edits_alone(room: Any, a_request: Any) -> None:
    receipt = await asked(room, a_request)
    first = (await room.judge(receipt, "THUMB_UP")).feedback.feedback_id
    edit = (await room.judge(receipt, "EDIT", edited=BETTER)).feedback.feedback_id
    again = await room.judge(receipt, "THUMB_DOWN", comment="On second thought.")
    assert again.replaced_id == first
    second = again.feedback.feedback_id
    assert [one.feedback_id for one in (await room.listed()).feedback] == [second, edit]
    told = await room.told("feedback", 4)
    # The earlier one is taken back before the later one is given, so that nobody counts both.
    assert [(type(one).__name__, one.feedback_id) for one in told] == [
        ("FeedbackGiven", first),
        ("FeedbackGiven", edit),
        ("FeedbackWithdrawn", first),
        ("FeedbackGiven", second),
    ]
    assert sorted(path.stem for path in room.blobs()) == sorted([edit, second])


async def test_only_who_may_read_a_receipt_may_judge_its_answer(room: Any, a_request: Any) -> None:
    receipt = await asked(room, a_request)
    for caller in (BERT, CLARA, STRANGER):
        with pytest.raises(NotFound):
            await room.judge(receipt, "THUMB_UP", caller)
    assert (await room.judge(receipt, "THUMB_DOWN", CHIEF)).feedback.rater == "user:chief"
    # One blob, and it lies in the tenant's own folder.
    assert [path.parent.relative_to(room.folder) for path in room.blobs()] == [Path("blobs/acme/feedback")]


@pytest.mark.parametrize(
    ("kind", "said", "param"),
    [
        ("EDIT", {}, "edited"),
        ("EDIT", {"edited": f" {ANSWER}\n"}, "edited"),
        ("EDIT", {"edited": "x" * 32_001}, "edited"),
        ("THUMB_UP", {"edited": BETTER}, "edited"),
        ("THUMB_UP", {"comment": "x" * 4_001}, "comment"),
        ("RANKING", {}, "kind"),
        ("UNSPECIFIED", {}, "kind"),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_name(
    room: Any, a_request: Any, kind: str, said: dict[str, str], param: str
) -> None:
    receipt = await asked(room, a_request)
    with pytest.raises(InvalidInput) as refused:
        await room.judge(receipt, kind, **said)
    assert refused.value.param == param
    assert refused.value.message.startswith(f"{param}: ")
    assert room.blobs() == []


async def test_people_see_their_own_and_curators_all(room: Any, a_request: Any) -> None:
    for caller in (ANNA, BERT):
        await room.judge(await asked(room, a_request, caller=caller), "THUMB_UP", caller)
    plain = await asked(room, a_request, "Hello?", collections=(), caller=BERT, store=True)
    berts = (await room.judge(plain, "THUMB_DOWN", BERT)).feedback.feedback_id

    assert {one.rater for one in (await room.listed()).feedback} == {"user:anna"}
    assert {one.rater for one in (await room.listed(CLARA)).feedback} == {"user:anna", "user:bert"}
    assert list((await room.listed(STRANGER)).feedback) == []
    with pytest.raises(PermissionDenied):
        await room.listed(rater="user:bert")
    wanted = feedback_pb2.GetFeedbackRequest(feedback_id=berts)
    assert (await room.call(room.feedback.GetFeedback, wanted, CLARA)).feedback.question == "Hello?"
    for caller in (ANNA, TOM, STRANGER):
        with pytest.raises(NotFound):
            await room.call(room.feedback.GetFeedback, wanted, caller)


async def test_lists_are_narrowed_and_paged(room: Any, a_request: Any) -> None:
    ids = []
    for kind in ("THUMB_UP", "THUMB_DOWN", "EDIT"):
        said = {"edited": BETTER} if kind == "EDIT" else {}
        ids.append((await room.judge(await asked(room, a_request), kind, **said)).feedback.feedback_id)
    plain = await asked(room, a_request, "Hello?", collections=(), caller=BERT, store=True, model="ft:pirate")
    given = (await room.judge(plain, "THUMB_UP", BERT)).feedback
    ids.append(given.feedback_id)

    async def found(**wanted: Any) -> list[int]:
        return sorted(ids.index(one.feedback_id) for one in (await room.listed(CLARA, **wanted)).feedback)

    assert await found() == [0, 1, 2, 3]
    assert await found(kinds=[feedback_pb2.FEEDBACK_KIND_THUMB_UP]) == [0, 3]
    assert await found(collection_id="vs_1") == [0, 1, 2]
    assert await found(collection_id="vs_2") == []
    assert await found(model="ft:pirate") == [3]
    assert await found(rater="user:bert") == [3]
    assert await found(since=given.created_at) == [3]
    assert await found(until=given.created_at) == [0, 1, 2]
    page = await room.listed(CLARA, limit=3)
    assert ([one.feedback_id for one in page.feedback], page.has_more) == (ids[:0:-1], True)
    page = await room.listed(CLARA, limit=3, after=ids[1])
    assert ([one.feedback_id for one in page.feedback], page.has_more) == (ids[:1], False)
    with pytest.raises(InvalidInput, match="limit: 101"):
        await room.listed(CLARA, limit=101)


async def test_texts_are_shown_under_the_readers_rights_of_today(room: Any, a_request: Any) -> None:
    receipt = await asked(room, a_request)
    given = (await room.judge(receipt, "EDIT", edited=BETTER, comment="Short.")).feedback
    room.library.hidden_from["doc_perks"] = {"clara"}
    assert (await room.listed()).feedback[0].edited == BETTER
    (hidden,) = (await room.listed(CLARA)).feedback
    assert not hidden.available
    assert (hidden.question, hidden.edited, hidden.comment, hidden.answers[0].text) == ("", "", "", "")
    assert (hidden.feedback_id, hidden.rater) == (given.feedback_id, "user:anna")
    counts, rows = await room.exported(CLARA)
    assert (counts.judgements, counts.unreadable, rows) == (1, 1, [])

    # Withheld from the rater, and at last gone: nobody reads on.
    room.library.hidden_from["doc_perks"] = {"anna"}
    wanted = feedback_pb2.GetFeedbackRequest(feedback_id=given.feedback_id)
    mine = (await room.call(room.feedback.GetFeedback, wanted)).feedback
    assert (mine.available, mine.edited, mine.comment) == (False, "", "")
    assert len((await room.exported(CHIEF))[1]) == 1
    del room.library.documents["doc_perks"]
    counts, rows = await room.exported(CHIEF)
    assert (counts.judgements, counts.unreadable, rows) == (1, 1, [])
    assert room.metric("brain_feedback_exported_total", outcome="unreadable") == 2


async def test_an_export_holds_training_rows_that_say_what_they_came_from(room: Any, a_request: Any) -> None:
    receipt = await asked(room, a_request, system="Be brief.")
    thumb = (await room.judge(receipt, "THUMB_DOWN")).feedback.feedback_id
    edit = (await room.judge(receipt, "EDIT", edited=BETTER)).feedback.feedback_id
    counts, rows = await room.exported(CLARA)
    assert (counts.judgements, counts.unreadable) == (2, 0)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    document = {"document": "doc_perks", "version": 1}
    said, better = ({"role": "assistant", "content": text} for text in (ANSWER, BETTER))
    assert rows == [
        {
            "input": {"messages": messages},
            "preferred_output": [better],
            "non_preferred_output": [said],
            "brain": {"sources": [{"feedback": edit}, document], "rater": "user:anna"},
        },
        {
            "messages": [*messages, said],
            "label": False,
            "brain": {"sources": [{"feedback": thumb}, document], "rater": "user:anna"},
        },
    ]
    _, only = await room.exported(CLARA, kinds=[feedback_pb2.FEEDBACK_KIND_THUMB_DOWN])
    assert only == rows[1:]
    for caller in (ANNA, TOM):
        with pytest.raises(PermissionDenied):
            await room.exported(caller)


async def test_what_is_taken_back_is_gone(room: Any, a_request: Any) -> None:
    receipt = await asked(room, a_request)
    given = (await room.judge(receipt, "EDIT", edited="A quokka's answer.")).feedback.feedback_id
    wanted = feedback_pb2.WithdrawFeedbackRequest(feedback_id=given)
    for caller in (BERT, CLARA, STRANGER):
        with pytest.raises(NotFound):
            await room.call(room.feedback.WithdrawFeedback, wanted, caller)
    assert len(room.blobs()) == 1
    await room.call(room.feedback.WithdrawFeedback, wanted)
    assert list((await room.listed()).feedback) == []
    assert room.blobs() == []
    told = await room.told("feedback", 2)
    assert (type(told[1]).__name__, told[1].feedback_id) == ("FeedbackWithdrawn", given)
    with pytest.raises(NotFound):
        await room.call(room.feedback.WithdrawFeedback, wanted)

    again = (await room.judge(receipt, "THUMB_UP")).feedback.feedback_id
    await room.call(room.feedback.WithdrawFeedback, feedback_pb2.WithdrawFeedbackRequest(feedback_id=again), CHIEF)
    assert room.blobs() == []
    assert room.metric("brain_feedback_withdrawn_total") == 2


async def test_feedback_goes_with_its_conversation(room: Any, a_request: Any) -> None:
    kept = await asked(room, a_request)
    await room.judge(kept, "THUMB_UP")
    heard = await room.ask(a_request(QUESTION, store=True))
    given = (await room.judge(heard.finished.receipt_id, "THUMB_DOWN")).feedback.feedback_id
    conversation = heard.of("started")[0].conversation_id
    gone = await room.call(
        room.conversations.DeleteConversation,
        conversation_pb2.DeleteConversationRequest(conversation_id=conversation),
    )
    assert (gone.turns_removed, gone.receipts_removed) == (2, 1)
    assert [one.receipt_id for one in (await room.listed()).feedback] == [kept]
    told = await room.told("feedback", 3)
    assert (type(told[2]).__name__, told[2].feedback_id) == ("FeedbackWithdrawn", given)
    assert len(room.blobs()) == 1


async def test_raters_agree_or_not_on_equal_answers_to_equal_questions(room: Any, a_request: Any) -> None:
    async def score() -> Any:
        request = feedback_pb2.AgreementRequest(collection_id="vs_1")
        return (await room.call(room.feedback.Agreement, request, CLARA)).thumbs

    questions = (QUESTION, "How long are company cars leased?", "Who leads the PerksPlus programme?")
    for question, kind in zip(questions, ("THUMB_UP", "THUMB_DOWN", "THUMB_UP"), strict=True):
        room.engine.answers = lambda messages: (
            "The programme is led by Maria Lopez." if "leads" in messages[-1].content else ANSWER
        )
        await room.judge(await asked(room, a_request, question), kind)
    alone = await score()
    assert alone.status == feedback_pb2.AGREEMENT_STATUS_NOT_ENOUGH_OVERLAP
    assert not alone.HasField("alpha")
    assert (alone.values, alone.units) == (3, 0)

    for question, kind in zip(questions, ("THUMB_UP", "THUMB_DOWN", "THUMB_DOWN"), strict=True):
        await room.judge(await asked(room, a_request, question, caller=BERT), kind, BERT)
    both = await score()
    assert both.status == feedback_pb2.AGREEMENT_STATUS_MEASURED
    assert (both.raters, both.units, both.pairable_values, both.values) == (2, 3, 6, 6)
    # Units up-up, down-down, up-down: 1 - 5 * 2 / (2 * 3 * 3).
    assert both.alpha == pytest.approx(1 - 10 / 18)
    assert both.low <= both.alpha <= both.high
    with pytest.raises(PermissionDenied):
        await room.call(room.feedback.Agreement, feedback_pb2.AgreementRequest(), ANNA)


async def test_every_turn_that_leaves_a_receipt_is_told_of(room: Any, a_request: Any) -> None:
    first = await asked(room, a_request)
    abstained = await asked(room, a_request, "What is the phone number of the canteen in Oslo?")
    await room.ask(a_request("Hello?", collections=()))
    stored = await asked(room, a_request, "Hello?", collections=(), store=True, model="ft:pirate")
    told = await room.told("answer", 3)
    assert [(one.receipt_id, one.outcome, one.model, one.asked_model) for one in told] == [
        (first, answer_pb2.ANSWER_OUTCOME_ANSWERED, "base", "base"),
        # Refused before generation: nobody answered.
        (abstained, answer_pb2.ANSWER_OUTCOME_ABSTAINED, "", "base"),
        (stored, answer_pb2.ANSWER_OUTCOME_ANSWERED, "ft:pirate", "ft:pirate"),
    ]
    assert list(told[0].collection_ids) == ["vs_1"]


async def test_a_turn_whose_engine_fails_is_told_of_and_wrong_requests_are_not(room: Any, a_request: Any) -> None:
    def fail(_messages: Any) -> str:
        raise Unavailable("The engine is away.")

    room.engine.answers = fail
    with pytest.raises(Unavailable):
        await room.ask(a_request(QUESTION, model="support"))
    with pytest.raises(Unavailable):
        await room.ask(a_request("Hello?", collections=()))
    with pytest.raises(InvalidInput):
        await room.ask(a_request(QUESTION, documents=[chat_pb2.InlineDocument(data_json="{")]))
    room.engine.answers = lambda _messages: ANSWER
    receipt = await asked(room, a_request)
    told = await room.told("answer", 2)
    assert [(one.receipt_id, one.outcome, one.asked_model) for one in told] == [
        ("", answer_pb2.ANSWER_OUTCOME_FAILED, "support"),
        (receipt, answer_pb2.ANSWER_OUTCOME_ANSWERED, "base"),
    ]


async def test_a_turn_that_breaks_off_names_who_was_answering(room: Any, a_request: Any) -> None:
    room.engine.names["support"] = "support@7"
    room.engine.dies_after = 2
    for request in (
        a_request(QUESTION, model="support"),
        a_request("Hi?", collections=(), model="support", store=True),
    ):
        with pytest.raises(Unavailable):
            await room.ask(request)
    told = await room.told("answer", 2)
    assert [(one.outcome, one.model, one.asked_model) for one in told] == [
        (answer_pb2.ANSWER_OUTCOME_FAILED, "support@7", "support")
    ] * 2


async def test_a_receipt_names_who_was_asked_and_who_answered(room: Any, a_request: Any) -> None:
    room.engine.names["support"] = "support@7"
    receipt = await asked(room, a_request, model="support")
    wanted = receipt_pb2.GetReceiptRequest(receipt_id=receipt)
    found = (await room.call(room.receipts.GetReceipt, wanted)).receipt
    assert (found.model, found.asked_model) == ("support@7", "support")
    await room.judge(receipt, "THUMB_UP")
    (told,) = await room.told("feedback", 1)
    assert (told.model, told.asked_model) == ("support@7", "support")
