"""Each factor with a script that leaks only it: an audit names it, proves it and points at the line that uses it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from auditor import pipeline, plugins
from auditor.compare import compare
from auditor.errors import UsageError
from auditor.factors import needs_cuda
from auditor.launch import Snapshot, launch
from auditor.plan import Plan
from auditor.report.words.reasons import sentence_of
from auditor.results import Audit
from auditor.trace.reader import Trace, opened
from tests.processes import audited, environment, write
from tests.test_fixes import CAUSES

FACTORS = plugins.factors()
LEAKS = Path(__file__).parent / "leaks"

#: Factors whose leak needs a GPU.
ON_A_GPU = {"cuda-seed", "device", "kernels", "tf32"}
#: Factors that no script leaks every time.
NO_LEAK = {"cudnn-benchmark": "cuDNN decides by the time that its algorithms take"}


#: Factors that whole audits of `tests/faults` already name, prove, locate and patch.
IN_FAULTS = set(CAUSES.values())


def run(
    path: Path, script: Path, pinned: Sequence[str], varied: Sequence[str] = (), work: Path | None = None, before: Snapshot | None = None
) -> Trace:
    """One run of a leak script, in a new folder unless one is given; leftover files can be pinned to the state `before`."""
    work = work or path.parent / f"work-{path.name}"
    work.mkdir(parents=True, exist_ok=True)
    plan = Plan((str(script),), cwd=str(work), environment=(("PYTHONHASHSEED", "random"),))
    if before is not None:
        plan = plan.with_before(str(before.folder), tuple(before.outputs(work)))
    plan = pipeline.with_factors(plan, pinned, varied)
    launch(plan, path, path.name, "experiment", pipeline.Silent(), quiet=True)
    trace = opened(path)
    assert trace.meta["exit"] == 0, (path / "stderr").read_text()
    assert trace.meta["pinned"] == list(pinned)
    assert trace.meta["varied"] == list(varied)
    return trace


def test_every_factor_has_a_script_that_leaks_it() -> None:
    assert {path.stem.replace("_", "-") for path in LEAKS.glob("*.py")} == set(FACTORS) - set(NO_LEAK)


@pytest.mark.torch
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.gpu if name in ON_A_GPU else ()) for name in sorted(set(FACTORS) - set(NO_LEAK) - IN_FAULTS)],
)
def test_exactly_the_factor_that_a_script_leaks_is_named_proved_and_located(name: str, tmp_path: Path) -> None:
    factor = FACTORS[name]
    missing = factor.unavailable() or (needs_cuda() if name in ON_A_GPU else None)
    if missing is not None:
        pytest.skip(missing)
    script = LEAKS / f"{name.replace('-', '_')}.py"
    shutil.copy(script, tmp_path / "train.py")

    done = audited(tmp_path, "--json", "audit.json", "-o", "runs", "train.py", env=environment(PYTHONHASHSEED="random"))

    audit = Audit.model_validate_json((tmp_path / "audit.json").read_text())
    logical, numerical = ([cause for cause in audit.causes if cause.grade == grade] for grade in ("logical", "numerical"))
    assert [cause.factor for cause in logical] == ([] if factor.numerical else [name]), done.said
    assert (audit.verdict, done.status) == (("no-divergence-seen", 0) if factor.numerical else ("diverged", 1))
    (cause,) = [cause for cause in (*logical, *numerical) if cause.factor == name]
    entered = {number for number, line in enumerate(script.read_text().splitlines(), 1) if line.endswith("# <- enters")}
    assert cause.proved
    assert not factor.numerical or ", there by at most " in sentence_of(cause.reasons), "the size of the difference"
    assert (cause.file, cause.line in entered) == ("train.py", True), f"{cause.line}: {sentence_of(cause.reasons)}"
    assert set(cause.proof) <= {run.id for run in audit.runs}
    # controls may agree by chance: then varying shows the factor, and further controls diverge
    by_luck = "control-3" in {run.id for run in audit.runs}
    assert len(audit.runs) <= (22 if by_luck else 10)
    said = [(tmp_path / "runs" / run / "stdout").read_text() for run in cause.proof if run.startswith("pin-")]
    assert len(set(said)) <= 1, "runs that agree print the same"


@pytest.mark.torch
def test_leftover_files_are_seen_by_the_next_run_unless_pinned(tmp_path: Path) -> None:
    script = LEAKS / "leftover_files.py"
    name, work = "leftover-files", tmp_path / "work"
    others = [other for other, one in FACTORS.items() if one.unavailable() is None and other != name]
    first = run(tmp_path / "first", script, others, work=work)
    before = Snapshot.take(work, tmp_path / "before")
    second = run(tmp_path / "second", script, others, work=work)
    assert compare(first, second).divergence is not None, "all other factors are pinned, and nothing differs"
    pinned = [run(tmp_path / f"pinned-{k}", script, [*others, name], work=work, before=before) for k in range(2)]
    assert compare(*pinned).divergence is None
    assert compare(pinned[0], second).divergence is None, "the second run started from the content of the snapshot"
    varied = run(tmp_path / "varied", script, others, [name], work=work, before=before)
    assert compare(varied, pinned[0]).divergence is not None
    assert compare(varied, first).divergence is None, "the files that runs write again existed"


def test_an_unknown_factor_is_refused_with_similar_names() -> None:
    with pytest.raises(UsageError, match=r"no factor is named hash-sed; did you mean hash-seed\?") as raised:
        pipeline.with_factors(Plan(("train.py",)), ["hash-sed"], [])
    assert raised.value.slug == "no-such-factor"


def test_a_factor_cannot_be_both_pinned_and_varied() -> None:
    with pytest.raises(UsageError, match="threads cannot be both pinned and varied"):
        pipeline.with_factors(Plan(("train.py",)), ["threads"], ["threads"])


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_a_factor_describes_its_effect_and_its_remedy(name: str) -> None:
    factor = FACTORS[name]
    assert factor.name == name
    assert len(factor.why) > 20
    assert factor.remedy
    assert factor.pin is not None or factor.inside is not None


@pytest.mark.torch
def test_a_run_is_recorded_with_its_factors_and_a_diff_names_them(tmp_path: Path) -> None:
    write(tmp_path, train="import torch\nprint(torch.randn(2).sum())")
    for name, words in (("a", ["--pin", "torch-seed"]), ("b", ["--pin", "torch-seed", "--vary", "file-order"])):
        done = audited(tmp_path, "record", "-o", name, *words, "train.py")
        assert done.status == 0, done.said
    assert "torch-seed pinned, file-order varied" in done.said
    compared = audited(tmp_path, "diff", "-v", "a", "b")
    assert compared.status == 0, compared.said
    assert b"varied  none  file-order" in compared.out


def test_an_unknown_factor_ends_the_command_with_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, train="import torch")
    done = audited(tmp_path, "record", "-o", "a", "--pin", "treads", "train.py")
    assert done.status == 2
    assert "no factor is named treads; did you mean threads? [no-such-factor]" in done.said


def test_the_factors_are_listed_with_reasons_and_remedies(tmp_path: Path) -> None:
    said = audited(tmp_path, "factors").out.decode()
    for name, factor in FACTORS.items():
        assert name in said
        assert factor.why.split()[0] in said
