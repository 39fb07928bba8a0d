"""Fixes that seed a random generator, seed it earlier, or replace a seed that changes from run to run by a constant."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence

from auditor.mend.edits import (
    Edit,
    added_at_top,
    argument_set,
    beginning,
    function_renamed,
    import_added,
    is_guard,
    keyword_added,
    moved,
    name_for,
    replaced,
    top_level,
)
from auditor.source import Found, calls_in
from auditor.source.code import FUNCTIONS, Code
from auditor.trace.lanes import LaneKey

#: Per stream: the function that seeds it, its import, and all functions that seed it.
STREAMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "torch": ("torch.manual_seed", "import torch", ("torch.manual_seed", "torch.random.manual_seed")),
    "numpy": ("numpy.random.seed", "import numpy as np", ("numpy.random.seed",)),
    "python": ("random.seed", "import random", ("random.seed",)),
}
#: Library functions that seed all streams.
_EVERYTHING = re.compile(r"(^|\.)(seed_everything|set_seed|set_random_seed|seed_all|fix_seed|enable_full_determinism)$")
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


def at_the_top(code: Code, line: int, stream: str) -> Iterator[Edits | None]:
    """The script's own seeding call, moved up if it is late; else a new call after the imports."""
    seeding, brought, _ = STREAMS[stream]
    own = [call for call in _calls(code) if _seeds(code, call, stream)]
    placed = [statement for call in own if isinstance(statement := code.parent[call], ast.Expr)]
    if len(own) == 1 and len(placed) == 1:
        yield _earlier(code, placed[0], line)
    if not any(_comes_before(code, call, line) for call in own):
        edits = added_at_top(code, "{0}(0)", [(seeding, brought)])
        yield edits if edits is None or edits[0].start <= _first_at(code, line) else None


def _first_at(code: Code, line: int) -> int:
    """Position of the top-level statement that runs a line; the end of the text for a line in a function."""
    found = code.statements_at(line)
    if not found or code.function_of(found[-1]) is not code.tree:
        return len(code.text)
    return code.span(code.tree.body[top_level(code, found[-1])])[0]


def _calls(code: Code) -> list[ast.Call]:
    return [node for node in code.nodes() if isinstance(node, ast.Call)]


def _seeds(code: Code, call: ast.Call, stream: str) -> bool:
    """Whether a call seeds a stream: directly, or through a seeding function of a library or of this file.

    A call inside such a function does not count: it runs where that function is called.
    """
    around = code.function_of(call)
    if isinstance(around, FUNCTIONS) and _is_seeding(around):
        return False
    name = code.called(call)
    if name in STREAMS[stream][2] or _EVERYTHING.search(name):
        return True
    return any(
        isinstance(one, FUNCTIONS) and _is_seeding(one) and _seeds_within(code, one, stream) for one in code.defined(call.func)
    )  # fmt: skip


def _is_seeding(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function seeds generators, judging by its name."""
    return bool(_SEEDED.search(function.name)) or "determinis" in function.name or "reproducib" in function.name


def _seeds_within(code: Code, function: ast.AST, stream: str) -> bool:
    inner = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    return any(code.called(call) in STREAMS[stream][2] or _EVERYTHING.search(code.called(call)) for call in inner)


def _comes_before(code: Code, call: ast.Call, line: int) -> bool:
    """Whether a call at the module's top level, under no condition, runs before a line."""
    statement = code.parent[call]
    return isinstance(statement, ast.Expr) and code.parent[statement] is code.tree and call.lineno < line


def _earlier(code: Code, seeding: ast.Expr, line: int) -> Edits | None:
    """The seeding statement moved up, so that it runs before the draw of a line."""
    members = code.block(seeding)
    around = code.parent[seeding]
    if not (isinstance(around, (ast.Module, *FUNCTIONS)) or (is_guard(around) and code.field[seeding] == "body")):
        return None
    here = members.index(seeding)
    draws = next((index for index, one in enumerate(members[:here]) if _touches(code, one, line)), None)
    if draws is None:
        return None
    places = [draws]
    if isinstance(around, ast.Module):
        # as far up as its names are bound
        places = [index for index in range(beginning(code), draws + 1) if index == beginning(code) or _works(members[index])]
    for index in places:
        if all(_known(code, name, members[index], index, around) for name in _needed(code, seeding)):
            return moved(code, seeding, members, index)
    return None


def _works(statement: ast.stmt) -> bool:
    return not isinstance(statement, (ast.Import, ast.ImportFrom))


def _touches(code: Code, statement: ast.stmt, line: int) -> bool:
    """Whether running a statement may run a line: the line is in it, or in a function or class that the statement refers to."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return False
    if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
        return True
    seen: set[ast.AST] = set()
    stack: list[ast.AST] = [statement]
    while stack:
        for node in ast.walk(stack.pop()):
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
                for defined in code.defined(node):
                    if defined in seen:
                        continue
                    assert isinstance(defined, (*FUNCTIONS, ast.ClassDef))
                    if defined.lineno <= line <= (defined.end_lineno or defined.lineno):
                        return True
                    seen.add(defined)
                    stack.append(defined)
    return False


def _needed(code: Code, statement: ast.AST, seen: frozenset[ast.AST] = frozenset()) -> list[ast.Name]:
    """The names that a statement uses, and the module's names that the functions it calls use."""
    needed = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            needed.append(node)
            for defined in code.defined(node):
                if defined not in seen:
                    inner = _needed(code, defined, seen | {defined})
                    needed += [one for one in inner if (found := code.lookup(one.id, one)) is not None and found[0] is code.tree]
    return needed


def _known(code: Code, name: ast.Name, at: ast.stmt, index: int, around: ast.AST) -> bool:
    """Whether a name has its value before a statement of a block."""
    found = code.lookup(name.id, name)
    if found is None:
        return True  # a builtin
    scope, bindings = found
    start = code.span(at)[0]
    if scope is code.function_of(at) or scope is around:
        before = [one for one in bindings if one.how == "parameter" or code.span(one.node)[1] <= start]
        # a name that is bound again in between would have another value
        return bool(before) and len(before) == len(bindings)
    return scope is not code.tree or isinstance(around, FUNCTIONS)


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


def workers(code: Code, line: int) -> Iterator[Edits | None]:
    """A seed for the workers of a DataLoader: by a generator for the loader, then also by a function that seeds all streams in them."""
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
    """The loaders with workers: the one that feeds the line, or all if they are few."""
    found = [
        (node, code.called(node), node) for node in _calls(code)
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
