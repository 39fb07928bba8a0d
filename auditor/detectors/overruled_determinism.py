"""Deterministic algorithms that are enabled at the start, disabled by another line, and off for the training that follows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_SETTER = re.compile(r"(use_deterministic_algorithms|set_deterministic_debug_mode)\s*\(")
_OFF = re.compile(_SETTER.pattern + r"\s*((debug_)?mode\s*=\s*)?(False|0|\"default\"|'default')")


#: More switches than this are intended.
_MOST_SWITCHES = 100


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per run, at the line that disables them for the last time.

    A switch for a part only (on and off in one function, a `with` line, a saved value that is restored) is no fault, and frequent
    switching is intended.
    """
    rows = runs[0].query(
        """WITH switched AS (
            SELECT *, count(*) OVER (PARTITION BY lane) AS times FROM events
            WHERE kind = 'setting' AND name = 'torch.are_deterministic_algorithms_enabled' AND NOT initial),
        trained AS (SELECT lane, min("row") AS begins, max("row") AS ends FROM records WHERE phase = 'backward' GROUP BY lane)
        SELECT s.lane, s.value = 'true' AS is_on, s.file, s.line, s.function, s.code, s."row" <= t.begins AS is_early,
            s."row" <= t.ends AS is_in_time
        FROM switched s JOIN trained t ON t.lane = s.lane WHERE s.times <= ? ORDER BY s.lane <> 'main', s.lane, s."row", s.nth""",
        _MOST_SWITCHES,
    )
    for _lane, of_lane in groupby(rows, lambda row: row["lane"]):
        on, off = _last_switches(of_lane)
        if on and off and on["is_early"] and off["is_in_time"] and _is_overruled(on, off):
            yield Hit(off["file"], off["line"], {"on_at": f"{on['file']}:{on['line']}"})
            return  # the same switch seen by another thread is the same fault


def _last_switches(rows: Iterable[dict[str, Any]]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Where it was turned on and, if it is off at the end, off; a function that turns it off and on again did neither."""
    on: dict[str, Any] | None = None
    off: dict[str, Any] | None = None
    for row in rows:
        if not row["is_on"]:
            off = row
            continue
        if off is None or _scope(off) != _scope(row):
            on = row
        off = None
    return on, off


def _scope(row: dict[str, Any]) -> tuple[object, object]:
    return row["file"], "with" if row["function"] in ("__enter__", "__exit__") else row["function"]


def _is_overruled(on: dict[str, Any], off: dict[str, Any]) -> bool:
    """Whether the second line undoes what the first set for the whole run."""
    if on["line"] is None or off["line"] is None or (on["file"], on["line"]) == (off["file"], off["line"]):
        return False
    if off["function"] in ("__exit__", "__del__", "tearDown"):
        return False
    if _scope(on) == _scope(off) and off["function"] not in ("<module>", "main"):
        return False
    code = off["code"] or ""
    if _SETTER.search(code):
        return _OFF.search(code) is not None
    return _SETTER.search(on["code"] or "") is not None  # a library turned it off by itself


DETECTOR = Detector("overruled-determinism", _find, Params, frozenset({"on_at"}))
