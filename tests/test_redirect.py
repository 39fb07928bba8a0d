"""Running on another device than the script names: CUDA emulated on the CPU, a CPU script moved, and equal random numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from auditor.launch import launch
from auditor.pipeline.reruns import Silent
from auditor.plan import Plan
from auditor.record.redirect import draws, move
from auditor.trace.reader import Trace, opened
from tests.processes import Ended, bare, kept, write

pytestmark = pytest.mark.torch

#: A whole training script. Its device names are between `<` and `>`, as CUDA | as the CPU.
TRAINING = """
    import copy, hashlib, sys, warnings
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    warnings.simplefilter("error")
    torch.manual_seed(0)
    <torch.cuda.manual_seed_all(1)|pass>
    device = torch.device(<"cuda"|"cpu">)


    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 24

        def __getitem__(self, k):
            return torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(k)) + torch.rand(1), k % 3


    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.last = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 3)
            self.block = nn.Sequential(nn.Linear(144, 144), nn.GELU(), nn.Dropout(0.3))

        def forward(self, x):
            x = F.dropout(F.relu(self.norm(self.conv(x))), 0.2, self.training).flatten(1)
            return self.last(checkpoint(self.block, x, use_reentrant=False))


    loader = torch.utils.data.DataLoader(Data(), 8, shuffle=True, num_workers=2, pin_memory=<True|False>)
    model = Net().to(device)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01<|, foreach=True>)
    scaler = torch.amp.GradScaler(<"cuda"|"cpu">)
    for epoch in range(2):
        before = {name: value<.cpu()|.clone()> for name, value in model.state_dict().items()}
        for x, y in loader:
            <assert x.is_pinned() and not x.is_cuda|pass>
            x, y = x.to(device, non_blocking=True), y<.cuda(non_blocking=True)|>
            optimizer.zero_grad()
            with torch.autocast(<"cuda"|"cpu">, dtype=torch.bfloat16):
                loss = F.cross_entropy(model(x).float(), y) + F.one_hot(y, 3).float().std()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            with torch.no_grad():
                for a, b in zip(average.parameters(), model.parameters()):
                    a.mul_(0.9).add_(b, alpha=0.1)
        torch.save({"model": model.state_dict(), "states": [torch.get_rng_state()]}, "checkpoint.pt")
        model.load_state_dict(torch.load("checkpoint.pt", map_location=<"cuda"|"cpu">)["model"])
    assert not torch.equal(before["conv.weight"], model.conv.weight<.cpu()|>), "a snapshot that changes with the model"
    noise = torch.randn(4, device=device)
    print({str(tensor.device) for tensor in [*model.parameters(), *(p.grad for p in model.parameters()), loss, noise]}, file=sys.stderr)
    total = hashlib.sha256()
    for value in [*model.state_dict().values(), *average.state_dict().values(), noise, loss.detach(), torch.get_rng_state()]:
        total.update(value<.cpu()|>.numpy().tobytes())
    print(total.hexdigest())
    """


def on(folder: Path, within: dict[str, Any], script: str = "train.py") -> tuple[Ended, Trace]:
    """The exit of a script that was run on a device, and the run."""
    run = folder / "-".join(map(str, within.values()))
    launch(Plan((script,), cwd=str(folder)).with_device("other", (), within), run, "one", "device", Silent(), quiet=True)
    return kept(run), opened(run)


def lost_in(trace: Trace) -> list[str]:
    """What a run reports as missed."""
    return [event["what"] for lane in trace.lanes.values() for event in lane.events_of("lost")]


def answers(folder: Path, within: dict[str, Any], source: str) -> tuple[dict[str, Any], Trace]:
    """The JSON that a script printed."""
    write(folder, train=source)
    ended, trace = on(folder, within)
    assert ended.status == 0, ended.said
    found: dict[str, Any] = json.loads(ended.out)
    return found, trace


# A script that says cuda, on the CPU


def test_a_cuda_training_script_ends_on_the_cpu_with_the_weights_of_its_cpu_version(tmp_path: Path) -> None:
    write(tmp_path, train=re.sub(r"<([^|<>]*)\|([^|<>]*)>", r"\1", TRAINING), plain=re.sub(r"<([^|<>]*)\|([^|<>]*)>", r"\2", TRAINING))
    expected = bare(tmp_path, "plain.py")
    ended, trace = on(tmp_path, {"kind": "cpu"})
    assert (expected.status, ended.status) == (0, 0), expected.said + ended.said
    assert ended.out == expected.out
    assert ended.said.strip() == "{'cuda:0'}"
    assert lost_in(trace) == []
    assert len(trace.lanes) > 2, "the workers were not recorded"
    ops = {row["op"] for row in trace.lanes["main"].query("SELECT DISTINCT op FROM records")}
    assert any(op.startswith("aten._foreach_") for op in ops if op), "the optimizer chose its CPU implementation"
    # batches are unpacked in the order in which workers send them, which is not part of what the script does
    source = (tmp_path / "train.py").read_text().splitlines()
    at = next(line for line, text in enumerate(source, 1) if "in loader:" in text)
    made = [row["op"] for row in trace.lanes["main"].query("SELECT op FROM records WHERE line = ? AND kind = 'op'", at)]
    # memory for the seeds of the loader and of the order, and none for each batch
    assert made.count("aten.empty.memory_format") == made.count("aten.random_.default") > 0, made


FACTS = """
    import copy, io, json, threading, traceback
    import numpy as np
    import torch

    facts = {}
    x = torch.zeros(3)
    c = x.cuda()


    def failure(act):
        try:
            act()
        except Exception as error:
            return [type(error).__name__, str(error)[:60], [frame.name for frame in traceback.extract_tb(error.__traceback__)][1:]]


    def device(act):
        return str(act().device)


    facts["aliases"] = [c.to("cuda") is c, c.cuda() is c, c.to(0) is c, c.to(torch.float32) is c, x.cpu() is x]
    facts["aliases"] += [c.detach().to("cuda:0").data_ptr() == c.data_ptr()]
    facts["copies"] = [c.cpu().data_ptr() != c.data_ptr(), x.to("cuda").data_ptr() != x.data_ptr(), c.to("cuda", copy=True) is not c]
    facts["says"] = [c.is_cuda, c.is_cpu, x.is_cuda, c.get_device(), x.get_device(), c.type(), type(c) is torch.Tensor, repr(c)]
    made = {
        "int": lambda: torch.zeros(3, device=0),
        "index": lambda: x.to("cuda:1"),
        "tensor": lambda: torch.tensor([1.0], device="cuda"),
        "numpy": lambda: torch.as_tensor(np.ones(3), device="cuda"),
        "like": lambda: torch.zeros_like(c),
        "new": lambda: c.new_tensor([1]),
        "empty": lambda: c.new_empty(3),
        "one_hot": lambda: torch.nn.functional.one_hot(torch.arange(3, device="cuda")),
        "where": lambda: torch.where(c > 0, c, 0.0),
        "other": lambda: x.to(c),
        "deepcopy": lambda: copy.deepcopy(c),
        "view": lambda: c[1:].view(2, 1),
        "parameter": lambda: torch.nn.Parameter(c),
        "module": lambda: torch.nn.LSTM(2, 2).cuda().weight_hh_l0,
        "sparse": lambda: torch.eye(3, device="cuda").to_sparse(),
        "type": lambda: x.type("torch.cuda.DoubleTensor"),
        "lengths": lambda: torch.nn.functional.ctc_loss(
            torch.randn(5, 1, 3, device="cuda").log_softmax(2), torch.tensor([[1, 2]]), torch.tensor([5]), torch.tensor([2])
        ),
        "0-dim": lambda: c + torch.tensor(1.0),
        "generator": lambda: torch.randn(2, device="cuda", generator=torch.Generator(device="cuda").manual_seed(1)),
    }
    facts["cuda"] = {name: device(act) for name, act in made.items()}
    facts["cpu"] = [device(lambda: torch.zeros_like(c, device="cpu")), device(lambda: c.to(x)), device(lambda: x + 1)]
    facts["cpu"] += [device(lambda: x.pin_memory())]
    facts["meta"] = device(lambda: c.to("meta"))
    with torch.device("cuda"):
        facts["with"] = [device(lambda: torch.zeros(1)), device(lambda: torch.tensor([1.0])), device(lambda: torch.nn.Linear(1, 1).weight)]
    torch.set_default_device("cuda")
    facts["default"] = [device(lambda: torch.ones(1)), device(lambda: torch.as_tensor([1.0])), str(torch.get_default_device())]
    torch.set_default_device(None)
    file = io.BytesIO()
    torch.save({"c": c, "x": x}, file)
    loaded = []
    for where in (None, "cpu", "cuda:1", {"cuda:0": "cpu"}):
        file.seek(0)
        loaded.append([str(t.device) for t in torch.load(file, map_location=where).values()])
    facts["loaded"] = loaded
    facts["refused"] = [failure(lambda: c + x), failure(lambda: c.numpy()), failure(lambda: np.asarray(c))]
    facts["refused"] += [failure(torch.cuda.CUDAGraph)]
    own = torch.Generator("cuda")
    facts["random"] = [isinstance(own, torch.Generator), isinstance(torch.default_generator, torch.Generator), str(own.device)]
    found = []
    thread = threading.Thread(target=lambda: found.append(device(lambda: torch.ones(2, device="cuda") * 2)))
    thread.start()
    thread.join()
    facts["thread"] = found
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with torch.cuda.stream(torch.cuda.Stream()), torch.cuda.device(0):
        start.record()
        torch.cuda.current_stream().wait_event(start)
    end.record()
    torch.cuda.synchronize()
    facts["asked"] = [
        torch.cuda.is_available(), torch.cuda.device_count(), torch.cuda.is_bf16_supported(), torch.cuda.max_memory_allocated(),
        torch.cuda.get_device_properties(0).major, torch.cuda.get_device_capability()[0], start.elapsed_time(end) >= 0,
        str(torch.accelerator.current_accelerator()),
    ]
    q = torch.ones(4, device="cuda", requires_grad=True)
    (q[1:3] ** 2).sum().backward()
    facts["gradient"] = device(lambda: q.grad)
    with torch.autocast("cuda"):
        half = c[:, None] @ c[None]
        kept = half.softmax(0), half.sum(), half.exp(), torch.nn.functional.layer_norm(half, (3,)), half.float().softmax(0)
        facts["autocast"] = [str(half.dtype), str(half.mv(half[0]).dtype), *{str(tensor.dtype) for tensor in kept}]
    with torch.autocast("cpu"):
        facts["autocast on the CPU"] = str((x[:, None] @ x[None]).softmax(0).dtype)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 2, 4, device="cuda"), [5, 3])
    facts["packed"] = [str(packed.data.device), str(packed.batch_sizes.device), device(lambda: torch.nn.GRU(4, 4).cuda()(packed)[0].data)]
    double = torch.compile(lambda t: t * 2)
    facts["compiled"] = device(lambda: double(c))
    facts["parallel"] = device(lambda: torch.nn.DataParallel(torch.nn.Linear(3, 1).cuda())(x))
    torch.distributed.init_process_group("nccl", store=torch.distributed.HashStore(), rank=0, world_size=1)
    torch.distributed.all_reduce(c)
    facts["process group"] = torch.distributed.get_backend()
    torch.distributed.destroy_process_group()
    print(json.dumps(facts))
    """


def test_device_queries_are_answered_and_errors_have_no_frame_of_the_recorder(tmp_path: Path) -> None:
    facts, trace = answers(tmp_path, {"kind": "cpu"}, FACTS)
    assert all(facts["aliases"]), facts["aliases"]
    assert all(facts["copies"]), facts["copies"]
    assert facts["says"] == [True, False, False, 0, -1, "torch.cuda.FloatTensor", True, "tensor([0., 0., 0.], device='cuda:0')"]
    assert facts["cuda"] == {name: "cuda:1" if name == "index" else "cuda:0" for name in facts["cuda"]}
    assert len(facts["cuda"]) == 19
    assert facts["cpu"] == ["cpu"] * 4
    assert facts["meta"] == "meta"
    assert facts["with"] == ["cuda:0"] * 3
    assert facts["default"] == ["cuda:0"] * 3
    assert facts["loaded"] == [["cuda:0", "cpu"], ["cpu", "cpu"], ["cuda:1", "cuda:1"], ["cpu", "cpu"]]
    mixed, numpy, asarray, graph = facts["refused"]
    assert mixed == ["RuntimeError", "Expected all tensors to be on the same device, but found at least two devices"[:60], ["<lambda>"]]
    assert numpy == ["TypeError", "can't convert cuda:0 device type tensor to numpy. Use Tensor"[:60], ["<lambda>"]]
    assert asarray[2] == ["<lambda>", "__array__"]
    assert graph[0] == "RuntimeError"
    assert graph[2] == []
    assert facts["random"] == [True, True, "cuda:0"]
    assert facts["thread"] == ["cuda:0"]
    assert facts["asked"] == [True, 1, True, 0, 8, 8, True, "cuda"]
    assert facts["autocast"] == ["torch.float16", "torch.float16", "torch.float32"]
    assert facts["autocast on the CPU"] == "torch.bfloat16"
    assert facts["packed"] == ["cuda:0", "cpu", "cuda:0"]
    assert facts["gradient"] == facts["compiled"] == facts["parallel"] == "cuda:0"
    assert facts["process group"] == "gloo"
    said = lost_in(trace)
    assert sorted(what.partition(":")[0] for what in said) == ["the NCCL backend", "torch.compile", "torch.cuda.CUDAGraph"]


def test_a_script_that_checks_for_a_gpu_gets_the_answer_of_the_setting(tmp_path: Path) -> None:
    source = """
        import json
        import torch

        asked = [torch.cuda.is_available(), torch.cuda.device_count(), torch.accelerator.is_available(), torch.backends.mkldnn.enabled]
        model = torch.nn.Linear(2, 2).cuda()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            out = model(torch.ones(1, 2, device="cuda"))
        torch.cuda.manual_seed_all(3)
        drawn = torch.rand(1, device="cuda").item()
        same = torch.rand(1, generator=torch.Generator().manual_seed(3)).item()
        print(json.dumps([asked, torch.cuda.is_available(), str(out.device), str(out.dtype), drawn == same]))
        """
    write(tmp_path, train=source)
    ended, trace = on(tmp_path, {"kind": "cpu", "available": False, "mkldnn": False})
    assert ended.status == 0, ended.said
    # what is used without a check exists; the device's seed is that of the only stream, where nothing else seeds it
    assert json.loads(ended.out) == [[False, 0, False, False], False, "cuda:0", "torch.bfloat16", True]
    assert lost_in(trace) == []


# A script written for the CPU


PLAIN = """
    import copy, hashlib, sys
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.manual_seed(0)
    seen = set()
    images = torch.from_numpy(np.random.RandomState(0).randn(24, 10).astype(np.float32))
    labels = torch.tensor([k % 3 for k in range(24)])
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), 8, shuffle=True, num_workers=2)


    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.drop, self.last = nn.Linear(10, 20), nn.Dropout(0.3), nn.Linear(20, 3)
            self.register_buffer("scale", torch.Tensor([2.0]))

        def forward(self, x):
            hidden = self.drop(F.relu(self.first(x)))
            seen.add(hidden.device)
            return self.last(hidden) * self.scale


    device = torch.device("cpu")
    model = Net().to(device)
    average = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, foreach=False)
    bias = torch.zeros(3, requires_grad=True)
    losses = []
    for epoch in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            weight = torch.tensor([1.0, 2.0, 1.0], device=x.device)
            loss = F.cross_entropy(model(x.to(device)) + bias, y, weight=weight) + torch.from_numpy(np.ones(3, dtype=np.float32)).mean()
            loss.backward()
            with torch.no_grad():
                bias -= 0.1 * bias.grad
                bias.grad = None
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            seen |= {loss.device, bias.device, *(p.grad.device for p in model.parameters()), *(p.device for p in model.parameters())}
            with torch.no_grad():
                for a, b in zip(average.parameters(), model.parameters()):
                    a.mul_(0.9).add_(b, alpha=0.1)
        torch.save(model.state_dict(), "checkpoint.pt")
        model.load_state_dict(torch.load("checkpoint.pt", map_location="cpu"))
    noise = torch.randn(4)
    assert np.asarray(loss.detach()).item() == losses[-1] == loss.tolist()
    print(sorted(map(str, seen)), file=sys.stderr)
    total = hashlib.sha256()
    for value in [*model.state_dict().values(), *average.state_dict().values(), bias, noise, loss, torch.get_rng_state()]:
        total.update(value.detach().cpu().numpy().tobytes())
    print(total.hexdigest(), losses)
    if "raise" not in sys.argv:
        torch.ones(2) @ torch.ones(3)
    """


def test_a_cpu_script_is_unchanged_by_default_and_computes_the_same_when_moved(tmp_path: Path) -> None:
    write(tmp_path, train=PLAIN)
    expected = bare(tmp_path, "train.py")
    assert expected.status == 1
    assert "size mismatch" in expected.said or "inconsistent tensor size" in expected.said, expected.said

    here, trace = on(tmp_path, {"kind": "cpu"})
    assert here == expected  # its output, and its final traceback
    assert lost_in(trace) == []

    moved, trace = on(tmp_path, {"kind": "cuda", "pretended": True})
    assert moved.out == expected.out
    assert moved.said == expected.said.replace("['cpu']", "['cuda:0']", 1)
    assert lost_in(trace) == ["memory shared with NumPy: on another device it is copied, both ways"]


def test_a_script_that_names_cuda_keeps_its_devices_except_the_index(tmp_path: Path) -> None:
    source = """
        import json
        import torch

        model = torch.nn.Linear(2, 2)
        first = str(model.weight.device)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        kept = model.weight.detach().cpu()
        with torch.no_grad():
            model.weight.add_(1)
        devices = [model.weight, kept, torch.zeros(2), torch.zeros(2, device="cuda"), torch.ones(2).cuda(0), torch.ones(2).to("cuda:3")]
        print(json.dumps([first, torch.equal(kept + 1, model.weight.cpu()), [str(tensor.device) for tensor in devices]]))
        """
    write(tmp_path, train="import model", model=source)
    ended, trace = on(tmp_path, {"kind": "cuda", "pretended": True, "index": 1})
    assert ended.status == 0, ended.said
    # until it named a device it was moved, because its main file names none
    assert json.loads(ended.out) == ["cuda:1", True, ["cuda:1", "cpu", "cpu", "cuda:1", "cuda:1", "cuda:1"]]
    assert lost_in(trace) == []


@pytest.mark.parametrize(
    ("source", "speaks"),
    [
        (b"model.cuda()", True),
        (b"x = 1\ndevice = torch.device('cuda:1')", True),
        (b"device = torch.accelerator.current_accelerator()", True),
        (b"torch.backends.cudnn.benchmark = False", False),
        (b"torch.cuda.manual_seed_all(0)", False),
        (b"model = Net()  # no cuda here", False),
        (b"", False),
    ],
)
def test_a_source_names_devices_if_it_does_more_than_seed_them(source: bytes, speaks: bool) -> None:
    assert move.names_a_device(source, "cuda") is speaks


# Random numbers


class Heard:
    """Keeps what would be written to the trace."""

    def __init__(self) -> None:
        self.lost_things: list[str] = []

    def lost(self, what: str) -> None:
        """Keep it."""
        self.lost_things.append(what)


def drawings() -> list[torch.Tensor]:
    """Draws of all kinds; the last one shows that the stream is in the right state."""
    torch.manual_seed(3)
    own = torch.Generator().manual_seed(5)
    grid = torch.zeros(4, 6)
    leaf = torch.randn(5, requires_grad=True)
    dropped = F.dropout(leaf, 0.4)
    dropped.sum().backward()  # type: ignore[no-untyped-call]  # torch's own
    assert leaf.grad is not None
    return [
        torch.rand(3), torch.randn(2, 3, generator=own), torch.randint(9, (4,)), torch.randperm(5), grid.t().uniform_().clone(),
        grid[:, ::2].normal_().clone(), grid, torch.empty(3).exponential_(), torch.bernoulli(torch.full((5,), 0.3)), torch.rand_like(grid),
        torch.multinomial(torch.ones(6), 3), torch.normal(torch.zeros(3), torch.ones(3)), torch.poisson(torch.ones(3)),
        torch.empty(3, dtype=torch.half).normal_(), dropped, leaf.grad, F.rrelu(torch.randn(5), training=True),
        F.alpha_dropout(torch.randn(6), 0.3, training=True), F.gumbel_softmax(torch.zeros(4)), torch.randn(3, generator=own), torch.rand(1),
    ]  # fmt: skip


def test_draws_redirected_to_the_cpu_give_the_same_numbers_and_stream_state() -> None:
    heard = Heard()
    with torch.random.fork_rng():
        expected = drawings()
        with draws.mode_of(torch, heard, lambda _device: True)():  # type: ignore[arg-type]  # as much of LostEvents as is used
            found = drawings()
        assert len(found) == len(expected) == 21
        for k, (a, b) in enumerate(zip(expected, found, strict=True)):
            assert torch.equal(a, b), k
            assert a.stride() == b.stride(), k
    assert heard.lost_things == []


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_cuda_dropout_uses_the_same_numbers_as_the_cpu(p: float, dtype: torch.dtype) -> None:
    with torch.random.fork_rng():
        x = torch.randn(1000).to(dtype)
        torch.manual_seed(2)
        expected, after = F.dropout(x, p), torch.rand(1)
        torch.manual_seed(2)
        with draws.mode_of(torch, Heard(), lambda _device: True)():  # type: ignore[arg-type]  # likewise
            found, mask = torch.native_dropout(x, p, True)
        assert torch.equal(found, expected)
        assert torch.equal(mask, expected != 0)
        assert mask.dtype is torch.bool
        assert torch.equal(torch.rand(1), after)


def test_untraceable_draws_inside_a_kernel_are_reported_only_if_there_are_any() -> None:
    heard = Heard()
    q = torch.randn(1, 2, 4, 8)
    with torch.random.fork_rng(), draws.mode_of(torch, heard, lambda _device: True)():  # type: ignore[arg-type]  # likewise
        F.scaled_dot_product_attention(q, q, q)
        F.scaled_dot_product_attention(q, q, q, dropout_p=0.5)  # on the CPU it is composed of ops that draw in the same way
    assert heard.lost_things == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_moved_script_computes_the_cpu_result_up_to_rounding(tmp_path: Path) -> None:
    write(tmp_path, train=PLAIN)
    expected = bare(tmp_path, "train.py")
    moved, trace = on(tmp_path, {"kind": "cuda"})
    assert "['cuda:0']" in moved.said
    theirs, ours = (json.loads(ended.out.decode().partition(" ")[2]) for ended in (moved, expected))
    assert theirs == pytest.approx(ours, rel=1e-3)
    assert lost_in(trace) == ["memory shared with NumPy: on another device it is copied, both ways"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_random_numbers_are_those_of_the_cpu() -> None:
    with torch.random.fork_rng():
        x = torch.randn(1000)
        torch.manual_seed(2)
        expected = [F.dropout(x, 0.3), torch.randn(5), torch.randperm(9), torch.rand(1)]
        torch.manual_seed(2)
        with draws.mode_of(torch, Heard(), lambda device: device.type == "cuda")():  # type: ignore[arg-type]  # likewise
            found = [F.dropout(x.cuda(), 0.3), torch.randn(5, device="cuda"), torch.randperm(9, device="cuda"), torch.rand(1)]
        assert [tensor.device.type for tensor in found] == ["cuda", "cuda", "cuda", "cpu"]
        for a, b in zip(expected, found, strict=True):
            assert torch.equal(a, b.cpu())
