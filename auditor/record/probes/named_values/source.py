"""Which names a piece of bytecode assigns or writes in place, found from the source of the user's file, which is parsed once.

Asked for by the offset at which a line begins to run, not by the line: a statement over several lines visits its lines more than once, and
has assigned only when its last piece of bytecode was run. Never executes anything of the source, and shows no warning about it.
"""

from __future__ import annotations

import ast
import opcode
import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any, NamedTuple

from auditor.interruptions import interrupts

#: How a target was touched: it got a value, as the target of a `for` too; it was written in place; entries were added at its end; it is a
#: call's argument, which may have been written.
ASSIGNED, EACH, WRITTEN, APPENDED, TOUCHED = range(5)
#: An entry whose key is known only when the program runs is the value of this name there; or is none that we can tell.
ATTRIBUTE, KEY, VARIABLE, UNKNOWN = range(4)
#: The last step of what may be a leaf from now on.
MADE_LEAF = (ATTRIBUTE, "requires_grad")

#: Methods that end like those that write in place, and write no number.
_WRITING_NOTHING = ("requires_grad_", "detach_", "share_memory_", "rename_", "retain_grad_")
_METHODS = ("fill", "sort", "put", "itemset", "partition", "load_state_dict")
_ADDING = ("append",)
#: Functions that write their first argument.
_FUNCTIONS = ("shuffle", "copyto", "put", "place", "putmask", "fill_diagonal", "put_along_axis")
#: Methods that return a view, through which a chained method writes.
_VIEWS = (
    "view",
    "reshape",
    "t",
    "flatten",
    "squeeze",
    "unsqueeze",
    "transpose",
    "permute",
    "detach",
    "select",
    "narrow",
    "diagonal",
    "ravel",
)

_OPTIMIZED = 0x1  # inspect.CO_OPTIMIZED: the locals are no dict


class Loop:
    """A loop of the source."""

    __slots__ = ("begun", "turn")

    def __init__(self) -> None:
        self.begun = False
        #: which time its body runs, from 0 on, in all
        self.turn = 0


class Target:
    """A name with the attributes and keys behind it, as one statement touches it."""

    __slots__ = ("entry", "file", "how", "line", "loop", "path", "plain", "root", "scope", "shared", "simple")

    def __init__(self, root: str, path: tuple[tuple[int, Any], ...], how: int) -> None:
        self.root = root
        self.path = path
        self.how = how
        #: a variable that got a value, with nothing more to ask
        self.plain = not path and how == ASSIGNED
        self.simple = not path and how in (ASSIGNED, WRITTEN)
        #: it is written in place or made a leaf, and what it holds may well have another name
        self.shared = False
        #: of the collector: what it held last, and how that was written
        self.entry: Any = None
        self.line = 0
        self.loop: Loop | None = None
        self.scope = self.file = ""


class Statement(NamedTuple):
    """What a simple statement, or the head of another, touches; `last` is the last line of what runs before its body."""

    first: int
    last: int
    end: int
    targets: tuple[Target, ...]
    for_targets: tuple[Target, ...]
    uncertain: bool
    """Its line holds what decides whether it runs at all."""
    loop: Loop | None
    begins: Loop | None
    """The loop of whose body it is the first."""
    turns: Loop | None = None
    """Of the head of a `for` whose body stands below it: that loop."""


class Region(NamedTuple):
    """The piece of one line's bytecode that begins at an offset; `end` is the offset behind it."""

    targets: tuple[Target, ...]
    for_targets: tuple[Target, ...]
    """Assigned only if the program goes on at `end`, the loop's body."""
    uncertain: bool
    begins: tuple[Loop, ...]
    turns: tuple[Loop, ...]
    """Loops whose body begins once more if the program goes on at `end`."""
    end: int
    simple: bool
    """Its targets are variables that are written whenever it is run to its end."""
    asks: bool
    """Something must be known before it is run."""


class Scope:
    """The statements of one function, class body or module."""

    def __init__(self, name: str, statements: list[Statement], file: str) -> None:
        self.name = name
        self.file = file
        self.statements = statements
        self.speaks = any(one.targets or one.for_targets for one in statements)
        #: lines that may hold a whole loop
        self.lines_of_loops = {one.first for one in statements if one.loop is not None and one.uncertain}

    def loop_at(self, line: int) -> Loop | None:
        """The innermost loop around a line."""
        found = [one for one in self.statements if one.first <= line <= one.last]
        return found[-1].loop if found else None


class Plan:
    """A scope as one code object runs it."""

    def __init__(self, code: CodeType, scope: Scope) -> None:
        self.code = code  # kept, because it is found by its id
        self.scope = scope
        self.is_function = bool(code.co_flags & _OPTIMIZED)
        self.is_generator = bool(code.co_flags & 0x2A0)  # generators, coroutines, asynchronous generators
        self.regions: dict[int, Region | None] = {}
        if self.is_function:
            self._place(code, scope)
        targets = [target for one in scope.statements for target in one.targets if target.how == ASSIGNED]
        #: what is assigned in it, each once
        self.names = list({(target.root, target.path): target for target in targets}.values())
        self._ranges: list[tuple[int, int, int]] = []
        for start, end, line in code.co_lines():
            if self._ranges and (line is None or line == self._ranges[-1][2]):
                self._ranges[-1] = (self._ranges[-1][0], end, self._ranges[-1][2])
            elif line is not None:
                self._ranges.append((start, end, line))

    @staticmethod
    def _place(code: CodeType, scope: Scope) -> None:
        """Say of each target where its name belongs: in the class, for an attribute of `self`; where a name of another scope does."""
        own = {*code.co_varnames, *code.co_cellvars}
        for target in (target for one in scope.statements for target in (*one.targets, *one.for_targets)):
            if target.root == "self" and target.path and "." in scope.name:
                target.scope = scope.name.rpartition(".")[0]
            elif target.root in code.co_freevars:
                target.scope = scope.name.rpartition(".<locals>.")[0] or scope.name
            elif target.root not in own:
                target.scope = "<module>"

    def turns(self) -> set[int]:
        """Offsets of the jumps at which a loop that stands in a single line turns: the last one of each, others are of comprehensions."""
        found = set()
        for start, end, line in self._ranges:
            if line in self.scope.lines_of_loops:
                jumps = [at for at in range(start, end, 2) if opcode.opname[self.code.co_code[at]].startswith("JUMP_BACKWARD")]
                found.update(jumps[-1:])
        return found

    def region(self, offset: int) -> Region | None:
        """What runs from this offset to the end of its line's bytecode; None if that is nothing of ours."""
        at = next((k for k, (start, end, _) in enumerate(self._ranges) if start <= offset < end), None)
        found = None
        if at is not None:
            start, end, line = self._ranges[at]
            after = self._ranges[at + 1][2] if at + 1 < len(self._ranges) else -1
            before = line if offset > start else self._ranges[at - 1][2] if at else -1
            here = [one for one in self.scope.statements if one.first <= line <= one.last]
            ended = [one for one in here if not one.first <= after <= one.last or one.for_targets or one.turns]
            # one that stands in the line of its loop's head begins with each visit of that line
            begun = [one for one in here if one.uncertain or not one.first <= before <= one.end]
            targets = tuple(target for one in ended for target in one.targets)
            for_targets = tuple(target for one in ended for target in one.for_targets)
            uncertain = any(one.uncertain for one in ended)
            begins = tuple(one.begins for one in begun if one.begins is not None)
            turns = tuple(one.turns for one in ended if one.turns is not None)
            found = Region(
                targets,
                for_targets,
                uncertain,
                begins,
                turns,
                end,
                not uncertain and not for_targets and not turns and all(target.simple for target in targets),
                uncertain or bool(begins) or any(target.how == TOUCHED for target in targets),
            )
            if not found.targets and not found.for_targets and not found.begins and not found.turns:
                found = None
        self.regions[offset] = found
        return found


def scopes_of(file: str) -> dict[tuple[str, int], Scope]:
    """All scopes of a source file by what a code object has: name and first line. Empty if there is no source that can be read."""
    source: Any = None
    lines = sys.modules.get("linecache")
    entry = lines.cache.get(file) if lines is not None else None  # a notebook's cells lie there
    if entry is not None and len(entry) == 4:
        source = "".join(entry[2])
    elif file[:1] != "<":
        try:
            with open(file, "rb") as opened:
                source = opened.read()
        except OSError as error:
            if interrupts(error):
                raise
            return {}
    if source is None:
        return {}
    # Parsing warns of doubtful escapes, as importing the file has done already. Catching warnings would make others be shown anew.
    warnings: Any = sys.modules.get("warnings")
    shown = getattr(warnings, "_showwarnmsg", None)
    if shown is not None:
        warnings._showwarnmsg = lambda _message: None
    try:
        tree = ast.parse(source, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if interrupts(error):
            raise
        return {}
    finally:
        if shown is not None:
            warnings._showwarnmsg = shown
    found: dict[tuple[str, int], Scope] = {}
    _Reader(file, found).scope("<module>", 1, "<module>", "", tree.body)
    return found


_TRIES: tuple[type, ...] = (ast.Try, *([ast.TryStar] if sys.version_info >= (3, 11) else []))


class _Reader:
    """Walks a tree, scope by scope."""

    def __init__(self, file: str, scopes: dict[tuple[str, int], Scope]) -> None:
        self.file = file
        self.scopes = scopes

    def scope(self, name: str, line: int, qualified: str, within: str, body: list[ast.stmt]) -> None:
        """Read one scope, and those within it."""
        statements: list[Statement] = []
        self._body(body, statements, None, None, 0, within)
        for one in statements:
            for target in (*one.targets, *one.for_targets):
                target.scope, target.file, target.line, target.loop = qualified, self.file, one.first, one.loop
            for target in one.for_targets:
                target.loop = one.turns or one.loop
        own, others = _owned(body)
        for target in (target for one in statements for target in one.targets):
            written = not target.path and target.how in (WRITTEN, TOUCHED)
            target.shared = (written or target.path == (MADE_LEAF,)) and (target.root in others or target.root not in own)
        self.scopes[name, line] = Scope(qualified, statements, self.file)

    def _body(
        self, body: list[ast.stmt], out: list[Statement], loop: Loop | None, begins: Loop | None, head: int, within: str
    ) -> None:  # fmt: skip
        for statement in body:
            self._statement(statement, out, loop, begins, statement.lineno <= head, within)
            if not isinstance(statement, (ast.Global, ast.Nonlocal)):  # nothing that runs
                begins = None

    def _statement(
        self, one: ast.stmt, out: list[Statement], loop: Loop | None, begins: Loop | None, uncertain: bool, within: str
    ) -> None:  # fmt: skip
        end = one.end_lineno or one.lineno
        if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = min([one.lineno, *(decorator.lineno for decorator in one.decorator_list)])
            qualified = within + one.name
            inner = qualified + ("." if isinstance(one, ast.ClassDef) else ".<locals>.")
            self.scope(one.name, first, qualified, inner, one.body)
            out.append(Statement(first, first, end, (), (), False, loop, begins))
            return
        heads, bodies, each = _parts(one)
        if isinstance(one, (ast.For, ast.AsyncFor, ast.While)):
            head = max([one.lineno, *(part.end_lineno or 0 for part in heads)])
            touched = [target for part in heads for target in _touched(part)]
            inside = Loop()
            turns = inside if not isinstance(one, ast.While) and one.body[0].lineno > head else None
            out.append(Statement(one.lineno, head, end, tuple(touched), tuple(each), uncertain, loop, begins, turns))
            self._body(one.body, out, inside, None if turns is not None else inside, head, within)
            self._body(one.orelse, out, loop, None, 0, within)
            return
        touched = [target for part in heads for target in _touched(part)]
        if bodies:
            head = max([one.lineno, *(part.end_lineno or 0 for part in heads)])
            is_try = not heads and isinstance(one, _TRIES)  # `try` itself may be no instruction: its body is what begins
            out.append(Statement(one.lineno, head, end, tuple(touched), (), uncertain, loop, None if is_try else begins))
            for body in bodies:
                self._body(body, out, loop, begins if is_try and body is bodies[0] else None, head, within)
            return
        out.append(Statement(one.lineno, end, end, (*touched, *_assigned(one)), (), uncertain, loop, begins))


def _parts(one: ast.stmt) -> tuple[list[ast.expr], list[list[ast.stmt]], list[Target]]:
    """Expressions that a statement itself evaluates, the bodies within it, and what a `for` assigns."""
    if isinstance(one, (ast.For, ast.AsyncFor)):
        return [one.target, one.iter], [one.body, one.orelse], list(_targets(one.target, EACH))
    heads = [child for child in ast.iter_child_nodes(one) if isinstance(child, ast.expr)]
    heads += [item.context_expr for item in getattr(one, "items", ())]
    bodies = [getattr(one, name) for name in ("body", "orelse", "finalbody") if getattr(one, name, None)]
    bodies += [handler.body for handler in getattr(one, "handlers", ())] + [case.body for case in getattr(one, "cases", ())]
    return heads, bodies, []


def _assigned(one: ast.stmt) -> Iterator[Target]:
    if isinstance(one, ast.Assign):
        for target in one.targets:
            yield from _targets(target, ASSIGNED)
    elif isinstance(one, ast.AnnAssign) and one.value is not None:
        yield from _targets(one.target, ASSIGNED)
    elif isinstance(one, ast.AugAssign):
        yield from _targets(one.target, WRITTEN)


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def _owned(body: list[ast.stmt]) -> tuple[set[str], set[str]]:
    """Names that a scope assigns, and those whose object may well have another name too.

    Such a name got what was already somewhere (of another name, in an entry, by a loop), or what it holds was put into a list, tuple or
    dict. What a call returns counts as new.
    """
    own: set[str] = set()
    others: set[str] = set()

    def assigned(target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            values = value.elts if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts) else None
            for k, part in enumerate(target.elts):
                assigned(part, values[k] if values is not None else value)
        elif isinstance(target, ast.Name):
            own.add(target.id)
            if value is None or isinstance(value, (ast.Name, ast.Attribute, ast.Subscript)):
                others.add(target.id)
        if isinstance(value, ast.Name):
            others.add(value.id)

    stack: list[ast.AST] = list(body)
    while stack:
        one = stack.pop()
        if isinstance(one, _SCOPES):
            continue
        stack.extend(part for part in ast.iter_child_nodes(one) if not (isinstance(one, ast.Subscript) and part is one.slice))
        if isinstance(one, ast.Assign):
            for target in one.targets:
                assigned(target, one.value)
        elif isinstance(one, (ast.AnnAssign, ast.NamedExpr)):
            assigned(one.target, one.value)
        elif isinstance(one, (ast.For, ast.AsyncFor)):
            assigned(one.target, None)
        elif isinstance(one, (ast.Tuple, ast.List, ast.Set)) and isinstance(getattr(one, "ctx", ast.Load()), ast.Load):
            others.update(part.id for part in one.elts if isinstance(part, ast.Name))
        elif isinstance(one, ast.Dict):
            others.update(part.id for part in one.values if isinstance(part, ast.Name))
    return own, others


def _targets(node: ast.expr, how: int) -> Iterator[Target]:
    if isinstance(node, (ast.Tuple, ast.List)):
        for part in node.elts:
            yield from _targets(part, how)
    elif isinstance(node, ast.Starred):
        yield from _targets(node.value, how)
    else:
        found = _path(node, how)
        if found is not None:
            yield found


def _touched(node: ast.expr) -> Iterator[Target]:
    """What the calls and the `:=` within an expression write."""
    stack: list[ast.AST] = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, ast.Lambda):
            continue
        stack.extend(ast.iter_child_nodes(part))
        found: Target | None = None
        if isinstance(part, ast.NamedExpr):
            found = _path(part.target, ASSIGNED)
        elif isinstance(part, ast.Call):
            name = part.func.attr if isinstance(part.func, ast.Attribute) else part.func.id if isinstance(part.func, ast.Name) else ""
            written = name.endswith("_") and not name.endswith("__") and not name.startswith("_") and name not in _WRITING_NOTHING
            if isinstance(part.func, ast.Attribute) and (written or name in (*_METHODS, *_ADDING)):
                found = _path(part.func.value, APPENDED if name in _ADDING else WRITTEN)
            if isinstance(part.func, ast.Attribute) and name == "requires_grad_" and (of := _path(part.func.value, WRITTEN)):
                yield Target(of.root, (*of.path, MADE_LEAF), WRITTEN)
            if (written or name in _FUNCTIONS) and part.args and (first := _path(part.args[0], TOUCHED)):
                yield first
            elif _is_op(part.func):  # which of its arguments it writes is known when it runs: all are looked at
                yield from (touched for argument in part.args if (touched := _path(argument, TOUCHED)))
            for keyword in part.keywords:
                if keyword.arg == "out":
                    yield from _targets(keyword.value, WRITTEN)
        if found is not None:
            yield found


def _is_op(func: ast.expr) -> bool:
    """Whether an op is called by its name, as `torch.ops.mylib.fused_adam`."""
    parts: list[str] = []
    while isinstance(func, ast.Attribute):
        parts.append(func.attr)
        func = func.value
    return isinstance(func, ast.Name) and func.id == "torch" and len(parts) > 2 and parts[-1] == "ops"


def _path(node: ast.expr, how: int) -> Target | None:
    """A name with attributes, keys and views behind it; None for any other expression."""
    steps: list[tuple[int, Any]] = []
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute):
            steps.append((ATTRIBUTE, node.attr))
            node = node.value
        elif isinstance(node, ast.Subscript):
            steps.append(_key(node.slice))
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _VIEWS:
            steps.clear()  # what lies behind a view is in the memory of what it is a view of
            node = node.func.value
        else:
            return None
    return Target(node.id, tuple(reversed(steps)), how)


def _key(node: ast.expr) -> tuple[int, Any]:
    if isinstance(node, ast.Constant) and type(node.value) in (str, int):
        return KEY, node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return (KEY, -node.operand.value) if type(node.operand.value) is int else (UNKNOWN, None)
    if isinstance(node, ast.Name):
        return VARIABLE, node.id
    return UNKNOWN, None
