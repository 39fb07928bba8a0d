"""Digests computed where a tensor is and read later, as on a GPU: what they distinguish, and that each reaches its record.

The arithmetic is that of any device, so most tests run on the CPU; those that need a GPU have the mark `gpu`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.compare import compare
from auditor.launch import launch
from auditor.pipeline.reruns import Silent
from auditor.plan import Plan
from auditor.record.digest import _BLOCK, _BLOCKS, OnDevice
from auditor.trace.reader import LaneTrace, opened
from tests.processes import write

pytestmark = pytest.mark.torch


def sum_of(tensor: torch.Tensor) -> int | None:
    """The digest of a tensor."""
    found = OnDevice(torch).of(tensor)
    assert found is None or (found.dtype is torch.int64 and found.dim() == 0)
    return None if found is None else int(found)


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64],
)
@pytest.mark.parametrize("elements", [1, 2, 3, 5, 65])
def test_exchanging_two_elements_changes_the_digest(dtype: torch.dtype, elements: int) -> None:
    tensor = (torch.arange(elements) % 3).to(dtype)
    assert sum_of(tensor) == sum_of(tensor.clone())
    for at in range(1, elements):
        swapped = tensor.clone()
        swapped[at - 1], swapped[at] = tensor[at], tensor[at - 1]
        assert (sum_of(swapped) == sum_of(tensor)) == bool(tensor[at] == tensor[at - 1])


@pytest.mark.parametrize("elements", [_BLOCK, _BLOCK + 1, 3 * _BLOCK + 5, _BLOCK * _BLOCKS + 7, 2 * _BLOCK * _BLOCKS + _BLOCK + 9])
def test_every_element_and_the_order_of_rows_count_in_a_large_tensor(elements: int) -> None:
    tensor = torch.ones(elements)
    before = sum_of(tensor)
    found = {before}
    places = [0, _BLOCK - 1, _BLOCK, elements // 2, elements - 2, elements - 1]
    places = sorted({at for at in places if at < elements})
    for at in places:
        tensor[at] = 2.0
        found.add(sum_of(tensor))
        tensor[at] = 1.0
    assert len(found) == len(places) + 1
    assert sum_of(tensor) == before
    if elements > 2 * _BLOCK:
        tensor[:_BLOCK] = 3.0
        moved = tensor.roll(_BLOCK)
        assert sum_of(moved) != sum_of(tensor)


@given(st.permutations(range(12)), st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
@settings(max_examples=100, deadline=None)
def test_small_integers_in_another_order_have_another_digest(order: list[int], dtype: torch.dtype) -> None:
    # the hardest case for a sum of products: most bits are zero
    tensor = torch.arange(12).to(dtype)
    assert (sum_of(tensor[order]) == sum_of(tensor)) == (order == list(range(12)))


def test_a_digest_covers_memory_in_layout_order_for_every_kind_of_tensor() -> None:
    image = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert sum_of(image.contiguous(memory_format=torch.channels_last)) != sum_of(image)
    assert sum_of(image[:, :, ::2]) == sum_of(image[:, :, ::2].clone())
    assert sum_of(torch.randn(3).bfloat16()[1:]) is not None  # starts between two words
    value = torch.tensor([1 + 2j, 3 - 4j])
    assert sum_of(value.conj()) == sum_of(value.conj().resolve_conj()) != sum_of(value)
    assert sum_of(torch.empty(0)) is None
    assert sum_of(torch.empty(3, device="meta")) is None
    assert sum_of(torch.eye(3).to_sparse()) is None


@dataclass(frozen=True)
class Deferring(Plan):
    """A run in which CPU tensors are digested like those of a GPU."""

    def recorder_settings(self) -> dict[str, Any]:
        """Say so."""
        return super().recorder_settings() | {"digests": "deferred"}


SCRIPT = """
import os
import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))
parameters = list(model.parameters())
data = torch.arange(32.0).view(8, 4)
raw = data.numpy()
for step in range(3):
    model(data).square().mean().backward()
    with torch.no_grad():
        torch._foreach_sub_([p.data for p in parameters], [p.grad * 0.01 for p in parameters])
    for p in parameters:
        p.grad = None
    if step == 1 and "ODD" in os.environ:
        raw[3, 2] += 1e-3  # which no op sees
many = torch._foreach_mul([torch.full((2,), float(k)) for k in range(250)], 2.0)
largest, where = torch.stack(many).max(0)
print(sum(float(m.sum()) for m in many), model[0].weight.sum().item())
"""


def main_of(folder: Path, name: str, plan: Plan) -> LaneTrace:
    """The lane of a run of the plan."""
    launch(plan, folder / name, name, "control", Silent(), quiet=True)
    return opened(folder / name).lanes["main"]


def test_each_digest_reaches_its_record_however_late_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, train=SCRIPT)
    plain = main_of(tmp_path, "plain", Plan(("train.py",), cwd=str(tmp_path)))
    first, again, odd = (
        main_of(tmp_path, name, Deferring(("train.py",), cwd=str(tmp_path)).with_environment(**more))
        for name, more in (("first", {}), ("again", {}), ("odd", {"ODD": "1"}))
    )
    assert (tmp_path / "plain" / "stdout").read_bytes() == (tmp_path / "first" / "stdout").read_bytes()
    columns = 'SELECT "row", op, digest, digests FROM records ORDER BY "row"'
    usual, late = plain.query(columns), first.query(columns)
    assert len(usual) == len(late)
    for ours, theirs in zip(usual, late, strict=True):
        assert ours["op"] == theirs["op"]
        assert bool(ours["digest"]) == bool(theirs["digest"]), ours["op"]
        assert [set(one) == {"0"} for one in (ours["digests"] or "").split()] == [
            set(one) == {"0"} for one in (theirs["digests"] or "").split()
        ], ours["op"]
    assert any(len((row["digests"] or "").split()) > 200 for row in late)
    assert list(first.compared[0]) == list(again.compared[0])
    parted = compare(opened(tmp_path / "first"), opened(tmp_path / "odd")).divergence
    assert parted is not None
    assert (parted.op, parted.code, odd.ops) == ("aten.addmm.default", "model(data).square().mean().backward()", first.ops)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_run_on_a_gpu_has_digests_and_does_not_synchronize_for_them(tmp_path: Path) -> None:
    source = SCRIPT.replace("torch.manual_seed(0)", "torch.manual_seed(0); torch.set_default_device('cuda')")
    write(tmp_path, train=source)
    first, again = (main_of(tmp_path, name, Plan(("train.py",), cwd=str(tmp_path))) for name in ("first", "again"))
    made = first.query("SELECT op, digest FROM records WHERE kind = 'op' AND out LIKE '%cuda%' AND op LIKE 'aten.addmm%'")
    assert made
    assert all(row["digest"] for row in made)
    assert list(first.compared[0]) == list(again.compared[0])
