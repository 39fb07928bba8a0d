"""One source file as a tree: exact positions, scopes, and the binding of each name. Reads the text and never executes any of it."""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
_SCOPES = (ast.Module, ast.ClassDef, ast.Lambda, *FUNCTIONS, *COMPREHENSIONS)
#: Methods of builtin containers: a call of one is hardly ever a call of a class in this file.
_CONTAINER_METHODS = {name for kind in (dict, list, set, str) for name in dir(kind)}
#: How many names may stand for other names before the search gives up; no real source needs more.
_MAX_DEPTH = 8


#: `numbers`: a set whose elements are their own hashes, so that its order is the same in every process.
Kind = Literal["set", "numbers"] | None


class Spot(NamedTuple):
    """An expression in a source. Lines count from 1, columns count characters from 0, and the end is exclusive."""

    line: int
    end_line: int
    col: int
    end_col: int
    text: str
    what: str
    feeds: bool = False
    """Whether its value reaches the line in question."""


class Binding(NamedTuple):
    """One place where a name gets a value."""

    how: Literal["value", "parameter", "import", "def", "class", "other"]
    node: ast.AST
    value: ast.expr | None = None
    annotation: ast.expr | None = None
    meaning: str = ""
    """For an import, the dotted name."""


class Code:
    """A parsed source."""

    def __init__(self, text: str, tree: ast.Module, shift: int) -> None:
        self.text = text
        self.tree = tree
        self._shift = shift
        # Lines as Python counts them: `splitlines` would also split at a form feed.
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", text))]
        self.newline: str = (re.findall(r"\r\n|\r|\n", text) or ["\n"])[0]
        self.parent: dict[ast.AST, ast.AST] = {}
        self.field: dict[ast.AST, str] = {}
        self.scope_of: dict[ast.AST, ast.AST] = {}
        self.bindings: dict[ast.AST, dict[str, list[Binding]]] = defaultdict(lambda: defaultdict(list))
        self._elsewhere: dict[ast.AST, dict[str, ast.AST | None]] = defaultdict(dict)
        #: results of `sets.kind_of` so far
        self.kinds: dict[ast.expr, Kind] = {}
        self._nodes: tuple[ast.AST, ...] = ()
        self._calls: dict[ast.AST, list[ast.Call]] | None = None
        self._methods: dict[str, list[ast.AST]] | None = None
        self._scopes(tree, tree)
        for node in self.nodes():
            self._bind(node)

    # Positions

    def offset(self, line: int, byte: int) -> int:
        """Position in the text of a column that `ast` counts in bytes of UTF-8."""
        start = self._starts[line - 1]
        end = self._starts[line] if line < len(self._starts) else len(self.text)
        if line == 1:
            start += self._shift
        within = self.text[start:end]
        return start + (byte if within.isascii() else len(within.encode(errors="surrogatepass")[:byte].decode(errors="surrogatepass")))

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Position of the first character of a node, and of the one after its last."""
        assert isinstance(node, (ast.expr, ast.stmt, ast.arg, ast.keyword, ast.alias, ast.excepthandler, ast.pattern))
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def segment(self, node: ast.AST) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.text[start:end]

    def line_start(self, offset: int) -> int:
        """Position of the first character of this character's line."""
        return max(start for start in self._starts if start <= offset)

    def line_end(self, offset: int) -> int:
        """Position of the first character of the next line."""
        return next((start for start in self._starts if start > offset), len(self.text))

    def spot(self, node: ast.expr, what: str, feeds: bool) -> Spot:
        """A node as a `Spot`."""
        start, end = self.span(node)
        assert node.end_lineno is not None
        first, last = self._starts[node.lineno - 1], self._starts[node.end_lineno - 1]
        return Spot(node.lineno, node.end_lineno, start - first, end - last, self.text[start:end], what, feeds)

    # The tree

    def nodes(self) -> tuple[ast.AST, ...]:
        """All nodes, in source order as far as the tree has it."""
        if not self._nodes:
            stack, nodes = [cast(ast.AST, self.tree)], []
            while stack:
                node = stack.pop()
                nodes.append(node)
                stack.extend(reversed(list(ast.iter_child_nodes(node))))
            self._nodes = tuple(nodes)
        return self._nodes

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """The parents of a node, innermost first."""
        while node in self.parent:
            node = self.parent[node]
            yield node

    def statement(self, node: ast.AST) -> ast.stmt | None:
        """The innermost statement that contains a node; the node itself if it is a statement."""
        return next((one for one in (node, *self.ancestors(node)) if isinstance(one, ast.stmt)), None)

    def own(self, statement: ast.AST) -> Iterator[ast.AST]:
        """The nodes of a statement, without those of nested statements."""
        stack = [statement]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt))

    def statements_at(self, line: int) -> list[ast.stmt]:
        """The innermost statements at a line: several if a semicolon separates them."""
        found = [
            node for node in self.nodes() if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
        ]  # fmt: skip
        return [node for node in found if not any(node in self.ancestors(other) for other in found)]

    def block(self, statement: ast.stmt) -> list[ast.stmt]:
        """The list of statements that contains this one."""
        members = getattr(self.parent[statement], self.field[statement])
        assert isinstance(members, list)
        return members

    def in_formatted_string(self, node: ast.AST) -> bool:
        """Whether a node is inside an f-string, where positions are wrong before Python 3.12 and an edit may break the quotes."""
        return any(type(one).__name__ in ("JoinedStr", "TemplateStr") for one in self.ancestors(node))

    def function_of(self, node: ast.AST) -> ast.AST:
        """The innermost function, lambda or module that executes a node: class bodies and comprehensions run in the enclosing scope."""
        scope = self.scope_of[node]
        while isinstance(scope, (ast.ClassDef, *COMPREHENSIONS)):
            scope = self.scope_of[scope]
        return scope

    def class_of(self, node: ast.AST) -> ast.ClassDef | None:
        """The innermost class around a node."""
        return next((one for one in self.ancestors(node) if isinstance(one, ast.ClassDef)), None)

    def common_loop(self, one: ast.AST, other: ast.AST) -> bool:
        """Whether two nodes are in the same loop, so that the lower one may run before the upper one."""
        loops = {loop for loop in self.ancestors(one) if isinstance(loop, LOOPS)}
        return any(loop in loops for loop in self.ancestors(other))

    # Names

    def _scopes(self, node: ast.AST, scope: ast.AST) -> None:
        self.scope_of[node] = scope
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST):
                    continue
                self.parent[child] = node
                self.field[child] = name
                self._scopes(child, self._inner(node, name, child, scope))

    def _inner(self, node: ast.AST, name: str, child: ast.AST, scope: ast.AST) -> ast.AST:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            # decorators, bases and annotations are evaluated in the enclosing scope
            return node if name == "body" or (name == "args" and isinstance(node, FUNCTIONS)) else scope
        if isinstance(node, (ast.Lambda, ast.Module)):
            return node
        if isinstance(node, ast.arguments):
            outside = self.scope_of[self.parent[node]]
            return outside if isinstance(child, ast.expr) else scope
        if isinstance(node, ast.arg):
            return self.scope_of[self.parent[self.parent[node]]]
        if isinstance(node, COMPREHENSIONS):
            return node
        if isinstance(node, ast.comprehension) and name == "iter":
            whole = self.parent[node]
            assert isinstance(whole, COMPREHENSIONS)
            return self.scope_of[whole] if whole.generators[0] is node else scope
        return scope

    def _bind(self, node: ast.AST) -> None:
        scope = self.scope_of[node]
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self._bind_name(node)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            self._in(scope, node.name).append(Binding("class" if isinstance(node, ast.ClassDef) else "def", node))
        elif isinstance(node, ast.arg):
            self._in(scope, node.arg).append(Binding("parameter", node, None, node.annotation))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                meaning = alias.name if alias.asname else top
                self._in(scope, alias.asname or top).append(Binding("import", node, meaning=meaning))
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            for alias in node.names:
                self._in(scope, alias.asname or alias.name).append(Binding("import", node, meaning=f"{package}.{alias.name}"))
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            for name in node.names:
                self._elsewhere[scope][name] = self.tree if isinstance(node, ast.Global) else None
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            self._in(scope, node.name).append(Binding("other", node))

    def _bind_name(self, node: ast.Name) -> None:
        scope, parent = self.scope_of[node], self.parent[node]
        value: ast.expr | None = None
        annotation = None
        if isinstance(parent, ast.AugAssign):
            return  # the name was bound before, usually to a value of the same kind
        if isinstance(parent, ast.NamedExpr):
            value = parent.value
            while isinstance(scope, COMPREHENSIONS):
                scope = self.scope_of[scope]
        elif isinstance(parent, ast.Assign):
            value = parent.value
        elif isinstance(parent, ast.AnnAssign):
            value, annotation = parent.value, parent.annotation
        elif isinstance(parent, (ast.Tuple, ast.List)):
            whole = self.parent[parent]
            if isinstance(whole, ast.Assign) and isinstance(whole.value, (ast.Tuple, ast.List)):
                parts = whole.value.elts
                if len(parts) == len(parent.elts) and not any(isinstance(part, ast.Starred) for part in (*parts, *parent.elts)):
                    value = parts[parent.elts.index(node)]
        self._in(scope, node.id).append(Binding("value" if value or annotation else "other", node, value, annotation))

    def _in(self, scope: ast.AST, name: str) -> list[Binding]:
        if name in self._elsewhere[scope]:
            target = self._elsewhere[scope][name]
            if target is None:
                target = self.scope_of[scope]
                while target is not self.tree and name not in self.bindings[target]:
                    target = self.scope_of[target]
            scope = target
        return self.bindings[scope][name]

    def lookup(self, name: str, at: ast.AST) -> tuple[ast.AST, list[Binding]] | None:
        """The scope that binds a name used at a node, with its bindings; None for a builtin or an unbound name."""
        scope = self.scope_of[at]
        first = True
        while True:
            if (first or not isinstance(scope, ast.ClassDef)) and self.bindings[scope].get(name):
                return scope, self.bindings[scope][name]
            if isinstance(scope, ast.Module):
                return None
            first = first and isinstance(scope, COMPREHENSIONS)
            scope = self.scope_of[scope]

    def reaching(self, name: ast.Name) -> list[Binding]:
        """The reaching definitions of a name: the bindings since the last one that lies on every path to the use."""
        found = self.lookup(name.id, name)
        if found is None:
            return []
        scope, bindings = found
        if isinstance(scope, (ast.ClassDef, *COMPREHENSIONS)):
            return bindings
        inline = self.function_of(name) is scope
        use = self.span(name)[0]
        before = [one for one in bindings if not inline or self._effect(one) <= use]
        after = [one for one in bindings if inline and one not in before and self.common_loop(one.node, name)]
        reached = []
        for one in sorted(before, key=self._effect, reverse=True):
            reached.append(one)
            if self._passed_always(one, name if inline else None, scope):
                inside = {loop for loop in self.ancestors(one.node) if isinstance(loop, LOOPS)}
                after = [] if inside & set(self.ancestors(name)) else after
                break
        return reached + after

    def _effect(self, binding: Binding) -> int:
        statement = self.statement(binding.node)
        plain = isinstance(statement, (ast.Assign, ast.AnnAssign)) and binding.how in ("value", "other")
        return self.span(statement if plain and statement is not None else binding.node)[plain]

    def _passed_always(self, binding: Binding, use: ast.AST | None, scope: ast.AST) -> bool:
        if binding.how == "parameter":
            return True
        statement = self.statement(binding.node)
        if statement is None or statement is scope:
            return False
        if use is None:
            return self.parent[statement] is scope
        members = self.block(statement)
        return any(one in members for one in (use, *self.ancestors(use)))

    def dotted(self, node: ast.AST, deep: int = 0) -> str | None:
        """The full name of a name or attribute: `numpy.random.rand` for `np.random.rand`, `set` for the builtin; None if unknown."""
        if isinstance(node, ast.Attribute):
            whole = self.dotted(node.value, deep)
            return None if whole is None else f"{whole}.{node.attr}"
        if not isinstance(node, ast.Name) or deep > _MAX_DEPTH:
            return None
        found = self.lookup(node.id, node)
        if found is None:
            return node.id if hasattr(builtins, node.id) else None
        bindings = found[1]
        if all(one.how == "import" for one in bindings):
            return bindings[0].meaning
        one = bindings[0]
        if len(bindings) == 1 and one.how == "value" and isinstance(one.value, (ast.Name, ast.Attribute)):
            return self.dotted(one.value, deep + 1)
        return None

    def called(self, call: ast.Call) -> str:
        """The dotted name of the called function; `.name` for a method of an unknown object, empty if there is no name."""
        known = self.dotted(call.func)
        if known is not None:
            return known
        return f".{call.func.attr}" if isinstance(call.func, ast.Attribute) else ""

    def defined(self, node: ast.AST) -> list[ast.AST]:
        """The functions and classes of this file that an expression may refer to, by name or, for an attribute, by method name."""
        if isinstance(node, ast.Name):
            found = self.lookup(node.id, node)
            return [one.node for one in found[1] if one.how in ("def", "class")] if found else []
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                here = self.class_of(node)
                mine = [one.node for one in self.bindings[here].get(node.attr, ()) if one.how == "def"] if here else []
                if mine:
                    return mine
            if self.dotted(node.value) is None and node.attr not in _CONTAINER_METHODS:
                return self.methods().get(node.attr, [])
        return []

    def methods(self) -> dict[str, list[ast.AST]]:
        """The methods of the file's classes, by name."""
        if self._methods is not None:
            return self._methods
        found: dict[str, list[ast.AST]] = defaultdict(list)
        for scope, names in list(self.bindings.items()):
            if isinstance(scope, ast.ClassDef):
                for name, bindings in names.items():
                    found[name].extend(one.node for one in bindings if one.how == "def")
        self._methods = found
        return found

    def calls_of(self, function: ast.AST) -> list[ast.Call]:
        """The calls of one of this file's functions within the file; for `__init__`, those of its class."""
        wanted = function
        if isinstance(function, FUNCTIONS) and function.name == "__init__":
            wanted = self.class_of(function) or function
        if self._calls is None:
            self._calls = defaultdict(list)
            for node in self.nodes():
                for defined in self.defined(node.func) if isinstance(node, ast.Call) else ():
                    self._calls[defined].append(cast(ast.Call, node))
        return self._calls.get(wanted, [])


def parsed(text: str) -> Code | None:
    """The source as a tree; None if it does not parse."""
    shift = 1 if text.startswith("\ufeff") else 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about invalid escapes in the user's source are not ours to show
            tree = ast.parse(text[shift:])
        return Code(text, tree, shift)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def arguments_of(call: ast.Call, function: ast.AST, parameter: str) -> list[ast.expr]:
    """The argument that a call passes for a parameter of a function in the file, as far as it can be determined."""
    if not isinstance(function, FUNCTIONS):
        return []
    for keyword in call.keywords:
        if keyword.arg == parameter:
            return [keyword.value]
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    if names[:1] in (["self"], ["cls"]):
        del names[0]
    if parameter in names:
        index = names.index(parameter)
        if index < len(call.args) and not any(isinstance(one, ast.Starred) for one in call.args[: index + 1]):
            return [call.args[index]]
    return []
