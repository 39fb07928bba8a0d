"""Connections to DuckDB, with which lanes are written and asked.

Making a database takes ten times as long as asking a small lane, so that all that needs none of its own is done in one.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

#: What reading takes before it goes on in files.
_MEMORY = "4GB"
#: What writing a long lane takes before it goes on in files.
_OF_WRITING = "512MB"
_LONG = 1_000_000


@cache
def _shared() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(config=_settings())


def _settings() -> dict[str, str | bool | int | float | list[str]]:
    # the folder is made when it is needed, and would lie in the working directory
    return {"memory_limit": _MEMORY, "temp_directory": f"{tempfile.gettempdir()}/repro-audit-{os.getpid()}"}


def connected(alone: bool = False) -> duckdb.DuckDBPyConnection:
    """A connection whose temporary tables are its own; `alone`, its database and settings, too."""
    import duckdb

    return duckdb.connect(config=_settings()) if alone else _shared().cursor()


def writing(rows: int, folder: Path) -> duckdb.DuckDBPyConnection:
    """A connection to write so many rows with; of many, no more is in memory than need be, and the rest in this folder meanwhile."""
    import duckdb

    if rows < _LONG:
        return connected()
    return duckdb.connect(config={"memory_limit": _OF_WRITING, "temp_directory": str(folder)})
