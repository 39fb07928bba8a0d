"""What a later rendering of an audit needs beside its conclusions: when and from what the runs were made, the rules' texts, the numbers.

Nothing here is ever an error: what cannot be found out is left out.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from auditor.compare import effect_of
from auditor.judge import Rule
from auditor.pipeline.verdict import raised_at, why_not_whole
from auditor.plan import Plan
from auditor.results import Audit, Failure, Place, Provenance, Revision, RuleText
from auditor.trace.reader import Trace

#: Seconds for which git is waited for, each time it is asked.
_PATIENCE = 2.0
#: Facts of a machine that are told unasked.
_OF_A_MACHINE = ("system", "processor", "cores")
#: git is asked to start no monitor and no hook that the repository names.
_QUIETLY = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


def revision_of(plan: Plan) -> Revision | None:
    """The commit of the work tree that the script lies in, and whether something in it, or the script, was changed."""
    script = next((word for word in plan.script if not word.startswith("-")), "")
    path = Path(plan.cwd, script)
    if plan.script[:1] == ("-m",) or not path.exists():
        path = Path(plan.cwd)
    folder = path if path.is_dir() else path.parent
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None or not commit.strip():
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    known = _git(folder, "status", "--porcelain", "--ignored", "--", str(path)) if path.is_file() else ""
    dirty = None if changed is None or known is None else bool(changed.strip() or known.strip())
    return Revision(commit=commit.strip(), dirty=dirty)


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None where there is none, it fails, or it takes long."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *_QUIETLY, *words],  # noqa: S607  # the user's own git, wherever it is
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def provenance_of(run: Trace, revision: Revision | None) -> Provenance:
    """When and with what a run was made, as it says itself."""
    meta = run.meta
    started = meta.get("started")
    date = datetime.fromtimestamp(started, timezone.utc).isoformat(timespec="seconds") if isinstance(started, (int, float)) else None
    machine = {name: value for name, value in (meta.get("machine") or {}).items() if name in _OF_A_MACHINE}
    return Provenance(
        date=date, revision=revision, versions=meta.get("versions") or {}, machine=machine, environment=meta.get("environment") or {}
    )  # fmt: skip


def attach_failure(audit: Audit, a: Trace, b: Trace, plan: Plan) -> None:
    """Tell where and how a script failed in both runs in the same way, if that is why nothing can be concluded."""
    status = a.meta.get("exit")
    whole = all(why_not_whole(run, plan) is None for run in (a, b))
    if audit.verdict != "inconclusive" or audit.divergence is not None or not whole or not status or status != b.meta.get("exit"):
        return
    place = raised_at(a, b) or Place()
    steps = min(run.main.steps if run.main is not None else 0 for run in (a, b))
    audit.failure = Failure(**place.model_dump(), error=a.meta.get("error"), steps=steps)


def attach_effect(audit: Audit, runs: Iterable[Trace]) -> None:
    """Tell the numbers of the two runs that differ; of runs that agree those of the first two."""
    made = {run.id: run for run in runs}
    names = audit.divergence.runs if audit.divergence is not None else list(made)[:2]
    pair = [made[name] for name in names if name in made]
    if len(pair) == 2:
        audit.effect = effect_of(*pair)


def attach_rules(audit: Audit, rules: Sequence[Rule]) -> None:
    """Keep what the rules say of themselves that made findings or explain the divergence."""
    known = {rule.id: rule for rule in rules}
    causes = [cause.symptom_of for cause in audit.causes]
    named = [finding.rule for finding in audit.findings] + [one.rule for one in (audit.explained_by, *causes) if one is not None]
    audit.rules = {
        name: RuleText(title=rule.title, why=rule.why, instead=rule.instead, references=rule.references)
        for name in sorted(set(named))
        if (rule := known.get(name)) is not None
    }
