"""A gradient that an update already used, and that the next backward pass adds to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.detectors import Detector, Hit, named

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per `backward()`, with the names of the leaves.

    A gradient is stale if its leaf was written after it (`leaf_written > before`), and wrong if its value after this or a later addition
    is used again. This excludes micro-batches, between which no leaf is written, and the gradients that a generator's loss leaves in a
    discriminator, which are zeroed before use.
    """
    rows = runs[0].query(
        """WITH linked AS (
            SELECT *, coalesce(before = lag(made) OVER (PARTITION BY lane, leaf ORDER BY "row"), false) AS goes_on FROM gradients),
        chained AS (
            SELECT *, count(*) FILTER (WHERE NOT goes_on) OVER (PARTITION BY lane, leaf ORDER BY "row") AS chain FROM linked),
        used AS (
            SELECT c.lane, c.leaf, c.chain, max(c."row") AS last FROM chained c JOIN uses u ON u.lane = c.lane AND u.used = c.made
            WHERE u."row" > c."row" AND u.phase <> 'backward' AND u.op NOT GLOB '*zero_*' GROUP BY c.lane, c.leaf, c.chain),
        stale AS (
            SELECT c.*, w.file AS used_file, w.line AS used_line
            FROM chained c JOIN used u ON u.lane = c.lane AND u.leaf = c.leaf AND u.chain = c.chain AND u.last >= c."row"
            JOIN records p ON p.lane = c.lane AND p."row" = c.before
            JOIN records w ON w.lane = c.lane AND w."row" = c.leaf_written
            WHERE c.leaf_written > c.before AND p.op NOT GLOB '*zero_*')
        SELECT file, line, leaf, count(*) AS times, count(DISTINCT step) AS steps, list(DISTINCT lane) AS lanes, min(step) AS since,
            min("row") AS moment,
            first(used_file ORDER BY "row") AS used_file, first(used_line ORDER BY "row") AS used_line,
            (SELECT list(DISTINCT leaf) FROM gradients g WHERE g.file = s.file AND g.line = s.line) AS leaves
        FROM stale s GROUP BY file, line, leaf ORDER BY file, line, moment"""
    )
    places: dict[tuple[str | None, int | None], list[dict[str, Any]]] = {}
    for row in rows:
        places.setdefault((row["file"], row["line"]), []).append(row)
    for (file, line), stale in places.items():
        names = [row["leaf"] for row in stale]
        siblings = sorted(set(stale[0]["leaves"]) - set(names))
        values = {
            "tensors": named(names, len(stale[0]["leaves"]), "tensor"), "since": stale[0]["since"],
            "used_at": f"{stale[0]['used_file']}:{stale[0]['used_line']}" if stale[0]["used_line"] else "an update",
            "siblings": f"; {named(siblings, 0, 'tensor')} {'is' if len(siblings) == 1 else 'are'} zeroed" if siblings else "",
            "subject": " ".join(sorted(names)),
        }  # fmt: skip
        lanes = tuple(sorted({lane for row in stale for lane in row["lanes"]}))
        yield Hit(file, line, values, max(row["times"] for row in stale), max(row["steps"] for row in stale), lanes)


DETECTOR = Detector("stale-gradient", _find, Params, frozenset({"tensors", "used_at", "since", "siblings"}), zeroes=True)
