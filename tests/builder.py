"""Builds runs by hand: a few lines in a test stand for a recorded program.

    run = TraceBuilder(tmp_path / "a")
    lane = run.lane()
    x = lane.external([3, 4], line=1)
    y = lane.op("aten.relu.default", x, line=2)
    trace = run.sealed()

Records go through the real writer into a spool and through the real seal, and come back as the real reader's `Trace`. Whatever a test does
not set is filled in and the same in every run: the digest of a result follows from the op, its arguments and its inputs, so a difference
that is planted in one place propagates as in a real program. Lines have the form in which the probes write them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from auditor.trace import CUT, FORMAT, MORE, MORE_LIMIT, PHASES, RECORD, RECORD_SIZE, SUMS
from auditor.trace.reader import Trace, opened
from auditor.trace.writer import LaneWriter, Numbers

HOME = "/home/ada/work"

#: A digest, or any word that stands for a value: different words give different digests.
Digest = int | str
Array = npt.NDArray[Any]


def digest_of(value: object) -> int:
    """The digest for a value; a number is its own digest."""
    return value if isinstance(value, int) else xxh3_64_intdigest(repr(value).encode())


@dataclass(frozen=True)
class Tensor:
    """An output of an op: the number of the record that wrote it, and its digest."""

    number: int
    digest: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Kept:
    """A tensor kept by value capture. `data` None: only its digest; `digest` None: the digest of the bytes."""

    data: bytes | None
    shape: tuple[int, ...]
    dtype: str
    digest: int | None = None

    @classmethod
    def of(cls, array: Any, dtype: str | None = None) -> Kept:
        """An array as torch would keep it. For bfloat16 pass float32 numbers: their upper halves are kept."""
        values = np.asarray(array)
        data = values.astype(np.float32).view(np.uint32) >> 16 if dtype == "bfloat16" else values
        return cls(data.astype(np.uint16).tobytes() if dtype == "bfloat16" else data.tobytes(), values.shape, dtype or str(values.dtype))


def sketch_of(values: Any) -> tuple[float, ...]:
    """`elements, nonfinite, norm, largest, *sums` of an array.

    The signs differ from the recorder's; two sketches only need the same ones.
    """
    flat = np.asarray(values, np.float64).reshape(-1)
    finite = np.isfinite(flat)
    kept = np.where(finite, flat, 0.0)
    signs = np.random.default_rng(len(flat)).choice([-1.0, 1.0], len(flat))
    sums = np.bincount(np.arange(len(flat)) % SUMS, kept * signs, SUMS)
    return (len(flat), int(np.count_nonzero(~finite)), float(np.linalg.norm(kept)), float(np.abs(kept).max(initial=0.0)), *sums.tolist())


class TraceBuilder:
    """One run. `facts` are added to those that every run.json has."""

    def __init__(self, path: Path, *, pid: int = 1000, started: float = 1e9, cwd: str = HOME, **facts: Any) -> None:
        self.path = path
        self.pid = pid
        self.started = started
        self.cwd = cwd
        self.facts: dict[str, Any] = {
            "format": FORMAT, "id": path.name, "role": "control", "script": ["train.py"], "cwd": cwd, "exit": 0, "error": None,
            "written": {},
            "plan": {"script": ["train.py"], "level": "ops", "window": None},
        } | facts  # fmt: skip
        self.lanes: list[LaneBuilder] = []
        self._processes: dict[str, tuple[Path, int, Numbers]] = {}
        (path / "spool").mkdir(parents=True)
        (path / "run.json").write_text(json.dumps(self.facts))

    def lane(self, name: str = "main", identity: Sequence[int] = ()) -> LaneBuilder:
        """Open the lane of this role: `main`, `thread 2`, `worker 0`, `rank 1 worker 0`, `process 1.2`, `process eval.py`, `fork 1`."""
        words = name.split() if name != "main" else []
        parts = dict(zip(words[::2], words[1::2], strict=True))
        thread = parts.pop("thread", None)
        role: dict[str, object] = {key: int(parts[key]) for key in ("worker", "fork") if key in parts}
        process = parts.get("process", "")
        if process.replace(".", "").isdigit():
            identity = identity or [int(number) for number in process.split(".")]
        elif process:
            role["script"] = process
        folder, ordinal, numbers = self._process(str(sorted(parts.items())), parts.get("rank"), int(parts.get("fork", 0)))
        if thread is not None:
            role["thread"] = int(thread)
        lane = LaneBuilder(folder, ordinal, numbers, role, list(identity), self.started + len(self.lanes), self.path / "values")
        self.lanes.append(lane)
        return lane

    def _process(self, key: str, rank: str | None, fork: int) -> tuple[Path, int, Numbers]:
        folder, lanes, numbers = self._processes.get(key, (None, 0, Numbers()))
        if folder is None:
            pid = self.pid + len(self._processes)
            folder = self.path / "spool" / f"{pid}-{int(self.started):x}"
            folder.mkdir()
            facts = {
                "format": FORMAT, "pid": pid, "ppid": 1, "started": self.started, "argv": ["python", "train.py"],
                "executable": "/usr/bin/python3", "python": "3.11.2", "parent": "", "fork": fork, "rank": rank,
            }  # fmt: skip
            (folder / "process.json").write_text(json.dumps(facts))
        self._processes[key] = folder, lanes + 1, numbers
        return folder, lanes, numbers

    def spooled(self) -> Path:
        """Write the end marks, and leave the run unsealed."""
        for lane in self.lanes:
            lane.close()
        return self.path

    def sealed(self) -> Trace:
        """Write the end marks, seal and open the run."""
        return opened(self.spooled(), own=True)


class LaneBuilder:
    """One lane; records and events come in the order of the calls.

    `phase` and `module` apply to the records that follow; `file` is the file of their lines.
    """

    def __init__(
        self, folder: Path, ordinal: int, numbers: Numbers, role: dict[str, object], identity: list[int], started: float, values: Path
    ) -> None:
        self.writer = LaneWriter(str(folder), ordinal, numbers)
        self.line = self.writer.line
        self.phase = "setup"
        self.module = ""
        self.file = "train.py"
        self.path = folder / str(ordinal)
        self.killed = False
        self._buffer, self._offset, self._end, first = self.writer.next_segment(0)
        self.base = self.last = self.number = first - 1
        self._ids: dict[str, int] = {}
        self._tables: dict[tuple[str, str], int] = {}
        self._numbers: dict[tuple[float, ...], int] = {}
        self._values = values
        self._externals = 0
        self.line({"k": "lane", "base": self.base, "started": started, "role": role, "identity": identity})

    # records

    def external(
        self,
        shape: Sequence[int] = (3,),
        digest: Digest | None = None,
        *,
        rows: Digest = 0,
        dtype: str = "float32",
        stride: Sequence[int] | None = None,
        line: int | None = None,
    ) -> Tensor:
        """First use of an external tensor; `rows` is the digest of its rows as a set."""
        self._externals += 1
        value = digest_of(("external", self._externals) if digest is None else digest)
        sig = self.number_of("sig", kind="external", out=[[dtype, list(shape), stride and list(stride), "cpu"]])
        of_rows = digest_of(rows)
        self._record(sig, value, self._site(line), producers=[of_rows & 0xFFFFFFFF, of_rows >> 32])
        return Tensor(self.last, value, tuple(shape), dtype)

    def op(
        self,
        name: str,
        *inputs: Tensor | None,
        shape: Sequence[int] | None = None,
        dtype: str = "float32",
        stride: Sequence[int] | None = None,
        device: str = "cpu",
        args: object = None,
        numbers: Sequence[float] = (),
        digest: Digest | None = None,
        more: Sequence[Digest] = (),
        line: int | None = None,
        node: int = 0,
        drawn: int = 0,
        cut: bool = False,
        **unheard_of: object,
    ) -> Tensor:
        """One op. `more` are the digests of further outputs, `node` is the number of the autograd node that it created or runs for.

        `cut`: an input required a gradient, and the op created no node.
        """
        like = next((tensor for tensor in inputs if tensor is not None), None)
        out = list(shape if shape is not None else like.shape if like else (3,))
        went_in = [tensor.digest if tensor else 0 for tensor in inputs]
        value = digest_of((name, args, tuple(map(repr, numbers)), out, dtype, went_in, drawn) if digest is None else digest)
        meta = [dtype, out, stride and list(stride), device]
        sig = self.number_of("sig", kind="op", op=name, out=[meta] * (1 + len(more)), args=args, **unheard_of)
        digests = [value, *map(digest_of, more)]
        producers = [tensor.number if tensor else 0 for tensor in inputs]
        tail = min(max(len(digests) - 1, (len(producers) - 1) // 3, 0), MORE_LIMIT)
        digests = digests[: tail + 1] + [0] * (tail + 1 - len(digests))
        producers = producers[: 3 * (tail + 1)] + [0] * (3 * (tail + 1) - len(producers))
        number = self._record(sig, value, self._site(line), self._group(numbers), producers[:3], node, tail, cut=cut)
        for k in range(1, tail + 1):
            self._record(MORE, digests[k], producers=producers[3 * k : 3 * k + 3], where=0)
        return Tensor(number, value, tuple(out), dtype)

    def random(self, name: str, *inputs: Tensor | None, stream: str = "torch-cpu", state: Digest = "seeded", **how: Any) -> Tensor:
        """A random op with this generator state: the draw, then the op."""
        self.draw(stream, name, state, line=how.get("line"))
        return self.op(name, *inputs, drawn=digest_of(state), **how)

    def draw(self, stream: str, function: str, state: Digest, *, line: int | None = None) -> None:
        """A draw from a random stream in this state."""
        self._record(self.number_of("sig", kind="draw", stream=stream, function=function), digest_of(state), self._site(line))

    def sketched(self, *values: Any) -> None:
        """Sketches of the last op's outputs, slot by slot; None for a tensor without one."""
        for slot, value in enumerate(values):
            if value is not None:
                self.writer.sketch(self.number, slot, *sketch_of(value))

    def shadowed(self, *, excess: float, error: float = 1e-7, norm: float = 1.0, ulps: float = 1.0, slot: int = 0) -> None:
        """What the shadow of the last op measured."""
        self.writer.shadow(self.number, slot, 0, ulps, ulps / 4, error, norm, excess)

    # events

    def seed(
        self,
        stream: str,
        value: object = 0,
        *,
        state: Digest | None = None,
        function: str = "torch.Generator.manual_seed",
        entropy: bool = False,
        line: int | None = None,
    ) -> None:
        """Seed a random stream; its next state follows from the value."""
        seeded = digest_of(("seeded", stream, value) if state is None else state)
        self.event("seed", line, stream=stream, function=function, value=repr(value), entropy=entropy, state=seeded)

    def setting(self, name: str, value: object, *, initial: bool = False, line: int | None = None) -> None:
        """A determinism setting: its value when torch was imported, or a change of it."""
        self.event("setting", line, name=name, value=value, initial=initial)

    def step(self, **facts: object) -> None:
        """The end of a step; digests may be given as any value."""
        self.writer.steps += 1
        facts |= {key: digest_of(facts[key]) for key in ("parameters", "gradients", "state") if isinstance(facts.get(key), str)}
        self.event("step", None, step=self.writer.steps - 1, **facts)
        self.writer.progress(self.last)

    def read(self, path: str, content: Digest, *, op: str = "read", line: int | None = None) -> None:
        """A file that was opened for reading, or with `op="list"` a folder that was listed."""
        self.event("file", line, path=path, op=op, mode="r", digest=digest_of(content), size=1, partial=False)

    def event(self, kind: str, line: int | None = None, **facts: object) -> None:
        """Any rare event."""
        place = {} if line is None else {"file": self.file, "line": line, "func": "<module>"}
        self.line({"k": kind, "at": self.last, **facts, **place})

    def kept(self, **tensors: Kept | Array | float | list[Any]) -> None:
        """What value capture kept of the last op: `kept(in0=..., birth0=..., out0=...)`."""
        entries = []
        for slot, given in tensors.items():
            tensor = given if isinstance(given, Kept) else Kept.of(given)
            entry: dict[str, object] = {"slot": slot, "dtype": tensor.dtype, "shape": list(tensor.shape), "digest": tensor.digest}
            if tensor.digest is None:
                entry["digest"] = xxh3_64_intdigest(tensor.data or b"")
            if tensor.data is not None:
                self._values.mkdir(exist_ok=True)
                entry["file"] = f"{self.path.parent.name}-{self.path.name}-{self.last:x}-{slot}.bin"
                (self._values / str(entry["file"])).write_bytes(tensor.data)
            entries.append(entry)
        self.line({"k": "value", "at": self.last, "values": entries})

    def close(self) -> None:
        """Write the end mark, unless the process was killed."""
        if self.killed:
            self.writer.abandon()
        else:
            self.writer.close(self.last)

    # the bytes

    def define(self, table: str, **entry: object) -> int:
        """Write a new line of a table, even if the table has an equal one."""
        number = self._ids[table] = self._ids.get(table, 0) + 1
        self.line({"k": table, "id": number, **entry})
        return number

    def number_of(self, table: str, **entry: object) -> int:
        """The number of a line of a table; the line is written if it is missing."""
        key = table, repr(entry)
        if key not in self._tables:
            self._tables[key] = self.define(table, **entry)
        return self._tables[key]

    def _site(self, line: int | None) -> int:
        return 0 if line is None else self.number_of("site", file=self.file, line=line, func="<module>")

    def _group(self, floats: Sequence[float]) -> int:
        group = tuple(floats)
        if group and group not in self._numbers:
            self._numbers[group] = self.writer.numbers(group)
        return self._numbers[group] if group else 0

    def _record(
        self,
        sig: int,
        digest: int,
        site: int = 0,
        numbers: int = 0,
        producers: Sequence[int] = (),
        node: int = 0,
        more: int = 0,
        where: int | None = None,
        *,
        cut: bool = False,
    ) -> int:
        if where is None:
            module = self.number_of("module", path=self.module) if self.module else 0
            where = module << 16 | (PHASES.index(self.phase) | CUT * cut) << 8 | more
        if self._offset == self._end:
            self._buffer, self._offset, self._end, first = self.writer.next_segment(self.last)
            self.last = first - 1
        self.last += 1
        p0, p1, p2 = [*producers, 0, 0, 0][:3]
        struct.pack_into(RECORD, self._buffer, self._offset, digest, node, site, numbers, p0, p1, p2, where, sig)
        self._offset += RECORD_SIZE
        if sig != MORE:
            self.number = self.last
        return self.last
