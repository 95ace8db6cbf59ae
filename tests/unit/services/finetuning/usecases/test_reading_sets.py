"""Reading rows: what is served is what is trained on."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.generate import generate
from services.chat.domain.answer import says_not_found
from services.chat.domain.citations import Thresholds, candidates, decide, read, segments
from services.chat.domain.support import CALIBRATED, answers
from services.chat.ports import Measured
from services.chat.usecases.prompting import FitPrompt
from services.chat.usecases.support import JudgeSupport
from services.finetuning.backends.tokenizer import FolderTokens
from services.finetuning.domain.facts import Evidence, Fact
from services.finetuning.domain.near_duplicates import question_in
from services.finetuning.domain.reading_rows import planned
from services.finetuning.domain.rows import ChatRow, DocumentSource, PromptRow, Row, as_line
from services.layout.passages import best_first, canonical, numbered, without_repeats
from services.layout.turns import Message, Passage
from tests.unit.services.finetuning.builder import LAYOUT, WINDOW, Builder, Result
from tests.unit.services.finetuning.memory import MemoryCompany, document

FOLDER = Path(__file__).resolve().parents[5] / "examples" / "documents"
SHOWCASE = {
    str(path.relative_to(FOLDER)): path.read_text().removeprefix("---\ntitle: Rill 200 data sheet\n---\n").strip()
    for path in sorted(FOLDER.rglob("*.md"))
}
DOCUMENT = re.compile(r'<document number="\d+" title="[^"]*">\n(.*?)\n</document>', re.DOTALL)


def filled(build: Builder, count: int = 40) -> Builder:
    build.company.add(*(document(made.key, made.text) for made in generate(7, count)))
    return build


def question(row: Row) -> str:
    assert isinstance(row, ChatRow | PromptRow)
    asked = next(turn.content for turn in reversed(row.messages) if turn.role == "user")
    return question_in(asked, LAYOUT.question)


def shown(row: Row) -> list[str]:
    assert isinstance(row, ChatRow | PromptRow)
    asked = next(turn.content for turn in reversed(row.messages) if turn.role == "user")
    return DOCUMENT.findall(asked)


def answer(row: Row) -> str:
    assert isinstance(row, ChatRow)
    return row.messages[-1].content


@pytest.fixture(scope="module")
def made(tokens: FolderTokens) -> tuple[Builder, Result]:
    build = filled(Builder(tokens))
    return build, asyncio.run(build("raft", seed=3))


async def test_the_examples_give_more_than_a_hundred_rows(made: tuple[Builder, Result]) -> None:
    _, result = made
    assert len(result.training) >= 100
    assert len(result.held_out) >= 10
    assert result.built.summary.rows == len(result.training)
    assert result.built.summary.documents == 40


async def test_the_shares_are_kept_on_both_sides(made: tuple[Builder, Result]) -> None:
    _, result = made
    for rows in (result.training, result.held_out):
        gold = sum(row.origin.extra["answerable"] for row in rows)
        assert abs(gold - 0.8 * len(rows)) <= 1.5
        assert sum(answer(row) == LAYOUT.not_found for row in rows) == len(rows) - gold


async def test_an_answerable_row_quotes_a_passage_word_for_word_and_the_others_hold_nothing(
    made: tuple[Builder, Result],
) -> None:
    build, result = made
    assert sum(len(shown(row)) == 5 for row in result.rows) > len(result.rows) / 2
    for row in result.rows:
        passages = shown(row)
        assert 1 <= len(passages) <= 5
        if row.origin.extra["answerable"]:
            assert any(answer(row) in " ".join(passage.split()) for passage in passages)
        else:
            gold = row.origin.sources[0]
            assert isinstance(gold, DocumentSource)
            assert build.company.texts[gold.document].text not in passages


async def test_of_a_row_only_the_answer_is_learnt(made: tuple[Builder, Result], tokens: FolderTokens) -> None:
    _, result = made
    for row in result.rows[:20]:
        assert isinstance(row, ChatRow)
        encoded = tokens.encode_conversation(row.messages)
        learnt = [token for token, label in zip(encoded.ids, encoded.labels, strict=True) if label]
        assert tokens.count([answer(row)])[0] < len(learnt) <= tokens.count([answer(row)])[0] + 3


async def test_every_row_names_the_documents_that_it_shows_and_the_one_that_it_asks_about(
    made: tuple[Builder, Result],
) -> None:
    build, result = made
    for row in result.rows:
        named = {source.document for source in row.origin.sources if isinstance(source, DocumentSource)}
        texts = [build.company.texts[identity].text for identity in named]
        assert all(any(passage in text for text in texts) for passage in shown(row))
    clusters = {(row.origin.sources[0], row.origin.cluster) for row in result.rows}
    assert len(clusters) == 40
    assert all(cluster.startswith("documents:doc_") for _, cluster in clusters)


async def test_what_is_held_out_is_shown_to_no_row_that_trains(made: tuple[Builder, Result]) -> None:
    _, result = made
    graded = {row.origin.sources[0] for row in result.held_out}
    seen = {source for row in result.training for source in row.origin.sources}
    assert graded
    assert not graded & seen
    assert {row.origin.split for row in result.training} == {"training"}
    assert {row.origin.split for row in result.held_out} == {"held_out"}


class Engine:
    """What chat's prompting asks of an engine: counts of the same tokens."""

    def __init__(self, tokens: FolderTokens) -> None:
        self._tokens = tokens

    async def measure(self, texts: Sequence[str], conversation: Sequence[Message], *, model: str) -> Measured:
        return Measured(tuple(self._tokens.count(texts)), self._tokens.count_conversation(conversation), WINDOW, model)


async def test_a_row_is_the_prompt_that_chat_would_send(made: tuple[Builder, Result], tokens: FolderTokens) -> None:
    build, result = made
    fit = FitPrompt(engine=Engine(tokens), texts=LAYOUT)  # type: ignore[arg-type]
    judge = JudgeSupport(library=build.company, model=CALIBRATED)  # type: ignore[arg-type]
    same = 0
    for row in [row for row in result.held_out if row.origin.extra["answerable"]][:12]:
        asked = question(row)
        found = await build.company.search(asked, collection_ids=("vs_1",), top_k=5)
        passages = without_repeats(best_first(found))
        support = await judge([asked], passages)
        served, _ = await fit(
            model="",
            instructions="",
            passages=passages,
            excerpts=support.places,
            history=(),
            question=asked,
            max_tokens=0,
        )
        assert isinstance(row, ChatRow)
        said = [(turn.role, turn.content) for turn in row.messages[:-1]]
        assert said[:3] == [(message.role, message.content) for message in served.messages[:3]]
        same += said == [(message.role, message.content) for message in served.messages]
    # A row differs only where the index alone would not have shown the gold passage.
    assert same >= 11


async def test_answers_are_what_citations_find_again(made: tuple[Builder, Result]) -> None:
    build, result = made
    cited = answering = 0
    rows = result.held_out + result.training[:60]
    for row in rows:
        if answer(row) == LAYOUT.not_found:
            assert says_not_found(answer(row))
            continue
        company: MemoryCompany = build.company
        texts = [company.texts[one.document] for one in row.origin.sources if isinstance(one, DocumentSource)]
        sources = numbered(
            canonical(
                Passage(text.document.document_id, 1, 0, len(text.text), text.text, text.document.title)
                for text in texts
            )
        )
        (stretch, *more) = segments(answer(row))
        found = candidates(stretch, read(sources), question=question(row), thresholds=Thresholds())
        citation = decide(found, {}, thresholds=Thresholds())
        cited += citation is not None and not more
        answering += citation is not None and answers(question(row), citation.text)
    answerable = sum(answer(row) != LAYOUT.not_found for row in rows)
    assert cited == answerable
    assert answering >= 0.9 * answerable


async def test_a_limit_keeps_the_shares_and_asks_for_every_fact_once_first(build: Builder) -> None:
    filled(build, 30)
    result = await build("raft", seed=5, max_rows=50)
    assert len(result.training) + len(result.held_out) <= 50
    assert len(result.training) >= 40
    assert abs(sum(row.origin.extra["answerable"] for row in result.training) - 0.8 * len(result.training)) <= 1.5
    assert {row.origin.extra["phrasing"] for row in result.rows} == {0}


async def test_fewer_passages_and_other_shares(build: Builder) -> None:
    filled(build, 20)
    result = await build("raft", passages_per_row=3, gold_share=0.5, unanswerable_share=0.5, max_rows=40)
    assert max(len(shown(row)) for row in result.training) == 3
    gold = sum(row.origin.extra["answerable"] for row in result.training)
    assert abs(gold - 0.5 * len(result.training)) <= 1


async def test_the_same_seed_gives_the_same_rows(build: Builder, tokens: FolderTokens) -> None:
    first = await filled(build, 15)("raft", seed=9)
    again = await filled(Builder(tokens), 15)("raft", seed=9)
    other = await filled(Builder(tokens), 15)("raft", seed=10)
    assert [as_line(row) for row in first.rows] == [as_line(row) for row in again.rows]
    assert [as_line(row) for row in first.rows] != [as_line(row) for row in other.rows]


async def test_what_may_not_be_read_is_in_no_row_even_when_the_index_leaks(build: Builder) -> None:
    filled(build, 20)
    secret = [identity for at, identity in enumerate(build.company.texts) if at % 4 == 0]
    build.company.secret = set(secret)
    build.company.leaking = set(secret)
    result = await build("raft")
    named = {
        source.document for row in result.rows for source in row.origin.sources if isinstance(source, DocumentSource)
    }
    assert named
    assert not named & set(secret)
    hidden = [build.company.texts[identity].text for identity in secret]
    assert not any(passage in text for row in result.rows for passage in shown(row) for text in hidden)


async def test_passages_of_another_version_than_was_read_are_not_shown(build: Builder) -> None:
    build.company.add(
        document("a.md", "# Pond\n\nThe pond of Graz opens on 3 May 2026."),
        document("b.md", "# Boat\n\nThe boat of Graz opens on 4 May 2026."),
        document("c.md", "# Hall\n\nThe hall of Graz opens on 5 May 2026."),
    )
    old = document("c.md", "# Hall\n\nThe hall of Graz opened on 5 May 2020.", version=2)
    listed = build.company.of_collection

    async def as_listed(collection_id: str) -> object:
        async for one in listed(collection_id):
            yield one
        # The new version becomes searchable between the list and the search.
        build.company.add(old)

    build.company.of_collection = as_listed  # type: ignore[method-assign,assignment]
    result = await build("raft", held_out_share=0.0)
    assert result.left_out["document_gone"] == 1
    assert not any("2020" in passage for row in result.rows for passage in shown(row))


async def test_prompts_hold_what_graders_compare_with_and_no_answer(build: Builder) -> None:
    filled(build, 15)
    result = await build("prompts", max_rows=30)
    assert len(result.training) >= 20
    for row in result.rows:
        assert isinstance(row, PromptRow)
        assert row.messages[-1].role == "user"
        if row.origin.extra["answerable"]:
            assert any(row.extra["reference"] in passage for passage in shown(row))
        else:
            assert row.extra["reference"] == LAYOUT.not_found


facts = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=60)


@given(facts, st.floats(0, 1), st.integers(0, 2**63))
def test_the_plan_keeps_the_share_whatever_is_asked(drawn: list[tuple[int, bool]], share: float, seed: int) -> None:
    placed = [
        (
            Fact(
                tuple(f"Question {at} in words {one}?" for one in range(count)), "a", Evidence(f"d{at}", 1, 0, 1, "a")
            ),
            f"c{at}",
            held_out,
        )
        for at, (count, held_out) in enumerate(drawn)
    ]
    tasks = planned(placed, gold_share=share, seed=seed)
    assert tasks == planned(placed, gold_share=share, seed=seed)
    assert len({(task.fact.fact_id, task.phrasing) for task in tasks}) == len(tasks) == sum(n for n, _ in drawn)
    for side in (True, False):
        here = [task for task in tasks if task.held_out is side]
        assert sum(task.answerable for task in here) == round(share * len(here))
    firsts = [task.phrasing for task in tasks]
    assert firsts == sorted(firsts)


async def test_the_packaged_examples_can_be_read_too(build: Builder) -> None:
    build.company.add(*(document(key, text) for key, text in SHOWCASE.items()))
    result = await build("raft", phrasings=2)
    assert len(result.rows) >= 60
