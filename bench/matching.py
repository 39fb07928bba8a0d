"""Which of the tuned numbers in `auditor.matching` matter: each is changed in turn, and all pairs are matched again.

    python bench/matching.py [--kept DIR] [--jobs N] [--only MODULE ...] [--out DIR]

The pairs are those of `bench/matching/` (correct ones, and ones with a fault planted in one program) and those that the tests match. Each
script is recorded once and kept in DIR. A number is set to 0, to half and twice its value, and to one so large that what it limits has no
limit; whole numbers also to 1. If one of 0 and "large" changes no answer, the number and what it guards are of no use.
Writes results/matching.md and matching.json. Ends with status 1 if an answer is wrong as the numbers are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import sys
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from matching_corpus import Pair, of_tests, planted, summary  # noqa: E402
from matching_sites import HOUSE, Site, executed, sites, with_change  # noqa: E402

#: Changed answers after which no more are counted: of planted pairs, and of pairs of the tests.
_ENOUGH, _ENOUGH_OF_TESTS = 20, 3
#: Of the pairs that take longer than this many seconds, every so many are used.
_SLOW, _EVERY = 0.03, 6
_KEPT = Path.home() / ".cache" / "repro-audit" / "bench-matching"


def main() -> None:
    """Measure, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=Path, default=_KEPT, help="where recorded values are kept")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="change numbers of these modules only, and write nothing")
    parser.add_argument("--variants", nargs="*", default=[], help="make these changes only: 0, 1, half, double, large")
    parser.add_argument("--check", action="store_true", help="match all pairs once, and change nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    options = parser.parse_args()
    options.kept.mkdir(parents=True, exist_ok=True)
    pairs = [*planted(options.kept), *of_tests(options.kept)]
    began = time.perf_counter()
    usual = _kept_baseline(pairs, options.kept)
    wrong = [(pair.name, one["outcome"]) for pair, one in zip(pairs, usual, strict=True) if one["outcome"] != "right"]
    groups = dict(Counter(pair.group for pair in pairs))
    print(f"{len(pairs)} pairs, {time.perf_counter() - began:.0f} s: {groups}; wrong: {wrong}", flush=True)
    if not options.check:
        chosen = [site for site in sites() if not options.only or site.module in options.only]
        chosen.sort(key=lambda site: not site.is_named)
        found = _in_shards(chosen, pairs, usual, options.jobs, options.kept, options.variants)
        if not options.only:
            _write(chosen, found, pairs, options.out)
    sys.exit(1 if wrong else 0)


def _kept_baseline(pairs: Sequence[Pair], kept: Path) -> list[dict[str, Any]]:
    """The answers of the package as it is, from an earlier time if neither it nor the pairs have changed."""
    text = repr([(pair.name, pair.names, pair.kinds, pair.says) for pair in pairs]) + "".join(
        path.read_text() for path in sorted(HOUSE.glob("*.py"))
    )
    file = kept / f"usual-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.pickle"
    if not file.exists():
        file.write_bytes(pickle.dumps(with_change(None, "", lambda: _baseline(pairs), 3000)))
    found: list[dict[str, Any]] = pickle.loads(file.read_bytes())
    return found


def _baseline(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Of each pair its outcome, what is said of it, the lines that matching it executes, and how long that takes."""
    from auditor.matching import matched

    warnings.simplefilter("ignore")
    found = []
    for pair in pairs:
        began = time.perf_counter()
        answer = matched(pair.a, pair.b, pair.mapping)
        seconds = time.perf_counter() - began
        found.append({"outcome": pair.outcome(answer), "summary": summary(answer), "seconds": seconds})
    for k in _used(found):
        found[k]["lines"] = executed(lambda pair=pairs[k]: matched(pair.a, pair.b, pair.mapping))  # type: ignore[misc]
    return found


def _used(usual: Sequence[Mapping[str, Any]]) -> list[int]:
    """The pairs that are matched for each number, the quickest first."""
    order = sorted(range(len(usual)), key=lambda k: usual[k]["seconds"])
    slow = [k for k in order if usual[k]["seconds"] > _SLOW]
    return [k for k in order if k not in slow or k in slow[::_EVERY]]


def _changed(pairs: Sequence[Pair], usual: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """The pairs whose answer is no longer the usual one: group, name and how it is wrong; at most some."""
    from auditor.matching import matched

    warnings.simplefilter("ignore")
    found: list[tuple[str, str, str]] = []
    for pair, one in zip(pairs, usual, strict=True):
        counted = sum((group == "test") == (pair.group == "test") for group, _, _ in found)
        if counted >= (_ENOUGH_OF_TESTS if pair.group == "test" else _ENOUGH):
            continue
        try:
            outcome: str = pair.outcome(matched(pair.a, pair.b, pair.mapping), one["summary"])
        except Exception as error:  # noqa: BLE001
            outcome = f"error {type(error).__name__}"
        if outcome != one["outcome"]:
            found.append((pair.group, pair.name, outcome))
    return found


def _in_shards(
    chosen: Sequence[Site], pairs: Sequence[Pair], usual: Sequence[Mapping[str, Any]], jobs: int, kept: Path, variants: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What changes when each number is changed: by number and variant. Each job has a process and a file of its own."""
    order = _used(usual)
    files = [kept / f"ablation-{job}.jsonl" for job in range(jobs)]
    children = []
    for job, file in enumerate(files):
        child = os.fork()
        if child == 0:
            with file.open("w") as stream:
                sensitive: Counter[str] = Counter()  # what has shown a change is likely to show others: it comes first
                for site in chosen[job::jobs]:
                    concerned = [k for k in order if usual[k]["lines"] & site.lines]
                    for variant, text in site.variants.items():
                        if variants and variant not in variants:
                            continue
                        concerned.sort(key=lambda k: (pairs[k].group == "test", -sensitive[pairs[k].name]))
                        some = [pairs[k] for k in concerned], [usual[k] for k in concerned]
                        changed = with_change(site, text, lambda some=some: _changed(*some))  # type: ignore[misc]
                        sensitive.update(name for _, name, _ in changed or ())
                        print(json.dumps([_key(site), variant, len(concerned), changed]), file=stream, flush=True)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        for line in file.read_text().splitlines():
            key, variant, concerned, changed = json.loads(line)
            found.setdefault(key, {"pairs": concerned})[variant] = changed
    return found


def _key(site: Site) -> str:
    return f"{site.module}:{site.line}:{site.column}"


def _write(chosen: Sequence[Site], found: Mapping[str, Mapping[str, Any]], pairs: Sequence[Pair], out: Path) -> None:
    """The table, with what was removed because an earlier one showed no need of it."""
    groups = Counter(pair.group for pair in pairs)
    named = len({(one.module, one.owner) for one in chosen if one.is_named})
    others = sum(not one.is_named for one in chosen)
    head = (
        f"Each number is changed in turn and all pairs are matched again: {groups['correct']} correct pairs of programs, "
        f"{groups['faulty']} with a planted fault, and {groups['test']} that the tests match. A cell gives the pairs whose answer changes, "
        f"counted up to {_ENOUGH}: correct pairs that then differ (alarm), faults that are missed or told with a wrong name or kind; and "
        f"the pairs of tests for which anything changes, counted up to {_ENOUGH_OF_TESTS}. {named} named constants "
        f"and {others} other numbers remain. Of the slow pairs one in {_EVERY} is used. An empty cell was not measured."
    )
    lines = ["# The tuned numbers of the matching", "", head, "", "| number | where | what it holds | set to 0 | half | double | large |"]
    lines.append("|--:|---|---|---|---|---|---|")
    for site in chosen:
        cells = " | ".join(_cell(found.get(_key(site), {}).get(variant, ...)) for variant in ("0", "half", "double", "large"))
        lines.append(f"| {site.text} | {site.module}, `{site.owner}` | {site.held.replace('|', chr(92) + '|')} | {cells} |")
    removed = yaml.safe_load((HERE / "matching" / "removed.yaml").read_text())
    why = "An ablation over these pairs, slow ones sampled, showed no need of them. They are gone, with the code that they served."
    lines += ["", "## Removed", "", why, ""]
    lines += ["| number | where | what it held | without it |", "|--:|---|---|---|"]
    lines += [f"| {one['number']} | {one['where']} | {one['held']} | {one['without']} |" for one in removed]
    (out / "matching.md").write_text("\n".join(lines) + "\n")
    rows = [
        {"module": site.module, "in": site.owner, "number": site.text, "held": site.held, **found.get(_key(site), {})} for site in chosen
    ]
    (out / "matching.json").write_text(json.dumps(rows, indent=1) + "\n")


def _cell(changed: Any) -> str:
    if changed is ...:
        return ""
    if changed is None:
        return "does not end"
    counts = Counter("test" if group == "test" else outcome.partition(" ")[0] for group, _, outcome in changed)
    return ", ".join(f"{number} {what}" for what, number in counts.items()) or "none"


if __name__ == "__main__":
    main()
