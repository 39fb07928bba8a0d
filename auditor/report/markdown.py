"""The report for a chat or a pull request: the same story as in the terminal, in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from auditor.report import Report

if TYPE_CHECKING:
    from auditor.results import Audit


def render(audit: Audit, out: TextIO) -> None:
    """Write the audit as GitHub-flavoured Markdown."""
    from auditor.report.markup import page

    page.render(audit, out)


REPORT = Report(name="markdown", suffix=".md", render=render, option="write a short report for a chat or a pull request (- is stdout)")
