"""What differs between two runs' machines, software and settings before the first op."""

from __future__ import annotations

from typing import Any

from auditor.results import EnvironmentDifference
from auditor.trace.reader import Trace


def environment_differences(a: Trace, b: Trace) -> list[EnvironmentDifference]:
    """Facts of run.json, and first values of settings, that are not the same; in order of their names."""
    ours, theirs = _facts(a), _facts(b)
    return [
        EnvironmentDifference(name=name, a=_text(ours.get(name)), b=_text(theirs.get(name)))
        for name in sorted(set(ours) | set(theirs))
        if ours.get(name) != theirs.get(name)
    ]


def _facts(trace: Trace) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for group in ("machine", "versions", "environment"):
        for name, value in (trace.meta.get(group) or {}).items():
            facts[f"{group}: {name}"] = value
    facts["script"] = " ".join(trace.meta.get("script") or [])
    facts["script content"] = trace.meta.get("script_digest")
    facts["recorded"] = _recorded(trace)
    for how in ("pinned", "varied"):
        facts[how] = ", ".join(trace.meta.get(how) or []) or None
    main = trace.main
    if main is not None:
        for event in main.events_of("setting"):
            if event.get("initial") and not event["name"].startswith("environ:"):
                facts[f"setting: {event['name']}"] = event["value"]
    return facts


def _recorded(trace: Trace) -> str:
    plan = trace.meta.get("plan") or {}
    window = plan.get("window")
    return str(plan.get("level")) + (f" in steps {window[0]} to {window[1]}" if window else "")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
