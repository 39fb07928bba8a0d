"""The report that is printed when an audit ends: the first block is the whole answer; the evidence follows where it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from auditor.report import Report

if TYPE_CHECKING:
    from auditor.results import Audit


def render(audit: Audit, out: TextIO) -> None:
    """Print the report, in colour and as wide as the terminal where `out` is one."""
    from auditor.report.console import page

    page.render(audit, out)


def render_verbose(audit: Audit, out: TextIO) -> None:
    """Print the report with nothing cut, and behind it the evidence."""
    from auditor.report.console import page

    page.render_verbose(audit, out)


REPORT = Report(name="terminal", suffix=".txt", render=render)
