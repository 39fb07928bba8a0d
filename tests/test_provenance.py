"""What an audit says of where it comes from: the commit of the script and whether it was changed, and that asking never fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from auditor import pipeline
from auditor.pipeline.provenance import attach_rules, provenance_of, revision_of
from auditor.plan import Plan
from auditor.results import Audit, Cause, Explanation, Finding, Revision
from auditor.trace.reader import Trace
from tests.builder import TraceBuilder

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def work_tree(tmp_path: Path) -> Path:
    """A work tree with one commit, in which a script and a folder of it are."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("import torch\n")
    (tmp_path / "data.txt").write_text("1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


@needs_git
def test_the_commit_of_the_script_is_found_from_any_working_directory(work_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    commit = Revision(commit=git(work_tree, "rev-parse", "HEAD"), dirty=False)
    elsewhere = str(tmp_path_factory.mktemp("elsewhere"))
    assert revision_of(Plan(("src/train.py", "--lr", "1"), cwd=str(work_tree))) == commit
    assert revision_of(Plan((str(work_tree / "src" / "train.py"),), cwd=elsewhere)) == commit
    assert revision_of(Plan(("-m", "src.train"), cwd=str(work_tree))) == commit
    assert revision_of(Plan(("src",), cwd=str(work_tree))) == commit
    (work_tree / "notes.txt").write_text("of no script\n")
    assert revision_of(Plan(("src/train.py",), cwd=str(work_tree))) == commit


@needs_git
def test_a_work_tree_with_changes_is_dirty(work_tree: Path) -> None:
    plan = Plan(("src/train.py",), cwd=str(work_tree))
    (work_tree / "data.txt").write_text("2\n")
    changed = revision_of(plan)
    assert changed is not None
    assert changed.dirty is True
    git(work_tree, "checkout", "-q", "--", ".")
    (work_tree / "new.py").write_text("import torch\n")
    for ignored in ("", "new.py\n"):
        (work_tree / ".git" / "info" / "exclude").write_text(ignored)
        new = revision_of(Plan(("new.py",), cwd=str(work_tree)))
        assert new is not None
        assert new.dirty is True


@needs_git
def test_asking_git_changes_nothing_and_starts_no_monitor_of_the_repository(work_tree: Path) -> None:
    program = work_tree / ".git" / "spy"
    program.write_text(f"#!/bin/sh\ntouch {work_tree}/spied\n")
    program.chmod(0o755)
    git(work_tree, "config", "core.fsmonitor", str(program))
    os.utime(work_tree / "data.txt")  # git would write its index anew
    before = (work_tree / ".git" / "index").stat().st_mtime_ns
    assert revision_of(Plan(("src/train.py",), cwd=str(work_tree))) is not None
    assert not (work_tree / "spied").exists()
    assert (work_tree / ".git" / "index").stat().st_mtime_ns == before


@pytest.mark.parametrize("git_is", ["#!/bin/sh\nexit 128\n", "#!/bin/sh\nsleep 60\n", None])
def test_without_an_answer_from_git_nothing_is_reported(git_is: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    if git_is is not None:
        (tmp_path / "bin" / "git").write_text(git_is)
        (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin" if git_is else str(tmp_path / "bin"))
    (tmp_path / "train.py").touch()
    started = time.monotonic()
    assert revision_of(Plan(("train.py",), cwd=str(tmp_path))) is None
    assert time.monotonic() - started < 8


@needs_git
def test_a_missing_folder_or_one_outside_git_has_no_revision(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    assert revision_of(Plan(("train.py",), cwd=str(tmp_path))) is None
    assert revision_of(Plan(("train.py",), cwd=str(tmp_path / "gone"))) is None
    git(tmp_path, "init", "-q")
    assert revision_of(Plan(("train.py",), cwd=str(tmp_path))) is None, "without a commit"


def run_with(folder: Path, **meta: object) -> Trace:
    run = TraceBuilder(folder)
    run.lane()
    trace = run.sealed()
    trace.meta.update(meta)
    return trace


def test_a_run_records_date_and_versions_but_not_the_host(tmp_path: Path) -> None:
    machine = {"host": "secret", "system": "Linux 6", "processor": "x", "cores": 2}
    found = provenance_of(run_with(tmp_path, started=0.0, machine=machine, versions={"torch": "2.13"}, environment={"TZ": "UTC"}), None)
    assert found.model_dump() == {
        "date": "1970-01-01T00:00:00+00:00", "revision": None, "versions": {"torch": "2.13"},
        "machine": {"system": "Linux 6", "processor": "x", "cores": 2}, "environment": {"TZ": "UTC"},
    }  # fmt: skip


def test_missing_facts_of_a_run_are_not_shown(tmp_path: Path) -> None:
    found = provenance_of(run_with(tmp_path, started=None, machine=None, versions=None, environment=None), None)
    assert (found.date, found.versions, found.machine) == (None, {}, {})


def test_only_rules_with_findings_are_described_in_the_audit() -> None:
    audit = Audit(verdict="diverged", script=["train.py"], runs=[])
    audit.findings = [
        Finding(rule="stale-gradient", level="error", message="m"),
        Finding(rule="another", level="note", message="m"),
    ]
    why = Explanation(rule="entropy-seed", relation="line", message="m")
    audit.causes = [Cause(factor="torch-seed", proved=True, kind="draw", message="m", symptom_of=why)]
    rules = {name: file.rule for name, file in pipeline.all_rules().items()}
    attach_rules(audit, list(rules.values()))
    rule = rules["stale-gradient"]
    assert set(audit.rules) == {"entropy-seed", "stale-gradient"}
    assert audit.rules["stale-gradient"].model_dump() == {
        "title": rule.title, "why": rule.why, "instead": rule.instead, "references": rule.references,
    }  # fmt: skip
