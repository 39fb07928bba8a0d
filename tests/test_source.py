"""Static analysis: what is unordered and where that matters, which directories are listed unsorted, and what feeds a line."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.source import Spot, calls, listings, unordered

ROOT = Path(__file__).parent.parent


def line_of(source: str, mark: str) -> int:
    """The first line that holds a text, counted from 1."""
    return next(number for number, line in enumerate(source.split("\n"), 1) if mark in line)


def found(spots: list[Spot]) -> list[tuple[int, str, str]]:
    return [(spot.line, spot.text, spot.what) for spot in spots]


def texts(source: str) -> list[str]:
    """The unordered expressions of a source, ranked for its last line."""
    source = dedent(source).strip("\n")
    return [spot.text for spot in unordered(source, source.count("\n") + 1)]


def test_the_rows_of_the_example_come_from_a_set_with_its_name() -> None:
    source = (ROOT / "examples" / "batch_order.py").read_text()
    line = line_of(source, "<- diverges")
    assert unordered(source, line) == [Spot(line, line, 45, 50, "names", "set", True)]


@pytest.mark.parametrize(
    ("leak", "mark", "spots"),
    [
        ("hash_seed", "for word in words", ["words"]),
        ("address_layout", "for node in nodes", ["nodes"]),
        ("file_order", "names = ", []),
        ("torch_seed", "torch.randn", []),
    ],
)
def test_exactly_the_sets_that_a_leak_script_iterates_are_found(leak: str, mark: str, spots: list[str]) -> None:
    source = (ROOT / "tests" / "leaks" / f"{leak}.py").read_text()
    assert [spot.text for spot in unordered(source, line_of(source, mark)) if spot.feeds] == spots


def test_the_three_listings_of_the_leak_script_are_found() -> None:
    source = (ROOT / "tests" / "leaks" / "file_order.py").read_text()
    spots = listings(source, line_of(source, "enumerate(names)"))
    assert [(spot.what, spot.feeds) for spot in spots] == [(".iterdir", True), ("glob.glob", True), ("os.listdir", True)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("for x in {'a', b}: pass", "{'a', b}"),
        ("for x in set(y): pass", "set(y)"),
        ("[x for x in frozenset(y)]", "frozenset(y)"),
        ("{x: 1 for x in {f(z) for z in y}}", "{f(z) for z in y}"),
        ("list(set(y) - z)", "set(y) - z"),
        ("tuple(a | {'b'})", "a | {'b'}"),
        ("enumerate(set(a).union(b))", "set(a).union(b)"),
        ("zip(set(a).copy(), b)", "set(a).copy()"),
        ("map(f, set(a))", "set(a)"),
        ("next(iter(set(a)))", "set(a)"),
        ("','.join(set(a))", "set(a)"),
        ("torch.tensor(list(set(a)))", "set(a)"),
        ("np.array(list(set(a)))", "set(a)"),
        ("f(*set(a))", "set(a)"),
        ("[*set(a)]", "set(a)"),
        ("first, second = set(a)", "set(a)"),
        ("x.extend(set(a))", "set(a)"),
        ("list(a.keys() - b)", "a.keys() - b"),
        ("list(a.keys() & b)", "a.keys() & b"),
        ("dict.fromkeys(set(a))", "set(a)"),
        ("max(set(a), key=a.count)", "set(a)"),
        ("sum(f(x) for x in set(a))", "set(a)"),
        ("for x in set(a) if b else c: pass", "set(a) if b else c"),
        ("for x in (s := set(a)): pass", "s := set(a)"),
        ("for x in set.union(*y): pass", "set.union(*y)"),
        ("s = set(a)\nfor x in s: pass", "s"),
        ("s = set()\ns.add(1)\nfor x in s: pass", "s"),
        ("s = None\nif a:\n    s = set(a)\nfor x in s: pass", "s"),
        ("s: set[str] = f()\nlist(s)", "s"),
        ("a, b = set(x), 1\nlist(a)", "a"),
        ("def f(words: set[str]):\n    return list(words)", "words"),
        ("from typing import AbstractSet as A\ndef f(words: A):\n    return list(words)", "words"),
        ("def f(words: 'set[str] | None'):\n    return list(words)", "words"),
        ("def f(words):\n    return list(words)\nf(set(a))", "words"),
        ("def f(a, words=()):\n    return list(words)\nf(1, words={'a'})", "words"),
        ("def f() -> set[str]: ...\nlist(f())", "f()"),
        ("def f():\n    return set(a)\nlist(f())", "f()"),
        ("S = set(a)\ndef f():\n    for x in S: pass", "S"),
        ("from collections import defaultdict\ng = defaultdict(set)\nlist(g[0])", "g[0]"),
        ("for x in y:\n    list(s)\n    s = set(a)", "s"),
        ("set(a).pop()", "set(a)"),
        ("match f():\n    case {'a': s} | [*s] | s:\n        list(set(s))", "set(s)"),
        ("k = hash('a') % 10", "hash('a')"),
        ("k = id(a) % 10", "id(a)"),
    ],
)
def test_unordered_values_are_found_where_their_order_is_used(source: str, expected: str) -> None:
    assert texts(source) == [expected]


@pytest.mark.parametrize(
    "source",
    [
        "sorted(set(a))",
        "len(set(a))",
        "min(set(a)) + max({'a', b})",
        "any(x for x in set(a))",
        "all(set(a))",
        "sum(set(a))",
        "sum(1 for x in set(a))",
        "sum(len(x) for x in set(a))",
        "sorted(x for x in set(a))",
        "sorted(list(set(a)))",
        "sorted([f(x) for x in set(a)])",
        "sorted(map(f, set(a)))",
        "sorted([*set(a)])",
        "{f(x) for x in set(a)}",
        "set(list(set(a)))",
        "frozenset(x for x in set(a))",
        "{*set(a)}",
        "x in set(a)",
        "s = set(a)\ns.update(set(b))\nprint(x in s, len(s))",
        "names = list(set(a))\nnames.sort()\nfor x in names: pass",
        "names = list(set(a))\nfor x in sorted(names): pass",
        "for x in {1, 2, 3}: pass",
        "n = {len(a), len(b)}.pop()",
        "for x in set(range(10)): pass",
        "for x in {len(y) for y in z}: pass",
        "s = set(a)\ns = sorted(s)\nfor x in s: pass",
        "def set(x): return x\nfor x in set(a): pass",
        "from ordered import set\nfor x in set(a): pass",
        "for x in {'a': 1}: pass",
        "for x in a - b: pass",
        "def f(words: set[int]):\n    return list(words)",
        "def f(words: list[str]):\n    return list(words)",
        "class A:\n    def __hash__(self):\n        return hash(self.a)",
        "id(a) == id(b)",
        "seen[id(a)] = 1",
        "seen.add(id(a))",
        "hash(1)",
        "d = {}\nfor k in d.keys(): pass",
        "x = f'{list(set(a))}'",
        "x = [",
        "x = '\0'",
        "",
    ],
)
def test_unordered_values_whose_order_cannot_matter_are_not_reported(source: str) -> None:
    assert texts(source) == []


def test_attributes_are_sets_if_all_assignments_in_the_class_agree() -> None:
    source = """
    class Words:
        kept: set[str]
        def __init__(self, a):
            self.names = None
            self.names = set(a)
            self.mixed = set(a)
            self.mixed = sorted(self.mixed)
        def use(self):
            return list(self.names), list(self.mixed), list(self.kept), list(other.names)
    """
    assert texts(source) == ["self.names", "self.kept"]


def test_values_that_feed_the_line_come_first_nearest_first() -> None:
    source = dedent("""
    def encoded(words):
        table = {w: i for i, w in enumerate(words)}
        return table

    other = list(set(b))
    table = encoded(set(a))
    near = [x for x in set(c)]
    x = torch.tensor([table[w] for w in near])
    last = list(set(d))
    """).strip()
    spots = unordered(source, line_of(source, "torch.tensor"))
    assert [(spot.text, spot.feeds) for spot in spots] == [("set(c)", True), ("words", True), ("set(b)", False), ("set(d)", False)]


def test_data_flow_is_followed_through_methods_appends_and_enclosing_loops() -> None:
    source = dedent("""
    class Data:
        def __init__(self, names):
            self.rows = []
            for name in set(names):
                self.rows.append(name)
        def __getitem__(self, index):
            return self.rows[index]

    data = Data(f())
    x = data[0]
    """).strip()
    line = line_of(source, "x = data[0]")
    assert [(spot.text, spot.feeds) for spot in unordered(source, line)] == [("set(names)", True)]
    inside = line_of(source, "return self.rows")
    assert [(spot.text, spot.feeds) for spot in unordered(source, inside)] == [("set(names)", True)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os\nx = os.listdir(p)", ["os.listdir"]),
        ("import os as o\nx = o.scandir(p)", ["os.scandir"]),
        ("from os import walk as w\nfor a, b, c in w(p): pass", ["os.walk"]),
        ("import glob\nfor x in glob.iglob(p): pass", ["glob.iglob"]),
        ("from glob import glob\nx = [f(y) for y in glob(p)]", ["glob.glob"]),
        ("x = list(Path(p).rglob('*'))", [".rglob"]),
        ("listed = os.listdir\nx = listed(p)\nimport os", ["os.listdir"]),
        ("import os\nx = sorted(os.listdir(p))", []),
        ("import os\nx = sorted(f(y) for y in os.listdir(p) if y)", []),
        ("import os\nx = os.listdir(p)\nx.sort()", []),
        ("import os\nx = os.listdir(p)\nfor y in sorted(x): pass", []),
        ("import os\nx = os.listdir(p)\nfor y in x: pass", ["os.listdir"]),
        ("import os\nx = 'a' in os.listdir(p)", []),
        ("import os\nx = len(os.listdir(p))", []),
        ("x = max(p.glob('*'), key=age)", []),
        ("import os\nfor a, folders, files in os.walk(p):\n    folders.sort()\n    for f in sorted(files): pass", []),
        ("import os\nfor a, folders, files in os.walk(p):\n    folders.sort()\n    for f in files: pass", ["os.walk"]),
        ("os = f()\nx = os.listdir(p)", []),
        ("def glob(p): ...\nx = glob(p)", []),
    ],
)
def test_listings_are_found_under_any_alias_unless_they_are_sorted(source: str, expected: list[str]) -> None:
    assert [spot.what for spot in listings(source, 2)] == expected


@pytest.mark.parametrize(
    ("source", "names", "expected"),
    [
        ("import torch.utils.data as d\nd.DataLoader(x)", {"torch.utils.data.DataLoader"}, ["d.DataLoader(x)"]),
        ("from numpy.random import default_rng as rng\nrng()", {"numpy.random.default_rng"}, ["rng()"]),
        ("from numpy import random\nrandom.rand()", {"numpy.random.rand"}, ["random.rand()"]),
        ("import torch.nn\ntorch.manual_seed(1)", {"torch.manual_seed"}, ["torch.manual_seed(1)"]),
        ("try:\n    import a as x\nexcept ImportError:\n    import a as x\nx.f()", {"a.f"}, ["x.f()"]),
        ("def f():\n    import numpy as np\n    np.rand()\nnp.rand()", {"numpy.rand"}, ["np.rand()"]),
        ("import torch\ntorch = f()\ntorch.manual_seed(1)", {"torch.manual_seed"}, []),
        ("import torch\ndef f(torch):\n    torch.manual_seed(1)", {"torch.manual_seed"}, []),
        ("from .torch import manual_seed\nmanual_seed(1)", {"torch.manual_seed"}, []),
        ("pool.imap_unordered(f, x)", {".imap_unordered"}, ["pool.imap_unordered(f, x)"]),
    ],
)
def test_calls_are_named_by_their_imports(source: str, names: set[str], expected: list[str]) -> None:
    assert [spot.text for spot in calls(source, names, 1)] == expected


def test_columns_count_characters_whatever_precedes_them() -> None:
    source = '\ufeff"é😀"; x = [y for y in set(a)]\r\n\x0c"é\u2028"; list(set(\r\n\t"ü"))\r\n'
    assert [(spot.line, spot.end_line, spot.text) for spot in unordered(source, 1)] == [(1, 1, "set(a)"), (2, 3, 'set(\r\n\t"ü")')]
    first, second = unordered(source, 1)
    lines = source.split("\r\n")
    assert lines[0][first.col : first.end_col] == "set(a)"
    assert lines[1][second.col :] == "set("
    assert lines[2][: second.end_col] == '\t"ü")'


@given(st.text(), st.integers(-2, 9))
def test_no_text_makes_the_parser_fail(source: str, line: int) -> None:
    for spot in [*unordered(source, line), *listings(source, line), *calls(source, {"f"}, line)]:
        assert spot.text in source
