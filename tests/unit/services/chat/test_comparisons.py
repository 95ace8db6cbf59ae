"""Comparisons from outside: answers sampled, shown to those who may read, ranked, exported, removed."""

from typing import Any

import pytest

from brain.chat.v1 import chat_pb2, feedback_pb2
from brain.events.v1 import feedback_pb2 as events
from brain.types.v1 import sampling_pb2
from services.chassis.errors import Conflict, InvalidInput, NotFound, PermissionDenied, Unavailable
from tests.unit.services.chat.perks import ANNA, BERT, CHIEF, CLARA, QUESTION, STRANGER, TOM

SAID = (
    "PerksPlus covers up to $1,000 per year for gym memberships.",
    "PerksPlus covers up to $1,000 per year for gym memberships and yoga classes.",
    "PerksPlus covers gym memberships with up to $1,000 per year.",
)


def by_seed(room: Any, *answers: str) -> None:
    """Let the engine say what the seed picks."""
    room.engine.answers = lambda _messages: answers[room.engine.requests[-1].sampling.seed % len(answers)]


def wanted(*turns: str, collections: tuple[str, ...] = ("vs_1",), **fields: Any) -> Any:
    turns = turns or (QUESTION,)
    roles = ["user", "assistant"] * len(turns)
    fields.setdefault("sampling", sampling_pb2.Sampling(seed=0))
    return feedback_pb2.SampleAnswersRequest(
        messages=[sampling_pb2.Message(role=role, content=text) for role, text in zip(roles, turns, strict=False)],
        retrieval=chat_pb2.RetrievalOptions(collection_ids=collections),
        **fields,
    )


async def sampled(room: Any, request: Any | None = None, caller: Any = TOM) -> Any:
    return (await room.call(room.feedback.SampleAnswers, request or wanted(), caller)).comparison


async def ranked(room: Any, comparison: Any, order: dict[str, int], caller: Any, **fields: Any) -> Any:
    """Rank answers by their texts."""
    ranks = [
        feedback_pb2.AnswerRank(answer_id=answer.answer_id, rank=order[answer.text]) for answer in comparison.answers
    ]
    request = feedback_pb2.RankAnswersRequest(comparison_id=comparison.comparison_id, ranks=ranks, **fields)
    return await room.call(room.feedback.RankAnswers, request, caller)


async def waiting(room: Any, caller: Any, **fields: Any) -> list[str]:
    answer = await room.call(room.feedback.ListComparisons, feedback_pb2.ListComparisonsRequest(**fields), caller)
    return [one.comparison_id for one in answer.comparisons]


async def test_answers_are_drawn_from_one_prompt_with_seeds_and_warmth(room: Any) -> None:
    by_seed(room, *SAID)
    made = await room.call(room.feedback.SampleAnswers, wanted(answers=3), TOM)
    assert sorted(answer.text for answer in made.comparison.answers) == sorted(SAID)
    assert [(message.role, message.content) for message in made.comparison.messages] == [("user", QUESTION)]
    assert list(made.comparison.collection_ids) == ["vs_1"]
    assert made.comparison.own
    assert [request.sampling.seed for request in room.engine.requests] == [0, 1, 2]
    assert {round(request.sampling.temperature, 3) for request in room.engine.requests} == {0.8}
    prompts = [[(turn.role, turn.content) for turn in prompt] for prompt in room.engine.prompts]
    assert prompts[0] == prompts[1] == prompts[2]
    assert len(room.library.searches) == 1
    (used,) = made.usages
    assert (used.model, used.usage.prompt_tokens) == ("base", 21)
    assert room.metric("brain_comparisons_total") == 1


async def test_the_same_answer_is_drawn_again_until_another_comes(room: Any) -> None:
    by_seed(room, SAID[0], SAID[0], SAID[0], SAID[1])
    made = await sampled(room, wanted(answers=2))
    assert sorted(answer.text for answer in made.answers) == sorted(SAID[:2])
    # Fewer than asked for where no more different ones come.
    by_seed(room, SAID[0], SAID[1])
    assert len((await sampled(room, wanted(answers=4))).answers) == 2
    by_seed(room, SAID[0])
    with pytest.raises(Conflict, match="said the same"):
        await sampled(room, wanted(answers=2))
    with pytest.raises(Conflict, match="do not answer"):
        await sampled(room, wanted("What is the phone number of the canteen in Oslo?"))


async def test_a_plain_conversation_can_be_sampled_from_several_models(room: Any) -> None:
    room.engine.answers = lambda _messages: f"I am {room.engine.requests[-1].model or 'the base'}."
    request = wanted("Hello", "Hi.", "Who are you?", collections=(), models=["", "ft:pirate"])
    made = await sampled(room, request)
    assert sorted(answer.text for answer in made.answers) == ["I am ft:pirate.", "I am the base."]
    assert [message.content for message in made.messages] == ["Hello", "Hi.", "Who are you?"]
    # Nothing tells who gave which.
    assert {name.name for name in made.answers[0].DESCRIPTOR.fields} == {"answer_id", "text"}
    assert room.library.searches == []


async def test_an_engine_that_breaks_off_leaves_no_comparison(room: Any) -> None:
    def fail(_messages: Any) -> str:
        if room.engine.requests[-1].sampling.seed:
            raise Unavailable("The engine is away.")
        return SAID[0]

    room.engine.answers = fail
    with pytest.raises(Unavailable):
        await sampled(room, wanted(collections=()))
    assert await waiting(room, TOM) == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"answers": 1}, "answers"),
        ({"answers": 5}, "answers"),
        ({"models": ["a", "b", "c"]}, "models"),
        ({"sampling": sampling_pb2.Sampling(temperature=0)}, "sampling.temperature"),
        ({"sampling": sampling_pb2.Sampling(temperature=2.5)}, "sampling.temperature"),
        ({"sampling": sampling_pb2.Sampling(n=2)}, "sampling.n"),
        ({"raters": ["everyone"]}, "raters[0]"),
        ({"raters": ["group:x"] * 101}, "raters"),
    ],
)
async def test_what_cannot_be_sampled_is_refused_by_name(room: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await sampled(room, wanted(**fields))
    assert refused.value.param == param
    assert refused.value.message.startswith(f"{param}: ")
    assert room.engine.requests == []


async def test_viewers_rank_and_do_not_sample(room: Any) -> None:
    with pytest.raises(PermissionDenied):
        await sampled(room, caller=ANNA)


async def test_each_rater_sees_an_order_of_their_own_that_stays(room: Any) -> None:
    by_seed(room, *SAID)
    for _ in range(8):
        await sampled(room, wanted(answers=3))

    async def orders(caller: Any) -> list[tuple[str, ...]]:
        answer = await room.call(room.feedback.ListComparisons, feedback_pb2.ListComparisonsRequest(), caller)
        return [tuple(answer.text for answer in one.answers) for one in answer.comparisons]

    annas, berts = await orders(ANNA), await orders(BERT)
    assert annas == await orders(ANNA)
    assert annas != berts
    assert len(set(annas)) > 1
    assert [sorted(order) for order in annas] == [sorted(order) for order in berts]


async def test_only_raters_who_may_read_the_documents_see_a_comparison(room: Any) -> None:
    by_seed(room, *SAID)
    open_to_all = (await sampled(room)).comparison_id
    some = (await sampled(room, wanted(raters=["user:bert", "group:raters"]), CHIEF)).comparison_id
    assert await waiting(room, ANNA) == [open_to_all]
    assert await waiting(room, BERT) == await waiting(room, CHIEF) == await waiting(room, TOM) == [some, open_to_all]
    assert await waiting(room, STRANGER) == []
    assert await waiting(room, BERT, limit=1) == [some]
    assert await waiting(room, BERT, limit=1, after=some) == [open_to_all]
    assert await waiting(room, BERT, collection_id="vs_2") == []

    room.library.hidden_from["doc_perks"] = {"bert"}
    assert await waiting(room, BERT) == []
    for caller, comparison in ((BERT, open_to_all), (ANNA, some), (STRANGER, open_to_all)):
        request = feedback_pb2.GetComparisonRequest(comparison_id=comparison)
        with pytest.raises(NotFound):
            await room.call(room.feedback.GetComparison, request, caller)
        with pytest.raises(NotFound):
            await room.call(
                room.feedback.RankAnswers, feedback_pb2.RankAnswersRequest(comparison_id=comparison), caller
            )


async def test_a_ranking_is_kept_told_and_closes_the_comparison_for_its_rater(room: Any) -> None:
    by_seed(room, *SAID)
    made = await sampled(room, wanted(answers=3))
    order = {SAID[0]: 1, SAID[1]: 3, SAID[2]: 1}
    given = (await ranked(room, made, order, BERT, comment="Two are as good.")).feedback
    # A gap after a tie says no more than none.
    assert {answer.text: answer.rank for answer in given.answers} == order | {SAID[1]: 2}
    assert (given.rater, given.comparison_id, given.receipt_id) == ("user:bert", made.comparison_id, "")
    assert await waiting(room, BERT) == []
    assert await waiting(room, ANNA) == [made.comparison_id]
    request = feedback_pb2.GetComparisonRequest(comparison_id=made.comparison_id)
    assert (await room.call(room.feedback.GetComparison, request, BERT)).comparison.feedback_id == given.feedback_id

    (told,) = await room.told("feedback", 1)
    assert told.kind == events.FEEDBACK_KIND_RANKING
    assert (told.receipt_id, told.model, told.asked_model) == ("", "", "base")
    assert [(source.document_id, source.version) for source in told.sources] == [("doc_perks", 1)]
    content = events.FeedbackContent.FromString((room.folder / "blobs" / told.blob_key).read_bytes())
    assert dict(zip(content.answers, content.ranks, strict=True)) == order | {SAID[1]: 2}
    assert [turn.content for turn in content.turns] == [QUESTION]

    again = await ranked(room, made, dict.fromkeys(SAID, 1), BERT)
    assert again.replaced_id == given.feedback_id
    assert len(room.blobs()) == 1


async def test_a_ranking_names_each_answer_once(room: Any) -> None:
    by_seed(room, *SAID)
    made = await sampled(room)
    first, second = (answer.answer_id for answer in made.answers)
    for ranks, param in (
        ([(first, 1)], "ranks"),
        ([(first, 1), (first, 2)], "ranks[1].answer_id"),
        ([(first, 1), ("ans_other", 2)], "ranks[1].answer_id"),
        ([(first, 0), (second, 1)], "ranks[0].rank"),
        ([(first, 1), (second, 3)], "ranks[1].rank"),
    ):
        request = feedback_pb2.RankAnswersRequest(
            comparison_id=made.comparison_id,
            ranks=[feedback_pb2.AnswerRank(answer_id=name, rank=rank) for name, rank in ranks],
        )
        with pytest.raises(InvalidInput) as refused:
            await room.call(room.feedback.RankAnswers, request, ANNA)
        assert refused.value.param == param


async def test_rankings_are_exported_as_pairs_and_compared(room: Any) -> None:
    by_seed(room, *SAID)
    made = await sampled(room, wanted(answers=3))
    given = (await ranked(room, made, {SAID[0]: 1, SAID[1]: 2, SAID[2]: 2}, BERT)).feedback
    await ranked(room, made, {SAID[0]: 1, SAID[1]: 2, SAID[2]: 2}, ANNA)
    counts, rows = await room.exported(CLARA, rater="user:bert")
    assert counts.judgements == 1
    pairs = {(row["preferred_output"][0]["content"], row["non_preferred_output"][0]["content"]) for row in rows}
    # Of a tie nothing is learned.
    assert pairs == {(SAID[0], SAID[1]), (SAID[0], SAID[2])}
    assert rows[0]["input"] == {"messages": [{"role": "user", "content": QUESTION}]}
    assert rows[0]["brain"] == {
        "sources": [{"feedback": given.feedback_id}, {"document": "doc_perks", "version": 1}],
        "rater": "user:bert",
    }
    score = (await room.call(room.feedback.Agreement, feedback_pb2.AgreementRequest(), CLARA)).rankings
    assert (score.status, score.alpha) == (feedback_pb2.AGREEMENT_STATUS_MEASURED, 1.0)
    assert (score.raters, score.units, score.pairable_values) == (2, 3, 6)
    # The answers of one comparison are one draw: there is no interval from it.
    assert not score.HasField("low")


async def test_a_comparison_goes_with_its_rankings(room: Any) -> None:
    by_seed(room, *SAID)
    made = await sampled(room)
    await ranked(room, made, {SAID[0]: 1, SAID[1]: 2}, BERT)
    request = feedback_pb2.DeleteComparisonRequest(comparison_id=made.comparison_id)
    with pytest.raises(PermissionDenied):
        await room.call(room.feedback.DeleteComparison, request, BERT)
    with pytest.raises(NotFound):
        await room.call(room.feedback.DeleteComparison, request, CLARA)
    gone = await room.call(room.feedback.DeleteComparison, request, TOM)
    assert gone.rankings_removed == 1
    assert await waiting(room, ANNA) == []
    assert room.blobs() == []
    assert (await room.exported(CHIEF))[0].judgements == 0
    told = await room.told("feedback", 2)
    assert type(told[1]).__name__ == "FeedbackWithdrawn"
