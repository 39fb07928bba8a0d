"""A model whose output is the same for every input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit
from auditor.trace.records import outputs_of

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
#: Larger outputs are not compared with zeros, which would have to be allocated.
_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Params:
    """How many calls must return the same, and how many elements an output has at least."""

    calls: int = 3
    elements: int = 4


#: The calls of modules that no other module called (by the first part of the path), and the last value that each of them computed: where it
#: ends in a view, what the view is of. Losses and what is made of no floating numbers (masks, positions) may be constant.
_CALLS = r"""WITH numbered AS (SELECT * FROM module_rows),
    calls AS (
        SELECT lane, root, call, min("row") AS start, max("row") AS stop FROM numbered
        WHERE NOT contains(root, 'Loss') GROUP BY lane, root, call),
    ends AS (
        SELECT c.*, CASE WHEN r.digest = 0 THEN r.in0 ELSE r."row" END AS gave
        FROM calls c JOIN records r ON r.lane = c.lane AND r."row" = c.stop),
    outputs AS (
        SELECT e.lane, e.root, e.call, e.start, r.out, r.digest, r.file, r.line, r.op FROM ends e
        JOIN records r ON r.lane = e.lane AND r."row" = e.gave AND r.kind = 'op'
        JOIN records p ON p.lane = r.lane AND p."row" = r.in0
        WHERE e.gave >= e.start AND r.digest <> 0 AND regexp_matches(r.out, '^\[\["(float|bfloat)')
            AND regexp_matches(p.out, '^\[\["(float|bfloat)')
            AND NOT regexp_matches(r.op, '\.(zeros|ones|full|empty|rand|randn|new_\w+)(_like)?\.'))
"""


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per module, at the line that computes the output.

    The output must be the same in the last calls up to the end of the run, so a unit that is dead for one batch only, or a layer that
    starts with zeros, gives no hit. The input data must differ. Data is what neither an optimizer nor the module itself wrote: whether
    changing weights matter is not asked. Inputs are compared among calls that took equally many values, because the first call also takes
    weights and buffers, which later calls get from an optimizer or from the module. Outputs of different sizes are the same if all are
    zeros.
    """
    run = runs[0]
    shapes = [row["out"] for row in run.query(f"{_CALLS} SELECT DISTINCT out FROM outputs")]
    sizes = {out: _size(out) for out in shapes}
    kept = [out for out in shapes if sizes[out][0] >= params.elements]
    zeros = [_zeros(sizes[out][1]) for out in kept]
    rows = run.query(
        f"""{_CALLS},
        of_zeros AS (SELECT unnest(?::VARCHAR[]) AS out, unnest(?::UBIGINT[]) AS zero),
        seen AS (
            SELECT o.lane, o.root, o.call, o.start, o.file, o.line, o.op, o.digest = z.zero AS dead,
                CASE WHEN o.digest = z.zero THEN 'zeros' ELSE o.out || o.digest END AS value
            FROM outputs o JOIN of_zeros z ON z.out = o.out),
        last AS (SELECT lane, root, arg_max(value, start) AS value FROM seen GROUP BY lane, root),
        since AS (
            SELECT s.lane, s.root, max(s.start) FILTER (WHERE s.value IS DISTINCT FROM l.value) AS other
            FROM seen s JOIN last l ON l.lane = s.lane AND l.root = s.root GROUP BY s.lane, s.root),
        tail AS (
            SELECT s.* FROM seen s JOIN since t ON t.lane = s.lane AND t.root = s.root AND s.start > coalesce(t.other, -1)
            JOIN last l ON l.lane = s.lane AND l.root = s.root WHERE l.value IS NOT NULL),
        enough AS (SELECT lane, root FROM tail GROUP BY lane, root HAVING count(*) >= ?),
        taken AS (
            SELECT t.lane, t.root, t.start, u.used FROM tail t SEMI JOIN enough e ON e.lane = t.lane AND e.root = t.root
            JOIN numbered n ON n.lane = t.lane AND n.call = t.call JOIN uses u ON u.lane = n.lane AND u."row" = n."row"),
        data AS (
            SELECT t.lane, t.root, t.start, list(DISTINCT s.digest ORDER BY s.digest) AS went_in
            FROM taken t JOIN records s ON s.lane = t.lane AND s."row" = t.used
            WHERE (s."row" < t.start OR s.kind = 'external') AND s.phase <> 'optimizer' AND s.digest <> 0
                AND (s.kind = 'external' OR split_part(coalesce(s.module, ''), '.', 1) <> t.root)
            GROUP BY t.lane, t.root, t.start),
        counted AS (SELECT lane, root, count(DISTINCT went_in) AS inputs FROM data GROUP BY lane, root, len(went_in)),
        various AS (SELECT lane, root, max(inputs) AS inputs FROM counted GROUP BY lane, root HAVING max(inputs) > 1)
        SELECT t.lane, t.root, first(t.file ORDER BY t.start) AS file, first(t.line ORDER BY t.start) AS line,
            first(t.op ORDER BY t.start) AS op, count(*) AS calls, v.inputs, bool_and(t.dead) AS dead
        FROM tail t JOIN various v ON v.lane = t.lane AND v.root = t.root
        GROUP BY t.lane, t.root, v.inputs HAVING count(*) >= ? ORDER BY t.lane, min(t.start)""",
        kept,
        zeros,
        params.calls,
        params.calls,
    )
    for row in rows:
        values = {
            "module": row["root"], "op": row["op"], "calls": row["calls"], "inputs": row["inputs"],
            "what": "only zeros" if row["dead"] else "the same output", "subject": row["root"],
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["calls"], lanes=(row["lane"],))


def _size(out: str) -> tuple[int, int]:
    """How many elements a result has, and how many bytes; nothing for a result that has several parts or no plain dtype."""
    outputs = outputs_of(out)
    if len(outputs) != 1 or outputs[0].dtype not in _BYTES:
        return 0, 0
    return outputs[0].elements, outputs[0].elements * _BYTES[outputs[0].dtype]


def _zeros(size: int) -> int | None:
    """The digest of so many bytes of zeros."""
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(bytes(size)) if size <= _MOST_BYTES else None


DETECTOR = Detector("constant-output", _find, Params, frozenset({"module", "op", "calls", "inputs", "what"}))
