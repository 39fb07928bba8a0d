"""The command line and the Python API, as their help and the README describe them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from auditor import __version__
from auditor.cli import app
from auditor.help import EXAMPLES, GROUPS
from auditor.launch import Progress
from auditor.progress import PlainScreen, status
from auditor.report.words.reasons import text_of
from auditor.results import Audit, Finding
from tests.audits import AUDITS
from tests.processes import PATIENCE, Ended, audited, bare, environment, made_once, start, write

README = Path(__file__).parent.parent / "README.md"

#: Two files, two threads, all kinds of streams, a setting, a file; `--differ` puts the process id into the data.
TRAIN = """
    import atexit, os, random, sys, threading
    import numpy as np
    import torch
    from parts import build
    print("words", sys.argv[1:], flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    atexit.register(print, "exit handler", flush=True)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    torch.set_num_threads(1)
    scale = float(open("data.txt").read())
    start = torch.tensor([1.0, 2.0, float(os.getpid()) if "--differ" in sys.argv else 3.0])
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    thread = threading.Thread(target=lambda: torch.ones(7).tanh())
    thread.start()
    thread.join()
    for step in range(3):
        x = torch.randn(5, 3) * scale + start + np.random.rand() + random.random()
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("step", step, flush=True)
    """
PARTS = """
    from torch import nn

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 2)

        def forward(self, x):
            return self.inner(x).tanh()

    def build():
        return Body()
    """
#: Prints its arguments; it never imports torch, so it runs only once, which takes no time.
ECHO = "import os, sys\nprint('words', sys.argv[1:], os.environ.get('MARK'))"

needs_terminals = pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")


def folder_with_the_script(folder: Path) -> Path:
    write(folder, train=TRAIN, parts=PARTS)
    (folder / "data.txt").write_text("0.5")
    return folder


def sentence(done: Ended) -> tuple[str, str]:
    """The one sentence, with its slug, of a command that could not be carried out."""
    ours = re.findall(r"^repro-audit: (.+) \[([a-z0-9-]+)\]$", done.said, re.MULTILINE)
    assert len(ours) == 1, done.said
    assert done.said.endswith(f"[{ours[0][1]}]\n")
    assert "Traceback" not in done.said
    return str(ours[0][0]), str(ours[0][1])


@dataclass(frozen=True)
class Audited:
    """A finished audit: its folder, its visible output, its conclusion."""

    folder: Path
    done: Ended
    audit: Audit

    @property
    def markdown(self) -> str:
        return (self.folder / "audit.md").read_text()


OUTPUTS = ("--json", "audit.json", "--markdown", "audit.md", "-o", "runs")


def _audited(folder: Path, *words: str) -> Audited:
    """Audit the script in a new folder."""
    folder_with_the_script(folder)
    return Audited(folder, audited(folder, *words), Audit.model_validate_json((folder / "audit.json").read_text()))


def _shared(temporary: pytest.TempPathFactory, name: str, *words: str) -> Audited:
    """An audit that all tests share."""

    def make(folder: Path) -> tuple[int, str, str]:
        done = _audited(folder, *words).done
        return done.status, done.out.decode(), done.err.decode()

    folder, (status, out, err) = made_once(temporary, name, make)
    return Audited(folder, Ended(status, out.encode(), err.encode()), Audit.model_validate_json((folder / "audit.json").read_text()))


@pytest.fixture(scope="session")
def agreeing(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """An audit of a deterministic script."""
    words = ("--json", "x.json", "--help", "--", "-o", "y", "--steps", "1")
    return _shared(tmp_path_factory, "agreeing", "--effort", "compare", *OUTPUTS, "train.py", *words)


@pytest.fixture(scope="session")
def differing(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    """An audit of a script that differs from run to run."""
    return _shared(tmp_path_factory, "differing", "run", "--effort", "explain", *OUTPUTS, "train.py", "--differ")


@pytest.fixture(scope="session")
def kept(agreeing: Audited) -> Path:
    """A run of the script."""
    return agreeing.folder / "runs" / "control-1"


# All options


OPTIONS = {
    "run": {"-m", "--steps", "--timeout", "-o", "--out", "--runs", "--effort", "--pin", "--vary", "--fix",
            "--apply", "--self-check", "--json", "--markdown", "--fail-on", "--python", "--rules",
            "--select", "--ignore", "--baseline", "--write-baseline", "--devices", "--shadow", "--strict", "--no-strict", "-v",
            "--verbose"},
    "record": {"-m", "--steps", "--timeout", "-o", "--out", "--level", "--window", "--pin", "--vary", "--device", "--python"},
    "match": {"--a-args", "--b-args", "--map", "--copy-initial-weights", "--timeout", "-o", "--out", "--json", "--markdown", "--python",
              "-v", "--verbose"},
    "diff": {"--json", "--markdown", "--fail-on", "--strict", "--no-strict", "-v", "--verbose"},
    "show": {"--step", "--op", "--phase", "--file", "--lane", "--kind", "--limit"},
    "report": {"--format", "--json", "--markdown", "--fail-on", "-v", "--verbose"},
    "explain": {"--rules"},
    "query": set(),
    "factors": set(),
    "rules": set(),
}  # fmt: skip


def test_every_option_is_listed_here_and_explained() -> None:
    """A new option must be added here, with a test of its effect."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group
    found = {}
    for name, command in commands.items():
        options = [option for option in command.params if option.param_type_name == "option"]
        assert [option.name for option in options if not option.help] == []
        found[name] = {word for option in options for word in (*option.opts, *option.secondary_opts)}
    assert found == OPTIONS


@pytest.mark.parametrize("command", ["", *OPTIONS])
def test_help_is_shown_on_stdout_and_names_every_option(command: str, tmp_path: Path) -> None:
    done = audited(tmp_path, *([command] if command else []), "--help")
    assert (done.status, done.err) == (0, b"")
    said = done.out.decode()
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", said.partition("\nUsage:" if "\nUsage:" in said else "\n")[2]))
    assert OPTIONS.get(command, {"--version", *OPTIONS["run"]}) <= named
    assert all(name in said for name in (OPTIONS if not command else [command]))
    assert "..." not in said.replace("]...", "").replace("train.py ...", ""), "nothing is truncated"
    assert audited(tmp_path, *([command] if command else []), "-h").out == done.out


def test_the_help_of_the_program_is_that_of_its_main_command(tmp_path: Path) -> None:
    said = audited(tmp_path, "--help", env=environment(COLUMNS="100")).out.decode()
    titles = re.findall(r"^(\w[^:\n]*):$", said, re.MULTILINE)
    assert titles == ["Examples", *GROUPS, "Others", "Other commands", "Exit status"]
    others = said.partition("\nOthers:\n")[2].partition("\n\n")[0]
    assert re.findall(r"--[a-z-]+", others) == ["--version", "--help"], "every other option has its group"
    assert "twice with --effort compare" in " ".join(said.split())
    for command, _ in EXAMPLES:
        words = shlex.split(command)[1:]
        assert {word for word in words if word.startswith("--")} <= OPTIONS["run"] | {"--epochs"}, command


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    done = audited(tmp_path, "--version")
    assert (done.status, done.out) == (0, f"repro-audit {__version__}\n".encode())


def test_the_command_is_installed_under_its_name(tmp_path: Path) -> None:
    done = start([str(Path(sys.executable).with_name("repro-audit")), "--version"], tmp_path)
    assert (done.status, done.out) == (0, f"repro-audit {__version__}\n".encode())


def _commands_of(*pages: Path) -> list[list[str]]:
    """The command lines that pages show, each once and without its comment; the bare name of a command that takes arguments is none."""
    lines = [
        found for page in pages for found in re.findall(r"^\$ repro-audit (.+)$|`repro-audit ([^`]+)`", page.read_text(), re.MULTILINE)
    ]
    commands = [shlex.split((line or inline).replace(" ... ", " --x ").removesuffix(" ..."), comments=True) for line, inline in lines]
    whole = [words for words in commands if len(words) > 1 or words[0] not in OPTIONS or words == ["factors"]]
    return [words for k, words in enumerate(whole) if words != ["--version"] and words not in whole[:k]]


@pytest.mark.parametrize("words", _commands_of(README, *sorted(README.parent.glob("docs/*.md"))), ids=" ".join)
def test_every_command_in_the_readme_and_docs_is_valid(words: list[str], tmp_path: Path) -> None:
    """In an empty directory only what it names is missing."""
    done = audited(tmp_path, *words)
    if words in (["rules", "list"], ["factors"], ["explain", "stale-gradient"]):
        assert done.status == 0
        return
    if words[0] == "-m":
        assert "No module named" in done.said or "error" in done.said
    else:
        assert sentence(done)[1] in ("no-such-script", "trace-missing", "no-such-rule", "device-unavailable", "audit-unreadable")
    assert done.status == 2


def test_the_readme_shows_every_command() -> None:
    shown = {words[0] if words[0] in OPTIONS else "run" for words in _commands_of(README)}
    assert shown == set(OPTIONS)


# The script's words and the auditor's


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["train.py", "--lr", "0.1"], ["--lr", "0.1"]),
        (["run", "train.py", "--lr", "0.1"], ["--lr", "0.1"]),
        (["train.py", "--json", "x", "--help", "-m", "-o", "y"], ["--json", "x", "--help", "-m", "-o", "y"]),
        (["--steps", "9", "train.py", "--steps", "1"], ["--steps", "1"]),
        (["train.py", "--", "a", "--"], ["--", "a", "--"]),
        (["--", "train.py", "--", "a"], ["--", "a"]),
        (["run", "--", "train.py", "-h"], ["-h"]),
        (["train.py", "", " ", "*", "ä", "record"], ["", " ", "*", "ä", "record"]),
        (["./train.py", "x"], ["x"]),
        (["-m", "train", "--lr", "0.1"], ["--lr", "0.1"]),
        (["-m", "pkg.train", "--json", "x", "--", "-m"], ["--json", "x", "--", "-m"]),
        (["run", "-m", "pkg.train", "-h"], ["-h"]),
        (["pkg", "--version"], ["--version"]),
        (["run", "show"], []),
        (["./show", "show"], ["show"]),
        (["record", "-o", "kept", "train.py", "-o", "y", "--level", "x"], ["-o", "y", "--level", "x"]),
        (["record", "-o", "kept", "-m", "pkg.train", "-o", "y"], ["-o", "y"]),
        (["record", "-o", "kept", "--", "train.py", "--", "y"], ["--", "y"]),
    ],
)  # fmt: skip
def test_words_after_the_script_belong_to_the_script(words: list[str], given: list[str], tmp_path: Path) -> None:
    write(tmp_path, train=ECHO)
    write(tmp_path / "pkg", train=ECHO, __main__=ECHO, __init__="")
    shutil.copy(tmp_path / "train.py", tmp_path / "show")
    before = set(tmp_path.iterdir())

    done = audited(tmp_path, *words)

    assert done.out.decode().splitlines()[0] == f"words {given} None"
    assert done.status == 2
    assert "[torch-never-imported]" in done.said + done.out.decode()
    assert {path.name for path in set(tmp_path.iterdir()) - before} <= {"kept", "__pycache__"}


def test_python_chooses_the_interpreter(tmp_path: Path) -> None:
    write(tmp_path, train=ECHO)
    wrapper = tmp_path / "other-python"
    wrapper.write_text(f'#!/bin/sh\nMARK=wrapped exec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    for words in ([], ["record", "-o", "kept"]):
        assert b"words ['a'] wrapped\n" in audited(tmp_path, *words, "--python", str(wrapper), "train.py", "a").out
    assert json.loads((tmp_path / "kept" / "run.json").read_text())["plan"]["python"] == str(wrapper)


# Usage errors


@pytest.mark.parametrize(
    ("words", "slug", "said"),
    [
        ([], "no-script", "no script was given"),
        (["run"], "no-script", "no script was given"),
        (["run", "--"], "no-script", "no script was given"),
        (["--no-such-option", "train.py"], "wrong-usage", "--no-such-option"),
        (["--step", "3", "train.py"], "wrong-usage", "--steps"),
        (["--steps"], "wrong-usage", "'--steps' requires an argument"),
        (["--steps", "none", "train.py"], "wrong-usage", "'--steps'"),
        (["--steps", "0", "train.py"], "wrong-usage", "'--steps'"),
        (["--timeout", "0", "train.py"], "wrong-usage", "'--timeout'"),
        (["--timeout", "soon", "train.py"], "wrong-usage", "'--timeout'"),
        (["--runs", "1", "train.py"], "wrong-usage", "'--runs'"),
        (["--runs", "many", "train.py"], "wrong-usage", "'--runs'"),
        (["--pin", "treads", "train.py"], "no-such-factor", "no factor is named treads; did you mean threads?"),
        (["--vary", "the-weather", "train.py"], "no-such-factor", "no factor is named the-weather"),
        (["--pin", "hash-seed", "--vary", "hash-seed", "train.py"], "factor-twice", "hash-seed cannot be both pinned and varied"),
        (
            ["--effort", "explain", "--vary", "threads", "train.py"],
            "nothing-varied",
            "threads is to be varied, and --effort explain varies nothing",
        ),
        (["--effort", "none", "train.py"], "no-such-effort", "it is one of compare, explain, full"),
        (["--json", "-", "--markdown", "-", "train.py"], "same-output", "both be written to stdout"),
        (["--json", "report", "--markdown", "./report", "train.py"], "same-output", "both be written to report"),
        (["--fail-on", "", "train.py"], "bad-fail-on", "error, warning, note, never"),
        (["--window", "0:1", "train.py"], "wrong-usage", "--window"),
        (["record", "train.py"], "wrong-usage", "'--out'"),
        (["record", "-o", "kept", "--window", "-1:2", "train.py"], "bad-window", "--window -1:2"),
        (["record", "-o", "kept", "--level", "off", "train.py"], "no-such-level", "the levels are ops and steps"),
        (["record", "-o", "kept", "--json", "x", "train.py"], "wrong-usage", "--json"),
        (["diff"], "wrong-usage", "argument"),
        (["diff", "one"], "wrong-usage", "argument"),
        (["diff", "one", "two", "three"], "wrong-usage", "three"),
        (["diff", "one", "two", "--fail-on", "all"], "bad-fail-on", "--fail-on all"),
        (["show"], "wrong-usage", "argument"),
        (["show", "one", "--limit", "0"], "wrong-usage", "'--limit'"),
        (["show", "one", "--step", "first"], "wrong-usage", "'--step'"),
        (["report"], "wrong-usage", "argument"),
        (["report", "one", "--json", "no/folder/x"], "output-unwritable", "no/folder/x"),
    ],
)  # fmt: skip
def test_an_invalid_command_line_is_answered_in_one_sentence(words: list[str], slug: str, said: str, tmp_path: Path) -> None:
    write(tmp_path, train="from pathlib import Path; Path('it-ran').touch()")
    done = audited(tmp_path, *words)
    told, with_slug = sentence(done)
    assert (with_slug, done.status, done.out) == (slug, 2, b"")
    assert said in told
    assert {path.name for path in tmp_path.iterdir()} == {"train.py"}


# The outputs of an audit


@pytest.mark.torch
def test_run_is_the_default_command(agreeing: Audited, tmp_path: Path) -> None:
    again = _audited(tmp_path, "run", "--effort", "compare", *OUTPUTS, *agreeing.audit.script)
    ours, theirs = (json.loads(entry.audit.model_dump_json()) for entry in (agreeing, again))
    for data in (ours, theirs):
        for run in data["runs"]:
            del run["seconds"], run["path"]
        del data["provenance"]["date"]
    assert ours == theirs
    assert again.done.status == agreeing.done.status == 0


@pytest.mark.torch
def test_script_output_passes_unchanged_and_ours_stays_on_stderr_until_the_report(agreeing: Audited) -> None:
    script = agreeing.audit.script
    without = bare(agreeing.folder, *script)
    assert without.status == 0
    assert agreeing.done.out.startswith(without.out + b"NO DIVERGENCE SEEN")
    assert agreeing.done.out.count(b"words [") == 1  # once, although the script ran twice
    said = agreeing.done.said.splitlines(keepends=True)
    assert [line for line in said if line.startswith("repro-audit: ")] == [
        f"repro-audit: control-1: {' '.join(script)}\n", f"repro-audit: control-2: {' '.join(script)}\n", "repro-audit: comparing\n",
        "repro-audit: judging\n",
    ]  # fmt: skip
    assert "".join(line for line in said if not line.startswith("repro-audit: ")).encode() == without.err


@pytest.mark.torch
def test_an_audit_keeps_its_runs_in_the_given_folder(agreeing: Audited) -> None:
    assert [Path(run.path) for run in agreeing.audit.runs] == [agreeing.folder / "runs" / name for name in ("control-1", "control-2")]
    assert sorted(path.name for path in (agreeing.folder / "runs").iterdir()) == ["control-1", "control-2"]
    assert (agreeing.folder / "runs" / "control-2" / "stdout").read_bytes() == (
        agreeing.folder / "runs" / "control-1" / "stdout"
    ).read_bytes()
    assert not {"x.json", "y"} & {path.name for path in agreeing.folder.iterdir()}


@pytest.mark.torch
def test_an_audit_without_a_folder_keeps_its_runs_in_the_cache(tmp_path: Path) -> None:
    write(tmp_path, train=ECHO)
    done = audited(tmp_path, "--json", "-", "train.py", env=environment(XDG_CACHE_HOME=str(tmp_path / "cache")))
    run = Path(json.loads(done.out[done.out.index(b"\n{") :])["runs"][0]["path"])
    assert run.parent.parent == tmp_path / "cache" / "repro-audit"
    assert (run / "run.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"train.py", "cache"}


@pytest.mark.torch
def test_the_reports_of_an_audit_agree(differing: Audited, tmp_path: Path) -> None:
    """The first divergent op is the tensor of the process id; all reports have its line, code and kind."""
    found = differing.audit.divergence
    assert found is not None
    code = 'start = torch.tensor([1.0, 2.0, float(os.getpid()) if "--differ" in sys.argv else 3.0])'
    assert (differing.audit.verdict, differing.done.status) == ("diverged", 1)
    assert (found.kind, found.file, found.code) == ("data", "train.py", code)
    terminal = differing.done.out[differing.done.out.index(b"DIVERGED") :].decode()
    for text in (terminal, differing.markdown):
        assert f"train.py:{found.line}" in text
        assert "DIVERGED" in text
        assert "data" in text
    assert code[:60] in terminal
    assert len(differing.markdown) < 4000  # short enough for a chat
    # and the JSON gives the same reports again
    again = audited(differing.folder, "report", "audit.json", "--markdown", str(tmp_path / "again.md"))
    assert (again.status, again.out.decode(), again.err) == (1, terminal, b"")
    assert (tmp_path / "again.md").read_text() == differing.markdown


@pytest.mark.torch
def test_reruns_of_a_divergence_keep_the_values_around_it(differing: Audited) -> None:
    assert [run.id for run in differing.audit.runs if run.role != "control"] == [
        "pin-process-id-1", "pin-process-id-2", "free-process-id-1", "free-process-id-2",
    ]  # fmt: skip
    assert differing.audit.divergence is not None
    evidence = differing.audit.divergence.detail.evidence
    assert evidence is not None
    different = [entry for entry in [*evidence.outputs, *evidence.inputs] if entry.differs]
    assert different
    assert {(entry.elements, entry.of, str(entry.first)) for entry in different} == {(1, 3, "[2]")}
    assert all(float(entry.a or 0) != float(entry.b or 0) for entry in different)


@pytest.mark.torch
def test_effort_compare_makes_only_two_runs(differing: Audited, tmp_path: Path) -> None:
    quick = _audited(tmp_path, "--effort", "compare", *OUTPUTS, "train.py", "--differ")
    assert [run.id for run in quick.audit.runs] == ["control-1", "control-2"]
    assert quick.done.status == 1
    assert quick.audit.divergence is not None
    assert differing.audit.divergence is not None
    assert quick.audit.divergence.detail.evidence is None
    assert quick.audit.divergence.line == differing.audit.divergence.line


@pytest.mark.torch
def test_runs_pin_and_vary_decide_which_runs_are_made(tmp_path: Path) -> None:
    """With the process id pinned there is nothing to explain and nothing to apply."""
    asked = _audited(tmp_path, "--runs", "3", "--pin", "process-id", "--vary", "hash-seed", "--apply", *OUTPUTS, "train.py", "--differ")
    assert [(run.id, run.role, run.pinned, run.varied) for run in asked.audit.runs] == [
        ("control-1", "control", ["process-id"], []), ("control-2", "control", ["process-id"], []),
        ("control-3", "control", ["process-id"], []), ("vary-hash-seed", "experiment", ["process-id"], ["hash-seed"]),
    ]  # fmt: skip
    assert (asked.audit.verdict, asked.done.status) == ("no-divergence-seen", 0)
    assert asked.audit.search is not None
    assert (asked.audit.search.varied, asked.audit.causes) == (["hash-seed"], [])
    assert "repro-audit: varied: hash-seed\n" in asked.done.said
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [
        "audit.json", "audit.md", "data.txt", "parts.py", "runs", "train.py",
    ]  # fmt: skip
    assert (tmp_path / "train.py").read_text() == textwrap.dedent(TRAIN).lstrip("\n")


@pytest.mark.torch
def test_the_effort_decides_how_far_an_audit_goes(agreeing: Audited, differing: Audited) -> None:
    assert {run.role for run in agreeing.audit.runs} == {"control"}
    assert (agreeing.audit.search, agreeing.audit.causes) == (None, [])
    assert {run.role for run in differing.audit.runs} == {"control", "experiment"}
    assert differing.audit.search is not None
    assert differing.audit.search.varied == []
    assert [(cause.factor, cause.proved) for cause in differing.audit.causes] == [("process-id", True)]


@pytest.mark.parametrize("outputs", [("--json", "-"), ("--markdown", "-"), ("--json", "-", "--markdown", "file"), ("--json", "file")])
def test_a_report_on_stdout_moves_the_terminal_report_to_stderr(outputs: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(AUDITS["kernel_in_backward"]().model_dump_json())
    plain = audited(tmp_path, "report", "audit.json")
    done = audited(tmp_path, "report", "audit.json", *outputs)
    assert done.status == plain.status == 1
    if "-" in outputs:
        assert done.err == plain.out
    else:
        assert (done.out, done.err) == (plain.out, b"")
    if outputs[:2] == ("--json", "-"):
        assert Audit.model_validate_json(done.out) == AUDITS["kernel_in_backward"]()
    if outputs[:2] == ("--markdown", "-"):
        assert done.out.startswith(b"**DIVERGED")
    assert (tmp_path / "file").exists() == ("file" in outputs)


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_a_verbose_report_adds_the_evidence_and_the_runs(option: str, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(AUDITS["kernel_in_backward"]().model_dump_json())
    plain = audited(tmp_path, "report", "audit.json")
    done = audited(tmp_path, "report", option, "audit.json")
    assert done.status == plain.status == 1
    for said in (b"Inputs and outputs of op 4812", b"aten.index_put_.default (op 4812)", b"control-1  exit 0"):
        assert (said in done.out, said in plain.out) == (True, False)


def test_a_report_starts_on_a_new_line(tmp_path: Path) -> None:
    write(tmp_path, train="import sys\nprint('no end', end='')\nprint('of a line', end='', file=sys.stderr)")
    done = audited(tmp_path, "train.py")
    assert done.out.startswith(b"no end\nINCONCLUSIVE")
    done = audited(tmp_path, "record", "-o", "kept", "train.py")
    assert done.out == b"no end"  # nothing of ours follows
    assert done.said.splitlines()[0] == "of a line"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("outputs", [(), ("--json", "-"), ("--markdown", "-"), ("--json", "/dev/full")])
def test_an_unwritable_report_is_refused_in_one_sentence(outputs: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(AUDITS["draw_in_setup"]().model_dump_json())
    with Path("/dev/full").open("wb") as full:
        done = audited(tmp_path, "report", "audit.json", *outputs, stdout=full)
    assert done.status == 2
    assert sentence(done) == (
        f"cannot write {'/dev/full' if '/dev/full' in outputs else 'to stdout'}: No space left on device",
        "output-unwritable",
    )


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="needs SIGPIPE")
def test_a_closed_reader_ends_a_report_quietly(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(AUDITS["kernel_in_backward"]().model_dump_json())
    reader, writer = os.pipe()
    os.close(reader)
    done = audited(tmp_path, "report", "audit.json", stdout=writer)
    os.close(writer)
    assert (done.status, done.err) == (-signal.SIGPIPE, b"")


@pytest.mark.torch
def test_a_closed_reader_does_not_shorten_the_run(tmp_path: Path) -> None:
    """`repro-audit record -o kept train.py | head -1`."""
    write(tmp_path, train="import torch\nfor k in range(9000): print('line', k, flush=not k % 100)\ntorch.ones(3).exp(); print('end')")
    with subprocess.Popen(
        [sys.executable, "-m", "auditor", "record", "-o", "kept", "train.py"], cwd=tmp_path, env=environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.read(5) == b"line "
        child.stdout.close()
        said = child.stderr.read().decode()
        assert child.wait(PATIENCE) == 0, said
    assert (tmp_path / "kept" / "stdout").read_bytes().endswith(b"line 8999\nend\n")
    assert "recorded 2 ops" in said
    shown = audited(tmp_path, "show", "kept", "--kind", "op")
    assert b"aten.exp.default" in shown.out


# Exit status


def _audit(verdict: str, *levels: str) -> Audit:
    """An audit with this verdict and findings of these levels."""
    audit = AUDITS[{"diverged": "kernel_in_backward", "no-divergence-seen": "no_divergence", "inconclusive": "inconclusive"}[verdict]]()
    assert audit.verdict == verdict
    audit.findings = [Finding(rule=f"a-{level}", level=level, message="found") for level in levels]
    return audit


STATUS = [
    # verdict, findings, and the status with --fail-on error, warning, note, never
    ("no-divergence-seen", (), (0, 0, 0, 0)),
    ("no-divergence-seen", ("note",), (0, 0, 1, 0)),
    ("no-divergence-seen", ("note", "warning"), (0, 1, 1, 0)),
    ("no-divergence-seen", ("error",), (1, 1, 1, 0)),
    ("diverged", (), (1, 1, 1, 0)),
    ("diverged", ("note",), (1, 1, 1, 0)),
    ("inconclusive", (), (2, 2, 2, 2)),
    ("inconclusive", ("warning",), (2, 1, 1, 2)),
]


@pytest.mark.parametrize(("verdict", "levels", "statuses"), STATUS)
def test_the_exit_status_depends_on_the_verdict_and_the_findings(
    verdict: str, levels: tuple[str, ...], statuses: tuple[int, ...], tmp_path: Path
) -> None:
    (tmp_path / "audit.json").write_text(_audit(verdict, *levels).model_dump_json())
    found = [audited(tmp_path, "report", "audit.json", "--fail-on", level).status for level in ("error", "warning", "note", "never")]
    assert tuple(found) == statuses
    assert audited(tmp_path, "report", "audit.json").status == statuses[0]


@pytest.mark.torch
def test_fail_on_never_lets_a_divergence_pass(differing: Audited) -> None:
    runs = ["runs/control-1", "runs/control-2"]
    assert audited(differing.folder, "diff", *runs).status == 1
    done = audited(differing.folder, "diff", "--fail-on", "never", *runs)
    assert (done.status, b"DIVERGED" in done.out) == (0, True)


# record


@pytest.mark.torch
def test_steps_ends_a_recorded_script_cleanly_and_its_exit_handlers_run(tmp_path: Path) -> None:
    folder_with_the_script(tmp_path)
    done = audited(tmp_path, "record", "-o", "kept", "--steps", "2", "train.py")
    assert done.status == 0, done.said
    assert done.out.startswith(b"words []\nstep 0\n")
    assert done.out.endswith(b"exit handler\n")
    assert b"step 2" not in done.out
    assert re.search(r"^repro-audit: recorded [0-9]+ ops in 2 steps \([0-9.]+ s\) in kept$", done.said, re.MULTILINE)
    shown = audited(tmp_path, "show", "kept", "--kind", "step")
    assert re.findall(rb"^[0-9]+ +[0-9]+ +step +(step [0-9]+) ", shown.out, re.MULTILINE) == [b"step 0", b"step 1"]


@pytest.mark.torch
def test_a_window_is_shown_and_mentioned_in_comparisons(kept: Path, tmp_path: Path) -> None:
    folder_with_the_script(tmp_path)
    done = audited(
        tmp_path, "record", "-o", "kept", "--window", "1:2", "train.py", *json.loads((kept / "run.json").read_text())["script"][1:]
    )
    assert done.status == 0, done.said
    shown = audited(tmp_path, "show", "kept", "--lane", "main", "--kind", "op", "--limit", "10000")
    assert {line.split()[1] for line in shown.out.decode().splitlines()[1:]} == {"1"}
    # runs recorded at different levels are compared by what both have, and no verdict rests on ops that one of them lacks
    diff = audited(tmp_path, "diff", "kept", str(kept), "--json", "diff.json")
    audit = Audit.model_validate_json((tmp_path / "diff.json").read_text())
    assert [(fact.name, fact.a, fact.b) for fact in audit.environment] == [("recorded", "ops in steps 1-2", "ops")]
    assert "differs in 1 fact: recorded (ops in steps 1-2 and ops)" in " ".join(diff.out.decode().split("\n\n")[0].split())
    assert (audit.verdict, diff.status) == ("no-divergence-seen", 0)
    assert (audit.coverage.ops, [lost.what.slug for lost in audit.coverage.lost]) == (0, ["single-ops"])


@pytest.mark.torch
def test_a_run_of_level_steps_has_no_ops_and_is_compared_by_its_steps(kept: Path, tmp_path: Path) -> None:
    folder_with_the_script(tmp_path)
    done = audited(tmp_path, "record", "-o", "kept", "--level", "steps", "train.py", "--differ")
    assert done.status == 0, done.said
    assert "recorded 0 ops in 3 steps" in done.said
    shown = audited(tmp_path, "show", "kept", "--lane", "main", "--limit", "10000").out.decode()
    kinds = {line.split()[2] for line in shown.splitlines()[1:]}
    assert {"seed", "setting", "step", "file"} <= kinds
    assert "op" not in kinds

    diff = audited(tmp_path, "diff", "kept", str(kept), "--json", "diff.json")

    audit = Audit.model_validate_json((tmp_path / "diff.json").read_text())
    assert (audit.verdict, audit.divergence, diff.status) == ("diverged", None, 1)
    assert [text_of(note) for note in audit.notes] == [
        "the runs differ in the loss, gradients and parameters at step 0: to see the op, record the ops of that step (--window)"
    ]
    same = audited(tmp_path, "diff", "kept", "kept")
    assert (same.status, b"NO DIVERGENCE SEEN" in same.out) == (0, True)


@pytest.mark.torch
def test_a_recorded_script_that_fails_is_kept_and_its_error_reported(tmp_path: Path) -> None:
    write(tmp_path, train="import torch\ntorch.ones(3).exp()\nraise SystemExit(7)")
    done = audited(tmp_path, "record", "-o", "kept", "train.py")
    assert (done.status, done.out) == (7, b"")
    assert done.said.splitlines()[-1] == "repro-audit: the script ended with status 7 [script-failed]"
    assert b"aten.exp.default" in audited(tmp_path, "show", "kept").out


@pytest.mark.torch
def test_a_recorded_script_that_exceeds_its_timeout_is_ended_and_kept(tmp_path: Path) -> None:
    write(tmp_path, train="import time, torch\ntorch.ones(3).exp()\nprint('on', flush=True)\ntime.sleep(600)")
    done = audited(tmp_path, "record", "-o", "kept", "--timeout", "8", "train.py")
    assert done.status == 2
    assert done.said.splitlines()[-1] == "repro-audit: kept was ended after 8 s [timeout]"
    assert b"aten.exp.default" in audited(tmp_path, "show", "kept").out


# diff


@pytest.mark.torch
def test_runs_of_other_folders_and_environments_are_compared_with_their_differences(kept: Path, tmp_path: Path) -> None:
    folder_with_the_script(tmp_path / "elsewhere")
    script = tmp_path / "elsewhere" / "train.py"
    script.write_text(script.read_text() + "# and one comment more\n")
    words = json.loads((kept / "run.json").read_text())["script"]
    other = environment(OMP_NUM_THREADS="1", PYTHONHASHSEED="7")
    done = audited(tmp_path / "elsewhere", "record", "-o", "other", *words, env=other)
    assert done.status == 0, done.said

    diff = audited(tmp_path, "diff", "-v", str(kept), "elsewhere/other", "--json", "diff.json", "--markdown", "diff.md")

    audit = Audit.model_validate_json((tmp_path / "diff.json").read_text())
    facts = {fact.name: (fact.a, fact.b) for fact in audit.environment}
    assert facts["environment: OMP_NUM_THREADS"] == (os.environ.get("OMP_NUM_THREADS"), "1")
    assert facts["environment: PYTHONHASHSEED"] == (os.environ.get("PYTHONHASHSEED"), "7")
    assert facts["script content"][0] != facts["script content"][1]
    assert not [name for name in facts if "cwd" in name or "path" in name]
    # the lines, paths and process differ, the ops are the same
    assert (audit.verdict, diff.status) == ("no-divergence-seen", 0)
    assert [(run.id, run.role) for run in audit.runs] == [("control-1", "control"), ("other", "kept")]
    assert audit.script == words
    for text in (diff.out.decode(), (tmp_path / "diff.md").read_text()):
        assert text.replace("*", "").startswith("NO DIVERGENCE SEEN")
        assert f"differs in {len(facts)} facts" in text.split("\n\n")[1 if text.startswith("**") else 0]
    assert "The environments of control-1 and other differ in " in diff.out.decode()
    assert "OMP_NUM_THREADS" in diff.out.decode()


# show


LINES = {name: text.count("\n", 0, text.index(mark)) for name, text, mark in (
    ("data.txt", TRAIN, "scale ="), ("thread", TRAIN, "thread = "), ("loss", TRAIN, "loss ="), ("inner", PARTS, "return self.inner"),
)}  # fmt: skip


def shown(run: Path, *conditions: str) -> list[dict[str, str]]:
    """The rows that `show` prints, by column title."""
    done = audited(run.parent, "show", str(run), "--limit", "10000", *conditions)
    assert (done.status, done.err) == (0, b"")
    titles, *lines = done.out.decode().splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", titles)]
    ends = [*starts[1:], None]
    return [{titles[a:b].strip(): line[a:b].strip() for a, b in zip(starts, ends, strict=True)} for line in lines]


@pytest.fixture(scope="session")
def everything(kept: Path) -> list[dict[str, str]]:
    """All rows of the kept run."""
    return shown(kept)


@pytest.mark.torch
def test_show_prints_ops_draws_seeds_settings_steps_and_files_in_order(everything: list[dict[str, str]]) -> None:
    main = [row for row in everything if row["lane"] == "main"]
    assert [row["name"] for row in main if row["kind"] == "step"] == ["step 0", "step 1", "step 2"]
    seeds = [(row["name"], row["detail"]) for row in main if row["kind"] == "seed"]
    assert [name.rpartition(".")[2] for name, _ in seeds] == ["seed", "seed", "manual_seed"]
    assert [detail.partition(" = ")[2] for _, detail in seeds] == ["1", "2", "3"]
    (file,) = [row for row in main if row["kind"] == "file" and "data.txt" in row["detail"]]
    assert file["where"] == f"train.py:{LINES['data.txt']}"
    threads = [row["detail"] for row in main if row["kind"] == "setting" and row["name"] == "torch.get_num_threads"]
    assert threads[-1] == "= 1"
    streams = {row["detail"].split()[0] for row in main if row["kind"] == "draw"}
    assert {"torch-cpu"} < streams
    assert len(streams) == 3
    (matmul,) = [row for row in main if row["name"] == "aten.addmm.default" and row["step"] == "2"]
    assert (matmul["phase"], matmul["module"], matmul["where"]) == ("forward", "Body.inner", f"parts.py:{LINES['inner']}")
    assert matmul["code"] == "return self.inner(x).tanh()"
    backward = [row for row in main if row["phase"] == "backward" and row["name"] == "aten.mm.default"]
    assert len(backward) == 3
    assert all(f"forward parts.py:{LINES['inner']}" in row["detail"] for row in backward)
    numbers = [int(row["op"]) for row in main]
    assert numbers == sorted(numbers)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        (("--step", "1"), lambda row: row["step"] == "1"),
        (("--step", "99"), lambda row: False),
        (("--op", "aten.addmm.*"), lambda row: row["name"] == "aten.addmm.default"),
        (("--op", "*seed*"), lambda row: "seed" in row["name"]),
        (("--phase", "backward"), lambda row: row["phase"] == "backward"),
        (("--phase", "optimizer", "--step", "2"), lambda row: row["phase"] == "optimizer" and row["step"] == "2"),
        (("--file", "parts.py"), lambda row: row["where"].startswith("parts.py:")),
        (("--file", "pa*.py", "--op", "aten.tanh*"), lambda row: row["where"].startswith("parts.py:") and "tanh" in row["name"]),
        (("--kind", "seed"), lambda row: row["kind"] == "seed"),
        (("--kind", "seed", "--kind", "draw"), lambda row: row["kind"] in ("seed", "draw")),
        (("--kind", "op", "--phase", "forward"), lambda row: (row["kind"], row["phase"]) == ("op", "forward")),
        (("--kind", "file"), lambda row: row["kind"] == "file"),
        (("--kind", "external"), lambda row: row["kind"] == "external"),
        (("--kind", "setting"), lambda row: row["kind"] == "setting"),
        (("--kind", "thread"), lambda row: row["kind"] == "thread"),
        (("--lane", "main"), lambda row: row["lane"] == "main"),
        (("--lane", "thread 1"), lambda row: row["lane"] == "thread 1"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)  # fmt: skip
def test_show_prints_exactly_the_requested_rows(
    conditions: tuple[str, ...], wanted: Callable[[dict[str, str]], bool], kept: Path, everything: list[dict[str, str]]
) -> None:
    # --file matches an opened file as the path and as the file of the line that opened it
    found = [(row["op"], row["kind"], row["name"]) for row in shown(kept, *conditions)]
    assert found == [(row["op"], row["kind"], row["name"]) for row in everything if wanted(row)]
    assert bool(found) == (conditions != ("--step", "99"))


@pytest.mark.torch
def test_show_finds_an_opened_file_by_its_name(kept: Path) -> None:
    (row,) = shown(kept, "--file", "data.txt")
    assert (row["kind"], row["where"]) == ("file", f"train.py:{LINES['data.txt']}")


@pytest.mark.torch
def test_show_says_how_many_rows_it_leaves_out(kept: Path, everything: list[dict[str, str]]) -> None:
    done = audited(kept.parent, "show", kept.name, "--limit", "10")
    lines = done.out.decode().splitlines()
    assert len(lines) == 1 + 10 + 1
    assert lines[-1].startswith(f"and {len(everything) - 10:,} more: --limit shows more")
    assert [line.split()[:3] for line in lines[1:-1]] == [[row["op"], row["step"], row["kind"]] for row in everything[:10]]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("condition", "slug", "said"),
    [
        (("--kind", "ops"), "no-such-kind", "--kind ops: there is no such kind; there are op, external, draw, seed"),
        (("--phase", "fwd"), "no-such-phase", "--phase fwd: there is no such phase; there are setup, forward, backward, optimizer"),
        (("--lane", "worker 3"), "no-such-lane", "there are main, thread 1"),
    ],
)
def test_show_lists_the_valid_values_for_an_invalid_one(condition: tuple[str, ...], slug: str, said: str, kept: Path) -> None:
    done = audited(kept.parent, "show", kept.name, *condition)
    told, with_slug = sentence(done)
    assert (done.status, done.out, with_slug) == (2, b"", slug)
    assert said in told


# A terminal


class Screen:
    """What a person sees on a terminal: enough of one for lines, carriage returns, erased lines and colours."""

    def __init__(self) -> None:
        self.lines = [""]
        self.column = 0
        self.pictures: list[str] = []
        self.colours = 0
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Process output; remember each state of the last line."""
        data = self._rest + data
        whole = len(data) - len(re.search(rb"(\x1b\[?[0-9;]*|[\xc0-\xff][\x80-\xbf]{0,2})?$", data)[0])  # type: ignore[index]
        self._rest = data[whole:]
        for token in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|[^\x1b]", data[:whole].decode()):
            if token == "\r":
                self.column = 0
            elif token == "\n":
                self.lines.append("")
            elif token == "\x1b[2K":
                self.lines[-1] = ""
            elif token.endswith("m") and token.startswith("\x1b"):
                self.colours += 1
            else:
                assert not token.startswith("\x1b"), f"unknown escape code: {token!r}"
                line = self.lines[-1].ljust(self.column)
                self.lines[-1] = line[: self.column] + token + line[self.column + 1 :]
                self.column += 1
        self.pictures.append(self.lines[-1])


@dataclass
class Terminal:
    """A child process on its own terminal, with keyboard input."""

    child: subprocess.Popen[bytes]
    master: int
    screen: Screen
    raw: bytearray

    def read(self, until: Callable[[], bool] = lambda: False) -> None:
        """Read on until a condition holds, or to the end."""
        deadline = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < deadline, bytes(self.raw)
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:  # the last user has closed it
                return
            if not data:
                return
            self.raw += data
            self.screen.write(data)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def finish(self) -> int:
        self.read()
        return self.child.wait(PATIENCE)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts `repro-audit` on a terminal with this number of columns."""
    import fcntl
    import struct
    import termios

    opened: list[Terminal] = []

    def open_one(*words: str, columns: int = 80, command: list[str] | None = None, **variables: str | None) -> Terminal:
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        env = environment(**{"TERM": "xterm", "NO_COLOR": None, "COLUMNS": None, "FORCE_COLOR": None, **variables})
        child = subprocess.Popen(
            command or [sys.executable, "-m", "auditor", *words], cwd=tmp_path, env=env, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        opened.append(Terminal(child, master, Screen(), bytearray()))
        return opened[-1]

    yield open_one
    for entry in opened:
        entry.child.poll()
        if entry.child.returncode is None:
            entry.child.kill()
            entry.child.wait()
        os.close(entry.master)


ON_A_TERMINAL = """
    import shutil, sys, time
    print("terminal", [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)], shutil.get_terminal_size().columns)
    import torch
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    for step in range(3):
        w.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        sys.stdout.write(f"\\rat step {step}")
        sys.stdout.flush()
        time.sleep(0.15)
    print()
    time.sleep(0.4)
    print("\\x1b[31mred\\x1b[0m", "ä→")
    sys.stderr.write("no end of this line")
    """


@pytest.mark.torch
@needs_terminals
def test_on_a_terminal_progress_is_live_and_is_erased(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    write(tmp_path, train=ON_A_TERMINAL)
    without = terminal(columns=70, command=[sys.executable, "train.py"])
    assert without.finish() == 0

    under = terminal("--effort", "compare", "-o", "runs", "train.py", columns=70)
    assert under.finish() == 0

    lines = [line.rstrip() for line in under.screen.lines]
    assert lines[:5] == [
        "repro-audit  control-1: train.py",
        "terminal [True, True, True] 70",
        "at step 2",
        "red ä→",
        "no end of this line",
    ]
    assert lines[5:7] == ["repro-audit  control-2: train.py", "repro-audit  comparing"]
    assert lines[7] == "repro-audit  judging"
    assert lines[8].startswith("NO DIVERGENCE SEEN  2 runs agree in all ")
    assert "Next: repro-audit " in " ".join(lines[9:])
    assert lines[-1] == ""
    assert max(map(len, lines)) <= 70
    # the script's output is the same to the byte as without the auditor, where nothing lies in between
    for part in (b"\rat step 0\rat step 1\rat step 2\r\n", "\x1b[31mred\x1b[0m ä→\r\n".encode()):
        assert part in without.raw
        assert part in under.raw
    assert lines[1:5] == [line.rstrip() for line in without.screen.lines]
    # and it moved while it ran
    progress = [picture for picture in under.screen.pictures if picture.startswith("repro-audit  control-1  ")]
    assert any(re.fullmatch(r"repro-audit  control-1  [0-9]+ s", picture) for picture in progress)
    assert any(re.fullmatch(r"repro-audit  control-1  [0-9]+ s  3 steps  [0-9]+ events", picture) for picture in progress)


@pytest.mark.torch
@needs_terminals
@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_colours_and_live_lines_are_omitted_on_request(
    variables: dict[str, str], terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    # it never imports torch, so it runs only once
    write(tmp_path, train="import time\ntime.sleep(0.8)\nprint('done')")
    under = terminal("--effort", "compare", "train.py", columns=0, **variables)
    assert under.finish() == 2
    assert "done" in under.screen.lines
    assert bool(under.screen.colours) is not bool(variables)
    assert (b"\x1b[2K" in under.raw) is (variables.get("TERM") != "dumb")
    assert (b"repro-audit: control-1: train.py\r\n" in under.raw) is (variables.get("TERM") == "dumb")
    assert any(line.startswith("INCONCLUSIVE") for line in under.screen.lines)


@pytest.mark.torch
@needs_terminals
def test_typed_input_reaches_the_script_in_both_runs(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    write(tmp_path, train="import torch\nname = input('name? ')\ntorch.full((3,), float(len(name))).exp()\nprint('hello', name)")
    under = terminal("--effort", "compare", "--json", "audit.json", "-o", "runs", "train.py")
    under.read(lambda: under.raw.endswith(b"name? "))
    time.sleep(0.3)
    assert under.raw.endswith(b"name? ")  # nothing is drawn into an unfinished line of the script
    under.type(b"Ada\n")
    assert under.finish() == 0
    assert "hello Ada" in under.screen.lines
    assert (tmp_path / "runs" / "control-2" / "stdout").read_bytes().endswith(b"hello Ada\n")


@pytest.mark.torch
@needs_terminals
def test_ctrl_c_on_a_terminal_ends_the_script_and_keeps_what_was_recorded(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    source = """
        import os, time, torch
        print("pid", os.getpid(), flush=True)
        x = torch.ones(4321).exp()
        try:
            print("waiting", flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            print("one interrupt", flush=True)
            raise SystemExit(5)
        """
    write(tmp_path, train=source)
    under = terminal("-o", "runs", "train.py")
    under.read(lambda: b"waiting" in under.raw and b"  control-1  " in under.raw)

    under.type(b"\x03")

    assert under.finish() == 130
    assert under.raw.count(b"one interrupt") == 1
    assert under.screen.lines[-2:] == ["repro-audit: interrupted: what was recorded is kept [interrupted]", ""]
    assert "Traceback" not in "".join(under.screen.lines)
    (pid,) = re.findall(rb"pid ([0-9]+)", under.raw)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert b"float32[4321]" in audited(tmp_path, "show", "runs/control-1", "--op", "aten.exp*").out
    assert json.loads((tmp_path / "runs" / "control-1" / "run.json").read_text())["stopped"] == "interrupted"


def test_without_a_terminal_progress_is_a_line_from_time_to_time(capfd: pytest.CaptureFixture[str]) -> None:
    class Impatient(PlainScreen):
        _EVERY = 0.0

    screen = Impatient()
    screen.progress(Progress("control-1", 61.2, 1, 1234))
    screen.progress(Progress("control-1", 122.0, 2000, 1_234_567))
    PlainScreen().progress(Progress("control-2", 3.0))  # too early
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "repro-audit: control-1  61 s  1 step  1,234 events\nrepro-audit: control-1  122 s  2,000 steps  1,234,567 events\n"
    assert status(Progress("control-2", 3.0)) == "control-2  3 s"


def test_a_screen_accepts_output_and_messages_from_two_threads(capfd: pytest.CaptureFixture[str]) -> None:
    screen = PlainScreen()

    def talk() -> None:
        for _ in range(300):
            screen.output(2, b"the script says so\n")

    talking = threading.Thread(target=talk)
    talking.start()
    for _ in range(300):
        screen.say("and we say so")
    talking.join()
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines) == ["repro-audit: and we say so"] * 300 + ["the script says so"] * 300


# Python API


API = """
    import sys
    import auditor
    assert set(vars(auditor)) & set(auditor.__all__) == {"__version__"}, "something is loaded before it is asked for"
    assert not [name for name in sys.modules if name.startswith("auditor.")]
    from pathlib import Path
    from auditor import Audit, AuditError, Divergence, AuditOptions, Plan

    here = str(Path("project").resolve())
    plan = Plan(("train.py", "--differ"), cwd=here, timeout=200.0)
    found = auditor.audit(plan, keep=Path("runs"), options=AuditOptions(effort="compare"))
    assert isinstance(found, Audit) and isinstance(found.divergence, Divergence)
    print("AUDIT", found.verdict, found.divergence.kind, found.divergence.line, [run.id for run in found.runs])

    made, why = auditor.record(Plan(("train.py",), cwd=here).with_environment(MARK="set"), Path("kept"))
    print("RECORD", made.exit, made.steps, why, made.ops == found.runs[0].ops)

    compared = auditor.diff(Path("runs/control-1"), Path("kept"))
    print("DIFF", compared.verdict, [fact.name for fact in compared.environment])

    calls = {auditor.audit: [Plan(("nothing.py",))], auditor.diff: [Path("x"), Path("y")], auditor.record: [plan, Path("kept")]}
    for call, given in calls.items():
        try:
            call(*given)
        except AuditError as error:
            print("ERROR", error.slug, error.exit_status, str(error).endswith(f"[{error.slug}]"))
    try:
        auditor.no_such_name
    except AttributeError as error:
        print("NAME", error)
    torch = sys.modules.get("torch")
    assert torch is None or torch.cuda.is_available(), "torch is imported, and it is not to ask it about a device"
    """


@pytest.mark.torch
def test_the_python_api_does_what_the_commands_do(tmp_path: Path) -> None:
    folder_with_the_script(tmp_path / "project")
    write(tmp_path, use=API)
    done = bare(tmp_path, "-W", "error", "use.py")
    assert done.status == 0, done.said
    line = textwrap.dedent(TRAIN).lstrip("\n").splitlines().index(
        'start = torch.tensor([1.0, 2.0, float(os.getpid()) if "--differ" in sys.argv else 3.0])'
    )  # fmt: skip
    ours = [said for said in done.out.decode().splitlines() if said.split()[0].isupper()]
    assert ours == [
        f"AUDIT diverged data {line + 1} ['control-1', 'control-2']",
        "RECORD 0 3 None True",
        "DIFF diverged ['script']",
        "ERROR no-such-script 2 True",
        "ERROR trace-missing 2 True",
        "ERROR run-exists 2 True",
        "NAME module 'auditor' has no attribute 'no_such_name'",
    ]
    # the script's own output, once for the audit and once for the recording
    assert done.out.count(b"words [") == 2
    assert done.err.count(b"to stderr") == 2
    assert b"repro-audit" not in done.err
