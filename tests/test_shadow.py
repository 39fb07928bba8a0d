"""The shadow: it reports nothing for correct programs, names wrong kernels, and the script does not notice it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auditor import pipeline
from auditor.judge.tolerances import load_tolerances
from auditor.launch import launch
from auditor.pipeline.reruns import Silent
from auditor.plan import Plan
from auditor.record.observers.shadow import recurrent
from auditor.tolerance import as_json
from auditor.trace.reader import LaneTrace, Trace, opened
from tests.processes import write

pytestmark = pytest.mark.torch

TOLERANCES = as_json(load_tolerances(pipeline.shipped_rules()))


def run_of(folder: Path, name: str, shadow: str = "", script: str = "train.py") -> Trace:
    """Record a script of the folder, with a shadow if a reference is named."""
    plan = Plan((script,), cwd=str(folder))
    if shadow:
        plan = plan.with_shadow(shadow, TOLERANCES)
    launch(plan, folder / name, name, "control", Silent(), quiet=True)
    trace = opened(folder / name)
    assert trace.meta["exit"] == 0, (folder / name / "stderr").read_text()
    return trace


def measured_by_shadow(lane: LaneTrace, columns: Sequence[str] = ("op", "line")) -> list[dict[str, Any]]:
    """What the shadow found, with columns of the op's record."""
    found = lane.shadows()
    rows = {row["row"]: row for row in lane.query("SELECT * FROM records")}
    return [
        {name: values[k] for name, values in found.items()} | {name: rows[int(found["row"][k])][name] for name in columns}
        for k in range(len(found["row"]))
    ]


CORRECT = """
import hashlib
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
torch.set_num_threads(1)


class Deep(nn.Module):
    def __init__(self, layers=100, width=16):
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.Tanh()) for _ in range(layers)])

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return x


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.tokens, self.lstm = nn.Embedding(50, 8), nn.LSTM(8, 8, num_layers=2, bidirectional=True)
        self.group, self.head = nn.GroupNorm(2, 16), nn.Linear(16, 5)

    def forward(self, image, tokens):
        x = F.gelu(self.bn(self.conv(image)))
        x = F.silu(F.adaptive_avg_pool2d(F.max_pool2d(x, 2), 2)).flatten(1)
        q = self.tokens(tokens)
        y, _ = self.lstm(F.scaled_dot_product_attention(q, q, q, is_causal=True).transpose(0, 1))
        y = self.group(y.mean(0))
        return F.dropout(self.head(y), 0.1) + x.mean(1, keepdim=True)


loss = 0.0
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    model = Deep().to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    out = model(torch.randn(8, 16).to(dtype))
    (out.float().square().mean() * 0.001).backward()
    optimizer.step()
    loss += float(out.float().sum())

model = Wide()
image, tokens, labels = torch.randn(4, 3, 8, 8), torch.randint(50, (4, 6)), torch.randint(5, (4,))
for kind in ({"foreach": True}, {"fused": True}, {}):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, amsgrad=True, **kind)
    for amp in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
            value = F.cross_entropy(model(image, tokens), labels)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()

x = torch.full((64,), 0.3)
for _ in range(100):
    x = 3.9 * x * (1 - x) + torch.linspace(0, 1e-7, 64)  # chaos
z = torch.fft.fft(torch.randn(32)) * torch.randn(32, dtype=torch.complex64)
total = torch.zeros(5).index_add_(0, labels, torch.randn(4)).cumsum(0).softmax(0).log_softmax(0)
mixed = torch.randn(8) * torch.tensor(0.1, dtype=torch.float64) + 1e-8 * torch.randn(8)
huge = torch.tensor([1e30, -1e38, 3e38, float("inf"), 1e-40]) * 2 - torch.tensor([1.0, 0, 3e38, float("inf"), 0])
heads = torch.randn(2, 2, 7, 8)
attended = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
attended += F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.5)
narrow = torch.randn(100, dtype=torch.float64).to(torch.float16).float()
exact = torch.randn(9, dtype=torch.float64).exp()
where = torch.where(narrow > 0, narrow, narrow.abs().sqrt())
state = [p for p in model.state_dict().values()] + [x, z, total, attended, mixed, huge, narrow, where, torch.get_rng_state()]
digest = hashlib.sha256(b"".join(t.detach().reshape(-1).view(torch.uint8).numpy().tobytes() for t in state)).hexdigest()
print(digest, loss, value.item(), torch.rand(1).item(), torch.is_grad_enabled())
"""


def test_correct_programs_in_three_dtypes_stay_within_their_error_bounds(tmp_path: Path) -> None:
    write(tmp_path, train=CORRECT)
    plain, shadowed = run_of(tmp_path, "plain"), run_of(tmp_path, "shadowed", "float64")
    assert (plain.path / "stdout").read_bytes() == (shadowed.path / "stdout").read_bytes()
    assert (plain.path / "stderr").read_bytes() == (shadowed.path / "stderr").read_bytes()
    assert [list(column) for column in plain.main.compared] == [list(column) for column in shadowed.main.compared]  # type: ignore[union-attr]  # both have a main lane
    assert not len(plain.lanes["main"].shadows()["row"])

    lane = shadowed.lanes["main"]
    found = measured_by_shadow(lane, ("op", "line", "out"))
    beyond = [one for one in found if one["excess"] > 1]
    assert beyond == []
    dtypes = {json.loads(one["out"])[0][0] for one in found}
    assert {"float32", "bfloat16", "float16", "complex64"} <= dtypes
    measured = {one["op"].removeprefix("aten.").partition(".")[0] for one in found}
    assert measured >= {
        "addmm", "mm", "native_layer_norm", "native_layer_norm_backward", "tanh", "tanh_backward", "convolution", "convolution_backward",
        "native_batch_norm", "native_group_norm", "mkldnn_rnn_layer", "mkldnn_rnn_layer_backward", "gelu", "silu", "_softmax",
        "_log_softmax_backward_data", "_foreach_addcdiv_", "_fused_adamw_", "addcdiv_", "_to_copy", "embedding_dense_backward",
        "max_pool2d_with_indices_backward", "index_add_", "_fft_r2c", "_scaled_dot_product_flash_attention_for_cpu",
    }  # fmt: skip
    # what is measured: a cast rounds once; a batch norm has three results and two statistics; a fused step each parameter and its state
    assert max(one["ulps"] for one in found if one["op"] == "aten._to_copy.default") <= 0.5
    assert {one["slot"] for one in found if one["op"] == "aten.native_batch_norm.default"} == {0, 1, 2, 3, 4}
    assert max(one["slot"] for one in found if one["op"].startswith("aten._fused_adamw_")) > 40
    assert all(one["mean"] <= one["ulps"] and (one["error"] > 0) == (one["ulps"] > 0) for one in found)

    left = {(event["op"], event["why"]) for event in lane.events_of("unshadowed")}
    assert ("aten.exp.default", "it is float64 already") in left
    assert all(why == "it is float64 already" for _, why in left), left


WRONG = """
import sys
import torch
from torch import nn
from torch.nn import functional as F

KEPT = []
armed = None


def plant(name, wrong):
    kernel = torch.library.get_kernel(name, "CPU")
    library = torch.library.Library("aten", "IMPL")

    def implementation(keyset, *args, **kwargs):
        if name == "aten::add.Tensor" and not isinstance(args[1], torch.Tensor):
            args = (args[0], torch.scalar_tensor(args[1], dtype=args[0].dtype))  # a number comes here without its tensor
        out = kernel.call_boxed(keyset, *args, **kwargs)
        if armed == name:
            wrong(out, args)
        return out

    library.impl(name.removeprefix("aten::"), implementation, "CPU", with_keyset=True)
    KEPT.append((kernel, library))


def ulps(out, count):
    whole = {torch.float32: torch.int32}.get(out.dtype, torch.int16)
    flat = out.view(whole).view(-1) if out.is_contiguous() else out.view(whole)
    flat[7] += count


def off(out, by):
    if out.is_floating_point() and out.dtype is not torch.float64:
        out.view(-1)[int(out.abs().argmax())] *= 1 + by


def product(out, args):
    a, b = args[-2:]
    if out.dtype is torch.float64:
        return
    u = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-9, torch.float16: 2.0**-12}[out.dtype]
    terms = a.double().abs() @ b.double().abs()
    out[0, 1] += 100 * (4 * a.shape[-1] ** 0.5 * 2.0**-24 * 2 * terms[0, 1] + 2 * u * out[0, 1].abs())


plant("aten::tanh", lambda out, args: ulps(out, 10) if out.dtype is not torch.float64 else None)
plant("aten::mm", product)
for name, by in (("aten::add.Tensor", 0.1), ("aten::native_layer_norm", 1e-3), ("aten::_softmax", 1e-3), ("aten::sum.dim_IntList", 1e-3),
                 ("aten::convolution", 1e-3), ("aten::gelu", 1e-3), ("aten::lerp_.Scalar", 1e-3)):
    plant(name, lambda out, args, by=by: off(out[0] if isinstance(out, tuple) else out, by))
plant("aten::_foreach_add_.List", lambda out, args: off(args[0][1], 1e-3))
plant("aten::exp", lambda out, args: out.view(-1)[3].fill_(float("nan")) if out.dtype is not torch.float64 else None)


@torch.library.custom_op("ours::half_sine", mutates_args=())
def half_sine(x: torch.Tensor) -> torch.Tensor:
    out = x.sin() / 2
    return out * 1.001 if armed == "ours" and x.dtype is torch.float32 else out


torch.manual_seed(0)
torch.set_num_threads(1)
layers = [(nn.LayerNorm(16), nn.Linear(16, 16)) for _ in range(100)]
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    parts = [(a.to(dtype), b.to(dtype)) for a, b in layers]
    x = torch.randn(8, 16).to(dtype)
    for k, (norm, linear) in enumerate(parts):
        y = linear(norm(x))
        armed = "aten::tanh" if k == 73 and dtype is torch.float32 else None
        y = torch.tanh(y)  # in 32 bits, layer 73
        armed = "aten::add.Tensor" if k == 98 and dtype is not torch.float32 else None
        x = x + y * (30.0 if k == 98 else 1.0)  # in 16 bits, layer 98
        armed = None
    wrong = torch.randn(8, 64).to(dtype)
    armed = "aten::mm"
    wrong = wrong @ torch.randn(64, 8).to(dtype)  # a product
    armed = None
    x = wrong.float()
    for _ in range(60):
        x = 3.9 * x.sigmoid() * (1 - x.sigmoid()) * 3  # chaos behind it

right = torch.randn(6, 4, 8, 8)
armed = "aten::native_layer_norm"
F.layer_norm(right, (8,))  # a norm
armed = "aten::_softmax"
right.softmax(-1)  # a softmax
armed = "aten::sum.dim_IntList"
right.abs().sum((1, 2))  # a sum
armed = "aten::convolution"
F.conv2d(right, torch.randn(3, 4, 3, 3))  # a convolution
armed = "aten::gelu"
F.gelu(right)  # an activation
armed = "aten::exp"
right.exp()  # no number
armed = "ours"
half_sine(right)  # a custom op
armed = None
half_sine(right)

weights = [torch.randn(4, 4, requires_grad=True) for _ in range(3)]
sgd, adam = torch.optim.SGD(weights, lr=0.1, foreach=True), torch.optim.Adam(weights, lr=0.1, foreach=False)
for step in range(30):
    for weight in weights:
        weight.grad = torch.randn(4, 4)
    armed = "aten::_foreach_add_.List" if step == 27 else None
    sgd.step()  # a step of SGD
    armed = "aten::lerp_.Scalar" if step == 28 else None
    adam.step()  # a step of Adam
    armed = None
"""


@pytest.mark.skipif(not hasattr(torch.library, "get_kernel"), reason="wrong kernels are planted with torch.library.get_kernel")
def test_each_wrong_kernel_is_named_but_nothing_after_it(tmp_path: Path) -> None:
    write(tmp_path, train=WRONG)
    lane = run_of(tmp_path, "run", "float64").lanes["main"]
    lines = (tmp_path / "train.py").read_text().splitlines()
    found = measured_by_shadow(lane, ("op", "line", "out", "step"))
    beyond = [
        (one["op"].removeprefix("aten."), lines[one["line"] - 1].rpartition("# ")[2], json.loads(one["out"])[0][0], one["step"])
        for one in found
        if one["excess"] > 1
    ]
    halves = ["bfloat16", "float16"]
    in_order = [("tanh.default", "in 32 bits, layer 73", "float32", 0), ("mm.default", "a product", "float32", 0)]
    for half in halves:
        in_order += [("add.Tensor", "in 16 bits, layer 98", half, 0), ("mm.default", "a product", half, 0)]
    in_order += [
        ("native_layer_norm.default", "a norm", "float32", 0),
        ("_softmax.default", "a softmax", "float32", 0),
        ("sum.dim_IntList", "a sum", "float32", 0),
        ("convolution.default", "a convolution", "float32", 0),
        ("gelu.default", "an activation", "float32", 0),
        ("exp.default", "no number", "float32", 0),
        ("ours.half_sine.default", "a custom op", "float32", 0),
        ("_foreach_add_.List", "a step of SGD", "float32", 27),
        *[("lerp_.Scalar", "a step of Adam", "float32", 28)] * 3,
    ]
    assert beyond == in_order
    (tanh,) = [one for one in found if one["op"] == "aten.tanh.default" and one["excess"] > 1]
    assert (tanh["at"], round(float(tanh["ulps"]))) == (7, 10)
    (norm,) = [one for one in found if one["op"] == "aten._foreach_add_.List" and one["excess"] > 1]
    assert norm["slot"] == 1


def test_with_a_device_as_shadow_an_op_is_compared_in_its_own_dtype(tmp_path: Path) -> None:
    source = """
        import torch
        torch.manual_seed(0)
        weight = torch.randn(16, 16, requires_grad=True)
        loss = torch.tanh(torch.randn(8, 16) @ weight).sum()
        loss.backward()
        torch._foreach_add_([weight.detach()], 0.5)
        print(weight.sum().item())
        """
    write(tmp_path, train=source)
    found = measured_by_shadow(run_of(tmp_path, "run", "cpu").lanes["main"])
    assert {"aten.mm.default", "aten.tanh.default", "aten._foreach_add_.Scalar", "aten.tanh_backward.default"} <= {
        one["op"] for one in found
    }
    assert all(one["ulps"] == 0 and one["excess"] == 0 for one in found)  # the same kernels on the same device


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_with_cuda_as_shadow_a_correct_program_stays_within_its_error_bounds(tmp_path: Path) -> None:
    write(tmp_path, train=CORRECT)
    found = measured_by_shadow(run_of(tmp_path, "run", "cuda").lanes["main"])
    assert [one for one in found if one["excess"] > 1] == []
    assert any(one["ulps"] > 0 for one in found)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_reference_of_an_lstm_layer_and_its_gradients_matches_torch(reverse: bool) -> None:
    stream = torch.Generator().manual_seed(1)
    sizes = ((5, 3, 4), (24, 4), (24, 6), (24,), (24,), (3, 6), (3, 6))
    given: list[Any] = [torch.randn(size, generator=stream, dtype=torch.float64, requires_grad=True) for size in sizes]
    x, w_ih, w_hh, b_ih, b_hh, hx, cx = given
    with torch.no_grad():
        out, hy, cy = recurrent.layer(torch, *given, reverse, [], 2, 6, 1, True, False, False, True)
    ordered = x.flip(0) if reverse else x
    h, c, made = hx, cx, []
    for step in ordered:
        h, c = torch.lstm_cell(step, [h, c], w_ih, w_hh, b_ih, b_hh)
        made.append(h)
    expected = torch.stack(made[::-1] if reverse else made)
    torch.testing.assert_close((out, hy, cy), (expected, h, c))
    gradients = [torch.randn(t.shape, generator=stream, dtype=torch.float64) for t in (expected, h, c)]
    wanted = torch.autograd.grad((expected, h, c), given, gradients)
    with torch.no_grad():
        got = recurrent.layer_backward(
            torch, *given, out, hy, cy, *gradients, reverse, 2, 6, 1, True, True, False, [], False, torch.empty(0)
        )
    torch.testing.assert_close(got, wanted)
    with pytest.raises(NotImplementedError, match="only the LSTM"):
        recurrent.layer(torch, *given, reverse, [], 3)
    with pytest.raises(NotImplementedError, match="packed"):
        recurrent.layer(torch, *given, reverse, [3, 2], 2)


def test_the_numbers_of_a_measurement_have_their_documented_meaning(tmp_path: Path) -> None:
    source = """
        import torch
        x = torch.tensor([1.0, 1 + 2**-10, 3.0, 0.0], dtype=torch.float64)
        x.to(torch.bfloat16)
        torch.tensor([2.0, 3.0]).sqrt_()
        """
    write(tmp_path, train=source)
    cast, root = measured_by_shadow(run_of(tmp_path, "run", "float64").lanes["main"])
    assert (cast["op"], cast["at"], cast["slot"]) == ("aten._to_copy.default", 1, 0)
    assert (cast["ulps"], cast["mean"]) == (2.0**-10 / 2.0**-7, 2.0**-10 / 2.0**-7 / 4)
    assert cast["error"] == 2.0**-10
    assert np.isclose(cast["norm"], (1 + (1 + 2**-10) ** 2 + 9) ** 0.5)
    assert cast["excess"] == pytest.approx(0.25, rel=1e-3)  # an eighth of a unit, of the bound of half a unit
    assert (root["op"], root["slot"]) == ("aten.sqrt_.default", 0)
    assert 0 < root["ulps"] <= 0.5
