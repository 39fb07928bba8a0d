"""A model that is evaluated in training mode: dropout is active, or batch norm updates its averages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_WORD = "eval|evaluate|evaluation|val|valid|validate|validation|accuracy"
#: Functions that evaluate. A name that merely begins with test_ may be a unit test, which trains.
_FUNCTION = rf"(?i)(^|_)({_WORD}|infer|inference)(_|\d*$)|^test(_(epoch|loop|model|step|one_epoch))?$|^predict$"
#: Lines that evaluate, in a script without functions: by the name that the result is assigned to.
_CODE = rf"(?i)^(\w+_)?({_WORD}|test)_(acc|accuracy|error|logits|loss|mse|out|output|outputs|pred|preds|predictions|score)\s*=[^=]"


@dataclass(frozen=True)
class Params:
    """Ops that only a module in training mode calls, and the start of their `args`."""

    ops: tuple[str, ...]
    args: str = ""


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line that evaluates.

    A call of a module is an evaluation if no backward pass used its result and the function or the line has such a name. One of the two
    is not enough: the teacher of a student, a checkpointed block and a rollout have no backward pass either. Scripts that never train
    give no hit.
    """
    run = runs[0]
    rows = run.query(
        r"""WITH numbered AS (SELECT * FROM module_rows),
        active AS (
            SELECT n.lane, n.call, n.root, first(r.module ORDER BY r."row") AS module
            FROM numbered n JOIN records r ON r.lane = n.lane AND r."row" = n."row"
            WHERE r.kind = 'op' AND list_contains(?, r.op) AND starts_with(coalesce(r.args, ''), ?) GROUP BY n.lane, n.call, n.root),
        trained AS (
            SELECT DISTINCT n.lane, n.call, n.root FROM numbered n
            JOIN uses u ON u.lane = n.lane AND u.used = n."row" AND u.phase = 'backward'),
        untrained AS (
            SELECT a.* FROM active a ANTI JOIN trained t ON t.lane = a.lane AND t.call = a.call
            SEMI JOIN trained s ON s.lane = a.lane AND s.root = a.root),
        around AS (
            SELECT u.*, n."row" FROM untrained u JOIN numbered n ON n.lane = u.lane AND n.call = u.call
            UNION ALL
            SELECT u.lane, u.call, u.root, u.module, max(n."row") + 1 FROM untrained u
            JOIN numbered n ON n.lane = u.lane AND n.call = u.call GROUP BY u.lane, u.call, u.root, u.module),
        evaluations AS (
            SELECT a.lane, a.call, a.root, a.module, min(a."row") AS "row" FROM around a
            JOIN records r ON r.lane = a.lane AND r."row" = a."row"
            WHERE regexp_matches(r.function, ?) OR regexp_matches(r.code, ?) GROUP BY a.lane, a.call, a.root, a.module)
        SELECT r.file, r.line, first(r.function ORDER BY r."row") AS function, first(e.root ORDER BY r."row") AS module,
            first(e.module ORDER BY r."row") AS layer, count(*) AS calls,
            count(DISTINCT r.step) AS steps, list(DISTINCT r.lane) AS lanes
        FROM evaluations e JOIN records r ON r.lane = e.lane AND r."row" = e."row"
        WHERE r.line IS NOT NULL GROUP BY r.file, r.line ORDER BY min(r."row")""",
        list(params.ops),
        params.args,
        _FUNCTION,
        _CODE,
    )
    for row in rows:
        values = {"module": row["module"], "layer": row["layer"], "function": row["function"], "subject": row["layer"]}
        yield Hit(row["file"], row["line"], values, row["calls"], row["steps"], tuple(row["lanes"]))


DETECTOR = Detector("training-in-evaluation", _find, Params, frozenset({"module", "layer", "function"}))
