"""Facts of documents, without a model: what is asked, what is answered, and where it stands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.generate import generate
from services.finetuning.domain.documents import Chunk, DocumentText, SourceDocument, chunks
from services.finetuning.domain.fact_files import AskedFact, read_facts
from services.finetuning.domain.facts import (
    Evidence,
    Fact,
    answered_differently,
    fault_of,
    found_by,
    holds,
    located,
    sentence_with,
    with_good_phrasings,
)
from services.finetuning.domain.patterns import sentence_facts
from services.finetuning.domain.tables import table_facts
from tests.unit.services.finetuning.memory import document


def facts_of(text: str, title: str = "") -> dict[str, str]:
    """First question to answer, of what makes a row."""
    found = document("a.md", text, title=title)
    made = [fact for chunk in chunks(found) for fact in (*table_facts(chunk), *sentence_facts(chunk))]
    good = [with_good_phrasings(fact, 3) for fact in made if not fault_of(fact)]
    return {fact.phrasings[0]: fact.answer for fact in good}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Lantern\n\nLantern is led by Dafydd Prosser.", {"Who leads Lantern?": "Dafydd Prosser"}),
        ("# Sheet\n\nThe Rill 200 costs 1,890 euros.", {"What does the Rill 200 cost?": "1,890 euros"}),
        ("# Rill 200\n\nThe Rill 200 is a gauge. It weighs 3369 grams.", {"What does the Rill 200 weigh?": "3369 grams"}),
        ("# Project Heron\n\nThe budget is 275,000 euros.", {"What is the budget of Project Heron?": "275,000 euros"}),
        ("# Ada Byron\n\nThe desk is in room A287.", {"Where is the desk of Ada Byron?": "room A287"}),
        (
            "# Leave\n\nUp to six unused days may be carried over.",
            {"Concerning Leave, up to how many unused days may be carried over?": "six unused days"},
        ),
        (
            "# Visits\n\nThe hall in Graz opens at 9:30 on working days.",
            {"The hall in Graz opens at what time on working days?": "9:30"},
        ),
        (
            "# Plan\n\nThe first release of Osprey is due on 14 September 2026.",
            {"The first release of Osprey is due on which date?": "14 September 2026"},
        ),
        ("# Rill 200\n\n| property | value |\n|---|---|\n| weight | 1.4 kilograms |", {"What is the weight of Rill 200?": "1.4 kilograms"}),
        (
            "# Offices\n\n| office | city | desks |\n| --- | --- | --- |\n| Linden | Graz | 160 |",
            {"What is the city of Linden?": "Graz", "How many desks does Linden have?": "160"},
        ),
        ("# List\n\nproduct: Rill 90; price: 1240 euros; article: R-90", {"What is the price of Rill 90?": "1240 euros", "What is the article of Rill 90?": "R-90"}),
        ("# Station 7\n\nTechnician: Rhodri Pugh", {"What is the technician of Station 7?": "Rhodri Pugh"}),
    ],
)  # fmt: skip
def test_a_sentence_or_a_row_is_asked_for(text: str, expected: dict[str, str]) -> None:
    assert facts_of(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "# Pond\n\nThe pond is pretty and everybody likes it.",
        "# Rill 200\n\nThe Rill 200 is our best gauge.",
        "# Grades\n\nA grade 3 incident was stopped before it did harm.",
        "From: Gwen Hughes\nTo: support\nSubject: Station 7",
        "It takes three days.",
        "",
    ],
)
def test_what_cannot_be_asked_for_is_left_alone(text: str) -> None:
    assert facts_of(text, title="Notes") == {}


def test_the_examples_are_asked_for_with_the_answers_that_they_were_made_with() -> None:
    made = generate(7, 50)
    right = found = 0
    for one in made:
        answers = set(facts_of(one.text).values())
        found += len(answers)
        right += sum(
            any(holds(answer, fact.answer) or holds(fact.answer, answer) for answer in answers) for fact in one.facts
        )
    # 3 facts a document were put in; who stands in and from how many pieces on are worded too freely for patterns.
    assert right >= 120
    assert found >= 150


@given(st.text(alphabet=st.sampled_from("ab Cd. \n#|:-;1234567890,euros is the of by Rill Ann Lee"), max_size=400))
def test_evidence_is_an_exact_piece_whatever_the_text(text: str) -> None:
    found = DocumentText(SourceDocument("doc", 1, "vs", "Title"), text)
    pieces = chunks(found, longest=60)
    assert all(text[one.start : one.end] == one.text and len(one.text) <= 60 for one in pieces)
    for chunk in pieces:
        for fact in (*table_facts(chunk), *sentence_facts(chunk)):
            evidence = fact.evidence
            assert text[evidence.start : evidence.end] == evidence.quote


def test_a_document_is_cut_at_its_headings() -> None:
    text = "Intro.\n\n# Pond\n\nThe pond. " + "Long sentence here. " * 60 + "\n\n# Boat\n\nThe boat."
    found = chunks(document("a.md", text, title="Rules"))
    assert found[0].headings == ()
    assert found[-1].topic == "Rules, Boat"
    assert all(len(one.text) <= 900 for one in found)
    together = "".join("".join(one.text.split()) for one in found)
    assert together == "".join(text.split())


def chunk_fact(**more: object) -> Fact:
    fields: dict[str, object] = {
        "phrasings": ("When does the pond open?",), "answer": "in May", "evidence": Evidence("d", 1, 0, 22, "The pond opens in May."),
    }  # fmt: skip
    return Fact(**(fields | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fact", "fault"),
    [
        (chunk_fact(), ""),
        (chunk_fact(answer=" "), "no_answer"),
        (chunk_fact(answer="in June"), "answer_not_in_evidence"),
        (chunk_fact(evidence=Evidence("d", 1, 0, 700, "in May " * 100)), "long_evidence"),
        (chunk_fact(phrasings=("When does it open?",)), "bad_question"),
        (chunk_fact(phrasings=("When?",)), "bad_question"),
        (chunk_fact(phrasings=("Does the pond open in May?",)), "bad_question"),
        (chunk_fact(phrasings=("When does this pond of ours open?",), origin="file"), ""),
        (chunk_fact(phrasings=("x " * 200,)), "bad_question"),
    ],
)
def test_what_makes_no_row_says_why(fact: Fact, fault: str) -> None:
    assert fault_of(fact) == fault


def test_phrasings_are_kept_once_and_none_gives_the_answer_away() -> None:
    fact = chunk_fact(
        phrasings=(
            "When does the pond open?",
            "when does the pond open",
            "In May opens the pond?",
            "Which month opens the pond?",
        )
    )
    assert with_good_phrasings(fact, 3).phrasings == ("When does the pond open?", "Which month opens the pond?")
    assert with_good_phrasings(fact, 1).phrasings == ("When does the pond open?",)
    assert chunk_fact().fact_id == chunk_fact().fact_id != chunk_fact(answer="May").fact_id


def test_a_question_with_two_answers_is_nobodys() -> None:
    one, other = chunk_fact(), chunk_fact(answer="in June", evidence=Evidence("e", 1, 0, 23, "The pond opens in June."))
    same = chunk_fact(answer="In  May", phrasings=("Which month opens the pond?", "When does the pond open"))
    assert answered_differently([one, other, same]) == {0, 1, 2}
    assert answered_differently([one, same]) == frozenset()


def test_an_answer_is_found_in_the_sentence_nearest_to_its_question() -> None:
    text = "# Pond\n\nThe boat costs 12 euros. The pond costs 12 euros a day.\n\nNobody swims."
    found = located("What does the pond cost a day?", "12 euros", document("a.md", text))
    assert found is not None
    assert found.quote == "The pond costs 12 euros a day."
    assert text[found.start : found.end] == found.quote
    assert located("What does the pond cost?", "13 euros", document("a.md", text)) is None
    assert sentence_with("One. Two costs 5. Three.", "5") == "Two costs 5."
    assert sentence_with("One of two.", "9") == "One of two."


def test_a_document_is_known_by_id_key_and_name() -> None:
    documents = [document(key, "x").document for key in ("people/000.md", "prices/000.md", "rules/boat.md")]
    assert found_by("people/000.md", documents) == documents[0]
    assert found_by("boat.md", documents) == documents[2]
    assert found_by(documents[1].document_id, documents) == documents[1]
    assert found_by("000.md", documents) is None
    assert found_by("nowhere.md", documents) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"question": "Q?", "phrasings": ["Q?", "R?"], "answer": "A", "source": "a.md"}',
        b'[{"prompt": "Q?", "questions": "Q? | R?", "answers": ["A", "B"], "document": "a.md"}]',
        b"Question,Paraphrases,Answer,Document\nQ?,Q? | R?,A,a.md\n",
    ],
)
def test_what_somebody_wrote_is_read_from_three_kinds_of_files(data: bytes) -> None:
    found = read_facts([data])
    assert found.errors == ()
    assert [(fact.phrasings, fact.answer, fact.source) for fact in found.facts] == [(("Q?", "R?"), "A", "a.md")]


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        (b"", "no_rows", ""),
        (b"5", "no_header", ""),
        (b'["x"]', "wrong_type", ""),
        (b'{"question": "Q?"}', "missing", "answer"),
        (b'{"answer": "A"}', "missing", "question"),
        (b'{"question": 5, "answer": "A"}', "wrong_type", "question"),
        (b'{"question": "Q?", "answer": ["A", 7]}', "wrong_type", "answer[1]"),
        (b'{"question": "Q?", "answer": "A", "evidence": {}}', "wrong_type", "evidence"),
        (b"question,answer\nQ?\n", "wrong_columns", ""),
    ],
)
def test_a_file_of_questions_with_faults_names_them(data: bytes, code: str, field: str) -> None:
    found = read_facts([data])
    assert (found.errors[0].code, found.errors[0].field) == (code, field)


@given(st.binary(max_size=200))
def test_no_file_of_questions_makes_the_reader_raise(data: bytes) -> None:
    found = read_facts([data])
    assert all(isinstance(fact, AskedFact) for fact in found.facts)
    assert found.facts or found.errors


def test_a_chunk_names_what_it_is_about_once() -> None:
    source = SourceDocument("d", 1, "vs", "Project Osprey")
    assert Chunk(source, 0, 1, "x", ("Project Osprey",)).topic == "Project Osprey"
    assert Chunk(source, 0, 1, "x", ("Osprey", "People")).topic == "Project Osprey, People"
    assert Chunk(source, 0, 1, "x", ("The Project Osprey in detail",)).topic == "The Project Osprey in detail"
    assert Chunk(source, 0, 1, "x").topic == "Project Osprey"
