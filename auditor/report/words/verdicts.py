"""What a verdict is called."""

from __future__ import annotations

from auditor.report.words.programs import is_match
from auditor.results import Audit, Verdict

LABELS: dict[Verdict, str] = {
    "diverged": "DIVERGED",
    "no-divergence-seen": "NO DIVERGENCE SEEN",
    "inconclusive": "INCONCLUSIVE",
}


def verdict_label(audit: Audit) -> str:
    """The verdict in a word or two."""
    if is_match(audit):
        return {"diverged": "DIFFER", "no-divergence-seen": "AGREE", "inconclusive": "INCONCLUSIVE"}[audit.verdict]
    return LABELS[audit.verdict]
