"""Applies rules to a run: one finding per fault, however often it occurred and in however many ranks or workers.

A finding is about the user's code: an event without a line there gives none, unless the rule says otherwise. What a launcher or a library
does by itself has no such line.

`rules.py` defines the rules; `conditions.py` or a detector finds the events that match. What the user has accepted is removed afterwards:
by a comment beside the line or by a baseline (`acceptance.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.errors import TraceError
from auditor.judge.acceptance import Allowance, allowances, read_baseline, without_allowed, without_baseline, write_baseline
from auditor.judge.conditions import FIELDS, Match, sql_condition
from auditor.judge.rule_script import read_rule_script
from auditor.judge.rules import PLACEHOLDER, Explains, Rule, RuleFile, chosen, load_rules, params_of, schema
from auditor.judge.tolerances import load_tolerances
from auditor.results import Finding, Level
from auditor.trace.lanes import LaneKey, in_order

if TYPE_CHECKING:
    from auditor.detectors import Detector, Hit
    from auditor.trace.tables import Tables


#: Most severe first.
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


def judge(runs: Sequence[Tables], rules: Iterable[Rule], detectors: Mapping[str, Detector]) -> list[Finding]:
    """All findings of the first run, most severe first; the other runs are only compared with it.

    A rule that does not apply to the run's torch version finds nothing.
    """
    found: list[Finding] = []
    version = _torch_of(runs[0])
    for rule in rules:
        if not rule.holds_for(version):
            continue
        try:
            found += _findings(rule, runs, detectors)
        except TraceError:
            raise
        except Exception as error:  # noqa: BLE001  # one rule that fails must not cost the user the audit
            said = str(error).partition("\n")[0]
            found.append(Finding(rule=rule.id, level="note", message=f"the rule could not be applied: {type(error).__name__}: {said}"))
    return sorted(found, key=lambda f: (LEVELS.index(f.level), f.file or "", f.line or 0, f.rule))


def _torch_of(run: Tables) -> str | None:
    """The torch version of a run; None if none of its processes recorded it."""
    return next((str(lane.facts["torch"]) for lane in run.run.lanes.values() if lane.facts.get("torch")), None)


def _findings(rule: Rule, runs: Sequence[Tables], detectors: Mapping[str, Detector]) -> list[Finding]:
    hits: Iterable[Hit]
    if rule.match is not None:
        hits = _matching(rule.match, runs[0])
    else:
        detector = detectors[rule.detector or ""]
        hits = detector.find(runs, params_of(detector.params).validate_python(rule.params))
    made = _merged(hit for hit in hits if hit.line is not None or not rule.needs_line)
    return [_finding(rule, hit, runs[0]) for hit in made]


def _matching(match: Match, run: Tables) -> Iterator[Hit]:
    """The matching events: one hit for each place in the user's code, described by its first event."""
    from auditor.detectors import Hit

    condition, given = sql_condition(match)
    firsts = ", ".join(f'first("{name}" ORDER BY "row", nth NULLS LAST) AS "{name}"' for name in FIELDS if name not in ("file", "line"))
    for row in run.query(
        "SELECT file, line, count(*) AS count, count(DISTINCT step) FILTER (WHERE phase IS DISTINCT FROM 'setup') AS steps, "
        "list(DISTINCT lane) AS lanes, "
        f'{firsts} FROM "all" WHERE {condition} GROUP BY file, line ORDER BY min("row"), file, line',
        *given,
    ):
        yield Hit(row["file"], row["line"], {name: row[name] for name in FIELDS}, row["count"], row["steps"], tuple(row["lanes"]))


def _merged(hits: Iterable[Hit]) -> list[Hit]:
    """Merge the hits of lanes that did the same at one place into one, described by the first."""
    made: dict[tuple[object, ...], list[Hit]] = {}
    for hit in hits:
        known = made.setdefault((hit.file, hit.line, hit.values.get("subject")), [])
        for k, one in enumerate(known):
            if hit.values == one.values or (hit.lanes and one.lanes and not set(hit.lanes) & set(one.lanes)):
                lanes = tuple({*one.lanes, *hit.lanes})
                known[k] = replace(one, count=one.count + hit.count, steps=max(one.steps, hit.steps), lanes=lanes)
                break
        else:
            known.append(hit)
    return [hit for known in made.values() for hit in known]


def _finding(rule: Rule, hit: Hit, run: Tables) -> Finding:
    steps = max((lane.steps for lane in run.run.lanes.values()), default=0)
    said = {**hit.values, "count": hit.count, "often": _step_share(hit.steps, steps)}
    message = PLACEHOLDER.sub(lambda name: str(said.get(name[1], name[0])), rule.message) + _in_lanes(hit.lanes)
    evidence = {name: value for name, value in hit.values.items() if value is not None and name not in ("file", "line", "code")}
    if set(hit.lanes) - {"main"}:
        evidence["lanes"] = sorted(hit.lanes, key=in_order)
    code = hit.values.get("code") or (run.code_at(hit.file, hit.line) if hit.file and hit.line else None)
    return Finding(
        rule=rule.id, level=rule.level, file=hit.file, line=hit.line, code=code if isinstance(code, str) else None, count=hit.count,
        steps=hit.steps, message=message, instead=rule.instead, forecast=rule.forecast, evidence=evidence,
    )  # fmt: skip


def _step_share(steps: int, of: int) -> str:
    """In how many of the run's steps, as a clause; empty for a single step."""
    if of < 2 or not steps:
        return ""
    return f" (in each of {of} steps)" if steps >= of else f" (in {steps} of {of} steps)"


def _in_lanes(lanes: Iterable[str]) -> str:
    """The lanes of a hit as a clause, `(in ranks 0 and 1)`; empty if it is only the script's main thread."""
    from auditor.detectors import listed

    found = sorted(lanes, key=in_order)
    if not set(found) - {"main"}:
        return ""
    parts = [LaneKey.parse(lane).single_part for lane in found]
    alike = [part for part in parts if part is not None and parts[0] is not None and part[0] == parts[0][0]]
    if len(alike) == len(found) > 1:
        return f" (in {alike[0][0]}s {listed([number for _, number in alike])})"
    return f" (in {listed(['the main thread' if lane == 'main' else lane for lane in found])})"


def accepted(findings: Sequence[Finding], run: Tables, judged: Iterable[Rule]) -> list[Finding]:
    """The findings that no comment in the source allows, and notes on comments that are wrong or unused."""
    cwd = Path(run.run.meta.get("cwd") or "")
    files = [row["file"] for row in run.query('SELECT DISTINCT file FROM "all" WHERE file IS NOT NULL ORDER BY file')]
    made: list[Allowance] = []
    for file in files:
        try:
            made += allowances(file, (cwd / file).read_text("utf-8"))
        except (OSError, UnicodeDecodeError):  # a deleted file, or <stdin>
            continue
    return without_allowed(findings, made, {rule.id for rule in judged})


__all__ = [
    "LEVELS", "Explains", "Rule", "RuleFile", "accepted", "chosen", "judge", "load_rules", "load_tolerances", "read_baseline",
    "read_rule_script", "schema", "without_baseline", "write_baseline",
]  # fmt: skip
