"""What was compared, and what the recorder missed."""

from __future__ import annotations

from auditor.report.words.reasons import text_of
from auditor.report.words.text import counted, plain
from auditor.results import Audit


def covered(audit: Audit) -> str:
    """How much was compared, and how many of the ops wrote in place: the harmful ones are among the findings."""
    seen = audit.coverage
    compared = f"{counted(seen.ops, 'op')} compared in {counted(seen.lanes, 'lane')}"
    if not seen.in_place_writes:
        return compared
    return f"{compared}; {counted(seen.in_place_writes, 'in-place write')} in {counted(seen.in_place_lines, 'line')}"


def lost(audit: Audit) -> list[str]:
    """What the recorder knows that it missed, the same in several lanes or runs once."""
    found: dict[str, list[str]] = {}
    for one in audit.coverage.lost:
        times = counted(one.count, "time") if one.count > 1 else ""
        where = [plain(name) for name in (one.lane if one.lane != "main" else None, one.run) if name]
        seen = " in ".join(filter(None, [times, " of ".join(where)]))
        found.setdefault(plain(text_of(one.what)), []).append(seen)
    details = {what: "; ".join(dict.fromkeys(filter(None, seen))) for what, seen in found.items()}
    return [f"{what} ({seen})" if seen else what for what, seen in details.items()]
