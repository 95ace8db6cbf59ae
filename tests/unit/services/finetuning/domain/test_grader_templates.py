import json
import time
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidInput
from services.finetuning.domain.grader_faults import Fault, Ungradable
from services.finetuning.domain.grader_templates import Reference, Sample, is_shallow, parse_template

ITEM: dict[str, Any] = {
    "answer": "Bern",
    "count": 3,
    "right": True,
    "none": None,
    "facts": [{"name": "capital", "place": {"zip code": "3000"}}, "seat"],
    "with-dash": "dash",
    "größe": "groß",
}
NAME = st.from_regex(r"[a-z_][a-z0-9_]{0,10}", fullmatch=True)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3),
    max_leaves=8,
)


def rendered(text: str, output: str = "", item: dict[str, Any] | None = None) -> str:
    return parse_template(text, param="grader.input").render(Sample(output), ITEM if item is None else item)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{{ item.answer }}", "Bern"),
        ("{{item.answer}}!", "Bern!"),
        ("{{\n item.answer\t}}", "Bern"),
        ("It is {{ item.answer }}, {{ item.count }} times", "It is Bern, 3 times"),
        ("{{ item.right }} {{ item.none }}", "true null"),
        ("{{ item.facts[0].name }} {{ item.facts.1 }}", "capital seat"),
        ("{{ item.facts[0].place['zip code'] }}", "3000"),
        ('{{ item["answer"] }} {{ item.with-dash }} {{ item.größe }}', "Bern dash groß"),
        ("{{ item.facts[0].place }}", '{"zip code":"3000"}'),
        ("{{ item.facts }}", '[{"name":"capital","place":{"zip code":"3000"}},"seat"]'),
        ('JSON such as {"a": {"b": 1}} stays', 'JSON such as {"a": {"b": 1}} stays'),
        ("{{ sample.output_text }}", '{"city": "Bern", "zips": [3000]}'),
        ("{{ sample.output_json.city }}/{{ sample.output_json.zips[0] }}", "Bern/3000"),
        ("{{ sample.output_json }}", '{"city":"Bern","zips":[3000]}'),
    ],
)
def test_references_become_values(template: str, text: str) -> None:
    assert rendered(template, '{"city": "Bern", "zips": [3000]}') == text


def test_a_row_whose_text_looks_like_a_reference_is_text() -> None:
    assert rendered("{{ item.answer }}", item={"answer": "{{ item.secret }}", "secret": "x"}) == "{{ item.secret }}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ item.answer", "'{{ item.answer' is never closed"),
        ("{{ }}", "'{{ }}' is not a reference"),
        ("{{ item.answer | upper }}", "is not a reference"),
        ("{{ item.answer() }}", "is not a reference"),
        ("{{ item..answer }}", "is not a reference"),
        ("{{ item[answer] }}", "is not a reference"),
        ("{{ item.__class__.__mro__[-1] }}", "is not a reference"),
        ("{{ 1 + 1 }}", "is not a reference"),
        ("{{ row.answer }}", "there is no 'row'"),
        ("{{ sample }}", "sample has output_text, output_json"),
        ("{{ sample.text }}", "sample has output_text, output_json"),
        ("{{ sample.output_text.name }}", "output_text is text and has no fields; use sample.output_json"),
        ("{{ item.a }}" * 65, "more than 64 references"),
        ("{{ item" + ".a" * 65 + " }}", "more than 64 levels"),
        ("x" * 16_385, "16385 characters are more than 16384"),
    ],
)
def test_what_is_no_reference_is_named(template: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_template(template, param="grader.input")
    assert refused.value.message.startswith("grader.input: ")
    assert said in refused.value.message
    assert refused.value.param == "grader.input"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ item.answr }}", "{{ item.answr }}: item has no 'answr'; it has answer, count, facts, größe, none, right"),
        ("{{ item.facts[2] }}", "item.facts has no entry '2'; it has 2, counted from 0"),
        ("{{ item.facts.name }}", "item.facts has no entry 'name'"),
        ("{{ item.facts[0].zip }}", "item.facts[0] has no 'zip'; it has name, place"),
        ("{{ item.answer.city }}", "item.answer has no 'city'; it is text"),
        ("{{ item.count.x }}", "it is a number"),
        ("{{ item.right.x }}", "it is true or false"),
        ("{{ item.none.x }}", "it is null"),
    ],
)
def test_what_a_row_lacks_is_named_with_what_it_has(template: str, said: str) -> None:
    with pytest.raises(Ungradable) as missing:
        rendered(template)
    assert (missing.value.fault, missing.value.of_sample) == (Fault.VARIABLE, False)
    assert said in missing.value.reason


def test_a_row_of_many_fields_is_not_listed_whole() -> None:
    with pytest.raises(Ungradable, match="field19 and 80 more"):
        rendered("{{ item.answer }}", item={f"field{number:02}": 1 for number in range(100)})
    with pytest.raises(Ungradable, match="it has no fields"):
        rendered("{{ item.answer }}", item={})


def test_an_answer_that_lacks_what_is_asked_of_it_is_at_fault_itself() -> None:
    with pytest.raises(Ungradable) as no_json:
        rendered("{{ sample.output_json.city }}", "It is Bern.")
    assert (no_json.value.fault, no_json.value.of_sample) == (Fault.SAMPLE, True)
    with pytest.raises(Ungradable) as no_field:
        rendered("{{ sample.output_json.city }}", '{"town": "Bern"}')
    assert (no_field.value.fault, no_field.value.of_sample) == (Fault.VARIABLE, True)
    assert "sample.output_json has no 'city'; it has town" in no_field.value.reason
    with pytest.raises(Ungradable) as deep:
        rendered("{{ sample.output_json }}", "[" * 300 + "]" * 300)
    assert (deep.value.fault, deep.value.of_sample) == (Fault.SAMPLE, True)


def test_a_text_that_grows_without_limit_is_stopped() -> None:
    with pytest.raises(Ungradable, match="more than 262144 characters"):
        rendered("{{ item.long }}" * 60, item={"long": "x" * 10_000})


@given(st.dictionaries(NAME, VALUE, min_size=1, max_size=4), st.data())
def test_every_field_of_a_row_can_be_named(item: dict[str, Any], data: st.DataObject) -> None:
    path, value = "item", cast(Any, item)
    while isinstance(value, dict | list) and value:
        key = data.draw(st.sampled_from(sorted(value)) if isinstance(value, dict) else st.integers(0, len(value) - 1))
        path += f"[{key}]" if isinstance(key, int) else data.draw(st.sampled_from([f".{key}", f"['{key}']"]))
        value = value[key]
    text = rendered(f"<{{{{ {path} }}}}>", item=item)
    assert text[0] + text[-1] == "<>"
    assert text[1:-1] == value if isinstance(value, str) else json.loads(text[1:-1]) == value


@given(st.text(alphabet=st.sampled_from("{} .[]'\"iteamslpoux_0123tjn\n")), st.text(max_size=20))
def test_whatever_is_written_renders_or_is_refused_by_name(text: str, output: str) -> None:
    try:
        template = parse_template(text, param="p")
    except InvalidInput as error:
        assert error.message.startswith("p: ")  # noqa: PT017  either is right
        return
    assert "".join(piece.written if isinstance(piece, Reference) else piece for piece in template.pieces) == text
    try:
        template.render(Sample(output), ITEM)
    except Ungradable as error:
        assert error.reason  # noqa: PT017


def test_a_hostile_template_is_read_in_a_moment() -> None:
    began = time.perf_counter()
    for hostile in ("{{" * 8_000, "{{ item" + "." * 16_000, "{{ item" + "['" * 5_000 + "}}", "}}" * 8_000):
        try:
            parse_template(hostile, param="p")
        except InvalidInput:
            continue
    # Minutes if any of it took the square of its length; no measure of this machine.
    assert time.perf_counter() - began < 30


def test_depth_is_measured_without_recursion() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert not is_shallow(deep)
    assert is_shallow([[{"a": [1]}]])
