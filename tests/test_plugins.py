"""Plugin sets: packages in which every file is one member."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from auditor.errors import AuditError
from auditor.plugins import members, reports

KIND = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Sort:
    name: str
"""


def sort_set(folder: Path, package: str, monkeypatch: pytest.MonkeyPatch, **files: str) -> dict[str, object]:
    """The members of a set with these files, each with `Sort` imported."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(KIND)
    for name, content in files.items():
        (folder / package / f"{name}.py").write_text(f"from {package} import Sort\n{content}\n")
    monkeypatch.syspath_prepend(folder)
    try:
        module = __import__(package)
        found: dict[str, object] = members(module.Sort)
        return found
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]


def test_members_are_found_by_the_name_of_their_constant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sort_set(tmp_path, "set_found", monkeypatch, quick="A = Sort('quick-sort')", merge="B = Sort('merge-sort')")
    assert list(found) == ["merge-sort", "quick-sort"]


def test_a_file_without_a_member_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AuditError) as caught:
        sort_set(tmp_path, "set_empty", monkeypatch, quick="A = Sort('quick')", notes="")
    assert caught.value.slug == "plugin-empty"
    assert "set_empty.notes" in str(caught.value)


def test_a_file_with_two_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AuditError) as caught:
        sort_set(tmp_path, "set_crowded", monkeypatch, quick="A = Sort('quick'); B = Sort('other')")
    assert caught.value.slug == "plugin-crowded"


def test_two_members_with_the_same_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AuditError) as caught:
        sort_set(tmp_path, "set_twice", monkeypatch, a="A = Sort('quick')", b="B = Sort('quick')")
    assert caught.value.slug == "plugin-duplicate"
    assert "set_twice.a" in str(caught.value)
    assert "set_twice.b" in str(caught.value)


def test_a_set_may_be_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sort_set(tmp_path, "set_of_none", monkeypatch) == {}


def test_the_shipped_reports_are_found() -> None:
    assert {"json", "markdown", "terminal"} <= set(reports())
