"""Missing gradients: cut graphs, steps without new gradients, gradients zeroed too early."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from auditor import plugins
from auditor.judge import Rule, judge
from auditor.results import Finding
from auditor.trace.tables import Tables
from tests.builder import LaneBuilder, Tensor, TraceBuilder
from tests.findings import shipped

RULES = (
    "graph-cut", "parameter-cut-off", "parameter-without-gradient", "step-without-new-gradient", "scheduler-before-optimizer",
    "gradients-zeroed-before-step", "unused-gradients", "untrained-parameter",
)  # fmt: skip


class Training:
    """A lane, and what the probes write into it about optimizers and gradients."""

    def __init__(self, lane: LaneBuilder) -> None:
        self.lane = lane
        self.leaves: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}

    def parameter(self, name: str, line: int = 1) -> Tensor:
        """A leaf, initialised in place like those of modules: a cut that is not a graph cut."""
        phase, self.lane.phase = self.lane.phase, "setup"
        made = self.lane.op("aten.uniform_.default", self.lane.op("aten.empty.memory_format", line=line), cut=True, digest=name, line=line)
        self.leaves[name] = made
        self.lane.phase = phase
        return made

    def optimizer(self, *names: str, number: int = 1) -> None:
        """The first use of an optimizer with these leaves."""
        written = [self.leaves[name].number for name in names]
        self.lane.event("optimizer", number=number, name="SGD", leaves=list(names), written=written)

    def backward(self, root: Tensor | None, *names: str, line: int, graph: bool = True) -> None:
        """A backward pass that gives these leaves gradients."""
        self.lane.event("backward", line, root=root.number if root else 0, graph=graph)
        phase, self.lane.phase = self.lane.phase, "backward"
        for name in names:
            number = self.lane.number_of("leaf", name=name, shape=[3])
            made = self.lane.op("aten.mul.Tensor", root, digest=f"gradient {self.lane.last}", line=line)
            where = number << 16 | 2 << 8
            sig = self.lane.number_of("sig", kind="op", op="aten.detach.default", out=[["float32", [3], None, "cpu"]], args=None)
            site = self.lane.number_of("site", file=self.lane.file, line=line, func="<module>")
            self.lane._record(sig, 0, site, producers=[made.number], node=self.leaves[name].number, where=where)
            self._gradients[name] = made
        self.lane.phase = phase

    def zero(self, line: int, number: int | None = 1) -> None:
        """zero_grad() of an optimizer, or of a module."""
        self.lane.event("zeroed", line, number=number)

    def step(self, *names: str, line: int, had: int | None = None, digest: object = None, number: int = 1) -> None:
        """A step that uses the gradients of these leaves and writes the leaves."""
        phase, self.lane.phase = self.lane.phase, "optimizer"
        for name in names:
            new = self.lane.op("aten.add_.Tensor", self.leaves[name], self._gradients[name], digest=f"{name} {self.lane.last}", line=line)
            self.leaves[name] = new
        self.lane.phase = phase
        self.lane.step(of=number, had=len(names) if had is None else had, gradients=digest or self.lane.last)


def found(tmp_path: Path, program: Callable[[Training], object], *rules: str) -> list[tuple[str, int | None, int]]:
    """Rule, line and count of the findings in a hand-written run with an otherwise empty lane."""
    return [(finding.rule, finding.line, finding.count) for finding in findings(tmp_path, program, *rules)]


def findings(tmp_path: Path, program: Callable[[Training], object], *rules: str) -> list[Finding]:
    run = TraceBuilder(tmp_path / "run", cwd=str(tmp_path))
    lane = run.lane()
    lane.phase = "forward"
    program(Training(lane))
    run.lane("thread 1")
    with Tables(run.sealed()) as tables:
        return judge([tables], [rule_of(rule) for rule in rules or RULES], plugins.detectors())


@cache
def rule_of(name: str) -> Rule:
    return shipped(name)


def test_runs_without_ops_have_no_findings(tmp_path: Path) -> None:
    assert found(tmp_path, lambda t: None) == []


# graph-cut


CUTS: dict[str, tuple[Callable[[LaneBuilder, Tensor], Tensor], str]] = {
    "no_grad": (lambda lane, w: lane.op("aten.mul.Tensor", w, cut=True, line=5), "mul runs here while gradients are off"),
    "half": (lambda lane, w: lane.op("aten.mul.Tensor", w, dtype="bfloat16", cut=True, line=5), "mul runs here while gradients are off"),
    "argmax": (lambda lane, w: lane.op("aten.argmax.default", w, dtype="int64", cut=True, line=5), "argmax gives int64 here"),
    "compared": (lambda lane, w: lane.op("aten.gt.Scalar", w, dtype="bool", cut=True, line=5), "gt gives bool here"),
}


@pytest.mark.parametrize("cut", CUTS)
def test_the_line_that_cut_the_graph_of_a_failing_backward_is_found(cut: str, tmp_path: Path) -> None:
    made, how = CUTS[cut]

    def program(t: Training) -> None:
        w = t.parameter("w")
        before = t.lane.op("aten.mul.Tensor", w, cut=True, line=4)
        out = made(t.lane, t.lane.op("aten.add.Tensor", before, w, line=4))
        t.backward(t.lane.op("aten.sum.default", out, shape=[], line=6), line=7, graph=False)

    (finding,) = findings(tmp_path, program)
    assert (finding.rule, finding.line, finding.count) == ("graph-cut", 5, 1)
    assert finding.message.startswith(how)
    assert finding.message.endswith("the backward pass in train.py:7 has no graph to follow")


def test_a_detached_view_is_found_between_its_base_and_its_consumer(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        h = t.lane.op("aten.relu.default", t.parameter("w"), line=4)
        t.lane.op("aten.detach.default", h, digest=0, cut=True, line=5)
        loss = t.lane.op("aten.sum.default", h, shape=[], line=6)
        t.lane.op("aten.detach.default", h, digest=0, cut=True, line=8)
        t.backward(loss, line=7, graph=False)

    (finding,) = findings(tmp_path, program)
    assert (finding.rule, finding.line) == ("graph-cut", 5)
    assert finding.message.startswith("a tensor is detached from its graph here")


def test_without_any_gradient_requirement_the_finding_is_at_the_backward(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        for _ in range(3):
            w = t.parameter("w")  # initialisation is not a cut
            t.backward(t.lane.op("aten.sum.default", w, shape=[], line=6), line=7, graph=False)
        t.backward(None, line=9, graph=False)

    assert found(tmp_path, program) == [("graph-cut", 7, 3), ("graph-cut", 9, 1)]


def test_a_number_turned_back_into_a_tensor_at_its_line_is_the_cut(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        loss = t.lane.op("aten.sum.default", t.parameter("w"), shape=[], line=4)
        t.lane.op("aten._local_scalar_dense.default", loss, shape=[], cut=True, line=5)
        t.backward(t.lane.external([], line=5), line=6, graph=False)

    assert found(tmp_path, program) == [("graph-cut", 5, 1)]


def test_a_loss_from_external_values_alone_is_cut_where_the_last_of_them_came_in(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        t.lane.external(line=3)
        total = t.lane.op("aten.add.Tensor", t.lane.external(line=4), t.lane.external(line=5), line=6)
        t.backward(total, line=7, graph=False)
        t.backward(t.lane.op("aten.add.Tensor", total, t.lane.op("aten.randn.default", line=8), line=9), line=10, graph=False)

    assert found(tmp_path, program) == [("graph-cut", 5, 1), ("graph-cut", 10, 1)]


def test_a_line_that_uses_data_is_only_a_hint_because_it_has_no_op(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch.utils.data\nw = 1\nself.data[1]\nloss = h.data.sum()\nloss.backward()\n")

    def program(t: Training) -> None:
        w = t.parameter("w", 2)
        h = t.lane.op("aten.relu.default", t.lane.op("aten.relu.default", w, line=1), line=3)
        t.backward(t.lane.op("aten.sum.default", h, shape=[], line=4), line=5, graph=False)

    (finding,) = findings(tmp_path, program)
    assert (finding.rule, finding.line) == ("graph-cut", 5)
    assert "; train.py:4 uses .data, which has no graph" in finding.message


def made_of_numbers(t: Training, line: int, often: int, *, real: int = 0) -> None:
    w = t.parameter("w")
    t.optimizer("w")
    for k in range(often + real):
        if k < real:
            t.backward(t.lane.op("aten.sum.default", t.leaves["w"], shape=[], line=4), "w", line=line)
            t.step("w", line=9)
            continue
        t.leaves["loss"] = t.lane.external([], line=5)
        t.backward(t.leaves["loss"], "loss", line=line)
        t.step(line=9, had=0)
    assert w


def test_a_loss_made_of_numbers_that_requires_a_gradient_is_found_where_it_is_made(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, lambda t: made_of_numbers(t, 6, 3))
    assert (finding.rule, finding.line, finding.count) == ("graph-cut", 5, 3)
    assert "the backward pass in train.py:6 ends at the tensor that it is called on (3 times)" in finding.message


def test_a_zero_loss_for_a_batch_without_targets_is_no_fault(tmp_path: Path) -> None:
    assert found(tmp_path, lambda t: made_of_numbers(t, 6, 1, real=3)) == []


def test_backward_on_an_own_tensor_is_no_fault_without_an_optimizer(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        x = t.leaves["x"] = t.lane.external([], line=1)
        t.backward(x, "x", line=2)
        t.backward(x, "x", line=2)

    assert found(tmp_path, program) == []


# parameter-cut-off, parameter-without-gradient


def trained(t: Training, forward: Callable[[LaneBuilder, Tensor, Tensor], Tensor], had: int = 1) -> None:
    """Three steps with a body and a head, of which only the head gets gradients."""
    t.parameter("net.body.weight", 2)
    t.parameter("net.head.weight", 3)
    t.optimizer("net.body.weight", "net.head.weight")
    for _ in range(3):
        loss = forward(t.lane, t.leaves["net.body.weight"], t.leaves["net.head.weight"])
        t.backward(loss, "net.head.weight", line=8)
        t.step("net.head.weight", line=9, had=had)


def under_no_grad(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    first = lane.op("aten.mm.default", lane.external(), body, cut=True, line=4)
    return lane.op("aten.mm.default", lane.op("aten.mm.default", first, body, cut=True, line=5), head, line=6)


def detached(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    h = lane.op("aten.mm.default", lane.external(), body, line=4)
    lane.op("aten.detach.default", h, digest=0, cut=True, line=5)
    return lane.op("aten.mm.default", h, head, line=6)


def detached_after_use(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    h = lane.op("aten.mm.default", lane.external(), body, line=4)
    out = lane.op("aten.mm.default", h, head, line=6)
    lane.op("aten.detach.default", h, digest=0, cut=True, line=5)
    return out


def frozen(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    h = lane.op("aten.mm.default", lane.external(), body, line=4)
    lane.op("aten.detach.default", h, digest=0, line=5)
    return lane.op("aten.mm.default", h, head, line=6)


def frozen_behind(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    h = lane.op("aten.mm.default", lane.external(), head, line=4)
    lane.op("aten.detach.default", h, digest=0, cut=True, line=5)
    lane.op("aten.gt.Scalar", h, dtype="bool", cut=True, line=5)
    return lane.op("aten.mm.default", h, body, line=6)


def frozen_before(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    h = lane.op("aten.mm.default", lane.op("aten.mm.default", lane.external(), body, line=4), head, line=4)
    lane.op("aten.detach.default", h, digest=0, cut=True, line=5)
    return lane.op("aten.mul.Tensor", h, line=6)


def in_a_function(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    h = lane.op("aten.mm.default", lane.external(), head, line=4)
    return lane.op("aten.mul.Tensor", lane.op("aten.mm.default", h, body, cut=True, line=5), line=6)


def chosen(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    index = lane.op("aten.argmax.default", lane.op("aten.mm.default", lane.external(), body, line=4), dtype="int64", cut=True, line=5)
    return lane.op("aten.embedding.default", head, index, line=6)


def attended(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    h = lane.op("aten.mm.default", lane.external(), head, line=4)
    lane.op("aten.t.default", body, digest=0, cut=True, line=5)
    return lane.op("aten.mul.Tensor", h, lane.op("aten.mm.default", h, body, cut=True, line=5), line=6)


def quantised(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    h = lane.op("aten.mm.default", lane.external(), head, line=4)
    index = lane.op("aten.argmin.default", h, dtype="int64", cut=True, line=4)
    entry = lane.op("aten.embedding.default", body, index, line=4)
    lane.op("aten.detach.default", entry, digest=0, cut=True, line=5)
    return lane.op("aten.sub.Tensor", h, entry, line=6)


def unused(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    lane.op("aten.detach.default", body, digest=0, cut=True, line=5)
    return lane.op("aten.mm.default", lane.external(), head, line=6)


def forgotten(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
    lane.op("aten.mm.default", lane.external(), body, line=4)
    return lane.op("aten.mm.default", lane.external(), head, line=6)


WAYS: list[tuple[Callable[[LaneBuilder, Tensor, Tensor], Tensor], list[tuple[str, int | None, int]]]] = [
    (under_no_grad, [("parameter-cut-off", 5, 1)]),
    (detached, [("parameter-cut-off", 5, 1)]),
    (chosen, [("parameter-cut-off", 5, 1)]),
    (attended, [("parameter-cut-off", 5, 1)]),
    (quantised, [("parameter-cut-off", 5, 1)]),
    (unused, [("parameter-without-gradient", 2, 1)]),
    (forgotten, [("parameter-without-gradient", 2, 1)]),
    (detached_after_use, []),
    (frozen, []),
    (frozen_behind, []),
    (frozen_before, []),
    (in_a_function, []),
]


@pytest.mark.parametrize(("forward", "expected"), WAYS, ids=lambda part: getattr(part, "__name__", ""))
def test_parameters_held_in_vain_are_one_finding_or_none_if_frozen(
    forward: Callable[[LaneBuilder, Tensor, Tensor], Tensor], expected: list[tuple[str, int | None, int]], tmp_path: Path
) -> None:
    said = findings(tmp_path, lambda t: trained(t, forward))
    assert [(finding.rule, finding.line, finding.count) for finding in said] == expected
    assert all("net.body.weight" in finding.message and "SGD" in finding.message for finding in said)


@pytest.mark.parametrize("forward", [under_no_grad, unused])
def test_gradients_that_only_the_optimizer_had_count_as_accumulated(
    forward: Callable[[LaneBuilder, Tensor, Tensor], Tensor], tmp_path: Path
) -> None:
    assert found(tmp_path, lambda t: trained(t, forward, had=2)) == []


def test_a_tensor_is_identified_by_its_last_write_if_its_name_changed(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        w = t.parameter("w")
        t.parameter("v")
        t.optimizer("w", "v")
        t.leaves["self.w"] = w
        t.backward(t.lane.op("aten.sum.default", w, t.leaves["v"], cut=True, line=4), "self.w", "v", line=5)
        t.step("self.w", "v", line=6, had=1)

    assert found(tmp_path, program, "parameter-cut-off", "parameter-without-gradient") == []


def test_frozen_parameters_are_not_named_with_those_that_are_cut_off(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        body, router, head = (t.parameter(name) for name in ("net.body", "net.router", "net.head"))
        t.optimizer("net.body", "net.router", "net.head")
        h = t.lane.op("aten.mm.default", t.lane.external(), body, line=4)
        index = t.lane.op("aten.argmax.default", t.lane.op("aten.mm.default", h, router, line=5), dtype="int64", cut=True, line=5)
        t.backward(t.lane.op("aten.mul.Tensor", h, t.lane.op("aten.embedding.default", head, index, line=6), line=6), "net.head", line=7)
        t.step("net.head", line=8)

    (finding,) = findings(tmp_path, program)
    assert (finding.rule, finding.line) == ("parameter-cut-off", 5)
    assert finding.message.endswith("reaches net.router, which SGD holds")


def test_a_bias_is_cut_off_together_with_its_weight(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        weight, bias, head = (t.parameter(name) for name in ("net.weight", "net.bias", "net.head"))
        t.optimizer("net.weight", "net.bias", "net.head")
        h = t.lane.op("aten.mm.default", t.lane.external(), head, line=4)
        t.lane.op("aten.t.default", weight, digest=0, cut=True, line=5)
        by = t.lane.op("aten.addmm.default", bias, h, weight, cut=True, line=5)
        t.backward(t.lane.op("aten.mul.Tensor", h, by, line=6), "net.head", line=7)
        t.step("net.head", line=8)

    (finding,) = findings(tmp_path, program)
    assert (finding.rule, finding.line) == ("parameter-cut-off", 5)
    assert finding.message.startswith("addmm runs here")
    assert "net.weight and net.bias" in finding.message


def test_unwritten_or_unnamed_tensors_are_not_judged(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        names = ["unseen", "a tensor of shape [3]"]
        t.lane.event("optimizer", number=1, name="SGD", leaves=names, written=[0, t.parameter("a tensor of shape [3]").number])
        t.parameter("w")
        t.optimizer("w")
        t.backward(t.lane.op("aten.sum.default", t.leaves["w"], line=4), "w", line=5)
        t.step("w", line=6)

    assert found(tmp_path, program) == []


def test_a_backward_without_a_graph_is_one_fault_and_its_missing_gradients_are_none(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        made_of_numbers(t, 6, 2)
        t.backward(t.lane.op("aten.mul.Tensor", t.parameter("v"), cut=True, line=7), line=8, graph=False)

    assert found(tmp_path, program) == [("graph-cut", 5, 2), ("graph-cut", 7, 1)]


def test_parameters_used_only_after_the_first_step_are_not_judged(tmp_path: Path) -> None:
    steps = iter(range(3))

    def forward(lane: LaneBuilder, body: Tensor, head: Tensor) -> Tensor:
        return under_no_grad(lane, body, head) if next(steps) else lane.op("aten.mm.default", lane.external(), head, line=6)

    assert found(tmp_path, lambda t: trained(t, forward)) == []


# step-without-new-gradient


def stepping(t: Training, *digests: object, zero: bool = False, accumulate: bool = False) -> None:
    t.parameter("w")
    t.optimizer("w")
    for _ in range(3):
        if zero:
            t.zero(2)
        t.backward(t.lane.op("aten.sum.default", t.leaves["w"], shape=[], line=3), "w", line=4)
        for line, digest in enumerate(digests, 5):
            if accumulate and line > 5:
                t.backward(t.lane.op("aten.sum.default", t.leaves["w"], shape=[], line=3), "w", line=4)
            t.step("w", line=line, digest=digest)


def test_a_second_step_on_the_same_gradients_is_one_finding_in_a_loop(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, lambda t: stepping(t, 7, 7))
    assert (finding.rule, finding.line, finding.count) == ("step-without-new-gradient", 6, 3)
    assert "since its previous step in train.py:5 (3 times, from step 1 on)" in finding.message


@pytest.mark.parametrize(
    ("digests", "how"),
    [((7,), {}), ((7, 8), {}), ((7, 7), {"accumulate": True}), ((None, None), {})],
    ids=["one step each", "set by hand", "a gradient that happens to be equal", "another gradient"],
)
def test_a_step_on_new_gradients_is_no_fault(digests: tuple[object, ...], how: dict[str, Any], tmp_path: Path) -> None:
    assert found(tmp_path, lambda t: stepping(t, *digests, **how)) == []


def test_steps_without_gradients_or_by_another_optimizer_are_no_faults(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        t.parameter("v")
        t.parameter("w")
        t.optimizer("v", number=1)
        t.optimizer("w", number=2)
        for _ in range(2):
            t.backward(t.lane.op("aten.sum.default", t.leaves["v"], t.leaves["w"], shape=[], line=3), "v", "w", line=4)
            t.step("v", line=5, digest=7, number=1)
            t.step("w", line=6, digest=7, number=2)
        t.step(line=7, had=0, digest=7, number=1)
        t.step(line=7, had=0, digest=7, number=1)
        t.backward(t.lane.op("aten.sum.default", t.leaves["w"], shape=[], line=8), "w", line=9)
        t.step("v", line=10, digest=7, number=1)

    assert found(tmp_path, program) == []


# scheduler-before-optimizer


def scheduled(t: Training, *, early: int = 0, first: bool = False, scaled: bool = False) -> None:
    t.parameter("w")
    t.optimizer("w")
    for _ in range(early):
        t.lane.event("schedule", 3, number=1, name="StepLR")
    for _ in range(3):
        if first:
            t.lane.event("schedule", 4, number=1, name="StepLR")
        t.backward(t.lane.op("aten.sum.default", t.leaves["w"], shape=[], line=5), "w", line=6)
        if scaled:
            t.lane.op("aten._amp_foreach_non_finite_check_and_unscale_.default", t.leaves["w"], line=7)
        t.step("w", line=7)
        if not first:
            t.lane.event("schedule", 8, number=1, name="StepLR")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"first": True}, [("scheduler-before-optimizer", 4, 3)]),
        ({}, []),
        ({"early": 2}, []),
        ({"first": True, "scaled": True}, []),
    ],
    ids=["before", "after", "wound forward", "with a scaler"],
)
def test_a_scheduler_is_early_if_it_steps_first_in_a_loop(how: dict[str, Any], expected: object, tmp_path: Path) -> None:
    assert found(tmp_path, lambda t: scheduled(t, **how)) == expected


# gradients-zeroed-before-step


def zeroing(t: Training, *, module: bool = False, to_none: bool = True, after: bool = False, skip: int = 0) -> None:
    t.parameter("net.v")
    t.parameter("net.w")
    t.optimizer("net.v", "net.w")
    for k in range(4):
        t.backward(t.lane.op("aten.sum.default", t.leaves["net.v"], t.leaves["net.w"], line=3), "net.v", "net.w", line=4)
        if k < skip or after:
            t.step("net.v", "net.w", line=6)
        if k >= skip or after:
            t.zero(5, None if module else 1)
        if k >= skip and not after:
            if not to_none:
                for name, gradient in t._gradients.items():
                    t._gradients[name] = t.lane.op("aten.zero_.default", gradient, digest=f"zeros {t.lane.last}", line=5)
            t.step(*(() if to_none else ("net.v", "net.w")), line=6)


@pytest.mark.parametrize("how", [{}, {"module": True}, {"to_none": False}], ids=["optimizer", "module", "zeros"])
def test_gradients_zeroed_before_each_step_are_one_finding_at_that_line(how: dict[str, Any], tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, lambda t: zeroing(t, **how))
    assert (finding.rule, finding.line, finding.count) == ("gradients-zeroed-before-step", 5, 4)
    assert "net.v and net.w, computed in train.py:4" in finding.message


@pytest.mark.parametrize("how", [{"after": True}, {"skip": 2}], ids=["after", "only at times"])
def test_gradients_used_by_a_step_are_not_zeroed_too_early(how: dict[str, Any], tmp_path: Path) -> None:
    assert found(tmp_path, lambda t: zeroing(t, **how)) == []


def test_gradients_that_a_step_skipped_before_they_were_zeroed_are_another_fault(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        t.parameter("net.w")
        t.optimizer("net.w")
        for _ in range(3):
            t.backward(t.lane.op("aten.sum.default", t.leaves["net.w"], line=3), "net.w", line=4)
            t.step(line=5, had=1)
            t.zero(6)

    assert found(tmp_path, program) == [("unused-gradients", 4, 3)]


def test_gradients_never_zeroed_nor_used_by_an_update_are_another_fault(tmp_path: Path) -> None:
    def program(t: Training) -> None:
        t.parameter("net.v")
        t.parameter("net.w")
        t.optimizer("net.w")
        for _ in range(3):
            t.zero(2)
            t.backward(t.lane.op("aten.sum.default", t.leaves["net.v"], line=3), "net.v", line=4)
            t.step(line=5)

    assert found(tmp_path, program) == [("unused-gradients", 4, 3)]


def test_gradients_over_which_reduced_ones_are_copied_are_used(tmp_path: Path) -> None:
    """DDP copies the mean of all ranks over each rank's gradient, and steps in fused code that reads the memory under another name."""

    def program(t: Training) -> None:
        t.parameter("net.w")
        t.optimizer("net.w")
        for _ in range(3):
            t.zero(2)
            t.backward(t.lane.op("aten.sum.default", t.leaves["net.w"], line=3), "net.w", line=4)
            t.lane.phase = "backward"
            reduced = t.lane.op("aten.ones.default", line=4)
            t.lane.op("aten.copy_.default", t._gradients["net.w"], reduced, line=4)
            t.lane.phase = "forward"
            t.step(line=6, had=1)

    assert found(tmp_path, program) == []


@pytest.mark.parametrize(("where", "stepped"), [("a hook", True), ("the gradient of no leaf", True), ("a hook", False)])
def test_gradients_count_as_used_if_values_computed_from_them_reach_the_update(where: str, stepped: bool, tmp_path: Path) -> None:
    """Per-sample gradients are clipped and their mean goes to the optimizer; or their norm is only printed."""

    def program(t: Training) -> None:
        t.parameter("net.w")
        t.optimizer("net.w")
        for _ in range(3):
            t.zero(2)
            t.backward(t.lane.op("aten.sum.default", t.leaves["net.w"], line=3), "net.w", line=4)
            t.lane.phase = "backward"
            each = t.lane.op("aten.einsum.default", t._gradients["net.w"], line=9 if where == "a hook" else 4)
            t.lane.phase = "forward"
            mean = t.lane.op("aten.mean.dim", each, line=5)
            if stepped:
                t._gradients["net.w"] = mean
            t.step(*(["net.w"] if stepped else []), line=6)

    assert found(tmp_path, program) == ([] if stepped else [("unused-gradients", 4, 3)])
