"""The words for causes: what is done at the line where a factor entered, and what the runs say for and against it."""

from __future__ import annotations

from auditor.report.words.text import counted, listed
from auditor.report.words.wording import Words


def _function_called(function: str) -> str:
    return f"{function} is {'read' if ' ' in function else 'called'} here"  # a variable of the environment, with its name


def _results_changed(changes: str, index: int, op: str, at_most: float | None) -> str:
    said = f"{changes} results from op {index:,} ({op}) on"
    return said if at_most is None else f"{said}, there by at most {at_most:.1g}"


def _last_loss(a: str, b: str) -> str:
    return _drifted("the last loss", a, b)


def _last_number(a: str, b: str) -> str:
    return _drifted("the last number printed that differs", a, b)


def _drifted(what: str, a: str, b: str) -> str:
    return f"{what} is {a} and {b}" if a != b else f"{what} is the same"


def _chance(runs: int, needed: int) -> str:
    return f"{counted(runs, 'run')} that agree may be chance at this rate; use --runs {needed}"


def _also_pinned(factors: list[str]) -> str:
    return f"pinning {listed(factors)} also removes it"


def _beyond(file: str | None, line: int | None, index: int, kind: str) -> str:
    where = f"{file}:{line}" if file else f"op {index}"
    return (
        f"the difference at {where} ({kind}) may come from a race between threads of a library, a network service, "
        "files outside the working directory, or a library's own generator"
    )


def _or_unbearable(factors: list[str]) -> str:
    return f"or {listed(factors)}, which break the script"


WORDS: dict[str, Words] = {
    # at the line
    "folder-listed": "{path} is listed here",
    "file-read": "{path} is read here",
    "memory-made": "the memory is made here",
    "function-called": _function_called,
    "stream-touched": "{function} here",
    "op-from-forward": "{op} comes from here",
    "script-fails": "it fails here",
    "tensor-made": "a tensor is made here",
    "op-draws": "{op} draws here",
    "op-called": "{op} is called here",
    "code-listed": "{code} is listed here",
    "code-ordered": "{code} is ordered here",
    # of the factor, in its own words
    "factor-varies": "{why}",
    # by the runs
    "also-pinned": _also_pinned,
    "chance": _chance,
    "pinned-otherwise": "pinning another factor also removes it",
    "differed-once": "it made a difference in one run and none in another",
    "results-changed": _results_changed,
    "last-loss": _last_loss,
    "last-number": _last_number,
    # what is left
    "beyond-factors": _beyond,
    "or-unbearable": _or_unbearable,
}
