"""`x[i] += y` with an index that certainly repeats: of several additions to one element all but one are lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per line.

    The trace has no index values. An index certainly repeats if it read more elements than there are; if it read fewer, it may repeat,
    and there is no hit. The shape of an index is known only from what it read, hence only this form of write.
    """
    rows = runs[0].query(
        """WITH puts AS (
            SELECT lane, "row", in0, in1, coalesce(CAST(string_split(inputs, ' ')[-1] AS BIGINT), in2) AS given, out, file, line
            FROM records WHERE op = 'aten.index_put_.default' AND phase <> 'backward' AND NOT contains(coalesce(args, ''), 'true')),
        sums AS (
            SELECT p.*, taken.out AS taken FROM puts p
            JOIN records added ON added.lane = p.lane AND added."row" = p.given
                AND added.op IN ('aten.add_.Tensor', 'aten.add.Tensor', 'aten.sub_.Tensor', 'aten.sub.Tensor')
            JOIN records taken ON taken.lane = p.lane AND taken."row" = added.in0 AND taken.op = 'aten.index.Tensor'
                AND taken.in0 = p.in0 AND taken.in1 = p.in1 AND taken.line IS NOT DISTINCT FROM p.line),
        sizes AS (
            SELECT *, coalesce(list_product(CAST(taken->'$[0][1]' AS BIGINT[])), 1) AS took,
                coalesce(list_product(CAST(out->'$[0][1]' AS BIGINT[])), 1) AS there FROM sums)
        SELECT file, line, CAST(max(took) AS BIGINT) AS took, CAST(first(there ORDER BY took DESC) AS BIGINT) AS there, count(*) AS writes
        FROM sizes WHERE took > there GROUP BY file, line ORDER BY min("row")"""
    )
    for row in rows:
        yield Hit(row["file"], row["line"], {"took": row["took"], "there": row["there"]}, row["writes"])


DETECTOR = Detector("repeated-index-write", _find, Params, frozenset({"took", "there"}))
