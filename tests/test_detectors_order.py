"""Order: loaders that draw, conflicting settings, forgotten evaluation mode, memory read too early, clipping at the wrong time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.trace import PHASES
from tests.builder import LaneBuilder, Tensor, digest_of
from tests.findings import found, places

Program = Callable[[LaneBuilder], object]


def script(lane: LaneBuilder, cwd: Path, *lines: str) -> None:
    """The text of the lines that records come from."""
    (cwd / "order.py").write_text("\n".join(lines) + "\n")
    lane.file = str(cwd / "order.py")


def gradient(lane: LaneBuilder, leaf: str, written: Tensor, made: Tensor, before: Tensor | None = None, line: int = 1) -> Tensor:
    """A backward pass sets the gradient of a leaf to its result, or adds the result to the old gradient."""
    lane.phase = "backward"
    op = "aten.add_.Tensor" if before else "aten.detach.default"
    sig = lane.number_of("sig", kind="op", op=op, out=[["float32", [3], None, "cpu"]], args=None)
    where = lane.number_of("leaf", name=leaf) << 16 | PHASES.index("backward") << 8
    producers = [before.number, made.number, 0] if before else [made.number, 0, 0]
    site = lane.number_of("site", file=lane.file, line=line, func="<module>")
    number = lane._record(sig, digest_of((leaf, lane.last)) if before else 0, site, 0, producers, written.number, 0, where)
    lane.phase = "forward"
    return Tensor(number, 1, (3,), "float32") if before else made


def backward(lane: LaneBuilder, *saved: Tensor, line: int = 1) -> Tensor:
    """One op of a backward pass."""
    lane.phase, module, lane.module = "backward", lane.module, ""
    out = lane.op("aten.mul.Tensor", *saved, line=line)
    lane.phase, lane.module = "forward", module
    return out


# loader-draws-from-global-stream


def base_seed(lane: LaneBuilder, line: int, stream: str = "torch-cpu") -> None:
    """The draw of a loader when it is iterated."""
    lane.op("aten.empty.memory_format", shape=(), dtype="int64", line=line, digest=0)
    seed = lane.random("aten.random_.default", stream=stream, state=lane.last, shape=(), dtype="int64", line=line)
    lane.op("aten._local_scalar_dense.default", seed, shape=(), dtype="int", line=line)


def batch(lane: LaneBuilder, line: int) -> Tensor:
    return lane.op("aten.stack.default", line=line, digest=f"batch {lane.last}")


def shuffled(lane: LaneBuilder, line: int) -> None:
    base_seed(lane, line)
    base_seed(lane, line)
    lane.random("aten.randperm.generator", stream="torch-own", state=lane.last, dtype="int64", line=line)


def train(lane: LaneBuilder, batch_: Tensor | None = None, line: int = 50) -> None:
    """A step with dropout."""
    out = lane.random("aten.bernoulli_.float", state=lane.last, line=line)
    backward(lane, out, *([batch_] if batch_ else []), line=line)


def test_a_validation_loader_that_shifts_the_training_draws_is_one_note(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.seed("torch-cpu", 0, line=1)
        for _ in range(3):
            shuffled(lane, 2)
            for _ in range(2):
                train(lane, batch(lane, 2))
            base_seed(lane, 3)
            batch(lane, 3)

    (finding,) = found(tmp_path, "loader-draws-from-global-stream", program)
    assert (finding.level, finding.line, finding.count) == ("note", 3, 2)  # after the third, nothing is trained
    assert "aten.random_.default in train.py:2" in finding.message


@pytest.mark.parametrize("workers", [False, True])
def test_a_training_loader_is_not_reported(workers: bool, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.seed("torch-cpu", 0, line=1)
        for _ in range(3):
            base_seed(lane, 2)
            for _ in range(2):
                train(lane, None if workers else batch(lane, 2))

    assert found(tmp_path, "loader-draws-from-global-stream", program) == []


def test_shuffling_loaders_with_a_generator_or_restored_draws_are_not_reported(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.seed("torch-cpu", 0, line=1)
        for _ in range(3):
            shuffled(lane, 2)
            batch(lane, 2)
            base_seed(lane, 3, "torch-own")
            batch(lane, 3)
            base_seed(lane, 4)
            batch(lane, 4)
            lane.seed("torch-cpu", 0, line=5)
            train(lane)

    assert found(tmp_path, "loader-draws-from-global-stream", program) == []


def test_unseeded_streams_and_scripts_without_training_have_nothing_to_shift(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, seeded: bool) -> None:
        if seeded:
            lane.seed("torch-cpu", 0, line=1)
        for _ in range(2):
            base_seed(lane, 2)
            lane.random("aten.rand.default", line=3)
        if not seeded:
            train(lane)

    assert found(tmp_path / "a", "loader-draws-from-global-stream", lambda lane: program(lane, seeded=True)) == []
    assert found(tmp_path / "b", "loader-draws-from-global-stream", lambda lane: program(lane, seeded=False)) == []


# cublas-workspace-unset, cublas-workspace-set-too-late

STRICT = "torch.are_deterministic_algorithms_enabled"
WORKSPACE = "environ:CUBLAS_WORKSPACE_CONFIG"


@pytest.mark.parametrize(("value", "said"), [(None, "is not set"), (":0:0", "is :0:0"), (":4096:8", ""), (":16:8", "")])
def test_deterministic_matrix_products_without_the_workspace_are_one_note(value: str | None, said: str, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.setting(STRICT, False, initial=True)
        lane.setting(WORKSPACE, value, initial=True)
        lane.op("aten.mm.default", line=1)
        lane.setting(STRICT, True, line=2)
        for _ in range(3):
            lane.op("aten.addmm.default", line=3, dtype="bfloat16")
        lane.setting(STRICT, False, line=4)
        lane.op("aten.bmm.default", line=5)

    findings = found(tmp_path, "cublas-workspace-unset", program)
    assert places(findings) == ([(2, 3)] if said else [])
    assert all(said in finding.message and "train.py:3" in finding.message for finding in findings)


def test_the_workspace_is_not_mentioned_without_determinism_or_matrix_products(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.setting(STRICT, False, initial=True)
        lane.op("aten.mm.default", line=1)
        lane.setting(STRICT, True, line=2)
        lane.op("aten.add.Tensor", line=3)

    assert found(tmp_path, "cublas-workspace-unset", program) == []


def test_a_workspace_set_after_the_first_product_is_too_late(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, steps: int, before: str | None = None, line: int | None = None) -> None:
        lane.setting(WORKSPACE, before, initial=True)
        lane.op("aten.addmm.default", line=1)
        for _ in range(steps):
            lane.step()
            lane.op("aten.add.Tensor", line=2)
        lane.setting(WORKSPACE, ":4096:8", line=line)
        lane.op("aten.addmm.default", line=4)

    rule = "cublas-workspace-set-too-late"
    assert places(found(tmp_path / "a", rule, lambda lane: program(lane, 2))) == [(None, 1)]
    assert found(tmp_path / "b", rule, lambda lane: program(lane, 0)) == []  # it may have been set before the product
    assert places(found(tmp_path / "d", rule, lambda lane: program(lane, 0, line=3))) == [(3, 1)]
    assert found(tmp_path / "c", rule, lambda lane: program(lane, 2, ":16:8")) == []


# overruled-determinism


def switch(lane: LaneBuilder, on: bool, line: int, function: str = "<module>") -> None:
    lane.line(
        {"k": "setting", "at": lane.last, "name": STRICT, "value": on, "first": False, "file": lane.file, "line": line, "func": function}
    )


SWITCHES = (
    "torch.use_deterministic_algorithms(True)",
    "torch.use_deterministic_algorithms(False)",
    "torch.use_deterministic_algorithms(before)",
    "trainer = Trainer(max_epochs=3)",
    "with strictly():",
    "torch.set_deterministic_debug_mode('default')",
)


@pytest.mark.parametrize(
    ("switches", "line"),
    [
        ([(True, 1, "<module>"), (False, 2, "fast")], 2),
        ([(True, 1, "<module>"), (False, 4, "<module>")], 4),
        ([(True, 1, "seed_everything"), (False, 6, "main")], 6),
        ([(True, 1, "main"), (False, 2, "freely"), (True, 3, "freely"), (False, 2, "fast")], 2),
        ([(True, 1, "<module>"), (False, 2, "fast"), (True, 1, "<module>")], None),
        ([(True, 1, "<module>"), (False, 3, "restore")], None),
        ([(True, 5, "<module>"), (False, 5, "<module>")], None),
        ([(True, 4, "<module>"), (False, 4, "main")], None),
        ([(True, 1, "strictly"), (False, 2, "strictly")], None),
        ([(True, 1, "__enter__"), (False, 2, "__exit__")], None),
        ([(False, 2, "<module>")], None),
        ([(True, 1, "<module>"), (False, 2, "fast")] * 60, None),
    ],
)
def test_determinism_is_overruled_by_a_setting_that_disables_it_for_the_rest(
    switches: list[tuple[bool, int, str]], line: int | None, tmp_path: Path
) -> None:
    def program(lane: LaneBuilder) -> None:
        script(lane, tmp_path, *SWITCHES)
        for on, at, function in switches:
            switch(lane, on, at, function)
        for _ in range(3):
            backward(lane, line=8)

    findings = found(tmp_path, "overruled-determinism", program)
    assert places(findings) == ([(line, 1)] if line else [])


def test_settings_changed_midway_or_after_training_overrule_nothing(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, early: bool) -> None:
        script(lane, tmp_path, *SWITCHES)
        if early:
            switch(lane, True, 1)
        backward(lane)
        if not early:
            switch(lane, True, 1)
        backward(lane)
        lane.op("aten.add.Tensor", line=8)
        switch(lane, False, 2, "fast")
        if not early:
            backward(lane)

    assert found(tmp_path / "a", "overruled-determinism", lambda lane: program(lane, early=True)) == []
    assert found(tmp_path / "b", "overruled-determinism", lambda lane: program(lane, early=False)) == []


# left-in-evaluation


class Net:
    """A network with batch norm or dropout, whose weight an optimizer updates."""

    def __init__(self, lane: LaneBuilder, root: str = "Net", kind: str = "norm", dtype: str = "float32") -> None:
        self.lane, self.root, self.kind, self.dtype = lane, root, kind, dtype
        self.weight = lane.op("aten.uniform_.default", dtype=dtype, digest=f"weight {lane.last}")

    def call(self, mode: bool, line: int, skip: str = "") -> Tensor:
        lane, dtype = self.lane, self.dtype
        lane.phase = "forward"
        x = lane.external(dtype=dtype, line=line)
        lane.module = f"{self.root}.0"
        x = lane.op("aten.mm.default", x, self.weight, line=line, dtype=dtype)
        lane.module = f"{self.root}.1"
        if skip != "branch":
            if self.kind == "norm":
                x = lane.op("aten.native_batch_norm.default", x, args=[mode], line=line, dtype=dtype)
            elif mode:
                x = lane.random("aten.bernoulli_.float", x, line=line, dtype=dtype)
            lane.module = f"{self.root}.2"
            x = lane.op("aten.relu.default", x, line=line, dtype=dtype)
        lane.module = ""
        lane.op("aten.mean.default", x, line=line)
        return x

    def train(self, mode: bool, line: int, steps: int = 1, skip: str = "") -> None:
        for _ in range(steps):
            out = self.call(mode, line, skip)
            made = backward(self.lane, out, line=line)
            self.lane.phase = "optimizer"
            self.weight = self.lane.op("aten.add_.Tensor", self.weight, made, line=line, digest=f"weight {self.lane.last}")
            self.lane.phase = "forward"
            self.lane.step()


@pytest.mark.parametrize(("kind", "said"), [("norm", "Net.1 no longer averages"), ("dropout", "Net.1 no longer drops")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_a_model_in_evaluation_mode_is_one_finding(kind: str, said: str, dtype: str, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        net = Net(lane, kind=kind, dtype=dtype)
        net.train(True, 1, steps=3)
        for _ in range(3):
            net.call(False, 2)
            net.train(False, 1, steps=2)

    (finding,) = found(tmp_path, "left-in-evaluation", program)
    assert (finding.line, finding.count) == (1, 6)
    assert "in train.py:2" in finding.message
    assert said in finding.message


def put_back(net: Net) -> None:
    net.train(True, 1, 2)
    net.call(False, 2)
    net.train(True, 1)
    net.call(False, 2)
    net.train(False, 1, 3)


def frozen_from_the_start(net: Net) -> None:
    net.train(False, 1, 2)
    net.call(False, 2)
    net.train(False, 1, 3)


def frozen_before_the_evaluation(net: Net) -> None:
    net.train(True, 1, 2)
    net.train(False, 1, 2)
    net.call(False, 2)
    net.train(False, 1, 3)


def evaluated_as_it_is_trained(net: Net) -> None:
    net.train(True, 1, 2)
    net.call(True, 2)
    net.train(False, 1, 3)


def one_step_more(net: Net) -> None:
    net.train(True, 1, 2)
    net.call(False, 2)
    net.train(False, 1)


def without_its_branch(net: Net) -> None:
    net.train(True, 1, 2)
    net.call(False, 2)
    net.train(False, 1, 3, skip="branch")


def another_of_its_class(net: Net) -> None:
    net.train(True, 1, 2)
    net.call(False, 2)
    other = Net(net.lane, kind=net.kind)
    other.train(False, 1, 3)


@pytest.mark.parametrize("kind", ["norm", "dropout"])
@pytest.mark.parametrize(
    "course",
    [
        put_back, frozen_from_the_start, frozen_before_the_evaluation, evaluated_as_it_is_trained, one_step_more, without_its_branch,
        another_of_its_class,
    ],
)  # fmt: skip
def test_a_model_with_correct_mode_changes_is_not_reported(course: Callable[[Net], None], kind: str, tmp_path: Path) -> None:
    assert found(tmp_path, "left-in-evaluation", lambda lane: course(Net(lane, kind=kind))) == []


# uninitialized-read


def empty(lane: LaneBuilder, line: int = 1, op: str = "aten.empty.memory_format", **how: object) -> Tensor:
    return lane.op(op, digest=0, line=line, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "op", ["aten.mul.Tensor", "aten.mm.default", "aten.add_.Tensor", "aten._local_scalar_dense.default", "aten.cat.default"]
)
@pytest.mark.parametrize("dtype", ["float32", "uint8", "complex64"])
def test_repeated_reads_of_uninitialized_memory_are_one_finding(op: str, dtype: str, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for _ in range(3):
            lane.op(op, empty(lane, dtype=dtype, shape=[64, 2]), lane.external(), line=2)

    (finding,) = found(tmp_path, "uninitialized-read", program)
    assert (finding.line, finding.count) == (2, 3)
    assert f"{op} reads the {dtype}[64, 2] that aten.empty.memory_format made in train.py:1" in finding.message


@pytest.mark.parametrize(
    "op", ["aten.empty_like.default", "aten.new_empty.default", "aten.empty_strided.default", "aten.new_empty_strided.default"]
)
def test_every_source_of_uninitialized_memory_counts_and_a_view_is_no_read(op: str, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        made = empty(lane, op=op)
        lane.op("aten.view.default", made, digest=0, line=2)
        lane.op("aten.exp.default", made, line=3)  # the last writer of the view's storage was `made`
        lane.op("aten.sin.default", made, line=4)

    assert places(found(tmp_path, "uninitialized-read", program)) == [(3, 2)]


@pytest.mark.parametrize(
    "op",
    [
        "aten.copy_.default", "aten.fill_.Scalar", "aten.masked_fill_.Scalar", "aten.index_put_.default", "aten.scatter_.src",
        "aten.index_copy_.default", "aten.triu_.default", "aten.normal_.default", "aten.add.out", "aten.zeros_like.default",
        "aten.new_zeros.default", "aten.clone.default", "aten._to_copy.default", "aten.is_pinned.default", "aten.bernoulli.p",
        "aten.slice_scatter.default", "aten.baddbmm.default", "aten.addmm.default", "c10d.broadcast_.default",
        "aten._foreach_copy_.default",
    ],
)  # fmt: skip
def test_filling_copying_and_asking_for_the_shape_are_no_reads(op: str, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.op(op, empty(lane), lane.external(), lane.external(), line=2)

    assert found(tmp_path, "uninitialized-read", program) == []


def test_memory_that_something_else_may_have_filled_is_not_reported(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for op in ("aten.detach.default", "c10d.recv_.default"):
            made = empty(lane)
            lane.op(op, made, digest=0, line=2)
            lane.op("aten.add.Tensor", made, line=3)
        lane.op("aten.add.Tensor", empty(lane, device="cuda:0"), line=4)
        lane.op("aten.cat.default", empty(lane, shape=[0]), empty(lane, shape=[2, 0, 3]), line=5)
        lane.op("aten.add.Tensor", lane.op("aten.fill_.Scalar", empty(lane), line=6), line=7)
        lane.op("aten.add.Tensor", empty(lane))  # no line of the user's
        backward(lane, empty(lane), line=8)

    assert found(tmp_path, "uninitialized-read", program) == []


# clipping-before-unscale, clipping-without-effect, clipping-between-accumulations

CLIPPING = (
    "loss.backward()",
    "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
    "scaler.step(optimizer)",
    "optimizer.step()  # clip_grad_norm_( comes first",
    "torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)",
    "trainer.fit(model)",
    "optimizer.zero_grad(set_to_none=False)",
    "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0 * scaler.get_scale())",
)
UNSCALE = "aten._amp_foreach_non_finite_check_and_unscale_.default"
RULES = ["clipping-before-unscale", "clipping-without-effect", "clipping-between-accumulations"]


class Loop:
    """A training loop over one weight, built from parts that the tests put in order."""

    def __init__(self, lane: LaneBuilder, cwd: Path) -> None:
        script(lane, cwd, *CLIPPING)
        self.lane = lane
        self.weight = lane.op("aten.uniform_.default")
        self.grad: Tensor | None = None
        lane.phase = "forward"

    def backward(self) -> None:
        made = backward(self.lane, self.weight)
        self.grad = gradient(self.lane, "weight", self.weight, made, self.grad)

    def clip(self, line: int = 2, to: float = 1.0) -> None:
        assert self.grad
        if line == 5:
            self.grad = self.lane.op("aten.clamp_min_.default", self.grad, numbers=[-to], line=line, digest=f"min {self.lane.last}")
            self.grad = self.lane.op("aten.clamp_max_.default", self.grad, numbers=[to], line=line, digest=f"max {self.lane.last}")
            return
        norm = self.lane.op("aten.linalg_vector_norm.default", self.grad, line=line)
        factor = self.lane.op("aten.mul.Tensor", norm, numbers=[to], line=line)
        self.grad = self.lane.op("aten._foreach_mul_.Tensor", self.grad, factor, line=line, digest=f"clipped {self.lane.last}")

    def unscale(self) -> None:
        self.grad = self.lane.op(UNSCALE, self.grad, line=3, digest=f"unscaled {self.lane.last}")

    def step(self) -> None:
        self.lane.phase = "optimizer"
        self.weight = self.lane.op("aten.add_.Tensor", self.weight, self.grad, line=4, digest=f"weight {self.lane.last}")
        self.lane.phase = "forward"
        self.lane.step()

    def zero(self, in_place: bool = False) -> None:
        self.grad = self.lane.op("aten.zero_.default", self.grad, line=7, digest=0) if in_place else None


def loops(tmp_path: Path, *parts: str, line: int = 2, to: float = 1.0) -> dict[str, list[tuple[int | None, int]]]:
    """The findings of each rule in three rounds of these parts."""

    def program(lane: LaneBuilder) -> None:
        loop = Loop(lane, tmp_path)
        for _ in range(3):
            for part in parts:
                if part == "clip":
                    loop.clip(line, to)
                elif part == "zero_":
                    loop.zero(in_place=True)
                else:
                    getattr(loop, part)()

    given = {rule: found(tmp_path / rule, rule, program) for rule in RULES}
    return {rule: places(findings) for rule, findings in given.items() if findings}


@pytest.mark.parametrize("line", [2, 5])
def test_clipping_at_the_wrong_time_is_one_finding_of_its_rule(line: int, tmp_path: Path) -> None:
    for folder in "abcd":
        (tmp_path / folder).mkdir()
    assert loops(tmp_path / "a", "backward", "clip", "unscale", "step", "zero", line=line) == {RULES[0]: [(line, 3)]}
    assert loops(tmp_path / "b", "backward", "step", "clip", "zero", line=line) == {RULES[1]: [(line, 3)]}
    assert loops(tmp_path / "c", "backward", "step", "clip", "zero_", line=line) == {RULES[1]: [(line, 3)]}
    assert loops(tmp_path / "d", "backward", "clip", "backward", "clip", "step", "zero", line=line) == {RULES[2]: [(line, 3)]}


@pytest.mark.parametrize("line", [2, 5])
@pytest.mark.parametrize(
    "parts",
    [
        ("backward", "clip", "step", "zero"),
        ("backward", "unscale", "clip", "step", "zero"),
        ("zero_", "backward", "clip", "step"),
        ("backward", "backward", "clip", "step", "zero"),
        ("backward", "clip", "step", "backward", "zero"),
    ],
)
def test_clipping_at_the_right_time_is_not_reported(parts: tuple[str, ...], line: int, tmp_path: Path) -> None:
    parts = parts[1:] if parts[0] == "zero_" else parts
    assert loops(tmp_path, *parts, line=line) == {}


def test_measuring_a_norm_by_clipping_to_infinity_is_not_reported(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
    assert loops(tmp_path / "a", "backward", "step", "clip", "zero", to=float("inf")) == {}
    assert loops(tmp_path / "b", "backward", "clip", "backward", "clip", "step", "zero", to=float("inf")) == {}


def test_clipping_to_a_scaled_limit_is_not_reported(tmp_path: Path) -> None:
    assert loops(tmp_path, "backward", "clip", "unscale", "step", "zero", line=8) == {}


@pytest.mark.parametrize("line", [4, 6])
def test_clipping_in_a_library_and_comments_about_it_are_not_reported(line: int, tmp_path: Path) -> None:
    assert loops(tmp_path, "backward", "step", "clip", "zero", line=line) == {}


# all of them


@pytest.mark.parametrize(
    "rule",
    [
        "loader-draws-from-global-stream", "cublas-workspace-unset", "cublas-workspace-set-too-late", "overruled-determinism",
        "left-in-evaluation", "uninitialized-read", *RULES,
    ],
)  # fmt: skip
def test_an_empty_run_has_none_of_these_faults(rule: str, tmp_path: Path) -> None:
    assert found(tmp_path, rule, lambda _lane: None) == []


# repeating-draw


def test_an_op_that_could_draw_but_did_not_is_no_repetition(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, seeded: bool) -> None:
        for _ in range(3):
            if seeded:
                lane.seed("torch-cpu", 0, line=1)
            lane.random("aten._scaled_dot_product_flash_attention_for_cpu.default", state="as before", line=2)
            lane.step()

    assert found(tmp_path / "a", "repeating-draw", lambda lane: program(lane, False)) == []
    assert places(found(tmp_path / "b", "repeating-draw", lambda lane: program(lane, True))) == [(2, 3)]
