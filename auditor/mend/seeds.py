"""Changes that give a random stream a seed, or one that is the same in every run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from auditor.mend.edits import (
    Edit,
    argument_set,
    function_renamed,
    name_for,
    replaced,
)
from auditor.mend.seed_placement import STREAMS, at_the_top
from auditor.source import Found, calls_in
from auditor.source.code import Code
from auditor.trace.lanes import LaneKey

_NUMPY_MAKERS = tuple(
    f"numpy.random.{name}" for name in ("default_rng", "RandomState", "PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64", "SeedSequence")
)
_PYTHON_MAKERS = ("random.Random",)
_SYSTEM = ("random.SystemRandom",)
_MAKING = {name.rpartition(".")[2] for name in (*_NUMPY_MAKERS, *_PYTHON_MAKERS, *_SYSTEM)} | {"Generator", "seed"}
_SEEDS_IT = ".manual_seed(0)"
_SEEDED = re.compile(r"seed", re.IGNORECASE)
_BYTES = re.compile(r"os\.(urandom|getrandom)$|secrets\.|uuid\.uuid[14]$")
_VARIES = re.compile(
    r"^(time\.(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|process_time|process_time_ns|localtime|gmtime|ctime)"
    r"|datetime\.(datetime|date)\.(now|utcnow|today)|os\.(getpid|getppid|urandom|getrandom|times)|uuid\.uuid[14]|secrets\.\w+"
    r"|multiprocessing\.current_process|threading\.get_ident|threading\.get_native_id)$"
)

Edits = list[Edit]


def of_stream(code: Code, line: int, stream: str, lane: str) -> Iterator[Edits | None]:
    """Seed a stream that is never seeded, or seeded too late."""
    makers = list(unseeded(code, line, stream, lane))
    here = _together(edits for at_line, edits in makers if at_line)
    draws = _draws_globally(code, line, stream)
    if here and not draws:
        yield here
        if all(edit.text == _SEEDS_IT for edit in here):
            # Every torch.Generator() starts with the same default seed, so the draw may have come from the global stream.
            yield from at_the_top(code, line, stream)
        return
    top = list(at_the_top(code, line, stream))
    near = here or _together(edits for _, edits in makers)
    if here:
        yield from ([*edits, *here] for edits in top if edits)
    elif near and not draws and stream != "torch":
        yield near
    yield from top
    yield near
    yield from ([*edits, *near] for edits in top if edits)


def _together(changes: Iterable[Edits]) -> Edits:
    return [edit for edits in changes for edit in edits]


def unseeded(code: Code, line: int, stream: str, lane: str) -> Iterator[tuple[bool, Edits]]:
    """Edits that seed the generators that a line creates or uses, and whether each edit is on that line."""
    makers = _makers(code, line, stream)
    asks = any(name == ".seed" and _stands_at(call, line) for call, name, _ in makers)
    for call, name, feeds in makers:
        at_line = _stands_at(call, line)
        if not at_line and not feeds:
            continue
        edit: Edit | None = None
        if name == ".seed" and stream == "torch":
            # a torch generator's `seed()` takes entropy from the operating system; those of NumPy and Python are known by their names
            if not call.args and not call.keywords and code.dotted(call.func) is None:
                edit = function_renamed(code, call, ".manual_seed")
                if edit is not None:
                    close = code.span(call)[1] - 1
                    yield at_line, [edit, Edit(close, close, "0")]
            continue
        if name == "torch.seed":
            edit = function_renamed(code, call, "torch.manual_seed")
            if edit is not None and not call.args:
                close = code.span(call)[1] - 1
                yield at_line, [edit, Edit(close, close, "0")]
            continue
        if name == "torch.Generator":
            end = code.span(call)[1]
            if at_line and not asks and not isinstance(code.parent[call], ast.Attribute):
                yield at_line, [Edit(end, end, _SEEDS_IT)]
            continue
        seed = _seed_in(code, name, stream, lane)
        edit = argument_set(code, call, seed) if seed else None
        if edit is not None:
            yield at_line, [edit]


def _makers(code: Code, line: int, stream: str) -> list[Found[ast.Call]]:
    names = {
        "torch": (".seed", "torch.seed", "torch.Generator"),
        "numpy": ("numpy.random.seed", *_NUMPY_MAKERS),
        "python": ("random.seed", *_PYTHON_MAKERS),
    }
    return calls_in(code, names[stream], line)


def _seed_in(code: Code, maker: str, stream: str, lane: str) -> str | None:
    """A seed expression; in a worker a draw from the global stream, which torch seeds per worker from the loader's base seed."""
    if LaneKey.parse(lane).worker is None:
        return "0"
    if maker.endswith(".seed"):
        return None
    drawing, given = ("numpy.random.randint", "2**31") if stream == "numpy" else ("random.getrandbits", "32")
    name = name_for(code, drawing)
    return f"{name}({given})" if name else None


def _stands_at(node: ast.expr, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _draws_globally(code: Code, line: int, stream: str) -> bool:
    """Whether a line calls a function that draws from the global stream; in torch nearly any function may."""
    root = {"torch": "torch.rand", "numpy": "numpy.random.", "python": "random."}[stream]
    here = [node for statement in code.statements_at(line) for node in code.own(statement) if isinstance(node, ast.Call)]
    names = [code.called(call) for call in here if all(keyword.arg != "generator" for keyword in call.keywords)]
    return any(name.startswith(root) and name.rpartition(".")[2] not in _MAKING for name in names)


def varying_seed(code: Code, line: int) -> Iterator[Edits | None]:
    """A constant in place of a seed from a clock, a process id or the system's entropy."""
    here = [node for statement in code.statements_at(line) for node in code.own(statement)]
    takers = [node for node in here if isinstance(node, ast.Call) and _is_seed_taker(code, node)]
    seeding = sorted(takers, key=lambda one: len(code.segment(one)))
    for call in seeding:
        for given in (*call.args, *(keyword.value for keyword in call.keywords)):
            if _varies(code, given):
                yield [replaced(code, given, "0")]
                return
    for call in seeding:
        for given in (*call.args, *(keyword.value for keyword in call.keywords)):
            bound = _only_value(code, given) if isinstance(given, ast.Name) else None
            if isinstance(given, ast.Name) and bound is not None and _varies(code, bound):
                yield [replaced(code, bound, "0")] if _is_seed(code, given) else [replaced(code, given, "0")]
                return
    for statement in code.statements_at(line):
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None and _varies(code, statement.value):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            if isinstance(target, ast.Name):
                given_to = _taken(code, target)
                if _is_seed(code, target):
                    yield [replaced(code, statement.value, "0")]
                elif given_to:
                    yield [replaced(code, one, "0") for one in given_to]
                return
    for node in here:
        if isinstance(node, ast.Call) and code.called(node).endswith(".add_argument") and _names_a_seed(node):
            for keyword in node.keywords:
                if keyword.arg == "default" and _varies(code, keyword.value):
                    yield [replaced(code, keyword.value, "0")]
                    return


def _is_seed_taker(code: Code, call: ast.Call) -> bool:
    name = code.called(call)
    return name in _NUMPY_MAKERS or name in _PYTHON_MAKERS or bool(_SEEDED.search(name.rpartition(".")[2] or _own_name(call)))


def _own_name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _varies(code: Code, node: ast.AST) -> bool:
    calls = (one for one in ast.walk(node) if isinstance(one, ast.Call))
    return any(_VARIES.match(code.called(call)) or code.called(call) in _SYSTEM for call in calls)


def _only_value(code: Code, name: ast.Name) -> ast.expr | None:
    bindings = code.reaching(name)
    return bindings[0].value if len(bindings) == 1 and bindings[0].how == "value" else None


def _uses(code: Code, name: ast.Name) -> list[ast.Name]:
    found = code.lookup(name.id, name)
    return [
        node for node in code.nodes()
        if isinstance(node, ast.Name) and node.id == name.id and isinstance(node.ctx, ast.Load) and code.lookup(name.id, node) == found
    ]  # fmt: skip


def _taken(code: Code, name: ast.Name) -> list[ast.Name]:
    """Uses of a name as the argument of something that takes a seed."""
    return [
        one for one in _uses(code, name)
        if isinstance(parent := code.parent[one], ast.Call) and one in parent.args and _is_seed_taker(code, parent)
    ]  # fmt: skip


def _is_seed(code: Code, name: ast.Name) -> bool:
    """Whether a name holds a seed, judging by its name or because it has no other use: then 0 can replace it."""
    uses = _uses(code, name)
    return bool(uses) and ("seed" in name.id.lower() or _taken(code, name) == uses)


def _names_a_seed(call: ast.Call) -> bool:
    return any(isinstance(one, ast.Constant) and isinstance(one.value, str) and "seed" in one.value.lower() for one in call.args)


def entropy(code: Code, line: int, lane: str) -> Iterator[Edits | None]:
    """A seed for a generator that is seeded by the operating system; none where the line uses its entropy for anything else."""
    calls = [node for statement in code.statements_at(line) for node in code.own(statement) if isinstance(node, ast.Call)]
    if any(_BYTES.match(code.called(call)) for call in calls):
        return
    here: list[Edits] = []
    near: list[Edits] = []
    for stream in STREAMS:
        for at_line, edits in unseeded(code, line, stream, lane):
            (here if at_line else near).append(edits)
    for call, _, feeds in calls_in(code, _SYSTEM, line):
        edit = function_renamed(code, call, "random.Random") if not call.args else None
        close = code.span(call)[1] - 1
        if edit is not None and (feeds or _stands_at(call, line)):
            (here if _stands_at(call, line) else near).append([edit, Edit(close, close, "0")])
    yield _together(here)
    if not here and LaneKey.parse(lane).worker is None:
        yield from near
