"""Matching the named values of two programs: which names correspond, what rounding explains, how the rest differs, what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import UsageError
from auditor.mapping import mapping_of, read_mapping
from auditor.matching import MatchResult, matched
from auditor.matching.factor import Context, meaning_of
from auditor.report.words.reasons import meaning_of as meaning_text
from auditor.report.words.reasons import text_of
from auditor.results import NamePair, Relation
from tests.series import Program, told


def match(a: Program, b: Program, mapping: Mapping[str, str] | None = None) -> MatchResult:
    return matched(a.series(), b.series(), mapping)


def pair_of(found: MatchResult, name: str) -> NamePair:
    (pair,) = [pair for pair in found.pairs if pair.a == name]
    return pair


def origins(found: MatchResult) -> list[str]:
    return [pair.a for pair in found.origins]


def holds(relation: Relation | None, kind: str, value: Any = ..., says: Sequence[str] = ()) -> None:
    """Whether a relation has this kind, this value, and these words in its meaning."""
    assert relation is not None
    assert relation.kind == kind, relation
    if value is not ...:
        assert relation.value == value, relation
    for words in says:
        assert words in meaning_text(relation.meaning)


def assert_agrees(found: MatchResult) -> None:
    assert found.answer == "agree", (told(found), found.unaligned)
    assert [pair.a for pair in found.pairs if not pair.agrees] == []


# Case 1: FizzBuzz by hand and by autograd


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def encoded(numbers: Any, dtype: Any) -> Any:
    bits = (numbers[:, None] >> np.arange(10)) & 1
    classes = (numbers % 3 == 0) + 2 * (numbers % 5 == 0)
    return bits.astype(dtype), np.eye(4, dtype=dtype)[classes]


def fizzbuzz(
    dtype: Any = np.float64,
    *,
    epochs: int = 2,
    loss_is: str = "mean",
    gradient: float = 1.0,
    stale: str = "",
    derivative: bool = True,
    keep: bool = True,
    steps: bool = True,
    names: Mapping[str, str] | None = None,
) -> Program:
    """Layers 10-100-4 with sigmoids, plain SGD by hand. `stale` is a weight whose gradient is never zeroed."""
    p = Program(keep=keep, steps=steps)
    rng = np.random.default_rng(0)

    def let(name: str, value: Any) -> Any:
        return p.let((names or {}).get(name, name), value)

    weights = {name: let(name, rng.standard_normal(shape).astype(dtype)) for name, shape in
               (("w1", (10, 100)), ("b1", (1, 100)), ("w2", (100, 4)), ("b2", (1, 4)))}  # fmt: skip
    order = let("order", rng.permutation(1000))
    x_train, y_train = encoded(order[:900], dtype)
    let("x_train", x_train)
    let("y_train", y_train)
    lr = let("lr", 0.01)
    sums = {name: np.zeros_like(value) for name, value in weights.items()}
    for _ in range(epochs):
        for start in range(0, 900 - 64 + 1, 64):
            x, y = let("x", x_train[start : start + 64]), let("y", y_train[start : start + 64])
            w1, b1, w2, b2 = weights.values()
            h = let("h", sigmoid(x @ w1 + b1))
            output = let("output", sigmoid(h @ w2 + b2))
            error = let("error", output - y)
            let("loss", (error**2).mean() if loss_is == "mean" else (error**2).sum())
            delta2 = error * output * (1 - output) if derivative else error
            delta1 = (delta2 @ w2.T) * h * (1 - h)
            made = {"w2": h.T @ delta2, "b2": delta2.sum(0, keepdims=True), "w1": x.T @ delta1, "b1": delta1.sum(0, keepdims=True)}
            for name, slope in made.items():
                sums[name] = sums[name] + slope if name == stale else slope
                weights[name] = let(name, (weights[name] - dtype(lr) * dtype(gradient) * sums[name]).astype(dtype))
            p.tick()
    return p


def test_float32_and_float64_agree_at_every_step() -> None:
    found = match(fizzbuzz(), fizzbuzz(np.float32))
    assert_agrees(found)
    assert found.unaligned == []
    digits = {pair.a: pair.digits for pair in found.pairs}
    assert all(value is not None and value > 4.5 for value in digits.values()), digits
    assert [pair.a for pair in found.pairs][:4] == ["w1", "b1", "w2", "b2"]


def test_a_summed_loss_differs_only_by_the_number_of_elements() -> None:
    found = match(fizzbuzz(), fizzbuzz(np.float32, loss_is="sum"))
    assert found.answer == "differ"
    assert origins(found) == ["loss"]
    loss = pair_of(found, "loss")
    holds(loss.relation, "factor", 256.0, says=["256", "`error`"])
    assert [pair.a for pair in found.pairs if not pair.agrees] == ["loss"]


def test_doubled_gradients_are_reported_at_the_first_update_and_other_weights_follow() -> None:
    found = match(fizzbuzz(), fizzbuzz(np.float32, gradient=2.0))
    assert origins(found) == ["w2"]
    for name in ("w2", "b2", "w1", "b1"):
        update = pair_of(found, name).update
        holds(update, "factor", pytest.approx(2, rel=1e-3), says=["one half"])
        assert pair_of(found, name).follows == (None if name == "w2" else "w2")
    assert {pair.follows for pair in found.pairs if not pair.agrees} == {None, "w2"}
    first = pair_of(found, "w2").first
    assert first is not None
    assert first.step == 0


@pytest.mark.parametrize("weight", ["b1", "w2"])
def test_a_gradient_that_is_never_zeroed_accumulates_only_in_its_own_weight(weight: str) -> None:
    found = match(fizzbuzz(), fizzbuzz(np.float32, stale=weight))
    assert origins(found) == [weight]
    pair = pair_of(found, weight)
    holds(pair.update, "growing", 1.0, says=["never reset"])
    assert pair.first is not None
    assert pair.first.step == 1


def test_three_faults_at_once_are_three_findings() -> None:
    found = match(fizzbuzz(), fizzbuzz(np.float32, loss_is="sum", gradient=2.0, stale="b1"))
    assert sorted(origins(found)) == ["b1", "loss", "w2"]
    loss, w2, b1 = (pair_of(found, name) for name in ("loss", "w2", "b1"))
    holds(loss.relation, "factor", 256.0)
    holds(w2.update, "factor", pytest.approx(2, rel=1e-3))
    holds(b1.update, "growing")
    assert pair_of(found, "w1").follows == "w2"
    assert pair_of(found, "error").follows in ("w2", "b1")
    assert told(found).count("`") >= 6


def test_a_missing_derivative_is_no_factor_and_is_not_hidden_by_the_loss() -> None:
    found = match(fizzbuzz(), fizzbuzz(np.float32, loss_is="sum", derivative=False))
    assert origins(found) == ["loss", "w2"]
    update = pair_of(found, "w2").update
    holds(update, "other")


def test_the_faults_are_found_from_sketches_too() -> None:
    found = match(fizzbuzz(keep=False), fizzbuzz(np.float32, loss_is="sum", gradient=2.0, stale="b1", keep=False))
    assert sorted(origins(found)) == ["b1", "loss", "w2"]
    assert_agrees(match(fizzbuzz(keep=False), fizzbuzz(np.float32, keep=False)))


def test_a_program_without_steps_and_with_other_names_is_aligned_by_values() -> None:
    names = {"h": "hidden", "output": "prediction", "w1": "first_layer", "x": "batch"}
    found = match(fizzbuzz(steps=False), fizzbuzz(np.float32, names=names))
    assert_agrees(found)
    assert {pair.a: pair.b for pair in found.pairs if pair.how == "value"} == names
    assert found.unaligned == []


# What rounding explains


def trained(dtype: Any, steps: int, rate: float = 0.05, *, fault: Any = None, layers: int = 3) -> Program:
    """A recurrent tanh network fed with its own output, trained to follow a sine; chaotic at larger rates."""
    p = Program()
    rng = np.random.default_rng(1)
    w = p.let("w", (rng.standard_normal((16, 16)) * 0.5).astype(dtype))
    v = p.let("v", rng.standard_normal((16, 1)).astype(dtype))
    inputs = rng.standard_normal((8, 16)).astype(dtype)
    for t in range(steps):
        x = p.let("x", inputs * dtype(np.sin(t)))
        states = [x]
        for _ in range(layers):
            states.append(np.tanh(states[-1] @ w))
        out = p.let("out", states[-1] @ v)
        error = p.let("error", out - dtype(np.cos(t)))
        p.let("loss", (error * error).mean())
        back = error @ v.T
        slope = np.zeros_like(w)
        for one, before in zip(states[:0:-1], states[-2::-1], strict=True):
            back = back * (1 - one * one)
            slope = slope + before.T @ back
            back = back @ w.T
        v = p.let("v", (v - dtype(rate / 8) * (states[-1].T @ error)).astype(dtype))
        w = p.let("w", (w - dtype(rate / 8) * slope).astype(dtype))
        if fault is not None:
            w = fault(t, w)
        p.tick()
    p.let("final", np.tanh(inputs @ w) @ v)
    return p


def test_two_thousand_steps_in_float32_and_float64_agree() -> None:
    found = match(trained(np.float64, 2000), trained(np.float32, 2000))
    assert_agrees(found)


def test_a_chaotic_training_that_separates_is_drift_with_the_point_of_one_percent() -> None:
    found = match(trained(np.float64, 800, 0.3, layers=6), trained(np.float32, 800, 0.3, layers=6))
    assert max(error for _, error in pair_of(found, "w").errors) > 0.1, "only a chaotic training shows this"
    assert_agrees(found)
    w = pair_of(found, "w").relation
    holds(w, "rounding", says=["1 %", "step"])
    assert "drift" in told(found)


@pytest.mark.parametrize("at", [0, 5, 300])
def test_a_fault_is_distinguished_from_accumulated_drift(at: int) -> None:
    def fault(t: int, w: Any) -> Any:
        return w * w.dtype.type(1.01) if t == at else w

    found = match(trained(np.float64, 400), trained(np.float32, 400, fault=fault))
    assert found.answer == "differ"
    first = found.origins[0].first
    assert first is not None
    assert first.step == at + 1


def test_a_tie_decided_by_rounding_is_no_difference_but_another_count_is() -> None:
    def program(dtype: Any, flipped: int) -> Program:
        p = Program()
        rng = np.random.default_rng(0)
        for t in range(6):
            logits = p.let("logits", (rng.standard_normal((64, 4)) @ rng.standard_normal((4, 4))).astype(dtype))
            chosen = logits.argmax(1)
            if t == 4:
                chosen[:flipped] = (chosen[:flipped] + 1) % 4
            p.let("chosen", chosen)
            p.let("accuracy", float((chosen == 0).mean()))
            p.let("count", int((chosen == 0).sum()))
            p.tick()
        return p

    assert_agrees(match(program(np.float64, 0), program(np.float32, 0)))
    assert_agrees(match(program(np.float64, 0), program(np.float32, 1)))
    assert origins(match(program(np.float64, 0), program(np.float32, 20)))[:1] == ["chosen"]
    assert match(program(np.float32, 0), program(np.float32, 1)).answer == "differ", "without rounding nothing flips it"


def test_cancellation_leaves_no_digits_to_compare_but_a_systematic_relation_shows() -> None:
    def program(dtype: Any, left: float) -> Program:
        p = Program()
        rng = np.random.default_rng(0)
        for _ in range(12):
            x = p.let("x", rng.standard_normal(1000).astype(dtype))
            p.let("centred", float((x - x.mean()).mean()))
            p.let("tiny", dtype(left * rng.standard_normal()))
            p.tick()
        return p

    assert_agrees(match(program(np.float64, 1e-9), program(np.float32, 1e-9)))
    found = match(program(np.float64, 1e-9), program(np.float32, 3e-9))
    assert origins(found) == ["tiny"]
    relation = pair_of(found, "tiny").relation
    holds(relation, "factor", pytest.approx(3, rel=1e-3))


def classifier(seed: int, dtype: Any, optimizer: str, rate: float, *, backwards: bool = False, fault: Any = None, at: int = 0) -> Program:
    """Three layers with a softmax, trained for 60 steps; `backwards` sums every product in the other order."""
    p = Program(keep=seed % 4 > 0)
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((256, 10))
    classes = np.argmax(data[:, :4] + 0.3 * rng.standard_normal((256, 4)), 1)
    shapes = {"w1": (10, 16), "b1": (1, 16), "w2": (16, 16), "b2": (1, 16), "w3": (16, 4), "b3": (1, 4)}
    w = {name: p.let(name, (rng.standard_normal(shape) / np.sqrt(shape[0] + 2)).astype(dtype)) for name, shape in shapes.items()}
    data = data.astype(dtype)
    m, v = ({name: np.zeros_like(value) for name, value in w.items()} for _ in range(2))
    relu = seed % 2 == 0
    correct = 0

    def product(x: Any, y: Any) -> Any:
        return x[:, ::-1] @ y[::-1] if backwards else x @ y

    for t in range(60):
        lr = p.let("lr", rate * 0.5 ** (t // 20))
        some = rng.permutation(256)[:32]
        x, wanted = p.let("x", data[some]), classes[some]
        states = [x]
        for k in "12":
            z = product(states[-1], w["w" + k]) + w["b" + k]
            states.append(p.let("h" + k, np.maximum(z, 0) if relu else np.tanh(z)))
        logits = p.let("logits", product(states[-1], w["w3"]) + w["b3"])
        e = np.exp(logits - logits.max(1, keepdims=True))
        probs = p.let("probs", e / e.sum(1, keepdims=True))
        p.let("loss", float(-np.log(probs[np.arange(32), wanted]).mean()))
        predicted = p.let("predicted", logits.argmax(1))
        p.let("accuracy", float((predicted == wanted).mean()))
        correct = p.let("correct", correct + int((predicted == wanted).sum()))
        back = probs.copy()
        back[np.arange(32), wanted] -= 1
        back = back / dtype(32)
        slopes = {}
        for k in "321":
            h = states[int(k) - 1]
            slopes["w" + k], slopes["b" + k] = product(h.T, back), back.sum(0, keepdims=True)
            back = product(back, w["w" + k].T) * ((h > 0).astype(dtype) if relu else 1 - h * h)
        if fault is not None and t >= at:
            slopes["w2"] = fault(slopes["w2"], w["w2"])
        for name, slope in slopes.items():
            p.let("d" + name, slope)
            m[name] = dtype(0.9) * m[name] + (dtype(0.1) if optimizer == "adam" else dtype(1)) * slope
            v[name] = dtype(0.999) * v[name] + dtype(0.001) * slope * slope
            corrected = m[name] / dtype(1 - 0.9 ** (t + 1)) / (np.sqrt(v[name] / dtype(1 - 0.999 ** (t + 1))) + dtype(1e-8))
            w[name] = p.let(name, w[name] - dtype(lr) * {"sgd": slope, "momentum": m[name], "adam": corrected}[optimizer])
        p.tick()
    return p


RATES = {"sgd": 0.3, "momentum": 0.03, "adam": 0.01}


@pytest.mark.parametrize("optimizer", RATES)
@pytest.mark.parametrize("seed", [0, 1, 2, 6])
def test_correct_trainings_agree_in_other_dtypes_and_orders_of_summation(seed: int, optimizer: str) -> None:
    ours, theirs = ((np.float64, np.float32), (np.float32, np.float32), (np.float64, np.float64))[seed % 3]
    backwards = seed % 3 > 0
    assert_agrees(
        match(
            classifier(seed, ours, optimizer, RATES[optimizer]), classifier(seed, theirs, optimizer, RATES[optimizer], backwards=backwards)
        )
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda slope, w: slope * slope.dtype.type(1.01), "factor"),
        (lambda slope, w: -slope, "sign"),
        (lambda slope, w: np.roll(slope, 1, 0), "permutation"),
        (lambda slope, w: slope.T.copy(), "transpose"),
        (lambda slope, w: slope + slope.dtype.type(1e-3) * w, "other"),
    ],
)
@pytest.mark.parametrize("at", [0, 20])
def test_a_fault_in_one_gradient_is_the_only_finding_at_its_step(fault: Any, kind: str, at: int, optimizer: str) -> None:
    rate = RATES[optimizer]
    found = match(classifier(1, np.float64, optimizer, rate), classifier(1, np.float32, optimizer, rate, fault=fault, at=at))
    assert origins(found) == ["dw2"], told(found)
    pair = pair_of(found, "dw2")
    holds(pair.relation, kind)
    assert pair.first is not None
    assert pair.first.step == at


@pytest.mark.parametrize(("steps", "rounded", "agrees"), [((7,), True, True), ((7, 8, 9, 10), True, False), ((7,), False, False)])
def test_a_unit_that_rounding_flips_for_one_step_is_no_fault(steps: tuple[int, ...], rounded: bool, agrees: bool) -> None:
    rng = np.random.default_rng(0)
    p, q = Program(), Program()
    for t in range(14):
        inputs, back = rng.standard_normal((8, 16)), rng.standard_normal((16, 8))
        slope = p.let("slope", back.T.copy() @ inputs.T.copy()[:, :8])
        other = back.astype(np.float32).T @ (inputs.astype(np.float32) * np.float32(1 + 1e-6)).T[:, :8] if rounded else slope.copy()
        if t in steps:
            other[:, 3] = 0
        q.let("slope", other)
        for program in (p, q):
            program.tick()
    assert (match(p, q).answer == "agree") == agrees


def test_many_occurrences_are_matched_in_bounded_time_and_shown_at_200_points() -> None:
    p, q = Program(), Program()
    rng = np.random.default_rng(0)
    for k in range(8000):
        value = rng.standard_normal(4)
        p.let("h", value)
        q.let("h", (value * (2 if k >= 5000 else 1)).astype(np.float32))
    (pair,) = match(p, q).pairs
    assert len(pair.errors) <= 200
    assert pair.occurrences == 8000
    assert pair.first is not None
    assert 5000 <= pair.first.occurrence <= 5004, "most of the many occurrences are only sampled"
    assert pair.digits is not None
    assert pair.digits > 6


# The faults of the issue


def test_a_refactoring_into_functions_with_other_names_changes_nothing() -> None:
    def old() -> Program:
        p = Program()
        rng = np.random.default_rng(3)
        w = p.let("w", rng.standard_normal((6, 3)))
        for _ in range(5):
            x = p.let("x", rng.standard_normal((8, 6)))
            out = p.let("out", x @ w)
            p.let("loss", float((out**2).mean()))
            w = p.let("w", w - 0.1 * x.T @ out)
            p.tick()
        return p

    def new() -> Program:
        p = Program(steps=False)
        rng = np.random.default_rng(3)
        w = p.let("self.weight", rng.standard_normal((6, 3)), "Model.__init__")
        for k in range(5):
            x = p.let("batch", rng.standard_normal((8, 6)), "train")
            out = p.let("out", np.einsum("ij,jk->ik", x, w), "Model.forward")
            p.let("loss", float(np.square(out).mean()), "train")
            p.let("x", float(k), "other")
            w = p.let("self.weight", w - 0.1 * (out.T @ x).T, "Model.__init__")
        return p

    found = match(old(), new())
    assert_agrees(found)
    assert {(pair.a, pair.b, pair.how) for pair in found.pairs} == {
        ("w", "self.weight", "value"), ("x", "batch", "value"), ("out", "out", "name"), ("loss", "loss", "name")
    }  # fmt: skip
    assert len(found.unaligned) == 1
    assert "`x`" in text_of(found.unaligned[0])


def layered(*, turn: bool = False, kept_turned: bool = False, permute: str = "", drop: float = 0.0, scale: float = 1.0) -> Program:
    """Two layers of square weights on one batch, in training."""
    p = Program()
    rng = np.random.default_rng(5)
    w1 = rng.standard_normal((12, 12))
    w2 = rng.standard_normal((12, 12)) / 4
    mask = np.random.default_rng(9)
    p.let("w1", w1.T if kept_turned else scale * (w1.T if turn else w1))
    used = w1.T if turn else w1
    p.let("w2", w2)
    for _ in range(4):
        x = rng.standard_normal((10, 12))
        y = np.eye(12)[rng.permutation(12)[:10]]
        if permute == "rows":
            shuffled = np.random.default_rng(2).permutation(10)
            x, y = x[shuffled], y[shuffled]
        elif permute == "classes":
            y = y[:, np.random.default_rng(2).permutation(12)]
        p.let("x", x)
        p.let("y", y)
        h = np.tanh(scale * (x @ used))
        if drop:
            h = h * (mask.random(h.shape) >= drop) / (1 - drop)
        p.let("h", h)
        out = p.let("out", h @ w2)
        p.let("loss", float(((out - y) ** 2).mean()))
        w2 = p.let("w2", w2 - 0.05 * h.T @ (out - y))
        p.tick()
    return p


def test_a_transposed_weight_is_a_difference_unless_only_its_storage_is_transposed() -> None:
    found = match(layered(), layered(turn=True))
    assert origins(found) == ["w1"]
    relation = pair_of(found, "w1").relation
    holds(relation, "transpose", None)
    assert pair_of(found, "h").follows == "w1"
    kept = match(layered(), layered(kept_turned=True))
    assert_agrees(kept)
    relation = pair_of(kept, "w1").relation
    holds(relation, "transpose")


def test_a_transposed_and_scaled_weight_is_reported_as_both() -> None:
    relation = pair_of(match(layered(), layered(turn=True, scale=2.0)), "w1").relation
    holds(relation, "transpose", 2.0, says=["2 times as large"])


def test_a_permuted_batch_is_named_and_its_results_follow() -> None:
    found = match(layered(), layered(permute="rows"))
    assert origins(found) == ["x"]
    relation = pair_of(found, "x").relation
    holds(relation, "permutation", says=["rows"])
    for name in ("y", "h", "out"):
        assert pair_of(found, name).follows == "x"
    assert pair_of(found, "loss").agrees
    assert pair_of(found, "w2").agrees


def test_permuted_classes_are_named() -> None:
    found = match(layered(), layered(permute="classes"))
    assert origins(found) == ["y"]
    relation = pair_of(found, "y").relation
    holds(relation, "permutation", says=["columns"])


def test_dropout_left_on_is_recognized() -> None:
    found = match(layered(), layered(drop=0.3))
    assert origins(found) == ["h"]
    relation = pair_of(found, "h").relation
    holds(relation, "other", says=["dropout", "1.429"])


def adam(dtype: Any = np.float64, *, eps: float = 1e-8, corrected: bool = True, named: bool = False, late: int = 0) -> Program:
    """Adam on a quadratic whose curvatures are far apart; the rate falls every ten steps."""
    p = Program()
    rng = np.random.default_rng(11)
    w = p.let("w", rng.standard_normal(40).astype(dtype))
    target = rng.standard_normal(40).astype(dtype)
    curvature = np.logspace(-6, 1, 40).astype(dtype)
    m, v = np.zeros_like(w), np.zeros_like(w)
    if named:
        p.let("eps", eps)
    for t in range(1, 31):
        lr = 0.1 * 0.5 ** ((t - 1 - late) // 10) if t > late else 0.1
        if named:
            p.let("lr", lr)
        g = p.let("g", curvature * (w - target))
        p.let("loss", float((curvature * (w - target) ** 2).sum() / 2))
        m, v = dtype(0.9) * m + dtype(0.1) * g, dtype(0.999) * v + dtype(0.001) * g * g
        m_hat, v_hat = (m / dtype(1 - 0.9**t), v / dtype(1 - 0.999**t)) if corrected else (m, v)
        w = p.let("w", (w - dtype(lr) * m_hat / (np.sqrt(v_hat) + dtype(eps))).astype(dtype))
        p.tick()
    return p


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_another_adam_epsilon_is_found_with_and_without_its_name(dtype: Any) -> None:
    assert_agrees(match(adam(named=True), adam(dtype, named=True)))
    named = match(adam(named=True), adam(dtype, named=True, eps=1e-5))
    assert origins(named) == ["eps"]
    relation = pair_of(named, "eps").relation
    holds(relation, "factor", 1000.0)
    assert pair_of(named, "w").follows == "eps"
    unnamed = match(adam(), adam(dtype, eps=1e-5))
    assert origins(unnamed) == ["w"]
    update = pair_of(unnamed, "w").update
    holds(update, "other", says=["epsilon"])


def test_a_missing_bias_correction_is_recognized() -> None:
    found = match(adam(eps=1e-12), adam(np.float32, eps=1e-12, corrected=False))
    assert origins(found) == ["w"]
    update = pair_of(found, "w").update
    holds(update, "factor", pytest.approx(0.1 / np.sqrt(0.001), rel=1e-3), says=["bias correction"])


def test_a_scheduler_one_step_late_is_a_lag_of_the_rate_or_else_of_the_update() -> None:
    found = match(adam(named=True), adam(np.float32, named=True, late=1))
    assert origins(found) == ["lr"]
    lr = pair_of(found, "lr")
    holds(lr.relation, "lag", 1.0)
    assert lr.first is not None
    assert lr.first.step == 10
    assert pair_of(found, "w").follows == "lr"
    unnamed = match(adam(), adam(np.float32, late=1))
    assert origins(unnamed) == ["w"]
    update = pair_of(unnamed, "w").update
    holds(update, "factor", pytest.approx(2, rel=1e-2))
    early = pair_of(match(adam(named=True, late=1), adam(named=True)), "lr").relation
    holds(early, "lag", -1.0)


def attention(dtype: Any, *, fused: bool, scaled: bool = True) -> Program:
    """One block, by one matrix for all three as in a library, or by three as by hand; four heads of 8."""
    p = Program()
    rng = np.random.default_rng(4)
    x = p.let("hidden_states" if fused else "x", rng.standard_normal((2, 6, 32)).astype(dtype))
    wq, wk, wv, wo = ((rng.standard_normal((32, 32)) / 6).astype(dtype) for _ in range(4))
    if fused:
        p.let("c_attn.weight", np.concatenate([wq, wk, wv], 1), kind="parameter")
        q, k, v = np.split(x @ np.concatenate([wq, wk, wv], 1), 3, 2)
    else:
        for name, w in (("wq", wq), ("wk", wk), ("wv", wv)):
            p.let(name, w.T)
        q, k, v = x @ wq, x @ wk, x @ wv
    heads = []
    for one, name in ((q, "query"), (k, "key"), (v, "value")):
        split = one.reshape(2, 6, 4, 8)
        p.let(name if fused else name[0], split.transpose(0, 2, 1, 3) if fused else one)
        heads.append(split.transpose(0, 2, 1, 3))
    scores = heads[0] @ heads[1].transpose(0, 1, 3, 2) / dtype(np.sqrt(8) if scaled else 1)
    p.let("attn_scores" if fused else "scores", scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights = p.let("attn_weights" if fused else "weights", weights / weights.sum(-1, keepdims=True))
    mixed = (weights @ heads[2]).transpose(0, 2, 1, 3).reshape(2, 6, 32)
    p.let("attn_output" if fused else "mixed", mixed)
    p.let("output", mixed @ wo)
    return p


def test_attention_blocks_agree_and_a_missing_scale_is_the_root_of_the_head_size() -> None:
    found = match(attention(np.float32, fused=True), attention(np.float64, fused=False))
    assert_agrees(found)
    assert {pair.a for pair in found.pairs} >= {"hidden_states", "attn_scores", "attn_weights", "attn_output", "output"}
    assert found.unaligned, "three matrices in one are no counterpart of one of them"
    off = match(attention(np.float64, fused=False), attention(np.float64, fused=False, scaled=False))
    assert origins(off) == ["scores"]
    relation = pair_of(off, "scores").relation
    holds(relation, "factor", pytest.approx(np.sqrt(8)))


def recurrent(dtype: Any, *, cell: bool, seed: int = 0) -> Program:
    """A cell stepped by hand, or a module that computes all steps at once."""
    p = Program(steps=False)
    rng = np.random.default_rng(0)
    data = p.let("data", rng.standard_normal((3, 1, 2)).astype(dtype))
    rng = np.random.default_rng(seed)
    owner, end = ("cell", "") if cell else ("rnn", "_l0")
    wi, wh, bi, bh = (
        p.let(f"{owner}.{name}{end}", rng.uniform(-0.45, 0.45, shape).astype(dtype), kind="parameter")
        for name, shape in (("weight_ih", (5, 2)), ("weight_hh", (5, 5)), ("bias_ih", (5,)), ("bias_hh", (5,)))
    )
    h = np.zeros((1, 5), dtype)
    if cell:
        p.let("hidden", h)
    for x in data:
        h = np.tanh(x @ wi.T + bi + h @ wh.T + bh)
        p.let("hidden" if cell else "output", h)
    return p


def test_a_cell_and_its_module_agree_if_their_initial_weights_do() -> None:
    mapping = {"hidden": "output"}
    found = match(recurrent(np.float64, cell=True), recurrent(np.float32, cell=False), mapping)
    assert_agrees(found)
    assert pair_of(found, "hidden").how == "map"
    assert pair_of(found, "hidden").occurrences == 3
    differ = match(recurrent(np.float64, cell=True), recurrent(np.float32, cell=False, seed=1), mapping)
    assert origins(differ)[:1] == ["cell.weight_ih"]
    assert pair_of(differ, "data").agrees
    assert pair_of(differ, "hidden").follows is not None


# Names


def program_of(**values: Any) -> Program:
    """A program that assigns each name its values in turn: `train__loss` is the `loss` of the function `train`."""
    p = Program()
    for k in range(max(len(each) for each in values.values())):
        for name, each in values.items():
            if k < len(each):
                scope, _, path = name.rpartition("__")
                p.let(path, each[k], scope or "<module>")
        p.tick()
    return p


def numbers(seed: int, *shape: int, many: int = 4) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for _ in range(many)]


def paired(found: MatchResult) -> dict[str, str]:
    return {pair.a: pair.b for pair in found.pairs}


@pytest.mark.parametrize("byhand", ["db1", "d_b1", "grad_b1", "b1_grad", "g_b1", "gb1"])
def test_a_gradient_by_hand_is_aligned_with_autograds(byhand: str) -> None:
    p, q = Program(), Program()
    for k, (value, slope) in enumerate(zip(numbers(0, 5), numbers(1, 5), strict=True)):
        p.let("b1", value + k)
        q.let("b1", value + k)
        p.let(byhand, slope)
        q.let("b1.grad", 2 * slope, kind="gradient")
    found = match(p, q)
    assert paired(found) == {"b1": "b1", byhand: "b1.grad"}
    holds(pair_of(found, byhand).relation, "factor", 2.0)


def test_a_name_that_only_resembles_a_gradient_is_none() -> None:
    p = program_of(ata=numbers(0, 4), data=numbers(1, 4))
    q = program_of(ata=numbers(0, 4), other=numbers(2, 4))
    assert paired(match(p, q)) == {"ata": "ata"}


def test_common_names_without_a_relation_are_not_paired() -> None:
    p = program_of(f__x=numbers(0, 6), f__i=[1.0, 2.0], g__tmp=numbers(1, 3), loss=[0.5, 0.25, 0.2])
    q = program_of(g__x=numbers(2, 6), h__i=[7.5, 1e6], f__tmp=numbers(3, 3), loss=[0.5, 0.25, 0.2])
    found = match(p, q)
    assert paired(found) == {"loss": "loss"}
    assert len(found.unaligned) == 6


def test_names_of_different_sizes_are_not_paired_and_the_sizes_are_reported() -> None:
    found = match(program_of(w=numbers(0, 6), v=numbers(1, 4)), program_of(w=numbers(0, 2, 2), v=numbers(1, 4)))
    assert paired(found) == {"v": "v"}
    assert any("another size (2 x 2, not 6)" in text_of(said) for said in found.unaligned)


def test_equal_numbers_under_two_names_are_reported_as_ambiguous() -> None:
    same = numbers(0, 4, 3)
    other = [*same[:3], 2 * same[3]]
    found = match(program_of(first=same, loss=numbers(2, 5)), program_of(second=same, third=other, loss=numbers(2, 5)))
    assert paired(found) == {"loss": "loss"}
    assert any("`second`, `third`" in text_of(said) for said in found.unaligned)


def test_two_names_with_always_equal_values_are_one() -> None:
    same = numbers(0, 4, 3)
    found = match(program_of(first=same, loss=numbers(2, 5)), program_of(second=same, third=same, loss=numbers(2, 5)))
    assert paired(found) == {"first": "second", "loss": "loss"}
    assert found.unaligned == []
    twice = match(program_of(f__lr=[0.1, 0.1, 0.2], g__lr=[0.1, 0.1, 0.2]), program_of(train__lr=[0.1, 0.1, 0.3]))
    (pair,) = twice.pairs
    assert (pair.a, pair.b, pair.agrees) == ("lr", "lr", False)


def test_of_two_values_with_one_name_the_one_assigned_as_often_is_chosen() -> None:
    values = numbers(0, 4, 3)
    p = program_of(weights=values)
    q = program_of(Model__weights=values[:1], Optimizer__weights=values)
    (pair,) = match(p, q).pairs
    assert (pair.b, pair.occurrences) == ("weights", 4)


def moved(seed: int, *, faulty: float = 1.0, turned: bool = False, dtype: Any = np.float64) -> list[Any]:
    """A weight that changes by a little in each of five updates."""
    start, *steps = numbers(seed, 6, 6, many=6)
    values = [start]
    for step in steps:
        values.append(values[-1] - 0.01 * faulty * step)
    return [(one.T if turned else one).astype(dtype) for one in values]


@pytest.mark.parametrize("turned", [False, True])
def test_copied_weights_are_found_by_their_initial_values_and_locate_a_fault(turned: bool) -> None:
    theirs = moved(0, faulty=2.0, turned=turned, dtype=np.float32)
    p = program_of(w1=moved(0), x=numbers(3, 5))
    q = program_of(into_first=theirs[:1], net__weight=[*numbers(2, 6, 6, many=1), *theirs], x=numbers(3, 5))

    found = match(p, q)

    assert paired(found) == {"w1": "weight", "x": "x"}
    assert pair_of(found, "w1").occurrences == 6
    assert origins(found) == ["w1"]
    holds(pair_of(found, "w1").update, "factor", pytest.approx(2, rel=1e-3))
    assert_agrees(match(p, program_of(net__weight=[*numbers(2, 6, 6, many=1), *moved(0, turned=turned)], x=numbers(3, 5))))


def test_a_program_that_ends_early_is_compared_with_the_first_values() -> None:
    theirs = moved(0)
    p = program_of(w1=moved(0), x=numbers(3, 5))
    q = program_of(net__weight=[*numbers(2, 6, 6, many=1), *theirs[:3], theirs[3] + 0.02 * numbers(9, 6, 6, many=1)[0]], x=numbers(3, 5))

    found = match(p, q)

    pair = pair_of(found, "w1")
    assert (pair.occurrences, pair.agrees) == (4, False)
    assert pair.digits is not None
    assert pair.digits > 13


def test_a_value_that_starts_as_a_copy_of_a_matched_one_is_skipped() -> None:
    w, other = moved(0), moved(0, faulty=0.5)

    found = match(program_of(w=w, best=other), program_of(w=w, average=moved(0, faulty=0.1)))

    assert paired(found) == {"w": "w"}
    assert_agrees(found)


def test_batches_that_start_with_equal_values_are_not_confused() -> None:
    first, *rest = numbers(0, 6, 6)
    found = match(program_of(shown=[first, *rest], y=numbers(1, 4)), program_of(seen=[first, *numbers(5, 6, 6)], y=numbers(1, 4)))

    assert paired(found) == {"y": "y"}


def test_a_name_assigned_repeatedly_is_preferred_to_an_equal_name_assigned_once() -> None:
    values = moved(0)

    found = match(program_of(params=values[:1], w=values, x=numbers(3, 5)), program_of(params=values, x=numbers(3, 5)))

    assert paired(found) == {"w": "params", "x": "x"}
    assert pair_of(found, "w").occurrences == 6
    once = match(program_of(params=values[:1], x=numbers(3, 5)), program_of(params=values, x=numbers(3, 5)))
    assert paired(once) == {"params": "params", "x": "x"}


def test_a_factor_with_a_small_remainder_is_reported_as_approximate() -> None:
    x = numbers(0, 40, many=3)
    y = [3 * one + 0.05 * noise for one, noise in zip(x, numbers(1, 40, many=3), strict=True)]

    found = match(program_of(x=x), program_of(x=y))

    holds(found.pairs[0].relation, "other", None, says=["about 3 times as large"])
    assert "about 3 times as large" in told(found)


def test_equal_numbers_in_another_layout_agree_and_leading_zeros_are_ignored() -> None:
    values = numbers(0, 2, 6, 32)
    heads = [one.reshape(2, 6, 4, 8).transpose(0, 2, 1, 3) for one in values]
    found = match(program_of(query=values), program_of(split=[one.astype(np.float32) for one in heads]))
    assert_agrees(found)
    assert paired(found) == {"query": "split"}
    holds(found.pairs[0].relation, "permutation", says=["layout"])
    zeros = match(program_of(hidden=[np.zeros((2, 6, 32)), *values]), program_of(output=values))
    assert_agrees(zeros)
    assert [(pair.b, pair.occurrences) for pair in zeros.pairs] == [("output", 4)]


@pytest.mark.parametrize(
    ("changed", "kind", "agrees"),
    [
        (lambda x: x, "equal", True),
        (lambda x: x.astype(np.float32), "rounding", True),
        (lambda x: x.T, "transpose", True),
        (lambda x: x.reshape(-1), "equal", True),
        (lambda x: x[[3, 1, 4, 0, 2, 5]], "permutation", False),
    ],
)
def test_equal_numbers_under_another_name_are_found(changed: Any, kind: str, agrees: bool) -> None:
    values = numbers(0, 6, 4)
    found = match(program_of(ours=values), program_of(theirs=[changed(one) for one in values], unrelated=numbers(1, 6, 4)))
    (pair,) = found.pairs
    assert (pair.b, pair.how, pair.agrees) == ("theirs", "value", agrees)
    holds(pair.relation, kind)


def test_the_mapping_takes_precedence_and_unknown_names_in_it_are_reported() -> None:
    values = numbers(0, 4)
    p, q = program_of(a=values, b=numbers(1, 4)), program_of(a=values, b=numbers(1, 4))
    found = match(p, q, {"a": "b", "nothing": "a"})
    assert paired(found)["a"] == "b"
    assert pair_of(found, "a").how == "map"
    assert any("`nothing`" in text_of(said) for said in found.unaligned)
    scoped = match(program_of(f__loss=values, g__loss=numbers(1, 4)), program_of(total=values, other=numbers(1, 4)), {"f:loss": "total"})
    assert ("loss", "total", "map") in [(pair.a, pair.b, pair.how) for pair in scoped.pairs]


@pytest.mark.parametrize("where", ["warm-up", "between", "cut", "twice"])
def test_occurrences_in_only_one_program_are_left_out(where: str) -> None:
    values = numbers(0, 8, many=20)
    other = numbers(5, 8, many=20)
    more = {
        "warm-up": [*other[:3], *values],
        "between": [one for k, value in enumerate(values) for one in ((value, other[k]) if k % 4 == 3 else (value,))],
        "cut": values[:13],
        "twice": [one for value in values for one in (value, value)],
    }[where]
    p, q = Program(steps=False), Program(steps=False)
    for one in values:
        p.let("h", one)
    for one in more:
        q.let("h", one.astype(np.float32))
    found = match(p, q)
    assert_agrees(found)
    assert pair_of(found, "h").occurrences == min(len(values), len(more))
    faulty = Program(steps=False)
    for k, one in enumerate(more):
        faulty.let("h", one * (3 if k >= 9 else 1))
    assert match(p, faulty).answer == "differ", "values after a fault are still compared"


# Different code with the same meaning


def test_a_list_of_numbers_is_matched_with_the_corresponding_array() -> None:
    w, table = moved(0), numbers(4, 3, 2, many=1)
    p, q = Program(), Program()
    p.let("table", table[0])
    for i, row in enumerate(table[0].tolist()):
        for j, number in enumerate(row):
            q.let(f"rows[{i}][{j}]", number)
    for value in w:
        first, *rest = value.ravel()[:5].tolist()
        p.let("w", np.array([first, *rest]))
        for i, number in enumerate((first, *rest)):
            q.let(f"weights[{i}]", number, "fit")
            q.let("gradient", float(i))
        for program in (p, q):
            program.tick()

    found = match(p, q)

    assert_agrees(found)
    assert paired(found) == {"table": "rows", "w": "weights"}
    assert pair_of(found, "w").occurrences == 6
    faulty = Program()
    for value in w:
        for i, number in enumerate(value.ravel()[:5].tolist()):
            faulty.let(f"weights[{i}]", number - 0.5)
    holds(pair_of(match(p, faulty, {"w": "weights"}), "w").relation, "offset", -0.5)
    alike = match(program_of(**{"w[0]": [0.5, 0.25], "w[1]": [1.5, 2.5]}), program_of(**{"w[0]": [0.5, 0.25], "w[1]": [1.5, 7.5]}))
    assert paired(alike) == {"w[0]": "w[0]", "w[1]": "w[1]"}, "entries that both have are counterparts"
    assert origins(alike) == ["w[1]"]


def test_entries_without_a_counterpart_are_summarized_in_one_sentence() -> None:
    lists = {f"history[{k}]": [numbers(k, 3, 4, many=1)[0]] for k in range(20)}

    found = match(program_of(x=numbers(30, 5), **lists), program_of(x=numbers(30, 5)))

    assert len(found.unaligned) == 1
    assert "`history[0]` and 19 more of `history`" in text_of(found.unaligned[0])


def test_a_batch_is_not_confused_with_a_layers_output_of_the_same_name() -> None:
    batch = numbers(0, 8, 5, 16, many=1)
    normalized = [one + 0.3 * noise for one, noise in zip(batch * 6, numbers(1, 8, 5, 16, many=6), strict=True)]
    loss, of_evaluation = [0.9, 0.8, 0.7], [0.95, 0.82, 0.71]

    found = match(
        program_of(x=batch, train__loss=loss),
        program_of(inputs=batch, Block_forward__x=normalized, evaluate__loss=of_evaluation, fit__objective=loss),
    )

    assert_agrees(found)
    assert paired(found) == {"x": "inputs", "loss": "objective"}
    alone = match(program_of(x=batch, train__loss=loss), program_of(Block_forward__x=normalized, fit__loss=[2 * one for one in loss]))
    assert paired(alone) == {"loss": "loss"}, "ambiguous entries stay unpaired"
    assert origins(alone) == ["loss"]


def test_parameters_of_equal_modules_are_paired_even_if_initially_zero() -> None:
    def program(layer: str, faulty: bool = False) -> Program:
        p = Program()
        bias = np.zeros(2)
        for weight, slope in zip(moved(0), numbers(1, 2, many=6), strict=True):
            bias = bias - (0.02 if faulty else 0.01) * slope
            p.let(f"{layer}.weight", weight, kind="parameter")
            p.let(f"{layer}.bias", bias.astype(np.float32), kind="parameter")
            p.let(f"{layer}.bias.grad", slope, kind="gradient")
            p.tick()
        return p

    found = match(program("G.2"), program("net.output"))
    assert_agrees(found)
    assert paired(found) == {name: name.replace("G.2", "net.output") for name in ("G.2.weight", "G.2.bias", "G.2.bias.grad")}
    assert origins(match(program("G.2"), program("net.output", faulty=True))) == ["G.2.bias"]


@pytest.mark.parametrize("faulty", [False, True])
def test_a_weight_updated_in_two_lines_is_compared_after_the_second(faulty: bool) -> None:
    values = moved(0, dtype=np.float32)
    other = moved(0, faulty=1.5) if faulty else values
    twice = [other[0], *(one for old, new in pairwise(other) for one in (old * 0.999, new))]

    found = match(program_of(w=values, x=numbers(3, 5)), program_of(w=twice, x=numbers(3, 5)))

    assert found.answer == ("differ" if faulty else "agree")
    assert pair_of(found, "w").occurrences == 6
    if not faulty:
        assert pair_of(found, "w").relation == Relation(kind="equal", value=0.0)


def test_a_loss_is_matched_with_the_sum_over_micro_batches() -> None:
    p, q = Program(steps=False), Program(steps=False)
    for parts in numbers(0, 4, many=20):
        p.let("loss", float(parts.mean()))
        total = 0.0
        for part in parts:
            q.let("loss", float(part) / 4)
            total = q.let("total", total + float(part) / 4)

    found = match(p, q)

    assert_agrees(found)
    assert paired(found) == {"loss": "total"}
    assert pair_of(found, "loss").occurrences == 20


@pytest.mark.parametrize(("fault", "agrees"), [(0.0, True), (1e-3, False)])
def test_a_sum_close_to_zero_has_lost_digits_and_is_compared_relative_to_its_size(fault: float, agrees: bool) -> None:
    rng = np.random.default_rng(0)
    p, q = Program(), Program()
    for t in range(30):
        value = 0.03 * np.sin((t + 4) * np.pi / 13 + 1e-4)  # crosses zero at 9 and 22
        for program, own in ((p, value), (q, value * (1 + (fault if t >= 20 else 0)) + 1e-8 * rng.standard_normal())):
            program.let("b.grad", np.array([own]).astype(np.float64 if program is p else np.float32), kind="gradient")
            program.tick()

    found = match(p, q)

    assert max(error for _, error in pair_of(found, "b.grad").errors) > 1e-4
    assert (found.answer == "agree") is agrees


def biased(dtype: Any, *, faulty: bool = False, noise: float = 1.0, optimizer: str = "adam") -> Program:
    """A bias of which a third has no effect, like that of keys in an attention: its gradient is rounding error."""
    p = Program()
    rng = np.random.default_rng(0 if dtype is np.float64 else 1)
    same = np.random.default_rng(2)
    b = p.let("b", np.zeros(12), kind="parameter")
    for _ in range(12):
        p.let("hidden", 10 * same.standard_normal((8, 8)).astype(dtype))
        slope = same.standard_normal(12)
        slope[4:8] = noise * 1e-7 * rng.standard_normal(4)
        p.let("b.grad", slope.astype(dtype), kind="gradient")
        b = b - 0.01 * np.sign(slope)
        if faulty:
            b = b - 0.001 * (np.arange(12) >= 8)
        p.let("b", b.astype(dtype), kind="parameter")
        p.tick()
    return p


def test_a_parameter_moved_only_by_rounding_agrees_but_a_fault_beside_it_does_not() -> None:
    found = match(biased(np.float64), biased(np.float32))
    assert_agrees(found)
    holds(pair_of(found, "b").relation, "rounding", says=["zero but for rounding"])
    assert "drift" not in told(found)
    assert origins(match(biased(np.float64), biased(np.float32, faulty=True))) == ["b"]
    assert match(biased(np.float64), biased(np.float32, noise=1e4)).answer == "differ", "a real gradient is not noise"


def test_noise_proportional_to_one_array_has_changing_factors_and_is_no_relation() -> None:
    rng = np.random.default_rng(0)
    direction = np.random.default_rng(1).standard_normal(8)
    p, q = Program(), Program()
    for _ in range(12):
        x = rng.standard_normal(4000)
        for program, dtype in ((p, np.float64), (q, np.float32)):
            program.let("x", x.astype(dtype))
            program.let("g", (1e-7 * rng.standard_normal() * direction).astype(dtype))
            program.tick()

    assert_agrees(match(p, q))


def test_an_unused_overwritten_first_value_is_left_out_but_not_a_used_one() -> None:
    values = [np.zeros((6, 6)), *(0.1 * one for one in moved(0)[1:])]
    values[1:] = [0.07 * k * (one + 1) for k, one in enumerate(values[1:], 1)]
    drawn = numbers(9, 6, 6, many=1)

    found = match(program_of(b1=values, x=numbers(3, 5)), program_of(bias=[*drawn, *values[1:]], x=numbers(3, 5)))

    assert_agrees(found)
    assert pair_of(found, "b1").occurrences == 5
    used = [*drawn, *(drawn[0] + one for one in values[1:])]
    assert origins(match(program_of(b1=values, x=numbers(3, 5)), program_of(b1=used, x=numbers(3, 5)))) == ["b1"]


@pytest.mark.parametrize("used", [False, True])
def test_a_rate_read_before_or_after_its_change_is_equal_unless_used_so(used: bool) -> None:
    rates = [0.1 * 0.9**k for k in range(21)]
    p, q = Program(), Program()
    w, v = np.ones(6), np.ones(6, np.float32)
    for k, slope in enumerate(numbers(0, 6, many=20)):
        w = p.let("w", w - 0.1 * rates[k] * slope * w)
        p.let("lr", rates[k])
        v = q.let("w", (v - np.float32(0.1 * rates[k + used] * slope) * v).astype(np.float32))
        q.let("lr", rates[k + 1])
        for program in (p, q):
            program.tick()

    found = match(p, q)

    holds(pair_of(found, "lr").relation, "lag")
    assert found.answer == ("differ" if used else "agree"), told(found)


def test_a_loss_one_occurrence_late_is_a_difference() -> None:
    values, losses = moved(0) + moved(1), numbers(5, 1, many=13)
    p = program_of(w=values, loss=[float(one[0]) for one in losses[1:]])
    q = program_of(w=[one.astype(np.float32) for one in values], loss=[float(np.float32(one[0])) for one in losses[:-1]])
    assert origins(match(p, q)) == ["loss"]


@pytest.mark.parametrize(("computed", "answer"), [(True, "agree"), (False, "inconclusive")])
def test_agreeing_weights_show_that_programs_agree_but_inputs_alone_do_not(computed: bool, answer: str) -> None:
    shared = [*moved(0), *(moved(0)[-1] * 0.99**k for k in range(6))] if computed else numbers(0, 6, 6, many=12)

    found = match(
        program_of(w=shared, **{f"a{k}": numbers(40 + k, 3) for k in range(12)}),
        program_of(weight=shared, **{f"b{k}": numbers(60 + k, 3) for k in range(12)}),
    )

    assert paired(found) == {"w": "weight"}
    assert found.answer == answer, told(found)
    if not computed:
        assert "1 name agrees, but 24 have no counterpart" in told(found)


def test_of_two_layouts_of_the_same_numbers_the_one_with_the_same_shape_is_chosen() -> None:
    values, losses = numbers(0, 4, 6, 6), numbers(1, 1, many=9)
    single = [np.float32(one[0]) for one in losses]

    found = match(
        program_of(act=values, flat=[one.reshape(4, 36) for one in values], d_loss=single),
        program_of(hidden=values, train__loss=single, run__loss_d=[float(one) for one in single]),
    )

    assert_agrees(found)
    assert paired(found) == {"act": "hidden", "d_loss": "loss"}


def test_the_same_name_in_another_layout_agrees() -> None:
    values = numbers(0, 7, 5, 6)
    found = match(program_of(h=values), program_of(forward__h=[one.transpose(1, 0, 2).astype(np.float32) for one in values]))
    assert_agrees(found)
    holds(pair_of(found, "h").relation, "permutation", says=["layout"])
    later = [*values[:2], *(1.5 * one for one in values[2:])]
    faulty = match(program_of(h=values), program_of(forward__h=[one.transpose(1, 0, 2) for one in later]))
    first = pair_of(faulty, "h").first
    assert first is not None
    assert first.step == 2, "the layout is not the fault"


def test_parameters_of_modules_under_different_top_names_are_paired() -> None:
    def program(name: str, seed: int) -> Program:
        p = Program()
        for values in zip(*(numbers(seed + k, 4, 4) for k in range(2)), strict=True):
            for k, value in enumerate(values):
                p.let(f"{name}.{k}.weight", value, kind="parameter")
        return p

    found = match(program("model", 0), program("net", 10))

    assert paired(found) == {"model.0.weight": "net.0.weight", "model.1.weight": "net.1.weight"}
    assert found.answer == "differ"


# Relations


VARIED = numbers(3, 7, 5, many=6)


@pytest.mark.parametrize(
    ("changed", "kind", "value"),
    [
        (lambda x, k: 35 * x, "factor", 35.0),
        (lambda x, k: -x, "sign", -1.0),
        (lambda x, k: x + 0.25, "offset", 0.25),
        (lambda x, k: x[:, [1, 0, 2, 4, 3]], "permutation", None),
        (lambda x, k: 3 * x[[6, 1, 0, 2, 4, 3, 5]], "permutation", 3.0),
        (lambda x, k: x.astype(np.float16).astype(np.float64), "rounding", 2.0**-11),
        (lambda x, k: VARIED[max(k - 1, 0)], "lag", 1.0),
        (lambda x, k: sum(VARIED[: k + 1]), "growing", 1.0),
        (lambda x, k: (k + 1) * x, "growing", 1.0),
        (lambda x, k: x * 1.5**k, "growing", 1.5),
        (lambda x, k: np.tanh(x), "other", None),
    ],
)
def test_each_relation_is_named(changed: Any, kind: str, value: float | None) -> None:
    p, q = program_of(h=VARIED), program_of(h=[changed(one, k) for k, one in enumerate(VARIED)])
    holds(pair_of(match(p, q), "h").relation, kind, value if value is None else pytest.approx(value, rel=1e-6))


@pytest.mark.parametrize(
    ("changed", "kind", "value"),
    [
        (lambda x, k: 3.3 * x, "factor", 3.3),
        (lambda x, k: -x, "sign", -1.0),
        (lambda x, k: x + 0.25, "offset", 0.25),
        (lambda x, k: x * 1.5**k, "growing", 1.5),
        (lambda x, k: x + 0.01 * k, "growing", 0.01),
        (lambda x, k: float(np.tanh(x)), "other", None),
    ],
)
def test_each_relation_of_single_numbers_is_named(changed: Any, kind: str, value: float | None) -> None:
    single = [float(one[0, 0]) for one in VARIED]
    p, q = program_of(loss=single), program_of(loss=[changed(one, k) for k, one in enumerate(single)])
    holds(pair_of(match(p, q), "loss").relation, kind, value if value is None else pytest.approx(value, rel=1e-6))


def test_a_doubled_value_or_a_zero_is_not_explained_by_epsilon_or_dropout() -> None:
    weights = [np.zeros((6, 6)), *np.cumsum(numbers(0, 6, 6, many=4), 0)]
    doubled = [(2 + 0.001 * (np.abs(one) < 0.5)) * one for one in weights]
    relation = pair_of(match(program_of(w=weights), program_of(w=doubled)), "w").relation
    holds(relation, "other", None, says=["about 2 times as large"])
    other = [one * (1 + 1e-3 * noise) for one, noise in zip(weights, numbers(5, 6, 6, many=5), strict=True)]
    for one in other:
        one[0, 1:3] = 0
    assert "dropout" not in told(match(program_of(w=weights), program_of(w=other)))


def test_a_single_number_is_a_factor_of_another_only_if_it_has_a_meaning() -> None:
    assert match(program_of(beta=[0.9]), program_of(beta=[0.97])).pairs[0].relation is not None
    holds(match(program_of(beta=[0.9]), program_of(beta=[0.97])).pairs[0].relation, "other", None, says=["0.9 against 0.97"])
    holds(match(program_of(rate=[0.1]), program_of(rate=[0.001])).pairs[0].relation, "factor", 0.01)


def test_values_nonfinite_in_one_program_differ_and_in_both_agree() -> None:
    broken = [one.copy() for one in VARIED]
    broken[3][1, 1] = np.nan
    holds(pair_of(match(program_of(h=VARIED), program_of(h=broken)), "h").relation, "other", None, says=["not finite"])
    assert match(program_of(h=broken), program_of(h=[one.copy() for one in broken])).answer == "agree"
    found = match(program_of(h=broken), program_of(h=[one.astype(np.float32) for one in broken]))
    assert_agrees(found)


def test_every_result_of_a_comparison_fits_into_json() -> None:
    found = match(program_of(h=[np.zeros(4)] * 3), program_of(h=[np.zeros(4), np.ones(4), np.full(4, np.inf)]))
    (pair,) = found.pairs
    assert not pair.agrees
    assert type(pair).model_validate_json(pair.model_dump_json()) == pair


@pytest.mark.parametrize(
    ("factor", "says"),
    [
        (256.0, "sum"), (1 / 64, "mean"), (2.0, "one half"), (2 / 256, "derivative"), (64 / 63, "unbiased"), (63 / 64, "biased"),
        (8.0, "1/sqrt(d)"), (10.0, "`lr`"), (1000.0, "power of ten"), (0.1 / 0.001**0.5, "bias correction"), (-2.0, "sign"),
    ],
)  # fmt: skip
def test_a_factor_is_reported_with_possible_meanings(factor: float, says: str) -> None:
    around = Context([(256, "256 elements of `error`"), (64, "64 rows of `error`"), (4, "4 columns of `error`")], [("lr", 0.1, 1.0)], 1)
    assert says in meaning_text(meaning_of(factor, around, 1e-7))
    assert meaning_of(factor * 1.0001, around, 1e-7) == []


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float16]), st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.floats(-6, 6),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_values_equal_except_for_dtype_agree(seed: int, dtype: Any, shape: list[int], size: float) -> None:
    values = [10.0 ** min(size, 3) * one for one in numbers(seed, *shape)] if dtype is np.float16 else numbers(seed, *shape)
    if dtype is np.float16:
        values = [one.astype(dtype).astype(np.float64) for one in values if np.abs(one).max() < 6e4] or [np.ones(shape)]
    found = match(program_of(h=values), program_of(h=[one.astype(dtype) for one in values]))
    assert [pair.agrees for pair in found.pairs] == [True]


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.sampled_from([np.float64, np.float32]))
@settings(max_examples=60, deadline=None)
def test_any_factor_of_an_array_is_reported_to_the_precision_of_its_dtype(seed: int, factor: float, dtype: Any) -> None:
    values = numbers(seed, 4, 5)
    found = match(program_of(h=values), program_of(h=[(factor * one).astype(dtype) for one in values]))
    if abs(factor - 1) > 1e-3:
        holds(found.pairs[0].relation, "factor", pytest.approx(factor, rel=1e-3))


def test_programs_without_a_common_name_are_inconclusive() -> None:
    assert match(Program(), Program()).answer == "inconclusive"
    found = match(program_of(a=numbers(0, 3)), program_of(b=numbers(1, 5)))
    assert found.answer == "inconclusive"
    assert len(found.unaligned) == 2


# Mapping files


def test_a_mapping_is_read_from_a_file_and_options_take_precedence(tmp_path: Path) -> None:
    file = tmp_path / "names.yaml"
    file.write_text("names:\n  w1: fc.weight\n  y: n\n  on: off\n  loss: total\n")
    assert read_mapping(file) == {"w1": "fc.weight", "y": "n", "on": "off", "loss": "total"}
    assert mapping_of([str(file), "loss = mean", "x=data"]) == {"loss": "mean", "x": "data", "w1": "fc.weight", "y": "n", "on": "off"}
    assert mapping_of([]) == {}


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("names:\n  a: b\n  a: c\n", "3:3", "line 2"),
        ("names:\n  a: b\n  c: b\n", "3:6", "counterpart"),
        ("names:\n  a: [b]\n", "2:3", "a name of the first"),
        ("names:\n  a:\n", "2:3", "a name of the first"),
        ("named:\n  a: b\n", "1:1", "'named'"),
        ("names: [a, b]\n", "1:8", "w1: fc.weight"),
        ("", "1:1", "names:"),
        ("names:\n  a: 'b\n", "3:1", ""),
    ],
)
def test_an_invalid_mapping_is_refused_with_its_position(tmp_path: Path, text: str, at: str, says: str) -> None:
    file = tmp_path / "names.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        mapping_of(["nothing", str(file)])
    assert caught.value.slug == "bad-map"
    assert f"{file}:{at}: " in caught.value.message
    assert says in caught.value.message
    assert "--map nothing" in caught.value.message, "every fault at once"


@pytest.mark.parametrize("options", [["a"], ["=b"], ["a="], ["a=b=c"], ["a=b", "a=c"], ["a=b", "c=b"]])
def test_an_option_without_two_names_is_refused(options: list[str]) -> None:
    with pytest.raises(UsageError, match="--map"):
        mapping_of(options)


def scores_of(fill: float, *, axis: int = 1, dtype: Any = np.float64, added: bool = False) -> Program:
    """Masked scores, their softmax, and what that is multiplied with."""
    p = Program()
    rng = np.random.default_rng(0)
    x = p.let("x", rng.standard_normal((6, 6)).astype(dtype))
    mask = np.triu(np.ones((6, 6)), 1) > 0
    scores = p.let("scores", x + mask * dtype(fill) if added else np.where(mask, dtype(fill), x))
    with np.errstate(all="ignore"):
        e = np.exp(scores - np.max(scores, axis=1, keepdims=True))
    att = p.let("att", e / e.sum(axis, keepdims=True))
    p.let("context", att @ rng.standard_normal((6, 3)).astype(dtype))
    return p


@pytest.mark.parametrize("fill", [-np.inf, -1e9, -1e4, float(np.finfo(np.float32).min)])
def test_masked_values_agree_whatever_number_marks_them(fill: float) -> None:
    assert_agrees(match(scores_of(-1e9), scores_of(fill, dtype=np.float32)))
    assert_agrees(match(scores_of(fill), scores_of(-1e9, dtype=np.float32)))
    along_the_other = match(scores_of(-1e9), scores_of(fill, axis=0, dtype=np.float32))
    assert origins(along_the_other) == ["att"], "a mask is far larger than the masked values, but does not make them noise"


def test_a_mask_shifted_by_one_differs() -> None:
    p, q = Program(), Program()
    x = np.random.default_rng(0).standard_normal((6, 6))
    for program, shift in ((p, 1), (q, 0)):
        program.let("scores", np.where(np.triu(np.ones((6, 6)), shift) > 0, -1e9, x))
    assert origins(match(p, q)) == ["scores"]


@pytest.mark.parametrize("garbage", [np.full((4, 5), 1e20), np.geomspace(1e-90, 1e90, 20).reshape(4, 5)])
def test_filled_or_unwritten_memory_does_not_hide_other_differences(garbage: Any) -> None:
    p, q = Program(), Program()
    x = np.random.default_rng(0).standard_normal((4, 5))
    for program, factor in ((p, 1.0), (q, 1.5)):
        program.let("x", x)
        program.let("buffer", garbage)
        for k in range(1, 9):
            program.let("y", (x + k) * factor)
            program.tick()
    assert origins(match(p, q)) == ["y"]


def test_a_value_changed_by_only_one_program_is_reported_and_is_no_offset() -> None:
    w = moved(0)
    found = match(program_of(w=w, x=numbers(3, 5)), program_of(w=[w[0]] * 6, x=numbers(3, 5)))
    assert origins(found) == ["w"]
    assert "the second does not change" in told(found)
    gradients = match(program_of(w__g=numbers(0, 8), x=numbers(3, 5)), program_of(w__g=[np.zeros(8)] * 4, x=numbers(3, 5)))
    assert "the second is zero" in told(gradients)


def test_another_order_of_few_numbers_or_a_later_draw_is_no_separate_finding() -> None:
    x, y = numbers(0, 5), [2 * one + 0.1 for one in numbers(0, 5)]
    rate = np.array([0.1, -0.1, 0.1, 0.1, -0.1, -0.1, 0.1, -0.1])
    signs = match(program_of(x=x, b=[rate]), program_of(x=y, b=[np.roll(rate, 3)]))
    assert origins(signs) == ["x"]
    rng = np.random.default_rng(1)
    drawn = match(program_of(x=x, order=[rng.permutation(9)]), program_of(x=y, order=[rng.permutation(9)]))
    assert origins(drawn) == ["x"]
    pair = match(program_of(x=x, p=[np.array([d, -d]) for d in (1.0, 2.0)]), program_of(x=y, p=[np.array([d, -d]) for d in (1.378, 2.27)]))
    assert origins(pair) == ["x"]


def test_a_differing_result_of_one_common_name_after_agreement_is_not_missed() -> None:
    p, q = program_of(x=numbers(0, 5)), program_of(x=numbers(0, 5))
    for program, seed in ((p, 1), (q, 2)):
        program.let("out", numbers(seed, 7, many=1)[0], scope=f"main{seed}")
    found = match(p, q)
    assert found.answer == "inconclusive"
    assert "--map 'out=out'" in told(found)
    assert match(p, q, {"main1:out": "main2:out"}).answer == "differ"
