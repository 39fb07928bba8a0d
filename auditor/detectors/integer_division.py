"""Counts that are divided as integers, and then used as the fraction that is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_WHOLE = ("int64", "int32", "int16", "int8", "uint8")


@dataclass(frozen=True)
class Params:
    """Ops (globs): that count, that divide whole numbers to whole numbers, and that use a number as a number."""

    counts: tuple[str, ...]
    divisions: tuple[str, ...]
    arithmetic: tuple[str, ...]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line.

    Everything that uses the quotient must use it as a floating-point number, and not as a divisor: a value that is compared or used as an
    index is a position or a length. `.item()` is such a use only if the quotient is always 0 or 1 and at least once 0, as an accuracy is
    that was rounded down.
    """
    from xxhash import xxh3_64_intdigest

    # what a ratio of a part to its whole is rounded to
    zero, one = (xxh3_64_intdigest(number.to_bytes(8, "little")) for number in (0, 1))
    counts, divides, computes = (
        " OR ".join(f"{column} GLOB ?" for _ in globs) or "false"
        for column, globs in (("c.op", params.counts), ("d.op", params.divisions), ("r.op", params.arithmetic))
    )
    whole = ", ".join(f"'[[\"{dtype}\"'" for dtype in _WHOLE)
    rows = runs[0].query(
        f"""WITH quotients AS MATERIALIZED (
            SELECT d.lane, d."row", d.op, d.file, d.line, d.out, d.digest, c.op AS count_op FROM records d
            JOIN records c ON c.lane = d.lane AND c."row" = d.in0
            WHERE d.kind = 'op' AND d.phase NOT IN ('backward', 'optimizer') AND ({divides}) AND ({counts})
                AND split_part(d.out, ',', 1) IN ({whole}) AND split_part(c.out, ',', 1) IN ({whole}) AND d.line IS NOT NULL),
        used AS (
            SELECT q.lane, q."row", r.op GLOB 'aten._local_scalar_dense.*' AS as_item,
                regexp_matches(r.out, '^\\[\\["(b?float\\d+)"') AND ({computes})
                    AND NOT (r.op GLOB 'aten.div*' AND r.in0 IS DISTINCT FROM q."row") AS as_float
            FROM quotients q JOIN uses u ON u.lane = q.lane AND u.used = q."row" AND u."row" > q."row"
            JOIN records r ON r.lane = u.lane AND r."row" = u."row" WHERE r.digest <> 0),
        told AS (
            SELECT lane, "row", bool_or(as_float) AS in_float, bool_or(as_item) AS by_item, bool_and(as_float OR as_item) AS worth
            FROM used GROUP BY lane, "row")
        SELECT q.file, q.line, first(q.op ORDER BY q."row") AS op, first(q.count_op ORDER BY q."row") AS count_op, count(*) AS times,
            bool_and(list_contains(?, q.digest)) AND bool_or(q.digest = ?) AND bool_and(q.out GLOB '*,[[][]],*') AS all_or_nothing
        FROM quotients q JOIN told t ON t.lane = q.lane AND t."row" = q."row"
        GROUP BY q.file, q.line HAVING bool_and(t.worth) AND (bool_or(t.in_float) OR all_or_nothing) ORDER BY min(q."row")""",
        *params.divisions,
        *params.counts,
        *params.arithmetic,
        [zero, one],
        zero,
    )
    for row in rows:
        what = "only 0 or 1 is left" if row["all_or_nothing"] else "later ops use it in floating point"
        yield Hit(row["file"], row["line"], {"op": row["op"], "count_op": row["count_op"], "consequence": what}, row["times"])


DETECTOR = Detector("integer-division", _find, Params, frozenset({"op", "count_op", "consequence"}))
