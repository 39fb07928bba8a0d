"""What a name says: its path, how it ends, what it belongs to, whose gradient it is, and whether it says anything."""

from __future__ import annotations

import re
from collections.abc import Sequence

from auditor.matching.values import Values, short_name

#: Names that every program has: two of them are counterparts only if their values are.
_COMMON = frozenset(("tmp", "temp", "val", "value", "res", "result", "out", "ret", "arr", "data", "item", "total", "count", "num", "idx"))
#: Names of a gradient written by hand: `db1`, `d_b1`, `grad_b1`, `g_b1`, `gb1`, `b1_grad`, `b1_g`.
_GRADIENT = re.compile(r"(?:d|d_|grad_|g_|g|grad)(?P<behind>\w+)|(?P<before>\w+?)_?(?:grad|gradient|_g|_d)")


def owner_of(one: Values) -> tuple[str, tuple[str, str]]:
    """What a parameter or its gradient belongs to, and which of its own it is: `net.first` of `net.first.bias`."""
    owner, _, name = one.name.removesuffix(".grad").rpartition(".")
    return owner if one.kind != "variable" else "", (name, one.kind)


def meant_by(name: str, series: Sequence[Values]) -> list[Values]:
    """What a user can mean by a name: its path, `function:path`, or a path that ends so."""
    scope, colon, path = name.rpartition(":")
    if colon:
        return [one for one in series if one.name == path and one.scope.endswith(scope)]
    return [one for one in series if one.name == name] or [one for one in series if one.name.endswith("." + name)]


def path_of(one: Values) -> str:
    """The path without what only says who holds it: the instance, a wrapper of a module."""
    return re.sub(r"(?:^self\.)|\b(?:module|_orig_mod)\.", "", one.name)


def within_module(one: Values) -> object:
    """The path of a parameter or its gradient behind the name of the whole module, which is another in each program."""
    _, dot, path = path_of(one).partition(".")
    return (path, one.kind) if dot and one.kind != "variable" and "." in path.removesuffix(".grad") else id(one)


def ending_of(one: Values) -> str:
    """The last component, with that before it of a gradient; without the number that a recurrent module gives its first layer."""
    end = short_name(one) if one.kind != "gradient" else ".".join(one.name.split(".")[-2:])
    return re.sub(r"_l0\b", "", end)


def one_ends_the_other(x: Values, y: Values) -> bool:
    """Whether one path ends with the other: `fc.weight` and `self.model.fc.weight`."""
    ours, theirs = "." + path_of(x), "." + path_of(y)
    return ours != theirs and x.kind == y.kind and (ours.endswith(theirs) or theirs.endswith(ours))


def says_nothing(one: Values) -> bool:
    """Whether a name is one letter or one of those that every program has."""
    name = re.sub(r"[\d_]+", "", short_name(one))
    return len(name) <= 1 or name in _COMMON


def parameter_of_gradient(one: Values) -> str:
    """The name of the parameter whose gradient a name is: `b1` of `b1.grad`, `db1`, `grad_b1` or `b1_grad`; empty if it looks like none."""
    if one.name.endswith(".grad"):
        return one.name.removesuffix(".grad").rpartition(".")[2]
    found = _GRADIENT.fullmatch(short_name(one))
    return (found["behind"] or found["before"]).lstrip("_") if found else ""
