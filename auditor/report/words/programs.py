"""What is said of two programs whose named values were compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from auditor.report.words.reasons import meaning_of
from auditor.report.words.text import EIGHTHS, INFINITE, counted, listed, place, plain
from auditor.results import Audit, NamePair, Relation


def is_match(audit: Audit) -> bool:
    """Whether two programs were compared."""
    return any(run.role == "program" for run in audit.runs)


def origins(audit: Audit) -> list[NamePair]:
    """The names whose differences follow from no earlier one, in order of execution."""
    return [pair for pair in audit.names if not pair.agrees and pair.follows is None]


def matching(audit: Audit) -> str:
    """Whether two programs agree, in how many names and to how many digits, or how they differ first."""
    first = next(iter(origins(audit)), None)
    if first is None:
        known = [pair.digits for pair in audit.names if pair.digits is not None]
        digits = f" to at least {min(known):.1f} digits" if known else ""
        return f"{counted(len(audit.names), 'name')} of both programs agree{digits} at every step."
    both = plain(first.a) if first.a == first.b else f"{plain(first.a)} and {plain(first.b)}"
    when_ = f" (step {first.first.step})" if first.first is not None else ""
    at = f", at {pair_place(first)}" if pair_place(first) else ""
    count = len(origins(audit))
    said = f"{both}{at}{when_}: {relation_words(first, short=count > 1)}"
    return f"{counted(count, 'difference')} explain all others. The first is {said}." if count > 1 else f"The first difference is {said}."


def pair_place(pair: NamePair) -> str:
    """`a.py:34 and b.py:41`; empty where no line gave the names their values."""
    sides = ((pair.file_a, pair.line_a), (pair.file_b, pair.line_b))
    places = [place(file, line) for file, line in sides if file and line is not None]
    return listed(places) if places else ""


def relation_words(pair: NamePair, short: bool = False) -> str:
    """How a name differs from its counterpart: by its update where that says more; `short`: without what that can mean."""
    found = [
        (which, one) for which, one in (("", pair.relation), ("each update: ", pair.update)) if one is not None and one.kind != "equal"
    ]
    found.sort(key=lambda entry: entry[1].kind == "other")
    return f"{found[0][0]}{_relation(found[0][1], short)}" if found else "in no simple way"


def _relation(one: Relation, short: bool) -> str:
    value = "" if one.value is None else f"{one.value:.6g}"
    known = {
        "factor": f"a constant factor {value}", "offset": f"a constant offset {value}", "sign": "the opposite sign",
        "transpose": "transposed",
        "permutation": "in a different order", "rounding": "rounded", "lag": "one step late", "growing": "by more with each step",
        "other": "in no simple way", "equal": "the same",
    }  # fmt: skip
    said = known[one.kind].rstrip()
    if short or not one.meaning:
        return said
    meaning = plain(meaning_of(one.meaning))
    return f"{said}: {meaning.removeprefix(f'{value}: ') if value else meaning}"


def name_rows(pairs: Sequence[NamePair]) -> list[tuple[str, ...]]:
    """The heads and the rows of a table of names: both names, their lines, the digits in which they agree, from when on not, and how."""
    rows: list[tuple[str, ...]] = [("name", "", "lines", "digits", "diverges at", "how")]
    for pair in pairs:
        known = [str(line) if line is not None else "" for line in (pair.line_a, pair.line_b)]
        lines = " | ".join(known) if any(known) else ""
        when_ = "" if pair.first is None else f"step {pair.first.step}" if pair.first.step or not pair.first.occurrence else ""
        when_ = when_ or ("" if pair.first is None else f"no. {pair.first.occurrence + 1}")
        how = "agrees" if pair.agrees else f"follows from {plain(pair.follows)}" if pair.follows else relation_words(pair, short=True)
        if pair.agrees and pair.relation is not None and pair.relation.kind not in ("equal", "rounding"):
            how = f"agrees, {_relation(pair.relation, short=True)}"
        other = "" if pair.b == pair.a else plain(pair.b)
        rows.append((plain(pair.a), other, lines, "" if pair.digits is None else f"{pair.digits:.1f}", when_, how))
    return rows


def error_curves(audit: Audit, most: int, columns: int) -> list[tuple[str, str, str]]:
    """The names that differ most, those that follow from no other first: name, relative error over its occurrences as bars, from and to."""
    worst = sorted((pair for pair in audit.names if not pair.agrees), key=lambda pair: (pair.follows is not None, -_last_error(pair)))
    found = []
    for pair in worst[:most]:
        known = [(at, error) for at, error in pair.errors if 0 < error < INFINITE]
        if not known:
            continue
        last = max(pair.errors[-1][0], 1)
        bars = [0.0] * columns
        for at, error in known:
            column = min(int(at / last * columns), columns - 1)
            bars[column] = max(bars[column], error)
        low, high = math.floor(math.log10(min(error for _, error in known))), math.ceil(math.log10(max(error for _, error in known)))
        high = max(high, low + 1)
        cells = "".join(EIGHTHS[max(round((math.log10(bar) - low) / (high - low) * 8), 1)] if bar else " " for bar in bars)
        found.append((plain(pair.a), cells, f"1e{low} to 1e{high}"))
    return found


def _last_error(pair: NamePair) -> float:
    return pair.errors[-1][1] if pair.errors else 0.0
