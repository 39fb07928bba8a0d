"""The values that a script assigns to names: which are recorded, under which name, in which step; and that the script does not notice."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

import auditor
from auditor.errors import TraceError
from auditor.launch import launch, nothing_recorded
from auditor.plan import Plan
from auditor.record.observers.sketches import Sketcher
from auditor.record.probes.named_values import collected
from auditor.trace import signs
from auditor.trace.names import Series, named_values, told_apart
from auditor.trace.reader import Trace, opened
from tests.processes import bare, write


class _Silent:
    def output(self, stream: int, data: bytes) -> None:
        """Drop it."""

    def progress(self, progress: object) -> None:
        """Drop it."""


def recorded(folder: Path, script: str, run: str = "run", **how: Any) -> Trace:
    """Record the named values of a script."""
    launch(Plan((script,), cwd=str(folder)).with_names(**how), folder / run, run, "control", _Silent(), quiet=True)
    return opened(folder / run)


class Names:
    """The series of one run, by name."""

    def __init__(self, trace: Trace, source: str = "") -> None:
        self.trace = trace
        self.series = named_values(trace)
        lines = enumerate(textwrap.dedent(source).lstrip("\n").splitlines(), 1)
        self._lines = {line.rpartition("  # ")[2]: number for number, line in lines if "  # " in line}

    def __getitem__(self, name: str) -> Series:
        found = [one for one in self.series if one.name == name]
        assert len(found) == 1, f"{name}: {[(one.scope, one.lane) for one in found]}"
        return found[0]

    def __contains__(self, name: str) -> bool:
        return any(one.name == name for one in self.series)

    def line(self, mark: str) -> int:
        """Number of the line with this mark."""
        return self._lines[mark]

    def lost(self) -> list[str]:
        """What was not recorded."""
        return [event["what"] for lane in self.trace.lanes.values() for event in lane.events_of("lost")]


def values(series: Series) -> list[Any]:
    """All values of a name, as Python numbers."""
    found = [series.value(k) for k in range(len(series.order))]
    assert all(one is not None for one in found)
    return [one.tolist() for one in found if one is not None]


NUMPY = """
    import asyncio
    import sys
    import threading
    import numpy as np
    print(sys.gettrace(), threading.gettrace() if hasattr(threading, "gettrace") else None)
    w = np.array([[1.0, 2.0], [3.0, 4.0]])
    b = np.zeros(2); c = np.ones(2, np.float32)
    state = {"m": np.zeros(2), "t": 0, "name": "adam"}
    key = "m"
    losses = []
    lost, = [10.5]
    flag = True
    text = "no number"
    pair = (0.5, 1.5)
    class Net:
        size = 3
        __slots__ = ("v", "seen")
        def __init__(self):
            self.v = np.ones(2)
        @property
        def noticed(self):
            print("a property was asked")
            return 1.0
        def step(self, g):
            self.v -= 0.5 * g
            self.v[0] = 7.0
    class Tied:
        def __init__(self):
            self.rate = 0.25
    net = Net()
    tied = Tied()
    tied.rate *= 2
    Tied.shared = 0.75
    for epoch in range(2):
        for batch, (x, y) in enumerate([(w, 1.0), (w + 1, 2.0)]):
            h = (
                x @ w
                + b
            )  # the end of h
            loss = float(
                (h ** 2).mean())
            losses.append(loss)
            if loss < 0: c = c * 2
            if batch == 1: c = c + 1
            state["t"] += 1
            state[key] = state[key] + 1
            net.step(np.array([1.0, 2.0]))
        after_the_batches = epoch
    w -= 0.1  # w in place
    w.T[0, 1] = 5.0
    w[...] = 2 * w
    np.add(b, 1, out=b)
    b.fill(9.0)
    np.copyto(b, c)
    while lost > 9:
        lost -= 1
    def factorial(n):
        part = 1.0 if n == 0 else n * factorial(n - 1)
        return part
    factorial(3)
    def outer():
        count = 0.0
        def inner():
            nonlocal count
            count = count + 1.5
            global made
            made = count
        inner()
        inner()
        unread = [q for q in range(3)]
        return lambda: count
    outer()
    def coroutine():
        for k in range(2):
            got = yield k
            doubled = got * 2
    going = coroutine()
    next(going)
    for sent in (1.5, 2.5):
        try:
            answer = going.send(sent)
        except StopIteration:
            pass
    sums, parts = 0.0, [0.0]
    for k in range(3): sums += k; parts = [sums + part for part in [0.5, 1.5]]
    while sums < 8: sums += 2.5
    def delegating():
        returned = yield from (lambda: (yield 1))()
        returned = yield from counting()
    def counting():
        yield 2
        return 8.5
    for _ in delegating():
        pass
    async def numbers():
        yield 6.5
        yield 7.5
    async def waiting():
        waited = await asyncio.sleep(0, 5.5)
        async for item in numbers():
            twice = item * 2
    asyncio.run(waiting())
    try:
        failed = 1 / 0
    except ZeroDivisionError:
        failed = -1.0
    if (walrus := 2.25) > 1:
        pass
    exec("executed = 3.0")
    def work():
        in_thread = 4.5
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    big = np.arange(9000.0).reshape(90, 100)
    half = np.float16(0.5)
    odd = np.arange(6.0).reshape(2, 3).T
    swapped = np.array([1.0, 2.0], ">f8")
    words = np.array(["a"])
    huge = 2 ** 80
    z = 1 + 2j
    nan = np.array([1.0, np.nan, np.inf])
    def last():
        x_of_last = 1.25
        raise ValueError("the end")  # raised here
    last()
"""


@pytest.fixture(scope="module")
def numpy_run(tmp_path_factory: pytest.TempPathFactory) -> Names:
    folder = write(tmp_path_factory.mktemp("named"), train=NUMPY)
    return Names(recorded(folder, "train.py"), NUMPY)


def test_a_script_does_not_notice_that_its_names_are_recorded(numpy_run: Names) -> None:
    folder = numpy_run.trace.path.parent
    without = bare(folder, "train.py")
    assert (numpy_run.trace.path / "stdout").read_bytes() == without.out == b"None None\n"
    assert (numpy_run.trace.path / "stderr").read_bytes() == without.err
    assert b"ValueError: the end" in without.err
    assert numpy_run.trace.meta["exit"] == without.status == 1
    assert numpy_run.lost() == []


def test_assignments_are_recorded_in_order_with_line_scope_and_dtype(numpy_run: Names) -> None:
    w = numpy_run["w"]
    assert (w.scope, w.file, w.kind, w.lane, w.dtype[0], w.shape[0]) == ("<module>", "train.py", "variable", "main", "float64", (2, 2))
    assert values(w) == [[[1, 2], [3, 4]], [[0.9, 1.9], [2.9, 3.9]], [[0.9, 1.9], [5, 3.9]], [[1.8, 3.8], [10, 7.8]]]
    assert w.line[1] == numpy_run.line("w in place")
    assert [one.name for one in numpy_run.series[:5]] == ["w", "b", "c", 'state["m"]', 'state["t"]']
    assert list(w.order) == sorted(w.order)
    assert values(numpy_run["pair[0]"]) == [0.5]
    assert values(numpy_run["pair[1]"]) == [1.5]
    assert (numpy_run["half"].dtype, values(numpy_run["half"])) == (["float16"], [0.5])
    assert values(numpy_run["odd"]) == [[[0, 3], [1, 4], [2, 5]]]
    assert values(numpy_run["swapped"]) == [[1.0, 2.0]]
    assert values(numpy_run["z"]) == [1 + 2j]
    assert values(numpy_run["walrus"]) == [2.25]


def test_non_numbers_and_assignments_outside_the_script_are_not_recorded(numpy_run: Names) -> None:
    silent = ("flag", "text", 'state["name"]', "epoch", "batch", "q", "executed", "words", "huge", "net", "thread", "unread", "n", "key")
    assert [name for name in silent if name in numpy_run] == []


def test_a_multi_line_statement_is_recorded_once_when_it_is_done(numpy_run: Names) -> None:
    h, loss = numpy_run["h"], numpy_run["loss"]
    assert len(h.order) == len(loss.order) == 4
    assert values(h)[0] == [[7, 10], [15, 22]]
    assert values(loss)[0] == (49 + 100 + 225 + 484) / 4


def test_a_conditional_assignment_is_recorded_when_it_happens(numpy_run: Names) -> None:
    assert values(numpy_run["c"]) == [[1, 1], [2, 2], [3, 3]]
    assert values(numpy_run["lost"]) == [10.5, 9.5, 8.5]
    assert values(numpy_run["sums"]) == [0, 0, 1, 3, 5.5, 8], "in loops of one line"
    assert values(numpy_run["parts[1]"]) == [1.5, 2.5, 4.5]


def test_attributes_entries_and_lists_have_paths(numpy_run: Names) -> None:
    assert values(numpy_run['state["m"]']) == [[k, k] for k in range(5)]
    assert values(numpy_run['state["t"]']) == [0, 1, 2, 3, 4]
    assert values(numpy_run["losses[3]"]) == values(numpy_run["loss"])[3:]
    v = numpy_run["self.v"]
    assert (v.scope, values(v)[:3]) == ("Net", [[1, 1], [0.5, 0], [7, 0]])
    assert values(numpy_run["self.rate"]) == [0.25]
    assert values(numpy_run["tied.rate"]) == [0.5]
    assert values(numpy_run["Tied.shared"]) == [0.75]
    assert (numpy_run["size"].scope, values(numpy_run["size"])) == ("Net", [3])


def test_in_place_calls_record_the_value_that_they_write(numpy_run: Names) -> None:
    assert values(numpy_run["b"]) == [[0, 0], [1, 1], [9, 9], [3, 3]]


def test_loop_targets_are_recorded_unless_they_only_count(numpy_run: Names) -> None:
    assert values(numpy_run["y"]) == [1, 2, 1, 2]
    assert values(numpy_run["sent"]) == [1.5, 2.5]
    assert len(numpy_run["x"].order) == 4


def test_without_torch_a_step_is_an_iteration_of_the_innermost_loop(numpy_run: Names) -> None:
    assert list(numpy_run["h"].step) == list(numpy_run["x"].step) == [0, 1, 2, 3]
    assert list(numpy_run["after_the_batches"].step) == [0, 1]
    assert list(numpy_run["w"].step[:1]) == [0]
    assert list(numpy_run["self.v"].step) == [0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_recursion_closures_generators_and_errors_keep_names_separate(numpy_run: Names) -> None:
    assert values(numpy_run["part"]) == [1, 1, 2, 6]
    count, made = numpy_run["count"], numpy_run["made"]
    assert (count.scope, values(count)) == ("outer", [0, 1.5, 3])
    assert (made.scope, values(made)) == ("<module>", [1.5, 3])
    assert values(numpy_run["got"]) == [1.5, 2.5]
    assert values(numpy_run["doubled"]) == [3, 5]
    assert values(numpy_run["answer"]) == [1]
    assert values(numpy_run["returned"]) == [8.5]
    assert values(numpy_run["waited"]) == [5.5]
    assert (values(numpy_run["item"]), values(numpy_run["twice"])) == ([6.5, 7.5], [13, 15])
    assert values(numpy_run["failed"]) == [-1]
    assert values(numpy_run["x_of_last"]) == [1.25]


def test_each_thread_has_its_own_lane(numpy_run: Names) -> None:
    inside = numpy_run["in_thread"]
    assert (inside.lane, inside.scope, values(inside)) == ("thread 1", "work", [4.5])


def test_a_large_value_is_kept_as_a_digest_and_a_sketch(numpy_run: Names) -> None:
    big, made = numpy_run["big"], np.arange(9000.0).reshape(90, 100)
    assert big.value(0) is None
    assert big.shape == [(90, 100)]
    assert int(big.digest[0]) == xxh3_64_intdigest(made.tobytes())
    assert (big.norm[0], big.largest[0], big.total[0]) == pytest.approx((np.linalg.norm(made), 8999, made.sum()))
    np.testing.assert_allclose(big.sums[0], signs.sums_of(np, made.reshape(-1)))
    np.testing.assert_allclose(big.turned[0], signs.sums_of(np, made.T.reshape(-1)))


def test_a_value_kept_whole_is_measured_when_it_is_read(numpy_run: Names) -> None:
    w, nan = numpy_run["w"], numpy_run["nan"]
    first = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert int(w.digest[0]) == xxh3_64_intdigest(first.tobytes())
    assert (w.norm[0], w.largest[0], w.total[0]) == pytest.approx((np.sqrt(30), 4, 10))
    np.testing.assert_allclose(w.sums[0], signs.sums_of(np, first.reshape(-1)))
    np.testing.assert_allclose(w.turned[0], signs.sums_of(np, first.T.reshape(-1)))
    assert (nan.nonfinite[0], nan.norm[0], nan.total[0]) == (2, 1, 1)
    assert np.isnan(nan.turned).all()


TORCH = """
    import os
    import sys
    import weakref
    import numpy as np
    import torch
    from torch import nn
    torch.set_num_threads(1)
    torch.manual_seed(3)
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)
            self.scale = nn.Parameter(torch.ones(1))
        @property
        def weight(self):
            print("a property was asked")
        def forward(self, x):
            h = torch.tanh(self.fc(x))
            return h.sum() * self.scale
    class Wrapped(torch.Tensor):
        pass
    class Mode(torch.overrides.TorchFunctionMode):
        seen = []
        def __torch_function__(self, func, types, args=(), kwargs=None):
            Mode.seen.append(getattr(func, "__name__", str(func)))
            return func(*args, **(kwargs or {}))
    model = Net()
    other_name = model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    w1 = torch.from_numpy(np.ones((3, 3), np.float32))
    w1.requires_grad = True
    b1 = torch.zeros(3).requires_grad_()
    for epoch in range(2):
        for k in range(2):
            x = torch.randn(4, 3)
            loss = model(x @ w1 + b1)
            optimizer.zero_grad()
            loss.backward()  # backward
            optimizer.step()  # the step
            w1.data -= 0.5 * w1.grad.data
            with torch.no_grad():
                for p in (b1,):
                    p -= 0.5 * p.grad
            w1.grad.zero_()
            b1.grad = None
    nn.init.zeros_(model.fc.bias)
    w1.grad = None
    optimizer.zero_grad()
    C, W = torch.ones(2), torch.full((3,), 2.0)
    both = [C, W]
    for leaf in both:
        leaf.requires_grad = True
    def update():
        for leaf in both:
            leaf.data += -0.25 * leaf.grad  # of both
    (C.sum() + (W * W).sum()).backward()
    update()
    turned = x.t()
    narrow = x.to(torch.bfloat16)
    large = torch.arange(8192.0).reshape(64, 128)
    wrapped = torch.ones(2).as_subclass(Wrapped)
    sparse = torch.eye(2).to_sparse()
    meta = torch.empty(3, device="meta")
    with Mode():
        under_a_mode = torch.ones(2)
        below = 1
    print(Mode.seen)
    def lives():
        local = torch.ones(5)
        reference = weakref.ref(local)
        del local
        alive = reference() is not None
        print("alive" if alive else "gone", flush=True)
    lives()
    squares = torch.func.vmap(lambda v: v * v)(torch.ones(2))
    def mapped(v):
        inside = v * 2
        return inside
    torch.func.vmap(mapped)(torch.ones(2))
    if os.fork() == 0:
        in_the_child = 2.5
        in_the_child = 3.5
        sys.stdout.flush()
        os._exit(0)
    os.wait()
    in_the_parent = 1.5
    print(x.sum().item(), torch.randn(1).item(), loss.grad_fn.name(), w1._version, model.fc.weight._version, x.requires_grad)
    print([p.sum().item() for p in model.parameters()], w1.tolist())
"""


@pytest.fixture(scope="module")
def torch_run(tmp_path_factory: pytest.TempPathFactory) -> Names:
    folder = write(tmp_path_factory.mktemp("named"), train=TORCH)
    return Names(recorded(folder, "train.py"), TORCH)


def test_graphs_streams_versions_and_lifetimes_of_tensors_are_unchanged(torch_run: Names) -> None:
    without = bare(torch_run.trace.path.parent, "train.py")
    assert without.status == torch_run.trace.meta["exit"] == 0, without.said
    out = (torch_run.trace.path / "stdout").read_text()
    assert out == without.out.decode()
    assert "gone" in out
    assert "a property" not in out
    assert torch_run.lost() == []


def test_parameters_are_recorded_when_the_module_is_named_and_at_each_step(torch_run: Names) -> None:
    weight, bias = torch_run["model.fc.weight"], torch_run["model.fc.bias"]
    assert (weight.kind, weight.scope, weight.shape[0]) == ("parameter", "<module>", (2, 3))
    assert list(weight.step) == [0, 0, 1, 2, 3]
    assert list(weight.line[1:]) == [torch_run.line("the step")] * 4
    assert values(bias)[-1] == [0, 0]  # written by a function of nn.init
    assert len(bias.order) == 6
    assert [one.name for one in torch_run.series if one.name.startswith("other_name")] == []


def test_gradients_of_all_named_leaves_are_recorded_after_each_backward_pass(torch_run: Names) -> None:
    for name in ("model.fc.weight.grad", "model.scale.grad", "w1.grad", "b1.grad"):
        gradient = torch_run[name]
        assert (gradient.kind, list(gradient.step), set(gradient.line)) == ("gradient", [0, 1, 2, 3], {torch_run.line("backward")})
    first, second = (np.array(one) for one in values(torch_run["w1"])[:2])
    np.testing.assert_allclose(first - second, 0.5 * np.array(values(torch_run["w1.grad"])[0]), atol=1e-6)
    weights = [np.array(one) for one in values(torch_run["model.fc.weight"])]
    np.testing.assert_allclose(weights[0] - weights[1], 0.1 * np.array(values(torch_run["model.fc.weight.grad"])[0]), atol=1e-6)


def test_a_leaf_renamed_by_a_loop_is_recorded_under_its_own_name(torch_run: Names) -> None:
    assert "p" not in torch_run
    assert list(torch_run["b1"].step) == [0, 0, 1, 2, 3]


def test_leaves_made_in_a_loop_keep_their_names(torch_run: Names) -> None:
    assert values(torch_run["C"]) == [[1, 1], [0.75, 0.75]]
    assert values(torch_run["W"]) == [[2, 2, 2], [1, 1, 1]]
    assert torch_run["W"].line[-1] == torch_run.line("of both")
    assert values(torch_run["W.grad"]) == [[4, 4, 4]]
    assert values(torch_run["both[1]"]) == [[2, 2, 2]], "another name for it"
    assert [name for name in ("leaf.grad", "both[0].grad") if name in torch_run] == []


def test_with_torch_a_step_is_an_optimizer_step_and_ends_with_the_iteration(torch_run: Names) -> None:
    assert list(torch_run["x"].step) == list(torch_run["loss"].step) == list(torch_run["h"].step) == [0, 1, 2, 3]
    assert list(torch_run["w1"].step) == [0, 0, 1, 2, 3]


def test_tensors_are_read_in_logical_order_for_every_dtype(torch_run: Names) -> None:
    x = np.array(values(torch_run["x"])[-1])
    assert values(torch_run["turned"]) == [x.T.tolist()]
    assert torch_run["narrow"].dtype == ["bfloat16"]
    np.testing.assert_allclose(values(torch_run["narrow"])[0], x, rtol=2**-8)
    large, made = torch_run["large"], np.arange(8192.0).reshape(64, 128)
    assert (large.value(0), large.norm[0], large.total[0]) == (None, pytest.approx(np.linalg.norm(made)), made.sum())
    np.testing.assert_allclose(large.turned[0], signs.sums_of(np, made.T.reshape(-1)))
    assert values(torch_run["sparse"]) == [[[1, 0], [0, 1]]]
    assert [name for name in ("wrapped", "meta", "inside") if name in torch_run] == []


def test_a_forked_process_writes_to_its_own_files(torch_run: Names) -> None:
    assert (torch_run["in_the_child"].lane, values(torch_run["in_the_child"])) == ("fork 1", [2.5, 3.5])
    assert values(torch_run["in_the_parent"]) == [1.5]


OTHER_NAMES = """
    import weakref
    import numpy as np

    class Net:
        def __init__(self):
            self.w = np.ones((2, 2))
            self.parts = [np.zeros(3), np.ones(3)]

        def arrays(self):
            return [self.w, *self.parts]

    class Sgd:
        def __init__(self, of):
            self.of = of

        def step(self):
            for p in self.of:
                p -= 0.5  # step

    def halved(w):
        w *= 0.5  # halved

    def main():
        v, gone = np.ones(4), np.ones(5)
        seen = weakref.ref(gone)
        halved(v)
        halved(gone)
        del gone
        print(seen())
        return v

    def whole():
        for p, g in zip([w1, b1], (0.0, 1.0)):
            p += g  # whole

    w1, b1 = np.ones((3, 3)), np.zeros(3)
    state = {"m": [np.ones(2)]}
    net = Net()
    sgd = Sgd([w1, b1])
    for k in range(2):
        for w, g in zip((w1, b1), (2.0, 3.0)):
            w -= g  # loop
        for p in [*state["m"], *net.arrays()]:
            p += 1  # entries
        sgd.step()
        whole()
    kept = main()
    net.w = w1 * 0
    other = net.parts[0]
    other += 1  # copied
    fresh = np.ones(2)
    fresh += 1  # fresh
    """


def test_a_write_through_another_name_is_recorded_for_all_names(tmp_path: Path) -> None:
    write(tmp_path, other=OTHER_NAMES)
    run = Names(recorded(tmp_path, "other.py"), OTHER_NAMES)

    assert run["w1"].line.tolist()[1:] == 2 * [run.line("loop"), run.line("step"), run.line("whole")]
    assert [value[0][0] for value in values(run["w1"])] == [1, -1, -1.5, -1.5, -3.5, -4.0, -4.0]
    assert values(run["b1"])[-1] == [-5, -5, -5]
    assert values(run["self.of[1]"]) == values(run["b1"])
    assert [value[0] for value in values(run['state["m"][0]'])] == [1, 2, 3]
    assert [np.ravel(value)[0] for value in values(run["self.w"])] == [1, 2, 3], "the current value is recorded where it is assigned"
    assert [np.ravel(value)[0] for value in values(run["net.w"])] == [0], "before, it had no value of this name"
    assert [value[0] for value in values(run["self.parts[0]"])] == [0, 1, 2, 3]
    assert run["self.parts[0]"].line.tolist()[-1] == run.line("copied")
    (v,) = [one for one in run.series if one.scope == "main" and one.name == "v"]
    assert (v.line.tolist()[1:], values(v)) == ([run.line("halved")], [[1.0] * 4, [0.5] * 4])
    assert [value[0] for value in values(run["fresh"])] == [1, 2]
    assert (tmp_path / "run" / "stdout").read_text() == "None\n", "an array that the caller released is freed"


OPS = """
    import torch

    library = torch.library.Library("mylib", "FRAGMENT")
    library.define("fused_adam(Tensor(a!) p, Tensor g, Tensor(b!) m) -> ()")

    def fused_adam(p, g, m):
        m.numpy()[:] = m.numpy() + g.numpy()
        p.numpy()[:] = p.numpy() - m.numpy()

    library.impl("fused_adam", fused_adam, "CPU")

    def main():
        w, g, m = torch.zeros(2), torch.ones(2), torch.zeros(2)
        for _ in range(2):
            torch.ops.mylib.fused_adam(w, g, m)  # step
        w.atan2_(g)  # turned

    main()
    """


@pytest.mark.torch
def test_an_extension_op_that_writes_gives_a_new_value(tmp_path: Path) -> None:
    write(tmp_path, train=OPS)
    names = recorded(tmp_path, "train.py")
    found = {one.name: one for one in named_values(names) if one.scope == "main" and one.name in ("w", "g", "m")}
    assert values(found["w"])[:3] == [[0.0, 0.0], [-1.0, -1.0], [-3.0, -3.0]]
    assert len(values(found["w"])) == 4
    assert values(found["m"]) == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
    assert values(found["g"]) == [[1.0, 1.0]]


OBJECTS = """
    import copy
    import random
    from dataclasses import dataclass
    from typing import NamedTuple
    import numpy as np

    class Batch(NamedTuple):
        x: np.ndarray
        y: float

    @dataclass
    class Param:
        value: np.ndarray
        velocity: np.ndarray = None
        rate: float = 0.5
        def __post_init__(self):
            self.velocity = np.zeros_like(self.value)

    class Dense:
        def __init__(self, w):
            self.w = np.full(2, w)
        def __getattr__(self, name):
            print("asked for", name)
            raise AttributeError(name)
        def step(self, x):
            self.x = x
            self.w -= 1.0  # stepped

    class Meter:
        def __init__(self):
            self.total = 0.0
        def add(self, value):
            self.total += value

    class Net:
        def __init__(self):
            self.first, self.second = Dense(50.0), Dense(60.0)

    class Slotted:
        __slots__ = ("v",)
        def __init__(self, v):
            self.v = v

    layers = []
    for k in range(2):
        layer = Dense(10.0 * (k + 1))
        layers.append(layer)
    params = [Param(np.ones(1)), Param(np.ones(3), rate=0.25)]  # params
    net = Net()
    other = copy.deepcopy(net)
    slots = [Slotted(1.5), Slotted(2.5)]
    history = []
    for step in range(3):
        for one in layers:
            one.step(np.ones(2))
        for p in params:
            p.value = p.value - p.rate
        losses, hits = Meter(), Meter()
        losses.add(2.0 + step)
        hits.add(1.0)
        seen = Meter()
        seen.add(step + 0.5)
        history.append(seen)
        net.second.w = net.second.w + 1
        batch = Batch(np.ones(2) * step, 0.5)
    other.first.w = other.first.w * 2
    table = [[random.random() for _ in range(3)] for _ in range(40)]
    counts = list(range(100))
    words = ["a"] * 100
    """


def test_attributes_of_concurrent_objects_are_separate_but_not_of_successive_ones(tmp_path: Path) -> None:
    write(tmp_path, objects=OBJECTS)
    run = Names(recorded(tmp_path, "objects.py"), OBJECTS)

    assert [value[0] for value in values(run["layers[0].w"])] == [10, 9, 8, 7], "`layer` is the name of both, one after the other"
    assert [value[0] for value in values(run["layers[1].w"])] == [20, 19, 18, 17]
    assert set(run["layers[1].w"].line.tolist()[1:]) == {run.line("stepped")}
    assert len(run["layers[1].x"].order) == 3
    assert [value[0] for value in values(run["params[1].value"])] == [1, 0.75, 0.5, 0.25], "no line of the user's sets the first"
    assert run["params[0].value"].line[0] == run.line("params")
    assert values(run["params[0].velocity"]) == [[0]]
    assert values(run["params[1].rate"]) == [0.25]
    assert values(run["rate"]) == [0.5]
    assert [value[0] for value in values(run["net.second.w"])] == [60, 61, 62, 63]
    assert [value[0] for value in values(run["other.first.w"])] == [50, 100], "a copy has the attributes that it was made with"
    assert values(run["losses.total"]) == [0, 2, 0, 3, 0, 4]
    assert values(run["hits.total"]) == [0, 1] * 3
    assert values(run["seen.total"]) == [0, 0.5, 0, 1.5, 0, 2.5]
    assert values(run["self.v"]) == [1.5, 2.5], "they do not support weak references"
    assert [value[0] for value in values(run["batch.x"])] == [0, 1, 2]
    assert values(run["batch.y"]) == [0.5] * 3
    assert run["table"].shape == [(40, 3)]
    assert values(run["counts"]) == [list(range(100))]
    assert "words" not in run
    assert [name for name in ("self.w", "self.value", "self.total", "p.value") if name in run] == []
    without = bare(tmp_path, "objects.py")
    assert (without.out, without.err) == ((tmp_path / "run" / "stdout").read_bytes(), (tmp_path / "run" / "stderr").read_bytes())


def test_leaves_that_a_loop_puts_into_lists_are_named_by_position() -> None:
    import torch

    def trained() -> None:
        weights, moved = [], []
        for k in range(3):
            w = torch.full((2,), float(k), requires_grad=True)
            weights.append(w)
        alone = torch.ones(2, requires_grad=True)
        moved.append(alone)
        both = [*weights, alone]
        for _ in range(2):
            loss = sum((one * one).sum() for one in both)
            loss.backward()  # type: ignore[union-attr]  # torch has no annotation for it
            for one in both:
                assert one.grad is not None
                one.data -= 0.5 * one.grad
                one.grad = None

    with collected() as got:
        trained()
    found = {one.name: [np.ravel(value)[0] for value in values(one)] for one in got.series()}
    assert {name for name in found if name.endswith(".grad")} == {
        f"{name}.grad" for name in ("weights[0]", "weights[1]", "weights[2]", "alone")
    }
    assert (found["weights[0]"], found["weights[2]"]) == ([0, 0, 0], [2, 0, 0])
    assert found["weights[2].grad"] == [4, 0]
    assert found["alone"] == [1, 0, 0]
    assert [name for name in found if name.startswith(("both", "moved"))] == [], "other names of a value that has one"


def test_a_leaf_keeps_its_first_name_whichever_loop_makes_it_a_leaf() -> None:
    import torch

    class Layer:
        def __init__(self, value: float) -> None:
            self.weight = torch.full((2,), value)
            self.hidden: list[Any] = []
            for k in range(2):
                part = torch.full((2,), value + k)
                self.hidden.append(part)

        def parameters(self) -> list[Any]:
            return [self.weight, *self.hidden]

    def made(count: int) -> list[Any]:
        found = []
        for k in range(count):
            w = torch.full((2,), 10.0 + k)
            found.append(w)
        return found

    def leaves(parts: list[Any]) -> None:
        for p in parts:
            p.requires_grad_()

    def trained() -> None:
        bias = torch.ones(2)
        layers = [Layer(3.0), Layer(4.0)]
        weights = made(2)
        every = [bias, *weights] + [p for layer in layers for p in layer.parameters()]
        leaves(every)
        probe = torch.ones(2)
        probe.requires_grad_()
        for _ in range(2):
            loss = sum((p * p).sum() for p in [*every, probe])
            loss.backward()
            for p in every:
                p.data -= 0.25 * p.grad
                p.grad = None
        probe.grad = None

    with collected() as got:
        trained()
    found = {one.name: [np.ravel(value)[0] for value in values(one)] for one in got.series() if one.name != "p"}
    assert found["bias"] == [1, 0.5, 0.25]
    assert (found["weights[0]"], found["weights[1]"]) == ([10, 5, 2.5], [11, 5.5, 2.75])
    assert (found["layers[0].weight"], found["layers[1].weight"]) == ([3, 1.5, 0.75], [4, 2, 1])
    assert (found["layers[0].hidden[1]"], found["layers[1].hidden[1]"]) == ([4, 2, 1], [5, 2.5, 1.25])
    assert found["layers[1].weight.grad"] == [8, 4]
    assert (found["probe"], found["probe.grad"]) == ([1], [2, 4]), "it has only one name"
    gradients = {name for name in found if name.endswith(".grad")}
    parts = [f"layers[{k}].{part}.grad" for k in range(2) for part in ("weight", "hidden[0]", "hidden[1]")]
    assert gradients == {"bias.grad", "weights[0].grad", "weights[1].grad", "probe.grad", *parts}
    assert got.lost == []


def test_modules_are_named_by_their_holder_and_changed_buffers_are_recorded() -> None:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(2, 2), nn.Linear(2, 2)
            self.bn = nn.BatchNorm1d(2)
            self.register_buffer("mean", torch.zeros(2))
            self.register_buffer("table", torch.arange(3.0))
            self.register_buffer("mask", torch.tensor([True, False]))
            for layer in (self.fc1, self.fc2):
                with torch.no_grad():
                    layer.weight.copy_(torch.eye(2))
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.zeros_(module.bias)
            last = nn.Linear(2, 1)
            nn.init.ones_(last.weight)
            self.last = last

        def forward(self, x: Any) -> Any:
            self.mean.mul_(0.5).add_(0.5)  # type: ignore[operator]  # a buffer
            return self.last(self.fc2(self.bn(self.fc1(x))))

    def made() -> Any:
        inner = nn.Linear(1, 1)
        nn.init.ones_(inner.bias)
        return nn.Sequential(inner, nn.ReLU())

    def trained() -> None:
        one, two = Net(), Net()
        head = made()
        again = made()
        wrapped: Any = nn.Sequential(one)
        with torch.no_grad():
            head[0].weight.copy_(torch.ones(1, 1))
            wrapped[-1].fc1.bias.fill_(0.5)
        parts = nn.ModuleList([one, two, head, again])
        optimizer = torch.optim.SGD(parts.parameters(), lr=0.5)
        for _ in range(2):
            loss = sum(again(head(net(torch.ones(3, 2)))).sum() for net in (one, two))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        one.bn.running_mean.zero_()  # type: ignore[union-attr]

    with collected() as got:
        trained()
    found = {(one.name, one.kind): one for one in got.series()}
    scopes = {one.scope.rpartition("<locals>.")[2]: set[str]() for one in got.series()}
    for one in got.series():
        scopes[one.scope.rpartition("<locals>.")[2]].add(one.name)
    linear = [f"{net}.{layer}.{part}" for net in ("one", "two") for layer in ("fc1", "fc2", "last") for part in ("weight", "bias")]
    for name in [*linear, "head.0.weight", "head.0.bias", "again.0.weight"]:
        assert len(found[name, "parameter"].order) >= 3, name
        assert len(found[f"{name}.grad", "gradient"].order) == 2, name
    assert [values(found["two.fc2.weight", "parameter"])[0], values(found["one.fc1.bias", "parameter"])[:2]] == [
        [[1, 0], [0, 1]], [[0, 0], [0.5, 0.5]],
    ]  # fmt: skip
    assert values(found["head.0.weight", "parameter"])[1] == [[1]]
    seen = [name for name, kind in found if name.startswith(("layer.", "module.", "wrapped.", "parts"))]
    assert seen == [], "other names of a value that has one"
    assert scopes["made"] == {"inner.weight", "inner.bias"}, "their names while they were made"
    mean = found["one.bn.running_mean", "parameter"]
    assert (mean.step.tolist(), values(mean)[0], values(mean)[-1]) == ([0, 0, 1, 1], [0, 0], [0, 0])
    assert values(found["two.bn.running_mean", "parameter"])[1] == pytest.approx([0.1, 0.1])
    assert values(found["two.bn.num_batches_tracked", "parameter"]) == [0, 1, 2]
    assert values(found["two.mean", "parameter"]) == [[0, 0], [0.5, 0.5], [0.75, 0.75]], "written by its own line"
    assert values(found["one.table", "parameter"]) == [[0, 1, 2]], "it does not change"
    assert [name for name, _ in found if name.endswith(("mask", "self.mean"))] == []
    assert got.lost == []


def _entry(number: int, name: str, of: int = 0, **more: Any) -> dict[str, Any]:
    own = {"of": of, "part": name[name.rindex(".") :]} if of else {}
    return {"id": number, "name": name, "scope": "A", "file": "a.py", "kind": "variable", **own, **more}


def _object(number: int, name: str, held: int) -> dict[str, Any]:
    return {"id": number, "name": name, "scope": "<module>", "file": "a.py", "kind": "object", "object": held}


_TWO = [_entry(1, "self.w", 1), _entry(2, "self.w", 2), _object(3, "a", 1)]
_AT_ONCE = {1: (0, 1, 5), 2: (0, 2, 6)}


@pytest.mark.parametrize(
    ("table", "extents", "names"),
    [
        ([*_TWO, _object(4, "b", 2)], _AT_ONCE, "a.w b.w"),
        ([*_TWO, _object(4, "b", 2)], {1: (0, 1, 5), 2: (1, 6, 9)}, "self.w self.w"),
        ([*_TWO, _object(4, "a", 2)], _AT_ONCE, "self.w self.w"),
        ([_entry(1, "self.w", 1), _entry(2, "self.w", 1), _object(3, "a", 1)], _AT_ONCE, "self.w self.w"),
        ([_entry(1, "self.w", 1), _entry(2, "self.w"), _object(3, "a", 1)], _AT_ONCE, "self.w self.w"),
        ([*_TWO[:2], _object(4, "b", 2)], _AT_ONCE, "self.w b.w"),
        ([*_TWO, _entry(5, "p.w", 1), _entry(6, "p.w", 2), _object(4, "b", 2)], _AT_ONCE | {5: (1, 7, 9), 6: (1, 8, 9)}, "a.w b.w a.w b.w"),
    ],
    ids=["two-at-once", "one-after-the-other", "of-one-name", "one-object", "no-number", "no-name", "by-another-name"],
)
def test_these_objects_are_distinguished(table: list[dict[str, Any]], extents: dict[int, tuple[int, int, int]], names: str) -> None:
    found = told_apart(table, extents)
    assert [found[number]["name"] for number in sorted(extents)] == names.split()


def test_a_script_with_its_own_trace_function_keeps_it(tmp_path: Path) -> None:
    source = """
        import sys
        before = 1.5
        seen = []
        def tracer(frame, event, arg):
            seen.append(event)
            return None
        def called():
            within = 2.5
        sys.settrace(None)
        called()
        sys.settrace(tracer)
        called()
        print(sys.gettrace() is tracer, seen)
        sys.settrace(None)
        print(sys.gettrace())
    """
    folder = write(tmp_path, train=source)
    names = Names(recorded(folder, "train.py"))
    assert (names.trace.path / "stdout").read_bytes() == bare(folder, "train.py").out == b"True ['call']\nNone\n"
    assert values(names["before"]) == [1.5]
    if sys.version_info < (3, 12):
        assert values(names["within"]) == [2.5]
        assert any("trace function of its own" in what for what in names.lost())
    else:
        assert values(names["within"]) == [2.5, 2.5]
        assert names.lost() == []


def test_a_run_can_start_with_the_values_of_another(tmp_path: Path) -> None:
    write(
        tmp_path,
        first="""
            import numpy as np
            rng = np.random.default_rng()
            W = rng.standard_normal((3, 100, 60))[0]
            bias = rng.standard_normal(60)
            rate = 0.125
            other = np.ones(3)
            x = rng.standard_normal((2, 100))
            gain = np.array([1.0, 2.0])
            class Layer:
                def __init__(self, w):
                    self.w = np.full(2, w)
            layers = [Layer(6.0), Layer(7.0)]
        """,
        second="""
            import numpy as np
            import torch
            torch.manual_seed(5)
            class Net(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.fc = torch.nn.Linear(100, 60)
            def main():
                model = Net()
                drawn = torch.randn(1)
                x = torch.zeros(2, 100, dtype=torch.float64)
                kept = x
                again = x + 1
                x = again
                wrong = torch.zeros(4)
                layer = torch.zeros(2)
                column = np.zeros((2, 1), np.float32)
                print(drawn.item(), kept.sum().item(), column.tolist())
                return model
            lr = 0.5
            print(lr)
            main()
        """,
    )
    one = Names(recorded(tmp_path, "first.py", "one", first_whole=True))
    pairs = [
        ("W", "model.fc.weight"), ("bias", "model.fc.bias"), ("rate", "lr"), ("other", "wrong"), ("x", "x"), ("gain", "column"),
        ("missing", "again"), ("x", "never"), ("layers[1].w", "layer"),
    ]  # fmt: skip
    two = Names(recorded(tmp_path, "second.py", "two", share=(str(tmp_path / "one"), pairs), first_whole=True))
    theirs, ours = one["W"].value(0), two["model.fc.weight"].value(0)
    assert theirs is not None
    assert ours is not None
    assert theirs.shape == (100, 60)
    np.testing.assert_allclose(ours, theirs.T, rtol=1e-6)
    np.testing.assert_allclose(values(two["model.fc.bias"])[0], values(one["bias"])[0], rtol=1e-6)
    assert values(two["x"])[0] == values(one["x"])[0]
    assert values(two["x"])[1] == (np.array(values(one["x"])[0]) + 1).tolist()  # only the first is copied
    assert values(two["column"]) == [[[1], [2]]]
    assert values(two["lr"]) == [0.125]
    assert values(two["layer"]) == [[7, 7]]
    drawn, total, *_ = (two.trace.path / "stdout").read_text().splitlines()[1].split()
    alone = bare(tmp_path, "second.py").out.decode().splitlines()
    assert drawn == alone[1].split()[0]  # no random number was drawn for it
    assert float(total) == pytest.approx(np.sum(values(one["x"])[0]))
    assert (two.trace.path / "stdout").read_text().splitlines()[0] == "0.125"
    told = {event["b"]: event["how"] for event in two.trace.lanes["main"].events_of("shared-start")}
    assert told["model.fc.weight"] == "copied, transposed"
    assert told["model.fc.bias"] == told["x"] == told["lr"] == "copied"
    assert told["column"].startswith("copied, reshaped")
    assert "shape [3] there, [4] here" in told["wrong"]
    assert "no value in the other run" in told["again"]
    assert "got no value" in told["never"]


def test_a_run_without_numeric_names_is_reported_and_torch_is_not_needed(tmp_path: Path, numpy_run: Names) -> None:
    write(tmp_path, train="print('nothing to see')")
    error = nothing_recorded(recorded(tmp_path, "train.py"))
    assert error is not None
    assert error.slug == "no-names"
    assert nothing_recorded(numpy_run.trace) is None


def test_a_callable_in_this_process_gives_the_same_series() -> None:
    import torch

    def trained(rate: float) -> Any:
        weight = torch.ones(2, 2, requires_grad=True)
        for _ in range(3):
            loss = (weight * weight).sum()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation for it
            assert weight.grad is not None
            weight.data -= rate * weight.grad
            weight.grad = None
        return weight

    engine = vars(torch.autograd.Variable).get("_execution_engine")
    tracer = sys.gettrace()
    with collected() as got:
        trained(0.25)
    assert sys.gettrace() is tracer
    assert vars(torch.autograd.Variable).get("_execution_engine") is engine
    found = {one.name: one for one in got.series()}
    assert sorted(found) == ["loss", "weight", "weight.grad"]
    assert found["weight"].scope.endswith("trained")
    assert [np.array(one)[0, 0] for one in values(found["weight"])] == [1, 0.5, 0.25, 0.125]
    assert values(found["loss"]) == [4, 1, 0.25]
    assert list(found["weight.grad"].step) == [0, 1, 2]
    trained(0.5)
    assert len(got.series()) == 3
    assert got.lost == []


def test_returned_values_and_module_parameters_of_two_callables_are_compared() -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.lin = torch.nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return self.lin(x)

    match: Any = auditor.match  # loaded on demand
    x = torch.arange(6.0).reshape(2, 3)
    same = match(Net(0), Net(0), x)
    assert [(pair.a, pair.agrees) for pair in same.names] == [(name, True) for name in ("module.lin.weight", "module.lin.bias", "return")]
    other = match(Net(0), Net(1), x)
    assert next(pair.a for pair in other.names if not pair.agrees) == "module.lin.weight"
    numbers = np.arange(12.0)
    (pair,) = match(np.negative, lambda x: x, numbers).names
    assert (pair.a, pair.agrees, pair.relation and pair.relation.kind, pair.file_a, pair.line_b) == ("return", False, "sign", None, None)
    assert match(np.negative, lambda x: -x, numbers).verdict == "no-divergence-seen"


def test_memory_is_bounded_and_first_pairs_and_last_values_stay_complete() -> None:
    def loop() -> None:
        for k in range(3000):
            array = np.full(100, float(k))
            number = k + 0.5
        assert array[0] + 0.5 == number

    with collected(budget=800_000) as got:
        loop()
    array, number = (one for one in got.series() if one.name in ("array", "number"))
    kept = [k for k in range(3000) if array.value(k) is not None]
    assert 800 * len(kept) <= 800_000 + 800
    assert kept[:64] == list(range(64))
    assert kept[-1] == 2999
    later = [k for k in kept if k > 700]
    assert 20 < len(later) < 1500
    assert all(k - 1 in kept or k + 1 in kept for k in later[:-1])
    np.testing.assert_allclose(array.norm, 10 * np.arange(3000.0))
    np.testing.assert_allclose(array.total, 100 * np.arange(3000.0))
    ones = signs.sums_of(np, np.ones(100))
    np.testing.assert_allclose(array.sums, np.outer(np.arange(3000.0), ones), atol=1e-6)
    np.testing.assert_allclose(number.total, np.arange(3000) + 0.5)


@pytest.mark.parametrize("shape", [(1,), (7, 5), (4096,), (4097,), (64, 300)])
def test_numpy_and_torch_give_the_same_sums(shape: tuple[int, ...]) -> None:
    import torch

    made = np.random.default_rng(1).standard_normal(shape)
    n, nonfinite, norm, largest, *sums = Sketcher(torch).of(torch.from_numpy(made))
    found = signs.sketch(np, made)
    assert (nonfinite, norm, largest) == pytest.approx(found[:3])
    np.testing.assert_allclose(found[4:20], sums, atol=1e-9)
    if len(shape) == 2:
        np.testing.assert_allclose(found[20:], Sketcher(torch).of(torch.from_numpy(made.T.copy()))[4:], atol=1e-9)
    assert n == made.size


def test_a_run_recorded_without_names_has_no_series(tmp_path: Path) -> None:
    write(tmp_path, train="x = 1.5")
    launch(Plan(("train.py",), cwd=str(tmp_path)), tmp_path / "run", "run", "control", _Silent(), quiet=True)
    assert named_values(opened(tmp_path / "run")) == []
    with pytest.raises(TraceError):
        opened(tmp_path / "none")


def test_a_thread_with_too_many_values_stops_and_reports_the_number() -> None:
    def loop() -> float:
        total = 0.0
        for _ in range(2000):
            total = total + 1.0
        return total

    with collected(budget=1000) as got:
        loop()
    (total,) = (one for one in got.series() if one.name == "total")
    assert 100 < len(total.order) < 1000
    np.testing.assert_array_equal(total.total, np.arange(len(total.order)))
    assert any("all values of a thread after the first" in what for what in got.lost)
