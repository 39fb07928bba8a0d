"""Reads the values that a script gave to names, see `record/probes/named_values`: one `Series` a name.

What was kept of a value lies in the lane's `.val` file: its bytes in logical order or, where it was too large or the budget spent, a
sketch. Sums and norms of what was kept whole are computed here, so that recording need not.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.errors import TraceError
from auditor.trace import NAMED_SIZE, SUMMARY, SUMS, files, signs
from auditor.trace.facts import NAMES
from auditor.trace.shapes import checked, load

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from auditor.trace.reader import Trace

#: Elements that are made float64 at once.
_AT_ONCE = 1 << 21


def _nothing(_k: int) -> None:
    return None


@dataclass(frozen=True)
class Series:
    """All values that one name had in one lane, in order; `n` of them."""

    name: str
    """A path as the script would write it: `w1`, `model.fc.weight`, `state["m"]`, `w1.grad`, `losses[3]`."""
    scope: str
    """Qualified name of the function that assigned it, or `<module>`."""
    file: str
    kind: str
    """`variable`, `gradient` or `parameter`, which a module's buffer is, too."""
    order: npt.NDArray[np.int64]
    """[n] position among all named values of the process, which is the order of execution."""
    step: npt.NDArray[np.int64]
    """[n] steps before it; without torch: iterations of the innermost loop around it before this one."""
    line: npt.NDArray[np.int64]
    dtype: list[str]
    shape: list[tuple[int, ...]]
    digest: npt.NDArray[np.uint64]
    """[n] xxh3 of the bytes in logical order."""
    norm: npt.NDArray[np.float64]
    """[n] Euclidean, of the finite elements, as are `largest` (magnitude), `total` (plain sum) and the sums."""
    largest: npt.NDArray[np.float64]
    total: npt.NDArray[np.float64]
    nonfinite: npt.NDArray[np.int64]
    sums: npt.NDArray[np.float64]
    """[n, SUMS] sums with pseudo-random signs of the elements in logical order, see `trace`."""
    turned: npt.NDArray[np.float64]
    """[n, SUMS] the same of the transpose of a value of two dimensions; nan otherwise."""
    lane: str = "main"
    whole: Callable[[int], npt.NDArray[Any] | None] = field(default=_nothing, repr=False, compare=False)

    def value(self, k: int) -> npt.NDArray[Any] | None:
        """The k-th value as float64, int64 or complex128, in its shape; None if only its sketch was kept."""
        return self.whole(k)


def named_values(run: Trace) -> list[Series]:
    """All series of a run, in the order in which each got its first value; none if none were recorded."""
    found: list[Series] = []
    for lane in run.lanes.values():
        table, records, values = (lane.path.with_suffix(suffix) for suffix in (".names.json", ".nam", ".val"))
        if table.exists() and records.exists():
            try:
                kept: Any = _mapped(values)
                found += series_of(checked(load(files.read(table)), NAMES), files.read(records, None), kept, lane.name)
            except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as error:
                raise TraceError("trace-unreadable", f"{run.path} cannot be read: the named values of {lane.name}: {error}") from error
    return sorted(found, key=lambda series: int(series.order[0]))


def _mapped(values: Path) -> Any:
    """The bytes of a file, mapped; none if there is no such file."""
    import numpy as np

    if not os.path.lexists(values) or not values.lstat().st_size:
        return np.zeros(0, np.uint8)
    with os.fdopen(files.open_regular(values, None), "rb") as file:
        return np.memmap(file, np.uint8, "r")


def series_of(table: Sequence[Mapping[str, Any]], records: bytes, values: Any, lane: str = "main") -> list[Series]:
    """The series of one lane: its table of names, its records and what was kept (an array of bytes)."""
    import numpy as np

    entries = np.frombuffer(records, RECORDS, len(records) // NAMED_SIZE)
    entries = entries[entries["id"] != 0]
    named = told_apart(table, _extents(entries))
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for number in np.unique(entries["id"]).tolist():
        if number in named:
            entry = named[number]
            groups.setdefault((entry["name"], entry["scope"], entry["file"], entry["kind"]), []).append(number)
    by_id = np.argsort(entries["id"], kind="stable")
    first = np.searchsorted(entries["id"][by_id], np.arange(max(named, default=0) + 2))
    found = [_series(key, [(named[k], entries[by_id[first[k] : first[k + 1]]]) for k in ids], values, lane) for key, ids in groups.items()]
    return sorted(found, key=lambda series: int(series.order[0]))


def _extents(entries: Any) -> dict[int, Extent]:
    import numpy as np

    numbers, firsts = np.unique(entries["id"], return_index=True)
    lasts = len(entries) - 1 - np.unique(entries["id"][::-1], return_index=True)[1]
    steps, orders = entries["step"][firsts].tolist(), entries["order"]
    return dict(zip(numbers.tolist(), zip(steps, orders[firsts].tolist(), orders[lasts].tolist(), strict=True), strict=True))


#: Of the values of one number: the first step, the first and the last order.
Extent = tuple[int, int, int]
#: Objects of one class that are told apart, and names of objects that are followed from one to the one that holds it.
_OBJECTS, _DEEP = 64, 8


def told_apart(table: Sequence[Mapping[str, Any]], extents: Mapping[int, Extent]) -> dict[int, Mapping[str, Any]]:
    """The entries of a table of names by number; attributes of several objects of one class get the names of their objects.

    `self.weight` of two layers becomes `layers[0].weight` and `layers[1].weight`, if both layers live at the same time: one is given
    something after the other was, or both in one step. Of objects that follow one another, such as a batch of each turn of a loop, the
    attribute stays one name with many values. `extents`: of each number that has values.
    """
    names: dict[int, list[Mapping[str, Any]]] = {}
    groups: dict[tuple[str, str, str], dict[int, Extent]] = {}
    lives: dict[int, Extent] = {}
    for entry in table:
        if entry["kind"] == "object":
            names.setdefault(entry["object"], []).append(entry)
        elif entry["id"] in extents:
            number, extent = entry.get("of", 0), extents[entry["id"]]
            group = groups.setdefault((entry["name"], entry["scope"], entry["file"]), {})
            for known in (group, lives):
                known[number] = _joined(known[number], extent) if number in known else extent
    many = {number for group in groups.values() if 0 not in group and _live_together(group.values()) for number in group}
    holders: dict[tuple[Any, ...], list[int]] = {}
    for number, some in names.items():
        for key in {_key(one) for one in some}:
            holders.setdefault(key, []).append(number)

    def named(number: int, depth: int = 0) -> tuple[str, str, str] | None:
        some = names.get(number, [])
        if not some or depth > _DEEP:
            return None
        alone = (
            one for one in some if not _live_together([lives[other] for other in holders[_key(one)] if other in lives], in_one_step=False)
        )
        own = next(alone, some[0])
        holder = named(own["of"], depth + 1) if own.get("of") else None
        return (holder[0] + own["part"], *holder[1:]) if holder is not None else (own["name"], own["scope"], own["file"])

    paths = {number: named(number) for number in many}
    if len(set(paths.values())) < 2:
        paths = {}
    found: dict[int, Mapping[str, Any]] = {}
    for entry in table:
        if entry["kind"] != "object":
            path = paths.get(entry.get("of", 0))
            found[entry["id"]] = entry if path is None else {**entry, "name": path[0] + entry["part"], "scope": path[1], "file": path[2]}
    return found


def _key(name: Mapping[str, Any]) -> tuple[Any, ...]:
    return name.get("of"), name["name"], name["scope"]


def _joined(a: Extent, b: Extent) -> Extent:
    return min(a, b, key=lambda one: one[1])[0], min(a[1], b[1]), max(a[2], b[2])


def _live_together(lives: Iterable[Extent], in_one_step: bool = True) -> bool:
    """Whether of several objects one was given something after another was; `in_one_step`: or all got their first in one step."""
    known = sorted(lives, key=lambda one: one[1])
    if not 2 <= len(known) <= _OBJECTS:
        return False
    return any(one[2] > later[1] for one, later in itertools.pairwise(known)) or (in_one_step and len({one[0] for one in known}) == 1)


#: One record: the name, step, order, and where what was kept lies: in words of eight bytes plus one, times two, odd if it is a sketch.
RECORDS = [("id", "<u4"), ("step", "<u4"), ("order", "<u8"), ("at", "<u8")]


def _series(key: tuple[str, str, str, str], parts: list[tuple[Mapping[str, Any], Any]], values: Any, lane: str) -> Series:
    import numpy as np

    entries = np.concatenate([rows for _, rows in parts])
    n = len(entries)
    which = np.repeat(np.arange(len(parts)), [len(rows) for _, rows in parts])
    norm, largest, total = np.zeros(n), np.zeros(n), np.zeros(n)
    nonfinite = np.zeros(n, np.int64)
    digest = np.zeros(n, np.uint64)
    sums, turned = np.zeros((n, SUMS)), np.full((n, SUMS), np.nan)
    begin = 0
    for entry, rows in parts:
        for at, made in _measured(entry, rows, values):
            place = begin + at
            digest[place], nonfinite[place] = made["digest"], made["nonfinite"]
            norm[place], largest[place], total[place] = made["norm"], made["largest"], made["total"]
            sums[place], turned[place] = made["sums"], made["turned"]
        begin += len(rows)
    order = np.argsort(entries["order"], kind="stable")
    entries, which = entries[order], which[order]
    of = [parts[k][0] for k in which.tolist()]

    def whole(k: int) -> npt.NDArray[Any] | None:
        at = int(entries["at"][k])
        return None if not at or at & 1 else _widened(_raw(of[k], values, np.array([at])), of[k])[0]

    return Series(
        *key,
        order=entries["order"].astype(np.int64), step=entries["step"].astype(np.int64),
        line=np.array([entry["line"] for entry in of], np.int64), dtype=[entry["dtype"] for entry in of],
        shape=[tuple(entry["shape"]) for entry in of], digest=digest[order], nonfinite=nonfinite[order], sums=sums[order],
        turned=turned[order], lane=lane, whole=whole, norm=norm[order], largest=largest[order], total=total[order],
    )  # fmt: skip


def _measured(entry: Mapping[str, Any], rows: Any, values: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What is known of some of the rows of one name, dtype and shape: positions among them, and each column."""
    import numpy as np
    from xxhash import xxh3_64_intdigest

    at = rows["at"]
    for k in np.flatnonzero((at & 1).astype(bool)).tolist():
        start = (int(at[k] >> 1) - 1) * 8
        digest, nonfinite, norm, largest, total, *rest = struct.unpack_from(SUMMARY, values, start)
        yield np.array([k]), {
            "digest": digest, "nonfinite": nonfinite, "norm": norm, "largest": largest, "total": total,
            "sums": rest[:SUMS], "turned": rest[SUMS:],
        }  # fmt: skip
    kept = np.flatnonzero((at != 0) & (at & 1 == 0))
    elements = max(int(np.prod(entry["shape"])), 1)
    for begin in range(0, len(kept), max(_AT_ONCE // elements, 1)):
        some = kept[begin : begin + max(_AT_ONCE // elements, 1)]
        raw = _raw(entry, values, at[some])
        wide = _widened(raw, entry)
        flat = (
            np.stack([signs.plain(np, one) for one in wide]) if wide.dtype.kind == "c" else wide.reshape(len(some), -1).astype(np.float64)
        )
        with np.errstate(all="ignore"):
            finite = np.isfinite(flat)
            nonfinite = flat.shape[1] - finite.sum(1)
            flat = np.where(finite, flat, 0.0)
            turned = np.full((len(some), SUMS), np.nan)
            if wide.ndim == 3:
                other = flat.reshape(*wide.shape, -1).swapaxes(1, 2).reshape(len(some), -1)
                turned = _sums(other)
            yield some, {
                "digest": np.array([xxh3_64_intdigest(one) for one in raw], np.uint64), "nonfinite": nonfinite,
                "norm": np.sqrt((flat * flat).sum(1)), "largest": np.abs(flat).max(1, initial=0.0), "total": flat.sum(1),
                "sums": _sums(flat), "turned": turned,
            }  # fmt: skip


def _sums(flat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    import numpy as np

    if flat.shape[1] <= signs.PERIOD:
        return np.asarray(flat @ signs.matrix(np)[: flat.shape[1]])
    return np.stack([signs.sums_of(np, row) for row in flat])


def _raw(entry: Mapping[str, Any], values: Any, at: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bytes of values of one dtype and shape: shape [rows, bytes of one]."""
    import numpy as np

    size = int(np.prod(entry["shape"])) * int(entry["bytes"])
    words = -(-size // 8)
    starts = (at >> 1).astype(np.int64) - 1
    data = values[: len(values) // 8 * 8].view(np.uint64)
    return np.ascontiguousarray(data[starts[:, None] + np.arange(words)]).view(np.uint8).reshape(len(at), -1)[:, :size]


def _widened(raw: npt.NDArray[np.uint8], entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Values as float64, int64 or complex128: shape [rows, *shape]."""
    import numpy as np

    raw = np.ascontiguousarray(raw)
    shape = (len(raw), *entry["shape"])
    if entry["as"] == "bfloat16":  # the upper half of a float32
        return (raw.view("<u2").astype("<u4") << np.uint32(16)).view("<f4").astype(np.float64).reshape(shape)
    typed = raw.view(entry["as"]).reshape(shape)
    wide: npt.NDArray[Any] = typed.astype({"f": np.float64, "c": np.complex128}.get(typed.dtype.kind, np.int64))
    return wide
