"""Training scripts with common features: under audit they end with bitwise the weights, output and exit status of the bare run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from auditor.results import Audit
from auditor.trace.reader import opened

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
#: Runs several of them in one process.
TOGETHER = Path(__file__).parent / "scripts" / "one_after_another.py"
#: Programs that need their own process: they start themselves again, or use a library that changes torch's own settings.
_ALONE = {"compiled", "dataloader_spawn", "hf_trainer", "lightning_trainer", "pyg_gcn"}
_NEEDS = {"hf_trainer": ("transformers", "accelerate"), "lightning_trainer": ("lightning",), "pyg_gcn": ("torch_geometric",)}


def run(command: list[str], cwd: Path, cache: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a directory of its own, with an inductor cache shared by the test."""
    cwd.mkdir(exist_ok=True)
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)} | variables
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=600, check=False)


def bits(value: Any) -> Any:
    """A nested result of torch.save as plain data that is equal only if every bit is."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout is torch.sparse_coo:
            return "sparse", bits(value._indices()), bits(value._values())
        flat = value.detach().contiguous().reshape(-1)
        return str(value.dtype), tuple(value.shape), value.stride(), bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(part) for part in value]
    return repr(value)


def hold(command: list[str], weights: list[str], folder: Path, ranks: bool = False) -> None:
    """A command saves the same weights and prints the same with and without the auditor, and an audit of it reports nothing.

    `ranks` print to one stream: the order of their lines is chance.
    """
    import torch

    cache = folder / "inductor"
    variables = {"OMP_NUM_THREADS": "1"} if ranks else {}  # otherwise torchrun prints, with the time, that it sets it
    bare = run([sys.executable, *command], folder / "bare", cache, variables)
    audited = run(
        [
            sys.executable,
            "-m",
            "auditor",
            "--effort",
            "compare",
            "-o",
            str(folder / "runs"),
            "--json",
            str(folder / "audit.json"),
            *command,
        ],
        folder / "audited",
        cache,
        variables,
    )

    audit = Audit.model_validate_json((folder / "audit.json").read_text())
    assert (audit.verdict, audit.divergence, audited.returncode) == ("no-divergence-seen", None, 0)
    assert [(finding.rule, finding.file, finding.line) for finding in audit.findings if finding.level != "note"] == []
    kept = folder / "runs" / "control-1"
    said = (kept / "stdout").read_bytes()
    assert sorted(said.splitlines()) == sorted(bare.stdout.splitlines())
    assert ranks or said == bare.stdout
    assert (kept / "stderr").read_bytes() == bare.stderr
    assert [run.exit for run in audit.runs] == [bare.returncode] * 2 == [0, 0]
    for name in weights:
        # the second control ran last: these are its weights
        saved = [torch.load(folder / which / name, weights_only=False) for which in ("bare", "audited")]
        assert bits(saved[0]) == bits(saved[1]), name
    assert all(run.ops > 0 for run in audit.runs)


@pytest.mark.torch
@pytest.mark.programs
@pytest.mark.parametrize("script", [script for script in PROGRAMS if script.stem in _ALONE], ids=lambda script: script.stem)
def test_an_audited_program_behaves_as_bare_and_nothing_is_reported(script: Path, tmp_path: Path) -> None:
    for module in _NEEDS.get(script.stem, ()):
        pytest.importorskip(module, reason=f"{module} is in the dependency group `programs`")
    hold([str(script), "--save", "weights.pt"], ["weights.pt"], tmp_path)


@pytest.mark.torch
def test_programs_run_one_after_another_behave_as_bare_and_nothing_is_reported(tmp_path: Path) -> None:
    scripts = [script for script in PROGRAMS if script.stem not in _ALONE]
    hold([str(TOGETHER), *map(str, scripts)], [f"{script.stem}.pt" for script in scripts], tmp_path)


@pytest.mark.torch
@pytest.mark.programs
@pytest.mark.parametrize("name", ["data_parallel", "fully_sharded", "tensor_parallel"])
def test_a_torchrun_program_of_two_ranks_behaves_as_bare_and_nothing_is_reported(name: str, tmp_path: Path) -> None:
    # a separate launch each: rank groups that follow one another in a process find the keys of earlier ones
    script = next(str(script) for script in PROGRAMS if script.stem == name)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    hold([*launcher, script, "--save", "weights.pt"], ["weights.pt"], tmp_path, ranks=True)
    trace = opened(tmp_path / "runs" / "control-1")
    assert all(trace.lanes[f"rank {rank}"].steps > 0 for rank in range(2))
