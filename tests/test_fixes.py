"""Fixes: whole audits of common faults that make, verify, write and apply patches; and the files that must not be overwritten."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from auditor import pipeline
from auditor.errors import UsageError
from auditor.pipeline.experiment_runner import ExperimentRunner
from auditor.pipeline.factor_choice import FactorChoice
from auditor.pipeline.patch_files import ChangedFiles, is_committed, put_into, written
from auditor.pipeline.reruns import Reruns
from auditor.pipeline.working_folder import WorkingFolder
from auditor.plan import Plan
from auditor.report.words.reasons import text_of
from tests.processes import Ended, audited, bare, environment, kept, line_of, write

FAULTS = Path(__file__).parent / "faults"
EXAMPLES = Path(__file__).parent.parent / "examples"
CAUSES = {
    "late_seed": "torch-seed", "label_ids": "hash-seed", "unsorted_glob": "file-order", "resumed": "leftover-files",
    "numpy_workers": "worker-seed",
}  # fmt: skip

needs_patch = pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch program here")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


def fixed(folder: Path, script: str, *words: str) -> tuple[Ended, dict[str, Any]]:
    """Audit a script with --fix; returns the exit and the files written."""
    done = audited(folder, *words, "--json", "a.json", script)
    assert (folder / "a.json").exists(), done.said
    return done, json.loads((folder / "a.json").read_text())


def taken(folder: Path, patch: str) -> str:
    """Apply a patch as its first line says; returns that line."""
    head = (folder / patch).read_text().splitlines()[0]
    command = head.removeprefix("Made by repro-audit: ")
    assert command.startswith("patch -p1 "), head
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fuzz" not in done.stdout
    return command


def check_patch(one: dict[str, Any], audit: dict[str, Any]) -> None:
    """The patch of a cause or finding was verified, and its runs are in the audit."""
    runs = {run["id"]: run for run in audit["runs"]}
    assert len(one["patch"]["runs"]) >= 2
    assert {runs[name]["exit"] for name in one["patch"]["runs"]} == {0}


def commit(folder: Path) -> None:
    """Make a folder a git repository with all its files committed."""
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=folder, check=True)


def mending(folder: Path, *script: str, **files: str) -> ChangedFiles:
    """Changes to files of a folder, by name without `.py`: from the first text to the second, which is to be `changed`."""
    runs = Reruns(folder / "runs", pipeline.Silent())
    plan = Plan(script or ("train.py",), cwd=str(folder))
    work = ChangedFiles(ExperimentRunner.of(plan, FactorChoice({}), runs, [], WorkingFolder(runs.folder)))
    for name, old in files.items():
        work.texts[f"{name}.py"] = old, "changed\n"
    return work


def test_every_fault_has_its_cause() -> None:
    assert {path.stem for path in FAULTS.glob("*.py")} == set(CAUSES)


@needs_patch
@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(CAUSES))
def test_a_common_fault_gets_a_patch_that_makes_the_runs_agree(name: str, tmp_path: Path) -> None:
    source = (FAULTS / f"{name}.py").read_text()
    script = f"{name}.py"
    write(tmp_path, **{name: source})
    if name == "unsorted_glob":
        (tmp_path / "data").mkdir()
        for k in range(4):
            rows = [[(k * 7 + row * 3 + column) % 11 / 11 for column in range(4)] for row in range(6)]
            (tmp_path / "data" / f"sensor-{k}.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    done, audit = fixed(tmp_path, script, "--fix")
    assert audit["verdict"] == "diverged", done.said
    assert done.status == 1
    (cause,) = [cause for cause in audit["causes"] if cause["grade"] == "logical"]
    assert (cause["factor"], cause["proved"]) == (CAUSES[name], True)
    assert (cause["file"], cause["line"]) == (script, line_of(source, "# <- enters"))
    check_patch(cause, audit)
    assert not cause["patch"]["applied"]
    assert (tmp_path / script).read_text() == source, "the script is changed only on request"
    assert any(f"{name}-fix.patch" in note["text"] for note in audit["notes"])
    assert (tmp_path / f"{name}-fix.patch").read_text().endswith(cause["patch"]["diff"])

    taken(tmp_path, f"{name}-fix.patch")
    assert (tmp_path / script).read_text() != source
    runs = [bare(tmp_path, script, env=environment(PYTHONHASHSEED=seed)) for seed in ("1", "2")]
    assert [run.status for run in runs] == [0, 0], runs[0].said + runs[1].said
    assert b"epoch 1" in runs[0].out
    assert runs[0].out == runs[1].out
    if name == "unsorted_glob":
        varied = audited(tmp_path, "record", "-o", "varied", "--vary", "file-order", script)
        assert varied.status == 0, varied.said
        assert kept(tmp_path / "varied").out == runs[0].out
    if name == "resumed":
        text = (tmp_path / script).read_text()
        assert all(f'Path("checkpoints/{part}.pt").unlink(missing_ok=True)' in text for part in ("body", "head"))
        assert (tmp_path / "checkpoints" / "head.pt").exists(), "it is written as usual"


@needs_patch
@pytest.mark.torch
def test_two_causes_in_a_file_with_windows_line_ends_are_patched_in_one_diff(tmp_path: Path) -> None:
    source = """\
    import torch

    NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]
    model = torch.nn.Linear(3, 8)  # <- draws
    ids = {name: number for number, name in enumerate(set(NAMES))}  # <- orders
    y = torch.tensor([ids[name] for name in NAMES])
    x = torch.arange(24.0).reshape(8, 3) / 24
    print(torch.nn.functional.cross_entropy(model(x), y).item())
    """
    write(tmp_path / "src", train=source)
    script = tmp_path / "src" / "train.py"
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))
    work = tmp_path / "work"
    work.mkdir()
    done, audit = fixed(work, "../src/train.py", "--fix")
    causes = {cause["factor"]: cause for cause in audit["causes"]}
    assert set(causes) == {"torch-seed", "hash-seed"}, done.said
    assert causes["torch-seed"]["line"] == line_of(source, "# <- draws")
    assert causes["hash-seed"]["line"] == line_of(source, "# <- orders")
    for cause in causes.values():
        check_patch(cause, audit)
    assert taken(work, "train-fix.patch") == "patch -p1 -d ../src < train-fix.patch"
    text = script.read_bytes()
    assert b"torch.manual_seed(0)\r\n" in text
    assert b"sorted(set(NAMES))" in text
    assert text.count(b"\n") == text.count(b"\r\n")
    runs = [bare(work, "../src/train.py", env=environment(PYTHONHASHSEED=seed)) for seed in ("1", "2")]
    assert runs[0].status == 0, runs[0].said
    assert runs[0].out == runs[1].out


@needs_patch
@pytest.mark.torch
def test_a_fault_in_another_module_is_patched_there_and_an_unfixable_one_described(tmp_path: Path) -> None:
    train = """\
    import torch
    import noise

    x = noise.noisy(torch.ones(4))
    scale = hash("train") % 1000 / 1000  # <- hashes
    print((x * scale).sum().item())
    """
    noise = """\
    import numpy as np
    import torch


    def noisy(x):
        rng = np.random.default_rng()  # <- draws
        return x + torch.from_numpy(rng.normal(size=4)).float()
    """
    write(tmp_path, train=train, noise=noise)
    done, audit = fixed(tmp_path, "train.py", "--fix")
    causes = {cause["factor"]: cause for cause in audit["causes"]}
    assert len(causes) == 2, done.said
    words = causes.pop("hash-seed")
    assert words["patch"] is None
    assert words["fix"]
    assert any("no change of a few lines was seen to remove hash-seed" in note["text"] for note in audit["notes"]), audit["notes"]
    (cause,) = causes.values()
    assert (cause["file"], cause["line"]) == ("noise.py", line_of(noise, "# <- draws"))
    check_patch(cause, audit)
    taken(tmp_path, "train-fix.patch")
    assert "default_rng(0)" in (tmp_path / "noise.py").read_text()
    held = environment(PYTHONHASHSEED="1")
    assert bare(tmp_path, "train.py", env=held).out == bare(tmp_path, "train.py", env=held).out


@needs_git
@pytest.mark.torch
def test_a_gradient_that_is_never_zeroed_is_zeroed_in_a_script_tracked_by_git(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "fizbuz_torch.py", tmp_path / "train.py")
    commit(tmp_path)
    done, audit = fixed(tmp_path, "train.py", "--apply", "--effort", "explain")
    (finding,) = [finding for finding in audit["findings"] if finding["rule"] == "stale-gradient"]
    check_patch(finding, audit)
    assert (finding["patch"]["applied"], finding["patch"]["backup"]) == (True, None), done.said
    assert "b1.grad.zero_()" in (tmp_path / "train.py").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {".git", "a.json", "train.py"}, "neither a backup nor a patch"
    assert bare(tmp_path, "train.py").status == 0


@pytest.mark.torch
def test_an_audit_is_reported_even_if_its_patch_cannot_be_written(tmp_path: Path) -> None:
    script, target = tmp_path / "train.py", tmp_path / "train-fix.patch"
    shutil.copy(EXAMPLES / "fizbuz_torch.py", script)
    script.chmod(0o444)
    target.write_text("mine\n")
    before = script.read_text()
    done, audit = fixed(tmp_path, "train.py", "--fix", "--apply", "--effort", "explain")
    assert done.status == 1
    (finding,) = [finding for finding in audit["findings"] if finding["rule"] == "stale-gradient"]
    assert (finding["patch"]["applied"], finding["patch"]["backup"]) == (False, None)
    assert "+        b1.grad.zero_()" in finding["patch"]["diff"]
    assert "train.py was not changed: it is read-only [output-unwritable]" in [note["text"] for note in audit["notes"]]
    assert any("[output-exists]" in note["text"] for note in audit["notes"])
    assert (script.read_text(), target.read_text()) == (before, "mine\n")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "train.py", "train-fix.patch"}


@needs_git
def test_a_file_tracked_by_git_is_changed_in_place_and_others_get_a_backup(tmp_path: Path) -> None:
    path = write(tmp_path, train="a = 1\n") / "train.py"
    path.chmod(0o755)
    assert put_into(path, "a = 1\n", "a = 2\n") == "train.py.orig", "there is no repository"
    commit(tmp_path)
    assert is_committed(path)
    assert put_into(path, "a = 2\n", "a = 3\n") is None
    assert not is_committed(path)
    assert put_into(path, "a = 3\n", "a = 4\r\n") == "train.py.orig1", "an older backup stays"
    assert path.read_bytes() == b"a = 4\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert [(tmp_path / f"train.py.orig{k}").read_text() for k in ("", "1")] == ["a = 1\n", "a = 3\n"]
    new = write(tmp_path, other="b = 1\n") / "other.py"
    assert put_into(new, "b = 1\n", "b = 2\n") == "other.py.orig", "it was never added"


@needs_git
def test_a_change_that_git_ignores_is_still_backed_up(tmp_path: Path) -> None:
    path = write(tmp_path, train="a = 1\n") / "train.py"
    commit(tmp_path)
    subprocess.run(["git", "update-index", "--assume-unchanged", "train.py"], cwd=tmp_path, check=True)
    path.write_text("a = 2\n")
    assert put_into(path, "a = 2\n", "a = 3\n") == "train.py.orig"
    assert (tmp_path / "train.py.orig").read_text() == "a = 2\n"


@needs_git
def test_an_added_but_uncommitted_file_is_backed_up(tmp_path: Path) -> None:
    write(tmp_path, other="b = 1\n")
    commit(tmp_path)
    path = write(tmp_path, train="a = 1\n") / "train.py"
    subprocess.run(["git", "add", "train.py"], cwd=tmp_path, check=True)
    assert put_into(path, "a = 1\n", "a = 2\n") == "train.py.orig"


def test_a_read_only_file_or_one_that_was_not_run_is_not_changed(tmp_path: Path) -> None:
    path = write(tmp_path, train="a = 1\n") / "train.py"
    with pytest.raises(UsageError, match=r"train\.py was not changed: it is not as it was when the runs were made") as raised:
        put_into(path, "a = 0\n", "a = 2\n")
    assert raised.value.slug == "script-changed"
    path.chmod(0o444)
    with pytest.raises(UsageError, match="read-only") as raised:
        put_into(path, "a = 1\n", "a = 2\n")
    assert raised.value.slug == "output-unwritable"
    with pytest.raises(UsageError, match="could not be changed") as raised:
        put_into(tmp_path / "gone.py", "a = 1\n", "a = 2\n")
    assert raised.value.slug == "output-unwritable"
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("train.py", "a = 1\n")]


def test_only_our_own_patch_file_is_overwritten(tmp_path: Path) -> None:
    work = mending(tmp_path, train="a = 1\n")
    for _ in range(2):
        assert text_of(written(work, work.changed())) == "the changes are in train-fix.patch: patch -p1 < train-fix.patch"
    target = tmp_path / "train-fix.patch"
    for foreign in (b"mine\n", b"\xff\xfe", b""):
        target.write_bytes(foreign)
        with pytest.raises(UsageError, match="was not made by repro-audit") as raised:
            written(work, work.changed())
        assert raised.value.slug == "output-exists"
        assert target.read_bytes() == foreign
    target.unlink()
    target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="was not made by repro-audit"):
        written(work, work.changed())
    assert not (tmp_path / "elsewhere").exists()
    target.unlink()
    target.mkdir()
    with pytest.raises(UsageError, match="was not made by repro-audit"):
        written(work, work.changed())


def test_a_patch_is_named_after_the_script_or_module_and_not_an_argument(tmp_path: Path) -> None:
    for script, name in ((("-m", "pkg.train", "0.1"), "pkg.train"), (("my train.py", "x.py"), "my-train"), ((".",), tmp_path.name)):
        work = mending(tmp_path, *script, train="a = 1\n")
        assert text_of(written(work, work.changed())).startswith(f"the changes are in {name}-fix.patch: ")


@needs_patch
def test_changes_inside_and_beside_the_working_directory_share_one_root(tmp_path: Path) -> None:
    here, src = tmp_path / "here", tmp_path / "src"
    write(here, conf="b = 1\n")
    write(src / "sub dir", train="a = 1\n")
    inside = str(src / "sub dir" / "train.py")
    work = mending(here, "../src/main.py", conf="b = 1\n")
    assert work.text(inside) == "a = 1\n"
    assert work.named(inside) == "sub dir/train.py"
    assert work.text(str(tmp_path / "other.py")) is None
    work.texts[inside] = "a = 1\n", "a = 2\n"
    written(work, work.changed())
    assert taken(here, "main-fix.patch") == "patch -p1 -d .. < main-fix.patch"
    assert (here / "conf.py").read_text() == "changed\n"
    assert (src / "sub dir" / "train.py").read_text() == "a = 2\n"


def test_a_line_is_found_after_earlier_changes_have_moved_it(tmp_path: Path) -> None:
    work = mending(tmp_path)
    work.texts["train.py"] = "a\nb\nc\nd\ne\nf\n", "new\na\nB\nC\nd\nf\n"
    assert [work.line("train.py", line) for line in range(1, 7)] == [2, 3, 4, 5, 6, 6]


def test_a_file_is_recognized_by_every_path_to_it(tmp_path: Path) -> None:
    write(tmp_path / "real", train="a = 1\n")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "work").mkdir()
    work = mending(tmp_path / "work", "../link/train.py")
    for way in ("link/train.py", "real/train.py", "work/../real/train.py"):
        file = f"{tmp_path}/{way}"
        assert work.text(file) == "a = 1\n"
        assert work.named(file) == "train.py"
