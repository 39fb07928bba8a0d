"""Which statements give what a line uses, and how far away they are: names followed backwards, within one file. A guide, no proof."""

from __future__ import annotations

import ast
from collections import defaultdict, deque
from collections.abc import Iterator

from auditor.source.code import FUNCTIONS, Code


class Feeding:
    """What feeds one line of a source."""

    def __init__(self, code: Code, line: int) -> None:
        self.code = code
        self.line = line
        #: statements that change what a name holds without binding it: `names.append(...)`, `names[k] = ...`, `names += ...`
        self._changes: dict[tuple[ast.AST, str], list[ast.stmt]] = defaultdict(list)
        #: the same for attributes, by their name, with the statements that bind them
        self._attributes: dict[str, list[ast.stmt]] = defaultdict(list)
        for node in code.nodes():
            self._index(node)
        self.distance: dict[ast.stmt, int] = {}
        self._follow()

    def rank(self, node: ast.expr) -> tuple[bool, int, bool, int]:
        """What to sort by: first what feeds the line, by distance; then what stands before it; always the nearest first."""
        statement = self.code.statement(node)
        assert statement is not None
        far = self.distance.get(statement)
        return far is None, far or 0, node.lineno > self.line, abs(self.line - node.lineno)

    def feeds(self, node: ast.AST) -> bool:
        """Whether what a node gives arrives at the line."""
        return self.code.statement(node) in self.distance

    def _index(self, node: ast.AST) -> None:
        statement = self.code.statement(node)
        if statement is None:
            return
        changed: ast.AST | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(self.code.parent[node], ast.Expr):
            changed = node.func.value
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed = node.value
        elif isinstance(node, ast.AugAssign):
            changed = node.target
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            self._attributes[node.attr].append(statement)
            changed = node.value
        while isinstance(changed, (ast.Subscript, ast.Attribute)):
            if isinstance(changed, ast.Attribute):
                self._attributes[changed.attr].append(statement)
            changed = changed.value
        if isinstance(changed, ast.Name):
            found = self.code.lookup(changed.id, changed)
            if found is not None:
                self._changes[found[0], changed.id].append(statement)

    def _follow(self) -> None:
        queue = deque((statement, 0) for statement in self.code.statements_at(self.line))
        while queue:
            statement, far = queue.popleft()
            if statement in self.distance:
                continue
            self.distance[statement] = far
            queue.extend((one, far + 1) for one in self._before(statement))

    def _before(self, statement: ast.stmt) -> Iterator[ast.stmt]:
        code = self.code
        around = code.parent[statement]
        if isinstance(around, (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith)):
            yield around
        for node in code.own(statement):
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
                for defined in code.defined(node):
                    yield from self._given_by(defined)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                yield from self._name(node)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and code.dotted(node) is None:
                yield from self._attributes.get(node.attr, ())

    def _name(self, name: ast.Name) -> Iterator[ast.stmt]:
        code = self.code
        for binding in code.reaching(name):
            if binding.how == "parameter":
                function = code.function_of(binding.node)
                if isinstance(function, FUNCTIONS) and name.id not in ("self", "cls"):
                    yield from filter(None, map(code.statement, code.calls_of(function)))
            elif binding.how in ("value", "other"):
                statement = code.statement(binding.node)
                if statement is not None:
                    yield statement
        found = code.lookup(name.id, name)
        if found is not None:
            inline = code.function_of(name) is found[0]
            for change in self._changes.get((found[0], name.id), ()):
                if not inline or code.span(change)[0] <= code.span(name)[0] or code.common_loop(change, name):
                    yield change

    def _given_by(self, defined: ast.AST) -> Iterator[ast.stmt]:
        """The statements by which a function or the methods of a class hand something out."""
        for node in ast.walk(defined):
            statement = self.code.statement(node)
            if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)) and statement is not None:
                yield statement
