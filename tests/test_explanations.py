"""Which finding explains a divergence and becomes the headline; unrelated findings never do."""

from __future__ import annotations

import io
from typing import Any

import pytest

from auditor.judge import Rule
from auditor.pipeline.explanations import attach_explanations, explanation
from auditor.report import markdown, terminal
from auditor.results import Audit, Cause, Detail, Divergence, Finding, OpLine, Search
from auditor.source import Flow

_TEXT = "import torch\nrate = shared.uniform()\nother = 1\nx = torch.ones(1) * rate\n"


def rule(**explains: Any) -> Rule:
    """A rule with this declaration."""
    return Rule.model_validate(
        {
            "id": "raced-writes", "title": "t", "why": "w", "level": "warning", "detector": "d", "message": "m", "instead": "one thread",
            "false-positives": "f", "references": ["https://example.org"], "tags": ["t"], "explains": explains or None,
        }
    )  # fmt: skip


def audit(line: int = 4, lane: str = "main", causes: list[Cause] | None = None, finding_line: int = 4, **evidence: Any) -> Audit:
    """Two runs that differ at a line, and a finding."""
    detail = Detail(row=7, seen_at=OpLine(index=9, op="aten.add.Tensor", file="train.py", line=9))
    divergence = Divergence(
        runs=["control-1", "control-2"], kind="kernel", lane=lane, index=3, step=0, phase="forward", op="aten.mul.Tensor", file="train.py",
        line=line, detail=detail,
    )  # fmt: skip
    finding = Finding(
        rule="raced-writes", level="warning", file="train.py", line=finding_line, message="two threads write it", evidence=evidence
    )
    return Audit(
        verdict="diverged", script=["train.py"], runs=[], divergence=divergence, causes=causes or [], findings=[finding], search=Search()
    )  # fmt: skip


CAUSE = Cause(factor="torch-seed", proved=True, kind="kernel")


@pytest.mark.parametrize(
    ("explains", "seen", "expected"),
    [
        ({"relation": "line"}, audit(), True),
        ({"relation": "line"}, audit(finding_line=9), True),  # where it shows
        ({"relation": "line"}, audit(finding_line=2), False),
        ({"relation": "feeds"}, audit(finding_line=2), True),
        ({"relation": "feeds"}, audit(finding_line=3), False),
        ({"relation": "lanes"}, audit(lane="process 1", lanes=["process 0", "process 1"]), True),
        ({"relation": "lanes"}, audit(lane="main", finding_line=3, lanes=["process 0", "process 1"]), False),
        ({"relation": "lanes"}, audit(), True),  # same place
        ({"relation": "lanes"}, audit(finding_line=3), False),
        ({"relation": "lanes"}, audit(finding_line=2, lanes=["process 0", "process 1"]), True),  # what they wrote is read there
        ({"relation": "rows"}, audit(rows=[5, 7]), True),
        ({"relation": "rows"}, audit(rows=[5, 8]), False),
        ({"relation": "line", "kinds": ["draw"]}, audit(), False),
        ({"relation": "line"}, audit(causes=[CAUSE]), False),  # a proved cause takes precedence
        ({"relation": "line", "symptom": True}, audit(causes=[CAUSE]), True),
        ({}, audit(), False),
    ],
    ids=str,
)
def test_a_finding_explains_only_the_divergence_that_it_is_about(explains: Any, seen: Audit, expected: bool) -> None:
    declared = {"kinds": ["kernel"]} | explains if explains else {}
    found = explanation(seen, [rule(**declared)], Flow(lambda _file: _TEXT))
    assert (found is not None) == expected
    if found is not None:
        assert (found.rule, found.relation, found.instead) == ("raced-writes", explains["relation"], None)


def test_runs_that_agree_have_no_explanation() -> None:
    seen = audit().model_copy(update={"verdict": "no-divergence-seen"})
    assert explanation(seen, [rule(kinds=["kernel"], relation="line")], None) is None


def test_the_explaining_finding_comes_first_and_replaces_the_missing_cause() -> None:
    seen = audit()
    seen.search = Search(beyond=True, possible="what is left is a race")
    before = io.StringIO()
    terminal.render(seen, before)
    assert "no cause was found" in " ".join(before.getvalue().split())
    seen.explained_by = explanation(seen, [rule(kinds=["kernel"], relation="line")], None)
    for render in (terminal.render, markdown.render):
        out = io.StringIO()
        render(seen, out)
        said = " ".join(out.getvalue().split())
        assert "because of raced-writes (train.py:4)" in said
        assert "no cause" not in said
        assert "what is left is a race" not in said
        assert said.index("two threads write it") < said.index("first divergent op")
    assert Audit.model_validate_json(seen.model_dump_json()).explained_by == seen.explained_by


@pytest.mark.parametrize("about", [True, False])
def test_a_symptom_names_its_fault_even_if_another_cause_comes_first(about: bool) -> None:
    draw = Cause(factor="torch-seed", proved=True, kind="draw", fix="a seed", file="train.py", line=3)
    other = Cause(factor="leftover-files", proved=True, kind="structure", file="train.py", line=1)
    seen = audit(causes=[other, draw], finding_line=2, lines=["train.py:3" if about else "train.py:1"])
    attach_explanations(seen, [rule(kinds=["draw"], relation="rows", symptom=True)], None)
    assert seen.explained_by is None
    assert [cause.symptom_of is not None for cause in seen.causes] == [False, about]
    for render in (terminal.render, markdown.render):
        out = io.StringIO()
        render(seen, out)
        said = " ".join(out.getvalue().split())
        assert ("because of leftover-files and raced-writes" in said) == about
        assert ("only makes the fault repeat" in said) == about
