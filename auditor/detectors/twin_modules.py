"""Two modules that look like one: the same inputs and parameters of the same shapes, drawn one after the other and so with other values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.detectors import Detector, Hit
from auditor.trace.records import outputs_of

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_RECURRENT = ("RNN", "LSTM", "GRU")
_NAMES = {2: ("weight_ih", "weight_hh"), 4: ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per pair, at the line that created the second module.

    Only modules of two classes that the user calls directly: layers within a network, ensembles, Siamese networks, teachers and students
    are of one class or lie within another module, and are meant to differ. If there is a backward pass, only a recurrent module and its
    cell are compared: an actor and a critic of equal shapes are trained separately and meant to differ.
    """
    pairs = _alike(runs[0])
    if not pairs:
        return
    trained = {row["lane"] for row in runs[0].query("SELECT DISTINCT lane FROM records WHERE phase = 'backward'")}
    for a, b in pairs:
        if a["lane"] in trained and not _is_cell(a["root"], b["root"]):
            continue
        shared = _shared_inputs(runs[0], a, b)
        if shared:
            yield Hit(b["made_file"], b["made_line"], _values(a, b), lanes=(b["lane"],))


def _alike(run: Tables) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of modules that have drawn parameters of equal shapes and no value in common."""
    rows = run.query(
        """WITH drawn AS (
            SELECT lane, "row", out, digest, file, line FROM records
            WHERE op IN ('aten.uniform_.default', 'aten.normal_.default') AND kind = 'op' AND module IS NULL),
        calls AS (
            SELECT lane, "row", split_part(module, '.', 1) AS root, file, line
            FROM records WHERE kind = 'op' AND module IS NOT NULL AND phase IN ('setup', 'forward')),
        taken AS (SELECT DISTINCT c.lane, c.root, u.used FROM calls c JOIN uses u ON u.lane = c.lane AND u."row" = c."row"),
        called AS (
            SELECT lane, root, first(file ORDER BY "row") AS file, first(line ORDER BY "row") AS line FROM calls GROUP BY lane, root)
        SELECT t.lane, t.root, first(c.file) AS file, first(c.line) AS line, list(d.out ORDER BY d."row") AS shapes,
            list(d.digest ORDER BY d."row") AS digests, first(d.file ORDER BY d."row") AS made_file,
            first(d.line ORDER BY d."row") AS made_line
        FROM taken t JOIN drawn d ON d.lane = t.lane AND d."row" = t.used JOIN called c ON c.lane = t.lane AND c.root = t.root
        GROUP BY t.lane, t.root HAVING count(*) > 1 ORDER BY t.lane, min(d."row")"""
    )
    first: dict[tuple[str, ...], dict[str, Any]] = {}
    pairs = []
    for row in rows:
        like = first.setdefault((row["lane"], *sorted(row["shapes"])), row)
        if like is not row and not set(like["digests"]) & set(row["digests"]):
            pairs.append((like, row))
    return pairs


def _is_cell(a: str, b: str) -> bool:
    return a != b and a.removesuffix("Cell") == b.removesuffix("Cell")


def _shared_inputs(run: Tables, a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether both got the same input: what only one of them read is an initial state of zeros or a parameter that was filled."""
    rows = run.query(
        """WITH taken AS (
            SELECT DISTINCT split_part(r.module, '.', 1) AS root, u.used FROM records r JOIN uses u ON u.lane = r.lane AND u."row" = r."row"
            WHERE r.lane = ? AND r.phase IN ('setup', 'forward') AND split_part(r.module, '.', 1) IN (?, ?)),
        given AS (
            SELECT t.root, s.digest, s.op IN ('aten.zeros.default', 'aten.zeros_like.default', 'aten.new_zeros.default',
                'aten.zero_.default', 'aten.fill_.Scalar') AS filled
            FROM taken t JOIN records s ON s.lane = ? AND s."row" = t.used
            WHERE split_part(coalesce(s.module, ''), '.', 1) <> t.root AND s.phase IN ('setup', 'forward')
                AND NOT list_contains(?, s.digest))
        SELECT digest, bool_and(filled) AS filled, count(DISTINCT root) AS takers FROM given GROUP BY digest""",
        a["lane"], a["root"], b["root"], a["lane"], [*a["digests"], *b["digests"]],
    )  # fmt: skip
    data = [row for row in rows if not row["filled"] and row["digest"]]
    return bool(data) and all(row["takers"] == 2 for row in data)


def _values(a: dict[str, Any], b: dict[str, Any]) -> dict[str, object]:
    shapes = [list(output.shape) for out in a["shapes"] for output in outputs_of(out)[:1]]
    names = _NAMES.get(len(shapes)) if _is_cell(a["root"], b["root"]) and a["root"].removesuffix("Cell") in _RECURRENT else None
    if names:
        plain, layered = (a["root"], b["root"]) if a["root"].endswith("Cell") else (b["root"], a["root"])
        copy = f"copy from {plain} to {layered} weight_ih -> weight_ih_l0, and so for {', '.join(names[1:])}"
    else:
        copy = "copy the parameters of shapes " + ", ".join(map(str, shapes)) + f" from {a['root']} to {b['root']}"
    return {
        "module": b["root"], "other": a["root"], "copy": copy, "parameters": len(shapes),
        "other_made_at": f"{a['made_file']}:{a['made_line']}",
        "called_at": f"{b['file']}:{b['line']}", "other_called_at": f"{a['file']}:{a['line']}", "subject": b["root"],
    }  # fmt: skip


DETECTOR = Detector(
    "twin-modules",
    _find,
    Params,
    frozenset({"module", "other", "copy", "parameters", "other_made_at", "called_at", "other_called_at"}),
)
