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
    plan = trace.meta.get("plan") or {}
    facts["recorded"] = f"{plan.get('level')} in steps {plan['window'][0]}-{plan['window'][1]}" if plan.get("window") else plan.get("level")
    for how in ("pinned", "varied"):
        facts[how] = ", ".join(trace.meta.get(how) or []) or None
    main = trace.main
    if main is not None:
        for event in main.events_of("setting"):
            if event.get("initial") and not event["name"].startswith("environ:"):
                facts[f"setting: {event['name']}"] = event["value"]
    return facts


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
