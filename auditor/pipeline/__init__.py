"""Knows the order: make the control runs, compare them, look a second time where they differ, conclude."""

from auditor.judge import schema
from auditor.pipeline.audit_loop import audit
from auditor.pipeline.kept_runs import answer, diff, events, record
from auditor.pipeline.pairs import match_scripts as match
from auditor.pipeline.reruns import Silent
from auditor.pipeline.rules import all_rules, all_tolerances, complaints_of, one_rule, shipped_rules, try_rules
from auditor.pipeline.validation import check_factors, check_script, with_device, with_factors

__all__ = [
    "Silent", "all_rules", "all_tolerances", "answer", "audit", "check_factors", "check_script", "complaints_of", "diff", "events", "match",
    "one_rule", "record", "schema", "shipped_rules", "try_rules", "with_device", "with_factors",
]  # fmt: skip
