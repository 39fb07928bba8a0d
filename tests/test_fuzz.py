"""What is kept is data: damaged runs, rules, configuration and audits end in a result or in a sentence, see `tests/fuzz.py`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import auditor
from auditor.trace import EVENTS
from auditor.trace.facts import EVENT_KINDS, LINES, is_known
from tests.fuzz import run_cases

HOUSE = Path(auditor.__file__).parent
#: How many cases one test runs; `make fuzz` runs ten thousand.
_CASES = 50


@pytest.mark.parametrize("part", range(4))
def test_damaged_files_end_in_a_result_or_a_sentence(part: int) -> None:
    found = run_cases(range(part * _CASES, (part + 1) * _CASES))
    assert not found, "\n".join(found)


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _told() -> list[tuple[str, str, str]]:
    """Place, kind and key of what the recorder writes of an event, as far as it stands in one call."""
    found = []
    for file in sorted([*HOUSE.glob("record/**/*.py"), *HOUSE.glob("factors/*.py")]):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "event" and node.args:
                kind = _text(node.args[0])
                keys = [keyword.arg or "" for keyword in node.keywords]
            elif isinstance(node, ast.Dict):
                values = {_text(key): value for key, value in zip(node.keys, node.values, strict=True)}
                kind, keys = _text(values.pop("k", None)), list(values)
            else:
                continue
            if kind and kind not in (*LINES, "end"):
                found += [(f"{file.name}:{node.lineno}", kind, key) for key in keys if key]
    return found


def test_whatever_the_recorder_writes_of_an_event_is_held_against_a_type_when_it_is_read() -> None:
    told = _told()
    assert len(told) > 40
    assert not [entry for entry in told if not is_known(*entry[1:])]
    assert set(EVENTS) - {"end"} <= EVENT_KINDS
