"""Other modes and tensor classes with their own dispatch: they behave as without the recorder, and what is recorded of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import bare, recorded
from tests.recordings import Recorded, record

ROOT = Path(__file__).parents[1]
TOGETHER = ROOT / "tests" / "scripts" / "one_after_another.py"
#: Of the behaviours that `bench/fidelity.py` compares, those that can share a process with others.
SCRIPTS = (
    "fake_tensors", "make_fx", "aot_function", "functionalize", "user_modes", "selective_checkpoint", "flop_counter", "deferred_init",
    "wrapper_subclass", "logging_subclass", "masked_tensors", "quantized_subclass", "function_subclass", "function_modes",
)  # fmt: skip


@pytest.mark.torch
def test_programs_with_their_own_modes_and_classes_print_the_same_as_bare(tmp_path: Path) -> None:
    scripts = [str(ROOT / "bench" / "fidelity" / f"{name}.py") for name in SCRIPTS]
    alone = bare(tmp_path, str(TOGETHER), *scripts)
    with_us = recorded(tmp_path, tmp_path / "run", str(TOGETHER), *scripts)
    assert alone.status == 0, alone.said
    assert with_us.out.decode().splitlines() == alone.out.decode().splitlines()
    assert (with_us.status, with_us.err) == (alone.status, alone.err)


SCRIPT = """
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

torch.manual_seed(0)
with FakeTensorMode():
    torch.randn(3).exp()  # fake
torch.empty(3, device="meta").normal_()  # meta


class Pair(torch.Tensor):
    @staticmethod
    def __new__(cls, a, b):
        return torch.Tensor._make_wrapper_subclass(cls, a.shape, dtype=a.dtype)

    def __init__(self, a, b):
        self.a, self.b = a, b

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        def part(value, name):
            return getattr(value, name) if isinstance(value, cls) else value

        out = [func(*[part(a, name) for a in args], **{k: part(v, name) for k, v in (kwargs or {}).items()}) for name in "ab"]  # wrapped
        return args[0] if func._schema.is_mutable else cls(*out)


class Hides(torch.Tensor):
    values = {}

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        Hides.values[id(made)] = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        inner = func(*[Hides.values[id(a)] if isinstance(a, cls) else a for a in args], **(kwargs or {}))
        return cls(inner) if func is torch.ops.aten.detach.default else inner


w = torch.nn.Parameter(Pair(torch.ones(2), torch.ones(2)))
h = torch.nn.Parameter(Hides(torch.ones(2)))
optimizer = torch.optim.SGD([w], lr=0.1, foreach=False)
for _ in range(3):
    optimizer.zero_grad()
    (w * 2).sum().backward()
    optimizer.step()
hidden = torch.optim.SGD([h], lr=0.1)
h.grad = torch.zeros(2)
hidden.step()
packed = torch.ops.quantized.linear_prepack(torch.quantize_per_tensor(torch.ones(2, 4), 0.1, 0, torch.qint8), None)  # packed
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return record(tmp_path_factory.mktemp("modes"), SCRIPT)


@pytest.mark.torch
def test_ops_on_tensors_without_values_are_not_recorded_and_draw_nothing(run: Recorded) -> None:
    assert run.names("fake") == []
    assert "normal_.default" in run.names("meta")
    assert run.draws() == []


@pytest.mark.torch
def test_the_ops_inside_a_wrapper_are_recorded(run: Recorded) -> None:
    forward = [row.op for row in run.at("wrapped") if row.phase == "forward"]
    assert forward.count("aten.mul.Tensor") == forward.count("aten.sum.default") == 2 * 3


@pytest.mark.torch
def test_wrapping_parameters_are_digested_by_content_and_unreadable_ones_reported(run: Recorded) -> None:
    digests = [event["parameters"] for event in run.events("step") if event["of"] == 1]
    assert len(set(digests)) == 3
    assert any("Hides" in what for what in run.lost())


@pytest.mark.torch
def test_packed_weights_are_digested_by_content(run: Recorded, tmp_path: Path) -> None:
    again = record(tmp_path, SCRIPT)
    ours, theirs = (which.op("packed", "quantized.linear_prepack.default").digests for which in (run, again))
    assert ours == theirs != [0]
