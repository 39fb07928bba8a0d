"""Edits of a source by position: everything else stays as it is, byte for byte. A source is never printed from its tree."""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import NamedTuple

from auditor.source.code import COMPREHENSIONS, FUNCTIONS, Code, parsed

#: Roots of calls between imports that do not start the work of the script.
_PREPARES = ("os", "sys", "warnings", "logging", "matplotlib", "builtins")


class Edit(NamedTuple):
    """A range of the text and its replacement."""

    start: int
    end: int
    text: str


def edited(code: Code, edits: Iterable[Edit]) -> str | None:
    """The source with these edits; None if they overlap, change nothing, or leave a source that does not parse."""
    text, behind = code.text, len(code.text)
    # insertions at one position keep the order in which they were given
    numbered = sorted(((edit.start, edit.end, number, edit) for number, edit in enumerate(edits)), reverse=True)
    for _, _, _, edit in numbered:
        if edit.end > behind or edit.start > edit.end:
            return None
        text, behind = text[: edit.start] + edit.text + text[edit.end :], edit.start
    return None if text == code.text or parsed(text) is None else text


def diff_of(path: str, old: str, new: str) -> str:
    """A unified diff for `git apply` and `patch -p1`; empty for equal texts. Line ends stay as in the file, CRLF included."""
    name = PurePath(path).as_posix().lstrip("/")
    heads = [f"{side}/{name}" for side in "ab"]
    if re.search(r'["\\\x00-\x1f]', name):
        heads = [json.dumps(head, ensure_ascii=False) for head in heads]
    elif " " in name:
        heads = [f"{head}\t" for head in heads]  # where the name ends
    old_lines, new_lines = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (old, new))
    changes = list(difflib.unified_diff(old_lines, new_lines))[2:]
    lines = [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in changes]
    return "".join([f"--- {heads[0]}\n+++ {heads[1]}\n", *lines]) if lines else ""


def replaced(code: Code, node: ast.AST, text: str) -> Edit:
    """Replace a node by another text."""
    return Edit(*code.span(node), text)


def wrapped(code: Code, node: ast.AST, before: str, after: str) -> list[Edit]:
    """Insert text before and after a node."""
    start, end = code.span(node)
    return [Edit(start, start, before), Edit(end, end, after)]


def indent_of(code: Code, offset: int) -> str | None:
    """The white space before this position; None if anything else precedes it on its line."""
    before = code.text[code.line_start(offset) : offset].lstrip("\ufeff")
    return before if not before.strip(" \t\f") else None


def keyword_added(code: Code, call: ast.Call, name: str, value: str) -> Edit | None:
    """Add a keyword argument, on a line of its own if the last one is; None where there is no place for it."""
    if any(keyword.arg in (name, None) for keyword in call.keywords):
        return None
    close = code.span(call)[1] - 1
    given = sorted((code.span(one) for one in (*call.args, *call.keywords)), key=lambda span: span[1])
    if not given:
        return Edit(close, close, f"{name}={value}")
    start, end = given[-1]
    if end > close:
        return None  # a generator expression without its own parentheses
    # the last argument may be in parentheses, which are not part of its node
    for match in re.finditer(r"#[^\r\n]*|\)", code.text[end:close]):
        if match.group() == ")":
            return Edit(end + match.end(), end + match.end(), f", {name}={value}")
    indent = indent_of(code, start)
    return Edit(end, end, f", {name}={value}" if indent is None else f",{code.newline}{indent}{name}={value}")


def argument_set(code: Code, call: ast.Call, text: str) -> Edit | None:
    """Set the first argument of a call that has no argument, or None as its only one."""
    if not call.args and not call.keywords:
        close = code.span(call)[1] - 1
        return Edit(close, close, text)
    first = call.args[0] if call.args else call.keywords[0].value
    if len(call.args) + len(call.keywords) == 1 and isinstance(first, ast.Constant) and first.value is None:
        return replaced(code, first, text)
    return None


def function_renamed(code: Code, call: ast.Call, full: str) -> Edit | None:
    """Call another function of the same module or object; `full` is its dotted name, or `.name`."""
    if isinstance(call.func, ast.Attribute):
        end = code.span(call.func)[1]
        return Edit(end - len(call.func.attr), end, full.rpartition(".")[2])
    name = name_for(code, full, call)
    return replaced(code, call.func, name) if name and isinstance(call.func, ast.Name) else None


def name_for(code: Code, full: str, at: ast.AST | None = None) -> str | None:
    """The expression for a dotted name, from the module's top-level imports of names that nothing else binds."""
    parts = full.split(".")
    for length in range(len(parts), 0, -1):
        for name, bindings in code.bindings[code.tree].items():
            if {one.how for one in bindings} != {"import"} or {one.meaning for one in bindings} != {".".join(parts[:length])}:
                continue
            found = code.lookup(name, at) if at is not None else (code.tree, bindings)
            if found is not None and found[0] is code.tree:
                return ".".join([name, *parts[length:]])
    return None


def is_guard(statement: ast.AST) -> bool:
    """Whether a statement is `if __name__ == "__main__":`."""
    test = statement.test if isinstance(statement, ast.If) else None
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def is_docstring(statement: ast.stmt) -> bool:
    """Whether a statement is only a string."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)


def beginning(code: Code) -> int:
    """Length of a module's head in statements: docstring, imports, and calls that only prepare further imports."""
    head = 0
    for index, statement in enumerate(code.tree.body):
        if _imports(statement) or (index == 0 and is_docstring(statement)):
            head = index + 1
        elif not _prepares(statement):
            break
    return head


def _imports(statement: ast.stmt) -> bool:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return True
    if isinstance(statement, ast.Try):
        parts = [*statement.body, *statement.orelse, *statement.finalbody, *(one for handler in statement.handlers for one in handler.body)]
        return _imports(statement.body[0]) and all(_imports(one) or _prepares(one) for one in parts)
    if isinstance(statement, ast.If) and not is_guard(statement):
        return all(_imports(one) for one in (*statement.body, *statement.orelse))
    return False


def _prepares(statement: ast.stmt) -> bool:
    if isinstance(statement, (ast.Pass, ast.Raise)):
        return True
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        simple = not any(isinstance(node, (ast.Call, *COMPREHENSIONS)) for node in ast.walk(statement))
        return simple and all(isinstance(one, ast.Name) or _root(one) in _PREPARES for one in targets)
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and _root(statement.value.func) in _PREPARES


def _root(node: ast.AST) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def line_inserted(code: Code, members: list[ast.stmt], index: int, text: str) -> Edit | None:
    """Insert one or more lines as the `index`-th statement of a block, with the block's indentation.

    After imports and functions a blank line separates it if one separates what follows them.
    """
    before = members[index - 1] if index else None
    after = members[index] if index < len(members) else None
    if before is None:
        assert after is not None
        start = _start(code, after)
        indent = indent_of(code, start)
        if indent is None:
            one_line = "\n" not in text
            return Edit(start, start, f"{text}; ") if one_line else None
        at = start - len(indent)
        return Edit(at, at, f"{_lines(code, indent, text)}{code.newline}")
    end = code.span(before)[1]
    next_line = code.line_end(end)
    if after is not None and _start(code, after) < next_line:
        start = _start(code, after)
        return Edit(start, start, f"{text}; ") if "\n" not in text else None
    indent = "" if members is code.tree.body else indent_of(code, _start(code, before))
    if indent is None:
        return None  # the block is on the line of its head, or after a semicolon
    lines = _lines(code, indent, text)
    if members is code.tree.body and _blank_behind(code, index):
        if isinstance(before, (ast.Import, ast.ImportFrom, ast.Try, ast.If, ast.Expr)):
            lines = code.newline + lines
        elif isinstance(before, (*FUNCTIONS, ast.ClassDef)):
            lines = code.newline * 2 + lines
    if code.text[next_line - 1 : next_line] in ("\n", "\r"):
        return Edit(next_line, next_line, f"{lines}{code.newline}")
    return Edit(len(code.text), len(code.text), f"{code.newline}{lines}")


def _lines(code: Code, indent: str, text: str) -> str:
    return code.newline.join(f"{indent}{line}" if line else "" for line in text.split("\n"))


def _start(code: Code, statement: ast.stmt) -> int:
    """Position of the first character of a statement, decorators included."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)) and statement.decorator_list:
        return code.text.rindex("@", 0, code.span(statement.decorator_list[0])[0])
    return code.span(statement)[0]


def moved(code: Code, statement: ast.stmt, members: list[ast.stmt], index: int) -> list[Edit] | None:
    """Move a one-line statement with its comment to become the `index`-th of a block."""
    start, end = code.span(statement)
    indent = indent_of(code, start)
    if indent is None or len(code.block(statement)) == 1:
        return None
    first, last = code.line_start(start), code.line_end(end)
    rest = code.text[end:last].strip()
    if rest and not rest.startswith("#"):
        return None
    text = code.text[start:last].rstrip()
    if "\n" in text or "\r" in text:
        return None
    edit = line_inserted(code, members, index, text)
    if edit is None or edit.text.endswith("; "):
        return None
    return [edit, Edit(first, last, "")]


def import_added(code: Code, statement: str) -> list[Edit] | None:
    """Add an import after those of the module; None if the name is taken, or there is no import to add it after."""
    head = beginning(code)
    bound, _ = _brought("", statement)
    if not head or code.bindings[code.tree].get(bound):
        return None
    edit = line_inserted(code, code.tree.body, head, statement)
    return None if edit is None else [_joined(code, edit)]


def _joined(code: Code, edit: Edit) -> Edit:
    """An import without a blank line before it."""
    return edit._replace(text=edit.text.removeprefix(code.newline)) if edit.start < len(code.text) else edit


def added_at_top(code: Code, text: str, needs: Iterable[tuple[str, str]], apart: bool = False) -> list[Edit] | None:
    """Add lines after the imports of a module, with `{0}`, `{1}`, ... as placeholders for names.

    `needs` lists those: each a dotted name, and the import to add if the module lacks it. With `apart`, as for a function, two blank lines
    surround the text.
    """
    members = code.tree.body
    if not members:
        return None
    head = beginning(code)
    imports: list[str] = []
    names: list[str] = []
    for full, statement in needs:
        name = name_for(code, full)
        if name is None:
            bound, said = _brought(full, statement)
            if code.bindings[code.tree].get(bound):
                return None
            if statement not in imports:
                imports.append(statement)
            names.append(said)
            continue
        names.append(name)
        top = [_top_level(code, one.node) for one in code.bindings[code.tree][name.split(".")[0]]]
        first = min((index for index in top if index is not None), default=None)
        if first is None:
            return None
        head = max(head, first + 1)
    whole = text.format(*names)
    if apart:
        whole = f"\n{whole}" if _blank_behind(code, head) else f"\n\n{whole}\n\n"
    if imports:
        whole = "\n".join([*imports, "", whole])
    edit = line_inserted(code, members, head, whole)
    if edit is None:
        return None
    # an import follows the imports before it without a blank line
    return [_joined(code, edit) if imports and head and not is_docstring(members[head - 1]) else edit]


def _blank_behind(code: Code, index: int) -> bool:
    """Whether a blank line follows the statement before the `index`-th of the module."""
    if not index:
        return False
    following = code.line_end(code.span(code.tree.body[index - 1])[1])
    return following < len(code.text) and not code.text[following : code.line_end(following)].strip()


def _brought(full: str, statement: str) -> tuple[str, str]:
    """The name that an import statement binds, and the expression for the dotted name through it."""
    tree = ast.parse(statement).body[0]
    assert isinstance(tree, (ast.Import, ast.ImportFrom))
    alias = tree.names[0]
    module = f"{tree.module}.{alias.name}" if isinstance(tree, ast.ImportFrom) else alias.name
    bound = alias.asname or alias.name
    return bound.split(".")[0], bound + full.removeprefix(module)


def _top_level(code: Code, node: ast.AST) -> int | None:
    """The index of the top-level statement that contains a node."""
    chain = {node, *code.ancestors(node)}
    return next((index for index, one in enumerate(code.tree.body) if one in chain), None)


def top_level(code: Code, node: ast.AST) -> int:
    """The same for a node that is not the module."""
    index = _top_level(code, node)
    assert index is not None
    return index
