"""Changes that seed the workers of a DataLoader."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from auditor.mend.edits import (
    Edit,
    added_at_top,
    import_added,
    keyword_added,
    name_for,
)
from auditor.mend.seeds import unseeded
from auditor.source import calls_in
from auditor.source.code import Code

Edits = list[Edit]


def workers(code: Code, line: int) -> Iterator[Edits | None]:
    """A seed for the workers of a DataLoader: from a generator of its own, then also by a function that seeds all streams in them."""
    for stream in ("numpy", "python"):
        for at_line, edits in unseeded(code, line, stream, "worker"):
            if at_line:
                yield edits
    loaders = _loaders(code, line)
    if not loaders or any(keyword.arg is None for call in loaders for keyword in call.keywords):
        return
    name = name_for(code, "torch.Generator")
    brought = [] if name else import_added(code, "import torch")
    said = f"{name or 'torch.Generator'}().manual_seed(0)"
    generators = [edit for call in loaders if (edit := keyword_added(code, call, "generator", said)) is not None]
    if generators and brought is not None:
        yield [*brought, *generators]
    yield _with_function(code, loaders, said)


def _loaders(code: Code, line: int) -> list[ast.Call]:
    """The loaders with workers: the one that feeds the line, or all, if there are few."""
    found = [
        (node, code.called(node), node) for node in code.nodes() if isinstance(node, ast.Call)
        if re.match(r"(torch|torch_geometric|torchdata|monai)\..*DataLoader$", code.called(node))
        and any(keyword.arg == "num_workers" and getattr(keyword.value, "value", 1) != 0 for keyword in node.keywords)
    ]  # fmt: skip
    nearest = [call for call, _, feeds in calls_in(code, {name for _, name, _ in found}, line) if feeds]
    loaders = [call for call, _, _ in found]
    chosen = [call for call in nearest if call in loaders][:1]
    return [call for call in loaders if call in chosen] if chosen else loaders if len(loaders) <= 3 else []


def _with_function(code: Code, loaders: Sequence[ast.Call], generator: str) -> Edits | None:
    free = [call for call in loaders if all(keyword.arg != "worker_init_fn" for keyword in call.keywords)]
    if not free or any("seed_worker" in names for names in code.bindings.values()):
        return None
    needs = [("torch.initial_seed", "import torch")]
    lines = ["def seed_worker(worker_id):", "    seed = {0}() % 2**32"]
    if name_for(code, "numpy.random.seed"):
        needs.append(("numpy.random.seed", "import numpy as np"))
        lines.append(f"    {{{len(needs) - 1}}}(seed)")
    needs.append(("random.seed", "import random"))
    lines.append(f"    {{{len(needs) - 1}}}(seed)")
    top = added_at_top(code, "\n".join(lines), needs, apart=True)
    if top is None:
        return None
    edits = list(top)
    for call in loaders:
        added = _keywords(code, call, {"generator": generator, **({"worker_init_fn": "seed_worker"} if call in free else {})})
        if added is None:
            return None
        edits += added
    return edits


def _keywords(code: Code, call: ast.Call, wanted: dict[str, str]) -> Edits | None:
    edits = []
    for name, value in wanted.items():
        if all(keyword.arg != name for keyword in call.keywords):
            edit = keyword_added(code, call, name, value)
            if edit is None:
                return None
            edits.append(edit)
    return edits
