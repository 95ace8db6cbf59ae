"""Arithmetic over the results of graders (`calculate_output`): numbers, names, + - * / **, and a few functions.

The formula is read by Python's parser and evaluated here, node by node; nothing else of the language is known. All numbers
are floats, so that none grows without limit, and the value is finite or there is none.
"""

import ast
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from services.chassis.errors import InvalidInput
from services.finetuning.domain.grader_faults import Fault, Ungradable

__all__ = ["FUNCTIONS", "Formula", "parse_formula"]

_MAX_CHARACTERS: Final = 1_000
_MAX_NODES: Final = 200
_MAX_DEPTH: Final = 32
# Larger ones are mistakes: scores are small numbers, and their hundredth power is nothing or everything.
_MAX_EXPONENT: Final = 100.0

_Binary = Callable[[float, float], float]


def _power(base: float, exponent: float) -> float:
    if abs(exponent) > _MAX_EXPONENT:
        raise ArithmeticError(f"the exponent {exponent:g} is not from -{_MAX_EXPONENT:g} to {_MAX_EXPONENT:g}")
    # Unlike `**`, it gives no complex number for the root of a negative one: it says that there is none.
    return math.pow(base, exponent)


_BINARY: Final[Mapping[type[ast.operator], _Binary]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.Pow: _power,
}
_UNARY: Final[Mapping[type[ast.unaryop], Callable[[float], float]]] = {
    ast.UAdd: lambda value: value,
    ast.USub: lambda value: -value,
}
# Name -> what it does, and how many arguments it takes at least and at most.
FUNCTIONS: Final[Mapping[str, tuple[Callable[..., float], int, int]]] = {
    "min": (lambda *values: min(values), 1, 20),
    "max": (lambda *values: max(values), 1, 20),
    "abs": (abs, 1, 1),
    "floor": (lambda value: float(math.floor(value)), 1, 1),
    "ceil": (lambda value: float(math.ceil(value)), 1, 1),
    "exp": (math.exp, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "log": (math.log, 1, 1),
}
_USE: Final = "use numbers, the graders' names, + - * / ** ( ) and " + ", ".join(FUNCTIONS)


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that was checked.

    Attributes:
        text: As it was written.
        names: Graders that it names.
        tree: What was read.
    """

    text: str
    names: frozenset[str]
    tree: ast.expr

    def value(self, results: Mapping[str, float]) -> float:
        """Return the value for the graders' results.

        Raises:
            Ungradable: It has none: a division by zero, a root of a negative number, a number out of range.
        """
        try:
            value = _value(self.tree, results)
        except (ArithmeticError, ValueError) as error:
            reason = f"{self.text[:200]!r} has no value for {_said(results)}: {error}."
            raise Ungradable(Fault.FORMULA, reason) from error
        if not math.isfinite(value):
            raise Ungradable(Fault.FORMULA, f"{self.text[:200]!r} is not finite for {_said(results)}.")
        return value


def parse_formula(text: str, known: Collection[str], *, param: str) -> Formula:
    """Read a formula over the graders that are `known`; `^` is a power, as OpenAI writes it.

    Raises:
        InvalidInput: It is too long, nested too deeply, or holds what is not known.
    """
    if not text.strip():
        raise InvalidInput(f"{param}: it is empty; {_USE}.", param=param)
    if len(text) > _MAX_CHARACTERS:
        raise InvalidInput(f"{param}: {len(text)} characters are more than {_MAX_CHARACTERS}.", param=param)
    source = text.replace("^", "**").strip()
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.msg if isinstance(error, SyntaxError) else "it nests too deeply"
        raise InvalidInput(f"{param}: {text[:100]!r} is not a formula ({said}); {_USE}.", param=param) from error
    return Formula(text, _checked(tree, source, frozenset(known), param), tree)


def _checked(tree: ast.expr, source: str, known: frozenset[str], param: str) -> frozenset[str]:
    """Return the graders that are named; level by level, so that no nesting is too deep to be found so."""
    names: set[str] = set()
    level: list[ast.expr] = [tree]
    seen = 0
    for _ in range(_MAX_DEPTH):
        names |= {node.id for node in level if isinstance(node, ast.Name)}
        seen += len(level)
        if seen > _MAX_NODES:
            raise InvalidInput(f"{param}: it has more than {_MAX_NODES} numbers, names and operations.", param=param)
        level = [inner for node in level for inner in _operands(node, source, param)]
        if not level:
            break
    else:
        raise InvalidInput(f"{param}: it nests deeper than {_MAX_DEPTH}.", param=param)
    for name in sorted(names - known):
        raise InvalidInput(
            f"{param}: there is no grader {name[:64]!r}; there are {', '.join(sorted(known))}.", param=param
        )
    return frozenset(names)


def _operands(node: ast.expr, source: str, param: str) -> list[ast.expr]:
    """Return what a node is made of.

    Raises:
        InvalidInput: It is of no kind that is known.
    """
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as number) if _is_finite(number):
            return []
        case ast.Name():
            return []
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _BINARY:
            return [left, right]
        case ast.UnaryOp(op=operator, operand=operand) if type(operator) in _UNARY:
            return [operand]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            _, least, most = FUNCTIONS[name]
            if not least <= len(arguments) <= most:
                takes = f"{least}" if least == most else f"{least} to {most}"
                raise InvalidInput(f"{param}: {name} takes {takes} values, not {len(arguments)}.", param=param)
            return arguments
    written = ast.get_source_segment(source, node) or source
    raise InvalidInput(f"{param}: {written[:60]!r} is not offered; {_USE}.", param=param)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:
        return False


def _value(node: ast.expr, results: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return float(results[name])
        case ast.BinOp(left=left, op=operator, right=right):
            return _BINARY[type(operator)](_value(left, results), _value(right, results))
        case ast.UnaryOp(op=sign, operand=operand):
            return _UNARY[type(sign)](_value(operand, results))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return FUNCTIONS[name][0](*(_value(argument, results) for argument in arguments))
    raise TypeError(f"{type(node).__name__} was never let in")


def _said(results: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in sorted(results.items()))
