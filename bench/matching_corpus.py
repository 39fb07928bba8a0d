"""The pairs of programs by which `auditor.matching` is measured: recorded once, kept, and held against what is expected of them."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml

from auditor.launch import launch
from auditor.plan import Plan
from auditor.report.words.reasons import meaning_of
from auditor.results import NamePair, Relation
from auditor.trace.names import named_values
from auditor.trace.reader import Trace

if TYPE_CHECKING:
    from auditor.matching import MatchResult

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE / "matching"
TESTS = ("tests/test_match.py", "tests/test_match_numbers.py", "tests/test_match_scripts.py")
Outcome = Literal["right", "alarm", "missed", "name", "kind", "meaning", "changed"]
#: What is replaced in a script that computes in one precision, to compute in the other.
_PRECISIONS = (
    ("DTYPE = np.float64", "DTYPE = np.float32"),
    ("DTYPE = np.float32", "DTYPE = np.float64"),
    ("torch.set_default_dtype(torch.float32)", "torch.set_default_dtype(torch.float64)"),
)
_FACTS = (
    "name", "scope", "file", "kind", "order", "step", "line", "dtype", "shape", "digest", "norm", "total", "nonfinite", "sums", "turned",
)  # fmt: skip


class Kept:
    """All values of a name in memory: a `Values` that can be pickled and that computes nothing."""

    def __init__(self, series: Any) -> None:
        for fact in _FACTS:
            found = getattr(series, fact)
            setattr(self, fact, np.array(found) if isinstance(found, np.ndarray) else found)
        self._values = [series.value(k) for k in range(len(series.order))]

    def value(self, k: int, /) -> Any:
        """The k-th value, None if only its sketch was kept."""
        return self._values[k]


@dataclass(frozen=True)
class Pair:
    """Two recorded programs and what matching them is to say: that they agree, or the name and the kind of the first difference."""

    name: str
    group: Literal["correct", "faulty", "test"]
    a: list[Any]
    b: list[Any]
    mapping: dict[str, str] | None = None
    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    says: str = ""
    """Words that the meaning of the difference has."""

    def outcome(self, found: MatchResult, usual: object = None) -> Outcome:
        """Whether the answer is right; of a pair of a test, whether it is the usual one."""
        if self.group == "test":
            return "right" if usual is None or summary(found) == usual else "changed"
        if self.group == "correct":
            return "right" if found.answer == "agree" else "alarm"
        if not found.origins:
            return "missed"
        first = found.origins[0]
        if first.a not in self.names:
            return "name"
        told = [one for one in (first.relation, first.update) if one is not None and one.kind in self.kinds]
        return "kind" if not told else "right" if any(self.says in meaning_of(one.meaning) for one in told) else "meaning"


def summary(found: MatchResult) -> object:
    """What an answer says, without the digits: the answer, the pairs, and each difference with its kinds, its meaning and its cause."""

    def said(one: Relation | None) -> object:
        return None if one is None else (one.kind, "".join(letter for letter in meaning_of(one.meaning) if letter.isalpha()))

    def told(pair: NamePair) -> object:
        aligned = pair.a, pair.b, pair.how, pair.occurrences
        first = None if pair.first is None else pair.first.step
        return aligned if pair.agrees else (aligned, first, pair.follows, said(pair.relation), said(pair.update))

    return found.answer, sorted(map(str, map(told, found.pairs))), sorted(found.unaligned)


class _Silent:
    def output(self, stream: int, data: bytes) -> None:
        """Leave it out."""

    def progress(self, progress: object) -> None:
        """Leave it out."""


def recorded(text: str, script: str, kept: Path) -> list[Kept]:
    """The named values of a script, from an earlier recording of the same text if there is one."""
    file = kept / f"{Path(script).stem}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.values"
    if not file.exists():
        folder = file.with_suffix(".folder")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / script).write_text(text)
        launch(Plan((script,), cwd=str(folder)).with_names(), folder / "run", "run", "control", _Silent(), quiet=True)
        run = Trace(folder / "run")
        if run.meta.get("exit"):
            raise SystemExit(f"{script} of {folder} ended with status {run.meta['exit']}: {run.meta.get('error')}")
        file.write_bytes(pickle.dumps([Kept(one) for one in named_values(run)]))
        shutil.rmtree(folder)
    found: list[Kept] = pickle.loads(file.read_bytes())
    return found


def planted(kept: Path) -> Iterator[Pair]:
    """The correct pairs of `bench/matching/`, in several precisions and refactored, and those with a fault planted in one of them."""
    families = yaml.safe_load((SCRIPTS / "faults.yaml").read_text())
    for family, faults in families.items():
        texts = {side: (SCRIPTS / f"{family}_{side}.py").read_text() for side in ("by_hand", "library")}
        files = {side: f"{family}_{side}.py" for side in texts}
        ours, theirs = (recorded(texts[side], files[side], kept) for side in texts)
        yield Pair(family, "correct", ours, theirs)
        other = {side: _in_other_precision(text) for side, text in texts.items()}
        yield Pair(f"{family}, library in another precision", "correct", ours, recorded(other["library"], files["library"], kept))
        moved = recorded(_in_function(other["by_hand"]), files["by_hand"], kept)
        yield Pair(f"{family}, in a function and another precision", "correct", ours, moved)
        for name, fault in faults.items():
            side = fault["in"]
            text = _replaced(texts[side], fault["old"], fault["new"])
            for old, new in fault.get("also", []):
                text = _replaced(text, old, new)
            faulty = recorded(text, files[side], kept)
            both = (faulty, theirs) if side == "by_hand" else (ours, faulty)
            yield Pair(
                f"{family}, {name}", "faulty", *both, names=tuple(fault["name"]), kinds=tuple(fault["kind"]), says=fault.get("says", "")
            )


def _replaced(text: str, old: str, new: str) -> str:
    if text.count(old) < 1:
        raise SystemExit(f"not in the script: {old}")
    return text.replace(old, new)


def _in_other_precision(text: str) -> str:
    for old, new in _PRECISIONS:
        if old in text:
            return text.replace(old, new)
    return text


def _in_function(text: str) -> str:
    """A script as a function that is called: what was global is then local."""
    docstring, _, rest = text.partition("\n\n")
    return f"{docstring}\n\n\ndef train():\n{textwrap.indent(rest, '    ')}\n\ntrain()\n"


def of_tests(kept: Path) -> list[Pair]:
    """Every pair that the tests match, as captured while they ran."""
    texts = b"".join(Path(HERE.parent, name).read_bytes() for name in (*TESTS, "tests/series.py"))
    file = kept / f"tests-{hashlib.blake2b(texts, digest_size=8).hexdigest()}.pairs"
    if not file.exists():
        command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "matching_capture", "-p", "no:cacheprovider", *TESTS]
        command += ["-k", "not the_command_answers and not unseeded_modules"]  # they match in processes of their own
        environment = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent}", "MATCHING_CAPTURE": str(file)}
        subprocess.run(command, cwd=HERE.parent, env=environment, check=True)
    with file.open("rb") as stream:
        found: list[tuple[str, Sequence[Kept], Sequence[Kept], dict[str, str] | None]] = pickle.load(stream)
    return [Pair(name, "test", list(a), list(b), mapping) for name, a, b, mapping in found]
