"""Proposes source changes that may fix a proved cause, most likely first. Pure: the changes still have to be verified by reruns.

A change is a few lines and leaves all other bytes as they are. Where no few lines fix a cause there is no change, and the remedy is text.
Texts keep the line ends of the file, so read and write it with `newline=""`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import PurePath, PureWindowsPath

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
from auditor.mend.order import batches_in_order, listings_sorted, results_in_order, sets_as_dicts, sets_sorted
from auditor.mend.seeds import entropy, of_stream, varying_seed, workers
from auditor.results import Cause
from auditor.source import calls_in
from auditor.source.code import Code, parsed

__all__ = ["diff_of", "mended", "zeroed"]

#: Each candidate costs reruns, and no cause is worth more.
_CANDIDATES = 3

_ZEROS = {
    "torch.empty": "torch.zeros", "torch.empty_like": "torch.zeros_like", ".new_empty": ".new_zeros",
    "numpy.empty": "numpy.zeros", "numpy.empty_like": "numpy.zeros_like",
}  # fmt: skip


def mended(cause: Cause, source: str, *, lane: str = "main", leftover: str | None = None) -> list[str]:
    """New texts of the file that the cause names, best first, at most three; none where a few lines cannot cure it.

    `lane` is that in which the cause showed; `leftover` the file that was read and should not have been there, as seen from the working
    directory.
    """
    code = parsed(source)
    if code is None or cause.line is None:
        return []
    texts: list[str] = []
    for edits in _changes(code, cause.factor, cause.line, lane, leftover):
        text = edited(code, edits) if edits else None
        if text is not None and text not in texts:
            texts.append(text)
        if len(texts) == _CANDIDATES:
            break
    return texts


def _changes(code: Code, factor: str, line: int, lane: str, leftover: str | None) -> Iterator[list[Edit] | None]:
    if factor in ("torch-seed", "cuda-seed"):
        yield from of_stream(code, line, "torch", lane)
    elif factor in ("numpy-seed", "python-seed"):
        yield from of_stream(code, line, factor.removesuffix("-seed"), lane)
    elif factor == "os-entropy":
        yield from varying_seed(code, line)
        yield from entropy(code, line, lane)
    elif factor in ("clock", "process-id"):
        yield from varying_seed(code, line)
    elif factor == "worker-seed":
        yield from workers(code, line)
    elif factor == "hash-seed":
        yield from sets_sorted(code, line)
    elif factor == "address-layout":
        yield from sets_as_dicts(code, line)
    elif factor == "file-order":
        yield from listings_sorted(code, line)
    elif factor == "uninitialized-memory":
        yield from _written(code, line)
    elif factor == "worker-timing":
        yield from batches_in_order(code)
        yield from results_in_order(code, line)
    elif factor == "thread-timing":
        yield from results_in_order(code, line)
    elif factor == "leftover-files" and leftover:
        yield _removed(code, line, leftover)


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
