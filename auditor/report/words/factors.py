"""What is said of factors: which were pinned, varied or left out, in few words."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.report.words.reasons import text_of
from auditor.report.words.text import listed, plain
from auditor.results import RunOutcome, Search

#: Most factors that are named where a run is described, and most that are named as those that were not in it.
_NAMED, _MISSING = 3, 4


def how_varied(run: RunOutcome, search: Search | None) -> str:
    """`threads alone varied`, `all factors varied and clock pinned`."""
    alone = " alone" if len(run.varied) == 1 and not run.pinned else ""
    still = f" and {how_pinned(run, search)}" if run.pinned else ""
    return f"{some_factors(run.varied, search.varied if search else [])}{alone} varied{still}"


def pinned_and_varied(run: RunOutcome, search: Search | None) -> str:
    """What was pinned and varied in a run: `all pinned but hash-seed`, `threads varied`; nothing for nothing."""
    said = []
    for what, some, all_ in (
        ("pinned", run.pinned, search.pinned if search else []),
        ("varied", run.varied, search.varied if search else []),
    ):
        missing = _missing(some, all_)
        if some and missing is not None:
            said.append(f"all {what} but {listed(missing)}" if missing else f"all {what}")
        elif some:
            said.append(f"{some_factors(some, all_)} {what}")
    return ", ".join(said)


def how_pinned(run: RunOutcome, search: Search | None) -> str:
    """`hash-seed and clock pinned`, `all but threads pinned`."""
    return f"{some_factors(run.pinned, search.pinned if search else [])} pinned"


def some_factors(some: Sequence[str], all_: Sequence[str]) -> str:
    """Some factors in few words: `all factors`, `all but threads`, `hash-seed and clock`, `7 of 20 factors`."""
    missing = _missing(some, all_)
    if missing is not None:
        return f"all but {listed(missing)}" if missing else "all factors"
    if len(some) <= _NAMED:
        return listed(some)
    return (
        f"{len(some)} of {len(all_)} factors" if len(all_) > len(some) else listed([*some[: _NAMED - 1], f"{len(some) - _NAMED + 1} more"])
    )


def _missing(some: Sequence[str], all_: Sequence[str]) -> list[str] | None:
    """The few of all factors that are not among some; None if they are more, or if all are so few that all are named."""
    missing = [name for name in all_ if name not in some]
    return missing if len(missing) <= _MISSING and 2 * len(missing) < len(all_) and len(all_) > 2 else None


def left_out(search: Search) -> str:
    """The factors that took no part and why, those of one reason together."""
    alike: dict[str, list[str]] = {}
    for factor, reason in search.left_out.items():
        alike.setdefault(plain(text_of(reason)), []).append(factor)
    return "; ".join(f"{listed(factors)} ({why})" if why else listed(factors) for why, factors in alike.items())
