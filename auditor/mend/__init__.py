"""Proposes source changes that may fix a proved cause, most likely first. Pure: the changes still have to be verified by reruns.

A change is a few lines and leaves all other bytes as they are. Where no few lines fix a cause there is no change, and the remedy is text.
Texts keep the line ends of the file, so read and write it with `newline=""`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath, PureWindowsPath
from typing import NamedTuple

from auditor.mend.edits import (
    Edit,
    added_at_top,
    diff_of,
    edited,
    function_renamed,
    import_added,
    is_guard,
    line_inserted,
    name_for,
)
from auditor.mend.gradients import zeroed
from auditor.mend.loader_seeds import workers
from auditor.mend.order import batches_in_order, listings_sorted, results_in_order, sets_as_dicts, sets_sorted
from auditor.mend.seeds import entropy, of_stream, varying_seed
from auditor.results import Cause
from auditor.source import calls_in
from auditor.source.code import Code, parsed

__all__ = ["CHANGES", "diff_of", "mended", "zeroed"]

#: Each candidate costs reruns, and no cause is worth more.
_CANDIDATES = 3

_ZEROS = {
    "torch.empty": "torch.zeros", "torch.empty_like": "torch.zeros_like", ".new_empty": ".new_zeros",
    "numpy.empty": "numpy.zeros", "numpy.empty_like": "numpy.zeros_like",
}  # fmt: skip


def mended(cause: Cause, source: str, changes: Sequence[str], *, lane: str = "main", leftover: str | None = None) -> list[str]:
    """Changed texts of the file of the cause, most likely fix first, at most three; none where a few lines cannot fix it.

    `changes` are those of `CHANGES` that its factor names; `lane` is the lane in which the cause showed; `leftover` the file that was
    read and should not have existed, relative to the working directory.
    """
    code = parsed(source)
    if code is None or cause.line is None:
        return []
    texts: list[str] = []
    place = Place(cause.line, lane, leftover)
    for edits in (edits for name in changes for edits in CHANGES[name](code, place)):
        text = edited(code, edits) if edits else None
        if text is not None and text not in texts:
            texts.append(text)
        if len(texts) == _CANDIDATES:
            break
    return texts


class Place(NamedTuple):
    """What a change is made for: the line of the cause, the lane in which it showed, and the file that should not have been there."""

    line: int
    lane: str
    leftover: str | None


Changes = Iterator[list[Edit] | None]
#: Changes that may cure a cause, by the names by which factors ask for them; each gives its variants, best first.
CHANGES: dict[str, Callable[[Code, Place], Changes]] = {
    "seed-torch": lambda code, at: of_stream(code, at.line, "torch", at.lane),
    "seed-numpy": lambda code, at: of_stream(code, at.line, "numpy", at.lane),
    "seed-python": lambda code, at: of_stream(code, at.line, "python", at.lane),
    "seed-generators": lambda code, at: entropy(code, at.line, at.lane),
    "seed-workers": lambda code, at: workers(code, at.line),
    "constant-seed": lambda code, at: varying_seed(code, at.line),
    "sort-sets": lambda code, at: sets_sorted(code, at.line),
    "sets-as-dicts": lambda code, at: sets_as_dicts(code, at.line),
    "sort-listings": lambda code, at: listings_sorted(code, at.line),
    "zeros": lambda code, at: _written(code, at.line),
    "batches-in-order": lambda code, _: batches_in_order(code),
    "results-in-order": lambda code, at: results_in_order(code, at.line),
    "remove-leftover": lambda code, at: _removals(code, at),
}


def _removals(code: Code, at: Place) -> Changes:
    if at.leftover:
        yield _removed(code, at.line, at.leftover)


def _written(code: Code, line: int) -> Iterator[list[Edit] | None]:
    """Zeros in place of uninitialized memory: at the line, or else in what feeds it."""
    found = calls_in(code, tuple(_ZEROS), line)
    here = [(node, name) for node, name, _ in found if node.lineno <= line <= (node.end_lineno or node.lineno)]
    changes: list[list[Edit]] = []
    for node, name in here or [(node, name) for node, name, feeds in found if feeds]:
        if name == "torch.empty" and any(keyword.arg == "memory_format" for keyword in node.keywords):
            continue  # torch.zeros has none
        edit = function_renamed(code, node, _ZEROS[name])
        if edit is not None:
            changes.append([edit])
    if here:
        yield [edit for edits in changes for edit in edits]
    yield from changes


def _removed(code: Code, line: int, leftover: str) -> list[Edit] | None:
    """Remove the file before the script does anything; only a file below the working directory, as others may not be the script's."""
    path = PurePath(leftover)
    if path.is_absolute() or PureWindowsPath(leftover).drive or ".." in path.parts or not path.parts or not leftover.isprintable():
        return None
    said = json.dumps(path.as_posix(), ensure_ascii=False)
    comment = "  # every run starts without it"
    guard = next((one for one in code.tree.body if is_guard(one)), None)
    if isinstance(guard, ast.If) and _is_run_by(code, guard, line):
        # a spawned worker imports the module again
        name = name_for(code, "pathlib.Path")
        brought = [] if name else import_added(code, "from pathlib import Path")
        edit = line_inserted(code, guard.body, 0, f"{name or 'Path'}({said}).unlink(missing_ok=True){comment}")
        return None if brought is None or edit is None or "; " in edit.text else [*brought, edit]
    text = f"{{0}}({said.replace('{', '{{').replace('}', '}}')}).unlink(missing_ok=True){comment}"
    edits = added_at_top(code, text, [("pathlib.Path", "from pathlib import Path")])
    return None if edits is None or any(edit.text.endswith("; ") for edit in edits) else edits


def _is_run_by(code: Code, guard: ast.If, line: int) -> bool:
    """Whether a line runs under `if __name__ == "__main__":`, directly or in a function."""
    if guard.lineno <= line <= (guard.end_lineno or guard.lineno):
        return True
    found = code.statements_at(line)
    return bool(found) and code.function_of(found[0]) is not code.tree
