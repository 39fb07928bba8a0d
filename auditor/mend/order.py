"""Fixes that give a defined order to unordered values: sets, listings, results of workers and threads."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from auditor.mend.edits import Edit, replaced, wrapped
from auditor.source import calls_in, listings_in, unordered_in
from auditor.source.code import LOOPS, Code

Edits = list[Edit]

#: Most places to change at once; a patch with more is not readable.
_FEW = 4
_READS_A_DICT_CAN_DO = ("len", "list", "tuple", "sorted", "enumerate", "zip", "map", "filter", "iter", "any", "all", "sum", "min", "max",
                        "print", "bool")  # fmt: skip


def sets_sorted(code: Code, line: int) -> Iterator[Edits | None]:
    """sorted() around an iterated set: the nearest, then the next, then all that feed the line."""
    found = [(node, feeds) for node, what, feeds in unordered_in(code, line) if what in ("set", "best")]
    single = [wrapped(code, node, "sorted(", ")") for node, _ in found]
    yield from single[:2]
    feeding = [edits for edits, (_, feeds) in zip(single, found, strict=True) if feeds]
    together = feeding if 1 < len(feeding) <= _FEW else single[:2]
    yield [edit for edits in together for edit in edits]


def sets_as_dicts(code: Code, line: int) -> Iterator[Edits | None]:
    """A dictionary in place of an iterated set: it keeps its keys in insertion order."""
    each: list[Edits] = []
    for node, what, _ in unordered_in(code, line):
        made = _only_read(code, node) if isinstance(node, ast.Name) else node
        if what not in ("set", "best") or made is None or code.in_formatted_string(made):
            continue
        edits = _as_dict(code, made)
        if edits and edits not in each:
            each.append(edits)
    yield from each[:2]
    yield [edit for edits in each[:2] for edit in edits]


def _as_dict(code: Code, node: ast.expr) -> Edits | None:
    """Where the set is created: the same elements, in insertion order."""
    start, end = code.span(node)
    if isinstance(node, ast.SetComp):
        return [Edit(start, start + 1, "dict.fromkeys("), Edit(end - 1, end, ")")]
    if isinstance(node, ast.Set):
        return [Edit(start, start + 1, "dict.fromkeys(["), Edit(end - 1, end, "])")]
    if isinstance(node, ast.Call) and code.called(node) in ("set", "frozenset") and len(node.args) == 1 and not node.keywords:
        if isinstance(node.args[0], ast.Starred):
            return None
        return [replaced(code, node.func, "dict.fromkeys")]
    return None


def _only_read(code: Code, name: ast.Name) -> ast.expr | None:
    """The only value bound to a name, if all uses of the name also work with a dictionary."""
    found = code.lookup(name.id, name)
    if found is None or len(found[1]) != 1 or found[1][0].how != "value":
        return None
    for node in code.nodes():
        if not isinstance(node, ast.Name) or node.id != name.id or code.lookup(name.id, node) != found:
            continue
        parent, field = code.parent[node], code.field[node]
        if isinstance(node.ctx, ast.Store) and isinstance(parent, (ast.Assign, ast.AnnAssign)):
            continue
        if isinstance(parent, (ast.For, ast.comprehension)) and field == "iter":
            continue
        if isinstance(parent, ast.Compare) and all(isinstance(op, (ast.In, ast.NotIn)) for op in parent.ops) and field == "comparators":
            continue
        if isinstance(parent, ast.Call) and field == "args" and code.called(parent) in _READS_A_DICT_CAN_DO:
            continue
        if isinstance(parent, ast.Starred):
            continue
        return None
    return found[1][0].value


def listings_sorted(code: Code, line: int) -> Iterator[Edits | None]:
    """sorted() around calls that list a directory: all that feed the line, or the nearest."""
    each: list[tuple[bool, Edits]] = []
    for node, what, feeds in listings_in(code, line):
        if what in ("os.walk", "os.fwalk"):
            continue
        if what == "os.scandir":
            around = code.parent[node]
            if isinstance(around, (ast.withitem, ast.Attribute)) or not _is_iterated(code, node):
                continue
            each.append((feeds, wrapped(code, node, "sorted(", ", key=lambda entry: entry.name)")))
        elif isinstance(code.parent[node], ast.Attribute) or _is_advanced(code, node):
            continue
        else:
            each.append((feeds, wrapped(code, node, "sorted(", ")")))
    feeding = [edits for feeds, edits in each if feeds]
    if 1 < len(feeding) <= _FEW:
        yield [edit for edits in feeding for edit in edits]
    yield from (edits for _, edits in each[:2])


def _is_iterated(code: Code, node: ast.AST) -> bool:
    """Whether a node is iterated in place; a scandir() bound to a name may also be closed through it."""
    parent, field = code.parent[node], code.field[node]
    if isinstance(parent, ast.Call):
        return field == "args"
    return isinstance(parent, ast.Starred) or (isinstance(parent, (ast.For, ast.comprehension)) and field == "iter")


def _is_advanced(code: Code, node: ast.AST) -> bool:
    """Whether next() is called on it: next() does not accept a list."""
    parent = code.parent[node]
    return isinstance(parent, ast.Call) and code.called(parent) == "next"


def batches_in_order(code: Code) -> Iterator[Edits | None]:
    """The batches of a DataLoader in the order of its sampler."""
    for node in code.nodes():
        if isinstance(node, ast.keyword) and node.arg == "in_order" and isinstance(node.value, ast.Constant) and node.value.value is False:
            yield [replaced(code, node.value, "True")]


def results_in_order(code: Code, line: int) -> Iterator[Edits | None]:
    """Take results in the order of submission, not in the order of completion."""
    for call, _, _ in calls_in(code, (".imap_unordered",), line):
        end = code.span(call.func)[1]
        yield [Edit(end - len("_unordered"), end, "")]
    yield from _futures_in_order(code, line)


def _futures_in_order(code: Code, line: int) -> Iterator[Edits | None]:
    """The list of futures in place of as_completed(), which returns them as they finish."""
    for call, _, _ in calls_in(code, ("concurrent.futures.as_completed",), line):
        if len(call.args) != 1 or call.keywords or not isinstance(call.args[0], ast.Name):
            continue
        bindings = code.reaching(call.args[0])
        kept = (ast.List, ast.ListComp, ast.DictComp, ast.Dict)
        if len(bindings) != 1 or not isinstance(bindings[0].value, kept):
            continue
        parent = code.parent[call]
        passed = isinstance(parent, ast.Call) and code.field[call] == "args" and code.called(parent) != "next"
        if passed or (isinstance(parent, (*LOOPS, ast.comprehension)) and code.field[call] == "iter"):
            yield [replaced(code, call, code.segment(call.args[0]))]
