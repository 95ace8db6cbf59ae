import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidInput
from services.finetuning.domain.grader_faults import Fault, Ungradable
from services.finetuning.domain.grader_formula import parse_formula

RESULTS = {"style": 0.5, "facts": 2.0, "zero": 0.0}


def value(text: str) -> float:
    return parse_formula(text, RESULTS, param="grader.calculate_output").value(RESULTS)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("facts", 2.0), ("7", 7.0), ("1e-3", 0.001), ("(style + facts) / 2", 1.25), ("style*facts-1", 0.0),
        ("-style", -0.5), ("+facts", 2.0), ("2 ** 3 ** 2", 512.0), ("2^3", 8.0), ("-2**2", -4.0), ("facts ^ -1", 0.5),
        ("min(style, facts, 0.1)", 0.1), ("max(style)", 0.5), ("abs(-3)", 3.0), ("floor(-0.5)", -1.0), ("ceil(0.2)", 1.0),
        ("exp(0)", 1.0), ("sqrt(16)", 4.0), ("log(exp(2))", 2.0), (" \n 1 + 1 ", 2.0), ("10/4", 2.5), ("0**0", 1.0),
    ],
)  # fmt: skip
def test_arithmetic_is_done(text: str, result: float) -> None:
    assert value(text) == pytest.approx(result)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("style +", "is not a formula"),
        ("style facts", "is not a formula"),
        ("tone + style", "there is no grader 'tone'; there are facts, style, zero"),
        ("style if facts else 0", "'style if facts else 0' is not offered"),
        ("style > 1", "is not offered"),
        ("style and facts", "is not offered"),
        ("not style", "is not offered"),
        ("~style", "is not offered"),
        ("style // facts", "is not offered"),
        ("style % facts", "is not offered"),
        ("style @ facts", "is not offered"),
        ("style << 2", "is not offered"),
        ("'text' * 3", "is not offered"),
        ("True", "is not offered"),
        ("None", "is not offered"),
        ("1j", "is not offered"),
        ("1e999", "is not offered"),
        ("9" * 400, "is not offered"),
        ("[style][0]", "is not offered"),
        ("style.real", "is not offered"),
        ("lambda: 1", "is not offered"),
        ("(style := 1)", "is not offered"),
        ("[x for x in (1, 2)]", "is not offered"),
        ("__import__('os').system('true')", "is not offered"),
        ("open('/etc/passwd')", "is not offered"),
        ("().__class__.__bases__", "is not offered"),
        ("exp", "there is no grader 'exp'"),
        ("pow(2, 3)", "is not offered"),
        ("log(2, 10)", "log takes 1 values, not 2"),
        ("max()", "max takes 1 to 20 values, not 0"),
        ("max(*style)", "is not offered"),
        ("max(style, key=1)", "is not offered"),
        ("min(style)(facts)", "is not offered"),
        ("+".join(["1"] * 60), "nests deeper than 32"),
        ("-" * 900 + "1", "nests deeper than 32"),
        ("max(" + ",".join(["1"] * 20) + ")" + "+max(" + ",".join(["(" + "+".join(["1"] * 5) + ")"] * 20) + ")", "200"),
        ("(" * 500 + "1" + ")" * 500, "characters are more than 1000"),
        ("(" * 300 + "1" + ")" * 300, "is not a formula"),
        ("1" + "+1" * 600, "characters are more than 1000"),
        ("style; facts", "is not a formula"),
        ("x = 1", "is not a formula"),
        ("\0", "is not a formula"),
    ],
)
def test_what_is_no_arithmetic_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_formula(text, RESULTS, param="grader.calculate_output")
    assert refused.value.message.startswith("grader.calculate_output: ")
    assert said in refused.value.message


@pytest.mark.parametrize(
    "text",
    ["1 / zero", "zero ** -1", "sqrt(-1)", "log(zero)", "exp(1000)", "1e308 * 10", "1e308*10 - 1e308*10", "(-8) ** 0.5",
     "2 ** 101", "2 ** -101", "10 ** 99 ** 2", "floor(1e308 * 10)"],
)  # fmt: skip
def test_a_formula_without_a_value_says_so(text: str) -> None:
    with pytest.raises(Ungradable) as failed:
        value(text)
    assert failed.value.fault is Fault.FORMULA
    assert not failed.value.of_sample
    assert "facts=2, style=0.5, zero=0" in failed.value.reason


def test_a_formula_knows_whom_it_names() -> None:
    assert parse_formula("max(style, 1) * style", RESULTS, param="p").names == {"style"}


NUMBERS = st.floats(0.01, 99).map(lambda number: round(number, 3))
EXPRESSIONS = st.recursive(
    NUMBERS.map(str) | st.sampled_from(["a", "b"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda it: f"({it[0]} {it[1]} {it[2]})"),
        inner.map(lambda it: f"-{it}"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda it: f"{it[0]}({it[1]}, {it[2]})"),
        inner.map(lambda it: f"abs({it})"),
        inner.map(lambda it: f"({it}) ** 2"),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS, NUMBERS, NUMBERS)
def test_it_is_what_python_computes(text: str, a: float, b: float) -> None:
    """Against Python itself, on expressions that are safe because they were made here."""
    names = {"a": a, "b": b}
    try:
        expected = float(eval(text, {"__builtins__": {}, "min": min, "max": max, "abs": abs}, dict(names)))
    except ArithmeticError:
        with pytest.raises(Ungradable):
            parse_formula(text, names, param="p").value(names)
        return
    assert parse_formula(text, names, param="p").value(names) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.text(alphabet=st.sampled_from("ab0123456789.e+-*/^()[]{},:=<>!'\" minaxlogsqrt_\\\n#@~%&|")))
def test_whatever_is_written_has_a_finite_value_or_an_error_that_says_why(text: str) -> None:
    names = {"a": 0.5, "b": -1.0}
    try:
        result = parse_formula(text, names, param="p").value(names)
    except InvalidInput as error:
        assert error.message.startswith("p: ")  # noqa: PT017  either is right
    except Ungradable as error:
        assert error.fault is Fault.FORMULA  # noqa: PT017
    else:
        assert math.isfinite(result)


def test_a_hostile_formula_is_refused_in_a_moment() -> None:
    began = time.perf_counter()
    for hostile in ("9**9**9**9**9**9", "((" * 400, "-" * 999, "9" * 999, "max(" * 240, "a**" * 300 + "a"):
        try:
            parse_formula(hostile, {"a"}, param="p").value({"a": 9.0})
        except (InvalidInput, Ungradable):
            continue
        pytest.fail(f"{hostile[:20]} was computed")
    # Never, if any of it were computed with whole numbers; no measure of this machine.
    assert time.perf_counter() - began < 30
