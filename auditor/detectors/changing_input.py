"""A file whose content differs between both runs, and that is an input: a file that both runs wrote is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_READS = """SELECT lane, path, content, coalesce(own, false) AS own, file, line,
    row_number() OVER (PARTITION BY lane, path ORDER BY "row", nth) AS n
    FROM events WHERE kind = 'file' AND op = 'read' AND content IS NOT NULL ORDER BY lane, "row", nth"""


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per file, at the first line that read other content in the second run; the n-th read is compared with the n-th."""
    if len(runs) < 2:
        return
    theirs = {(row["lane"], row["path"], row["n"]): row for row in runs[1].query(_READS)}
    told = set()
    for row in runs[0].query(_READS):
        other = theirs.get((row["lane"], row["path"], row["n"]))
        if other is None or other["content"] == row["content"] or (other["own"] and row["own"]) or row["path"] in told:
            continue
        told.add(row["path"])
        yield Hit(row["file"], row["line"], {"path": row["path"], "subject": row["path"]})


DETECTOR = Detector("changing-input", _find, Params, frozenset({"path"}))
