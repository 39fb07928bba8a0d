"""Damages the files that the auditor reads and checks that each is reported in one sentence.

`python -m tests.fuzz 10000` runs that many cases, `--case N` one. A case takes one input (a kept run, sealed or not, an audit, a rule, a
tolerance, a configuration, a baseline, a mapping of names) and damages it in one to three places, chosen by a generator seeded with the
case's number. The outcome must be a normal result or an `AuditError`; never another exception, a hang, a control character in the output,
or a change of a file outside the run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from auditor import pipeline, plugins
from auditor.config import read_config
from auditor.errors import AuditError
from auditor.judge import load_rules, load_tolerances, read_baseline
from auditor.listing import print_listing
from auditor.mapping import read_mapping
from auditor.pipeline.rulebook import print_rules
from auditor.report import json as as_json
from auditor.report import markdown, terminal
from tests.builder import TraceBuilder

#: Longest time of one case, in seconds.
PATIENCE = 60
_HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "\x9b2J",
    "a\u202eb",
    "[red]x[/red]",
    "<script>x</script>",
    "../../../etc/passwd",
    "/dev/zero",
    "x\0y",
    "",
)
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1 << 31, 1 << 63, -(1 << 63) - 1, 1 << 64, 10**400, 1.5, float("nan"), float("inf"), -0.0, *_HOSTILE, "7",
    [], {}, [[]], [None], {"k": 1}, ["a", 1], "x" * 100_000,
)  # fmt: skip


class Hang(BaseException):
    """A case took too long."""


def make_originals(folder: Path) -> None:
    """Make one intact input of each kind."""
    for name, value in (("sealed", 1), ("other", 2), ("spooled", 1)):
        built = TraceBuilder(folder / name)
        main = built.lane()
        main.setting("torch.backends.cudnn.benchmark", False, initial=True)
        main.seed("torch-cpu", 0, line=2)
        x = main.external((4, 3), rows="rows", line=3)
        y = main.random("aten.dropout.default", x, line=4)
        main.read("data.csv", "content", line=5)
        for step in range(3):
            main.phase, main.module = "forward", "Net.fc"
            y = main.op("aten.mul.Scalar", y, numbers=(0.5, step), args=["f"], line=6, node=step + 1)
            z = main.op("aten.split.Tensor", y, x, y, x, more=("b", "c"), line=7, digest=f"split {value if step == 2 else 0}")
            main.sketched([1.0, 2.0, 3.0])
            main.phase, main.module = "backward", ""
            main.op("aten.mul.Tensor", z, line=6, node=step + 1)
            main.phase = "optimizer"
            main.op("aten.add_.Tensor", y, line=8)
            main.kept(in0=[1.0, 2.0], out0=[3.0, float(value)])
            main.step(optimizer="SGD", loss=0.5, parameters=7, gradients=8, had=1, of=1)
        main.event("optimizer", name="SGD", number=1, leaves=["w"], written=[1])
        main.event("measured", what="cast", values=3, changed=1, largest=1.0, absolute=0.1, overflowed=0, vanished=0)
        main.event("lost", what="something", count=2)
        worker = built.lane("worker 0")
        worker.op("aten.stack.default", worker.external((2,)), line=9)
        built.spooled() if name == "spooled" else built.sealed()
    audit = pipeline.diff(folder / "sealed", folder / "other")
    with (folder / "audit.json").open("w") as out:
        as_json.render(audit, out)
    (folder / "baseline.json").write_text(
        json.dumps({"format": 1, "findings": [{"rule": "stale-gradient", "file": "a.py", "code": "x", "subject": None, "message": "m"}]})
    )
    (folder / "names.yaml").write_text('names:\n  w1: model.fc1.weight\n  "train:loss": total_loss\n')
    (folder / "pyproject.toml").write_text(
        '[tool.repro-audit]\nrules = ["rules"]\nselect = ["error"]\nignore = []\nbaseline = "b.json"\nfail-on = "warning"\n'
    )
    shipped = pipeline.shipped_rules()
    (folder / "rules").mkdir()
    for name in ("unknown-switch", "stale-gradient"):
        text = (shipped / f"{name}.yaml").read_text().replace(f"id: {name}", f"id: my-{name}")
        (folder / "rules" / f"my-{name}.yaml").write_text(text)
    (folder / "rules" / "tolerances").mkdir()
    one = sorted((shipped / "tolerances").glob("*.yaml"))[0]
    shutil.copy(one, folder / "rules" / "tolerances" / one.name)


# what is read


def _printed(render: Callable[[io.StringIO], None]) -> None:
    out = io.StringIO()
    render(out)
    said = out.getvalue()
    bad = next((c for c in said if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t"), None)
    assert bad is None, f"U+{ord(bad or ' '):04X} is printed"


def _reports(audit: Any) -> None:
    for render in (terminal.render, markdown.render):
        _printed(lambda out, render=render: render(audit, out))  # type: ignore[misc]
    as_json.render(audit, io.StringIO())


def _read_run(folder: Path, run: str, chance: random.Random) -> None:
    which = folder / run
    steps: list[Callable[[], object]] = [
        lambda: _printed(lambda out: print_listing(pipeline.events(which), out)),
        lambda: pipeline.answer(which, 'SELECT * FROM "all"'),
        lambda: _reports(pipeline.diff(which, folder / "other")),
        lambda: _reports(pipeline.diff(folder / "other", which)),
    ]
    _each([chance.choice(steps)])


def _each(steps: list[Callable[[], object]]) -> None:
    for step in steps:
        try:
            step()
        except AuditError as error:
            said = error
        else:
            continue
        assert said.slug
        _printed(lambda out, said=said: out.write(terminal_line(str(said))) and None)  # type: ignore[misc]


def terminal_line(said: str) -> str:
    """An error as the command line prints it."""
    from auditor.endings import printable

    return printable(said)


def _read_rules(folder: Path, _: str, __: random.Random) -> None:
    rules = folder / "rules"
    _each(
        [
            lambda: _printed(lambda out: print_rules([file.rule for file in load_rules([rules], plugins.detectors()).values()], out)),
            lambda: load_tolerances(rules),
        ]
    )


READERS: dict[str, Callable[[Path, str, random.Random], None]] = {
    "sealed": _read_run,
    "spooled": _read_run,
    "audit.json": lambda folder, name, _: _each([lambda: _reports(as_json.read(folder / name))]),
    "rules": _read_rules,
    "pyproject.toml": lambda folder, _, __: _each([lambda: read_config(folder)]),
    "baseline.json": lambda folder, name, _: _each([lambda: read_baseline(folder / name)]),
    "names.yaml": lambda folder, name, _: _each([lambda: read_mapping(folder / name)]),
}
_OFTEN = (
    "sealed",
    "sealed",
    "sealed",
    "spooled",
    "spooled",
    "audit.json",
    "audit.json",
    "rules",
    "pyproject.toml",
    "baseline.json",
    "names.yaml",
)

# damages


def _nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _nodes(part, (*path, key))


def _with(chance: random.Random, value: Any) -> Any:
    """The value with one part replaced or removed."""
    paths = list(_nodes(value))
    path = chance.choice(paths)
    if not path:
        return chance.choice(_VALUES)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    how = chance.randrange(4)
    if how == 0:
        del holder[path[-1]]
    elif how == 1 and isinstance(holder, dict):
        holder[chance.choice([*_HOSTILE, "k", "row", "values"])] = holder.pop(path[-1])
    elif how == 2:
        deep: Any = []
        for _ in range(chance.choice((50, 5000))):
            deep = [deep]
        holder[path[-1]] = deep
    else:
        holder[path[-1]] = chance.choice(_VALUES)
    return value


def _text_of(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 100_000


def damage_json(chance: random.Random, file: Path) -> None:
    """Change a value, a key or the nesting in a file of JSON or JSON lines."""
    try:
        text = file.read_text()
        if file.suffix == ".jsonl":
            lines = text.splitlines()
            k = chance.randrange(len(lines))
            lines[k] = _text_of(_with(chance, json.loads(lines[k])))
            file.write_text("\n".join(lines) + "\n")
        else:
            file.write_text(_text_of(_with(chance, json.loads(text))))
    except (ValueError, IndexError, RecursionError):
        damage_bytes(chance, file)


def damage_bytes(chance: random.Random, file: Path) -> None:
    """Flip bits, remove a part, repeat a part, write zeros, or empty the file."""
    data = bytearray(file.read_bytes())
    at = chance.randrange(len(data) + 1)
    match chance.randrange(6):
        case 0 | 1 if data:
            for _ in range(chance.choice((1, 3, 30))):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case 2:
            del data[at:]
        case 3:
            del data[at : at + chance.randrange(1, 64)]
        case 4:
            data[at:at] = data[at : at + chance.randrange(1, 256)]
        case _:
            data[at : at + 64] = chance.choice((b"", b"\0" * 64, b"\xff" * 64, chance.randbytes(64)))
    file.write_bytes(data)


_YAML = (
    "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b]\n", "a: &a [*a]\n", "[" * 5000, "{a: " * 3000,
    "? [a]\n: b\n", "- " * 2000 + "x", "x: !!python/object:os.system ls\n", "x: !!binary '='\n", "x: 2001-99-99\n", "x: !!timestamp x\n",
    "x: 1:99:99999999999999999999999\n",
    "<<: x\n", "x: !!int x\n", "x: !!float x\n", "x: " + "9" * 5000 + "\n", "tool = 1\n", "tool = []\n",
    "[tool]\nrepro-audit = 1\n", "[tool.repro-audit]\nrules = [[1]]\n", "x = " + "[" * 3000 + "\n", "\x1b[31m: x\n",
)  # fmt: skip


def damage_lines(chance: random.Random, file: Path) -> None:
    """Add, remove or change a line of a text, or replace the text."""
    try:
        lines = file.read_text().splitlines()
    except ValueError:
        return damage_bytes(chance, file)
    at = chance.randrange(len(lines) + 1)
    match chance.randrange(5):
        case 0:
            del lines[at : at + 1]
        case 1:
            lines.insert(at, chance.choice(_YAML))
        case 2 if at < len(lines):
            head, sign, _ = lines[at].partition(chance.choice((":", "=")))
            lines[at] = (
                head + sign + " " + chance.choice(("", "1", "[]", "{}", "null", "x", "'\\x1b[31m'", ".inf", "-1", "9" * 400, "&a *a"))
            )
        case 3:
            lines = [chance.choice(_YAML)]
        case _:
            return damage_bytes(chance, file)
    file.write_text("\n".join(lines) + "\n")
    return None


def damage_place(chance: random.Random, file: Path, top: Path) -> None:
    """Replace a file by a link, a pipe, a folder, another file name, or a file with a hole."""
    others = [path for path in top.rglob("*") if path.is_file() and not path.is_symlink() and path != file] or [file]
    how = chance.randrange(7)
    if how == 0:
        shutil.copyfile(chance.choice(others), file)
        return
    file.unlink()
    match how:
        case 1:
            file.symlink_to(top.parent / "victim")
        case 2:
            os.mkfifo(file)
        case 3:
            file.mkdir()
        case 4:
            file.symlink_to("/dev/zero")
        case 5:
            with file.open("wb") as hole:
                hole.truncate(1 << 41)
        case _:
            os.link(top.parent / "victim", file)


def damage(chance: random.Random, thing: Path) -> None:
    """Damage a random part of the input."""
    files = sorted(path for path in thing.rglob("*") if path.is_file() and not path.is_symlink()) if thing.is_dir() else [thing]
    files = [path for path in files if path.lstat().st_size < 1 << 30]
    if not files:
        return
    file = chance.choice(files)
    if thing.is_dir() and chance.random() < 0.05:
        folder = chance.choice([path for path in thing.rglob("*") if path.is_dir() and not path.is_symlink()] or [thing / "none"])
        if folder.exists():
            shutil.rmtree(folder)
            if chance.random() < 0.7:
                folder.symlink_to(thing.parent)
        return
    if thing.is_dir() and chance.random() < 0.15:
        damage_place(chance, file, thing)
    elif file.suffix in (".json", ".jsonl") and chance.random() < 0.85:
        damage_json(chance, file)
    elif file.suffix in (".yaml", ".toml"):
        damage_lines(chance, file)
    else:
        damage_bytes(chance, file)


@contextmanager
def limited() -> Iterator[None]:
    """Raise `Hang` where the time limit is exceeded."""

    def late(*_: object) -> None:
        raise Hang

    # CPU time does not depend on other load on the machine; elapsed time catches a case that waits
    timers = ((signal.SIGPROF, signal.ITIMER_PROF, PATIENCE), (signal.SIGALRM, signal.ITIMER_REAL, 20 * PATIENCE))
    before = [signal.signal(number, late) for number, _, _ in timers]
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


_opened: list[str] = []


def _watch_opened() -> None:
    """From now on, note files that Python opens but should not: devices, and targets that only a damaged file names."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.normpath(os.fsdecode(arguments[0]))
            if path.endswith("etc/passwd") or (path.startswith("/dev/") and path not in ("/dev/null", "/dev/urandom", "/dev/tty")):
                _opened.append(path)

    sys.addaudithook(hook)


def run_case(number: int, originals: Path, work: Path) -> str | None:
    """Make and read one case; returns what went wrong, or None."""
    chance = random.Random(number)
    name = chance.choice(_OFTEN)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    thing = work / name
    if (originals / name).is_dir():
        shutil.copytree(originals / name, thing)
    else:
        shutil.copy(originals / name, thing)
    (work / "other").symlink_to(originals / "other")
    victim = work / "victim"
    victim.write_text("{}")
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        damage(chance, thing)
    before, held = {path.name for path in work.iterdir()}, victim.read_bytes()  # a later damage may have written through a link
    _opened.clear()
    try:
        with limited():
            READERS[name](work, name, chance)
    except Hang:
        return "hang"
    except Exception as error:  # any exception is what is looked for
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/auditor/" in frame.filename] or [
            traceback.extract_tb(error.__traceback__)[-1]
        ]
        last = frames[-1]
        return f"{type(error).__name__} at {Path(last.filename).parent.name}/{Path(last.filename).name}:{last.lineno}: {str(error)[:100]!r}"
    if victim.read_bytes() != held or {path.name for path in work.iterdir()} != before:
        return "something outside was written"
    if _opened:
        return f"{_opened[0]} was opened"
    return None


def run_cases(numbers: range, say: Callable[[str], None] = lambda _: None) -> list[str]:
    """The cases that went wrong, and how."""
    found = []
    _watch_opened()
    with tempfile.TemporaryDirectory(prefix="repro-audit-fuzz-") as folder:
        originals = Path(folder, "originals")
        originals.mkdir()
        make_originals(originals)
        for number in numbers:
            wrong = run_case(number, originals, Path(folder, "work"))
            if wrong is not None:
                found.append(f"case {number}: {wrong}")
                say(found[-1])
            if number % 500 == 499:
                say(f"{number + 1:,} cases, {len(found):,} not as they should be")
    return found


def main() -> None:
    """Run some cases; the exit status says whether all passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=10_000)
    parser.add_argument("--case", type=int, help="only this one")
    given = parser.parse_args()
    numbers = range(given.cases) if given.case is None else range(given.case, given.case + 1)
    found = run_cases(numbers, lambda text: print(text, flush=True))
    places = Counter(entry.partition(": ")[2].partition(": ")[0] for entry in found)
    for place, count in places.most_common():
        print(f"{count:6}  {place}")
    print(f"{len(numbers):,} cases, {len(found):,} not as they should be, in {len(places)} places")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
