"""The type of a report.

A report is given an audit and a text stream and nothing else, for ever: its options belong to the report itself. What is said, and in which
order, is a story (`story/`), made of sentences on one thing each (`words/`); a report gives each row of it a form. What comes from the user
(code, paths, values, messages) goes through `words.text.plain`; each report then escapes it for its format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from auditor.results import Audit


@dataclass(frozen=True)
class Report:
    """One way to show an audit. `suffix` is what the names of its files end with."""

    name: str
    suffix: str
    render: Callable[[Audit, TextIO], None]
