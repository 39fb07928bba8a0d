"""Arithmetic of narrow integers that was measured to wrap around."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """`deliberate`: ops (globs) next to which integers are meant to wrap. A factor from `multiplier` on belongs to a hash or generator."""

    deliberate: tuple[str, ...]
    multiplier: int


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line.

    Hashes and random generators wrap on purpose. They are recognized by bit operations before or after, and by their large factors.
    """
    bits = " OR ".join("op GLOB ?" for _ in params.deliberate) or "false"
    rows = runs[0].query(
        f"""WITH wrapped AS MATERIALIZED (
            SELECT m.lane, m."row", m.changed, m."values", r.op, r.file, r.line, r.module, r.in0, r.in1, r.in2,
                json_extract_string(r.out, '$[0][0]') AS dtype, json_extract_string(r.out, '$[0][1]') AS shape,
                list_bool_or([abs(TRY_CAST(n AS DOUBLE)) >= ? FOR n IN regexp_extract_all(coalesce(r.args, ''), '-?\\d+')]) AS factored
            FROM measured m JOIN records r ON r.lane = m.lane AND r."row" = m."row" WHERE m.what = 'overflow' AND m.changed > 0),
        bits AS (SELECT lane, "row", in0, in1 FROM records WHERE EXISTS (SELECT 1 FROM wrapped) AND ({bits})),
        meant AS (
            SELECT w.file, w.line FROM wrapped w JOIN bits b ON b.lane = w.lane AND b."row" IN (w.in0, w.in1, w.in2)
            UNION SELECT w.file, w.line FROM wrapped w JOIN bits b ON b.lane = w.lane AND b.in0 = w."row"
            UNION SELECT w.file, w.line FROM wrapped w JOIN bits b ON b.lane = w.lane AND b.in1 = w."row"
            UNION SELECT file, line FROM wrapped WHERE factored)
        SELECT file, line, first(op ORDER BY lane, "row") AS op, first(dtype ORDER BY lane, "row") AS dtype,
            first(shape ORDER BY lane, "row") AS shape, first(changed ORDER BY lane, "row") AS changed,
            first("values" ORDER BY lane, "row") AS of, count(*) AS times
        FROM wrapped w ANTI JOIN meant n ON n.file = w.file AND n.line = w.line GROUP BY file, line ORDER BY min("row")""",
        params.multiplier,
        *params.deliberate,
    )
    for row in rows:
        shape = str(row["shape"]).replace(",", ", ")
        values = {
            "op": row["op"], "dtype": row["dtype"], "shape": "(one number)" if shape == "[]" else shape,
            "wrapped": f"{row['changed']:,}", "of": f"{row['of']:,}",
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["times"])


DETECTOR = Detector("wrapped-integers", _find, Params, frozenset({"op", "dtype", "shape", "wrapped", "of"}))
