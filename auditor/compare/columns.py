"""Two lanes as arrays, so that a million ops of each are compared in seconds. Never holds a text per record: equal texts have equal codes.

A text that only has to be told from another is DuckDB's 64-bit hash of it; one that has to be read is a code into a table that both lanes
share. The index of every array is the row of the record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from auditor.compare.align import Sequence, family
from auditor.errors import TraceError
from auditor.trace import PHASES
from auditor.trace.database import connected
from auditor.trace.files import in_database
from auditor.trace.ops import OpSchema, leaves_unwritten
from auditor.trace.reader import LaneTrace
from auditor.trace.records import Output, listed, outputs_of, schema_in
from auditor.trace.schema import COLUMNS, SCHEMA_COLUMNS
from auditor.trace.signs import finalised

Array = npt.NDArray[Any]

_TEXTS = ("op", "args", "out")


class Facts(NamedTuple):
    """What is known of an op."""

    name: str
    family: str
    schema: OpSchema
    unwritten: bool


@dataclass
class Texts:
    """The texts that both lanes have, by their hashes."""

    hashes: dict[str, Array]
    texts: dict[str, list[str]]
    schemas: dict[str, OpSchema]

    @cached_property
    def ops(self) -> list[Facts]:
        """Of each code of an op what is known of it."""
        return [Facts(name, family(name), self.schemas.get(name, OpSchema()), leaves_unwritten(name)) for name in self.texts["op"]]

    @cached_property
    def metas(self) -> list[list[Output]]:
        """Of each code of an `out` the tensors."""
        return [outputs_of(text) for text in self.texts["out"]]

    @cached_property
    def of_metas(self) -> tuple[Array, Array, Array, Array]:
        """Of each code of an `out`: hash of dtypes and shapes, of all but the device, of the first shape, and elements of the largest."""
        keys = [
            (
                [(meta.dtype, meta.shape) for meta in metas],
                [(meta.dtype, meta.shape, meta.stride) for meta in metas],
                metas[0].shape if metas else (),
            )
            for metas in self.metas
        ]
        known: dict[str, int] = {}
        columns = [np.array([known.setdefault(repr(key[k]), len(known)) for key in keys], np.uint64) for k in range(3)]
        largest = np.array([max((min(meta.elements, 1 << 62) for meta in metas), default=0) for metas in self.metas], np.int64)
        return columns[0], columns[1], columns[2], largest


class Columns:
    """One lane."""

    def __init__(self, lane: LaneTrace, texts: Texts, found: dict[str, Array], tails: dict[int, tuple[list[int], list[int]]]) -> None:
        """Take what `lanes_as_columns` read."""
        self.lane = lane
        self.texts = texts
        self.kind: Array = found["kind"]
        self.index: Array = found["index"]
        self.step: Array = found["step"]
        self.phase: Array = found["phase"]
        self.digest: Array = found["digest"]
        self.numbers: Array = found["numbers"]
        self.floats: Array = found["floats"]
        self.module: Array = found["module"]
        self.site: Array = found["site"]
        self.in_module: Array = found["in_module"]
        self.inputs: Array = np.stack([found["in0"], found["in1"], found["in2"]], 1)
        self.listed: Array = found["listed"]
        self.op, self.args, self.out = (np.searchsorted(texts.hashes[name], found[name]) for name in _TEXTS)
        self._tails = tails

    def __len__(self) -> int:
        """Records."""
        return len(self.kind)

    @cached_property
    def compared(self) -> Array:
        """Rows of ops and external tensors."""
        return np.flatnonzero(self.kind != 0)

    @cached_property
    def sequence(self) -> Sequence:
        """What is aligned: ops and external tensors, without dtypes in what an op is for (autocast differs), nor devices anywhere."""
        rows = self.compared
        same, _, first_shape, _ = self.texts.of_metas
        kind, op, args, out = (column[rows].astype(np.uint64) for column in (self.kind, self.op, self.args, self.out))
        families: dict[str, int] = {}
        of_op = np.array([families.setdefault(facts.family, len(families)) for facts in self.texts.ops], np.uint64)
        exact = _mixed(kind, op, args, same[out])
        phase = self.phase[rows]
        loose = _mixed(kind, of_op[op], first_shape[out], self.module[rows], self.site[rows], phase.astype(np.uint64))
        return Sequence(exact, loose, self.step[rows], phase)

    def name(self, row: int) -> str:
        """The op of a record."""
        return self.texts.texts["op"][int(self.op[row])]

    def facts(self, row: int) -> Facts:
        """What is known of its op."""
        return self.texts.ops[int(self.op[row])]

    def metas(self, row: int) -> list[Output]:
        """The tensors that it made or wrote."""
        return self.texts.metas[self.out[row]]

    def arguments(self, row: int) -> list[Any]:
        """Arguments that are no tensors and no floats."""
        text = self.texts.texts["args"][self.args[row]]
        found = json.loads(text) if text else []
        return found if isinstance(found, list) else [found]

    def digests(self, row: int) -> list[int]:
        """One digest a tensor; of more than the trace holds, those that it does."""
        return self._tails[row][0] if row in self._tails and self._tails[row][0] else [int(self.digest[row])]

    def given(self, row: int) -> list[int]:
        """Rows of the records that last wrote what the op was given; negative: unknown."""
        if self.listed[row]:
            found = self._tails[row][1]
        else:
            found = [int(one) for one in self.inputs[row] if one != -1]
        return found[1:] if found and self.facts(row).schema.overwrites else found

    @cached_property
    def in_place(self) -> Array:
        """Whether a record's op writes the memory of its first input."""
        return np.array([facts.schema.in_place and not facts.schema.view for facts in self.texts.ops], bool)[self.op]

    @cached_property
    def before(self) -> Array:
        """Of each record that wrote in place the one that had written there before; of others, and of new memory, -1."""
        return np.where(self.in_place & (self.kind == 1), self.inputs[:, 0], -1)

    @cached_property
    def root(self) -> Array:
        """Of each record the one that made the memory that it wrote."""
        root = np.where(self.before >= 0, self.before, np.arange(len(self)))
        while not np.array_equal(further := root[root], root):
            root = further
        return root

    @cached_property
    def partial(self) -> Array:
        """Whether a record wrote only a part of its memory, so that what was there before counts."""
        largest = self.texts.of_metas[3][self.out]
        return (self.before >= 0) & (largest < largest[self.root])

    @cached_property
    def draw(self) -> Array:
        """Of each random op the row of the draw before it; -1 for others."""
        rows = np.arange(len(self))
        before = np.maximum(rows - 1, 0)
        drew = (rows > 0) & (self.kind == 1) & (self.kind[before] == 0) & (self.op[before] == self.op)
        return np.where(drew, before, -1)

    @cached_property
    def _views(self) -> tuple[Array, Array, Array]:
        """Views in the order of whose memory they show: that record and the row in one number, the row, running sums of what they are."""
        unwritten = np.array([facts.unwritten for facts in self.texts.ops], bool)[self.op]
        rows = np.flatnonzero((self.kind == 1) & (self.digest == 0) & (self.inputs[:, 0] >= 0) & ~unwritten)
        key = self.inputs[rows, 0].astype(np.int64) << 32 | rows
        order = np.argsort(key)
        key, rows = key[order], rows[order]
        out = self.texts.of_metas[0][self.out[rows]]
        what = _mixed(self.op[rows].astype(np.uint64), self.args[rows].astype(np.uint64), out)
        return key, rows, np.concatenate([[np.uint64(0)], np.cumsum(what, dtype=np.uint64)])

    def views(self, row: int, until: int) -> tuple[int, list[int]]:
        """How the memory that a record wrote was looked at before row `until`: a hash of all views, and the rows of the last of them."""
        key, rows, sums = self._views
        first, end = np.searchsorted(key, [row << 32, row << 32 | until]).tolist()
        return int(sums[end]) - int(sums[first]) & _WORD, rows[max(first, end - _VIEWS) : end].tolist()


#: Views of one tensor that are looked at, the last before it is used.
_VIEWS = 8
_WORD = (1 << 64) - 1


def lanes_as_columns(a: LaneTrace, b: LaneTrace) -> tuple[Columns, Columns]:
    """Read two lanes. Raises TraceError `trace-unreadable`."""
    import duckdb

    files = [in_database(lane.path.with_suffix(".parquet")) for lane in (a, b)]
    con = connected()
    try:
        texts = _texts(con, files)
        return Columns(a, texts, *_read(con, files[0])), Columns(b, texts, *_read(con, files[1]))
    except duckdb.Error as error:
        raise TraceError("trace-unreadable", f"{a.path.parent.parent} cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        con.close()


def _texts(con: Any, files: list[str]) -> Texts:
    hashes, texts = {}, {}
    for name in _TEXTS:
        rows = con.execute(f'SELECT DISTINCT hash("{name}") AS h, coalesce("{name}", \'\') FROM read_parquet(?) ORDER BY h', [files])
        found = rows.fetchall()
        hashes[name] = np.array([one for one, _ in found], np.uint64)
        texts[name] = [text for _, text in found]
    return Texts(hashes, texts, _schemas(con, files))


def _schemas(con: Any, files: list[str]) -> dict[str, OpSchema]:
    """What each op does to its arguments, by its name; what the two runs say is the same, unless one is an older one."""
    columns = ", ".join(f"NULL::{COLUMNS[name].type} AS {name}" for name in SCHEMA_COLUMNS)
    names = ", ".join(SCHEMA_COLUMNS)
    rows = con.execute(
        f"""SELECT DISTINCT op, {names} FROM (FROM read_parquet(?, union_by_name = true) UNION ALL BY NAME SELECT {columns} WHERE false)
        WHERE kind = 'op' ORDER BY in_place NULLS FIRST""",
        [files],
    )
    return {op: schema_in({"op": op, **dict(zip(SCHEMA_COLUMNS, said, strict=True))}) for op, *said in rows.fetchall()}


def _read(con: Any, file: str) -> tuple[dict[str, Array], dict[int, tuple[list[int], list[int]]]]:
    phases = " ".join(f"WHEN '{phase}' THEN {k}" for k, phase in enumerate(PHASES))
    found = con.execute(
        f"""SELECT CASE kind WHEN 'op' THEN 1 WHEN 'external' THEN 2 ELSE 0 END::UTINYINT AS kind, "index"::BIGINT AS "index",
            step::BIGINT AS step, CASE phase {phases} ELSE -1 END::BIGINT AS phase, digest::UBIGINT AS digest, hash(op) AS op,
            hash(args) AS args, hash(out) AS out, hash(numbers) AS numbers, hash(module) AS module, hash(file, line) AS site,
            coalesce(in0, -1)::BIGINT AS in0, coalesce(in1, -1)::BIGINT AS in1, coalesce(in2, -1)::BIGINT AS in2,
            inputs IS NOT NULL AS listed, module IS NOT NULL AND kind = 'op' AS in_module,
            numbers IS NOT NULL AS floats FROM read_parquet(?) ORDER BY "row\"""",
        [file],
    ).fetchnumpy()
    tails = con.execute(
        'SELECT "row", digests, inputs FROM read_parquet(?) WHERE digests IS NOT NULL OR inputs IS NOT NULL', [file]
    ).fetchall()
    of_rows = {row: (listed(digests, 16), listed(inputs)) for row, digests, inputs in tails}
    return {name: np.asarray(column) for name, column in found.items()}, of_rows


def _mixed(*columns: Array) -> Array:
    """One hash of several columns of integers: [n]."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = finalised(np, mixed * np.uint64(0x9E3779B97F4A7C15) + column.astype(np.uint64) + np.uint64(1))
    return mixed
