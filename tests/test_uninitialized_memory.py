"""Uninitialized memory: results that depend on it are reported where they show; scratch memory is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.compare import compare
from auditor.results import Audit
from auditor.trace.reader import Trace
from tests.builder import TraceBuilder
from tests.processes import audited, environment, write


def scratch(path: Path, held: str, printed: str, *, written: int = 4, state: str = "seeded") -> Trace:
    """A run that reads eight numbers, only some of which it has written, selects those, and draws."""
    run = TraceBuilder(path)
    lane = run.lane()
    memory = lane.op("aten.empty.memory_format", shape=[8], digest=0, line=1)
    for part in range(2):
        memory = lane.op("aten.fill_.Scalar", memory, shape=[written // 2], digest=f"part {part}", line=2)
    doubled = lane.op("aten.mul.Tensor", memory, shape=[8], digest=f"doubled {held}", line=3)
    lane.op("aten.slice.Tensor", doubled, shape=[written], digest=0, line=4)
    lane.op("aten.clone.default", doubled, shape=[written], digest="chosen", line=4)
    lane.random("aten.randn.default", state=state, digest=f"drawn {state}", line=5)
    trace = run.sealed()
    (trace.path / "stdout").write_text(printed)
    return trace


def test_a_difference_in_partly_written_memory_is_uninitialized(tmp_path: Path) -> None:
    found = compare(scratch(tmp_path / "a", "x", "1"), scratch(tmp_path / "b", "y", "1"), training=False).divergence
    assert found is not None
    assert (found.kind, found.line) == ("uninitialized", 3)
    assert found.detail.allocated is not None
    assert found.detail.allocated.line == 1
    whole = compare(scratch(tmp_path / "c", "x", "1", written=8), scratch(tmp_path / "d", "y", "1", written=8)).divergence
    assert whole is not None
    assert whole.kind != "uninitialized"


@pytest.mark.parametrize(
    ("printed", "states", "line"),
    [
        pytest.param(("1", "1"), ("seeded", "seeded"), None, id="nothing shown"),
        pytest.param(("1", "2"), ("seeded", "seeded"), 3, id="printed"),
        pytest.param(("", ""), ("seeded", "seeded"), 3, id="nothing is ever shown by this script"),
        pytest.param(("1", "1"), ("one", "other"), 5, id="a draw behind it"),
    ],
)
def test_scratch_memory_is_no_divergence_and_hides_none(
    tmp_path: Path, printed: tuple[str, str], states: tuple[str, str], line: int | None
) -> None:
    a, b = (scratch(tmp_path / name, name, out, state=state) for name, out, state in zip("ab", printed, states, strict=True))
    found = compare(a, b, training=True)
    assert (found.divergence.line if found.divergence else None) == line
    assert found.side == []


SCRATCH = """
import torch
from torch import nn

torch.manual_seed(0)
around = torch.distributions.VonMises(torch.zeros(3), torch.tensor([1.0, 2.0, 4.0])).sample((8,))  # empty, filled by rejection
chosen = torch.arange(64) < 32
scratch = torch.empty(64)
scratch[:32] = 1.0  # the rest is never written
kept = torch.where(chosen, torch.randn(64) * scratch, 2.0)
cache = torch.empty(6, 4)
for k in range(4):
    cache[k] = torch.randn(4)
    attended = (cache * 0.5)[: k + 1].softmax(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3 if TRAINS else 0):
    optimizer.zero_grad()
    (model(attended).sum() + around.sum() + kept.sum()).backward()
    optimizer.step()
print(around.sum(), kept.sum(), attended.sum(), *model.parameters())
if REACHES:
    print((cache * 0.5).norm())
"""


@pytest.mark.torch
def test_uninitialized_memory_is_a_divergence_only_if_it_is_shown(tmp_path: Path) -> None:
    for shown in (False, True):
        write(tmp_path, train=SCRATCH.replace("TRAINS", str(not shown)).replace("REACHES", str(shown)))
        runs = [f"{fill}-{shown}" for fill in (255, 165)]
        for run in runs:
            done = audited(tmp_path, "record", "-o", run, "train.py", env=environment(MALLOC_PERTURB_=run.partition("-")[0]))
            assert done.status == 0, done.said
        done = audited(tmp_path, "diff", *runs, "--json", "d.json")
        audit = Audit.model_validate(json.loads((tmp_path / "d.json").read_text()))
        if shown:
            assert done.status == 1, done.said
            assert audit.divergence is not None
            assert audit.divergence.kind == "uninitialized"
        else:
            assert (done.status, audit.divergence, audit.side) == (0, None, []), done.said
            strict = audited(tmp_path, "diff", "--strict", *runs)
            assert strict.status == 1, strict.said
