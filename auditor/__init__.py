"""repro-audit: find out why two runs of a PyTorch training script differ.

The user's process passes through this module, so it imports nothing; the names of the Python API are loaded when they
are first asked for (PEP 562).

`audit(Plan(("train.py",)), options=AuditOptions(...), rules=Selection(...))` returns an `Audit`: the plan says what to run and how to
watch it, the options how far to go after the two controls (reruns with value capture, reruns that prove causes, patches), the selection
which rules judge. `match(f, g, *args)` calls two functions or modules and compares the values that they give to names.
"""

__version__ = "0.1.0"

_LAZY = {
    "AuditError": "auditor.errors",
    "Audit": "auditor.results",
    "Divergence": "auditor.results",
    "AuditOptions": "auditor.plan",
    "Plan": "auditor.plan",
    "Selection": "auditor.plan",
    "audit": "auditor.pipeline",
    "diff": "auditor.pipeline",
    "match": "auditor.pipeline.pairs",
    "record": "auditor.pipeline",
}

__all__ = ["Audit", "AuditError", "AuditOptions", "Divergence", "Plan", "Selection", "__version__", "audit", "diff", "match", "record"]


def __getattr__(name: str) -> object:
    """Load a name of the API from the module that owns it."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # not at the top: nothing is imported in the user's process for these names

    return getattr(import_module(module), name)
