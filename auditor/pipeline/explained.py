"""Which finding explains a divergence: what its rule declares, and how its place, lanes or records relate to those of the divergence."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.judge import Explains, Rule
from auditor.results import Audit, Divergence, Explanation, Finding, Place
from auditor.source import Flow


def explanation(audit: Audit, rules: Sequence[Rule], flow: Flow | None) -> Explanation | None:
    """The finding that explains why the runs differ, the worst first; None if none does, or a proved cause already does.

    A factor that is proved goes before a finding, but where the rule says that pinning it only makes the fault repeat.
    """
    divergence = audit.divergence
    if divergence is None or audit.verdict != "diverged":
        return None
    known = {rule.id: rule.explains for rule in rules if rule.explains is not None and not rule.forecast}
    proved = any(cause.proved and cause.grade == "logical" for cause in audit.causes)
    for finding in audit.findings:
        explains = known.get(finding.rule)
        if explains is None or divergence.kind not in explains.kinds or (proved and not explains.symptom):
            continue
        if _is_about(finding, explains, divergence, flow):
            return Explanation(
                rule=finding.rule, relation=explains.relation, message=finding.message, instead=finding.instead, file=finding.file,
                line=finding.line, code=finding.code,
            )  # fmt: skip
    return None


def _is_about(finding: Finding, explains: Explains, divergence: Divergence, flow: Flow | None) -> bool:
    detail = divergence.detail
    if explains.relation == "lanes":
        return divergence.lane in (finding.evidence.get("lanes") or ())
    if explains.relation == "rows":
        return detail.row is not None and detail.row in (finding.evidence.get("rows") or ())
    if finding.file is None or finding.line is None:
        return False
    places: list[Place] = [
        Place(file=divergence.file, line=divergence.line),
        *(one for one in (detail.seen_at, detail.forward, detail.allocated) if one is not None),
    ]
    if any((one.file, one.line) == (finding.file, finding.line) for one in places):
        return True
    if explains.relation != "feeds" or flow is None:
        return False
    return any(flow.distance(finding.file, finding.line, None, one.file, one.line) is not None for one in places)
