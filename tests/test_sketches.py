"""Sketches: what they tell about a tensor and about the difference of two, and that a run records one for every tensor."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.launch import launch
from auditor.pipeline.reruns import Silent
from auditor.plan import Plan
from auditor.record.observers.sketches import Sketcher
from auditor.trace import SUMS
from auditor.trace.reader import opened
from auditor.trace.signs import PERIOD
from tests.processes import write

pytestmark = pytest.mark.torch


def sums_of(tensor: torch.Tensor) -> torch.Tensor:
    """The signed sums of a tensor's sketch."""
    return torch.tensor(Sketcher(torch).of(tensor)[4:], dtype=torch.float64)


@given(shape=st.lists(st.integers(0, 40), max_size=3), dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int32]))
@settings(max_examples=60, deadline=None)
def test_norm_and_largest_magnitude_are_those_of_the_elements(shape: list[int], dtype: torch.dtype) -> None:
    tensor = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 9).to(dtype)
    elements, nonfinite, norm, largest, *sums = Sketcher(torch).of(tensor)
    assert (elements, nonfinite, len(sums)) == (tensor.numel(), 0, SUMS)
    assert math.isclose(norm, float(tensor.double().square().sum().sqrt()), rel_tol=1e-12)
    assert largest == (float(tensor.double().abs().max()) if tensor.numel() else 0.0)


@pytest.mark.parametrize("elements", [1, 15, 16, 17, 1000, PERIOD, PERIOD + 1, 3 * PERIOD + 7, 1 << 20])
def test_the_sketch_of_a_difference_is_the_difference_of_sketches(elements: int) -> None:
    stream = torch.Generator().manual_seed(elements)
    a, b = (torch.randn(elements, generator=stream, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(sums_of(a) - sums_of(b), sums_of(a - b), rtol=0, atol=1e-9 * math.sqrt(elements))


@pytest.mark.parametrize("elements", [100, PERIOD, 5 * PERIOD + 100, 1 << 20])
@pytest.mark.parametrize("kind", ["noise", "one element", "a constant", "every second", "one row", "one column"])
def test_the_norm_of_a_difference_is_known_whichever_elements_differ(elements: int, kind: str) -> None:
    stream = torch.Generator().manual_seed(3)
    ratios = []
    for _ in range(12):
        difference = torch.zeros(elements, dtype=torch.float64)
        at = int(torch.randint(elements, (1,), generator=stream))
        if kind == "noise":
            difference = torch.randn(elements, generator=stream, dtype=torch.float64)
        elif kind == "one element":
            difference[at] = 1
        elif kind == "a constant":
            difference[at:] = 1
        elif kind == "every second":
            difference[at % 2 :: 2] = 1
        elif kind == "one row":
            difference[at : at + 64] = 1
        else:
            difference[at % 32 :: 32] = torch.randn(len(difference[at % 32 :: 32]), generator=stream, dtype=torch.float64)
        ratios.append(float(sums_of(difference).square().sum()) / float(difference.square().sum()))
    if kind == "one element":
        assert all(math.isclose(ratio, 1, rel_tol=1e-12) for ratio in ratios)
    # 16 sums: each estimate of the square is off by about 35 %, never by a factor
    assert min(ratios) > 0.05
    assert max(ratios) < 4
    assert 0.5 < sum(ratios) / len(ratios) < 2


def test_a_transpose_changes_the_sketch_but_a_layout_does_not() -> None:
    stream = torch.Generator().manual_seed(4)
    image = torch.randn(2, 3, 8, 8, generator=stream)
    assert torch.equal(sums_of(image), sums_of(image.contiguous(memory_format=torch.channels_last)))
    square = torch.randn(8, 8, generator=stream)
    assert not torch.allclose(sums_of(square), sums_of(square.T))


def test_nonfinite_values_are_counted_and_left_out() -> None:
    tensor = torch.tensor([1.0, math.nan, -2.0, math.inf, -math.inf])
    elements, nonfinite, norm, largest, *sums = Sketcher(torch).of(tensor)
    assert (elements, nonfinite, largest) == (5, 3, 2.0)
    assert math.isclose(norm, math.sqrt(5))
    assert all(math.isfinite(value) for value in sums)


def test_complex_bool_and_conjugated_tensors_are_sketched() -> None:
    values = torch.tensor([1 + 2j, 3 - 1j])
    assert math.isclose(Sketcher(torch).of(values)[2], math.sqrt(15))
    assert not torch.equal(sums_of(values.conj()), sums_of(values))
    assert torch.equal(sums_of(values.conj()), sums_of(values.conj().resolve_conj()))
    assert math.isclose(Sketcher(torch).of(torch.tensor([True, False, True]))[2], math.sqrt(2))


SCRIPT = """
import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5))
optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
data = torch.frombuffer(bytearray(range(64)), dtype=torch.uint8).view(16, 4).float()
for _ in range(2):
    optimizer.zero_grad()
    model(data).square().mean().backward()
    optimizer.step()
out = torch.empty(4)
torch.add(torch.ones(4), 1, out=out)
out[1:].mul_(2)
torch.empty(9)
print(float(out.sum()), torch.rand(1).item(), model[0].weight.sum().item())
"""


def test_a_run_has_a_sketch_of_every_created_written_and_external_tensor(tmp_path: Path) -> None:
    write(tmp_path, train=SCRIPT)
    usual = Plan(("train.py",), cwd=str(tmp_path))
    runs = {}
    for name, plan in (("plain", usual), ("sketched", usual.with_sketches())):
        launch(plan, tmp_path / name, name, "control", Silent(), quiet=True)
        runs[name] = opened(tmp_path / name)
    plain, sketched = (runs[name].lanes["main"] for name in ("plain", "sketched"))
    assert (runs["plain"].path / "stdout").read_bytes() == (runs["sketched"].path / "stdout").read_bytes()
    assert [list(column) for column in plain.compared] == [list(column) for column in sketched.compared]
    assert not len(plain.sketches()["row"])
    assert not sketched.events_of("unsketched")

    found = sketched.sketches()
    assert found["sums"].shape == (len(found["row"]), SUMS)
    rows = {row["row"]: row for row in sketched.query("SELECT * FROM records")}
    slots: dict[int, list[int]] = {}
    for row, slot in zip(found["row"].tolist(), found["slot"].tolist(), strict=True):
        slots.setdefault(row, []).append(slot)
    made = [
        row
        for row in rows.values()
        if row["digest"] and row["kind"] in ("op", "external") and row["op"] != "aten._local_scalar_dense.default"
    ]
    assert {row["row"] for row in made} <= set(slots)
    assert {rows[row]["kind"] for row in slots} == {"op", "external"}
    assert not any(rows[row]["op"].startswith(("aten.empty", "aten.view", "aten.t.")) for row in slots)
    (batch_norm, *_) = [row for row in slots if rows[row]["op"].startswith("aten.native_batch_norm.")]
    assert slots[batch_norm] == [0, 1, 2, 3, 4]  # the running statistics are written
    (adam, *_) = [row for row in slots if rows[row]["op"].startswith("aten._foreach_addcdiv_")]
    assert slots[adam] == [0, 1, 2, 3]
    # a tensor that is written in part has the sketch of the given part
    (part,) = [row for row in slots if rows[row]["op"] == "aten.mul_.Tensor" and rows[row]["code"] == "out[1:].mul_(2)"]
    (at,) = [k for k, row in enumerate(found["row"].tolist()) if row == part]
    assert (found["elements"][at], found["largest"][at]) == (3, 4.0)
