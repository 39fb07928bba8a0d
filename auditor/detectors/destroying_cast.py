"""Casts that destroy numbers: infinite, 0, wrapped around, or rounded to another whole number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from auditor.detectors import Detector, Hit

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_BITS = r"^aten\.(bitwise_|__i?([lr]shift|and|or|xor)__)"
#: Through how many ops a cast is followed back to where the program wrote a large number, or worked on bits.
_HOPS = 6


@dataclass(frozen=True)
class Params:
    """What became of the numbers. `rounded` concerns whole numbers that are cast to floating point."""

    what: tuple[Literal["infinite", "zero", "wrapped", "rounded"], ...]


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    """One hit per line.

    A number that the program itself wrote too large, such as the smallest float32 in an attention mask, is meant to become infinite:
    casts of results of such an op give no hit. Neither do casts inside an autocast region of a run that scales its loss, which skips a
    step with infinite gradients, casts to integers of the same width, and casts of results of bit operations, where the bits count.
    """
    run = runs[0]
    if not run.query("SELECT 1 FROM measured WHERE what = 'cast' AND changed > 0 LIMIT 1"):
        return
    whole = ", ".join(f"'{dtype}'" for dtype in _WHOLE)
    rows = run.query(
        f"""WITH RECURSIVE casts AS MATERIALIZED (
            SELECT m.* EXCLUDE (what), r.file, r.line, r.op, r.phase, coalesce(r.in1, r.in0) AS source,
                json_extract_string(r.out, '$[0][0]') AS dtype, json_extract_string(r.out, '$[0][1]') AS shape
            FROM measured m JOIN records r ON r.lane = m.lane AND r."row" = m."row"
            WHERE m.what = 'cast' AND m.changed > 0),
        sources AS MATERIALIZED (
            SELECT c.*, json_extract_string(r.out, '$[0][0]') AS source_dtype
            FROM casts c LEFT JOIN records r ON r.lane = c.lane AND r."row" = c.source),
        judged AS MATERIALIZED (
            SELECT *, CASE WHEN overflowed > 0 THEN 'infinite'
                WHEN vanished = "values" THEN 'zero'
                WHEN dtype IN ({whole}) THEN 'wrapped'
                WHEN source_dtype IN ({whole}) AND shape <> '[]' THEN 'rounded' END AS became
            FROM sources),
        bad AS MATERIALIZED (SELECT * FROM judged WHERE list_contains(?, became)),
        behind AS (
            SELECT lane, "row", source AS used, 0 AS hops, became FROM bad WHERE became IN ('infinite', 'wrapped')
            UNION
            SELECT b.lane, b."row", u.used, b.hops + 1, b.became FROM behind b JOIN uses u ON u.lane = b.lane AND u."row" = b.used
            WHERE b.hops < {_HOPS}),
        meant AS (
            SELECT DISTINCT b.lane, b."row" FROM behind b JOIN records r ON r.lane = b.lane AND r."row" = b.used
            WHERE b.became = 'wrapped' AND r.out NOT GLOB '*bool*' AND regexp_matches(r.op, '{_BITS}')
                OR b.became = 'infinite' AND (coalesce(regexp_matches(r.args, '-\\d{{5}}'), false) OR list_bool_or([
                    n < -1e4 OR abs(n) > 1e30 OR abs(n) > 1e4 AND regexp_matches(r.op, 'fill|full|where|scalar_tensor')
                    FOR n IN CAST(string_split(r.numbers, ' ') AS DOUBLE[])])))
        SELECT b.file, b.line, b.became, count(*) AS casts, sum(b.changed) AS changed, sum(b."values") AS measured,
            sum(b.overflowed) AS overflowed, sum(b.vanished) AS vanished, max(b.largest) AS largest,
            first(b.dtype ORDER BY b.lane, b."row") AS dtype, first(b.shape ORDER BY b.lane, b."row") AS shape,
            first(b.source_dtype ORDER BY b.lane, b."row") AS source_dtype
        FROM bad b ASOF LEFT JOIN autocast_rows i ON i.lane = b.lane AND b."row" >= i."row"
        LEFT JOIN autocast_regions g ON g.lane = i.lane AND g.entered = i.entered
        LEFT JOIN meant t ON t.lane = b.lane AND t."row" = b."row"
        WHERE t."row" IS NULL AND NOT (coalesce(g.enabled, false) AND b.became IN ('infinite', 'zero')
                AND EXISTS (FROM records WHERE op GLOB 'aten._amp_foreach_non_finite_check_and_unscale_*'))
            AND NOT (b.became = 'wrapped'
                AND coalesce(regexp_extract(b.source_dtype, '\\d+$') = regexp_extract(b.dtype, '\\d+$'), false))
        GROUP BY b.file, b.line, b.became ORDER BY min(b."row"), b.became""",
        list(params.what),
    )
    told = set()
    for row in rows:
        if (row["file"], row["line"]) in told:
            continue
        told.add((row["file"], row["line"]))
        shape = str(row["shape"]).replace(",", ", ")
        values = {
            "source": row["source_dtype"] or "a wider dtype", "dtype": row["dtype"], "tensor": "(one number)" if shape == "[]" else shape,
            "damage": _damage(row), "became": row["became"],
        }  # fmt: skip
        yield Hit(row["file"], row["line"], values, row["casts"])


def _damage(row: dict[str, Any]) -> str:
    of = f"of {row['measured']:,} numbers"
    if row["became"] == "infinite":
        return f"{row['overflowed']:,} {of} become infinite"
    if row["became"] == "zero":
        return f"all {row['vanished']:,} nonzero numbers become 0" if row["measured"] > 1 else "the number becomes 0"
    return f"{row['changed']:,} {of} {'wrap around' if row['became'] == 'wrapped' else 'become other numbers'}"


DETECTOR = Detector("destroying-cast", _find, Params, frozenset({"source", "dtype", "tensor", "damage", "became"}))
