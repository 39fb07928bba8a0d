"""The user's files, as far as runs came by them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from auditor.source import Flow
from auditor.trace.reader import Trace


@dataclass
class SourceFiles:
    """Files as seen from the working directory `cwd`; `run` is one that came by them."""

    cwd: str
    run: Trace | None = None

    def read(self, file: str) -> str:
        """The text of a file of the user's; empty if it cannot be read."""
        try:
            return Path(self.cwd, file).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""

    @cached_property
    def flow(self) -> Flow:
        """What arrives where in them."""
        return Flow(self.read)

    def names(self) -> list[str]:
        """The files that the run came by."""
        main = self.run.main if self.run is not None else None
        if main is None:
            return []
        return [row["file"] for row in main.query("SELECT DISTINCT file FROM records WHERE file IS NOT NULL ORDER BY file")]
