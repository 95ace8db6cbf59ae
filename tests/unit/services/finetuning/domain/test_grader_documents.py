import json
from typing import Any

import pytest

from services.chassis.errors import InvalidInput, TooLarge
from services.finetuning.domain.grader_documents import document_of, grader_of, parse_grader
from services.finetuning.domain.graders import needs_model

CHECK: dict[str, Any] = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}
SIMILARITY: dict[str, Any] = {
    "type": "text_similarity",
    "name": "close",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "evaluation_metric": "fuzzy_match",
}
SCORE: dict[str, Any] = {
    "type": "score_model",
    "name": "judge",
    "model": "default",
    "input": [{"role": "user", "content": "How good is {{ sample.output_text }}?"}],
}
LABEL: dict[str, Any] = {
    "type": "label_model",
    "name": "kind",
    "model": "default",
    "input": [{"role": "developer", "content": "Judge."}, {"role": "user", "content": "{{ sample.output_text }}"}],
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
MULTI: dict[str, Any] = {
    "type": "multi",
    "name": "both",
    "graders": {"exact": CHECK, "close": SIMILARITY},
    "calculate_output": "0.5 * exact + 0.5 * close",
}
ALL = [CHECK, SIMILARITY, SCORE, LABEL, MULTI]


def document(grader: dict[str, Any]) -> dict[str, Any]:
    return document_of(parse_grader(json.dumps(grader)))


def without(grader: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in grader.items() if name != field}


@pytest.mark.parametrize("grader", ALL, ids=lambda grader: grader["type"])
def test_a_grader_comes_back_with_its_defaults_and_stays_so(grader: dict[str, Any]) -> None:
    written = document(grader)
    assert {name: value for name, value in written.items() if name in grader and name != "input"} == {
        name: value for name, value in grader.items() if name != "input"
    }
    assert document(written) == written


def test_defaults_are_said() -> None:
    assert document(SCORE)["range"] == [0, 1]
    assert document(SCORE)["sampling_params"] == {
        "temperature": 0, "top_p": 1, "seed": None, "max_completions_tokens": 256,
    }  # fmt: skip
    assert document(SCORE)["input"] == [
        {"role": "user", "content": "How good is {{ sample.output_text }}?", "type": "message"}
    ]
    unnamed = {name: without(one, "name") for name, one in MULTI["graders"].items()}
    written = document(without(MULTI, "name") | {"graders": unnamed})
    assert written["name"] == "multi"
    assert [one["name"] for one in written["graders"].values()] == ["exact", "close"]


def test_nulls_are_not_given_and_unknown_fields_are_left_out() -> None:
    given = SCORE | {"range": None, "sampling_params": {"seed": None, "reasoning_effort": None}, "later": {"x": 1}}
    assert document(given) == document(SCORE)


def test_content_may_be_parts_of_text() -> None:
    parts = ["one", {"type": "input_text", "text": "two {{ item.answer }}"}, {"type": "output_text", "text": "three"}]
    written = document(SCORE | {"input": [{"role": "user", "content": parts}]})
    assert written["input"][0]["content"] == [
        {"type": "input_text", "text": "one"},
        {"type": "input_text", "text": "two {{ item.answer }}"},
        {"type": "output_text", "text": "three"},
    ]
    one = document(SCORE | {"input": [{"role": "user", "content": {"type": "input_text", "text": "one"}}]})
    assert one["input"][0]["content"] == [{"type": "input_text", "text": "one"}]


def test_the_sdks_form_of_a_multi_grader_is_read_too() -> None:
    written = document({"type": "multi", "name": "m", "graders": CHECK, "calculate_output": "exact"})
    assert list(written["graders"]) == ["exact"]


@pytest.mark.parametrize("kind", ["string_check", "text_similarity", "score_model", "label_model", "multi"])
def test_every_field_that_is_needed_is_missed_by_name(kind: str) -> None:
    grader = next(one for one in ALL if one["type"] == kind)
    for field in grader:
        if (kind, field) == ("multi", "name"):
            continue
        for wanting in (without(grader, field), grader | {field: None}):
            with pytest.raises(InvalidInput) as refused:
                parse_grader(json.dumps(wanting))
            assert refused.value.message == f"grader.{field}: this field is required."


@pytest.mark.parametrize(
    ("grader", "said"),
    [
        ([], "grader: it is not a JSON object."),
        ({"type": "python", "name": "p", "source": "def grade(): ..."}, "grader.type: 'python' is not offered, no code"),
        ({"type": "shell"}, "grader.type: 'shell' is not allowed; use string_check, text_similarity, score_model, label"),
        ({"type": ["multi"]}, "grader.type: ['multi'] is not allowed"),
        (CHECK | {"operation": "matches"}, "grader.operation: 'matches' is not allowed; use eq, ne, like, ilike."),
        (CHECK | {"operation": ["eq"]}, "grader.operation: ['eq'] is not allowed"),
        (CHECK | {"name": ""}, "grader.name: '' is not allowed; use a text that is not empty."),
        (CHECK | {"name": "n" * 129}, "grader.name: 129 characters are more than 128."),
        (CHECK | {"input": 3}, "grader.input: 3 is not allowed; use a text."),
        (CHECK | {"input": "{{ sample.txt }}"}, "grader.input: '{{ sample.txt }}' is not known; sample has output_text"),
        (SIMILARITY | {"evaluation_metric": "meteor"}, "'meteor' is not offered, it needs the WordNet data; use cosine"),
        (SIMILARITY | {"evaluation_metric": "rouge_9"}, "'rouge_9' is not allowed; use cosine, fuzzy_match, bleu"),
        (SCORE | {"input": "text"}, "grader.input: 'text' is not allowed; use a list of 1 to 32 entries."),
        (SCORE | {"input": []}, "grader.input: [] is not allowed"),
        (SCORE | {"input": [{"role": "tool", "content": "x"}]}, "grader.input[0].role: 'tool' is not allowed; use user"),
        (SCORE | {"input": [{"role": "user"}]}, "grader.input[0].content: this field is required."),
        (
            SCORE | {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "grader.input[0].content[0].type: 'input_image' is not allowed; use input_text, output_text: judges read text",
        ),
        (
            SCORE | {"input": [{"role": "user", "content": ["ok", {"type": "input_text", "text": "{{ x }}"}]}]},
            "grader.input[0].content[1].text: '{{ x }}': there is no 'x'",
        ),
        (SCORE | {"range": [1, 1]}, "grader.range: [1, 1] is not allowed; use two numbers, the lower one first."),
        (SCORE | {"range": [0, "1"]}, "grader.range: [0, '1'] is not allowed"),
        (SCORE | {"range": [False, True]}, "grader.range: [False, True] is not allowed"),
        (SCORE | {"range": [0, 10**400]}, "grader.range: "),
        (SCORE | {"model": 4}, "grader.model: 4 is not allowed"),
        (SCORE | {"sampling_params": []}, "grader.sampling_params: it is not a JSON object."),
        (SCORE | {"sampling_params": {"temperature": 3}}, "sampling_params.temperature: 3 is not allowed; use a number"),
        (SCORE | {"sampling_params": {"top_p": 0}}, "grader.sampling_params.top_p: 0 is not allowed; use a number above 0"),
        (SCORE | {"sampling_params": {"seed": 1.5}}, "grader.sampling_params.seed: 1.5 is not allowed; use a whole"),
        (SCORE | {"sampling_params": {"max_completions_tokens": 0}}, "max_completions_tokens: 0 is not allowed"),
        (SCORE | {"sampling_params": {"reasoning_effort": "high"}}, "reasoning_effort: 'high' is not allowed; use none"),
        (LABEL | {"passing_labels": ["fine"]}, "grader.passing_labels: 'fine' is not allowed; use labels of `labels`."),
        (LABEL | {"labels": ["good", "good"]}, "grader.labels: ['good', 'good'] is not allowed; use each label once."),
        (LABEL | {"labels": ["good", ""]}, "grader.labels: '' is not allowed; use texts of 1 to 128 characters."),
        (LABEL | {"passing_labels": []}, "grader.passing_labels: [] is not allowed"),
        (MULTI | {"graders": {}}, "grader.graders: {} is not allowed; use an object of 1 to 16 graders by name."),
        (MULTI | {"graders": [CHECK]}, "grader.graders: "),
        (MULTI | {"graders": {"the check": CHECK}}, "grader.graders: a formula cannot name 'the check'"),
        (MULTI | {"graders": {"max": CHECK}}, "grader.graders: a formula cannot name 'max'"),
        (MULTI | {"graders": {"m": MULTI}}, "grader.graders.m.type: 'multi' is not allowed; use string_check"),
        (MULTI | {"graders": {"p": {"type": "python"}}}, "grader.graders.p.type: 'python' is not offered"),
        (MULTI | {"graders": {"exact": CHECK | {"operation": "x"}}}, "grader.graders.exact.operation: 'x' is not"),
        (MULTI | {"calculate_output": "exact + near"}, "grader.calculate_output: there is no grader 'near'; there are"),
        (MULTI | {"calculate_output": "exec('x')"}, "grader.calculate_output: \"exec('x')\" is not offered"),
        (CHECK | {"deep": [[[]] * 2] * 2, "x": json.loads("[" * 90 + "]" * 90)}, "grader: it nests too deeply."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_is_allowed(grader: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        grader_of(grader)
    assert said in refused.value.message
    assert refused.value.param is not None
    assert refused.value.message.startswith(f"{refused.value.param}: ")


def test_a_grader_is_read_from_json_of_a_reasonable_length() -> None:
    with pytest.raises(InvalidInput, match="grader: it is not JSON"):
        parse_grader("{type: 'string_check'}")
    with pytest.raises(TooLarge, match="131073 characters are more than 131072"):
        parse_grader(" " * 131_073)


def test_what_needs_a_model_is_known() -> None:
    cosine = SIMILARITY | {"evaluation_metric": "cosine"}
    assert [needs_model(grader_of(one)) for one in ALL] == [False, False, True, True, False]
    assert needs_model(grader_of(cosine))
    assert needs_model(grader_of(MULTI | {"graders": {"exact": CHECK, "close": cosine}}))
