"""A gradient that is computed step after step and that no update ever uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from auditor.detectors import Detector, Hit, named

if TYPE_CHECKING:
    from auditor.trace.tables import Tables


@dataclass(frozen=True)
class Params:
    """`all`: none of the gradients of a backward pass is used; `some`: those of some tensors are not, and others are."""

    of: Literal["all", "some"]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit a `backward()` whose gradients (all, or some) no op but zeroing ever takes in, in a script that has optimizer steps.

    A leaf whose gradient is used after another backward pass is left out: a generator's loss has gradients for the discriminator too. So
    are leaves that nobody has a name for, such as the inputs of a checkpointed segment, sparse gradients, which have no storage that
    could be followed, and what is written by something else within the backward pass, as the gradients of DistributedDataParallel are.
    Where others are used, only parameters of modules are told: a tensor of its own may be an input whose gradient is looked at.
    """
    rows = runs[0].query(
        """WITH known AS (
            SELECT g.* FROM gradients g WHERE g.leaf NOT GLOB 'a tensor of shape*' AND (g.lane, g.leaf) NOT IN (
                SELECT (lane, leaf) FROM records WHERE leaf IS NOT NULL AND phase = 'backward' AND out GLOB '*sparse*')),
        used AS (
            SELECT DISTINCT g.lane, g.leaf FROM known g JOIN uses u ON u.lane = g.lane AND u.used = g.made
            WHERE u."row" > g."row" AND u.op NOT GLOB '*zero_*' AND (u.phase <> 'backward' OR u.op GLOB '*_.*' AND NOT EXISTS (
                SELECT 1 FROM gradients h WHERE h.lane = u.lane AND h."row" = u."row")))
        SELECT g.file, g.line, g.leaf, count(*) AS times, min(g."row") AS moment, u.leaf IS NOT NULL AS is_used
        FROM known g LEFT JOIN used u ON u.lane = g.lane AND u.leaf = g.leaf
        WHERE g.lane IN (SELECT lane FROM records WHERE phase = 'optimizer' UNION SELECT lane FROM events WHERE kind = 'step')
        GROUP BY g.file, g.line, g.leaf, u.leaf HAVING count(*) > 1 ORDER BY moment"""
    )
    places: dict[tuple[str | None, int | None], list[dict[str, object]]] = {}
    for row in rows:
        places.setdefault((row["file"], row["line"]), []).append(row)
    for (file, line), leaves in places.items():
        unused = [row for row in leaves if not row["is_used"]]
        if not unused or (len(unused) == len(leaves)) != (params.of == "all"):
            continue
        names = [str(row["leaf"]) for row in unused]
        if params.of == "some" and not all("." in name for name in names):
            continue
        values: dict[str, object] = {"tensors": named(names, len(leaves), "tensor"), "subject": " ".join(sorted(names))}
        yield Hit(file, line, values, max(int(str(row["times"])) for row in unused))


DETECTOR = Detector("unused-gradient", _find, Params, frozenset({"tensors"}))
