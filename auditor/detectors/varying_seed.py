"""A seed that changes from run to run: from the clock, the process id, `hash()`, or another source that the script used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_SEEDS = """SELECT e.lane, l.role, e."row", e.stream, e.op, e.value, e.file, e.line FROM events e JOIN lanes l USING (lane)
    WHERE e.kind = 'seed' AND NOT coalesce(e.entropy, false) AND e.value IS NOT NULL AND e.line IS NOT NULL AND l.role <> 'worker'
    ORDER BY e.lane, e."row", e.nth"""
_DRAWS = """SELECT d.lane, l.role, d.stream, list(d."row" ORDER BY d."row") AS rows, list(d.state ORDER BY d."row") AS states
    FROM "all" d JOIN lanes l USING (lane) WHERE d.kind = 'draw' GROUP BY d.lane, l.role, d.stream"""
_HOUR = 3600


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per place whose seeds, those of all lanes together, differ between the two runs.

    Which thread or process of a pool gets which task is chance, and so is the order in which they seed: the order is not compared. A seed
    that may be computed from numbers that were drawn differently before it, like that of a shuffling DataLoader, is no fault of its own:
    not in a worker, nor after a draw in another state of its lane or, in a thread or child, of the main lane. If its value shows its
    source, it is a fault.
    """
    if len(runs) < 2:
        return
    ours, theirs = (_at_places(run.query(_SEEDS)) for run in runs[:2])
    differing: dict[str, int] | None = None
    for place, rows in ours.items():
        here, there = (Counter(row["value"] for row in some) for some in (rows, theirs.get(place, [])))
        gone, new = here - there, there - here
        if not gone or not new:
            continue  # the same seeds, or one run came here more often than the other
        if differing is None:
            differing = _first_differing_draws(runs)
        changed = [row for row in rows if row["value"] in gone]
        sources = [_source(row["value"], runs[0], row["lane"]) for row in changed]
        told = [(row, source) for row, source in zip(changed, sources, strict=True) if source or not _may_follow(row, differing)]
        if told:
            row, source = told[0]
            values = {
                "stream": row["stream"], "op": row["op"], "a": row["value"], "b": next(iter(new)), "source": source,
                "subject": row["stream"],
            }  # fmt: skip
            yield Hit(row["file"], row["line"], values, lanes=tuple({one["lane"] for one, _ in told}))


def _at_places(seeds: Sequence[dict[str, Any]]) -> dict[tuple[object, ...], list[dict[str, Any]]]:
    found: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in seeds:
        found.setdefault((row["file"], row["line"], row["stream"], row["op"]), []).append(row)
    return found


def _first_differing_draws(runs: Sequence[Tables]) -> dict[str, int]:
    """For each lane the first row that drew from a stream in another state than in the second run; key `""`: that of any main thread."""
    found: dict[str, int] = {}
    theirs = {(row["lane"], row["stream"]): row["states"] for row in runs[1].query(_DRAWS)}
    for row in runs[0].query(_DRAWS):
        pairs = zip(row["rows"], row["states"], theirs.get((row["lane"], row["stream"]), []), strict=False)
        first = next((at for at, a, b in pairs if a != b), None)
        if first is not None:
            for lane in (row["lane"], "") if row["role"] == "main" else (row["lane"],):
                found[lane] = min(first, found.get(lane, first))
    return found


def _may_follow(seed: dict[str, Any], differing: dict[str, int]) -> bool:
    """Whether a seed may be made of numbers that differed before it."""
    at = differing.get(seed["lane"])
    return (at is not None and at < seed["row"]) or (seed["role"] != "main" and "" in differing)


def _source(value: str, run: Tables, lane: str) -> str:
    """Where a seed seems to come from, as a clause; empty if its source is unknown."""
    try:
        number = float(value)
    except ValueError:
        return ""
    facts: dict[str, Any] = run.run.lanes[lane].facts
    if number == facts.get("pid"):
        return ", which is the process id"
    started = float(facts.get("started") or 0)
    for unit, name in ((1, "seconds"), (1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")):
        if 0 <= number / unit - started < _HOUR * 24:
            return f", which is the clock's time in {name}"
    return ""


DETECTOR = Detector("varying-seed", _find, Params, frozenset({"stream", "op", "a", "b", "source"}))
