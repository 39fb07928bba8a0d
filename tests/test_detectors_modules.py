"""Modules: two with the same weights, constant outputs, double softmax, and training mode during evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from tests.builder import LaneBuilder, Tensor
from tests.findings import found, places

# twin-modules


def drawn(lane: LaneBuilder, what: str, line: int, shapes: tuple[tuple[int, ...], ...] = ((5, 2), (5, 5), (5,), (5,))) -> list[Tensor]:
    """Parameters, each uniform; `what` stands for their values."""
    return [lane.op("aten.uniform_.default", shape=shape, digest=f"{what}{k}", line=line) for k, shape in enumerate(shapes)]


def call(lane: LaneBuilder, module: str, weights: list[Tensor], *data: Tensor, line: int) -> Tensor:
    """A module reads data, then each of its weights."""
    lane.module, before = module, lane.module
    lane.phase = "forward"
    out = lane.op("aten.addmm.default", *data, line=line)
    for weight in weights:
        out = lane.op("aten.addmm.default", out, weight, line=line)
    lane.module = before
    return out


def backward(lane: LaneBuilder, *saved: Tensor) -> None:
    lane.phase = "backward"
    lane.op("aten.mul.Tensor", *saved)
    lane.phase = "forward"


def test_a_cell_and_its_layer_with_other_weights_are_found_trained_or_not(tmp_path: Path) -> None:
    for trained in (False, True):

        def program(lane: LaneBuilder, trained: bool = trained) -> None:
            x = lane.op("aten.randn.default", line=1)
            cell = drawn(lane, "cell", 2)
            hidden = lane.op("aten.zeros.default", digest="zeros", line=3)
            for _ in range(3):
                hidden = call(lane, "RNNCell", cell, x, hidden, line=4)
            rnn = drawn(lane, "rnn", 5)
            out = call(lane, "RNN", rnn, x, lane.op("aten.zeros.default", shape=[1, 1, 5], digest="zeros", line=6), line=6)
            if trained:
                backward(lane, out)

        [finding] = found(tmp_path / str(trained), "twin-modules", program)
        assert (finding.line, finding.evidence["module"], finding.evidence["other"]) == (5, "RNN", "RNNCell")
        assert "called in train.py:6" in finding.message
        assert "made in train.py:2, called in train.py:4" in finding.message
        assert "copy from RNNCell to RNN weight_ih -> weight_ih_l0, and so for weight_hh, bias_ih, bias_hh" in finding.message


def test_two_modules_of_different_classes_are_reported_only_if_untrained(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, trained: bool = False) -> None:
        x = lane.external(line=1)
        a, b, c = (drawn(lane, name, line, ((4, 3), (4,))) for name, line in (("a", 2), ("b", 3), ("c", 4)))
        for _ in range(2):
            call(lane, "Mine", a, x, line=5)
            call(lane, "Theirs", b, x, line=6)
            out = call(lane, "Others", c, x, line=7)
        if trained:
            backward(lane, out)

    findings = found(tmp_path / "a", "twin-modules", program)
    assert places(findings) == [(3, 1), (4, 1)]
    assert "copy the parameters of shapes [4, 3], [4] from Mine to Theirs" in findings[0].message
    assert found(tmp_path / "b", "twin-modules", lambda lane: program(lane, trained=True)) == []


@pytest.mark.parametrize("case", ["copied", "one class", "layers", "other shapes", "other data", "one weight", "loaded", "constant data"])
def test_modules_that_are_not_reported(case: str, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.op("aten.zeros.default" if case == "constant data" else "aten.randn.default", line=1)
        y = lane.op("aten.randn.default", digest="other", line=1) if case == "other data" else x
        shapes = ((4, 3),) if case == "one weight" else ((4, 3), (4,))
        a = drawn(lane, "a", 2, shapes)
        b = drawn(lane, "a" if case == "copied" else "b", 3, ((3, 4), (4,)) if case == "other shapes" else shapes)
        if case == "loaded":
            b = [lane.op("aten.copy_.default", None, weight, line=3) for weight in a]
        names = {"one class": ("Net", "Net"), "layers": ("Net.a", "Net.b")}.get(case, ("GRU", "GRUCell"))
        call(lane, names[0], a, x, line=4)
        call(lane, names[1], b, y, line=5)

    assert found(tmp_path, "twin-modules", program) == []


# constant-output

ZEROS = xxh3_64_intdigest(bytes(4 * 8))
FEW_ZEROS = xxh3_64_intdigest(bytes(4 * 5))


def model(
    lane: LaneBuilder, weight: Tensor, data: Tensor, gives: int | str, name: str = "Net", op: str = "aten.relu.default", **how: object
) -> None:
    """A call of a model whose last op returns this."""
    lane.phase, lane.module = "forward", f"{name}.head"
    hidden = lane.op("aten.addmm.default", data, weight, line=3)
    lane.module = name
    lane.op(op, hidden, **{"shape": [8, 1], "digest": gives, "line": 4} | how)  # type: ignore[arg-type]
    lane.module = ""
    lane.op("aten.mse_loss.default", line=9)


def trained(lane: LaneBuilder, outputs: list[int | str], data: list[str], updates: bool = True, **how: object) -> None:
    """Calls of a model with these outputs for these data, with an update after each."""
    weight = lane.op("aten.uniform_.default", line=1)
    for k, (output, value) in enumerate(zip(outputs, data, strict=True)):
        model(lane, weight, lane.external([8, 2], value, line=2), output, **how)  # type: ignore[arg-type]
        if updates:
            lane.phase = "optimizer"
            weight = lane.op("aten.add_.Tensor", weight, digest=f"w{k}", line=8)
            lane.step()
            lane.phase = "forward"


def test_a_model_with_constant_output_for_changing_data_is_found_with_its_duration(tmp_path: Path) -> None:
    [finding] = found(tmp_path, "constant-output", lambda lane: trained(lane, ["a", *["same"] * 5], [f"x{k}" for k in range(6)]))
    assert (finding.line, finding.count, finding.evidence["module"], finding.evidence["what"]) == (4, 5, "Net", "the same output")


def test_zeros_are_equal_in_batches_of_any_size_and_through_a_view(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        trained(lane, ["a", *[ZEROS] * 4], ["x"] * 5)
        weight = lane.op("aten.uniform_.default", line=1)
        model(lane, weight, lane.external([5, 2], "other", line=2), FEW_ZEROS, shape=[5, 1])
        lane.module = "Net"
        x = lane.external([5, 2], "third", line=2)
        dead = lane.op("aten.relu.default", x, shape=[5, 1], digest=FEW_ZEROS, line=4)
        lane.op("aten.view.default", dead, shape=[5], digest=0, line=5)

    [finding] = found(tmp_path, "constant-output", program)
    assert (finding.line, finding.count, finding.evidence["what"]) == (4, 6, "only zeros")


@pytest.mark.parametrize(
    ("outputs", "data", "how"),
    [
        # the same data, though the weights change
        (["same"] * 5, ["x"] * 5, {}),
        # constant for a while, and alive again at the end
        ([ZEROS, ZEROS, ZEROS, ZEROS, "a"], [f"x{k}" for k in range(5)], {}),
        # too few
        (["a", "b", "c", "same", "same"], [f"x{k}" for k in range(5)], {}),
        # a number or two, a mask, a position, a loss, integers, several parts
        (["same"] * 5, [f"x{k}" for k in range(5)], {"shape": [2]}),
        (["same"] * 5, [f"x{k}" for k in range(5)], {"shape": []}),
        (["same"] * 5, [f"x{k}" for k in range(5)], {"op": "aten.ones_like.default"}),
        (["same"] * 5, [f"x{k}" for k in range(5)], {"dtype": "int64"}),
        (["same"] * 5, [f"x{k}" for k in range(5)], {"dtype": "bool"}),
        (["same"] * 5, [f"x{k}" for k in range(5)], {"dtype": "complex64"}),
        (["same"] * 5, [f"x{k}" for k in range(5)], {"name": "MSELoss"}),
        (["same"] * 5, [f"x{k}" for k in range(5)], {"more": ["other"]}),
        (["same"] * 5, [f"x{k}" for k in range(5)], {"digest": 0}),
    ],
)
def test_outputs_that_may_be_constant_are_not_reported(
    outputs: list[int | str], data: list[str], how: dict[str, object], tmp_path: Path
) -> None:
    for updates in (True, False):
        program = lambda lane, updates=updates: trained(lane, outputs, data, updates, **how)  # noqa: E731
        assert found(tmp_path / str(updates), "constant-output", program) == []


def test_data_that_a_module_wrote_itself_do_not_count_as_different_data(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        weight, x = lane.op("aten.uniform_.default", line=1), lane.external([8, 2], "x", line=2)
        count = lane.op("aten.zeros.default", line=1)
        for _ in range(5):
            lane.module, lane.phase = "Net", "forward"
            count = lane.op("aten.add_.Tensor", count, line=3)
            model(lane, weight, x, "same")

    assert found(tmp_path, "constant-output", program) == []


def test_constant_outputs_are_found_in_workers_and_in_bfloat16_too(tmp_path: Path) -> None:
    zeros = xxh3_64_intdigest(bytes(2 * 8))
    program = lambda lane: trained(lane, [zeros] * 3, ["a", "b", "c"], dtype="bfloat16")  # noqa: E731
    [finding] = found(tmp_path, "constant-output", program, "worker 0")
    assert finding.evidence["what"] == "only zeros"


# softmax-before-cross-entropy, sigmoid-before-logits-loss


def test_probabilities_passed_to_log_softmax_are_found_through_views_and_casts(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for _ in range(3):
            lane.module = "Net.2"
            probabilities = lane.op("aten._softmax.default", lane.external(line=1), args=[1], line=2)
            lane.module = ""
            lane.op("aten.view.default", probabilities, digest=0, line=3)
            lane.op("aten._log_softmax.default", probabilities, args=[1], line=3)
            half = lane.op("aten._to_copy.default", probabilities, dtype="bfloat16", line=4)
            lane.op("aten._log_softmax.default", half, args=[1], dtype="bfloat16", line=5)

    findings = found(tmp_path, "softmax-before-cross-entropy", program)
    assert places(findings) == [(3, 3), (5, 3)]
    assert "softmax in Net.2 (train.py:2)" in findings[0].message


def test_attention_logits_and_backward_values_are_no_probabilities(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        attention = lane.op("aten._softmax.default", lane.external(line=1), line=2)
        out = lane.op("aten.bmm.default", attention, line=2)
        lane.op("aten._log_softmax.default", out, line=3)
        lane.op("aten._log_softmax.default", lane.op("aten.log.default", attention, line=4), line=4)
        lane.op("aten._log_softmax.default", lane.op("aten._log_softmax.default", out, line=5), line=5)
        lane.op("aten._log_softmax.default", None, line=6)
        lane.phase = "backward"
        lane.op("aten._log_softmax.default", attention, line=7)

    assert found(tmp_path, "softmax-before-cross-entropy", program) == []


def test_a_sigmoid_before_a_logits_loss_is_found_but_not_one_in_its_targets(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external(line=1)
        probability = lane.op("aten.sigmoid.default", x, line=2)
        lane.op("aten.binary_cross_entropy_with_logits.default", probability, x, line=3)
        lane.op("aten.binary_cross_entropy_with_logits.default", x, probability, line=4)
        lane.op("aten.binary_cross_entropy.default", probability, x, line=5)

    assert places(found(tmp_path, "sigmoid-before-logits-loss", program)) == [(3, 1)]


# dropout-in-evaluation, batch-norm-in-evaluation


def dropped(lane: LaneBuilder, line: int, active: bool = True) -> Tensor:
    """A call of a network with dropout."""
    lane.phase, lane.module = "forward", "Net.1"
    out = lane.external(line=line)
    if active:
        out = lane.random("aten.bernoulli_.float", out, line=line)
    lane.module = "Net"
    out = lane.op("aten.mul.Tensor", out, line=line)
    lane.module = ""
    return out


def script(lane: LaneBuilder, cwd: Path, *lines: str) -> None:
    (cwd / "net.py").write_text("\n".join(lines) + "\n")
    lane.file = str(cwd / "net.py")


SCRIPT = (
    "loss = criterion(net(x), y)",
    "val_loss = criterion(net(x), y)",
    "teacher = net(x)",
    "value = net(x)",
    "test_acc = (net(x) > 0).mean()",
)


def test_dropout_in_an_evaluation_line_is_found_if_no_backward_pass_follows(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        script(lane, tmp_path, *SCRIPT)
        for _ in range(3):
            backward(lane, dropped(lane, 1))
            for line in (2, 3, 4, 5):
                dropped(lane, line, active=line != 5)
                lane.op("aten.mean.default", line=line)

    findings = found(tmp_path, "dropout-in-evaluation", program)
    assert places(findings) == [(2, 3)]
    assert findings[0].message == "Net is in training mode in this evaluation: Net.1 drops at random"


def test_the_line_after_a_call_shows_its_purpose(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        script(lane, tmp_path, "out = net(x)", "valid_loss = criterion(out, y)", "loss = criterion(out, y)")
        for line in (3, 2):
            out = dropped(lane, 1)
            lane.op("aten.mse_loss.default", out, line=line)
            if line == 3:
                backward(lane, out)

    assert places(found(tmp_path, "dropout-in-evaluation", program)) == [(2, 1)]


def test_scripts_that_never_train_or_train_on_the_validation_loss_do_not_evaluate(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, trains: bool) -> None:
        script(lane, tmp_path, *SCRIPT)
        for _ in range(3):
            out = dropped(lane, 2)
            lane.op("aten.mse_loss.default", out, line=2)
            if trains:
                backward(lane, out)

    assert found(tmp_path / "a", "dropout-in-evaluation", lambda lane: program(lane, trains=False)) == []
    assert found(tmp_path / "b", "dropout-in-evaluation", lambda lane: program(lane, trains=True)) == []


@pytest.mark.parametrize(("args", "speaks"), [([True], True), ([False], False), ([None, None, True], False), (None, False)])
def test_batch_norm_is_found_where_its_running_statistics_change(args: list[object] | None, speaks: bool, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        script(lane, tmp_path, *SCRIPT)
        for line in (1, 2):
            lane.phase, lane.module = "forward", "Net.norm"
            out = lane.op("aten.native_batch_norm.default", lane.external(line=line), args=args, line=line)
            lane.module = ""
            if line == 1:
                backward(lane, out)

    assert places(found(tmp_path, "batch-norm-in-evaluation", program)) == ([(2, 1)] if speaks else [])
