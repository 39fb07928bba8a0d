"""A loss that is nan or infinite, and the op that made the first such value on the way to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """No settings."""


#: The results that are not finite and went into the loss, back to the first of each branch.
_WAY = """WITH RECURSIVE way AS (
        SELECT n.lane, n."row" FROM nonfinite n WHERE n.lane = ? AND n."row" = ?
        UNION
        SELECT n.lane, n."row" FROM way w JOIN uses u ON u.lane = w.lane AND u."row" = w."row" AND u.used < u."row"
        JOIN nonfinite n ON n.lane = u.lane AND n."row" = u.used),
    whole AS (
        SELECT w.*, n.nans, n.infinities, n.given, coalesce(max(m.nans), 0) AS nans_before, count(m."row") AS before
        FROM way w JOIN nonfinite n ON n.lane = w.lane AND n."row" = w."row"
        LEFT JOIN uses u ON u.lane = w.lane AND u."row" = w."row" AND u.used < u."row"
        LEFT JOIN nonfinite m ON m.lane = u.lane AND m."row" = u.used GROUP BY ALL)
    SELECT h.nans, h.infinities, h.given, h.nans_before, h.before, r.op, r.phase, r.step, r.file, r.line, r.forward_file, r.forward_line,
        r.code, r."row"
    FROM whole h JOIN records r ON r.lane = h.lane AND r."row" = h."row"
    WHERE h.before = 0 OR h.nans > 0 AND h.nans_before = 0 ORDER BY r."row" """


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per lane, at the op that made the first such value or, if no run searched for it, at the `backward()` of the loss."""
    run = runs[0]
    losses = run.query(
        """WITH losses AS (
            SELECT lane, loss, step, "row", count(DISTINCT step) OVER (PARTITION BY lane) AS steps,
                row_number() OVER (PARTITION BY lane ORDER BY "row", nth) AS nr
            FROM events WHERE kind = 'step' AND NOT isfinite(loss))
        SELECT l.lane, l.loss, l.step, l.steps, b.root, b.file, b.line FROM losses l
        ASOF LEFT JOIN (SELECT * FROM events WHERE kind = 'backward') b ON b.lane = l.lane AND l."row" >= b."row"
        WHERE l.nr = 1 ORDER BY l.lane <> 'main', l.lane"""
    )
    for loss in losses:
        values: dict[str, object] = {
            "loss": {"nan": "nan", "inf": "infinite", "-inf": "minus infinity"}[str(loss["loss"])],
            "step": loss["step"], "steps": "1 step" if loss["steps"] == 1 else f"{loss['steps']} steps", "origin": "",
        }  # fmt: skip
        way = run.query(_WAY, loss["lane"], loss["root"]) if loss["root"] is not None else []
        origin = next((row for row in way if not row["before"]), None)
        if origin is None:
            yield Hit(loss["file"], loss["line"], values, loss["steps"], lanes=(loss["lane"],))
            continue
        values |= {"op": origin["op"], "origin": _told(origin, way)}
        yield Hit(*_place(origin), values, loss["steps"], lanes=(loss["lane"],))


def _place(row: dict[str, Any]) -> tuple[str | None, int | None]:
    return (row["forward_file"], row["forward_line"]) if row["forward_line"] is not None else (row["file"], row["line"])


def _told(origin: dict[str, Any], way: list[dict[str, Any]]) -> str:
    """What happened at the op, and where an infinity later became a nan."""
    kind, many = ("nan", origin["nans"]) if origin["nans"] else ("infinite", origin["infinities"])
    what = f"{many} {kind} {'value' if many == 1 else 'values'}"
    when = f"in step {origin['step']}" + (", in the backward pass" if origin["phase"] == "backward" else "")
    if origin["given"]:
        text = f": {origin['op']} got external values that are not finite, and made {what} here {when}"
    else:
        text = f": {origin['op']} made {what} from finite inputs here {when}"
    turned = next((row for row in way if row["nans"] and not row["nans_before"] and row["row"] != origin["row"]), None)
    if turned is not None and not origin["nans"]:
        file, line = _place(turned)
        text += f", from which {turned['op']} made nan" + (f" in {file}:{line}" if line is not None else "")
    return text


DETECTOR = Detector("nonfinite-loss", _find, Params, frozenset({"loss", "step", "steps", "op", "origin"}), asks_where_not_finite=True)
