"""Graders checked and run."""

from typing import Any

import pytest
from openai import BadRequestError, OpenAI

EXACT: Any = {
    "type": "string_check",
    "name": "exact",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}
CLOSE: Any = {
    "type": "text_similarity",
    "name": "close",
    "evaluation_metric": "fuzzy_match",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}


def test_a_grader_is_checked(client: OpenAI) -> None:
    found = client.fine_tuning.alpha.graders.validate(grader=EXACT).grader
    assert (found.type, found.name, found.operation) == ("string_check", "exact", "eq")


@pytest.mark.parametrize(("sample", "reward"), [("42 euros", 1.0), ("43 euros", 0.0)])
def test_an_answer_is_graded(client: OpenAI, sample: str, reward: float) -> None:
    grade = client.fine_tuning.alpha.graders.run(grader=EXACT, model_sample=sample, item={"answer": "42 euros"})
    assert grade.reward == reward
    assert (grade.metadata.name, grade.metadata.type) == ("exact", "string_check")
    assert grade.metadata.errors.other_error is False
    assert grade.metadata.execution_time >= 0


def test_several_graders_are_one_score(client: OpenAI) -> None:
    both: Any = {
        "type": "multi",
        "name": "both",
        "graders": {"exact": EXACT, "close": CLOSE},
        "calculate_output": "0.5 * exact + 0.5 * close",
    }
    grade = client.fine_tuning.alpha.graders.run(grader=both, model_sample="42 euros", item={"answer": "42 euro"})
    assert set(grade.sub_rewards) == {"exact", "close"}
    assert 0 < grade.reward < 1


def test_a_variable_that_is_not_there_is_a_flag(client: OpenAI) -> None:
    grade = client.fine_tuning.alpha.graders.run(grader=EXACT, model_sample="42", item={"other": "42"})
    assert grade.metadata.errors.invalid_variable_error is True
    assert grade.reward == 0


def test_code_is_refused(client: OpenAI) -> None:
    code: Any = {"type": "python", "name": "mine", "source": "def grade(sample, item):\n    return 1.0\n"}
    for ask in (
        lambda: client.fine_tuning.alpha.graders.validate(grader=code),
        lambda: client.fine_tuning.alpha.graders.run(grader=code, model_sample="x", item={}),
    ):
        with pytest.raises(BadRequestError) as caught:
            ask()
        assert "python" in caught.value.message
        assert str(caught.value.param).startswith("grader")
