"""Ops that are nondeterministic on a GPU, by a list in the rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_SWITCH = "torch.are_deterministic_algorithms_enabled"


@dataclass(frozen=True)
class Op:
    """An op (a glob), the arguments (globs, one must match) that make it nondeterministic, and the effect of strict determinism.

    `raises`: it has no deterministic form. `switch`: a setting that alone selects the deterministic form. `cost`: the cost of that form.
    `where`: the condition under which it is nondeterministic, if there is one.
    """

    op: str
    raises: bool
    args: tuple[str, ...] = ("*",)
    switch: str | None = None
    cost: str = ""
    where: str = ""


@dataclass(frozen=True)
class Params:
    """Which ops; if several match, the first."""

    ops: tuple[Op, ...]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line, for backward ops the line of the forward op.

    Only ops with a floating-point result: sums of whole numbers are the same in any order. If a switch is on at the end of the run, ops
    that have a deterministic form under it give no hit.
    """
    if not params.ops:
        return
    listed = [(k, one.op, args, one.raises, one.switch, one.cost, one.where) for k, one in enumerate(params.ops) for args in one.args]
    rows = runs[0].query(
        f"""WITH listed(nth, pattern, args, raises, switch, cost, varies) AS (VALUES {", ".join("(?, ?, ?, ?, ?, ?, ?)" for _ in listed)}),
        named AS (
            SELECT d.op, l.* FROM (SELECT DISTINCT op FROM records WHERE kind = 'op') d JOIN listed l ON d.op GLOB l.pattern),
        on_switches AS (SELECT lane, name FROM switches GROUP BY lane, name HAVING last(value ORDER BY "row", nth) = 'true'),
        uses AS (
            SELECT r.lane, r."row", r.step, r.op, coalesce(r.forward_file, r.file) AS at_file, coalesce(r.forward_line, r.line) AS at_line,
                first(n.raises ORDER BY n.nth) AS raises, first(n.switch ORDER BY n.nth) AS switch,
                first(n.cost ORDER BY n.nth) AS cost, first(n.varies ORDER BY n.nth) AS varies
            FROM records r JOIN named n ON n.op = r.op AND coalesce(r.args, '') GLOB n.args
            WHERE r.kind = 'op' AND regexp_matches(json_extract_string(r.out, '$[0][0]'), '^(b?float|complex)')
            GROUP BY ALL)
        SELECT at_file, at_line, op, raises, cost, varies, count(*) AS times, count(DISTINCT step) AS steps, min("row") AS moment
        FROM uses u WHERE raises OR NOT EXISTS (FROM on_switches s WHERE s.lane = u.lane AND (s.name = ? OR s.name = u.switch))
        GROUP BY at_file, at_line, op, raises, cost, varies ORDER BY moment, op""",
        *(value for entry in listed for value in entry),
        _SWITCH,
    )
    places: dict[tuple[str | None, int | None], list[dict[str, object]]] = {}
    for row in rows:
        places.setdefault((row["at_file"], row["at_line"]), []).append(row)
    for (file, line), found in places.items():
        raising = sorted({_name(row["op"]) for row in found if row["raises"]})
        formed: dict[str, set[str]] = {}
        for row in found:
            if not row["raises"]:
                formed.setdefault(str(row["cost"]), set()).add(_name(row["op"]))
        shown = {_name(row["op"]): f" (where {row['varies']})" if row["varies"] else "" for row in found}
        it = ["it" if len(shown) == 1 else "they"] if len(formed) + bool(raising) == 1 else None
        strict = [_have(it or sorted(ops), cost) for cost, ops in sorted(formed.items())]
        strictly = " and ".join([*strict, *([_raise(it or raising)] if raising else [])])
        names = [f"{op}{where}" for op, where in sorted(shown.items())]
        values = {"ops": ", ".join(names), "raises": bool(raising), "strictly": strictly}
        yield Hit(file, line, values, sum(int(str(row["times"])) for row in found), max(int(str(row["steps"])) for row in found))


def _name(op: object) -> str:
    """The op without its overload, which does not matter here."""
    return ".".join(str(op).split(".")[:2])


def _have(ops: list[str], cost: str) -> str:
    form = f"a deterministic form{f' ({cost})' if cost else ''}"
    return f"{' and '.join(ops)} {'have' if len(ops) > 1 or ops == ['they'] else 'has'} {form}"


def _raise(ops: list[str]) -> str:
    return f"{' and '.join(ops)} {'raise' if len(ops) > 1 or ops == ['they'] else 'raises'} an error"


DETECTOR = Detector("nondeterministic-op", _find, Params, frozenset({"ops", "raises", "strictly"}))
