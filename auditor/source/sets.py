"""Which expressions are sets, where their iteration order is used, and whether that order can affect a result."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from auditor.source.code import COMPREHENSIONS, FUNCTIONS, Binding, Code, Kind, arguments_of

_MAKERS = ("set", "frozenset")
_SET_RESULTS = ("union", "intersection", "difference", "symmetric_difference", "copy")
_ANNOTATIONS = ("set", "frozenset", "typing.Set", "typing.FrozenSet", "typing.AbstractSet", "typing.MutableSet",
                "collections.abc.Set", "collections.abc.MutableSet")  # fmt: skip
#: Calls whose result has the elements in the order of the argument.
_KEEPS_ORDER = ("list", "tuple", "iter", "map", "filter", "reversed")
_ITERATES = (*_KEEPS_ORDER, "enumerate", "zip", "dict.fromkeys", "functools.reduce", "collections.deque", "collections.OrderedDict",
             "collections.Counter", "numpy.fromiter", ".join", ".extend")  # fmt: skip
_ORDER_INSENSITIVE = ("sorted", "len", "any", "all", "set", "frozenset", "set.union", "frozenset.union", "math.fsum")
_SET_METHODS = ("union", "intersection", "difference", "symmetric_difference", "update", "difference_update", "intersection_update",
                "symmetric_difference_update", "issubset", "issuperset", "isdisjoint")  # fmt: skip
#: How many names may stand for other names before the search gives up.
_MAX_DEPTH = 60


def kind_of(code: Code, node: ast.expr | None, deep: int = 0) -> Kind:
    """Whether an expression is a set, as far as its file shows; in a cycle of definitions the other parts decide."""
    if node is None or deep > _MAX_DEPTH:
        return None
    if node not in code.kinds:
        code.kinds[node] = None
        code.kinds[node] = _kind(code, node, deep + 1)
    return code.kinds[node]


def _kind(code: Code, node: ast.expr, deep: int) -> Kind:
    if isinstance(node, ast.Set):
        return "numbers" if all(_is_number(one) or _gives_whole_numbers(code, one) for one in node.elts) else "set"
    if isinstance(node, ast.SetComp):
        return "numbers" if _gives_whole_numbers(code, node.elt) else "set"
    if isinstance(node, ast.IfExp):
        return _either(kind_of(code, node.body, deep), kind_of(code, node.orelse, deep))
    if isinstance(node, ast.BoolOp):
        return _either(*(kind_of(code, one, deep) for one in node.values))
    if isinstance(node, ast.NamedExpr):
        return kind_of(code, node.value, deep)
    if isinstance(node, ast.BinOp):
        return _of_algebra(code, node, deep)
    if isinstance(node, ast.Call):
        return _of_call(code, node, deep)
    if isinstance(node, ast.Name):
        return _either(*(_of_binding(code, one, node.id, deep) for one in code.reaching(node)))
    if isinstance(node, ast.Attribute):
        return _of_attribute(code, node, deep)
    if isinstance(node, ast.Subscript):
        return _of_default(code, node)
    return None


def _either(*kinds: Kind) -> Kind:
    return "set" if "set" in kinds else "numbers" if "numbers" in kinds else None


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_number(node.operand)
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float, complex))


def _gives_whole_numbers(code: Code, node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return code.called(node) in ("len", "int", "ord", "bool")
    return isinstance(node, ast.Compare) or (isinstance(node, ast.Constant) and isinstance(node.value, int))


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys" and not node.args


def _of_algebra(code: Code, node: ast.BinOp, deep: int) -> Kind:
    if not isinstance(node.op, (ast.Sub, ast.BitOr, ast.BitAnd, ast.BitXor)):
        return None
    left, right = kind_of(code, node.left, deep), kind_of(code, node.right, deep)
    keys = _is_keys(node.left) or _is_keys(node.right)
    if isinstance(node.op, ast.Sub):
        return "set" if _is_keys(node.left) else left or right
    if left == right == "numbers":
        return "numbers"
    return "set" if keys or left or right else None


def _of_call(code: Code, node: ast.Call, deep: int) -> Kind:
    name = code.called(node)
    if name in _MAKERS:
        given = node.args[0] if len(node.args) == 1 else None
        if isinstance(given, ast.Call) and code.called(given) == "range":
            return "numbers"
        if isinstance(given, (ast.List, ast.Tuple)) and given.elts and all(_is_number(one) for one in given.elts):
            return "numbers"
        if isinstance(given, (ast.ListComp, ast.GeneratorExp)) and _gives_whole_numbers(code, given.elt):
            return "numbers"
        return kind_of(code, given, deep) or "set"
    if name in ("set.union", "set.intersection", "frozenset.union", "frozenset.intersection"):
        return "set"
    if isinstance(node.func, ast.Attribute) and node.func.attr in _SET_RESULTS:
        return kind_of(code, node.func.value, deep)
    for function in code.defined(node.func):
        if isinstance(function, FUNCTIONS):
            if _annotated(code, function.returns):
                return "set"
            for one in ast.walk(function):
                if isinstance(one, ast.Return) and code.function_of(one) is function:
                    kind = kind_of(code, one.value, deep)
                    if kind:
                        return kind
    return None


def _annotated(code: Code, node: ast.expr | None) -> bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        word = node.value.split("[")[0].split("|")[0].strip().split(".")[-1]
        return word in ("set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet")
    if isinstance(node, ast.BinOp):
        return _annotated(code, node.left) or _annotated(code, node.right)
    if isinstance(node, ast.Subscript):
        name = code.dotted(node.value)
        if name == "typing.Optional":
            return _annotated(code, node.slice)
        return name in _ANNOTATIONS and code.dotted(node.slice) not in ("int", "bool", "float")
    return node is not None and code.dotted(node) in _ANNOTATIONS


def _of_binding(code: Code, binding: Binding, name: str, deep: int) -> Kind:
    kind = kind_of(code, binding.value, deep)
    if kind:
        return kind
    if _annotated(code, binding.annotation):
        return "set"
    if binding.how == "parameter":
        function = code.function_of(binding.node)
        given = [one for call in code.calls_of(function) for one in arguments_of(call, function, name)]
        return _either(*(kind_of(code, one, deep) for one in given))
    return None


def _of_attribute(code: Code, node: ast.Attribute, deep: int) -> Kind:
    """The kind of `self.x`, if all assignments in its class agree."""
    here = code.class_of(node)
    if here is None or not isinstance(node.value, ast.Name) or node.value.id not in ("self", "cls"):
        return None
    fields = code.bindings[here].get(node.attr, ())
    kinds: list[Kind] = ["set" if _annotated(code, one.annotation) else kind_of(code, one.value, deep) for one in fields]
    for other in ast.walk(here):
        if isinstance(other, ast.Attribute) and isinstance(other.ctx, ast.Store) and other.attr == node.attr:
            parent = code.parent[other]
            if isinstance(parent, ast.AugAssign):
                continue
            if isinstance(parent, ast.AnnAssign) and _annotated(code, parent.annotation):
                kinds.append("set")
                continue
            value = parent.value if isinstance(parent, (ast.Assign, ast.AnnAssign)) else None
            if not (isinstance(value, ast.Constant) and value.value is None):
                kinds.append(kind_of(code, value, deep))
    return _either(*kinds) if kinds and all(kinds) else None


def _of_default(code: Code, node: ast.Subscript) -> Kind:
    """The kind of `groups[key]`, where `groups` is a `defaultdict(set)`."""
    if not isinstance(node.value, ast.Name):
        return None
    for one in code.reaching(node.value):
        value = one.value
        if isinstance(value, ast.Call) and code.called(value) == "collections.defaultdict" and value.args:
            return "set" if code.dotted(value.args[0]) == "set" else None
    return None


def iterated(code: Code) -> Iterator[tuple[ast.expr, str]]:
    """The sets whose order is used, and how: `set` if iterated, `pop`, or `best` where min or max break ties by order."""
    for node in code.nodes():
        if not isinstance(node, ast.expr) or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            continue
        how = _use_of_order(code, node)
        if how and kind_of(code, node) == "set" and (how == "pop" or order_matters(code, node)):
            yield node, how


def _use_of_order(code: Code, node: ast.expr) -> str | None:
    parent, field = code.parent[node], code.field[node]
    if isinstance(parent, (ast.For, ast.comprehension)) and field == "iter":
        return "set"
    if isinstance(parent, (ast.Starred, ast.YieldFrom)):
        return "set"
    if isinstance(parent, ast.Assign) and field == "value" and any(isinstance(one, (ast.Tuple, ast.List)) for one in parent.targets):
        return "set"
    if isinstance(parent, ast.Call) and field == "args":
        name = code.called(parent)
        method = f".{parent.func.attr}" if isinstance(parent.func, ast.Attribute) else ""
        if name in ("map", "filter") and parent.args[0] is node:
            return None
        if name in _ITERATES or method in _ITERATES or name.startswith("itertools."):
            return "set"
        if name in ("min", "max"):
            return "best"
    if isinstance(parent, ast.Attribute) and parent.attr == "pop":
        call = code.parent[parent]
        if isinstance(call, ast.Call) and call.func is parent and not call.args:
            return "pop"
    return None


def order_matters(code: Code, node: ast.AST, best: bool = True) -> bool:
    """Whether the order of an iterable's elements can affect a result; `best`: min and max with a key may depend on it in ties."""
    while True:
        parent, field = code.parent[node], code.field[node]
        if isinstance(parent, ast.keyword):
            return True
        if isinstance(parent, ast.Call) and field == "args":
            name = code.called(parent)
            if name in _ORDER_INSENSITIVE:
                return False
            if name in ("min", "max"):
                return best and any(one.arg == "key" for one in parent.keywords)
            if name == "sum":
                element = node.elt if isinstance(node, (ast.GeneratorExp, ast.ListComp)) else None
                return element is not None and not _gives_whole_numbers(code, element)
            if isinstance(parent.func, ast.Attribute) and parent.func.attr in _SET_METHODS:
                return kind_of(code, parent.func.value) is None
            if name not in _KEEPS_ORDER:
                return True
            node = parent
        elif isinstance(parent, ast.comprehension) and field == "iter":
            whole = code.parent[parent]
            assert isinstance(whole, COMPREHENSIONS)
            if isinstance(whole, ast.SetComp):
                return False
            if isinstance(whole, ast.DictComp):
                return True
            node = whole
        elif isinstance(parent, ast.Starred):
            node = parent
        elif isinstance(parent, ast.Set):
            return False
        elif isinstance(parent, (ast.List, ast.Tuple)) and isinstance(node, ast.Starred):
            node = parent
        elif isinstance(parent, ast.Compare):
            return False
        elif isinstance(parent, ast.Assign) and isinstance(node, ast.expr) and isinstance(parent.targets[0], ast.Name):
            return not _sorted_later(code, parent.targets[0])
        else:
            return True


def _sorted_later(code: Code, name: ast.Name) -> bool:
    """Whether the object bound to a name is sorted before use, in place or at each use."""
    uses = [
        one for one in code.nodes() if isinstance(one, ast.Name) and one.id == name.id and code.function_of(one) is code.function_of(name)
    ]  # fmt: skip
    loads = sorted((one for one in uses if isinstance(one.ctx, ast.Load)), key=lambda one: code.span(one)[0])
    behind = [one for one in loads if code.span(one)[0] > code.span(name)[0]]
    if not behind or len(code.reaching(behind[0])) != 1:
        return False
    for one in behind:
        parent = code.parent[one]
        if isinstance(parent, ast.Attribute) and parent.attr == "sort":
            return True
        blind = isinstance(parent, ast.Compare) or (
            isinstance(parent, ast.Call) and code.field[one] == "args" and code.called(parent) in _ORDER_INSENSITIVE
        )
        if not blind:
            return False
    return True
