"""What a difference does to the numbers that a user looks at: losses of steps and printed metrics, and where nothing is said of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from auditor.compare import effect_of
from auditor.compare.printed import LARGEST, printed_metrics
from auditor.results import Audit, Effect, Loss
from auditor.trace.reader import Trace
from tests.builder import TraceBuilder
from tests.processes import audited, write


def metrics(a: str, b: str) -> tuple[int, int, list[tuple[str, str, str]]] | None:
    """How many metrics were compared, how many differ, and the last of each name."""
    found = printed_metrics(a, b)
    return None if found is None else (found.compared, found.differing, [(one.name, one.a, one.b) for one in found.last])


@pytest.mark.parametrize(
    ("a", "b", "name"),
    [
        ("loss 0.0755", "loss 0.0741", "loss"),
        ("loss: 0.0755", "loss: 0.0741", "loss"),
        ("loss=0.0755", "loss=0.0741", "loss"),
        ("loss:0.0755", "loss:0.0741", "loss"),
        ("Epoch 3, train loss = 0.0755", "Epoch 3, train loss = 0.0741", "train loss"),
        ("step 3/100 loss 0.0755 (12.1 s)", "step 3/100 loss 0.0741 (11.8 s)", "loss"),
        ("{'loss': 0.0755, 'epoch': 3}", "{'loss': 0.0741, 'epoch': 3}", "loss"),
        ('{"eval_loss":0.0755}', '{"eval_loss":0.0741}', "eval_loss"),
        (
            "tensor loss: tensor(0.0755, grad_fn=<MseLossBackward0>)",
            "tensor loss: tensor(0.0741, grad_fn=<MseLossBackward0>)",
            "tensor loss",
        ),
        ("2026-11-29 20:40:12,123 INFO train: loss 0.0755", "2026-11-29 20:41:55,007 INFO train: loss 0.0741", "loss"),
        ("\x1b[1mloss\x1b[0m 0.0755", "\x1b[1mloss\x1b[0m 0.0741", "loss"),
        ("the loss is 0.0755.", "the loss is 0.0741.", "loss"),
        ("the loss of 0.0755\r", "the loss of 0.0741\r", "loss"),
    ],
)
def test_a_number_after_its_name_is_a_metric(a: str, b: str, name: str) -> None:
    assert metrics(f"{a}\nend\n", f"{b}\nend\n") == (1, 1, [(name, "0.0755", "0.0741")])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("", ""),
        ("done", "done"),
        ("loss", "loss 0.5"),
        ("0 0.0968", "0 0.0837"),
        ("| 1 | 0.53 |", "| 1 | 0.54 |"),
        ("took 12.5", "took 12.6"),
        ("{'train_runtime': 1.25, 'train_samples_per_second': 81.5}", "{'train_runtime': 1.3, 'train_samples_per_second': 78.5}"),
        ("Elapsed: 12.5", "Elapsed: 12.6"),
        ("epoch took 12.5 s", "epoch took 12.6 s"),
        ("average time per batch: 0.53", "average time per batch: 0.54"),
        ("batch 1.25s", "batch 1.31s"),
        ("batch 1.25 ms", "batch 1.31 ms"),
        ("batch 12.5 it/s", "batch 12.6 it/s"),
        ("running at 812.5 samples/s", "running at 813.5 samples/s"),
        ("done in 3.2", "done in 3.3"),
        ("GPU max_memory_allocated=1.5", "GPU max_memory_allocated=1.6"),
        ("buffers 1.5 GiB", "buffers 1.6 GiB"),
        ("pid 1234", "pid 1235"),
        ("pid: 1234.0", "pid: 1235.0"),
        ("count 1234", "count 1235"),
        ("started 12:03:44.25", "started 12:03:45.25"),
        ("now 12:03:44.25", "now 12:03:45.25"),
        ("now 1795984822.38", "now 1795984931.01"),
        ("version 2.13.0", "version 2.12.0"),
        ("torch 2.13", "torch 2.12"),
        ("<object at 0x7f31f2a0>", "<object at 0x7f31f2b0>"),
        ("listening on 127.0.0.1:5001", "listening on 127.0.0.1:5002"),
        ("tmp /tmp/tmp1.5/x", "tmp /tmp/tmp1.6/x"),
        ("range 1.5-2.5", "range 1.5-2.6"),
        ("10%|#   | loss 0.5\r20%|##  | loss 0.4", "10%|#   | loss 0.6\r20%|##  | loss 0.3"),
        ("loss 0.5\b\b\b0.4", "loss 0.6\b\b\b0.3"),
        ("\x1b[2Kloss 0.5\x1b[1A", "\x1b[2Kloss 0.4\x1b[1A"),
        ("loss 0.5\nloss 0.4", "loss 0.6"),
        (f"{'x' * 3000} loss 0.5", f"{'x' * 3000} loss 0.6"),
        ("loss 0.5\n" + "x" * LARGEST, "loss 0.6\n" + "x" * LARGEST),
    ],
)  # fmt: skip
def test_numbers_without_a_name_or_that_always_differ_are_not_reported(a: str, b: str) -> None:
    assert metrics(a, b) is None


def test_the_last_differing_value_of_each_name_is_kept_in_output_order() -> None:
    a = "".join(f"epoch {k} loss {1 / (k + 1):.3f} acc: {90 + k / 10:.1f}% lr 1e-3\n" for k in range(5))
    b = a.replace("loss 0.200", "loss 0.199").replace("acc: 90.3%", "acc: 90.2%")
    assert metrics(a, b) == (15, 2, [("acc", "90.3%", "90.2%"), ("loss", "0.200", "0.199")])
    assert metrics(a, a) == (15, 0, [])


def test_output_lines_of_threads_are_compared_in_any_order() -> None:
    a = "warning: slow\nrank 0 loss 0.5\nrank 0 accuracy 0.25\nval score 0.75\n"
    b = "rank 0 accuracy 0.25\nrank 0 loss 0.5\nrank 0 loss 0.4\nval score 0.5\n"
    assert metrics(a, b) == (2, 1, [("val score", "0.75", "0.5")])


def test_nonfinite_numbers_are_numbers() -> None:
    assert metrics("loss nan", "loss 0.5") == (1, 1, [("loss", "nan", "0.5")])
    assert metrics("loss: -inf", "loss: -inf") == (1, 0, [])


def test_a_large_output_is_read_in_seconds() -> None:
    lines = LARGEST // 64
    a = "".join(f"epoch {k} batch {k} loss {k / 7:.6f} accuracy {k / 13:.6f} {'a' * 8}\n"[:64] for k in range(lines))[:LARGEST]
    odd = ("_a" * 900 + " 0.5\n") * 500
    started = time.perf_counter()
    assert metrics(a, a) is not None
    assert metrics(odd, odd) is not None
    assert time.perf_counter() - started < 20


def with_steps(folder: Path, losses: list[float], parameters: list[str], stdout: str = "", stopped: str | None = None) -> Trace:
    """A run with a step for each loss, and what it printed."""
    run = TraceBuilder(folder)
    lane = run.lane()
    lane.op("aten.exp.default", lane.external([3], line=1), line=2)
    for loss, held in zip(losses, parameters, strict=True):
        lane.step(loss=loss, loss_digest=hash(loss) & 0xFFFF, parameters=held)
    trace = run.sealed()
    trace.meta["exit"], trace.meta["stopped"] = 0, stopped
    (trace.path / "stdout").write_text(stdout)
    return trace


def test_the_last_loss_and_the_first_divergent_step_are_reported(tmp_path: Path) -> None:
    a = with_steps(tmp_path / "a", [0.5, 0.25, 0.0755], ["p", "q", "r"], "loss 0.0755\n")
    b = with_steps(tmp_path / "b", [0.5, 0.25, 0.0741], ["p", "x", "y"], "loss 0.0741\n")
    found = effect_of(a, b)
    assert found is not None
    assert found.loss == Loss(step=2, a=0.0755, b=0.0741, final=True)
    assert (found.loss_from, found.parameters_from) == (2, 1)
    assert found.printed is not None
    assert [(metric.name, metric.a, metric.b, metric.line) for metric in found.printed.last] == [("loss", "0.0755", "0.0741", 1)]


def test_for_runs_of_unequal_length_the_last_common_loss_is_reported(tmp_path: Path) -> None:
    a = with_steps(tmp_path / "a", [0.5, 0.25, 0.125], ["p", "q", "r"])
    b = with_steps(tmp_path / "b", [0.5, 0.25], ["p", "q"])
    assert effect_of(a, b) == Effect(runs=[a.id, b.id], loss=Loss(step=1, a=0.25, b=0.25))


def test_a_nonfinite_loss_is_written_to_json(tmp_path: Path) -> None:
    a = with_steps(tmp_path / "a", [float("nan")], ["p"])
    b = with_steps(tmp_path / "b", [float("-inf")], ["p"])
    found = effect_of(a, b)
    assert found is not None
    assert Effect.model_validate_json(found.model_dump_json()) == found
    assert found.loss is not None
    assert (found.loss.a, found.loss.b) == ("nan", "-inf")


def test_runs_without_printed_numbers_or_that_were_stopped_are_not_compared(tmp_path: Path) -> None:
    a, b = (with_steps(tmp_path / name, [], [], "hello\n") for name in "ab")
    assert effect_of(a, b) is None
    c = with_steps(tmp_path / "c", [0.5], ["p"])
    d = with_steps(tmp_path / "d", [0.5], ["p"], stopped="timeout")
    assert effect_of(c, d) is None
    assert effect_of(c, c) is not None


#: Draws without a seed; prints a loss, an accuracy and a time.
TRAIN = """
    import time, torch
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        started = time.time()
        loss = (model(torch.ones(4, 2)) - 3.0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}: train loss {loss.item():.6f}, score: {100 * loss.item():.4f}% ({time.time() - started:.3f} s)")
    """
#: Fails in its third step.
FAILS = """
    import torch
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    for step in range(5):
        loss = w.sum()
        loss.backward()
        if step == 2:
            w.reshape(2, 2)
        optimizer.step()
        optimizer.zero_grad()
    """


@pytest.mark.torch
def test_an_audit_has_the_losses_and_printed_metrics_of_divergent_runs(tmp_path: Path) -> None:
    write(tmp_path, train=TRAIN)
    done = audited(tmp_path, "--effort", "compare", "--json", "audit.json", "-o", "runs", "train.py")
    audit = Audit.model_validate_json((tmp_path / "audit.json").read_text())
    effect = audit.effect
    assert effect is not None
    assert effect.loss is not None
    assert effect.printed is not None
    assert (effect.runs, effect.loss.step, effect.loss.final, effect.loss_from, effect.parameters_from) == (
        ["control-1", "control-2"], 2, True, 0, 0,
    )  # fmt: skip
    assert (effect.printed.compared, effect.printed.differing, effect.printed.names) == (6, 6, ["score", "train loss"])
    printed = [(tmp_path / "runs" / name / "stdout").read_text().splitlines()[-1] for name in effect.runs]
    for metric in effect.printed.last:
        assert all(f"{metric.name.split()[-1]}" in line for line in printed)
        assert (metric.a in printed[0], metric.b in printed[1]) == (True, True)
    assert f"train loss {effect.loss.a:.6f}" in printed[0]
    assert "final loss " in done.out.decode()
    assert audit.provenance is not None
    assert set(audit.provenance.versions) >= {"python", "torch"}
    assert audit.provenance.date is not None
    assert {finding.rule for finding in audit.findings} == set(audit.rules)


@pytest.mark.torch
def test_an_audit_of_a_script_that_fails_in_both_runs_has_its_line(tmp_path: Path) -> None:
    write(tmp_path, fails=FAILS)
    done = audited(tmp_path, "--effort", "compare", "--json", "audit.json", "-o", "runs", "fails.py")
    failure = Audit.model_validate_json((tmp_path / "audit.json").read_text()).failure
    assert failure is not None
    assert (failure.file, failure.line, failure.code, failure.steps) == ("fails.py", 8, "w.reshape(2, 2)", 2)
    assert [number for number, _ in failure.around] == [6, 7, 8, 9, 10]
    said = " ".join(done.out.decode().split())
    assert "INCONCLUSIVE The script fails in both runs after 2 steps: RuntimeError: shape '[2, 2]' is invalid" in said
    assert "(fails.py:8). compared up to there the runs are equal:" in said
