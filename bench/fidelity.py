"""Runs each script of `bench/fidelity/` bare and under `repro-audit record`, and compares what can be seen from outside.

    python bench/fidelity.py [--only NAME ...] [--jobs N] [--out DIR]

Compared are stdout, stderr, the exit status and the files that the script leaves. What is new in every run (times, process numbers in
torch's own log lines, addresses) is taken out of both. With `--only` these rows of the table are made anew. Ends with status 1 if a
behaviour is another one under the recorder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = HERE / "fidelity"
#: Time and process number at the head of a line that torch logs.
_LOGGED = re.compile(rb"^([EWI])\d{4} \d\d:\d\d:\d\d\.\d+ \d+ ", re.MULTILINE)
_ADDRESS = re.compile(rb"0x[0-9a-f]{8,16}\b")


@dataclass(frozen=True)
class Seen:
    """What is seen of a run from outside."""

    status: int
    out: bytes
    err: bytes
    files: dict[str, str]


@dataclass(frozen=True)
class Behaviour:
    """One script: its kind and what it does, as its docstring says, and in what the two runs differ."""

    name: str
    kind: str
    does: str
    differs: list[str]


def main() -> None:
    """Compare all behaviours and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--jobs", type=int, default=2, help="scripts that run at a time")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    options = parser.parse_args()
    scripts = {script.stem: script for script in sorted(SCRIPTS.glob("*.py"))}
    table = options.out / "fidelity.json"
    rows = {row["name"]: row for row in (json.loads(table.read_text()) if options.only is not None and table.exists() else [])}
    options.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        for one in pool.map(behaviour, [script for name, script in scripts.items() if options.only is None or name in options.only]):
            print(f"{one.name}: {', '.join(one.differs) or 'equal'}", flush=True)
            rows[one.name] = asdict(one)
            found = [Behaviour(**row) for name, row in sorted(rows.items()) if name in scripts]
            table.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")
            (options.out / "fidelity.md").write_text(as_markdown(found), encoding="utf-8")
    sys.exit(any(row["differs"] for row in rows.values()))


def behaviour(script: Path) -> Behaviour:
    """Run one script twice."""
    kind, _, does = script.read_text(encoding="utf-8").split('"""')[1].partition(": ")
    with tempfile.TemporaryDirectory() as temporary:
        bare = run(script, Path(temporary), None)
        recorded = run(script, Path(temporary), Path(temporary) / "run")
    pairs = {"stdout": (bare.out, recorded.out), "stderr": (bare.err, recorded.err), "exit status": (bare.status, recorded.status)}
    pairs["files"] = (str(bare.files), str(recorded.files))
    return Behaviour(script.stem, kind, " ".join(does.split()).rstrip("."), [name for name, (a, b) in pairs.items() if a != b])


def run(script: Path, temporary: Path, kept: Path | None) -> Seen:
    """Run a script in a new folder of one name, recorded into `kept` if that is given."""
    folder = temporary / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(script, folder)
    recorder = [] if kept is None else ["-m", "auditor", "record", "-o", str(kept)]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(temporary / "inductor"), "XDG_CACHE_HOME": str(temporary / "cache")}
    done = subprocess.run([sys.executable, *recorder, script.name], cwd=folder, env=environment, capture_output=True, check=False)
    status, out, err = done.returncode, done.stdout, done.stderr
    if kept is not None:  # our own words are on stderr as well: taken is what was kept of the script's
        status = json.loads((kept / "run.json").read_text())["exit"] if (kept / "run.json").exists() else -1
        out, err = ((kept / name).read_bytes() if (kept / name).exists() else b"" for name in ("stdout", "stderr"))
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    return Seen(status, _ADDRESS.sub(b"0x", out), _ADDRESS.sub(b"0x", _LOGGED.sub(rb"\1 ", err)), files)


def as_markdown(found: list[Behaviour]) -> str:
    """The table."""
    import torch

    equal = sum(not one.differs for one in found)
    lines = [
        "# What scripts do, bare and recorded",
        "",
        f"Made by `python bench/fidelity.py`, with torch {torch.__version__} and Python {sys.version.split()[0]}.",
        f"{equal} of {len(found)} behaviours are the same in stdout, stderr, exit status and files.",
        "",
        "| kind | script | what it does | under the recorder |",
        "|---|---|---|---|",
    ]
    for one in sorted(found, key=lambda one: (one.kind, one.name)):
        seen = "equal" if not one.differs else "**differs**: " + ", ".join(one.differs)
        lines.append(f"| {one.kind} | [{one.name}](../fidelity/{one.name}.py) | {one.does} | {seen} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
