"""Which finding explains a divergence: what its rule declares, and how its place, lanes or records relate to those of the divergence."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.judge import Explains, Rule
from auditor.results import Audit, Divergence, Explanation, Finding, Place
from auditor.source import Flow


def attach_explanations(audit: Audit, rules: Sequence[Rule], flow: Flow | None) -> None:
    """Say which finding explains why the runs differ, and of which each cause is only the symptom."""
    audit.explained_by = explanation(audit, rules, flow)
    symptoms = {rule.id: rule.explains for rule in rules if rule.explains is not None and rule.explains.symptom and not rule.forecast}
    for cause in audit.causes:
        if cause.grade != "logical":
            continue
        places = _places(cause)  # what another cause led to may be seen at the same line
        for finding in audit.findings:
            explains = symptoms.get(finding.rule)
            if explains is not None and cause.kind in explains.kinds and _at(finding, explains, places, flow):
                cause.symptom_of = _explanation(finding, explains)
                break


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
            return _explanation(finding, explains)
    return None


def _explanation(finding: Finding, explains: Explains) -> Explanation:
    return Explanation(
        rule=finding.rule, relation=explains.relation, message=finding.message, instead=finding.instead, file=finding.file,
        line=finding.line, code=finding.code,
    )  # fmt: skip


def _is_about(finding: Finding, explains: Explains, divergence: Divergence, flow: Flow | None) -> bool:
    detail = divergence.detail
    if explains.relation == "rows":
        return detail.row is not None and detail.row in (finding.evidence.get("rows") or ())
    if explains.relation == "lanes" and divergence.lane in (finding.evidence.get("lanes") or ()):
        return True
    places = _places(Place(file=divergence.file, line=divergence.line), detail.seen_at, detail.forward, detail.allocated)
    return _at(finding, explains, places, flow)


def _places(*places: Place | None) -> list[Place]:
    return [one for one in places if one is not None and one.line is not None]


def _at(finding: Finding, explains: Explains, places: Sequence[Place], flow: Flow | None) -> bool:
    """Whether a finding is about one of some lines, or about what was made there."""
    if any(f"{one.file}:{one.line}" in (finding.evidence.get("lines") or ()) for one in places):
        return True
    if finding.file is None or finding.line is None:
        return False
    if any((one.file, one.line) == (finding.file, finding.line) for one in places):
        return True
    if explains.relation not in ("feeds", "lanes") or flow is None:
        return False  # what several lanes write may be read in one that writes none of it
    return any(flow.distance(finding.file, finding.line, None, one.file, one.line) is not None for one in places)
