"""Child processes of a script: recorded where possible, listed in the coverage otherwise, and behaving as without the auditor."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from auditor.trace.reader import opened
from tests.processes import audited, bare, kept, line_of, made_once, write

#: Each child prints the variables that it sees; those that are not recorded end with `# unseen`.
_SCRIPT = """
    import os, subprocess, sys
    import torch
    torch.ones(1) + 1
    me = sys.executable
    seen = "import os; print(sorted(set(os.environ) & {'PYTHONPATH', 'REPRO_AUDIT', 'A'}), flush=True)"
    slow = "import time; time.sleep(2.5)"
    subprocess.run([me, "-c", seen])
    subprocess.run([me, "-c", seen], env={})
    subprocess.run([me, "-c", seen], env={**os.environ, "PYTHONPATH": "lib", "A": "1"}, close_fds=False)
    subprocess.run([me, "-I", "-c", "pass"])  # unseen: isolated
    subprocess.run([me, "-S", "-c", "pass"], env={})  # unseen: without site
    subprocess.run(["uname"], stdout=subprocess.DEVNULL)
    subprocess.run(["/usr/bin/env"], env={"A": "1"})
    os.waitpid(os.posix_spawn(me, [me, "-c", seen], {"A": "2"}), 0)
    os.waitpid(os.posix_spawn(me, [me, "-E", "-c", "pass"], os.environ), 0)  # unseen: spawned
    os.spawnve(os.P_WAIT, me, [me, "-c", seen], {"A": "3"})
    subprocess.run(["sh", "-c", f"true; env -i {me} -c '{slow}'; true"])  # unseen: a shell
    os.system(f"{me} -I -c '{slow}'; true")  # unseen: system
    subprocess.run(["sh", "-c", f"{me} -c '{slow}'; true"])
    os.environ["PYTHONPATH"] = "elsewhere"
    os.system(f'{me} -c "{seen}"')
    del os.environ["PYTHONPATH"]
    subprocess.run([me, "-c", seen])
    try:
        subprocess.run(["./no-such-python"])
    except FileNotFoundError as error:
        print(error.filename)
    sys.stdout.flush()
    if not os.fork():
        os.execv(me, [me, "-I", "-c", "print('at last', flush=True)"])  # unseen: replaced
    os.wait()
    """


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of an audit of the script, its exit, and the output of the script without the auditor."""

    def make(folder: Path) -> Any:
        write(folder, train=_SCRIPT)
        without = bare(folder, "train.py")
        done = audited(folder, "--effort", "compare", "-o", "runs", "--json", "audit.json", "train.py")
        return [done.status, without.status, without.out.decode()]

    return made_once(tmp_path_factory, "children", make)


@pytest.mark.torch
def test_child_processes_print_the_same_as_without_the_recorder(seen: Any) -> None:
    folder, (_, status, out) = seen
    under = kept(folder / "runs" / "control-1")
    assert (under.status, under.out.decode()) == (status, out)
    assert status == 0
    assert out.count("['A']") == 2  # none of the auditor's variables is among them
    assert "REPRO_AUDIT" not in out


@pytest.mark.torch
def test_only_unrecorded_children_are_in_the_coverage_with_the_line_that_starts_them(seen: Any) -> None:
    folder, (status, *_) = seen
    audit = json.loads((folder / "audit.json").read_text())
    said = [lost["what"]["text"] for lost in audit["coverage"]["lost"] if lost["what"]["slug"] == "unseen-child"]
    lines = sorted(int(re.search(r"train\.py:(\d+)", what)[1]) for what in said)  # type: ignore[index]  # each has one
    marks = ("isolated", "without site", "spawned", "a shell", "system", "replaced")
    assert lines == [line_of(_SCRIPT, f"# unseen: {mark}") for mark in marks]
    assert (status, audit["verdict"]) == (0, "no-divergence-seen")


@pytest.mark.torch
def test_a_child_with_its_own_environment_is_recorded(seen: Any) -> None:
    folder, _ = seen
    trace = opened(folder / "runs" / "control-1")
    codes = [process["argv"][-1] for process in trace.processes]
    assert sum("set(os.environ)" in code for code in codes) == 7  # and the one that replaces the child of a fork is isolated
