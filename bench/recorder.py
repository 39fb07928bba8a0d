"""What recording costs: the time of a training step under the recorder over the time of the same step without it.

The bare step must be really bare, and a process in which the recorder is armed no longer is: at every level, `off` included,
hooks run and functions of torch are wrapped. So each program runs in two child processes at once, one armed as a user's process
is (`PYTHONPATH` and one settings variable, before torch is imported), the other untouched, and this process lets them take
turns in slices of some tens of milliseconds. A ratio is taken within one round of turns and the median over all rounds is
shown: what the machine does besides hits both sides of a ratio alike. Each pair of children is replaced by a fresh one a few
times, because where a process happens to have its memory is worth a few percent and stays for its life.

    python bench/recorder.py             every program, under eight minutes on two cores; writes bench/results/recorder.*
    python bench/recorder.py --quick     a few rounds of each, writes nothing
    python bench/recorder.py --also before=../other-checkout    the recorder of another copy of the repository beside this one
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

#: The order of the table. `bare` and the modes that are not ours run in the untouched child, the others in an armed one.
NAMES = ("mlp", "cells", "lstm", "conv", "transformer")
UNTOUCHED = ("bare", "empty", "debug")
SHOWN = {
    "bare": "bare",
    "empty": "empty mode",
    "steps": "recorder, steps",
    "ops": "recorder, every op",
    "debug": "DebugMode",
}
#: Largest ratios of `ops` to `bare` that we allow ourselves, and bytes of spool an op.
AIMS = {"mlp": 3.0, "cells": 2.0, "lstm": 1.25, "conv": 1.15, "transformer": 1.10}
BYTES_AIM = 50.0

#: Seconds of bare steps in one turn.
SLICE = 0.06
#: DebugMode takes ten to twenty-five times as long: one round in so many has it, with a tenth of the steps.
DEBUG_EVERY, DEBUG_PART = 4, 10


@dataclass
class Options:
    """What the command line chose."""

    programs: list[str]
    seconds: float
    pairs: int
    threads: int
    clock: str
    quick: bool
    out: Path | None
    also: dict[str, Path]


# The child: one program, whose steps run when the parent says so.


def child(name: str, threads: int) -> None:
    """Serve turns on stdin and stdout, a JSON object a line, until stdin ends."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    import programs

    replies = os.fdopen(os.dup(1), "w")  # what torch might print must not end up between our lines
    os.dup2(2, 1)
    process = _recorder()
    step, title = programs.PROGRAMS[name]()
    setup = process.lanes[0].number() if process else 0
    for _ in range(5):
        step()
    facts = {"title": title, "dispatched": 0 if process else _dispatched(step), "setup": setup}
    print(json.dumps(facts), file=replies, flush=True)
    for line in sys.stdin:
        turn = json.loads(line)
        print(json.dumps(_take(turn["variant"], turn["steps"], turn["warm"], step, process)), file=replies, flush=True)


def _recorder() -> Any:
    """The recorder's Process object in an armed child, None in an untouched one.

    A hack for this benchmark alone: the recorder takes its modules out of `sys.modules` and gives no handle to the user's
    program, so the object is looked for among all objects that there are.
    """
    if b"REPRO_AUDIT=" not in Path("/proc/self/environ").read_bytes():  # `os.environ` does not show it
        return None
    for thing in gc.get_objects():
        kind = type(thing)
        if kind.__name__ == "Process" and kind.__module__ == "auditor.record.process":
            return thing
    sys.exit("bench: this process should have been armed and is not")


def _take(variant: str, steps: int, warm: int, step: Callable[[], None], process: Any) -> dict[str, float]:
    """Run one turn and say how long its steps took, and which records they wrote."""
    between: Callable[[], None] | None = None
    with ExitStack() as stack:
        if variant in ("ops", "steps"):
            if process.level.value != variant:
                process.modes.set_level(type(process.level)(variant))
        elif variant == "empty":
            stack.enter_context(_empty_mode())
        elif variant == "debug":
            between = _enter_debug_mode(stack)
        for _ in range(warm):
            step()
            if between:
                between()
        written = _written(process)
        cpu = wall = 0.0
        if between:
            for _ in range(steps):
                c, w = time.process_time(), time.perf_counter()
                step()
                cpu += time.process_time() - c
                wall += time.perf_counter() - w
                between()
        else:
            w, c = time.perf_counter(), time.process_time()
            for _ in range(steps):
                step()
            cpu = time.process_time() - c
            wall = time.perf_counter() - w
        return {"cpu": cpu / steps, "wall": wall / steps, **_since(written, _written(process))}


def _written(process: Any) -> tuple[int, int]:
    """Records and bytes of the table and event lines so far."""
    if process is None:
        return 0, 0
    lane = process.lanes[0]
    return lane.position(), lane.writer.lines.used


def _since(before: tuple[int, int], now: tuple[int, int]) -> dict[str, float]:
    return {"first": before[0] + 1, "last": now[0], "lines": now[1] - before[1]}


def _empty_mode() -> Any:
    """A mode that does nothing but call the op, spared Dynamo's wrapper as ours is: what any recorder in Python pays."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from auditor.record.mode import Unnoticed

    class Empty(Unnoticed, TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **kwargs) if kwargs else func(*args)

    return Empty()


def _enter_debug_mode(stack: ExitStack) -> Callable[[], None]:
    """Enter PyTorch's DebugMode with hashes of inputs and outputs; returns what empties its log, which it holds in memory."""
    from torch.utils._debug_mode import DebugMode

    mode = stack.enter_context(DebugMode())
    stack.enter_context(DebugMode.log_tensor_hashes(hash_fn="hash_tensor", hash_inputs=True))
    reset: Callable[[], None] = mode.reset
    return reset


def _dispatched(step: Callable[[], None]) -> int:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += 1
            return func(*args, **(kwargs or {}))

    with Counting() as mode:
        step()
    return mode.count


# The parent: turns, ratios, the table.


class Child:
    """One child process, armed with the recorder of `source` or (without) untouched."""

    def __init__(self, name: str, options: Options, source: Path | None, spool: Path) -> None:
        """Start it; `ready` waits until it is."""
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "REPRO_AUDIT")}
        # One hash seed for both: the order of a set, and with it where things lie, is then the same.
        environment["PYTHONHASHSEED"] = "0"
        # Freed memory stays with the process. By default glibc hands some of it back, and whether that happens within every
        # step is decided by how the heap came to lie: 1,200 to 3,000 page faults a step of the conv net, 3 to 8 % of it.
        environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
        self.spool = spool
        if source is not None:
            spool.mkdir(parents=True)
            boot = source / "auditor" / "record" / "boot"
            environment["PYTHONPATH"] = os.pathsep.join((str(boot), str(source)))
            settings = {"run": str(spool.parent), "spool": str(spool), "level": "ops", "launcher": os.getpid()}
            environment["REPRO_AUDIT"] = json.dumps(settings)
        command = [sys.executable, __file__, "--child", "--program", name, "--threads", str(options.threads)]
        self.process = subprocess.Popen(  # this very file
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ready(self) -> dict[str, Any]:
        """What the program is."""
        return self._reply()

    def take(self, variant: str, steps: int, warm: int) -> dict[str, float]:
        """Let it run some steps."""
        assert self.process.stdin is not None  # it was made with a pipe
        self.process.stdin.write(json.dumps({"variant": variant, "steps": steps, "warm": warm}) + "\n")
        self.process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None  # likewise
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"bench: the child of {self.process.args} ended with status {self.process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def end(self) -> None:
        """Let it end by itself, so that the spool gets its end mark."""
        assert self.process.stdin is not None  # likewise
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit(f"bench: a child ended with status {self.process.returncode}")


@dataclass
class Spool:
    """What the turns at one level wrote, by kind of file, for how many ops; `once` is what was written outside of them."""

    steps: int = 0
    ops: int = 0
    records: float = 0.0
    numbers: float = 0.0
    lines: float = 0.0
    once: float = 0.0

    def bytes_per_op(self) -> float:
        """What a further op costs: its records, its floats, its share of the step's event and of new table lines."""
        return (self.records + self.numbers + self.lines) / self.ops

    def ops_per_step(self) -> float:
        """Ops recorded in one step."""
        return self.ops / self.steps


@dataclass
class Measured:
    """What was measured of one program: seconds a step by variant, one entry a round (None where it took no turn)."""

    name: str
    title: str = ""
    dispatched: int = 0
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    spools: dict[str, Spool] = field(default_factory=dict)

    def ratios(self, variant: str, clock: str) -> list[float]:
        """Time over the bare time of the same round."""
        return [r[variant][clock] / r["bare"][clock] for r in self.rounds if variant in r]

    def ratio(self, variant: str, clock: str) -> float:
        """Median over the rounds."""
        return median(self.ratios(variant, clock))

    def bare(self, clock: str) -> float:
        """Seconds of a bare step."""
        return median(r["bare"][clock] for r in self.rounds)

    def added(self, variant: str, clock: str) -> float:
        """Microseconds added by the recorder for each op it recorded."""
        return median(r[variant][clock] - r["bare"][clock] for r in self.rounds) / self.spools[variant].ops_per_step() * 1e6


def measure(name: str, options: Options, say: Callable[[str], None]) -> Measured:
    """Let the children of one program take turns until the time is up, with a fresh pair now and then."""
    measured = Measured(name)
    for pair in range(options.pairs):
        say(f"{name}: children {pair + 1} of {options.pairs}")
        scratch = Path(tempfile.mkdtemp(prefix="repro-audit-bench-"))
        try:
            _measure_pair(measured, options, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return measured


def _measure_pair(measured: Measured, options: Options, scratch: Path) -> None:
    name = measured.name
    sources = {"": REPOSITORY, **options.also}
    bare = Child(name, options, None, scratch)
    armed = {label: Child(name, options, source, scratch / (label or "this") / "spool") for label, source in sources.items()}
    facts = bare.ready()
    measured.title, measured.dispatched = facts["title"], facts["dispatched"]
    for label, one in armed.items():
        measured.spools.setdefault(f"ops{label}", Spool())
        one.ready()
    begun = time.monotonic()
    turns: dict[str, tuple[Child, str]] = {"bare": (bare, "bare"), "empty": (bare, "empty")}
    for label, one in armed.items():
        turns[f"ops{label}"] = (one, "ops")
        turns[f"steps{label}"] = (one, "steps")
    second = bare.take("bare", 3, 2)["wall"]
    steps = max(1, round(SLICE / second))
    warm = 3 if steps > 20 else 1 if second < 0.1 else 0
    least = 2 if options.quick else 4
    taken: dict[str, list[dict[str, float]]] = {key: [] for key in turns}
    for number in itertools.count():
        if number >= least and (options.quick or time.monotonic() - begun > options.seconds / options.pairs):
            break
        # Turned back to front every other round: a drift within a round then pulls both ways.
        order = list(turns) if number % 2 == 0 else list(turns)[::-1]
        round_ = {}
        for key in order:
            one, variant = turns[key]
            round_[key] = one.take(variant, steps, warm)
            taken[key].append(round_[key])
        if number % DEBUG_EVERY == 0:
            round_["debug"] = bare.take("debug", max(1, steps // DEBUG_PART), min(warm, 1))
        measured.rounds.append(round_)
    bare.end()
    for label, one in armed.items():
        one.end()
        _read_spool(measured.spools[f"ops{label}"], one.spool, taken[f"ops{label}"], steps)


def _read_spool(spool: Spool, directory: Path, turns: list[dict[str, float]], steps: int) -> None:
    """Add up what the main lane of this run holds; refuse to report on a recorder that gave up."""
    import numpy as np

    from auditor.trace import HEADER_SIZE, MORE, RECORD_SIZE

    process = next(directory.iterdir())
    lines = (process / "0.jsonl").read_bytes().rstrip(b"\0")
    events = [json.loads(line) for line in lines.splitlines()]
    end = next((event for event in events if event["k"] == "end"), None)
    if end is None or any(event["k"] == "lost" for event in events):
        sys.exit(f"bench: the recorder gave up or lost something: {[e for e in events if e['k'] in ('lost', 'end')]}")
    kinds = {event["id"]: event["kind"] for event in events if event["k"] == "sig"}
    is_op = np.zeros(max(kinds) + 1, dtype=bool)
    is_op[[number for number, kind in kinds.items() if kind == "op"]] = True
    segments = sorted(process.glob("0.*.seg"), key=lambda path: int(path.name.split(".")[1]))
    words = np.concatenate([np.fromfile(path, dtype="<u4", offset=HEADER_SIZE) for path in segments])
    sigs = words.reshape(-1, RECORD_SIZE // 4)[:, -1]
    sigs = sigs[sigs != 0]
    op = np.zeros(len(sigs), dtype=bool)
    own = sigs != MORE
    op[own] = is_op[sigs[own]]
    ranges = [slice(int(t["first"]) - 1, int(t["last"])) for t in turns]
    ops = sum(int(op[one].sum()) for one in ranges)
    spool.steps += len(turns) * steps
    spool.ops += ops
    spool.records += sum(len(op[one]) for one in ranges) * RECORD_SIZE
    spool.lines += sum(t["lines"] for t in turns)
    spool.numbers += _bytes_used(process / "0.num") * ops / int(op.sum())  # the file does not say when it grew
    # setup, and what each op, place and module of the program is called
    spool.once = len(lines) - sum(t["lines"] for t in turns)


def _bytes_used(numbers: Path) -> int:
    """How much of a preallocated `.num` file holds something: groups of a count and as many numbers, then zeros."""
    import numpy as np

    floats = np.fromfile(numbers, dtype="<f8") if numbers.exists() else np.zeros(0)
    at = 0
    while at < len(floats) and floats[at] > 0:
        at += int(floats[at]) + 1
    return at * 8


def machine() -> dict[str, object]:
    """Versions and hardware; nothing that names the machine or its owner."""
    model = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open() as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {
        "torch": version("torch"),
        "xxhash": version("xxhash"),
        "python": platform.python_version(),
        "system": platform.system(),
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def as_json(all_measured: list[Measured], options: Options) -> dict[str, Any]:
    """Everything that was measured, for later comparison."""
    programs = {}
    for m in all_measured:
        variants: dict[str, Any] = {}
        for variant in dict.fromkeys(itertools.chain.from_iterable(m.rounds)):
            variants[variant] = {}
            for clock in ("cpu", "wall"):
                ratios = m.ratios(variant, clock)
                low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
                milliseconds = median(r[variant][clock] for r in m.rounds if variant in r) * 1e3
                variants[variant][clock] = {
                    "ratio": round(median(ratios), 4),
                    "quartiles": [round(low, 4), round(high, 4)],
                    "milliseconds": round(milliseconds, 4),
                }
            variants[variant]["rounds"] = len(ratios)
        for variant, spool in m.spools.items():
            variants[variant] |= {
                "microseconds_per_op": round(m.added(variant, options.clock), 3),
                "recorded_ops_per_step": round(spool.ops_per_step(), 2),
                "bytes_per_op": {
                    "all": round(spool.bytes_per_op(), 2),
                    "records": round(spool.records / spool.ops, 2),
                    "numbers": round(spool.numbers / spool.ops, 2),
                    "lines": round(spool.lines / spool.ops, 2),
                },
                "bytes_once": round(spool.once),
            }
        programs[m.name] = {
            "program": m.title,
            "dispatched_ops_per_step": m.dispatched,
            "aim": AIMS[m.name],
            "met": m.ratio("ops", options.clock) <= AIMS[m.name],
            "variants": variants,
        }
    return {
        "format": 1,
        "machine": machine(),
        "threads": options.threads,
        "clock": options.clock,
        "bytes_aim": BYTES_AIM,
        "programs": programs,
    }


def rows(all_measured: list[Measured], options: Options) -> tuple[list[str], list[list[str]]]:
    """The table: its head and its lines, as text."""
    clock = options.clock
    also = [f"{level}{label}" for label in options.also for level in ("steps", "ops")]
    head = ["program", "bare ms", "ops a step", SHOWN["empty"], SHOWN["steps"], SHOWN["ops"], "aim", "met"]
    head += [f"{label}: {level}" for label in options.also for level in ("steps", "every op")]
    head += [SHOWN["debug"], "µs an op", "bytes an op", f"≤ {BYTES_AIM:g}"]
    lines = []
    for m in all_measured:
        spool = m.spools["ops"]
        ratio, size = m.ratio("ops", clock), spool.bytes_per_op()
        lines.append(
            [
                m.name,
                f"{m.bare(clock) * 1e3:.2f}",
                f"{spool.ops_per_step():.0f} of {m.dispatched}",
                f"{m.ratio('empty', clock):.2f}",
                f"{m.ratio('steps', clock):.2f}",
                f"{ratio:.2f}",
                f"{AIMS[m.name]:.2f}",
                "yes" if ratio <= AIMS[m.name] else "no",
                *[f"{m.ratio(variant, clock):.2f}" for variant in also],
                f"{m.ratio('debug', clock):.1f}",
                " / ".join(f"{m.added(variant, clock):.1f}" for variant in m.spools),
                f"{size:.1f}",
                "yes" if size <= BYTES_AIM else "no",
            ]
        )
    return head, lines


def heading(options: Options) -> str:
    """One sentence on what the numbers are and where they were taken."""
    facts = machine()
    time_ = "CPU" if options.clock == "cpu" else "wall-clock"
    return (
        f"{time_} time of a step over that of the bare step, medians of interleaved rounds, torch threads: {options.threads}. "
        f"torch {facts['torch']}, xxhash {facts['xxhash']}, Python {facts['python']}, {facts['system']}, "
        f"{facts['cpus']} CPUs ({facts['cpu']})."
    )


def as_markdown(all_measured: list[Measured], options: Options) -> str:
    """The table as it is kept."""
    head, lines = rows(all_measured, options)
    parts = ["# What recording costs", "", heading(options), ""]
    parts += ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    parts += ["| " + " | ".join(line) + " |" for line in lines]
    parts += ["", *[f"* **{m.name}**: {m.title}" for m in all_measured], ""]
    parts += ["How to read it: [bench/README.md](../README.md). Quartiles and the other clock: recorder.json.", ""]
    return "\n".join(parts)


def show(all_measured: list[Measured], options: Options) -> None:
    """Print the table: coloured on a terminal, plain text elsewhere."""
    head, lines = rows(all_measured, options)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(caption=heading(options))
        for position, title in enumerate(head):
            table.add_column(title, justify="left" if position == 0 else "right")
        for line in lines:
            table.add_row(*[{"yes": "[green]yes", "no": "[red]no"}.get(cell, cell) for cell in line])
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    for line in (head, *lines):
        print("  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))))
    print(heading(options))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure what recording costs.")
    parser.add_argument("--program", action="append", choices=NAMES, help="only this one; may be given more than once")
    parser.add_argument("--quick", action="store_true", help="a few rounds of each, to see that it runs; writes nothing")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each program (default 60)")
    parser.add_argument("--pairs", type=int, default=3, help="how often fresh children are started (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="torch.set_num_threads (default 1)")
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu", help="the time that the table shows (default cpu)")
    parser.add_argument("--out", type=Path, help="folder for recorder.md and recorder.json (default bench/results)")
    parser.add_argument(
        "--also", action="append", default=[], metavar="LABEL=DIR", help="measure the recorder of this copy of the repository too"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, print, keep."""
    given = parse(sys.argv[1:])
    if given.child:
        child(given.program[0], given.threads)
        return
    also = {label: Path(where).resolve() for label, _, where in (word.partition("=") for word in given.also)}
    # A part of the table, or one of another kind, does not replace the whole one that is kept.
    whole = not (given.quick or given.program or also or given.clock != "cpu" or given.threads != 1)
    options = Options(
        programs=given.program or list(NAMES),
        seconds=given.seconds,
        pairs=1 if given.quick else given.pairs,
        threads=given.threads,
        clock=given.clock,
        quick=given.quick,
        out=given.out or (RESULTS if whole else None),
        also=also,
    )
    sys.path.insert(0, str(REPOSITORY))
    all_measured = [measure(name, options, lambda text: print(text, file=sys.stderr, flush=True)) for name in options.programs]
    show(all_measured, options)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "recorder.md").write_text(as_markdown(all_measured, options), encoding="utf-8")
        (options.out / "recorder.json").write_text(json.dumps(as_json(all_measured, options), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
