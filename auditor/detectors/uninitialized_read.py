"""Uninitialized memory that is read: no op has written it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

#: In-place ops that compute with the old content; all others may fill it.
_COMPUTES_IN_PLACE = r"^aten\.(add|sub|mul|div|pow|addcmul|addcdiv|lerp|clamp|clamp_min|clamp_max|abs|neg|exp|sqrt|relu|sigmoid|tanh)_\."
#: They copy, take only the shape, or replace a part.
_NO_READ = (
    r"^aten\.(_to_copy|clone|copy|contiguous|_pin_memory|fill|lift\w*|index_put|index_fill|index_copy|masked_fill|masked_scatter|bernoulli|"
    r"where|scatter\w*|\w+_scatter|new_\w+|\w+_like|empty\w*|is_\w+|_has_same_storage_numel|_cudnn_rnn_flatten_weight)\."
)
#: They leave their first argument unread where beta is 0, for which torch.empty is then the usual argument.
_SCALED_FIRST = r"^aten\.(addmm|addbmm|addmv|addr|baddbmm|_addmm_activation|sparse_addmm)\."


@dataclass(frozen=True)
class Params:
    """No settings."""


def _find(runs: Sequence[Tables], _params: Params) -> Iterator[Hit]:
    """One hit per line that allocates such memory, where it is first read.

    Only on a CPU: on a GPU, kernels that are no ops (Triton, extensions) fill the memory of `torch.empty`. A tensor that has an alias by
    `detach`, as `numpy()` makes it, or that DLPack exported, may have been written through it, and so may one that was passed to an op
    that is not torch's own. A copy is no read, and what backward passes read was read before.
    """
    rows = runs[0].query(
        r"""WITH made AS (
            SELECT lane, "row", file, line, op, out FROM records
            WHERE kind = 'op' AND regexp_matches(op, '^aten\.(new_)?empty(_\w+)?\.') AND ends_with(out, '"cpu"]]')
                AND NOT regexp_matches(out, '\[(\d+,)*0(,\d+)*\]')),
        shared AS (
            SELECT u.lane, u.used, min(u."row") AS since FROM uses u
            WHERE u.op NOT GLOB 'aten.*' OR regexp_matches(u.op, '^aten\.(detach|alias|is_pinned)\.') GROUP BY u.lane, u.used),
        taken AS (
            SELECT DISTINCT u.lane, u."row", u.used FROM uses u SEMI JOIN made m ON m.lane = u.lane AND m."row" = u.used
            WHERE u.phase <> 'backward' AND u.line IS NOT NULL AND u.op GLOB 'aten.*' AND NOT regexp_matches(u.op, ?)),
        reads AS (
            SELECT t.*, r.op, r.file, r.line, r.module, r.step FROM taken t JOIN records r ON r.lane = t.lane AND r."row" = t."row"
            LEFT JOIN shared s ON s.lane = t.lane AND s.used = t.used AND s.since < t."row"
            WHERE s.used IS NULL AND r.digest <> 0
                AND (regexp_matches(r.op, ?)
                    OR NOT r.in_place AND NOT regexp_matches(r.op, '[._]out$'))
                AND NOT (regexp_matches(r.op, ?) AND r.in0 = t.used)),
        found AS (
            SELECT m.file AS made_file, m.line AS made_line, m.op AS made_by, m.out, r.* EXCLUDE (lane, used)
            FROM reads r JOIN made m ON m.lane = r.lane AND m."row" = r.used)
        SELECT made_file, made_line, first(made_by ORDER BY "row") AS made_by,
            first(json_extract_string(out, '$[0][0]') ORDER BY "row") AS dtype,
            first(json_extract_string(out, '$[0][1]') ORDER BY "row") AS shape, first(file ORDER BY "row") AS file,
            first(line ORDER BY "row") AS line, first(op ORDER BY "row") AS op, first(module ORDER BY "row") AS module, count(*) AS times,
            count(DISTINCT step) AS steps
        FROM found GROUP BY made_file, made_line ORDER BY min("row")""",
        _NO_READ,
        _COMPUTES_IN_PLACE,
        _SCALED_FIRST,
    )
    for row in rows:
        shape = "[" + ", ".join(str(row["shape"]).strip("[]").split(",")) + "]"
        values = {
            "op": row["op"], "made_by": row["made_by"], "tensor": f"{row['dtype']}{shape}", "subject": row["op"],
            "made_at": f"in {row['made_file']}:{row['made_line']}" if row["made_line"] else "earlier",
            "within": f" in {row['module']}" if row["module"] else "",
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["times"], row["steps"])


DETECTOR = Detector("uninitialized-read", _find, Params, frozenset({"op", "made_by", "made_at", "tensor", "within"}))
