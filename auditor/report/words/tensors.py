"""What is said of tensors that were compared: type, how many elements differ, by how much."""

from __future__ import annotations

from auditor.report.words.reasons import text_of
from auditor.report.words.text import plain
from auditor.results import Difference


def tensors_left_out(tensors: list[Difference], shown: list[Difference]) -> str:
    """What `most_telling` left out."""
    hidden = sum(tensor.differs for tensor in tensors) - sum(tensor.differs for tensor in shown)
    return f"and {len(tensors) - len(shown)} more, {f'{hidden} of which differ' if hidden else 'which are equal'}"


def tensor_type(difference: Difference) -> str:
    """`float32 [64, 32]`."""
    return f"{plain(difference.dtype)} {difference.shape}"


def differing_elements(difference: Difference) -> str:
    """How many elements differ, or `equal`."""
    if not difference.differs:
        return "equal"
    if not difference.elements:
        return "differs"
    every = difference.elements == difference.of > 1
    return f"all {difference.of:,}" if every else f"{difference.elements:,} of {difference.of:,}"


def number(value: float | None) -> str:
    """Three significant digits; nothing for nothing."""
    return "" if value is None else f"{value:.3g}"


def ulps(value: int | None) -> str:
    """A count of units in the last place, exact while it can be read."""
    return "" if value is None else f"{value:,}" if value < 1_000_000 else f"{value:.1e}"


def tensor_remarks(difference: Difference) -> list[str]:
    """What there is to say of a tensor beyond how far it is off."""
    said = ["the same rows in a different order"] if difference.rows_permuted else []
    if difference.never_written:
        said.append("the differing elements were never written: uninitialized memory")
    return [*said, plain(text_of(difference.note))] if difference.note else said
