"""Copies of the working directory: their content, that the original is untouched, and that a run in a copy equals a run in place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from auditor import pipeline
from auditor.compare import compare
from auditor.errors import LaunchError
from auditor.launch import Snapshot, launch, moved, new_folder, path_for_copy, remove
from auditor.launch import tree as tree_module
from auditor.launch.cache import slot
from auditor.plan import Plan
from auditor.trace.reader import Trace, opened
from tests.processes import PATIENCE, audited, bare, environment, write

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and modes are those of POSIX")

Held = dict[str, tuple[object, ...]]


def held(folder: Path, *, times: bool = True) -> Held:
    """Everything in a folder: kind, mode, time and content by path."""
    found: Held = {}
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(at, name)
            facts = path.lstat()
            when = facts.st_mtime_ns if times and not path.is_symlink() else 0
            if path.is_symlink():
                found[os.path.relpath(path, folder)] = "link", os.readlink(path)
            elif path.is_dir():
                found[os.path.relpath(path, folder)] = "folder", facts.st_mode, when
            else:
                found[os.path.relpath(path, folder)] = "file", facts.st_mode, when, path.read_bytes()
    return found


def taken(cwd: Path, into: Path, **how: object) -> Snapshot:
    snapshot = Snapshot.take(cwd, into, **how)  # type: ignore[arg-type]
    assert snapshot.unavailable is None, snapshot.unavailable
    return snapshot


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def copying(work: Path, tmp_path: Path) -> None:
    """For file systems that do not show which copies share their blocks."""
    probe = work / "probe"
    probe.write_bytes(b"x" * 4096)
    if tree_module._can_share(probe, tmp_path):
        pytest.skip("this file system shares the blocks of copies, so none is too large")
    probe.unlink()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user without root's permissions."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


# The content of a snapshot


def test_a_copy_of_a_snapshot_has_the_content_of_the_folder(work: Path, tmp_path: Path) -> None:
    (work / "a" / "empty").mkdir(parents=True)
    (work / "a" / "data.bin").write_bytes(bytes(range(256)) * 9000)
    (work / "run.sh").write_text("true")
    (work / "run.sh").chmod(0o755)
    (work / "fixed").write_text("fixed")
    (work / "fixed").chmod(0o444)
    (work / "nothing").touch()
    os.utime(work / "run.sh", ns=(10**18 + 1, 10**18 + 1))
    (work / "a").chmod(0o750)
    os.utime(work / "a", ns=(10**18 + 3, 10**18 + 3))
    before = held(work)
    snapshot = taken(work, tmp_path / "before")
    assert held(tmp_path / "before") == before
    copied = snapshot.copy(tmp_path / "copy")
    assert held(copied) == before
    assert held(work) == before
    assert snapshot.linked == []


@pytest.mark.parametrize("names", ["zyxabc", "abcxyz"])
def test_a_copy_lists_its_names_in_the_order_of_the_original(names: str, work: Path, tmp_path: Path) -> None:
    for name in names:
        (work / name).mkdir() if name in "xb" else (work / name).touch()
    snapshot = taken(work, tmp_path / "before")
    assert os.listdir(snapshot.folder) == os.listdir(work)
    assert os.listdir(snapshot.copy(tmp_path / "copy")) == os.listdir(work)


def test_a_folder_that_lists_the_newest_name_first_is_filled_in_reverse() -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or not os.access(shared, os.W_OK):
        pytest.skip("there is no tmpfs here")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        work = Path(folder, "work")
        work.mkdir()
        for name in ("m", "a", "z", "k"):
            (work / name).touch()
        snapshot = taken(work, Path(folder, "before"))
        assert os.listdir(snapshot.folder) == os.listdir(work)
        assert os.listdir(snapshot.copy(Path(folder, "copy"))) == os.listdir(work)


def test_links_in_the_folder_lead_into_the_copy_and_others_to_their_targets(work: Path, tmp_path: Path) -> None:
    (work / "sub").mkdir()
    (work / "sub" / "file").write_text("inside")
    (tmp_path / "outside").write_text("outside")
    links = {
        "plain": "sub/file", "dotted": "./sub/../sub/file", "dangling": "nothing", "sub/up": "../sub/file", "folder": "sub", "self": ".",
        "sub/out": "../../outside", "absolute": str(tmp_path / "outside"), "round": f"../{work.name}/sub/file",
        "sub/into": str(work / "sub" / "file"), "sub/loop": "loop",
    }  # fmt: skip
    for name, text in links.items():
        (work / name).symlink_to(text)
    copied = taken(work, tmp_path / "before").copy(tmp_path / "deep" / "er" / "copy")
    found = {name: os.readlink(copied / name) for name in links}
    same = ("plain", "dotted", "dangling", "sub/up", "folder", "self", "absolute", "sub/loop")
    assert {name: found[name] for name in same} == {name: links[name] for name in same}
    assert (copied / "sub" / "out").resolve() == tmp_path / "outside"
    assert (copied / "round").resolve() == copied / "sub" / "file"
    assert (copied / "sub" / "into").resolve() == copied / "sub" / "file"


def test_unusual_names_are_copied(work: Path, tmp_path: Path) -> None:
    for name in (b"not \xff utf-8", b"two\nlines", b" spaces ", b"-rf", "\u00fc\u0438".encode()):
        Path(os.fsdecode(os.fsencode(work) + b"/" + name)).write_bytes(name)
    snapshot = taken(work, tmp_path / "before")
    assert held(snapshot.copy(tmp_path / "copy")) == held(work)
    odd = os.fsdecode(b"not \xff utf-8")
    (work / odd).write_text("changed")
    assert snapshot.changed(work) == [odd]


def test_pipes_and_sockets_are_not_copied(work: Path, tmp_path: Path) -> None:
    os.mkfifo(work / "pipe")
    (work / "file").touch()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(work)  # the path of a socket has to be short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        snapshot = taken(work, tmp_path / "before")
    assert os.listdir(snapshot.folder) == ["file"]
    assert snapshot.changed(work) == []


def test_a_write_in_a_copy_changes_nothing_else(work: Path, tmp_path: Path) -> None:
    (work / "file").write_bytes(b"original" * 1000)
    os.link(work / "file", work / "twin")
    snapshot = taken(work, tmp_path / "before")
    first, second = snapshot.copy(tmp_path / "first"), snapshot.copy(tmp_path / "second")
    with (first / "file").open("r+b") as file:
        file.write(b"changed!")
    for other in (work / "file", work / "twin", snapshot.folder / "file", second / "file", first / "twin"):
        assert other.read_bytes() == b"original" * 1000
    assert len({(folder / "file").stat().st_ino for folder in (work, snapshot.folder, first, second)}) == 4


def test_repositories_and_environments_are_linked_and_pythons_cache_is_left_out(work: Path, tmp_path: Path) -> None:
    for name in (".git/objects", ".hg", "web/node_modules/x", ".venv/lib", "my env", "pkg/__pycache__", "not-env"):
        (work / name).mkdir(parents=True)
    for name in (".venv", "my env"):
        (work / name / "pyvenv.cfg").touch()
    (work / "pkg" / "__pycache__" / "m.pyc").touch()
    copied = taken(work, tmp_path / "before").copy(tmp_path / "copy")
    for name in (".git", ".hg", "web/node_modules", ".venv", "my env"):
        assert os.readlink(copied / name) == str(work / name)
    assert not (copied / "not-env").is_symlink()
    assert (copied / "pkg").is_dir()
    assert not (copied / "pkg" / "__pycache__").exists()


@pytest.mark.usefixtures("copying")
def test_the_largest_files_are_linked_when_the_budget_is_exceeded(work: Path, tmp_path: Path) -> None:
    (work / "sub").mkdir()
    for name, size in (("sub/large", 500), ("small", 10), ("medium", 100), ("other", 101), ("none", 0)):
        (work / name).write_bytes(b"x" * size)
    snapshot = taken(work, tmp_path / "before", budget=210)
    assert snapshot.linked == ["other", "sub/large"]
    copied = snapshot.copy(tmp_path / "copy")
    assert os.readlink(copied / "sub" / "large") == str(work / "sub" / "large")
    assert not (copied / "medium").is_symlink()
    assert taken(work, tmp_path / "all", budget=711).linked == []


@pytest.mark.usefixtures("copying")
def test_missing_space_is_reported_before_any_is_used(work: Path, tmp_path: Path) -> None:
    with (work / "huge").open("wb") as file:
        file.truncate(1 << 43)
    snapshot = Snapshot.take(work, tmp_path / "before", budget=1 << 60)
    assert snapshot.unavailable == f"there is no space left for it in {tmp_path}"
    assert not (tmp_path / "before").exists()


def test_a_folder_with_too_many_entries_is_not_copied(work: Path, tmp_path: Path) -> None:
    for k in range(11):
        (work / str(k)).touch()
    snapshot = Snapshot.take(work, tmp_path / "before", most=10)
    assert snapshot.unavailable == "it has more than 10 files and folders"
    assert not (tmp_path / "before").exists()
    with pytest.raises(LaunchError, match="more than 10 files") as raised:
        snapshot.copy(tmp_path / "copy")
    assert raised.value.slug == "no-scratch"
    assert taken(work, tmp_path / "before", most=11).linked == []


def test_an_unreadable_folder_is_not_copied(unprivileged: Path) -> None:
    work = unprivileged / "work"
    (work / "closed").mkdir(parents=True)
    (work / "a").touch()
    (work / "closed").chmod(0)
    snapshot = Snapshot.take(work, unprivileged / "before")
    assert snapshot.unavailable == "closed: Permission denied"
    assert not (unprivileged / "before").exists()
    (work / "closed").chmod(0o700)


def test_an_unreadable_file_is_unreadable_in_the_copy_too(unprivileged: Path) -> None:
    work = unprivileged / "work"
    work.mkdir()
    (work / "secret").write_text("secret")
    (work / "secret").chmod(0)
    snapshot = taken(work, unprivileged / "before")
    assert snapshot.linked == ["secret"]
    with pytest.raises(PermissionError):
        (snapshot.copy(unprivileged / "copy") / "secret").read_text()


def test_read_only_folders_are_copied_and_removed(unprivileged: Path) -> None:
    work = unprivileged / "work"
    (work / "fixed" / "deep").mkdir(parents=True)
    (work / "fixed" / "deep" / "file").touch()
    for name in ("fixed/deep", "fixed"):
        (work / name).chmod(0o500)
    copied = taken(work, unprivileged / "before").copy(unprivileged / "copy")
    assert held(copied) == held(work)
    with pytest.raises(PermissionError):
        (copied / "fixed" / "new").touch()
    remove(copied)
    remove(unprivileged / "before")
    assert os.listdir(unprivileged) == ["work"]
    for name in ("fixed", "fixed/deep"):
        (work / name).chmod(0o700)


def test_a_tree_deeper_than_the_longest_path_is_not_copied(work: Path, tmp_path: Path) -> None:
    here = os.open(work, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    snapshot = Snapshot.take(work, tmp_path / "before")
    assert snapshot.unavailable is not None
    assert snapshot.unavailable.startswith("ddd")
    assert not (tmp_path / "before").exists()


def test_folders_too_deep_to_be_removed_are_not_copied(work: Path, tmp_path: Path) -> None:
    deep = work.joinpath(*"d" * 201)
    deep.mkdir(parents=True)
    snapshot = Snapshot.take(work, tmp_path / "before")
    assert snapshot.unavailable == "it has folders nested more than 200 deep"
    deep.rmdir()
    (deep.parent / "file").touch()
    copied = taken(work, tmp_path / "before").copy(tmp_path / "copy")
    assert held(copied) == held(work)
    remove(copied)
    assert not copied.exists()


@pytest.mark.torch
def test_folders_that_a_script_nested_deeply_are_removed(work: Path, tmp_path: Path) -> None:
    write(work, train="import os, torch\nx = torch.ones(2)\nfor _ in range(1100):\n    os.mkdir('d')\n    os.chdir('d')")
    run = made(pinned(Plan(("train.py",), cwd=str(work))), tmp_path / "runs" / "run")
    assert run.meta["exit"] == 0, (run.path / "stderr").read_text()
    assert os.listdir(work) == ["train.py"]
    assert os.listdir(tmp_path / "runs") == ["run"]


def test_a_missing_folder_is_reported_as_missing(tmp_path: Path) -> None:
    assert Snapshot.take(tmp_path / "gone", tmp_path / "before").unavailable == f"{tmp_path / 'gone'}: No such file or directory"


def test_a_snapshot_never_replaces_an_existing_folder(work: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    snapshot = Snapshot.take(work, tmp_path / "mine")
    assert snapshot.unavailable is not None
    with pytest.raises(LaunchError):
        taken(work, tmp_path / "before").copy(tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["file"]


def test_a_snapshot_inside_the_folder_excludes_itself_and_the_runs(work: Path, tmp_path: Path) -> None:
    (work / "runs" / "control-1").mkdir(parents=True)
    (work / "runs" / "control-1" / "run.json").touch()
    (work / "latest").symlink_to("runs/control-1")
    (work / "file").touch()
    snapshot = taken(work, work / "kept" / "before", without=(work / "runs",))
    assert sorted(os.listdir(snapshot.folder)) == ["file", "latest"]
    assert os.readlink(snapshot.folder / "latest") == str(work / "runs" / "control-1")
    (work / "runs" / "control-2").mkdir()
    assert snapshot.changed(work) == []
    again = taken(work, work / "before", without=(work / "runs", work / "kept"))
    assert sorted(os.listdir(again.copy(tmp_path / "copy"))) == ["file", "latest"]


# Changes since the snapshot


def test_new_removed_and_modified_files_count_as_changed_and_old_ones_as_outputs(work: Path, tmp_path: Path) -> None:
    for name in ("same", "touched", "other", "longer", "gone", "becomes-folder", "kept/file"):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(name)
    (work / "emptied").mkdir()
    (work / "emptied" / "last").touch()
    (work / "link").symlink_to("same")
    (work / ".git").mkdir()
    snapshot = taken(work, tmp_path / "before")
    assert snapshot.changed(work) == []
    os.utime(work / "touched", ns=(5, 5))
    (work / "other").write_text("rehto")
    (work / "longer").write_text("longer and longer")
    for name in ("gone", "becomes-folder", "link", "emptied/last"):
        (work / name).unlink()
    (work / "becomes-folder").mkdir()
    (work / "link").symlink_to("other")
    (work / "new" / "deep").mkdir(parents=True)
    (work / "new" / "deep" / "file").touch()
    (work / "hollow").mkdir()
    (work / "kept" / "__pycache__").mkdir()
    (work / "kept" / "m.pyc").touch()
    (work / ".git" / "index").touch()
    outputs = ["becomes-folder", "emptied/last", "gone", "link", "longer", "other"]
    assert snapshot.changed(work) == sorted([*outputs, "new/deep/file", "hollow"])
    assert snapshot.outputs(work) == outputs
    assert "emptied" not in snapshot.changed(work)


def test_a_fresh_copy_has_not_changed(work: Path, tmp_path: Path) -> None:
    (work / "sub").mkdir()
    (work / "sub" / "file").write_text("x")
    (work / "out").symlink_to("../elsewhere")
    (work / "absolute").symlink_to(work / "sub")
    (work / ".git").mkdir()
    snapshot = taken(work, tmp_path / "before")
    copied = snapshot.copy(tmp_path / "copy")
    assert snapshot.changed(copied) == []
    (copied / "sub" / "file").write_text("y")
    assert snapshot.changed(copied) == ["sub/file"]
    assert snapshot.changed(work) == []


@pytest.mark.usefixtures("copying")
def test_a_linked_file_has_changed_if_it_was_written(work: Path, tmp_path: Path) -> None:
    (work / "large").write_bytes(b"x" * 100)
    snapshot = taken(work, tmp_path / "before", budget=10)
    assert snapshot.changed(work) == []
    assert snapshot.changed(snapshot.copy(tmp_path / "copy")) == []
    (work / "large").write_bytes(b"y" * 101)
    assert snapshot.outputs(work) == ["large"]


# Copies that differ from the snapshot


def test_a_copy_can_leave_out_files_and_replace_the_text_of_others(work: Path, tmp_path: Path) -> None:
    for name in ("out/a", "out/b", "keep", "fixed", "many/x"):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(name)
    (work / "fixed").chmod(0o444)
    (work / "to-gone").symlink_to("out/a")
    before = held(work)
    snapshot = taken(work, tmp_path / "before")
    copied = snapshot.copy(
        tmp_path / "copy",
        without=["out/a", "many", "never", "../work/keep"],
        replaced={"fixed": "text\r\n\udcff", "new/file": "", "keep": "k"},
    )
    assert sorted(held(copied)) == ["fixed", "keep", "new", "new/file", "out", "out/b", "to-gone"]
    assert (copied / "fixed").read_bytes() == b"text\r\n\xff"
    assert (copied / "fixed").stat().st_mode & 0o777 == 0o444
    assert (copied / "keep").read_text() == "k"
    assert os.readlink(copied / "to-gone") == "out/a"  # which dangles now, and does not lead to the snapshot
    assert held(work) == before
    assert held(snapshot.copy(tmp_path / "plain")) == before


@pytest.mark.parametrize("name", ["../evil", "{work}/evil", ".", "", "elsewhere/evil", "sub/../../evil"])
def test_no_text_is_written_outside_a_copy(name: str, work: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (work / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (work / "sub").mkdir()
    snapshot = taken(work, tmp_path / "before")
    there = held(tmp_path, times=False)
    with pytest.raises(LaunchError) as raised:
        snapshot.copy(tmp_path / "copy", replaced={name.format(work=work): "evil"})
    assert raised.value.slug == "no-scratch"
    assert held(tmp_path, times=False) == there


def test_a_link_is_replaced_and_not_followed_by_a_write(work: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("original")
    (tmp_path / "train.py").chmod(0o755)
    (work / "train.py").symlink_to(tmp_path / "train.py")
    copied = taken(work, tmp_path / "before").copy(tmp_path / "copy", replaced={"train.py": "patched"})
    assert (copied / "train.py").read_text() == "patched"
    assert (copied / "train.py").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "train.py").read_text() == "original"


def test_removing_a_copy_leaves_link_targets_alone(work: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").touch()
    (tmp_path / "data").chmod(0o750)
    (work / "data").symlink_to("../data")
    (work / ".git").mkdir()
    (work / ".git" / "HEAD").touch()
    there = held(tmp_path, times=False)
    top = tmp_path / "1.scratch"
    taken(work, path_for_copy(top, work))
    assert os.readlink(top / tmp_path.name / work.name / ".git") == str(work / ".git")
    remove(top)
    assert held(tmp_path, times=False) == there
    (tmp_path / "copy").symlink_to("data")
    remove(tmp_path / "copy")
    assert held(tmp_path, times=False) == there


# Plans


def test_moving_a_plan_maps_all_its_absolute_paths(work: Path, tmp_path: Path) -> None:
    (work / "sub").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "worker").mkdir()
    to = tmp_path / "far" / "away" / "copy"
    inside, other = str(work / "sub"), str(tmp_path / "worker")
    plan = Plan(
        (
            str(work / "train.py"),
            "--out",
            f"{inside}/",
            f"--dir={inside}",
            f"key={work}",
            other,
            f"--x={other}",
            "../data",
            "sub",
            "--n=3",
            "",
        ),
        cwd=str(work),
        environment=(("PYTHONPATH", os.pathsep.join([inside, "lib", "", other, "../data"])), ("PWD", str(work))),
    )
    placed = moved(plan, work, to)
    assert placed.cwd == str(to)
    assert placed.script == (
        f"{to}/train.py", "--out", f"{to}/sub/", f"--dir={to}/sub", f"key={to}", other, f"--x={other}", f"{work}/../data", "sub", "--n=3",
        "",
    )  # fmt: skip
    assert placed.variable("PYTHONPATH") == os.pathsep.join([f"{to}/sub", "lib", "", other, f"{work}/../data"])
    assert placed.variable("PWD") == str(to)
    assert placed.as_json() | {"environment": 0, "copies": 0} == plan.as_json() | {"environment": 0, "copies": 0}


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (("train.py", "-v"), ("train.py", "-v")),
        (("./sub/../train.py",), ("./sub/../train.py",)),
        (("../train.py",), ("{work}/../train.py",)),
        (("-m", "pkg.train", "--x", "1"), ("-m", "pkg.train", "--x", "1")),
        (("/elsewhere/train.py",), ("/elsewhere/train.py",)),
    ],
)
def test_a_script_is_found_from_the_copy(script: tuple[str, ...], found: tuple[str, ...], work: Path, tmp_path: Path) -> None:
    placed = moved(Plan(script, cwd=str(work)), work, tmp_path / "copy")
    assert placed.script == tuple(word.format(work=work) for word in found)


def test_a_plan_in_a_subfolder_of_the_copied_folder_is_moved_to_that_subfolder(work: Path, tmp_path: Path) -> None:
    placed = moved(Plan(("../train.py",), cwd=str(work / "sub")), work, tmp_path / "copy")
    assert (placed.cwd, placed.script) == (str(tmp_path / "copy" / "sub"), ("../train.py",))


def test_a_folder_reached_through_a_link_is_moved_too(work: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(work)
    plan = Plan(
        (str(tmp_path / "link" / "a.py"), str(work / "b")), cwd=str(tmp_path / "link"), environment=(("PWD", str(tmp_path / "link")),)
    )
    placed = moved(plan, tmp_path / "link", tmp_path / "copy")
    assert placed.cwd == str(tmp_path / "copy") == placed.variable("PWD")
    assert placed.script == (str(tmp_path / "copy" / "a.py"), str(tmp_path / "copy" / "b"))


# Runs


TRAINS = """
    import os, sys
    from pathlib import Path
    import torch
    import helper
    torch.manual_seed(0)
    data = torch.tensor([float(x) for x in Path("data.txt").read_text().split()])
    beside = torch.tensor([float(x) for x in open("../beside/more.txt").read().split()])
    print(sorted(os.listdir("listed")), file=sys.stderr)
    model = torch.nn.Linear(3, 1)
    for _ in range(3):
        helper.loss_of(model, data + beside).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
        model.zero_grad()
    torch.save(model.state_dict(), Path(__file__).parent / "model.pt")
    open("log.txt", "a").write("done")
    """
HELPS = """
    def loss_of(model, data):
        return model(data).square().sum()
    """


@pytest.fixture
def trained(work: Path, tmp_path: Path) -> Path:
    """A folder with a script that reads, lists and writes."""
    write(work, train=TRAINS, helper=HELPS)
    (work / "data.txt").write_text("1 2 3")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "more.txt").write_text("4 5 6")
    for name in "zcab":
        (work / "listed" / name).mkdir(parents=True)
    return work


def made(plan: Plan, run: Path) -> Trace:
    launch(plan, run, run.name, "experiment", pipeline.Silent(), quiet=True)
    return opened(run)


def pinned(plan: Plan) -> Plan:
    return pipeline.with_factors(plan, ["leftover-files"], [])


@pytest.mark.torch
@pytest.mark.parametrize("script", [("train.py",), ("{work}/train.py",), ("-m", "train"), ("../work/train.py",)], ids=" ".join)
def test_a_run_in_a_copy_equals_a_run_in_place(script: tuple[str, ...], trained: Path, tmp_path: Path) -> None:
    plan = Plan(tuple(word.format(work=trained) for word in script), cwd=str(trained))
    before = held(trained)
    away = made(pinned(plan), tmp_path / "runs" / "away")
    assert away.meta["exit"] == 0, (away.path / "stderr").read_text()
    if script[0] != "../work/train.py":  # which is in the folder, and led out of it and back
        assert held(trained) == before
    assert os.listdir(tmp_path / "runs") == ["away"]
    here = made(plan, tmp_path / "runs" / "here")
    assert (trained / "model.pt").exists()
    comparison = compare(here, away)
    assert comparison.divergence is None
    assert comparison.compared > 20
    assert (away.meta["cwd"], away.meta["script"], away.meta["script_digest"]) == tuple(
        here.meta[key] for key in ("cwd", "script", "script_digest")
    )
    runs = []
    for run in (here, away):
        assert run.main is not None
        rows = run.main.query("SELECT op, file, line, function, code, forward_file, forward_code FROM records ORDER BY row")
        events = [{key: event.get(key) for key in ("op", "path", "digest", "file", "line", "code")} for event in run.main.events_of("file")]
        runs.append((rows, events))
    assert runs[0] == runs[1]
    assert {row["file"] for row in runs[1][0]} >= {"helper.py"}
    assert {"data.txt", "listed", "log.txt"} <= {event["path"] for event in runs[1][1]}
    assert str(tmp_path / "beside" / "more.txt") in {event["path"] for event in runs[1][1]}


@pytest.mark.torch
def test_consecutive_runs_have_the_same_path(work: Path, tmp_path: Path) -> None:
    write(work, train="import os, torch\nprint(os.getcwd(), os.environ.get('PWD'), __file__)\ntorch.ones(1).add(1)")
    plan = replace(pinned(Plan(("train.py",), cwd=str(work))), environment=(("PWD", str(work)),))
    said = [(made(plan, tmp_path / f"run-{'x' * k}").path / "stdout").read_text() for k in range(2)]
    assert said[0] == said[1]
    cwd, pwd, file = said[0].split()
    assert cwd == pwd != str(work)
    assert Path(cwd).name == work.name
    assert Path(file).parent == Path(cwd)


@pytest.mark.torch
def test_every_pinned_run_starts_from_the_snapshot_and_a_kept_copy_is_reused(work: Path, tmp_path: Path) -> None:
    write(
        work, train="import torch\nn = len(open('n', 'a+').read())\nopen('n', 'a').write('x')\nx = torch.ones(2)\nprint(open('n').read())"
    )
    (work / "n").write_text("xx")
    plan = Plan(("train.py",), cwd=str(work))
    before = Snapshot.take(work, tmp_path / "before")
    assert (made(plan, tmp_path / "control").path / "stdout").read_text() == "xxx\n"
    held_still = pinned(plan.with_before(str(before.folder), tuple(before.outputs(work))))
    for k in range(2):
        assert (made(held_still, tmp_path / f"pinned-{k}").path / "stdout").read_text() == "xxx\n"
    varied = pipeline.with_factors(plan.with_before(str(before.folder), tuple(before.outputs(work))), [], ["leftover-files"])
    assert (made(varied, tmp_path / "varied").path / "stdout").read_text() == "x\n"
    pair = moved(plan, work, before.copy(path_for_copy(tmp_path / "pair.scratch", work)))
    for k, wanted in enumerate(("xxx\n", "xxxx\n")):
        run = made(pair, tmp_path / f"pair-{k}")
        assert (run.path / "stdout").read_text() == wanted
        assert run.meta["cwd"] == str(work)
        assert run.main is not None
        assert {event["path"] for event in run.main.events_of("file")} == {"n"}
    assert (work / "n").read_text() == "xxx"


@pytest.mark.torch
def test_a_patched_run_uses_the_changed_text_and_shows_it(work: Path, tmp_path: Path) -> None:
    write(work, train="import torch\nx = torch.ones(2)\nprint(x.sum())")
    plan = Plan(("train.py",), cwd=str(work))
    before = held(work)
    lines = []
    for k, text in enumerate(
        ["import torch\nx = torch.zeros(2)\nprint(x.sum())", None, "import torch\nx = torch.full((2,), 3.)\nprint(x.sum())"]
    ):
        run = made(plan.with_patches(("train.py", text)) if text else pinned(plan), tmp_path / f"run-{k}")
        assert run.main is not None
        lines.append({(row["file"], row["code"]) for row in run.main.query("SELECT file, code FROM records WHERE line = 2")})
    assert lines == [{("train.py", f"x = torch.{call}")} for call in ("zeros(2)", "ones(2)", "full((2,), 3.)")]
    assert held(work) == before


@pytest.mark.torch
def test_a_script_in_a_parent_folder_runs_from_the_copy(tmp_path: Path) -> None:
    work = tmp_path / "a" / "b"
    work.mkdir(parents=True)
    write(
        tmp_path / "a",
        train="import torch, near\nopen('out', 'w').write(str(near.x))\nopen('../../top').read()",
        near="import torch\nx = torch.ones(3)",
    )
    (tmp_path / "top").write_text("t")
    plan = Plan(("../train.py",), cwd=str(work))
    away = made(pinned(plan), tmp_path / "runs" / "away")
    assert away.meta["exit"] == 0, (away.path / "stderr").read_text()
    assert os.listdir(work) == []
    here = made(plan, tmp_path / "runs" / "here")
    assert compare(here, away).divergence is None
    assert away.main is not None
    assert here.main is not None
    query = "SELECT file, line, code FROM records ORDER BY row"
    assert away.main.query(query) == here.main.query(query)
    assert away.main.query(query)[0]["code"] == "x = torch.ones(3)"


@pytest.mark.torch
def test_a_package_runs_from_the_copy_as_in_place(work: Path, tmp_path: Path) -> None:
    write(work / "pkg", __init__="", train="import torch, pkg.near\nopen('out', 'w').write('x')", near="import torch\nx = torch.ones(3)")
    write(work, extra="")
    done = audited(work, "record", "-o", "../run", "--pin", "leftover-files", "-m", "pkg.train")
    assert done.status == 0, done.said
    assert sorted(os.listdir(work)) == ["extra.py", "pkg"]
    run = opened(tmp_path / "run")
    assert run.main is not None
    assert {row["file"] for row in run.main.query("SELECT file FROM records")} == {"pkg/near.py"}


@pytest.mark.torch
def test_a_script_that_removes_its_folder_removes_the_copy(work: Path, tmp_path: Path) -> None:
    write(work, train="import os, shutil, torch\nx = torch.ones(2)\nshutil.rmtree(os.getcwd())\nx.add(1)")
    (work / "precious").write_text("p")
    before = held(work)
    run = made(pinned(Plan(("train.py",), cwd=str(work))), tmp_path / "runs" / "run")
    assert run.meta["exit"] == 0, (run.path / "stderr").read_text()
    assert held(work) == before
    assert os.listdir(tmp_path / "runs") == ["run"]
    assert run.main is not None
    assert [row["code"] for row in run.main.query("SELECT code FROM records WHERE op LIKE 'aten.add%'")] == ["x.add(1)"]


@pytest.mark.torch
def test_runs_kept_in_the_working_directory_are_not_part_of_a_copy(work: Path) -> None:
    write(work, train="import os, torch\nx = torch.ones(2)\nprint(sorted(os.listdir()))\nopen('made', 'w')")
    for name in ("one", "two"):
        done = audited(work, "record", "-o", name, "--pin", "leftover-files", "train.py")
        assert done.status == 0, done.said
    assert sorted(os.listdir(work)) == ["one", "train.py", "two"]
    assert done.out == b"['one', 'train.py']\n"


@pytest.mark.torch
def test_an_error_names_the_users_own_file(work: Path, tmp_path: Path) -> None:
    write(work, train="import os, torch\nx = torch.ones(2)\nopen(os.path.abspath('missing'))")
    run = made(pinned(Plan(("train.py",), cwd=str(work))), tmp_path / "run")
    assert run.meta["error"] == f"FileNotFoundError: [Errno 2] No such file or directory: '{work / 'missing'}'"


def test_a_folder_that_cannot_be_copied_ends_the_command_with_the_reason(work: Path, tmp_path: Path) -> None:
    write(work, train="print('ran')")
    for k in range(tree_module.ENTRIES):
        (work / f"{k}").touch()
    done = audited(work, "record", "-o", "../run", "--pin", "leftover-files", "train.py")
    assert done.status == 2
    assert "the working directory cannot be copied for the run: it has more than 20,000 files and folders [no-scratch]" in done.said
    assert done.out == b""
    assert sorted(os.listdir(tmp_path)) == ["work"]


@pytest.mark.parametrize("patch", ["../train.py", "/train.py"])
def test_a_patch_outside_the_working_directory_is_refused(patch: str, work: Path, tmp_path: Path) -> None:
    write(work, train="print('ran')")
    with pytest.raises(LaunchError, match="lies outside") as raised:
        made(Plan(("train.py",), cwd=str(work)).with_patches((patch, "evil")), tmp_path / "runs" / "run")
    assert raised.value.slug == "no-scratch"
    assert os.listdir(tmp_path / "runs") == []


def test_a_file_name_that_is_not_text_is_kept_in_the_metadata_of_a_run(work: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"odd \xff")
    write(work, train="import torch\ntorch.ones(1)")
    plan = pinned(Plan(("train.py",), cwd=str(work)))
    plan = replace(plan, copy=replace(plan.copy, outputs=(odd,)))
    assert made(plan, tmp_path / "run").meta["plan"]["outputs"] == [odd]


def test_an_interrupted_run_leaves_no_copy(work: Path, tmp_path: Path) -> None:
    write(work, train="import time\nopen('started', 'w').close()\ntime.sleep(600)")
    child = subprocess.Popen(
        [sys.executable, "-m", "auditor", "record", "-o", str(tmp_path / "runs" / "run"), "--pin", "leftover-files", "train.py"],
        cwd=work, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while not list(tmp_path.glob("runs/*.scratch/*/work/started")):
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE) != 0
    finally:
        child.kill()
        child.wait()
    assert os.listdir(tmp_path / "runs") == ["run"]
    assert os.listdir(work) == ["train.py"]


# Where copies are made


def test_copies_of_one_folder_have_the_same_path_in_every_audit(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tops = []
    for _ in range(2):
        runs = new_folder(Plan(("train.py",), cwd=str(work)))
        with slot(runs, work) as first, slot(runs, work) as second, slot(runs, tmp_path) as other:
            assert len({first, second, other}) == 3
            tops.append((first, second))
        assert not any(top.exists() for top in (first, second, other))
        with slot(runs, work) as again:
            assert again == first
    assert tops[0] == tops[1]
    with slot(tmp_path / "runs", work) as among:
        assert among == tmp_path / "runs" / "1.scratch", "the user has chosen the folder"


def test_leftovers_of_a_killed_auditor_are_removed_from_a_copy_but_not_of_a_live_one(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = Plan(("train.py",), cwd=str(work))
    runs = new_folder(plan)
    with slot(runs, work) as held:
        (held / "its").touch()
        killed, elsewhere = held.with_name("2.scratch"), held.parent.with_name("0" * 16) / "1.scratch"
        for left in (killed, elsewhere):
            (left / "deep").mkdir(parents=True)
            (left / "deep").chmod(0o500)
            (left / "link").symlink_to(work)
        with slot(runs, work) as top:
            assert top == killed
            assert not os.listdir(top)
        (killed / "deep").mkdir(parents=True)
        new_folder(plan)
        assert not killed.exists()
        assert not elsewhere.exists()
        assert os.listdir(held) == ["its"]
    assert work.is_dir()


@pytest.mark.torch
def test_caches_keyed_by_the_folders_path_are_rebuilt_once_and_not_in_each_audit(work: Path, tmp_path: Path) -> None:
    write(
        work,
        train="""
        import hashlib, os, pathlib, torch
        cache = pathlib.Path(os.environ["ELSEWHERE"], hashlib.md5(os.getcwd().encode()).hexdigest())
        if not cache.exists():
            cache.write_bytes(b"prepared")
        seen = pathlib.Path("seen")
        before = float(seen.read_text()) if seen.exists() else 0.0
        seen.write_text(str(before + 1))
        print(torch.ones(2) * before)
        """,
    )
    (tmp_path / "elsewhere").mkdir()
    entries = []
    for _ in range(2):
        variables = environment(ELSEWHERE=str(tmp_path / "elsewhere"), XDG_CACHE_HOME=str(tmp_path / "cache"))
        done = audited(work, "train.py", env=variables)
        assert "leftover-files" in done.said
        entries.append(sorted(os.listdir(tmp_path / "elsewhere")))
    assert entries[0] == entries[1]
    assert 2 <= len(entries[0]) <= 3, "the folder itself, and copies of it, two at a time"


def test_a_bare_run_in_a_copy_finds_the_folders_beside_the_original(work: Path, tmp_path: Path) -> None:
    write(work, show="print(open('../beside/x').read(), open('../../' + __import__('sys').argv[1] + '/beside/x').read())")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "x").write_text("found")
    to = taken(work, tmp_path / "before").copy(path_for_copy(tmp_path / "1.scratch", work))
    assert bare(to, "show.py", tmp_path.name).out == b"found found\n"
