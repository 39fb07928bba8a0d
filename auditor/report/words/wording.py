"""What the tables of words have in common: their type, and clauses that several sentences end with."""

from __future__ import annotations

from collections.abc import Callable

from auditor.report.words.text import INFINITE

#: The words of a slug: a template with the reason's parameters in braces, or a function that takes them.
Words = str | Callable[..., str]


def ending(error: str | None, status: int | None) -> str:
    """How a run ended that did not end well."""
    if error:
        return error
    return f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"


def at(name: str, file: str | None, line: int | None) -> str:
    """`seed (train.py:3)`; the name alone where no line is known."""
    return name if file is None or line is None else f"{name} ({file}:{line})"


def is_known(value: float | None) -> bool:
    """Whether a measure is a number and finite."""
    return value is not None and value < INFINITE


def together(names: list[str]) -> str:
    """`a and b and c`."""
    return " and ".join(names)
