"""`--devices` and `--shadow`: the names that they accept, and what real audits on several devices report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor import devices
from auditor.errors import UsageError
from auditor.factors import needs_cuda
from auditor.plan import Plan
from auditor.report.words.reasons import sentence_of, text_of
from auditor.results import Audit
from tests.processes import audited, environment, line_of, write

WITHOUT_GPU = pytest.mark.skipif(needs_cuda() is None, reason="there is a CUDA device here")


def test_a_list_of_devices_is_parsed() -> None:
    found = devices.parse("cpu, cuda,cuda:1,cpu:avx2,cpu:avx2+threads=1,cpu:mkldnn=off,cpu:onednn=sse41")
    assert [(one.name, one.kind, one.index) for one in found[:4]] == [
        ("cpu", "cpu", None), ("cuda", "cuda", None), ("cuda:1", "cuda", 1), ("cpu:avx2", "cpu", None),
    ]  # fmt: skip
    assert dict(found[3].variables) == {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
    assert dict(found[4].variables)["OMP_NUM_THREADS"] == "1"
    assert not found[5].mkldnn
    assert found[5].variables == ()
    assert dict(found[6].variables) == {"ONEDNN_MAX_CPU_ISA": "SSE41"}


@pytest.mark.parametrize(
    ("names", "slug", "said"),
    [
        ("gpu", "no-such-device", "there is no device gpu"),
        ("cude", "no-such-device", "did you mean cuda?"),
        (",", "no-such-device", "expected a list"),
        ("cuda:first", "no-such-device", "a number"),
        ("cpu:avx3", "no-such-device", "not a variant of a CPU"),
        ("cpu:mkl=fast", "no-such-device", "mkl can be compatible"),
        ("cpu:threads=0", "no-such-device", "threads=N"),
        ("cpu,CPU", "device-twice", "cannot differ from itself"),
        ("cpu:threads=2+avx2,cpu:avx2+threads=2", "device-twice", "cannot differ from itself"),
    ],
)
def test_a_list_without_valid_devices_is_refused_with_the_valid_names(names: str, slug: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        devices.parse(names)
    assert caught.value.slug == slug
    assert said in caught.value.message


def test_a_variant_is_unset_in_the_next_plan_and_a_factor_takes_precedence() -> None:
    plan = Plan(("train.py",)).with_environment(OMP_NUM_THREADS="3")
    first, second = devices.parse("cpu:avx2+threads=1,cpu")
    one = devices.plan_on(plan, first, available=False)
    assert (one.variable("ATEN_CPU_CAPABILITY"), one.variable("OMP_NUM_THREADS")) == ("avx2", "3")
    # torch would reuse code compiled for other instructions, which kills the process
    assert (one.variable("TORCHINDUCTOR_CACHE_DIR") or "").endswith("-avx2")
    other = devices.plan_on(one, second, available=False)
    assert not {"ATEN_CPU_CAPABILITY", "TORCHINDUCTOR_CACHE_DIR"} & set(other.variables)
    assert other.device.name == "cpu"


NET = """
import os

import torch

planted = torch.library.Library("aten", "IMPL", "CPU")


def tanh(x):
    y = (x.double().exp() - (-x.double()).exp()) / (x.double().exp() + (-x.double()).exp())
    off = float(os.environ.get("OFF", 0)) if step >= 3 and x.shape[1] == 13 and x.dtype == torch.float32 else 0.0
    return (y * (1 + off)).to(x.dtype)


if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2" and "OFF" in os.environ:
    planted.impl("tanh", tanh)
step = 0
torch.manual_seed(0)
wide = torch.nn.Linear(12, 13)
narrow = torch.nn.Linear(13, 12)
layers = [layer for _ in range(8) for layer in (torch.nn.Linear(12, 12), torch.nn.Tanh())]
model = torch.nn.Sequential(*layers, wide, torch.nn.Tanh(), narrow, *layers[:2], torch.nn.Linear(12, 3))
data, labels = torch.randn(16, 12), torch.randint(3, (16,))
for step in range(6):
    loss = torch.nn.functional.cross_entropy(model(data), labels)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
            parameter.grad = None
print(loss.item())
"""


def audit_of(folder: Path, *words: str, status: int, **variables: str) -> Audit:
    """The audit that the command wrote with --json."""
    done = audited(folder, "--json", "a.json", *words, env=environment(**variables))
    assert done.status == status, done.said
    return Audit.model_validate(json.loads((folder / "a.json").read_text()))


@pytest.mark.torch
def test_reduced_cpus_are_compared_and_rounding_alone_is_no_divergence(tmp_path: Path) -> None:
    write(tmp_path, train=NET)
    audit = audit_of(tmp_path, "--effort", "compare", "--devices", "cpu:default,cpu:avx2", "--shadow", "float64", "train.py", status=0)
    assert audit.verdict == "no-divergence-seen"
    assert [(run.id, run.device) for run in audit.runs] == [
        ("control-1", "cpu:default"), ("control-2", "cpu:default"), ("device-cpu-default", "cpu:default"),
        ("device-cpu-avx2", "cpu:avx2"),
    ]  # fmt: skip
    (comparison,) = audit.devices
    assert (comparison.devices, comparison.first, comparison.unaligned) == (["cpu:default", "cpu:avx2"], None, 0)
    assert comparison.aligned == audit.runs[2].ops
    assert any(0 < point.drift < 1e-4 for point in comparison.curve)
    assert comparison.end is not None
    assert comparison.end < 1e-5
    assert all(one.excess is None or one.excess <= 1 for one in comparison.most)
    assert audit.shadow is not None
    assert audit.shadow.run == "device-cpu-default", "a run that already qualifies is not repeated"
    assert audit.shadow.first is None
    assert {one.op for one in audit.shadow.most} >= {"aten.addmm.default", "aten.mm.default"}


@pytest.mark.torch
def test_an_op_wrong_by_ten_ulps_deep_in_a_network_is_named_and_not_what_inherits_it(tmp_path: Path) -> None:
    write(tmp_path, train=NET)
    off = str(20 * 2.0**-24)
    audit = audit_of(tmp_path, "--effort", "compare", "--devices", "cpu:default,cpu:avx2", "train.py", status=1, OFF=off)
    found = audit.divergence
    assert found is not None
    assert (found.kind, found.op, found.step, found.module) == ("arithmetic", "aten.tanh.default", 3, "Sequential.17")
    assert found.line == line_of(NET, "loss = torch.nn.functional.cross_entropy")
    assert sentence_of(found.reasons).startswith("cpu:avx2 is off here")
    (first,) = [one.first for one in audit.devices]
    assert first is not None
    assert first.run == "device-cpu-avx2"
    assert first.excess is not None
    assert first.excess > 1


@pytest.mark.torch
def test_factors_that_make_controls_diverge_are_pinned_while_devices_are_compared(tmp_path: Path) -> None:
    write(tmp_path, train="import torch\nx = torch.randn(4, 5)\nprint((x @ x.T).tanh().sum())\n")
    audit = audit_of(tmp_path, "--effort", "explain", "--devices", "cpu,cpu:default", "train.py", status=1)
    assert [cause.factor for cause in audit.causes] == ["torch-seed"]
    assert audit.divergence is not None
    assert audit.divergence.kind == "draw"
    (comparison,) = audit.devices
    assert (comparison.first, comparison.other) == (None, None)
    assert {tuple(run.pinned) for run in audit.runs if run.role == "device"} == {("torch-seed",)}


def diff_of_two_capabilities(folder: Path, source: str, status: int) -> Audit:
    """The comparison of two kept runs of a script, on a reduced CPU variant and on a better one."""
    write(folder, train=source)
    for name, device in (("a", "cpu:default"), ("b", "cpu:avx2")):
        done = audited(folder, "record", "--device", device, "-o", name, "train.py")
        assert done.status == 0, done.said
    done = audited(folder, "diff", "a", "b", "--json", "d.json")
    assert done.status == status, done.said
    return Audit.model_validate(json.loads((folder / "d.json").read_text()))


@pytest.mark.torch
def test_kept_runs_of_two_devices_are_compared_by_the_error_that_each_op_introduces(tmp_path: Path) -> None:
    audit = diff_of_two_capabilities(tmp_path, NET, 0)
    assert audit.verdict == "no-divergence-seen"
    assert [one.devices for one in audit.devices] == [["cpu:default", "cpu:avx2"]]


APPROXIMATED = """
import torch
from torch import nn

planted = torch.library.Library("aten", "IMPL", "CPU")


def gelu(x, *, approximate="none"):
    wide = x.double()
    erf = torch.erf(wide / 2**0.5)
    if x.dtype is torch.float32:  # as oneDNN's polynomials for AVX-512 are off there
        erf += 10.8 * 2**-24 * ((wide.abs() > 2.5) & (wide.abs() < 3.5)) * torch.sign(torch.sin(1e4 * wide))
    return (wide * (1 + erf) / 2).to(x.dtype)


def tanh(x):
    right = 1 - 2 / (1 + (2 * x.double()).exp())
    return (right * (1.004 if step == 2 else 1.0)).to(x.dtype)  # in float64 too


if torch.backends.cpu.get_cpu_capability() == "AVX2":
    planted.impl("gelu", gelu)
    planted.impl("tanh", tanh)
step = 0
torch.manual_seed(0)
layers = [layer for _ in range(10) for layer in (nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU())]
model = nn.Sequential(*layers, nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
data, labels = torch.randn(256, 64), torch.randint(10, (256,))
for step in range(4):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(data), labels).backward()
    optimizer.step()
"""


@pytest.mark.torch
def test_an_op_equally_wrong_in_float64_is_named_but_not_a_common_approximation(tmp_path: Path) -> None:
    audit = diff_of_two_capabilities(tmp_path, APPROXIMATED, 1)
    found = audit.divergence
    assert found is not None
    assert (found.kind, found.op, found.step, found.phase) == ("arithmetic", "aten.tanh.default", 2, "forward")
    assert sentence_of(found.reasons).startswith("cpu:default and cpu:avx2 differ here")
    assert {one.op for one in audit.devices[0].most if (one.excess or 0) > 1} == {"aten.tanh.default"}


@WITHOUT_GPU
@pytest.mark.torch
def test_a_script_that_needs_a_gpu_is_pointed_to_the_option_that_runs_it_without_one(tmp_path: Path) -> None:
    write(tmp_path, train="import torch\nx = torch.ones(3)\nprint((x.cuda() * 2).device)\n")
    audit = audit_of(tmp_path, "--effort", "compare", "train.py", status=2)
    assert any("--devices cpu" in text_of(note) for note in audit.notes)
    audit = audit_of(tmp_path, "--effort", "compare", "--devices", "cpu", "train.py", status=0)
    assert audit.runs[0].device == "cpu"
    assert not any("--devices cpu" in text_of(note) for note in audit.notes)
    assert (Path(audit.runs[0].path) / "stdout").read_text() == "cuda:0\n"


@WITHOUT_GPU
@pytest.mark.torch
def test_a_missing_device_is_refused_before_anything_runs(tmp_path: Path) -> None:
    write(tmp_path, train="raise SystemExit('it ran')")
    for words, slug in (
        (("--devices", "cpu,cuda"), "device-unavailable"),
        (("--shadow", "cuda"), "device-unavailable"),
        (("--shadow", "float16"), "no-such-reference"),
        (("--shadow", "cpu:avx2"), "no-such-reference"),
        (("--devices", "tpu"), "no-such-device"),
    ):
        done = audited(tmp_path, *words, "train.py")
        assert done.status == 2
        assert f"[{slug}]" in done.said
        assert "it ran" not in done.said
        assert "Traceback" not in done.said
