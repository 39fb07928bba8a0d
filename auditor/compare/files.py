"""Files and folders that did not hold the same before a difference."""

from __future__ import annotations

from collections import Counter
from typing import Any

from auditor.compare.mismatch import Mismatch
from auditor.results import FileDifference, WhatOfFile
from auditor.trace.reader import LaneTrace


def differing_files(lane: LaneTrace, counterpart: LaneTrace, mismatch: Mismatch) -> list[FileDifference]:
    """Files read (and folders listed) before the mismatch whose content, or order, was not the same; and files read by one run only.

    What the runs had written themselves is no origin. A file of which one run has no digest is not compared.
    """
    seen: list[dict[tuple[str, str, int], dict[str, Any]]] = []
    for which, row in ((lane, mismatch.row_a), (counterpart, mismatch.row_b)):
        reads: dict[tuple[str, str, int], dict[str, Any]] = {}
        times: Counter[tuple[str, str]] = Counter()
        for event in which.events_of("file"):
            path, op = event["path"], event["op"]
            compared = op == "read" or (op in ("list", "write") and event.get("digest") is not None)
            if event["row"] <= row and compared:
                reads[path, op, times[path, op]] = event
                times[path, op] += 1
        seen.append(reads)
    found: dict[tuple[str, str], FileDifference] = {}
    for path, op, n in [*seen[0], *(key for key in seen[1] if key not in seen[0])]:
        a, b = seen[0].get((path, op, n)), seen[1].get((path, op, n))
        digests = [event.get("digest") for event in (a, b) if event]
        own = all(event.get("own") for event in (a, b) if event)
        if (path, op) in found or own or (a and b and (None in digests or digests[0] == digests[1])):
            continue
        event = a or b or {}
        found[path, op] = FileDifference(
            path=path, op=op, what=_what_of_file(op, a, b), file=event.get("file"), line=event.get("line"),
        )  # fmt: skip
    return list(found.values())


def _what_of_file(op: str, a: dict[str, Any] | None, b: dict[str, Any] | None) -> WhatOfFile:
    if a is None or b is None:
        return "one-run-only"
    if op != "list":
        return "other-content"
    return "other-order" if a.get("size") == b.get("size") else "other-names"
