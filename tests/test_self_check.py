"""`--self-check`: whether recording changed the script, as opposed to a script that does not repeat by itself."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from auditor.report.words.reasons import text_of
from auditor.results import Audit
from tests.processes import Ended, audited, bare, write

STEADY = """
    import torch
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(3):
        optimizer.zero_grad()
        loss = model(torch.randn(5, 3)).square().mean()
        loss.backward()
        optimizer.step()
        print(step, loss.item().hex())
    """
#: The same without an optimizer, whose first use takes as long as importing torch.
BY_HAND = """
    import torch
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    for step in range(3):
        loss = model(torch.randn(5, 3)).square().mean()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
        model.zero_grad()
        print(step, loss.item().hex())
    """
#: The gradient of a filled value is a sum, which torch computes differently under any dispatch mode.
FILLED = """
    import torch
    torch.manual_seed(0)
    value = torch.tensor(0.5, requires_grad=True)
    optimizer = torch.optim.SGD([value], lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        x = torch.randn(100_000)
        (x.masked_fill(x > 0, value) * torch.randn(100_000)).sum().backward()
        optimizer.step()
    print(value.item().hex())
    """


class Checked(NamedTuple):
    """The result of `--self-check`."""

    done: Ended
    audit: Audit
    runs: list[str]
    said: str
    """What is said of the self-check among the notes."""
    changed: list[str]
    """What is said of it among what is not covered."""


def checked(folder: Path, source: str, *words: str) -> Checked:
    """Audit a script with `--self-check`."""
    write(folder, train=source)
    done = audited(folder, "--self-check", "--effort", "compare", "-o", "runs", "--json", "audit.json", *words, "train.py")
    audit = Audit.model_validate_json((folder / "audit.json").read_text())
    notes = [text for text in map(text_of, audit.notes) if text.startswith("self-check: ")]
    changed = [text for text in (text_of(lost.what) for lost in audit.coverage.lost) if text.startswith("self-check: ")]
    assert len(notes) + len(changed) == 1, done.said
    return Checked(done, audit, [run.id for run in audit.runs], "".join(notes).removeprefix("self-check: "), changed)


@pytest.mark.torch
def test_a_script_that_recording_does_not_change_gets_that_answer(tmp_path: Path) -> None:
    found = checked(tmp_path, STEADY)
    assert (found.audit.verdict, found.done.status) == ("no-divergence-seen", 0)
    assert found.runs == ["control-1", "control-2", "bare", "steps-only"]
    assert {run.role for run in found.audit.runs[2:]} == {"check"}
    assert [(run.ops > 0, run.steps) for run in found.audit.runs] == [(True, 3), (True, 3), (False, 0), (False, 3)]
    assert found.said == (
        "its stdout, its stderr and its exit status equal those of a run without the recorder; losses, gradients, parameters and "
        "optimizer state at each of 3 steps equal those of a run without a dispatch mode"
    )
    # the run without the recorder is really bare
    assert (tmp_path / "runs" / "bare" / "stdout").read_bytes() == bare(tmp_path, "train.py").out
    assert not list((tmp_path / "runs" / "bare").glob("spool/*"))
    # and it is not shown twice
    assert found.done.out.count(b"2 0x") == 1


@pytest.mark.torch
def test_gradients_that_change_under_a_dispatch_mode_are_reported_with_their_place(tmp_path: Path) -> None:
    found = checked(tmp_path, FILLED)
    under = (tmp_path / "runs" / "control-1" / "stdout").read_bytes()
    assert under != bare(tmp_path, "train.py").out, "on this machine both formulas give the same bits: choose another op"
    # both recorded runs agree: this is no divergence of the script
    assert (found.audit.verdict, found.done.status) == ("no-divergence-seen", 0)
    assert found.changed == ["self-check: being recorded changed its stdout and the gradients and parameters at step 0"]
    assert any(text_of(lost.what).startswith("aten.masked_fill.Tensor: under any dispatch mode") for lost in found.audit.coverage.lost)
    assert b"being recorded changed its stdout" in b" ".join(found.done.out.split())


@pytest.mark.torch
def test_output_that_differs_in_every_run_is_not_blamed_on_the_recorder(tmp_path: Path) -> None:
    found = checked(tmp_path, BY_HAND + "import os; print('process', os.getpid())\n")
    assert (found.audit.verdict, found.done.status) == ("no-divergence-seen", 0)
    assert found.changed == []
    assert found.said == (
        "its stderr and its exit status equal those of a run without the recorder; losses at each of 3 "
        "steps equal those of a run without a dispatch mode; its stdout could not be checked: they differ between two recorded runs"
    )


@pytest.mark.torch
def test_a_script_with_a_step_limit_is_checked_up_to_it(tmp_path: Path) -> None:
    found = checked(tmp_path, BY_HAND + "print('behind the end')\n", "--steps", "2")
    assert (found.audit.verdict, found.done.status) == ("no-divergence-seen", 0)
    assert found.runs == ["control-1", "control-2", "steps-only"]
    assert found.changed == []
    assert found.said.startswith("losses at each of 2 steps equal those of a run without a dispatch mode")
    assert found.said.endswith("could not be checked: without the recorder nothing ends the script after N steps")
    assert b"behind the end" not in found.done.out


@pytest.mark.torch
def test_a_script_that_does_not_repeat_by_itself_gets_no_answer(tmp_path: Path) -> None:
    found = checked(tmp_path, BY_HAND.replace("torch.manual_seed(0)", "torch.seed()"))
    assert (found.audit.verdict, found.done.status) == ("diverged", 1)
    assert found.changed == []
    assert found.said == "no answer, because the script does not repeat anyway"
