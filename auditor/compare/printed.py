"""The metrics that two runs printed: numbers in lines that are the same in both but for their numbers. Pure: text in, facts out.

A number is a metric only if it has a fraction, an exponent or a percent sign, and stands behind a word that can name one. What differs
between any two runs is left out: durations, rates, dates, sizes of memory, addresses, process numbers. Lines are paired by what they say
without their numbers, the first with the first; of lines that one run printed more often than the other, and of those that a progress bar
overwrites, nothing is said. Here silence costs little, and a wrong number costs the trust in all others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from auditor.results import Printed, PrintedMetric

#: Characters of an output that is read; more is not compared.
LARGEST = 4 << 20
#: Most characters of a line with metrics, of what names a number, and most metrics that are kept.
_LONGEST, _BEFORE, _KEPT = 2_000, 80, 8

_NUMBER = re.compile(r"(?<![\w.,/+-])(?<!\d:)[-+]?(?:(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?|nan|NaN|inf|Infinity)(?![\w:/]|[.,-]\d)")
_DIGITS = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|[-+]?\.\d+|\b(?:nan|NaN|[-+]?inf|Infinity)\b")
#: One or two words before a number, with what may stand between.
_LABEL = re.compile(r"((?:[A-Za-z][\w.@/%-]*[ _])?[A-Za-z][\w.@/%-]*)['\"]?\)?\s*(?:[=:]+|\bis\b|\bwas\b|\bof\b)?\s*(?:tensor\(|[$])?$")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
#: What follows a number that is a time, a rate or a size.
_UNIT = re.compile(
    r"\s*(?:(?:[num\u00b5\u03bc]?s|secs?|seconds?|min|mins|minutes?|h|hrs?|hours?|days?|[KMGT]i?B|[kKMG]?B|bytes|[KMG]?Hz|fps)\b"
    r"|(?:it|iters?|steps?|samples?|examples?|tokens?|images?|batch(?:es)?|[KMGT]i?B|[KMG]?FLOPS?|\w+)\s*/\s*(?:s|sec|second|min)\b|s/it\b|/\s*s\b)",
    re.IGNORECASE,
)
#: Words of which one before a number says that it is none of the training's.
_OF_THE_MACHINE = frozenset((
    "time", "times", "runtime", "timing", "elapsed", "duration",
    "eta", "took", "takes", "seconds", "second", "sec", "secs", "ms", "minutes", "hours",
    "wall", "walltime", "clock", "date", "timestamp", "started", "finished", "speed", "throughput", "rate/s", "fps", "it/s",
    "samples/s", "tokens/s", "memory", "mem", "ram", "rss", "vram", "gpu_mem", "allocated", "reserved", "cache", "size", "pid",
    "process", "thread", "port", "host", "id", "address", "addr", "at", "version", "torch", "python", "cuda", "seed", "temperature",
    "power", "load", "usage", "utilization", "util", "speedup", "latency",
    "overhead", "bandwidth", "flops", "mfu", "tps", "qps", "rps",
))  # fmt: skip
#: Words that name nothing: a number behind one of them has no name.
_NO_NAME = frozenset((
    "in", "on", "after", "before", "by", "from", "to", "for", "with", "and", "or", "the", "a", "an", "than", "about", "approximately",
    "~", "least", "most", "per", "over",
))  # fmt: skip


def printed_metrics(a: str, b: str) -> Printed | None:
    """The metrics in what two runs printed, how many differ, and the last of each name; None if they printed none."""
    if max(len(a), len(b)) > LARGEST:
        return None
    ours, theirs = _lines(a), _lines(b)
    compared = differing = 0
    last: dict[str, PrintedMetric] = {}
    names: set[str] = set()
    for said, lines in ours.items():
        others = theirs.get(said, [])
        if len(lines) != len(others):
            continue
        for (place, x), (_, y) in zip(lines, others, strict=True):
            for (name, value), (_, other) in zip(_metrics(x), _metrics(y), strict=False):
                compared += 1
                names.add(name)
                if value != other:
                    differing += 1
                    last.pop(name, None)
                    last[name] = PrintedMetric(name=name, a=value, b=other, line=place)
    if not compared:
        return None
    kept = sorted(last.values(), key=lambda metric: metric.line)[-_KEPT:]
    return Printed(compared=compared, differing=differing, names=sorted(names)[:_KEPT], last=kept)


def _lines(text: str) -> dict[str, list[tuple[int, str]]]:
    """The lines by what they say without their numbers, each with its place in the output; only those that have a metric."""
    found: dict[str, list[tuple[int, str]]] = {}
    for place, raw in enumerate(text.split("\n"), 1):
        line = _COLOUR.sub("", raw.removesuffix("\r"))
        if len(line) > _LONGEST or "\r" in line or "\b" in line or "\x1b" in line or not any(True for _ in _metrics(line)):
            continue
        said = " ".join(_DIGITS.sub("#", line).split())
        found.setdefault(said, []).append((place, line))
    return found


def _metrics(line: str) -> Iterator[tuple[str, str]]:
    """The metrics of a line, each as (name, number as it was printed)."""
    end = 0
    for number in _NUMBER.finditer(line):
        before, behind = line[max(end, number.start() - _BEFORE) : number.start()], line[number.end() : number.end() + _BEFORE]
        end = number.end()
        name = _name(before)
        if name is not None and _is_metric(number[0], behind):
            yield name, number[0] + ("%" if behind[:1] == "%" else "")


def _is_metric(number: str, behind: str) -> bool:
    whole = number.lstrip("+-").isdigit()
    if _UNIT.match(behind) or (whole and not re.match(r"\s?%", behind)):
        return False
    return not 1e8 <= abs(float(number)) < 1e12  # seconds or milliseconds since 1970


def _name(before: str) -> str | None:
    """The words that name the number behind them; None if they can name none."""
    found = _LABEL.search(before)
    if found is None:
        return None
    words = {part for word in before.lower().split() for part in (word, *re.split(r"[^a-z0-9/]+", word), *re.split(r"[^a-z0-9]+", word))}
    if found[1].lower().split()[-1] in _NO_NAME or words & _OF_THE_MACHINE:
        return None
    return " ".join(word for word in found[1].split() if word.lower() not in _NO_NAME)
