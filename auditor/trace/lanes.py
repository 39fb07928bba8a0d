"""Which lane of a run it is: the parts of a lane's name, and the order of lanes. Nothing else takes such a name apart."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_NAME = re.compile(
    r"(?:main|(?:rank (?P<rank>\S+))?(?:(?: |^)(?:worker (?P<worker>\d+)|process (?P<process>.+?)|fork (?P<fork>\d+)))?"
    r"(?:(?: |^)thread (?P<thread>\d+))?)(?: \((?P<nth>\d+)\))?"
)


class LaneKey(NamedTuple):
    """A lane by its role, in every run the same. Of lanes with one role the `nth`, from 1."""

    rank: str | None = None
    process: str | None = None
    """Place of a child process among its kin (`1.2`), or the script that it runs."""
    worker: int | None = None
    thread: int | None = None
    fork: int | None = None
    nth: int = 1

    @classmethod
    def parse(cls, name: str) -> LaneKey:
        """The key of a lane with a name that `lane_name` made, and a number behind it where there are several."""
        found = _NAME.fullmatch(name)
        if found is None:
            return cls()
        worker, thread, fork = (None if found[part] is None else int(found[part]) for part in ("worker", "thread", "fork"))
        return cls(found["rank"], found["process"], worker, thread, fork, int(found["nth"] or 1))

    @property
    def is_rank(self) -> bool:
        """Whether it is the main thread of a rank."""
        return self.rank is not None and self == LaneKey(rank=self.rank)

    @property
    def single_part(self) -> tuple[str, str] | None:
        """`("rank", "2")` where one part alone says which lane it is."""
        parts = [(part, str(value)) for part in _IN_NAME if (value := getattr(self, part)) is not None]
        return parts[0] if len(parts) == 1 and self.nth == 1 else None

    @property
    def order(self) -> tuple[Any, ...]:
        """What lanes are sorted by: the main thread first, rank 2 before rank 10."""
        parts = [(part, _natural(str(value))) for part in _IN_NAME if (value := getattr(self, part)) is not None] or [("", [])]
        return (*parts, ("~", self.nth)) if self.nth > 1 else tuple(parts)


_IN_NAME = ("rank", "worker", "process", "fork", "thread")


def _natural(value: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", value)]


def in_order(name: str) -> tuple[Any, ...]:
    """A key that sorts the names of lanes."""
    return LaneKey.parse(name).order


def without_number(name: str) -> str:
    """The name that a lane has for itself: only the whole run tells how many had it before."""
    return re.sub(r" \(\d+\)$", "", name)
