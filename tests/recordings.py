"""What the recorder wrote about one script, addressed by marks in its source: a line that ends in `# the sum` has the mark `the sum`."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from auditor.trace.reader import LaneTrace, Trace, opened
from tests.processes import audited, write


@dataclass(frozen=True)
class Row:
    """One record, with its lists split up."""

    row: int
    index: int
    kind: str
    op: str
    args: list[Any]
    numbers: str
    out: list[Any]
    digest: int
    digests: list[int]
    inputs: list[int]
    rows: int
    phase: str
    step: int
    module: str | None
    file: str | None
    line: int | None
    function: str | None
    forward_line: int | None
    what: int

    @property
    def stream(self) -> str:
        """The random stream of a draw."""
        return str(self.args)

    @property
    def shape(self) -> list[int]:
        """Shape of the first output."""
        shape: list[int] = self.out[0][1]
        return shape

    @property
    def dtype(self) -> str:
        """Element type of the first output."""
        return str(self.out[0][0])

    @property
    def stride(self) -> list[int] | None:
        """Strides of the first output; None if it is contiguous."""
        stride: list[int] | None = self.out[0][2]
        return stride


def row_of(found: dict[str, Any]) -> Row:
    """A record as the reader returns it, split up."""
    if found["inputs"] is None:
        inputs = [found[name] for name in ("in0", "in1", "in2") if found[name] is not None]
    else:
        inputs = [int(v) for v in found["inputs"].split()]
    given = found["args"]
    return Row(
        args=given if found["kind"] == "draw" else json.loads(given or "[]"),
        numbers=found["numbers"] or "",
        out=json.loads(found["out"] or "[]"),
        digests=[int(v, 16) for v in (found["digests"] or f"{found['digest']:x}").split()],
        inputs=inputs,
        **{
            name: found[name]
            for name in (
                "row", "index", "kind", "op", "digest", "rows", "phase", "step", "module", "file", "line", "function", "forward_line",
                "what",
            )
        },
    )  # fmt: skip


class Recorded:
    """One run of a script whose source is at hand."""

    def __init__(self, folder: Path, source: str, trace: Trace) -> None:
        self.folder = folder
        self.trace = trace
        self._marks = marks_of(source)
        self._rows: dict[str, list[Row]] = {}

    @property
    def main(self) -> LaneTrace:
        """The lane of the script's main thread."""
        return self.trace.lanes["main"]

    @cached_property
    def out(self) -> list[str]:
        """The lines that the script printed."""
        return (self.trace.path / "stdout").read_text().splitlines()

    def line(self, mark: str) -> int:
        """Number of the line with this mark."""
        return self._marks[mark]

    def rows(self, lane: str = "main") -> list[Row]:
        """All records of a lane."""
        if lane not in self._rows:
            self._rows[lane] = [row_of(found) for found in self.trace.lanes[lane].query('SELECT * FROM records ORDER BY "row"')]
        return self._rows[lane]

    def at(self, mark: str, kind: str = "op", lane: str = "main", file: str = "train.py") -> list[Row]:
        """Records of one kind from the marked line of the script."""
        return [r for r in self.rows(lane) if (r.kind, r.file, r.line) == (kind, file, self.line(mark))]

    def names(self, mark: str, lane: str = "main") -> list[str]:
        """Names of the ops from the marked line, without `aten.`."""
        return [r.op.removeprefix("aten.") for r in self.at(mark, lane=lane)]

    def op(self, mark: str, name: str = "", lane: str = "main") -> Row:
        """The only op of the marked line, or the only one with this name (without `aten.`)."""
        found = [r for r in self.at(mark, lane=lane) if not name or r.op in (name, "aten." + name)]
        assert len(found) == 1, f"{mark}: {[r.op for r in found or self.at(mark, lane=lane)]}"
        return found[0]

    def inputs(self, row: Row, lane: str = "main") -> list[Row]:
        """The records of the same lane that last wrote the inputs of an op."""
        return [self.rows(lane)[k] for k in row.inputs if k >= 0]

    def events(self, *kinds: str, lane: str = "main") -> list[dict[str, Any]]:
        """Rare events of a lane."""
        return self.trace.lanes[lane].events_of(*kinds)

    def draws(self, lane: str = "main") -> list[Row]:
        """All draws of a lane."""
        return [r for r in self.rows(lane) if r.kind == "draw"]

    def lost(self) -> list[str]:
        """What the recorder reports as missed, in any lane."""
        return [event["what"] for lane in self.trace.lanes.values() for event in lane.events_of("lost")]


def marks_of(source: str) -> dict[str, int]:
    """Line number of each mark."""
    found: dict[str, int] = {}
    for number, line in enumerate(textwrap.dedent(source).lstrip("\n").splitlines(), 1):
        _, hash_, mark = line.rpartition("  # ")
        if hash_:
            assert mark not in found, f"two lines have the mark {mark!r}"
            found[mark] = number
    return found


def record(folder: Path, source: str, *words: str, status: int = 0, **modules: str) -> Recorded:
    """Record `train.py` with this source and other modules beside it."""
    write(folder, train=source, **modules)
    done = audited(folder, "record", "-o", "run", *words, "train.py")
    assert done.status == status, done.said
    return Recorded(folder, source, opened(folder / "run"))
