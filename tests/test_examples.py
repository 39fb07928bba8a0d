"""Every example states its verdict, kind, cause and lines in its header and marks; the audit must agree with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from auditor import pipeline
from auditor.report.words.reasons import sentence_of, text_of
from auditor.results import Audit
from tests.processes import audited
from tests.test_factors import FACTORS
from tests.test_fixes import CAUSES

EXAMPLES = Path(__file__).parent.parent / "examples"
_HEADER = re.compile(r"^# repro-audit:\n((?:#   .*\n)+)", re.MULTILINE)
_KEYS = {"verdict", "kind", "op", "cause", "finds", "later", "args", "reason"}
#: Correct scripts that use many factors: varying them may change nothing beyond rounding.
_VARIED = {"steady_training", "steady_workers"}
#: Examples whose cause is already searched for to the end in another test with the same script (a search takes six to ten runs). Here only
#: whether they diverge, how, where and with which findings.
_SEARCHED_AS = {
    "batch_order": "faults/label_ids",
    "clock_seed": "leaks/clock",
    "dropout_generator": "leaks/python_seed",
    "fizbuz_torch": "leaks/numpy_seed",
    "leftover_checkpoint": "faults/resumed",
    "lstm_late_seed": "faults/late_seed",
    "lstm_numpy_input": "leaks/numpy_seed",
    "lstm_unseeded": "leaks/torch_seed",
    "uninitialized_mask": "leaks/uninitialized_memory",
    "worker_augmentation": "faults/numpy_workers",
}


def expectations(script: Path) -> list[dict[str, Any]]:
    """What the header of an example states."""
    header = _HEADER.search(script.read_text())
    assert header is not None, f"{script.name} does not state what is expected"
    stated: list[dict[str, Any]] = yaml.safe_load("".join(line[2:] for line in header.group(1).splitlines(keepends=True)))
    return stated


def marked_lines(script: Path, args: list[str], mark: str = "diverges") -> set[int]:
    """Lines with the mark `# <- diverges`, or `# <- diverges (--args)` for these arguments; other marks likewise."""
    marks = [f"# <- {mark} ({' '.join(args)})"] if args else []
    marks.append(f"# <- {mark}")
    lines = script.read_text().splitlines()
    return {n for n, line in enumerate(lines, 1) if line.rstrip().endswith(tuple(marks))}


CASES = [
    pytest.param(script, stated, id="-".join([script.stem, *stated.get("args", [])]))
    for script in sorted(EXAMPLES.glob("*.py"))
    for stated in expectations(script)
]


@pytest.mark.torch
@pytest.mark.parametrize(("script", "stated"), CASES)
def test_an_example_gets_the_verdict_of_its_header(script: Path, stated: dict[str, Any], tmp_path: Path) -> None:
    args = stated.get("args", [])
    cwd = tmp_path / "cwd"
    cwd.mkdir()

    less = ["--effort", "compare"] if stated["verdict"] != "diverged" and script.stem not in _VARIED else []
    if stated["verdict"] == "diverged" and script.stem in _SEARCHED_AS:
        less = ["--effort", "compare"]

    done = audited(cwd, *less, "--json", str(tmp_path / "audit.json"), "-o", str(tmp_path / "runs"), str(script), *args)

    assert set(stated) <= _KEYS
    audit = Audit.model_validate_json((tmp_path / "audit.json").read_text())
    errors = any(finding.level == "error" for finding in audit.findings)
    assert (audit.verdict, done.status) == (
        stated["verdict"],
        {"diverged": 1, "no-divergence-seen": int(errors), "inconclusive": 1 if errors else 2}[stated["verdict"]],
    ), done.said
    loud, quiet = ({finding.rule for finding in audit.findings if (finding.level == "note") is note} for note in (False, True))
    named = set(stated.get("finds", []))
    assert loud <= named <= loud | quiet, [finding.message for finding in audit.findings]
    assert not set(stated.get("later", [])) & set(pipeline.all_rules()), "a rule exists for it now"
    if "reason" in stated:
        assert f"[{stated['reason']}]" in text_of(audit.reason)
    if script.stem in _VARIED:
        assert audit.search is not None
        assert {"hash-seed", "uninitialized-memory", "file-order", "threads"} <= set(audit.search.varied)
        assert "worker-timing" in audit.search.varied or script.stem != "steady_workers"
        assert [sentence_of(cause.reasons) for cause in audit.causes if cause.grade == "logical"] == []
        assert "control-3" not in {run.id for run in audit.runs}, "a numerical difference does not change the verdict of the controls"
    if stated["verdict"] != "diverged":
        assert audit.divergence is None
        return
    found = audit.divergence
    assert found is not None
    if "kind" in stated:
        assert (found.kind, found.line) == (stated["kind"], *marked_lines(script, args)), sentence_of(found.reasons)
    else:
        assert found.line in marked_lines(script, args)
    if "op" in stated:
        assert re.fullmatch(stated["op"].replace(".", r"\.").replace("*", ".*"), found.op)
    if script.stem not in _SEARCHED_AS:
        _hold_the_causes(audit, script, stated, cwd)


def _hold_the_causes(audit: Audit, script: Path, stated: dict[str, Any], cwd: Path) -> None:
    """The stated cause is the only one, is proved by runs of the audit and points at its line; without a stated cause there is none."""
    args = stated.get("args", [])
    named = [stated["cause"]] if "cause" in stated else []
    assert audit.search is not None
    assert [cause.factor for cause in audit.causes if cause.proved] == named, sentence_of(audit.search.possible)
    assert [cause.factor for cause in audit.causes if not cause.proved] == []
    assert audit.search.beyond is not bool(named)
    for cause in audit.causes:
        assert (cwd / (cause.file or "")).resolve() == script
        assert cause.line in (marked_lines(script, args, "enters") or marked_lines(script, args)), (cause.line, cause.reasons)
        assert len(cause.proof) >= 6, "two that differ, two that agree with it pinned, two that differ with only it free"
        assert set(cause.proof) <= {run.id for run in audit.runs}


def test_every_example_has_at_most_one_marked_line_per_command_line() -> None:
    wanted = {
        (script.name, tuple(stated.get("args", []))): stated["verdict"] == "diverged"
        for script in EXAMPLES.glob("*.py")
        for stated in expectations(script)
    }

    found = {key: bool(marked_lines(EXAMPLES / key[0], list(key[1]))) for key in wanted}

    assert {key for key, diverges in wanted.items() if diverges} <= {key for key, marked in found.items() if marked}


def test_the_cause_of_an_example_is_that_of_the_script_it_refers_to() -> None:
    stated = {script.stem: {entry.get("cause") for entry in expectations(script)} - {None} for script in EXAMPLES.glob("*.py")}
    found = {f"faults/{name}": cause for name, cause in CAUSES.items()} | {f"leaks/{name.replace('-', '_')}": name for name in FACTORS}

    assert {name: stated[name] for name in _SEARCHED_AS} == {name: {found[script]} for name, script in _SEARCHED_AS.items()}
    assert all((Path(__file__).parent / f"{script}.py").exists() for script in _SEARCHED_AS.values())
