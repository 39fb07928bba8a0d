"""When, from which commit and with what software the first run was made."""

from __future__ import annotations

from auditor.report.words.text import counted, plain
from auditor.results import Provenance

#: Characters of a commit that name it.
_COMMIT = 12

PROVENANCE_TITLE = "Where the runs come from"


def provenance_facts(found: Provenance | None) -> list[tuple[str, str]]:
    """What is known of it, each as (name, fact)."""
    if found is None:
        return []
    versions = ", ".join(f"{plain(name, 40)} {plain(version, 40)}" for name, version in found.versions.items())
    machine = [plain(found.machine[name]) for name in ("host", "system", "processor") if name in found.machine]
    cores = found.machine.get("cores")
    machine += [counted(cores, "core")] if isinstance(cores, int) else []
    variables = ", ".join(f"{plain(name, 60)}={plain(value, 60)}" for name, value in found.environment.items())
    facts = [
        ("date", plain(found.date or "").replace("T", " ").replace("+00:00", " UTC")), ("commit", _commit(found)), ("versions", versions),
        ("machine", ", ".join(machine)), ("variables", variables),
    ]  # fmt: skip
    return [(name, fact) for name, fact in facts if fact]


def _commit(found: Provenance) -> str:
    revision = found.revision
    if revision is None:
        return ""
    said = {True: " with uncommitted changes", False: "", None: " (whether anything was changed is not known)"}[revision.dirty]
    return f"{plain(revision.commit, 64)[:_COMMIT]}{said}"
