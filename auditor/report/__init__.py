"""The type of a report.

A report is given an audit and a text stream and nothing else, for ever: its options belong to the report itself. What is said, and in which
order, is a story (`story/`), made of sentences on one thing each (`words/`); a report gives each row of it a form. What comes from the user
(code, paths, values, messages) goes through `words.text.plain`; each report then escapes it for its format.

The command line has an option for every report, so each file of this package is imported whenever the command line is: it declares the
report, and imports what is needed to render one within `render`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from auditor.output import forgiving, write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from auditor.results import Audit


@dataclass(frozen=True)
class Report:
    """One way to show an audit.

    `suffix` is what the names of its files end with; `option` is what the option `--NAME FILE` does, in the words of `--help`: a report
    without it has none.
    """

    name: str
    suffix: str
    render: Callable[[Audit, TextIO], None]
    option: str = ""
    metavar: str = "FILE"

    def print(self, audit: Audit, out: TextIO) -> None:
        """Render to a stream; what its encoding does not have becomes an escape."""
        self.render(audit, forgiving(out))
        out.flush()

    def write(self, audit: Audit, path: Path) -> None:
        """Render to a file, which is then whole or as it was. Raises OSError."""
        text = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
        self.render(audit, text)
        write_whole(path, text.buffer.getvalue())
