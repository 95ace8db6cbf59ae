"""A measure that cannot fail measures nothing: each is shown something wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _result
from benchmarks._asking import Turn
from benchmarks._result import beside, report, row
from benchmarks.citations import Case, Question, Stored, check_answers, covers, foreign, held, planted_cases, sentences
from benchmarks.examples import holds, opening
from client.rendering import Answer

PAGES = ("The plan pays 80 percent of every visit to a doctor. ", "Glasses are paid every 24 months by the plan. ")
PLAN = Stored("".join(PAGES), {1: (0, len(PAGES[0])), 2: (len(PAGES[0]), len("".join(PAGES)))})
QUOTE = "Glasses are paid every 24 months"


def turn(text: str, *, page: int = 2, start: int | None = None, span: tuple[int, int] = (0, 7)) -> Turn:
    answer = Answer()
    answer.take(
        {"choices": [{"delta": {"content": text}}], "citations": [{"start": span[0], "end": span[1], "text": text[:7]}]}
    )
    begin = PLAN.text.index(QUOTE) if start is None else start
    evidence = {
        "source": 1,
        "quote": QUOTE,
        "quote_start": begin,
        "quote_end": begin + len(QUOTE),
        "page": page,
        "page_last": page,
    }
    sources = [{"number": 1, "filename": "plan.pdf"}]
    return Turn(answer, {"sources": sources, "citations": [{"evidence": [evidence]}]})


def test_an_answer_is_held_however_it_is_written() -> None:
    assert holds("It costs 41,000  EUROS.", ["41000 euros"])
    assert not holds("Extension 44771.", ["4477"])
    assert not holds("", ["4477"])


def test_a_right_citation_passes_and_every_wrong_one_is_seen() -> None:
    asked = Question("How often?", "Every 24 months.", frozenset({("plan.pdf", 2)}))
    text = "Glasses every 24 months."
    shown: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
        ({}, (0, 0, 1)),
        ({"page": 1}, (1, 0, 0)),
        ({"start": 3}, (1, 0, 1)),
        ({"span": (1, 8)}, (0, 1, 1)),
    ]
    for wrong, expected in shown:
        seen = check_answers([asked], [turn(text, **wrong)], {"plan.pdf": PLAN})
        assert (len(seen.wrong_quotes), len(seen.wrong_spans), seen.cited_gold) == expected, wrong


def test_a_citation_that_touches_the_planted_sentence_is_seen() -> None:
    case = Case("?", "True. False.", ("True.",), planted="False.")
    assert not covers(case, turn("True. False.", span=(0, 5)))
    assert covers(case, turn("True. False.", span=(0, 12)))
    with pytest.raises(ValueError, match="substring"):
        covers(case, turn("True."))


def test_what_is_planted_stands_on_no_page() -> None:
    asked = [
        Question(f"Question {number}?", "Yes.", frozenset({("plan.pdf", 1), ("plan.pdf", 2)})) for number in range(3)
    ]
    strangers = ["Canoes are kept in the long shed beside the mill pond."]
    cases = planted_cases(asked, {"plan.pdf": PLAN}, strangers)
    assert len({case.question for case in cases}) == 100
    changed = [case.planted for case in cases if case.planted not in strangers]
    assert len(changed) == 50
    for case in cases:
        assert case.planted not in PLAN.text
        assert case.answer.endswith(case.planted)


def test_another_document_stands_in_for_the_gold() -> None:
    page = "Dogs may come to the office on Wednesdays. " * 12
    stored = {"plan.pdf": PLAN, "dogs.pdf": Stored(page, {1: (0, len(page))})}
    swapped = foreign(Case("?", "!", (PAGES[0],), frozenset({"plan.pdf"})), 0, stored)
    assert swapped.passages == (page,)


def test_sentences_are_running_text() -> None:
    text = "CONTENTS\n\n| a | b |\n\nThe office in the old mill opens at seven in the morning. It is closed on Sundays."
    assert sentences(text) == ["The office in the old mill opens at seven in the morning."]
    assert held("Every 24 months", "after 24 weeks") == 1 / 3


def test_an_opening_is_what_the_customer_says_first() -> None:
    said = '1. **Start:** "Hi, I have lost my card and need another one." 2. "Then this, which is later in the talk."'
    assert opening({"user_scenario": {"instructions": said}}) == "Hi, I have lost my card and need another one."
    sought = "You are Kim. You're looking for a savings account. You want much interest. Be brief."
    assert opening({"user_scenario": {"instructions": sought}}).startswith("You're looking for a savings account.")


def test_a_result_says_which_targets_were_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_result, "RESULTS", tmp_path / "results")
    rows = [row("recall", 0.8, (">=", 0.9)), row("leaks", 0, ("<=", 0)), row("share", 0.5)]
    assert [one.holds for one in rows] == [False, True, None]
    assert not report("sample", rows, packages=("pytest", "no-such-package"))
    written = json.loads((tmp_path / "results" / "sample.json").read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == written
    assert written["rows"][0]["target"] == ">= 0.9"
    assert written["versions"]["no-such-package"] == "absent"


def test_a_comparison_is_judged_by_the_median_of_its_rounds_ratios() -> None:
    one = beside("load, s", [(1.0, 1.0), (3.0, 2.0), (4.0, 5.0)], "by hand", ("<=", 1.25))
    assert (one.ours, one.peer_value, one.ratio, one.spread) == (3.0, 2.0, 1.0, (0.8, 1.5))
    assert (one.target, one.holds) == ("ratio <= 1.25", True)
    assert beside("speed", [(2.0, 1.0)], "by hand", (">=", 2.5)).holds is False
    alone = beside("speed", [(2.0, 1.0)], "by hand")
    assert (alone.target, alone.holds) == (None, None)
