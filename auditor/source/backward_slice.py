"""Backward slices within one file: which statements provide the values that a line uses, and how far away they are.

A heuristic, no proof.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict, deque
from collections.abc import Iterator

from auditor.source.code import FUNCTIONS, LOOPS, Code

#: Nodes that contain statements.
_HOLDERS = (ast.stmt, ast.excepthandler, ast.match_case)
_EXITS = (ast.Return, ast.Raise, ast.Break, ast.Continue)


class BackwardSlice:
    """The statements that feed one line: their values may reach it."""

    def __init__(self, code: Code, line: int) -> None:
        self.code = code
        self.line = line
        #: statements that change the object of a name without binding it: `names.append(...)`, `names[k] = ...`, `names += ...`
        self._changes: dict[tuple[ast.AST, str], list[ast.stmt]] = defaultdict(list)
        #: the same for attributes, by name, and the statements that bind them
        self._attributes: dict[str, list[ast.stmt]] = defaultdict(list)
        for node in code.nodes():
            self._index(node)
        self.distance: dict[ast.stmt, int] = {}
        self._follow()

    def rank(self, node: ast.expr) -> tuple[bool, int, bool, int]:
        """Sort key: first what feeds the line, by distance; then what lies above it; the nearest first in each group."""
        statement = self.code.statement(node)
        assert statement is not None
        far = self.distance.get(statement)
        return far is None, far or 0, node.lineno > self.line, abs(self.line - node.lineno)

    def feeds(self, node: ast.AST) -> bool:
        """Whether the value of a node may reach the line."""
        return self.code.statement(node) in self.distance

    def distance_of(self, line: int) -> int | None:
        """Number of statements between a line and the one that it feeds; None if no data flow is found."""
        found = [self.distance[one] for one in self.code.statements_at(line) if one in self.distance]
        return min(found, default=None)

    def distance_of_calls(self, function: str) -> int | None:
        """The same for the results of functions with this name that are defined in other files."""
        found = [
            far for statement, far in self.distance.items() for node in self.code.own(statement)
            if isinstance(node, ast.Call) and self.code.called(node).rpartition(".")[2] == function
        ]  # fmt: skip
        return min(found, default=None)

    def _index(self, node: ast.AST) -> None:
        statement = self.code.statement(node)
        if statement is None:
            return
        changed: ast.AST | None = None
        if isinstance(node, ast.Call) and isinstance(self.code.parent[node], ast.Expr):
            changed = node.func.value if isinstance(node.func, ast.Attribute) else None
            if not hasattr(builtins, self.code.called(node)):
                for argument in node.args:  # its result is unused, so it can only change its arguments
                    self._changed(argument, statement)
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed = node.value
        elif isinstance(node, ast.AugAssign):
            changed = node.target
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            self._attributes[node.attr].append(statement)
            changed = node.value
        self._changed(changed, statement)

    def _changed(self, changed: ast.AST | None, statement: ast.stmt) -> None:
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
        yield from self._controlled_by(statement)
        done = statement.value.func if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) else None
        for node in code.own(statement):
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
                for defined in code.defined(node):
                    yield from self._effects_of(defined) if node is done else self._results_of(defined)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                yield from self._name(node)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and code.dotted(node) is None:
                yield from self._attributes.get(node.attr, ())

    def _controlled_by(self, statement: ast.stmt, known: frozenset[ast.AST] = frozenset()) -> Iterator[ast.stmt]:
        """What controls whether a statement runs: enclosing tests and loops, earlier exits, and the same for calls of its function."""
        code = self.code
        around = code.parent[statement]
        block = code.block(statement) if isinstance(getattr(around, code.field[statement], None), list) else []
        leaving = block[: block.index(statement)] if statement in block else []
        if isinstance(around, LOOPS):
            leaving = around.body  # they decide how many iterations the loop has
        for before in leaving:
            yield from filter(None, (code.statement(code.parent[one]) for one in self._exits_in(before)))
        if isinstance(around, (ast.excepthandler, ast.match_case)):
            around = code.parent[around]
        if isinstance(around, FUNCTIONS) and around not in known:
            for call in code.calls_of(around):
                calling = code.statement(call)
                if calling is not None:
                    yield from self._controlled_by(calling, known | {around})
        elif isinstance(around, ast.stmt) and not isinstance(around, (*FUNCTIONS, ast.ClassDef)):
            yield around

    def _exits_in(self, statement: ast.stmt) -> Iterator[ast.stmt]:
        """Statements within this one that may leave the enclosing function or end the iteration of the enclosing loop."""
        stack: list[tuple[ast.AST, bool]] = [(statement, False)]
        while stack:
            node, in_loop = stack.pop()
            if isinstance(node, _EXITS) and node is not statement and not (in_loop and isinstance(node, (ast.Break, ast.Continue))):
                yield node
            if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
                inner = in_loop or isinstance(node, LOOPS)
                stack.extend((child, inner) for child in ast.iter_child_nodes(node) if isinstance(child, _HOLDERS))

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

    def _results_of(self, defined: ast.AST) -> Iterator[ast.stmt]:
        """The statements that return or yield values from a function or from the methods of a class."""
        for node in ast.walk(defined):
            statement = self.code.statement(node)
            if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)) and statement is not None:
                yield statement

    def _effects_of(self, defined: ast.AST) -> Iterator[ast.stmt]:
        """The statements of a function that change its arguments or shared objects."""
        for (scope, _), changes in self._changes.items():
            if scope is defined:
                yield from changes
        yield from self._results_of(defined)
