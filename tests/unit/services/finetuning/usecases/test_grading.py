"""One answer, graded; the judge and the embedder answer what they are told."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.chassis.errors import BrainError, NotFound, Overloaded, Unavailable
from services.finetuning.domain.grader_documents import grader_of
from services.finetuning.domain.grader_judging import Judgement, Question, TokenCounts, Turn
from services.finetuning.usecases.grading import Grade, GradeAnswer
from services.generation.backends.scripted_json import as_json

CHECK: dict[str, Any] = {
    "type": "string_check", "name": "exact", "input": "{{ sample.output_text }}", "reference": "{{ item.city }}",
    "operation": "eq",
}  # fmt: skip
FIELD = CHECK | {"name": "field", "input": "{{ sample.output_json.city }}"}
COSINE: dict[str, Any] = {
    "type": "text_similarity", "name": "meaning", "input": "{{ sample.output_text }}", "reference": "{{ item.city }}",
    "evaluation_metric": "cosine",
}  # fmt: skip
SCORE: dict[str, Any] = {
    "type": "score_model", "name": "judge", "model": "default", "range": [1, 5],
    "input": [{"role": "user", "content": "How good is {{ sample.output_text }} for {{ item.city }}?"}],
}  # fmt: skip
LABEL: dict[str, Any] = {
    "type": "label_model", "name": "tone", "model": "ft:tone", "labels": ["kind", "rude"], "passing_labels": ["kind"],
    "input": [{"role": "user", "content": "What tone has {{ sample.output_text }}?"}],
}  # fmt: skip
ITEM = {"city": "Bern"}


@dataclass
class Bench:
    """Judges and embeds as it is told."""

    text: str = '{"result": 4}'
    complete: bool = True
    error: BrainError | None = None
    asked: list[Question] = field(default_factory=list)
    embedded: list[Sequence[str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def judge(self, question: Question) -> Judgement:
        self.asked.append(question)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        model = "smollm" if question.model == "default" else question.model
        return Judgement(self.text, model, self.complete, TokenCounts(prompt=20, cached=5, completion=7))

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        self.embedded.append(texts)
        if self.error is not None:
            raise self.error
        return [[1.0, 0.0], [0.6, 0.8]]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def graded(bench: Bench, grader: dict[str, Any], answer: str, item: dict[str, Any] | None = None) -> Grade:
    grade = GradeAnswer(judge=bench, embedder=bench, clock=iter(range(100)).__next__)
    return await grade.run(grader_of(grader), answer, ITEM if item is None else item)


def flags(grade: Grade) -> list[str]:
    return [name for name, value in grade.metadata["errors"].items() if value is True]


async def test_a_grader_that_needs_no_model_asks_none(bench: Bench) -> None:
    grade = await graded(bench, CHECK, "Bern")
    assert (grade.reward, grade.sub_rewards) == (1.0, {})
    assert (bench.asked, bench.embedded) == ([], [])
    assert grade.metadata == {
        "name": "exact",
        "type": "string_check",
        "errors": {
            "formula_parse_error": False,
            "sample_parse_error": False,
            "truncated_observation_error": False,
            "unresponsive_reward_error": False,
            "invalid_variable_error": False,
            "other_error": False,
            "python_grader_server_error": False,
            "python_grader_server_error_type": None,
            "python_grader_runtime_error": False,
            "python_grader_runtime_error_details": None,
            "model_grader_server_error": False,
            "model_grader_server_error_details": None,
            "model_grader_refusal_error": False,
            "model_grader_parse_error": False,
        },
        "execution_time": 1,
        "scores": {"exact": 1.0},
        "token_usage": None,
        "sampled_model_name": None,
        "model_grader_token_usage_per_model": {},
    }


async def test_meaning_is_compared_by_vectors(bench: Bench) -> None:
    assert (await graded(bench, COSINE, "The capital")).reward == pytest.approx(0.6)
    assert bench.embedded == [["The capital", "Bern"]]


async def test_a_judge_gives_a_number_of_its_range(bench: Bench) -> None:
    grade = await graded(bench, SCORE, "Bern")
    assert (grade.reward, flags(grade)) == (4.0, [])
    assert grade.metadata["sampled_model_name"] == "smollm"
    assert grade.metadata["token_usage"] == 27
    assert grade.metadata["model_grader_token_usage_per_model"] == {
        "smollm": {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27, "cached_tokens": 5}
    }
    (question,) = bench.asked
    order = 'Answer with JSON only, in the form {"result": NUMBER}, where NUMBER is from 1 to 5.'
    assert question.turns == (Turn("system", order), Turn("user", "How good is Bern for Bern?"))
    assert json.loads(question.json_schema)["properties"]["result"] == {"type": "number", "minimum": 1, "maximum": 5}
    assert (question.model, question.sampling.temperature) == ("default", 0.0)


async def test_a_judge_chooses_a_label(bench: Bench) -> None:
    for label, reward in (("kind", 1.0), ("rude", 0.0)):
        bench.text = json.dumps({"result": label})
        grade = await graded(bench, LABEL, "Hello!")
        assert (grade.reward, flags(grade)) == (reward, [])
    schema = json.loads(bench.asked[0].json_schema)
    assert schema["properties"]["result"] == {"type": "string", "enum": ["kind", "rude"]}
    assert schema["required"] == ["result"]
    assert '"kind", "rude"' in bench.asked[0].turns[0].content


@pytest.mark.parametrize(
    ("turns", "roles"),
    [
        ([("system", "a"), ("developer", "b"), ("user", "c")], ["system", "user"]),
        ([("user", "a"), ("assistant", "b"), ("user", "c")], ["system", "user", "assistant", "user"]),
        ([("user", "a"), ("assistant", "b")], ["system", "user", "assistant", "user"]),
        ([("developer", "a")], ["system", "user"]),
        ([("user", "a"), ("developer", "b"), ("user", "c")], ["system", "user", "system", "user"]),
    ],
)
async def test_a_judge_reads_what_chat_templates_take(
    bench: Bench, turns: list[tuple[str, str]], roles: list[str]
) -> None:
    await graded(bench, SCORE | {"input": [{"role": role, "content": text} for role, text in turns]}, "x")
    asked = bench.asked[0].turns
    assert [turn.role for turn in asked] == roles
    assert asked[-1].role == "user"
    written = "\n".join(turn.content for turn in asked)
    assert all(text in written for _, text in turns)


@pytest.mark.parametrize(
    "said", ["4", "", "four", '{"score": 4}', '{"result": 6}', '{"result": "4"}', '{"result": true}']
)
async def test_a_number_that_is_none_is_a_flag(bench: Bench, said: str) -> None:
    bench.text = said
    grade = await graded(bench, SCORE, "Bern")
    assert (grade.reward, flags(grade)) == (0.0, ["model_grader_parse_error"])
    assert "a number from 1 to 5" in grade.metadata["errors"]["model_grader_parse_error_details"]
    # It was asked, and that took tokens.
    assert grade.metadata["token_usage"] == 27


@pytest.mark.parametrize("said", ["kind", '{"result": "friendly"}', '{"result": ["kind"]}', '{"result": null}'])
async def test_a_label_that_is_none_is_a_flag(bench: Bench, said: str) -> None:
    bench.text, bench.complete = said, False
    grade = await graded(bench, LABEL, "Hello!")
    assert (grade.reward, flags(grade)) == (0.0, ["model_grader_parse_error"])
    assert "ran out of tokens" in grade.metadata["errors"]["model_grader_parse_error_details"]


@pytest.mark.parametrize("error", [Unavailable("The engine is away."), Overloaded("The engine is busy.")])
async def test_an_engine_that_fails_is_a_flag(bench: Bench, error: BrainError) -> None:
    bench.error = error
    grade = await graded(bench, SCORE, "Bern")
    assert (grade.reward, flags(grade)) == (0.0, ["model_grader_server_error"])
    assert grade.metadata["errors"]["model_grader_server_error_details"] == error.message


async def test_a_judge_that_does_not_exist_is_the_requests_own_error(bench: Bench) -> None:
    bench.error = NotFound("model: there is no model 'gpt-4o'.", param="model")
    for grader in (SCORE, {"type": "multi", "graders": {"exact": CHECK, "judge": SCORE}, "calculate_output": "exact"}):
        with pytest.raises(NotFound, match="gpt-4o"):
            await graded(bench, grader, "Bern")


async def test_what_the_row_or_the_answer_lacks_is_a_flag(bench: Bench) -> None:
    for grader, answer, item, flag, said in (
        (CHECK, "Bern", {"town": "Bern"}, "invalid_variable_error", "item has no 'city'; it has town"),
        (FIELD, "Bern", ITEM, "sample_parse_error", "The answer is not JSON"),
        (FIELD, '{"town": 1}', ITEM, "invalid_variable_error", "sample.output_json has no 'city'; it has town"),
        (SCORE, "Bern", {}, "invalid_variable_error", "item has no 'city'; it has no fields"),
    ):
        grade = await graded(bench, grader, answer, item)
        assert (grade.reward, flags(grade)) == (0.0, [flag])
        assert said in grade.metadata["errors"][f"{flag}_details"]
    assert bench.asked == []


async def test_several_graders_are_joined_by_a_formula(bench: Bench) -> None:
    graders = {"exact": CHECK, "meaning": COSINE, "judge": SCORE, "second": SCORE | {"model": "ft:judge"}}
    grader = {"type": "multi", "name": "all", "graders": graders, "calculate_output": "exact + meaning + judge / 5"}
    grade = await graded(bench, grader, "Bern")
    assert grade.reward == pytest.approx(1 + 0.6 + 0.8)
    assert grade.sub_rewards == pytest.approx({"exact": 1.0, "meaning": 0.6, "judge": 4.0, "second": 4.0})
    assert grade.metadata["scores"] == grade.sub_rewards
    assert (grade.metadata["name"], grade.metadata["type"]) == ("all", "multi")
    assert grade.metadata["token_usage"] == 54
    assert sorted(grade.metadata["model_grader_token_usage_per_model"]) == ["ft:judge", "smollm"]
    # Two models: none of them is the one.
    assert grade.metadata["sampled_model_name"] is None
    assert bench.most_at_once == 2


async def test_a_part_without_a_result_counts_nothing_and_is_said(bench: Bench) -> None:
    grader = {"type": "multi", "graders": {"exact": CHECK, "field": FIELD}, "calculate_output": "(exact + field) / 2"}
    grade = await graded(bench, grader, "Bern")
    assert (grade.reward, grade.sub_rewards) == (0.5, {"exact": 1.0, "field": 0.0})
    assert flags(grade) == ["sample_parse_error"]


async def test_a_formula_without_a_value_is_a_flag(bench: Bench) -> None:
    grader = {"type": "multi", "graders": {"exact": CHECK}, "calculate_output": "1 / exact"}
    grade = await graded(bench, grader, "Basel")
    assert (grade.reward, flags(grade)) == (0.0, ["formula_parse_error"])
    assert "'1 / exact' has no value for exact=0" in grade.metadata["errors"]["formula_parse_error_details"]


@pytest.mark.parametrize(("grader", "reward"), [(SCORE, 1.0), (LABEL, 1.0)])
async def test_what_an_engine_makes_of_the_schema_can_be_read(
    bench: Bench, grader: dict[str, Any], reward: float
) -> None:
    """The scripted engine's JSON, made of the schema that the judge is given."""
    await graded(bench, grader, "Bern")
    bench.text = as_json("it sounds kind", bench.asked[0].json_schema)
    grade = await graded(bench, grader, "Bern")
    assert (grade.reward, flags(grade)) == (reward, [])
