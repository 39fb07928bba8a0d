"""A seed that is another one in each run: from the clock, the process id, `hash()`, or whatever else the script asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_SEEDS = """SELECT lane, stream, op, value, file, line, row_number() OVER (PARTITION BY lane, stream ORDER BY "row", nth) AS n
    FROM events WHERE kind = 'seed' AND NOT coalesce(entropy, false) AND value IS NOT NULL ORDER BY lane, "row", nth"""
_HOUR = 3600


@dataclass(frozen=True)
class Params:
    """Nothing to set."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit a place: the n-th seeds of a stream, at the same place by the same function, that have other values in the second run."""
    if len(runs) < 2:
        return
    theirs = {(row["lane"], row["stream"], row["n"]): row for row in runs[1].query(_SEEDS)}
    told = set()
    for row in runs[0].query(_SEEDS):
        other = theirs.get((row["lane"], row["stream"], row["n"]))
        place = (row["file"], row["line"], row["stream"])
        alike = other is not None and all(row[key] == other[key] for key in ("op", "file", "line"))
        # What is seeded from a seed differs as well, in workers: there it is no fault of its own.
        if other is None or not alike or row["value"] == other["value"] or place in told or row["lane"].startswith("worker"):
            continue
        told.add(place)
        source = _source(row["value"], runs[0], row["lane"])
        values = {
            "stream": row["stream"], "op": row["op"], "a": row["value"], "b": other["value"], "source": source, "subject": row["stream"],
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values)


def _source(value: str, run: Tables, lane: str) -> str:
    """Where a seed seems to come from, as a clause; empty if it looks like nothing known."""
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
