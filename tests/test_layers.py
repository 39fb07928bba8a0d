"""Which module may import which: a table, checked against every import statement, and what importing a module really loads.

Notes on the table:

* `trace`, `launch` and `compare` are packages. Their parts may import one another, and only `trace` itself, its `writer` and
  its `ops` come into the user's process, so these three are held to the standard library.
* `listing` (what `show` prints) and `progress` (what is seen while runs are made) are modules of their own: neither is a verb.
* `cli` builds the plan that it parsed and hands it the screen; `options` has an option for every report, and `output` writes them.
* `plugins` names the type of a report, and of a detector, where it finds them; `judge` names that of a detector where it is handed them.
* `config` reads the user's pyproject.toml, `pipeline.rulebook` prints rules: both are for the command line alone.
"""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import auditor
from tests.processes import audited, environment, made_once, start, write

PACKAGE = Path(auditor.__file__).parent
NOUNS = (
    "auditor.documents", "auditor.redaction", "auditor.errors", "auditor.devices", "auditor.plan", "auditor.results", "auditor.source",
    "auditor.tolerance", "auditor.trace", "auditor.trace.database", "auditor.trace.facts", "auditor.trace.files", "auditor.trace.going",
    "auditor.trace.lanes", "auditor.trace.names", "auditor.trace.ops", "auditor.trace.reader", "auditor.trace.records",
    "auditor.trace.schema", "auditor.trace.shapes", "auditor.trace.shared_streams", "auditor.trace.signs", "auditor.trace.tables",
)  # fmt: skip
VERBS = ("launch", "compare", "judge", "experiment", "diagnose", "matching", "mend")


@dataclass(frozen=True)
class Allowed:
    """What modules of one kind may import, as globs; `lazily` is what they may import inside functions or for annotations only."""

    auditor: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    auditor_lazily: tuple[str, ...] = ()
    others_lazily: tuple[str, ...] = ()
    only_standard_library: tuple[str, ...] | None = field(default=None)
    """Where every import counts, as in the user's process: all that it may have of the standard library."""


_CHEAP = (
    "__future__", "_thread", "array", "ast", "atexit", "builtins", "collections.abc", "copy", "ctypes", "dis", "enum", "errno", "functools",
    "gc", "importlib.machinery", "inspect", "io", "json", "mmap", "os", "stat", "struct", "sys", "threading", "time", "types", "typing",
    "weakref",
)  # fmt: skip

_OF_REPORTS = (
    "auditor.report", "auditor.report.words", "auditor.report.words.*", "auditor.report.story", "auditor.report.story.*",
    "auditor.report.console", "auditor.report.console.*", "auditor.report.markup", "auditor.report.markup.*", "auditor.results",
)  # fmt: skip
_OF_PIPELINE = (
    "auditor", "auditor.pipeline.*", "auditor.factors", "auditor.listing", "auditor.mapping", "auditor.progress", "auditor.plugins",
    "auditor.report", "auditor.report.*", *(f"auditor.{verb}" for verb in VERBS), *NOUNS,
)  # fmt: skip

#: The first entry that fits a module is its entry.
TABLE: dict[str, Allowed] = {
    "auditor": Allowed(only_standard_library=("importlib",)),  # its names are loaded by `import_module`, see below
    "auditor.__main__": Allowed(("auditor.cli",)),
    "auditor.errors": Allowed(only_standard_library=("__future__",)),
    "auditor.redaction": Allowed(only_standard_library=("__future__", "collections.abc", "re")),  # also runs in the user's process
    "auditor.documents": Allowed(("auditor.trace.files",), ("yaml",)),
    "auditor.plan": Allowed(("auditor.errors", "auditor.redaction")),
    "auditor.devices": Allowed(("auditor.errors", "auditor.plan")),
    "auditor.tolerance": Allowed(only_standard_library=("__future__", "collections.abc", "typing")),  # also runs in the user's process
    "auditor.trace": Allowed(only_standard_library=("__future__",)),
    "auditor.trace.ops": Allowed(only_standard_library=("__future__", "typing")),  # also runs in the user's process
    "auditor.interruptions": Allowed(only_standard_library=("__future__", "_signal", "opcode", "os", "sys", "typing", "types")),
    "auditor.trace.writer": Allowed(("auditor.trace", "auditor.interruptions"), only_standard_library=_CHEAP),
    "auditor.trace.shapes": Allowed(only_standard_library=("__future__", "collections.abc", "json", "math", "typing")),
    "auditor.trace.schema": Allowed(
        ("auditor.trace.ops", "auditor.trace.shapes"), only_standard_library=("__future__", "collections.abc", "typing")
    ),
    "auditor.trace.facts": Allowed(("auditor.trace.schema", "auditor.trace.shapes"), only_standard_library=("__future__", "typing")),
    "auditor.trace.files": Allowed(
        only_standard_library=("__future__", "atexit", "fcntl", "functools", "os", "pathlib", "shutil", "stat", "tempfile")
    ),
    "auditor.trace.signs": Allowed(("auditor.trace",), only_standard_library=("__future__", "typing")),  # also runs in the user's process
    "auditor.trace.turns": Allowed(only_standard_library=("__future__", "typing")),  # likewise
    "auditor.trace.*": Allowed(
        ("auditor.errors", "auditor.redaction", "auditor.trace", "auditor.trace.*"), others_lazily=("numpy", "duckdb", "xxhash"),
    ),
    "auditor.results": Allowed(("auditor.errors", "auditor.redaction"), ("pydantic",)),
    "auditor.record.boot.sitecustomize": Allowed(
        auditor_lazily=("auditor.record.arm",), others_lazily=("sitecustomize",), only_standard_library=("os", "sys")
    ),
    "auditor.record.probes.named_values*": Allowed(  # the reader where it collects in a process of ours
        ("auditor.record.*", "auditor.interruptions", "auditor.redaction", "auditor.trace", "auditor.trace.signs"),
        auditor_lazily=("auditor.trace.names",), others_lazily=("numpy",),
        only_standard_library=(*_CHEAP, "contextlib", "itertools", "math", "opcode"),
    ),
    "auditor.record*": Allowed(
        (
            "auditor.record.*", "auditor.interruptions", "auditor.redaction", "auditor.tolerance", "auditor.trace", "auditor.trace.ops",
            "auditor.trace.signs", "auditor.trace.turns", "auditor.trace.writer",
        ),
        ("xxhash",),
        others_lazily=("torch", "numpy"), only_standard_library=_CHEAP,
    ),
    "auditor.factors*": Allowed(
        ("auditor.factors", "auditor.interruptions", "auditor.plan"),
        auditor_lazily=("auditor.record.*", "auditor.redaction"), others_lazily=("*",)
    ),
    "auditor.detectors*": Allowed(("auditor.detectors", "auditor.trace*", "auditor.results"), others_lazily=("*",)),
    "auditor.launch*": Allowed(("auditor.launch", "auditor.launch.*", *NOUNS)),
    "auditor.experiment*": Allowed(("auditor.experiment.*", *NOUNS)),
    "auditor.diagnose*": Allowed(("auditor.diagnose.*", "auditor.factors", *NOUNS)),
    "auditor.source*": Allowed(("auditor.source", "auditor.source.*")),
    "auditor.mend*": Allowed(("auditor.mend.*", "auditor.results", "auditor.source", "auditor.source.*", "auditor.trace.lanes")),
    "auditor.compare*": Allowed(("auditor.compare.*", *NOUNS), ("numpy", "duckdb")),
    "auditor.mapping": Allowed(("auditor.documents", "auditor.errors"), ("yaml",)),
    "auditor.matching*": Allowed(("auditor.matching.*", *NOUNS), ("numpy", "duckdb")),
    "auditor.judge*": Allowed(
        ("auditor.judge.*", *NOUNS), ("yaml", "pydantic", "duckdb"), auditor_lazily=("auditor.detectors",)
    ),
    "auditor.report.words*": Allowed(("auditor.report.words.*", "auditor.results")),
    "auditor.report.story*": Allowed(("auditor.report.story.*", "auditor.report.words.*", "auditor.report.words", "auditor.results")),
    "auditor.report": Allowed(("auditor.output", "auditor.results")),
    # reading an audit back fails in a sentence of ours, made of what pydantic says
    "auditor.report.json": Allowed(
        ("auditor.report", "auditor.errors"),
        auditor_lazily=("auditor.report.words.*", "auditor.results", "auditor.trace", "auditor.trace.files"),
        others_lazily=("pydantic",)
    ),
    "auditor.report.console*": Allowed(_OF_REPORTS, ("rich",)),
    "auditor.report.markup*": Allowed(_OF_REPORTS),
    # the command line imports every format for its option, so each imports what renders it only when it renders
    "auditor.report.html": Allowed(("auditor.report",), auditor_lazily=_OF_REPORTS, others_lazily=("jinja2",)),
    "auditor.report.*": Allowed(("auditor.report",), auditor_lazily=_OF_REPORTS),
    "auditor.output": Allowed(("auditor.errors",)),
    "auditor.plugins": Allowed(("auditor.errors",), auditor_lazily=("auditor.detectors", "auditor.factors", "auditor.report")),
    "auditor.config": Allowed(
        ("auditor", "auditor.errors", "auditor.plugins", "auditor.trace.files"), ("pydantic",), others_lazily=("tomli",)
    ),
    "auditor.pipeline.rulebook": Allowed(("auditor.judge", "auditor.factors")),
    "auditor.listing": Allowed(("auditor.report.words.text", *NOUNS)),
    "auditor.progress": Allowed(("auditor.launch",)),
    "auditor.pipeline.devices": Allowed(_OF_PIPELINE, others_lazily=("torch",)),  # torch knows devices that only it supports
    # watching two callables happens in the caller's own process
    "auditor.pipeline.pairs": Allowed(_OF_PIPELINE, auditor_lazily=("auditor.record.probes.named_values",)),
    "auditor.pipeline*": Allowed(_OF_PIPELINE),
    "auditor.help": Allowed((), ("typer",)),
    "auditor.endings": Allowed(("auditor.errors",), ("typer",), auditor_lazily=("auditor.redaction",)),
    "auditor.options": Allowed(("auditor", "auditor.help", "auditor.plugins"), ("typer",)),
    "auditor.cli": Allowed(
        ("auditor.endings", "auditor.errors", "auditor.help", "auditor.options", "auditor.output"), ("typer",),
        auditor_lazily=(
            "auditor", "auditor.pipeline", "auditor.plugins", "auditor.results", "auditor.plan", "auditor.progress", "auditor.listing",
            "auditor.report.*", "auditor.config", "auditor.redaction", "auditor.pipeline.rulebook",
        ),
        others_lazily=("rich",),
    ),
}  # fmt: skip

#: What the user's process must not load because of us: importing some of it draws random numbers, all of it takes time or changes what the
#: script sees.
NEVER_IN_THE_CHILD = (
    "torch", "numpy", "random", "tempfile", "rich", "typer", "click", "yaml", "jinja2", "pydantic", "duckdb", "pyarrow", "polars", "pandas",
    "threading", "logging", "subprocess", "pathlib", "hashlib", "inspect", "socket", "multiprocessing", "asyncio", "auditor",
)  # fmt: skip


class Import(NamedTuple):
    """One import in one module: what, where, and whether it runs when the module is imported."""

    module: str
    name: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{self.module} imports {self.name} in line {self.line}{', lazily' if self.lazy else ''}"


def _files() -> dict[str, Path]:
    files = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        words = ("auditor", *path.relative_to(PACKAGE).with_suffix("").parts)
        files[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return files


MODULES = _files()


def imports_in(module: str, source: str, is_package: bool) -> Iterator[Import]:
    """Every import statement, wherever it is; for `from package import module` the module."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            lazy = True
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for part in node.body:
                yield from walk(part, True)
            for part in node.orelse:
                yield from walk(part, lazy)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, lazy)
        elif isinstance(node, ast.ImportFrom):
            within = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            package = ".".join([*within, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{package}.{alias.name}"
                yield Import(module, full if full in MODULES else package, node.lineno, lazy)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, lazy)

    yield from walk(ast.parse(source), False)


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    """Every import of one of our modules."""
    path = MODULES[module]
    return tuple(imports_in(module, path.read_text(), path.name == "__init__.py"))


def entry_of(module: str) -> Allowed | None:
    """The table entry that applies to a module."""
    return next((allowed for glob, allowed in TABLE.items() if fnmatchcase(module, glob)), None)


def _fits(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def forbidden(found: Import, allowed: Allowed) -> bool:
    """Whether the table does not allow this import."""
    top = found.name.split(".")[0]
    if top == "auditor":
        return not _fits(found.name, allowed.auditor + (allowed.auditor_lazily if found.lazy else ()))
    if top in sys.stdlib_module_names and top != "sitecustomize":
        return allowed.only_standard_library is not None and not _fits(found.name, allowed.only_standard_library)
    return not _fits(top, allowed.others + (allowed.others_lazily if found.lazy else ()))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_the_table_allows(module: str) -> None:
    allowed = entry_of(module)
    assert allowed is not None, f"{module} has no entry in the table"
    assert [str(found) for found in imports_of(module) if forbidden(found, allowed)] == []


def test_every_table_entry_for_an_existing_module_is_used() -> None:
    used = {next(glob for glob in TABLE if fnmatchcase(module, glob)) for module in MODULES}
    later = ("report.html",)
    assert {glob for glob in TABLE if glob not in used} <= {glob for glob in TABLE if glob.removeprefix("auditor.").rstrip("*") in later}


def test_verbs_never_import_one_another() -> None:
    def verb(module: str) -> str:
        part = (*module.split("."), "")[1]
        return part if part in VERBS else ""

    across = [
        str(found) for module in MODULES for found in imports_of(module) if verb(module) and verb(found.name) not in ("", verb(module))
    ]
    assert across == []
    assert {verb(module) for module in MODULES} >= {"launch", "compare"}


def test_there_are_no_import_cycles() -> None:
    eagerly = {module: {found.name for found in imports_of(module) if not found.lazy and found.name in MODULES} for module in MODULES}
    done: list[str] = []

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for name in sorted(eagerly[module]):
                visit(name, (*path, module))
            done.append(module)

    for module in MODULES:
        visit(module, ())
    assert sorted(done) == sorted(MODULES)


def callers_of(*functions: str) -> set[str]:
    """Modules that call a function of one of these names."""
    return {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in functions
    }


def test_only_the_api_and_plugins_import_by_name_and_all_names_of_the_api_exist() -> None:
    assert callers_of("import_module", "__import__") == {
        "auditor",
        "auditor.plugins",
        "auditor.record.arm",
    }  # the API, the members of sets, the factors that a run asks for
    assert set(auditor._LAZY.values()) <= set(MODULES)
    assert set(auditor._LAZY) | {"__version__"} == set(auditor.__all__)


def test_nothing_is_unpickled_or_evaluated() -> None:
    """The recorder compiles the source of one function of torch anew, with a call of ours before and after it."""
    assert callers_of("eval", "exec") == {"auditor.record.wrapping"}
    takers = [str(found) for module in MODULES for found in imports_of(module) if found.name in ("pickle", "marshal", "shelve", "dill")]
    assert takers == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch.nn as nn", [("torch.nn", False)]),
        ("from auditor import plan, nothing", [("auditor.plan", False), ("auditor", False)]),
        ("from . import imports", [("auditor.record.imports", False)]),
        ("from ..trace import writer", [("auditor.trace.writer", False)]),
        ("def f():\n  if 1:\n    import rich", [("rich", True)]),
        ("try:\n  import rich\nexcept ImportError: pass", [("rich", False)]),
        ("class A:\n  import rich", [("rich", False)]),
        ("if TYPE_CHECKING:\n  import a\nelse:\n  import b", [("a", True), ("b", False)]),
    ],
)
def test_the_import_reader_sees_imports_everywhere(source: str, found: list[tuple[str, bool]]) -> None:
    assert [(entry.name, entry.lazy) for entry in imports_in("auditor.record.arm", source, False)] == found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("auditor.record.probes.steps", "import torch"),
        ("auditor.record.probes.steps", "import random"),
        ("auditor.record.probes.steps", "def f(): import rich"),
        ("auditor.record.probes.steps", "from auditor.trace.reader import Trace"),
        ("auditor.trace.seal", "import numpy"),
        ("auditor.compare.mismatch", "from auditor.launch import outcome"),
        ("auditor.compare.mismatch", "from auditor.pipeline import audit"),
        ("auditor.plan", "import pydantic"),
        ("auditor.report.markdown", "import rich"),
        ("auditor.report.terminal", "from auditor.report.console import page"),
        ("auditor.report.story", "from auditor.report.console import page"),
        ("auditor.pipeline", "def f(): from auditor import cli"),
        ("auditor.cli", "import auditor.pipeline"),
        ("auditor.errors", "import os"),
    ],
)
def test_the_table_refuses_what_it_does_not_list(module: str, source: str) -> None:
    allowed = entry_of(module)
    assert allowed is not None
    assert [found for found in imports_in(module, source, False) if forbidden(found, allowed)]


# What importing really loads

#: Every module is imported in a fork of one interpreter that has imported nothing of ours: as clean as a new one, in a tenth of the time.
_EACH_ALONE = """
import json, os, sys, traceback
before = set(sys.modules)
for name in sys.argv[1:]:
    reader, writer = os.pipe()
    if not os.fork():
        os.close(reader)
        try:
            __import__(name)
            said = sorted({module if module.startswith("auditor") else module.partition(".")[0] for module in set(sys.modules) - before})
        except BaseException:
            said = traceback.format_exc()
        with open(writer, "w") as out:
            json.dump([name, said], out)
        os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        print(answer.read(), flush=True)
    os.wait()
"""


@pytest.fixture(scope="session")
def brought(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str] | str]:
    """What importing each module alone loads, with every warning an error; a traceback if it cannot be imported."""
    found: dict[str, list[str] | str] = made_once(tmp_path_factory, "brought", lambda _: _each_alone())[1]
    return found


def _each_alone() -> dict[str, list[str] | str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _EACH_ALONE, *MODULES], capture_output=True, env=environment(), timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_imported_alone(module: str, brought: dict[str, list[str] | str]) -> None:
    assert isinstance(brought[module], list), brought[module]
    assert module in brought[module]
    # no part of the auditor runs the user's framework in the auditor's own process
    assert {"torch", "pandas", "pyarrow"}.isdisjoint(brought[module])


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("auditor.cli", ("rich", "pydantic", "numpy", "duckdb", "yaml")),  # --help and a wrong option are answered at once
        ("auditor.plan", ("pydantic", "numpy")),
        ("auditor.trace", ("json", "mmap", "numpy", "duckdb")),
        ("auditor.trace.reader", ("numpy", "duckdb")),
        ("auditor.report", ("rich", "jinja2")),
        ("auditor.plugins", ("rich", "pydantic")),
        ("auditor.record.arm", NEVER_IN_THE_CHILD[:-1]),
    ],
)
def test_a_module_does_not_load_what_its_users_do_not_need(
    module: str, never: tuple[str, ...], brought: dict[str, list[str] | str]
) -> None:
    assert sorted(set(never) & set(brought[module])) == []


def test_importing_auditor_imports_nothing_else() -> None:
    source = "import sys; before = set(sys.modules); import auditor; print(sorted(set(sys.modules) - before))"
    done = start([sys.executable, "-W", "error", "-c", source], PACKAGE.parent)
    assert done.out == b"['auditor']\n", done.said


def test_every_file_of_probes_and_observers_defines_one() -> None:
    for package, constant in (("probes", "PROBE"), ("observers", "OBSERVER")):
        names = [name for name in MODULES if name.startswith(f"auditor.record.{package}.") and name.count(".") == 3]
        assert len(names) > 3
        assert [name for name in names if not hasattr(importlib.import_module(name), constant)] == []


def test_the_recorder_loads_nothing_heavy_in_a_script_that_imports_nothing(tmp_path: Path) -> None:
    write(tmp_path, train="import sys\nprint(*sorted(sys.modules))")
    bare = set(start([sys.executable, "train.py"], tmp_path).out.decode().split())
    done = audited(tmp_path, "record", "-o", "run", "train.py")
    assert "[torch-never-imported]" in done.said
    under = set((tmp_path / "run" / "stdout").read_text().split())
    assert "mmap" in under, "the recorder was not active"
    brought = {name.split(".")[0] for name in under - bare}
    assert sorted(brought & set(NEVER_IN_THE_CHILD)) == []
