import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidInput
from services.retrieval.domain import attribute_term, parse_filter

ATTRIBUTES = {"year": 2024, "team": "sales", "public": True, "price": 1.5}


def matches(**condition: Any) -> bool:
    found = parse_filter(json.dumps(condition))
    assert found is not None
    return found.matches(ATTRIBUTES)


@pytest.mark.parametrize(
    ("kind", "key", "value", "expected"),
    [
        ("eq", "year", 2024, True),
        ("eq", "year", 2024.0, True),
        ("eq", "year", "2024", False),
        ("eq", "public", True, True),
        ("eq", "public", 1, False),
        ("ne", "team", "it", True),
        ("ne", "missing", "x", True),
        ("eq", "missing", "x", False),
        ("gt", "year", 2023, True),
        ("gt", "year", 2024, False),
        ("gte", "year", 2024, True),
        ("lt", "price", 2, True),
        ("lte", "price", 1.5, True),
        ("lt", "team", "t", True),
        ("lt", "team", 5, False),
        ("gt", "missing", 0, False),
        ("in", "team", ["it", "sales"], True),
        ("nin", "team", ["it", "sales"], False),
        ("nin", "missing", ["it"], True),
    ],
)
def test_comparisons(kind: str, key: str, value: Any, expected: bool) -> None:
    assert matches(type=kind, key=key, value=value) is expected


def test_compounds() -> None:
    good, bad = {"type": "eq", "key": "year", "value": 2024}, {"type": "eq", "key": "year", "value": 1}
    assert matches(type="or", filters=[good, bad])
    assert not matches(type="and", filters=[good, bad])
    assert matches(type="and", filters=[good, {"type": "or", "filters": [bad, good]}])


def test_no_filter_is_none() -> None:
    assert parse_filter("  ") is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "filters"),
        ("[]", "filters"),
        ('{"type":"like","key":"a","value":1}', "like"),
        ('{"type":"eq","key":"","value":1}', "filters.key"),
        ('{"type":"eq","key":"a","value":null}', "filters.value"),
        ('{"type":"in","key":"a","value":[]}', "filters.value"),
        ('{"type":"gt","key":"a","value":true}', "gt"),
        ('{"type":"and","filters":[]}', "filters.filters"),
        ('{"type":"and","filters":[{"type":"x"}]}', "filters.filters[0].type"),
        ('{"type":"eq","key":"a","value":NaN}', "filters.value"),
        (r'{"type":"eq","key":"a","value":"\ud800"}', "surrogate"),
        (r'{"type":"in","key":"\udfff","value":["a"]}', "surrogate"),
        ("[" * 100_000, "filters"),
    ],
)
def test_what_is_no_filter_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named.replace("[", r"\[")) as refused:
        parse_filter(text)
    assert refused.value.param == "filters"


def test_a_filter_is_bounded() -> None:
    leaf: dict[str, Any] = {"type": "eq", "key": "a", "value": 1}
    deep = leaf
    for _ in range(20):
        deep = {"type": "and", "filters": [deep]}
    for hostile in (deep, {"type": "or", "filters": [leaf] * 200}):
        with pytest.raises(InvalidInput):
            parse_filter(json.dumps(hostile))


SCALARS = st.one_of(st.text(max_size=5), st.integers(-5, 5), st.booleans(), st.floats(-2, 2))


@given(SCALARS, SCALARS)
def test_equal_terms_are_equal_values(one: Any, other: Any) -> None:
    alike = isinstance(one, bool) == isinstance(other, bool) and isinstance(one, str) == isinstance(other, str)
    assert (attribute_term("k", one) == attribute_term("k", other)) == (alike and one == other)
