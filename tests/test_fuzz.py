"""Stored files are only data: damaged runs, rules, configuration and audits give a result or an error, see `tests/fuzz.py`."""

from __future__ import annotations

import ast
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

import auditor
from auditor import pipeline
from auditor.errors import AuditError
from auditor.listing import print_listing
from auditor.report import terminal
from auditor.trace.facts import LINES
from auditor.trace.schema import is_known
from tests.fuzz import make_originals, run_cases

PACKAGE = Path(auditor.__file__).parent
#: Number of cases in one test; `make fuzz` runs ten thousand.
_CASES = 50


@pytest.mark.parametrize("part", range(4))
def test_damaged_files_give_a_result_or_an_error_message(part: int) -> None:
    found = run_cases(range(part * _CASES, (part + 1) * _CASES))
    assert not found, "\n".join(found)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    make_originals(folder)
    return folder


def _everything_is_read(run: Path, other: Path) -> list[str]:
    """Read a run in every way; returns what was neither a result nor an error message."""
    readers: list[Callable[[], object]] = [
        lambda: print_listing(pipeline.events(run), io.StringIO()),
        lambda: terminal.render(pipeline.diff(run, other), io.StringIO()),
        lambda: terminal.render(pipeline.diff(other, run), io.StringIO()),
    ]
    wrong = []
    for reader in readers:
        try:
            reader()
        except AuditError:
            continue
        except Exception as error:  # must not happen
            wrong.append(f"{type(error).__name__}: {error}")
    return wrong


@pytest.mark.parametrize("column", ["args", "digests", "inputs", "module", "numbers", "op", "out"])
@pytest.mark.parametrize(
    "said", ["1.5", "w", "[]", "[1]", "[[1, 2, 3, 4]]", '[["float32", [2], [1, 1], "cpu"]]', "{", "9" * 400, "-1 -1", "[" * 5000]
)
def test_a_column_of_a_kept_run_may_contain_any_text(column: str, said: str, originals: Path, tmp_path: Path) -> None:
    run = shutil.copytree(originals / "sealed", tmp_path / "run")
    records = run / "lanes" / "000.parquet"
    duckdb.execute(
        f"COPY (SELECT * REPLACE (CASE WHEN {column} IS NULL THEN NULL ELSE ? END AS {column}) FROM read_parquet(?)) TO '{tmp_path}/other'"
        " (FORMAT parquet)",
        [said, str(records)],
    )
    (tmp_path / "other").replace(records)
    assert not _everything_is_read(run, originals / "other")


def test_a_lane_of_a_kept_run_may_lack_any_fact(originals: Path, tmp_path: Path) -> None:
    facts = json.loads((originals / "sealed" / "lanes" / "000.json").read_text())
    assert len(facts) > 12
    for key in facts:
        run = shutil.copytree(originals / "sealed", tmp_path / key)
        (run / "lanes" / "000.json").write_text(json.dumps({name: value for name, value in facts.items() if name != key}))
        assert not _everything_is_read(run, originals / "other"), key


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _events_written() -> list[tuple[str, str, str]]:
    """Place, kind and keys of the events that the recorder writes, as far as one call shows them."""
    found = []
    for file in sorted([*PACKAGE.glob("record/**/*.py"), *PACKAGE.glob("factors/*.py")]):
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


def test_every_event_field_of_the_recorder_is_type_checked_when_read() -> None:
    told = _events_written()
    assert len(told) > 40
    assert not [entry for entry in told if not is_known(*entry[1:])]
