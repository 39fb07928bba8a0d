"""Writes the reference of what a run holds from the one description of it: `make docs` writes docs/trace.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from auditor import trace
from auditor.trace import tables
from auditor.trace.schema import COLUMNS, COMMON, EVENT_COLUMNS, EVENTS, Column, Field

PAGE = Path(__file__).with_name("trace.md")
#: What the types of fields are called.
_TYPES = {
    "whole": "integer", "count": "integer, 0 or more", "flag": "true or false", "scalar": "text, number, true, false or null",
    "shape_of_tensor": "list of integers", "mapping": "mapping",
}  # fmt: skip


def page() -> str:
    """The whole page."""
    parts = [
        "# What a run holds",
        "<!-- made by `make docs` from auditor/trace/schema.py -->",
        "Detectors ask the tables below in SQL; `repro-audit show` lists records and events.",
        "Of a record only what is *compared* makes two runs differ; the rest says where it happened.",
        "## Records",
        "One row for each op, each first sight of a tensor that no record made, and each draw from a random stream.",
        _columns(COLUMNS),
        "## Events",
        "What happens rarely. Every event may have these fields; those of its kind follow.",
        _fields(COMMON),
    ]
    for kind, event in sorted(EVENTS.items()):
        parts += [f"### `{kind}`", f"{event.meaning[0].upper()}{event.meaning[1:]}."]
        parts += [_fields(event.fields)] if event.fields else []
    parts += ["## The table `events`", _columns(EVENT_COLUMNS), "## All tables", _prose(tables.__doc__)]
    parts += ["## Files", _prose(trace.__doc__)]
    return "\n\n".join(parts) + "\n"


def _columns(columns: dict[str, Column]) -> str:
    rows = ((f"`{name}`", column.type, "yes" if column.compared else "", column.meaning) for name, column in columns.items())
    return _table(("column", "type", "compared", "what it is"), rows)


def _fields(fields: Iterable[tuple[str, Field]] | object) -> str:
    rows = ((f"`{name}`", _type(field), field.meaning) for name, field in dict(fields).items())  # type: ignore[call-overload]
    return _table(("field", "type", "what it is"), rows)


def _type(field: Field) -> str:
    words = re.sub(r"\w+", lambda found: _TYPES.get(found[0], found[0]), field.type.__name__)
    return words if field.needed else words.removesuffix(" or null")


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _prose(text: str | None) -> str:
    """A docstring as Markdown: reStructuredText's literal blocks are fenced."""
    return re.sub(r"::\n\n((?:    .*\n)+)", r":\n\n```text\n\1```\n", (text or "").strip())


if __name__ == "__main__":
    PAGE.write_text(page())
