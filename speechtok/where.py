"""Conditions on the columns of a table, such as ``snr > 15 and lang == "en"``, without running code.

The grammar is a part of Python's: comparisons (also chained), ``and``, ``or``, ``not``, ``in`` and ``not in`` with a
list, ``is None`` and ``is not None``, numbers, texts, and names of columns. A comparison with a missing value is not
fulfilled.
"""

import ast
import difflib
import operator
from collections.abc import Callable, Collection
from typing import Any

from speechtok.errors import InputError, quoted

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}

_EXAMPLE = "expected a condition such as 'snr > 15 and lang == \"en\"'"

_MAX_LENGTH = 10_000


def parse_where(text: str, columns: Collection[str]) -> Any:
    """Turn a condition into an expression of pyarrow, for the argument ``filter`` of its readers.

    Raises:
        InputError: it is not a condition, or names an unknown column.
    """
    if not isinstance(text, str) or len(text) > _MAX_LENGTH:
        raise InputError(f"where is {quoted(text)}; {_EXAMPLE}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Constant):
            raise _Unusable(tree)
        return _Builder(columns).condition(tree)
    except _Unusable as error:
        part = ast.get_source_segment(text.strip(), error.node) or text
        raise InputError(f"where is {quoted(text)}, which has {quoted(part)}; {_EXAMPLE}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"where is {quoted(text)}, which cannot be read ({error!s:.60}); {_EXAMPLE}") from error


class _Unusable(Exception):  # noqa: N818, never leaves this module
    """A part of the text is outside of the grammar."""

    def __init__(self, node: ast.AST) -> None:
        super().__init__()
        self.node = node


class _Builder:
    def __init__(self, columns: Collection[str]) -> None:
        import pyarrow.compute

        self._columns = columns
        self._field: Callable[[str], Any] = pyarrow.compute.field
        self._scalar: Callable[[Any], Any] = pyarrow.compute.scalar

    def condition(self, node: ast.expr) -> Any:
        if isinstance(node, ast.BoolOp):
            combined = self.condition(node.values[0])
            for value in node.values[1:]:
                other = self.condition(value)
                combined = combined & other if isinstance(node.op, ast.And) else combined | other
            return combined
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Name):  # a column of booleans
            return self._column(node)
        raise _Unusable(node)

    def _comparison(self, node: ast.Compare) -> Any:
        combined, left = None, node.left
        for kind, right in zip(node.ops, node.comparators, strict=True):
            one = self._pair(node, left, kind, right)
            combined = one if combined is None else combined & one
            left = right
        return combined

    def _pair(self, node: ast.Compare, left: ast.expr, kind: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(kind, (ast.Is, ast.IsNot)):
            if not (isinstance(right, ast.Constant) and right.value is None and isinstance(left, ast.Name)):
                raise _Unusable(node)
            column = self._column(left)
            return column.is_null() if isinstance(kind, ast.Is) else column.is_valid()
        if isinstance(kind, (ast.In, ast.NotIn)):
            if not isinstance(right, (ast.List, ast.Tuple, ast.Set)):
                raise _Unusable(node)
            found = self._value(left).isin([_literal(element) for element in right.elts])
            return found if isinstance(kind, ast.In) else ~found
        if isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
            raise _Unusable(node)
        return _COMPARISONS[type(kind)](self._value(left), self._value(right))

    def _value(self, node: ast.expr) -> Any:
        return self._column(node) if isinstance(node, ast.Name) else self._scalar(_literal(node))

    def _column(self, node: ast.Name) -> Any:
        if node.id not in self._columns:
            near = difflib.get_close_matches(node.id, self._columns, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(self._columns)}"
            raise InputError(f"where names {quoted(node.id)}, which is not a column; {hint}")
        return self._field(node.id)


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand)
        if type(value) in (int, float):
            return -value
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, str, bool):
        return node.value
    raise _Unusable(node)
