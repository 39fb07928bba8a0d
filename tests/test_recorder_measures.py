"""Measurements beside the ops: their numerical effects, graph cuts, and the contents of optimizers."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from auditor import pipeline
from auditor.launch import launch
from auditor.plan import AuditOptions, Plan
from auditor.trace.reader import Trace, opened
from auditor.trace.tables import Tables
from tests.processes import line_of, record_of, write

pytestmark = pytest.mark.torch


def asked(trace: Trace, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query on a run."""
    with Tables(trace) as tables:
        return [tuple(row.values()) for row in tables.query(sql)]


def measured(trace: Trace, source: str) -> dict[str, tuple[Any, ...]]:
    """Measurements of the marked lines: changed, largest, overflowed, vanished, of."""
    rows = asked(
        trace,
        'SELECT r.line, m.what, m.changed, m.largest, m.overflowed, m.vanished, m."of" '
        'FROM measured m JOIN records r USING (lane, "row") ORDER BY m."row"',
    )
    lines = textwrap.dedent(source).lstrip("\n").splitlines()
    return {lines[line - 1].rpartition("# ")[2]: tuple(found) for line, *found in rows if "# " in lines[line - 1]}


def test_casts_that_round_wrap_or_lose_numbers_are_measured(tmp_path: Path) -> None:
    source = """
        import numpy as np
        import torch

        wide = torch.from_numpy(np.array([0.1, 0.5, 0.0, 3.0]))
        wide.float()  # rounds
        torch.from_numpy(np.array([1.0, 2.0, 4.0])).float()  # exact
        torch.tensor([1.0, 70000.0, 1e-9]).half()  # too far
        torch.tensor([3, 300, -1]).to(torch.uint8)  # wraps
        torch.tensor([16777216, 16777217]).float()  # identifiers
        torch.tensor([1.7]).int()  # meant
        torch.tensor([1.5]).double()  # widens
        torch.empty(2, 4).copy_(wide)  # copies
        torch.tensor([float("inf"), float("nan"), 1.0], dtype=torch.float64).float()  # odd
        torch.zeros(0, dtype=torch.float64).float()  # none
        """
    found = measured(record_of(tmp_path, "cast", source), source)
    assert found["rounds"][:2] == ("cast", 1)
    assert 0 < found["rounds"][2] < 2**-24
    assert found["exact"] == ("cast", 0, None, None, None, None)
    assert found["too far"][0:2] == ("cast", 2)
    assert found["too far"][3:5] == (1, 1)
    assert found["wraps"] == ("cast", 2, None, None, None, None)
    assert found["identifiers"][1] == 1
    assert found["copies"][1] == 2
    assert found["odd"][1] == 0
    assert not {"meant", "widens", "none"} & set(found)


def test_arithmetic_reductions_and_writes_are_measured_where_they_went_wrong(tmp_path: Path) -> None:
    source = """
        import torch

        torch.manual_seed(0)
        image = torch.tensor([10, 200], dtype=torch.uint8)
        image - 100  # below zero
        image + 5  # small
        image.int() * 3  # wider
        image.sub_(100)  # in place
        image.add_(100)  # and back
        image.add_(1)  # in place and small
        image.mul_(2)  # not taken back
        values = torch.rand(3000).half()
        values.sum()  # half sum
        values.float().sum()  # whole sum
        values.cumsum(0)  # running sum
        torch.full((3000,), 60.0).half().sum()  # beyond half
        table = torch.zeros(4)
        table[torch.tensor([0, 0, 1])] = torch.tensor([1.0, 2.0, 3.0])  # twice
        table[torch.tensor([0, 2, 1])] = torch.tensor([1.0, 2.0, 3.0])  # once
        table[torch.tensor([0, 0])] = 7.0  # equal
        table[torch.tensor([True, False, True, False])] = torch.tensor([1.0, 2.0])  # mask
        torch.zeros(2, 3).scatter_(1, torch.tensor([[0, 0], [1, 2]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))  # scatters twice
        torch.zeros(2, 3).scatter_(1, torch.tensor([[0, 2], [1, 2]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))  # scatters once
        torch.zeros(3, 2).index_copy_(0, torch.tensor([1, 1]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))  # copies rows
        grid = torch.zeros(2, 2)
        grid[torch.tensor([0, 0]), torch.tensor([1, 1])] = torch.tensor([1.0, 2.0])  # two indices
        grid[:, torch.tensor([1, 1])] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])  # behind a slice
        grid.index_put_((torch.tensor([0, 0]),), torch.ones(2, 2), accumulate=True)  # accumulates
        """
    found = measured(record_of(tmp_path, "wrong", source), source)
    assert found["below zero"][:2] == ("overflow", 1)
    assert found["in place"][:2] == ("overflow", 1)
    assert found["and back"][:2] == ("overflow", 1)
    assert found["running sum"][0] == "reduction"
    assert found["running sum"][5] == 3000
    assert found["half sum"][0] == "reduction"
    assert found["half sum"][2] < 2**-10
    assert found["half sum"][5] == 3000
    assert found["beyond half"][3] == 1
    for twice in ("twice", "scatters twice", "copies rows", "two indices"):
        assert found[twice][0] == "order", twice
        assert found[twice][1] > 0, twice
    silent = {
        "small",
        "in place and small",
        "not taken back",
        "wider",
        "whole sum",
        "once",
        "equal",
        "mask",
        "scatters once",
        "accumulates",
    }
    assert not silent & set(found)


def test_a_line_is_measured_less_and_less_often(tmp_path: Path) -> None:
    source = """
        import torch

        for k in range(100):
            torch.tensor([0.1 + k], dtype=torch.float64).float()  # cast
        """
    trace = record_of(tmp_path, "rarely", source)
    assert asked(trace, "SELECT count(*) FROM measured") == [(8 + 3,)]  # the first eight, the 16th, 32nd and 64th


def test_graph_cuts_are_recorded(tmp_path: Path) -> None:
    source = """
        import torch
        from torch import nn

        torch.manual_seed(0)
        x = torch.ones(3)
        w = torch.ones(3, requires_grad=True)
        y = w * x  # kept
        with torch.no_grad():
            z = y * 2  # no grad
            x * 2  # nothing to cut
        y.detach()  # detached
        w.data  # no op
        y.sum().item()  # number
        (y > 1).float()  # compared
        torch.stack([x, y])  # stacked
        y.sum().backward()  # backward
        w.grad * 2  # gradient
        """
    trace = record_of(tmp_path, "cut", source)
    cut = {line for (line,) in asked(trace, "SELECT DISTINCT line FROM records WHERE cut")}
    marks = ("no grad", "detached", "number", "compared")
    assert cut - {line_of(source, "# backward")} == {line_of(source, mark) for mark in marks}
    nodes = {line for (line,) in asked(trace, "SELECT DISTINCT line FROM records WHERE node")}
    assert nodes - {line_of(source, mark) for mark in ("number", "# backward")} == {line_of(source, mark) for mark in ("kept", "stacked")}
    back = asked(trace, "SELECT DISTINCT f.line FROM records r JOIN records f ON f.\"row\" = r.forward_row WHERE r.op = 'aten.mul.Tensor'")
    assert back == [(line_of(source, "kept"),)]


def test_optimizers_and_their_calls_are_recorded(tmp_path: Path) -> None:
    source = """
        import torch
        from torch import nn

        torch.manual_seed(0)
        first, second = nn.Linear(2, 2), nn.Linear(2, 2)
        a = torch.optim.SGD(first.parameters(), lr=0.1)
        b = torch.optim.Adam([{"params": second.weight}], lr=0.1)
        plan = torch.optim.lr_scheduler.StepLR(a, 1)
        for _ in range(2):
            a.zero_grad()  # zeroed
            second.zero_grad()  # module
            first(second(torch.ones(2))).sum().backward()  # there
            a.step()
            b.step()
            plan.step()  # scheduled
        b.add_param_group({"params": second.bias})
        b.zero_grad()
        b.step()
        with torch.no_grad():
            out = first(torch.ones(2))
        try:
            out.sum().backward()  # fails
        except RuntimeError:
            pass
        """
    trace = record_of(tmp_path, "optimizers", source)
    held = asked(trace, "SELECT optimizer, class, leaf FROM held ORDER BY optimizer, leaf, class")
    assert held == [
        (1, "SGD", "first.bias"), (1, "SGD", "first.weight"), (2, "Adam", "second.bias"), (2, "Adam", "second.weight"),
        (2, "Adam", "second.weight"),
    ]  # fmt: skip
    written = asked(trace, "SELECT DISTINCT r.op FROM held h JOIN records r USING (lane, \"row\") WHERE h.leaf = 'first.weight'")
    assert written == [("aten.uniform_.default",)]
    steps = asked(trace, "SELECT optimizer, gradients FROM events WHERE kind = 'step' ORDER BY \"row\", nth")
    assert steps == [(1, 2), (2, 1), (1, 2), (2, 1), (2, 0)]
    told = asked(trace, "SELECT kind, optimizer, line FROM events WHERE kind IN ('zeroed', 'schedule') ORDER BY \"row\", nth LIMIT 3")
    assert told == [
        ("zeroed", 1, line_of(source, "zeroed")), ("zeroed", None, line_of(source, "module")),
        ("schedule", 1, line_of(source, "scheduled")),
    ]  # fmt: skip
    back = asked(
        trace,
        'SELECT e.line, e.graph, r.op FROM events e JOIN records r ON r."row" = e.root WHERE e.kind = \'backward\' ORDER BY e."row"',
    )
    assert back == [
        (line_of(source, "there"), True, "aten.sum.default"), (line_of(source, "there"), True, "aten.sum.default"),
        (line_of(source, "fails"), False, "aten.sum.default"),
    ]  # fmt: skip


def test_entering_and_leaving_autocast_is_recorded(tmp_path: Path) -> None:
    source = """
        import torch

        @torch.autocast("cpu", dtype=torch.bfloat16)
        def forward(x):
            with torch.autocast("cpu", enabled=False):
                return x @ x

        forward(torch.ones(2, 2))
        try:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                raise ValueError
        except ValueError:
            pass
        torch.autocast("cuda")
        torch.autocast("cuda", enabled=False)
        """
    trace = record_of(tmp_path, "autocast", source)
    told = asked(trace, "SELECT op, device, dtype, enabled FROM events WHERE kind = 'autocast' ORDER BY nth")
    assert [(op, first) for op, _, _, first in told] == [
        ("enter", True), ("enter", False), ("leave", False), ("leave", True), ("enter", True), ("leave", True),
        *([] if torch.cuda.is_available() else [("refused", False)]),
    ]  # fmt: skip
    assert {(name, value) for _, name, value, _ in told if name == "cpu"} == {("cpu", "bfloat16")}


def test_a_watching_rerun_records_each_nonfinite_result(tmp_path: Path) -> None:
    source = """
        import torch

        x = torch.tensor([1.0, 0.0])
        y = x.log()  # made
        z = y * 0  # turned
        z.add_(1)  # in place
        y.exp()  # finite again
        torch.empty(3)
        z.sum().item()  # number
        torch._foreach_mul_([x, z], 2.0)  # many
        """
    write(tmp_path, finite=source)
    launch(Plan(("finite.py",), cwd=str(tmp_path)).with_finite(100), tmp_path / "run", "run", "look", pipeline.Silent())
    trace = opened(tmp_path / "run")
    told = asked(trace, 'SELECT r.line, n.nans, n.infinities, n."given" FROM nonfinite n JOIN records r USING (lane, "row") ORDER BY "row"')
    assert told == [
        (line_of(source, "made"), 0, 1, False), (line_of(source, "turned"), 1, 0, True), (line_of(source, "in place"), 1, 0, True),
        (line_of(source, "number"), 1, 0, True), (line_of(source, "number"), 1, 0, True), (line_of(source, "many"), 1, 0, True),
    ]  # fmt: skip


def test_shared_memory_is_recorded_once_per_line(tmp_path: Path) -> None:
    source = """
        import torch
        from torch import nn

        nn.Linear(2, 2).share_memory()  # shared
        """
    trace = record_of(tmp_path, "shared", source)
    assert asked(trace, "SELECT line FROM events WHERE kind = 'shared'") == [(line_of(source, "shared"),)]


def test_an_audit_makes_a_watching_rerun_only_for_a_nan(tmp_path: Path) -> None:
    source = """
        import sys, torch
        torch.manual_seed(0)
        w = torch.ones(2, requires_grad=True)
        for step in range(6):
            x = torch.ones(2)
            if step == 3 and "bad" in sys.argv:
                x = torch.zeros(2)
            loss = ((w * x).log() * x).sum()  # loss
            loss.backward()
            with torch.no_grad():
                w -= 0.1 * w.grad
                w.grad = None
        """
    write(tmp_path, train=source)
    bad = pipeline.audit(Plan(("train.py", "bad"), cwd=str(tmp_path)), keep=tmp_path / "bad", options=AuditOptions(effort="explain"))
    assert [(run.id, run.steps) for run in bad.runs] == [("control-1", 6), ("control-2", 6), ("look-finite", 4)]
    (finding,) = [finding for finding in bad.findings if finding.level == "error"]
    assert (finding.rule, finding.line) == ("non-finite-loss", line_of(source, "# loss"))
    assert "aten.log.default made 2 infinite values from finite inputs here in step 3" in finding.message
    good = pipeline.audit(Plan(("train.py",), cwd=str(tmp_path)), keep=tmp_path / "good", options=AuditOptions(effort="explain"))
    assert len(good.runs) == 2
    assert [finding for finding in good.findings if finding.level != "note"] == []
