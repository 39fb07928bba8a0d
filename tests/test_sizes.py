"""Large files and functions: CONTRIBUTING lists each with its reason, and lists nothing else."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECTION = "## Files over 300 lines and functions over 60"
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 300, 60
_ROW = re.compile(r"\| `([^`]+)` \|\s*(.*?)\s*\|")


def listed(page: str) -> list[tuple[str, str]]:
    """The entries of the section and their reasons, in its order."""
    section = page.partition(f"{SECTION}\n")[2].partition("\n## ")[0]
    return [(row[1], row[2]) for row in map(_ROW.fullmatch, section.splitlines()) if row is not None]


def large_functions(source: str) -> Iterator[str]:
    """Qualified names of the functions over the limit. A function inside another one counts as part of it."""

    def walk(node: ast.AST, within: tuple[str, ...]) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                if (child.end_lineno or first) - first + 1 > LINES_OF_A_FUNCTION:
                    yield ".".join([*within, child.name])
            else:
                yield from walk(child, (*within, child.name) if isinstance(child, ast.ClassDef) else within)

    yield from walk(ast.parse(source), ())


def large(root: Path) -> set[str]:
    """Every large file and function of the package, as the list names it."""
    found = set()
    for path in sorted(root.joinpath("auditor").rglob("*.py")):
        name, source = path.relative_to(root).as_posix(), path.read_text("utf-8")
        if len(source.splitlines()) > LINES_OF_A_FILE:
            found.add(name)
        found.update(f"{name}: {function}" for function in large_functions(source))
    return found


def test_exactly_the_large_files_and_functions_are_listed_with_reasons() -> None:
    entries = listed((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    names = [name for name, _ in entries]
    found = large(ROOT)
    assert sorted(found - set(names)) == [], f"too large: split these, or list each in CONTRIBUTING under {SECTION!r} with a reason"
    assert sorted(set(names) - found) == [], "no longer large: remove these from the list in CONTRIBUTING"
    assert [name for name, count in Counter(names).items() if count > 1] == [], "listed twice"
    assert [name for name, reason in entries if not reason] == [], "listed without a reason"


@pytest.mark.parametrize(
    ("lines", "form", "found"),
    [
        (59, "def f():\n{}", []),
        (60, "def f():\n{}", ["f"]),
        (59, "@decorated\ndef f():\n{}", ["f"]),
        (60, "class A:\n def f(self):\n{}", ["A.f"]),
        (60, "def f():\n  def g():\n{}", ["f"]),
        (60, "if 1:\n async def f():\n{}", ["f"]),
    ],
)
def test_a_function_is_measured_with_its_decorators_and_inner_functions(lines: int, form: str, found: list[str]) -> None:
    assert list(large_functions(form.format("\n".join(["   pass"] * lines)))) == found


def test_the_list_is_read_up_to_the_next_section() -> None:
    table = "| file | reason |\n|---|---|\n| `a.py` | why |\n| `b.py: f` |  |"
    page = f"| `before` | no |\n{SECTION}\n\ntext\n\n{table}\n\n## Next\n| `c.py` | no |\n"
    assert listed(page) == [("a.py", "why"), ("b.py: f", "")]
