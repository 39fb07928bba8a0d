"""A DataLoader that draws its base seed from the global torch stream, so that iterating it changes later draws."""

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
    """One hit per line that iterates such a loader.

    A base seed is one scalar integer, drawn by `random_`. A shuffling sampler draws one more and makes its own generator from it, whose
    permutation is the next draw. Such loaders are meant to draw and give no hit, and neither does a line that draws anything else. The
    later draw must come from the same seeding of the stream, must not be such a seed itself, and must be followed by more training.

    A loader for training gives no hit either: it is no addition to the training. Its batches are recognized on the line that iterates,
    where they are collated: a backward pass takes one as input, or runs between two of them. Batches that workers collate are not seen
    there; for those, backward ops before the next base seed are enough.
    """
    rows = runs[0].query(
        """WITH draws AS (
            SELECT d.lane, d."row", d.args AS stream, d.op, d.file, d.line, d.step,
                coalesce(d.op = 'aten.random_.default' AND o.op = d.op AND starts_with(o.out, '[["int64",[],'), false) AS is_seed
            FROM records d LEFT JOIN records o ON o.lane = d.lane AND o."row" = d."row" + 1
            WHERE d.kind = 'draw' AND d.args IN ('torch-cpu', 'torch-own')
                AND NOT EXISTS (FROM lanes l WHERE l.lane = d.lane AND l.role = 'worker')),
        followed AS (
            SELECT *, coalesce(is_seed AND lead(stream) OVER w = 'torch-own' AND lead(line) OVER w = line
                AND regexp_matches(lead(op) OVER w, '^aten.rand(perm|int)'), false) AS of_sampler
            FROM draws WINDOW w AS (PARTITION BY lane ORDER BY "row")),
        told AS (
            SELECT *, is_seed AND NOT of_sampler AS is_base, coalesce(lead(of_sampler) OVER w, false) AS shuffles
            FROM followed WINDOW w AS (PARTITION BY lane ORDER BY "row")),
        seeded AS (
            SELECT * EXCLUDE (seeds), sum(seeds) OVER (PARTITION BY lane ORDER BY "row", seeds DESC) AS since FROM (
                SELECT *, 0 AS seeds FROM told
                UNION ALL BY NAME
                SELECT lane, "row", 1 AS seeds FROM events WHERE kind = 'seed' AND stream = 'torch-cpu' AND NOT coalesce(entropy, false))),
        ahead AS (
            SELECT *, min(CASE WHEN is_base THEN "row" END) OVER after AS next_base,
                min(CASE WHEN stream = 'torch-cpu' AND NOT is_base THEN "row" END) OVER after_since AS next_other
            FROM seeded WHERE stream IS NOT NULL
            WINDOW after AS (PARTITION BY lane ORDER BY "row" ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING),
                after_since AS (PARTITION BY lane, since ORDER BY "row" ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)),
        plain AS (
            SELECT * FROM ahead a
            WHERE stream = 'torch-cpu' AND is_base AND NOT shuffles AND since > 0 AND line IS NOT NULL AND NOT EXISTS (
                SELECT 1 FROM ahead b WHERE b.file = a.file AND b.line = a.line AND NOT (b.is_base AND NOT b.shuffles))),
        trained AS (SELECT lane, "row" FROM records WHERE phase = 'backward'),
        until AS (SELECT lane, max("row") AS last FROM trained GROUP BY lane),
        beside AS (
            SELECT p.*, t."row" AS first_trained, coalesce(u.last > p.next_other, false) AS matters
            FROM plain p LEFT JOIN until u ON u.lane = p.lane
            ASOF LEFT JOIN trained t ON t.lane = p.lane AND t."row" > p."row"),
        batches AS (
            SELECT r.lane, r.file, r.line, r."row" FROM records r
            SEMI JOIN plain p ON p.lane = r.lane AND p.file = r.file AND p.line = r.line
            WHERE r.kind = 'op' AND r.phase <> 'backward' AND r.digest <> 0
                AND r.op NOT IN ('aten.random_.default', 'aten._local_scalar_dense.default')),
        loaders AS (
            SELECT t.file, t.line, bool_or(coalesce(t."row" > b.first_trained, false) OR u.used IS NOT NULL) AS trains
            FROM batches t ASOF LEFT JOIN beside b ON b.lane = t.lane AND b.file = t.file AND b.line = t.line AND t."row" > b."row"
            LEFT JOIN (SELECT DISTINCT lane, used FROM uses WHERE phase = 'backward') u ON u.lane = t.lane AND u.used = t."row"
            GROUP BY t.file, t.line)
        SELECT b.file, b.line, count(*) AS times, count(DISTINCT b.step) AS steps, list(DISTINCT b.lane) AS lanes,
            first(d.op ORDER BY b."row") AS drawn_by,
            first(d.file ORDER BY b."row") AS drawn_file, first(d.line ORDER BY b."row") AS drawn_line
        FROM beside b JOIN draws d ON d.lane = b.lane AND d."row" = b.next_other
        LEFT JOIN loaders l ON l.file = b.file AND l.line = b.line
        WHERE b.matters AND CASE WHEN l.line IS NULL THEN b.first_trained IS NULL OR b.first_trained > b.next_base ELSE NOT l.trains END
        GROUP BY b.file, b.line ORDER BY min(b."row")"""
    )
    for row in rows:
        at = f"in {row['drawn_file']}:{row['drawn_line']}" if row["drawn_line"] else "later"
        yield Hit(row["file"], row["line"], {"drawn_by": row["drawn_by"], "drawn_at": at}, row["times"], row["steps"], tuple(row["lanes"]))


DETECTOR = Detector("base-seed", _find, Params, frozenset({"drawn_by", "drawn_at"}))
