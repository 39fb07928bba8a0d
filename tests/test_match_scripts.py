"""Matching real pairs of scripts, recorded and compared with each other."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import auditor
from auditor.errors import UsageError
from auditor.launch import launch
from auditor.matching import MatchResult, matched
from auditor.plan import Plan
from auditor.report.words.reasons import meaning_of, text_of
from auditor.results import Audit, NamePair
from auditor.trace.names import Series, named_values
from auditor.trace.reader import opened
from tests.processes import audited, write
from tests.series import told

PAIRS = Path(__file__).parent / "pairs"
EXAMPLES = Path(__file__).parents[1] / "examples"


class _Silent:
    def output(self, stream: int, data: bytes) -> None:
        """Drop it."""

    def progress(self, progress: object) -> None:
        """Drop it."""


@pytest.fixture(scope="module")
def values_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The named values of a script; each script runs once. `changed` are replacements in its text."""

    @cache
    def recorded(script: Path, *changed: tuple[str, str], args: tuple[str, ...] = ()) -> list[Series]:
        folder = tmp_path_factory.mktemp(script.stem)
        text = script.read_text()
        for old, new in changed:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (folder / script.name).write_text(text)
        launch(Plan((script.name, *args), cwd=str(folder)).with_names(), folder / "run", "run", "control", _Silent(), quiet=True)
        return named_values(opened(folder / "run"))

    return recorded


def pair_of(found: MatchResult, name: str) -> NamePair:
    (pair,) = [pair for pair in found.pairs if pair.a == name]
    return pair


def origins(found: MatchResult) -> list[str]:
    return [pair.a for pair in found.origins]


def assert_agrees(found: MatchResult) -> None:
    assert found.answer == "agree", (told(found), found.unaligned)
    assert [pair.a for pair in found.pairs if not pair.agrees] == []


@pytest.mark.torch
def test_fizzbuzz_in_numpy_and_torch_has_three_faults_and_agrees_when_they_are_fixed(values_of: Any) -> None:
    ours = values_of(EXAMPLES / "fizbuz_numpy.py", args=("--epochs", "2"))
    found = matched(ours, values_of(EXAMPLES / "fizbuz_torch.py", args=("--epochs", "2")))
    assert sorted(origins(found)) == ["b1", "loss", "w2"]
    loss, w2, b1 = (pair_of(found, name) for name in ("loss", "w2", "b1"))
    assert loss.relation is not None
    assert (loss.relation.kind, loss.relation.value) == ("factor", 256.0)
    assert "`error`" in meaning_of(loss.relation.meaning)
    assert w2.update is not None
    assert w2.update.kind == "factor"
    assert w2.update.value == pytest.approx(2, rel=1e-3)
    assert b1.update is not None
    assert (b1.update.kind, b1.update.value) == ("growing", 1.0)
    assert [pair_of(found, name).follows for name in ("w1", "b2")] == ["w2", "w2"]
    assert all(pair_of(found, name).agrees for name in ("x", "y", "lr", "order", "x_train"))
    assert pair_of(found, "error").first is not None
    assert pair_of(found, "error").follows is not None
    text = (EXAMPLES / "fizbuz_numpy.py").read_text().splitlines()
    assert "w2 -= " in text[(w2.line_a or 0) - 1]

    mended = (
        ("loss = error.pow(2).sum()", "loss = error.pow(2).mean()"),
        ("loss.backward()", "(error.pow(2).sum() / 2).backward()"),
        ("w1.grad.data.zero_()", "w1.grad.data.zero_(); b1.grad.data.zero_()"),
    )
    good = matched(ours, values_of(EXAMPLES / "fizbuz_torch.py", *mended, args=("--epochs", "2")))
    assert_agrees(good)
    assert min(pair.digits or 0 for pair in good.pairs) > 4.5
    assert {pair.occurrences for pair in good.pairs if pair.a in ("w1", "b1", "w2", "b2")} == {29}

    # each fault alone
    alone = [
        matched(ours, values_of(EXAMPLES / "fizbuz_torch.py", *(mended[:k] + mended[k + 1 :]), args=("--epochs", "2"))) for k in range(3)
    ]
    assert [set(origins(found)) for found in (alone[0], alone[2])] == [{"loss"}, {"b1"}]
    assert {pair_of(alone[0], name).agrees for name in ("error", "w1", "b1", "w2", "b2")} == {True}
    doubled = alone[1].origins[0]
    assert doubled.a in ("w2", "w1", "b1", "b2")
    assert doubled.update is not None
    assert doubled.update.kind == "factor"
    assert doubled.update.value == pytest.approx(2 / 256, rel=1e-3), "the gradient of a mean, where the other starts from the error itself"
    accumulated = pair_of(alone[2], "b1").update
    assert accumulated is not None
    assert accumulated.kind == "growing"
    flat = values_of(EXAMPLES / "fizbuz_numpy.py", ("delta2 = error * output * (1 - output)", "delta2 = error"), args=("--epochs", "2"))
    other = matched(flat, values_of(EXAMPLES / "fizbuz_torch.py", *mended, args=("--epochs", "2")))
    assert origins(other)[0] == "w2"
    assert pair_of(other, "error").agrees is False
    assert pair_of(other, "error").follows is not None


@pytest.mark.torch
def test_a_cell_and_its_module_agree_if_their_weights_do(values_of: Any) -> None:
    found = matched(values_of(PAIRS / "cell.py"), values_of(PAIRS / "module.py"))
    assert_agrees(found)
    assert {(pair.a, pair.b) for pair in found.pairs} == {
        ("data", "data"), ("cell.weight_ih", "rnn.weight_ih_l0"), ("cell.weight_hh", "rnn.weight_hh_l0"),
        ("cell.bias_ih", "rnn.bias_ih_l0"), ("cell.bias_hh", "rnn.bias_hh_l0"), ("hidden", "output"),
    }  # fmt: skip
    assert pair_of(found, "hidden").occurrences == 3


@pytest.mark.torch
def test_attention_by_hand_agrees_with_the_library(values_of: Any) -> None:
    found = matched(values_of(PAIRS / "attention_by_hand.py"), values_of(PAIRS / "attention_library.py"))
    assert_agrees(found)
    assert {(pair.a, pair.b) for pair in found.pairs} >= {
        ("x", "hidden_states"), ("q", "query_layer"), ("scores", "attention_scores"), ("mixed", "context"), ("output", "output")
    }  # fmt: skip


@pytest.mark.torch
def test_a_block_by_hand_and_its_training_agree_with_the_library(values_of: Any) -> None:
    theirs = values_of(PAIRS / "block_library.py")
    found = matched(theirs, values_of(PAIRS / "block_by_hand.py"))
    assert_agrees(found)
    together = {(pair.a, pair.b) for pair in found.pairs}
    assert together >= {
        ("x", "inputs"), ("y", "labels"), ("encoded", "hidden"), ("logits", "out"), ("loss", "loss"),
        ("layer.self_attn.in_proj_weight", "block.attention.in_proj_weight"),
        ("layer.self_attn.in_proj_bias", "block.attention.in_proj_bias"),
        ("layer.norm1.weight", "block.ln1.weight"), ("layer.linear2.weight", "block.down.weight"), ("classifier.bias", "head.bias"),
    }  # fmt: skip
    bias = pair_of(found, "layer.self_attn.in_proj_bias").relation
    assert bias is not None
    assert "zero but for rounding" in meaning_of(bias.meaning), "the loss does not depend on the bias of the keys"
    faulty = matched(theirs, values_of(PAIRS / "block_by_hand.py", ("m.lerp_(p.grad, 0.1)", "m.lerp_(p.grad, 0.2)")))
    assert faulty.answer == "differ"
    assert origins(faulty) == ["layer.self_attn.in_proj_weight"]
    assert "the update of `layer.self_attn.in_proj_weight`" in told(faulty)
    assert "about 2 times as large" in told(faulty)
    assert pair_of(faulty, "x").agrees


def test_plain_python_lists_and_arrays_agree(values_of: Any) -> None:
    ours = values_of(PAIRS / "regression_lists.py")
    found = matched(ours, values_of(PAIRS / "regression_numpy.py"))
    assert_agrees(found)
    assert {(pair.a, pair.b) for pair in found.pairs} >= {("rows", "x"), ("wanted", "y"), ("theta", "w"), ("residuals", "error")}
    assert pair_of(found, "theta").occurrences == 61
    assert len(found.unaligned) < 12, found.unaligned

    other = matched(
        ours, values_of(PAIRS / "regression_numpy.py", ("learning_rate, alpha = 0.05, 0.1", "learning_rate, alpha = 0.05, 0.05"))
    )
    assert other.answer == "differ"


def test_a_refactoring_agrees_unless_its_schedule_is_one_step_late(values_of: Any) -> None:
    ours = values_of(PAIRS / "loop.py")
    found = matched(ours, values_of(PAIRS / "loop_refactored.py"))
    assert_agrees(found)
    assert {(pair.a, pair.b) for pair in found.pairs} == {
        ("data", "data"), ("truth", "truth"), ("target", "target"), ("weights", "self.weights"), ("velocity", "self.velocity"),
        ("lr", "lr"), ("x", "batch"), ("y", "wanted"), ("error", "error"), ("loss", "loss"), ("gradient", "gradient"),
    }  # fmt: skip

    late = matched(ours, values_of(PAIRS / "loop_refactored.py", ("0.5 ** (epoch // 2)", "0.5 ** (max(epoch - 1, 0) // 2)")))
    assert origins(late) == ["lr"]
    lr = pair_of(late, "lr")
    assert lr.relation is not None
    assert (lr.relation.kind, lr.relation.value) == ("lag", 1.0)
    assert pair_of(late, "weights").follows == "lr"
    assert pair_of(late, "truth").agrees

    other = matched(ours, values_of(PAIRS / "loop_refactored.py", ("rate=0.9", "rate=0.8")))
    assert origins(other)[0] == "velocity"
    assert pair_of(other, "weights").follows == "velocity"


#: Faults of adam_library.py or adam_by_hand.py: the replacement, the name that it comes from, and the expected report.
FAULTS = [
    ("adam_library", "eps=1e-8", "eps=1e-2", "w1", "the update of `w1`", "another epsilon in a denominator"),
    (
        "adam_by_hand",
        "m / (1 - 0.9**t), v / (1 - 0.999**t)",
        "m, v",
        "w1",
        "about 0.316",
        "a bias correction that one program omits",
    ),
    ("adam_library", "rng.standard_normal((8, 8)).T / 3", "rng.standard_normal((8, 8)) / 3", "out"),
    ("adam_library", "net.eval()  # it is fine-tuned without dropout", "net.train()", "out"),
    ("adam_library", "x = data[start : start + 16]", "x = data[start : start + 16].flip(0)", "x", "the same rows in another order"),
    ("adam_library", "loss = error.pow(2).mean()", "loss = error.pow(2).sum(1).mean()", "loss", "factor 4 ", "4 columns of `error`"),
]


@pytest.mark.torch
def test_adam_by_hand_agrees_with_the_library_and_each_fault_is_located(values_of: Any) -> None:
    ours, theirs = values_of(PAIRS / "adam_by_hand.py"), values_of(PAIRS / "adam_library.py")
    good = matched(ours, theirs)
    assert_agrees(good)
    together = {(pair.a, pair.b) for pair in good.pairs}
    assert together >= {("w1", "net.first.weight"), ("w2", "net.second.weight"), ("b1", "net.first.bias"), ("out", "out"), ("h", "h")}
    for script, old, new, name, *words in FAULTS:
        changed = values_of(PAIRS / f"{script}.py", (old, new))
        found = matched(changed, theirs) if script == "adam_by_hand" else matched(ours, changed)
        assert found.answer == "differ", (old, told(found))
        assert found.origins[0].a == name, (old, [pair.a for pair in found.origins], told(found))
        assert [word for word in words if word not in told(found)] == [], (old, told(found))
        assert pair_of(found, "y").agrees


def test_two_callables_are_matched_in_a_notebook_or_a_test() -> None:
    def by_numpy(x: Any, w: Any) -> Any:
        h = x @ w
        noise = np.random.standard_normal(3)
        return (1 / (1 + np.exp(-h))).mean() + noise.sum()

    def by_torch(x: Any, w: Any) -> Any:
        x, w = torch.from_numpy(x).float(), torch.from_numpy(w).float()
        h = -(x @ w)
        noise = np.random.standard_normal(3)
        x += 1  # of its own copy
        return torch.sigmoid(h).mean() + noise.sum()

    x, w = np.arange(6.0).reshape(2, 3), np.ones((3, 4))
    np.random.seed(3)
    match: Any = auditor.match  # loaded on demand
    audit = match(by_numpy, by_torch, x, w)
    (h,) = [pair for pair in audit.names if pair.a == "h"]
    assert (audit.verdict, h.agrees, h.relation and h.relation.kind) == ("diverged", False, "sign")
    assert [pair.agrees for pair in audit.names if pair.a == "noise"] == [True], "both start with the same random stream"
    assert x[0, 0] == 0.0
    again = match(by_numpy, by_numpy, x, w)
    assert again.verdict == "no-divergence-seen"
    with pytest.raises(UsageError, match="--map"):
        match(by_numpy, by_torch, x, w, map=["h"])


def test_the_match_command_returns_status_report_and_json(tmp_path: Path) -> None:
    old = """
        import sys
        import numpy as np

        x = np.arange(12.0).reshape(3, 4) / 7
        total = 0.0
        for k in range(5):
            step = np.sin(x * (k + 1)).mean()
            total = total + step
        if sys.argv[1:] == ["fail"]:
            raise RuntimeError("as asked")
        """
    write(tmp_path, old=old, same=old.replace("total + step", "step + total"), other=old.replace(".mean()", ".sum()"), none="print('no')")
    done = audited(tmp_path, "match", "--json", "m.json", "old.py", "same.py")
    assert (done.status, done.out.startswith(b"AGREE")) == (0, True), done.said
    done = audited(tmp_path, "match", "--json", "m.json", "old.py", "other.py", "--b-args", "fail")
    audit = Audit.model_validate(json.loads((tmp_path / "m.json").read_text()))
    assert (done.status, audit.verdict, [run.role for run in audit.runs]) == (1, "diverged", ["program", "program"]), done.said
    (origin,) = [pair for pair in audit.names if not pair.agrees and pair.follows is None]
    assert (origin.a, origin.line_a, origin.line_b) == ("step", 7, 7)
    assert origin.relation is not None
    assert origin.relation.kind == "factor"
    assert origin.relation.value == pytest.approx(12)
    assert (7, "    step = np.sin(x * (k + 1)).sum()") in origin.around_b
    assert any("as asked" in text_of(note) for note in audit.notes)
    half = audited(tmp_path, "match", "old.py", "same.py", "--b-args", "fail")
    assert half.status == 2, "agreement up to a failure is not agreement"
    assert b"Program b ended with RuntimeError: as asked, and the other did not" in half.out
    assert b"Traceback" not in done.err.replace(b'Traceback (most recent call last):\n  File "' + str(tmp_path).encode(), b"")
    for words, slug in (
        (("old.py", "none.py"), "no-names"),
        (("old.py", "missing.py"), "no-such-script"),
        (("--map", "total", "old.py", "same.py"), "bad-map"),
    ):
        done = audited(tmp_path, "match", *words)
        assert done.status == 2
        assert f"[{slug}]".encode() in done.out + done.err


def test_unseeded_modules_agree_if_the_second_starts_with_the_firsts_weights(tmp_path: Path) -> None:
    common = """
        import torch

        data = torch.arange(6.0).reshape(3, 1, 2) / 5
        """
    cell = """
        cell = torch.nn.RNNCell(2, 5)
        h = torch.zeros(1, 5)
        for k in range(3):
            h = cell(data[k], h)
        last = h
        """
    whole = """
        rnn = torch.nn.RNN(2, 5)
        out, h = rnn(data)
        last = out[-1]
        """
    write(tmp_path, cell=common + cell, whole=common + whole)
    done = audited(tmp_path, "match", "--json", "m.json", "cell.py", "whole.py")
    assert done.status == 1, done.out.decode()
    done = audited(tmp_path, "match", "--copy-initial-weights", "--json", "m.json", "cell.py", "whole.py")
    audit = Audit.model_validate(json.loads((tmp_path / "m.json").read_text()))
    assert done.status == 0, done.out.decode()
    assert [run.id for run in audit.runs] == ["a", "b", "b-shared"]
    assert any("was given first values" in text_of(note) and "rnn.weight_hh_l0" in text_of(note) for note in audit.notes), audit.notes
    (last,) = [pair for pair in audit.names if pair.a == "last"]
    assert last.agrees
    assert last.digits is not None
    assert last.digits > 6
