from typing import Any

import pytest

from services.chassis.errors import InvalidInput
from services.finetuning.domain.grader_documents import grader_of
from services.finetuning.domain.grader_rewards import missing_in, reward_function

CHECK: dict[str, Any] = {
    "type": "string_check", "name": "exact", "input": "{{ sample.output_json.city }}", "reference": "{{ item.city }}",
    "operation": "ilike",
}  # fmt: skip
CLOSE: dict[str, Any] = {
    "type": "text_similarity", "name": "close", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}",
    "evaluation_metric": "rouge_l",
}  # fmt: skip
BOTH: dict[str, Any] = {
    "type": "multi", "graders": {"exact": CHECK, "close": CLOSE}, "calculate_output": "min(1, exact + close / 2)",
}  # fmt: skip
ITEM = {"city": "Bern", "answer": "the city is bern"}


def test_an_answer_is_rewarded_as_it_is_graded() -> None:
    exact, close, both = (reward_function(grader_of(grader)) for grader in (CHECK, CLOSE, BOTH))
    assert exact('{"city": "BERN"}', ITEM) == 1.0
    assert exact('{"city": "Basel"}', ITEM) == 0.0
    assert close("The city is Bern!", ITEM) == 1.0
    assert both('{"city": "Bern"}', ITEM) == pytest.approx(1.0)
    assert both("the city is bern", ITEM) == pytest.approx(0.5)


@pytest.mark.parametrize("answer", ["Bern", '{"town": "Bern"}', '"Bern"', "[" * 500, ""])
def test_an_answer_that_lacks_what_is_asked_of_it_earns_nothing(answer: str) -> None:
    assert reward_function(grader_of(CHECK))(answer, ITEM) == 0.0


def test_a_row_that_lacks_a_field_stops_the_training_and_is_found_before() -> None:
    row = {"city": "Bern"}
    for grader in (CLOSE, BOTH):
        with pytest.raises(InvalidInput, match=r"item has no 'answer'; it has city"):
            reward_function(grader_of(grader))("x", row)
        (missing,) = missing_in(grader_of(grader), row)
        assert missing == "{{ item.answer }}: item has no 'answer'; it has city."
        assert missing_in(grader_of(grader), ITEM) == []
    assert len(missing_in(grader_of(BOTH), {})) == 2


def test_a_formula_without_a_value_stops_the_training() -> None:
    reward = reward_function(grader_of(BOTH | {"calculate_output": "1 / exact"}))
    with pytest.raises(InvalidInput, match=r"'1 / exact' has no value for close=0, exact=0"):
        reward("Basel", ITEM)


def test_texts_that_would_take_minutes_are_not_compared() -> None:
    with pytest.raises(InvalidInput, match="close: texts of more than 65536 characters are not compared"):
        reward_function(grader_of(CLOSE))("x" * 70_000, ITEM)


@pytest.mark.parametrize(
    "grader",
    [
        CLOSE | {"evaluation_metric": "cosine"},
        {"type": "score_model", "name": "judge", "model": "m", "input": [{"role": "user", "content": "x"}]},
        {"type": "multi", "graders": {"close": CLOSE | {"evaluation_metric": "cosine"}}, "calculate_output": "close"},
    ],
)
def test_a_grader_that_needs_a_model_is_no_reward_function(grader: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="needs a model at every step"):
        reward_function(grader_of(grader))
