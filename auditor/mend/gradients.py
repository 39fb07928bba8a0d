"""A fix that zeroes a gradient next to the others that the script zeroes by hand."""

from __future__ import annotations

import ast
import re

from auditor.mend.edits import Edit, edited, indent_of
from auditor.source.code import Code, parsed

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")


def zeroed(source: str, line: int, name: str) -> str | None:
    """The source with `name.grad.zero_()` after the last gradient that is zeroed by hand; None if there is none.

    If the others are set to None, so is this one. A gradient that is zeroed under a condition gets no edit.
    """
    code = parsed(source)
    if code is None or not _NAME.match(name):
        return None
    here = code.statements_at(line)
    if not here:
        return None
    function = code.function_of(here[0])
    siblings = [
        (node, target) for node in code.nodes()
        if isinstance(node, ast.stmt) and (target := _zeroes(node)) is not None and code.function_of(node) is function
        and not _is_one_of_many(code, target)
    ]  # fmt: skip
    if not siblings or any(code.segment(target) == name for _, target in siblings):
        return None
    # The block whose statements are nearest to the line. A gradient zeroed under its own condition says nothing about others.
    nearest = min(siblings, key=lambda one: abs(one[0].lineno - line))[0]
    if isinstance(code.parent[nearest], ast.If):
        return None
    last = [one for one, _ in siblings if one in code.block(nearest)][-1]
    statement = f"{name}.grad = None" if isinstance(last, ast.Assign) else f"{name}.grad.zero_()"
    return edited(code, [_behind(code, last, statement)])


def _zeroes(statement: ast.stmt) -> ast.expr | None:
    """The tensor whose gradient a statement zeroes: `x` of `x.grad.zero_()`, `x.grad.data.zero_()` or `x.grad = None`."""
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
        given = statement.value
        if len(statement.targets) == 1 and isinstance(given, ast.Constant) and given.value is None:
            return _owner(target)
        return None
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "zero_":
        inner = call.func.value
        if isinstance(inner, ast.Attribute) and inner.attr == "data":
            inner = inner.value
        return _owner(inner)
    return None


def _is_one_of_many(code: Code, node: ast.expr) -> bool:
    """Whether a tensor is a loop variable: then the loop zeroes the other gradients too."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and any(one.how == "other" for one in code.reaching(node))


def _owner(node: ast.expr) -> ast.expr | None:
    fits = isinstance(node, ast.Attribute) and node.attr == "grad" and isinstance(node.value, (ast.Name, ast.Attribute))
    return node.value if fits and isinstance(node, ast.Attribute) else None


def _behind(code: Code, statement: ast.stmt, text: str) -> Edit:
    start, end = code.span(statement)
    following = code.line_end(end)
    rest = code.text[end:following].strip()
    indent = indent_of(code, start)
    if indent is None or (rest and not rest.startswith("#")):
        return Edit(end, end, f"; {text}")
    if code.text[following - 1 : following] in ("\n", "\r"):
        return Edit(following, following, f"{indent}{text}{code.newline}")
    return Edit(following, following, f"{code.newline}{indent}{text}")
