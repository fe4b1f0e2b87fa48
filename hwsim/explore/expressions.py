"""Expressions over columns: what a space file may write for a knob or a constraint, and nothing else of Python.

Normative: docs/contracts/sweep.md, section 1.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

__all__ = ["Bound", "Expression", "ExpressionError", "parse"]

_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.true_divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.remainder,
    ast.Pow: np.float_power,
}
_COMPARE: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.Not: np.logical_not}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": lambda *x: reduce(np.minimum, x),
    "max": lambda *x: reduce(np.maximum, x),
    "ceil": np.ceil,
    "floor": np.floor,
    "log2": np.log2,
    "sqrt": np.sqrt,
}
_SEVERAL = ("min", "max")


class ExpressionError(ValueError):
    """What is wrong with an expression, without where it stands."""


@dataclass(frozen=True)
class Bound:
    """A constraint of the form ``name < number``: which side it bounds, and whether the number itself is left."""

    name: str
    upper: bool
    number: float
    included: bool


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes
    ----------
    text : str
        As it was written.
    names : tuple of str
        Dotted names that it asks for, each once.

    Examples
    --------
    >>> fit = parse("array.rows * array.cols <= 1024")
    >>> fit.names
    ('array.rows', 'array.cols')
    >>> fit({"array.rows": np.array([16, 64]), "array.cols": 32})
    array([ True, False])
    """

    text: str
    names: tuple[str, ...]
    tree: ast.expr

    def __call__(self, columns: Mapping[str, Any]) -> Any:
        """Evaluate on numbers, texts or columns of them; a division by zero gives no number."""
        with np.errstate(all="ignore"):
            return _evaluate(self.tree, columns)

    @property
    def bound(self) -> Bound | None:
        """The constraint as a bound on one name, if it is one."""
        node = self.tree
        if not (isinstance(node, ast.Compare) and len(node.ops) == 1):
            return None
        left, right, op = node.left, node.comparators[0], type(node.ops[0])
        flipped = isinstance(left, ast.Constant)
        if flipped:
            left, right = right, left
        name, number = _dotted(left), right.value if isinstance(right, ast.Constant) else None
        if name is None or isinstance(number, bool) or not isinstance(number, int | float) or op not in _SIDES:
            return None
        return Bound(name, _SIDES[op] != flipped, float(number), op in (ast.LtE, ast.GtE))


_SIDES: dict[type[ast.AST], bool] = {ast.Lt: True, ast.LtE: True, ast.Gt: False, ast.GtE: False}


def parse(text: str) -> Expression:
    """Read an expression.

    Raises
    ------
    ExpressionError
        If it is not one, or uses what expressions do not have.
    """
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"'{text}' is not an expression") from None
    names: dict[str, None] = {}
    _check(tree, names)
    return Expression(text, tuple(names), tree)


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return inner and f"{inner}.{node.attr}"
    return None


def _check(node: ast.AST, names: dict[str, None]) -> None:
    name = _dotted(node)
    if name is not None:
        names[name] = None
        return
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, bool | int | float | str):
            raise ExpressionError(f"an expression has numbers and texts, not {node.value!r}")
        return
    if isinstance(node, ast.Call):
        function = node.func.id if isinstance(node.func, ast.Name) else "?"
        if function not in _FUNCTIONS or node.keywords:
            raise ExpressionError(f"an expression has the functions {', '.join(_FUNCTIONS)}, not '{ast.unparse(node)}'")
        if (len(node.args) < 2) if function in _SEVERAL else (len(node.args) != 1):
            raise ExpressionError(
                f"{function} takes {'two values or more' if function in _SEVERAL else 'one value'}, "
                f"not {len(node.args)}, in '{ast.unparse(node)}'"
            )
        for argument in node.args:
            _check(argument, names)
        return
    if isinstance(node, ast.Compare):
        unknown = any(type(op) not in _COMPARE for op in node.ops)
    elif isinstance(node, ast.BinOp):
        unknown = type(node.op) not in _BINARY
    elif isinstance(node, ast.UnaryOp):
        unknown = type(node.op) not in _UNARY
    elif isinstance(node, ast.BoolOp | ast.IfExp):
        unknown = False
    else:
        raise ExpressionError(f"an expression cannot have '{ast.unparse(node)}'")
    if unknown:
        raise ExpressionError(f"an expression cannot have the operator in '{ast.unparse(node)}'")
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            _check(child, names)


def _evaluate(node: ast.AST, columns: Mapping[str, Any]) -> Any:
    name = _dotted(node)
    if name is not None:
        return columns[name]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_evaluate(node.operand, columns))
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](_evaluate(node.left, columns), _evaluate(node.right, columns))
    if isinstance(node, ast.BoolOp):
        both = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return reduce(both, [_evaluate(value, columns) for value in node.values])
    if isinstance(node, ast.Compare):
        values = [_evaluate(value, columns) for value in (node.left, *node.comparators)]
        pairs = zip(node.ops, values[:-1], values[1:], strict=True)
        return reduce(np.logical_and, [_COMPARE[type(op)](a, b) for op, a, b in pairs])
    if isinstance(node, ast.IfExp):
        return np.where(*(_evaluate(part, columns) for part in (node.test, node.body, node.orelse)))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    return _FUNCTIONS[node.func.id](*(_evaluate(argument, columns) for argument in node.args))
