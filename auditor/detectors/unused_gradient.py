"""A gradient that is computed step after step and that no update uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from auditor.detectors import Detector, Hit, named

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

#: Records behind a backward pass that are looked through for its use.
_MOST = 100_000


@dataclass(frozen=True)
class Params:
    """`all`: no gradient of a backward pass is used; `some`: those of some tensors are not, and others are.

    `zeroed`: they are not, because they are zeroed before the optimizer's next step; those are excluded from the other two.
    """

    of: Literal["all", "some", "zeroed"]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per `backward()` whose gradients (all, or some) only zeroing reads, in a script that has optimizer steps.

    If they are zeroed before their step, in nine of ten steps, the hit is at the zeroing.

    A leaf whose gradient is used after another backward pass gives no hit: a generator's loss also gives the discriminator gradients.
    Neither do unnamed leaves (such as the inputs of a checkpointed segment), those on which `backward()` itself is called (`cut_graph.py`
    reports them), sparse gradients, which have no storage to follow, and gradients that something else writes within the backward pass,
    as DistributedDataParallel does. Leaves that changed without a recorded op, by compiled code or NumPy, were updated somehow, and no
    gradient of theirs is called unused. Nor is that of a pass whose other results reach an update, such as per-sample gradients that a
    hook computes, or that of a tensor that is no leaf. If other gradients of the pass are used, only parameters of modules are reported:
    another tensor may be an input whose gradient is inspected.
    """
    rows = runs[0].query(
        """WITH known AS (
            SELECT g.* FROM gradients g WHERE g.leaf NOT GLOB 'a tensor of shape*' AND (g.lane, g.leaf) NOT IN (
                SELECT (lane, leaf) FROM records WHERE leaf IS NOT NULL AND phase = 'backward' AND out GLOB '*sparse*')
            AND (g.lane, g.leaf) NOT IN (SELECT (lane, leaf) FROM unseen WHERE leaf IS NOT NULL)
            AND (g.lane, coalesce(g.leaf_written, -1)) NOT IN (SELECT (lane, root) FROM events WHERE kind = 'backward' AND root >= 0)),
        touched AS (
            -- what is written over a gradient (DDP copies the reduced one there) makes it one that is cared for
            SELECT lane, "row", used, op, in_place, phase FROM uses
            UNION ALL SELECT lane, "row", in0, op, true, phase FROM writes WHERE in0 >= 0),
        used AS (
            SELECT DISTINCT g.lane, g.leaf FROM known g JOIN touched u ON u.lane = g.lane AND u.used = g.made
            WHERE u."row" > g."row" AND u.op NOT GLOB '*zero_*' AND (u.phase <> 'backward' OR u.in_place AND NOT EXISTS (
                SELECT 1 FROM gradients h WHERE h.lane = u.lane AND h."row" = u."row"))),
        zeroing AS (
            SELECT z.lane, o.optimizer, z."row", min(z.nth) AS nth, arg_min(z.file, z.nth) AS file, arg_min(z.line, z.nth) AS line
            FROM events z JOIN (SELECT DISTINCT lane, optimizer FROM held) o
            ON o.lane = z.lane AND coalesce(z.optimizer, o.optimizer) = o.optimizer
            WHERE z.kind = 'zeroed' GROUP BY z.lane, o.optimizer, z."row"),
        steps AS (
            SELECT lane, optimizer, "row", min(nth) AS nth FROM events WHERE kind = 'step' AND optimizer IS NOT NULL
            GROUP BY lane, optimizer, "row"),
        waiting AS (
            SELECT g.lane, g."row", g.leaf, h.optimizer FROM known g ANTI JOIN used u ON u.lane = g.lane AND u.leaf = g.leaf
            JOIN (SELECT DISTINCT lane, optimizer, leaf FROM held) h ON h.lane = g.lane AND h.leaf = g.leaf),
        zeroed AS (
            SELECT w.lane, w.leaf, arg_min(z.file, w."row") AS file, arg_min(z.line, w."row") AS line, count(DISTINCT s."row") AS times
            FROM waiting w ASOF JOIN steps s ON s.lane = w.lane AND s.optimizer = w.optimizer AND s."row" > w."row"
            ASOF LEFT JOIN zeroing z ON z.lane = w.lane AND z.optimizer = w.optimizer AND z."row" > w."row"
            GROUP BY w.lane, w.leaf HAVING count(*) FILTER (WHERE z.nth < s.nth) >= 0.9 * count(*))
        SELECT g.file, g.line, g.leaf, count(*) AS times,
            count(DISTINCT g.step) AS in_steps, list(DISTINCT g.lane) AS lanes, min(g."row") AS moment, u.leaf IS NOT NULL AS is_used,
            z.leaf IS NOT NULL AS is_zeroed, any_value(z.file) AS zeroed_file, any_value(z.line) AS zeroed_line, any_value(z.times) AS steps
        FROM known g LEFT JOIN used u ON u.lane = g.lane AND u.leaf = g.leaf LEFT JOIN zeroed z ON z.lane = g.lane AND z.leaf = g.leaf
        WHERE g.lane IN (
            SELECT lane FROM records WHERE phase = 'optimizer'
            UNION SELECT lane FROM events WHERE kind = 'step' AND (? <> 'all' OR optimizer IS NOT NULL))
        GROUP BY g.file, g.line, g.leaf, u.leaf, z.leaf HAVING count(*) > 1 ORDER BY moment""",
        params.of,
    )
    places: dict[tuple[str | None, int | None], list[dict[str, Any]]] = {}
    for row in rows:
        zeroed = params.of == "zeroed" and row["is_zeroed"]
        places.setdefault((row["zeroed_file"], row["zeroed_line"]) if zeroed else (row["file"], row["line"]), []).append(row)
    for (file, line), leaves in places.items():
        unused = [row for row in leaves if not row["is_used"] and row["is_zeroed"] == (params.of == "zeroed")]
        if not unused or (params.of != "zeroed" and (len(unused) == len(leaves)) != (params.of == "all")):
            continue
        if params.of == "all" and _reaches_an_update(runs[0], unused[0]["lanes"][0], unused[0]["moment"]):
            continue
        names = list(dict.fromkeys(row["leaf"] for row in unused))
        if params.of == "some" and not all("." in name for name in names):
            continue
        first = unused[0]
        values: dict[str, object] = {
            "tensors": named(names, len(leaves), "tensor"), "subject": " ".join(sorted(names)),
            "backward_at": f"in {first['file']}:{first['line']}" if first["line"] is not None else "before",
        }  # fmt: skip
        lanes = tuple(sorted({lane for row in unused for lane in row["lanes"]}))
        times = max(row["steps" if params.of == "zeroed" else "times"] for row in unused)
        yield Hit(file, line, values, times, max(row["in_steps"] for row in unused), lanes)


def _reaches_an_update(run: Tables, lane: str, moment: int) -> bool:
    """Whether the next step of an optimizer reads anything that the backward pass around a row computed."""
    (around,) = run.query(
        """SELECT coalesce(max("row") FILTER (WHERE phase <> 'backward' AND "row" < $2) + 1, 0) AS "begin",
            min("row") FILTER (WHERE phase <> 'backward' AND "row" > $2) AS "end",
            min("row") FILTER (WHERE phase = 'optimizer' AND "row" > $2) AS steps FROM records WHERE lane = $1""",
        lane,
        moment,
    )
    begin, end, steps = around["begin"], around["end"], around["steps"]
    if end is None or steps is None:
        return False
    reached = set(range(begin, end))
    for edge in run.query(
        'SELECT "row", used, phase FROM uses WHERE lane = ? AND "row" BETWEEN ? AND ? AND used >= ? ORDER BY "row"',
        lane, end, end + _MOST, begin,
    ):  # fmt: skip
        if edge["phase"] == "forward" and edge["row"] > steps:
            return False
        if edge["used"] in reached:
            if edge["phase"] == "optimizer":
                return True
            reached.add(edge["row"])
    return False


DETECTOR = Detector("unused-gradient", _find, Params, frozenset({"tensors", "backward_at"}))
