"""Gradients that do not arrive: the graph is cut between a backward pass and the tensors that its loss was made from."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from auditor.detectors import Detector, Hit, named
from auditor.trace.ops import leaves_unwritten
from auditor.trace.records import outputs_of

if TYPE_CHECKING:
    from auditor.trace.tables import Tables

#: Limits on the uses of tensors that are followed, and on the passes that are examined: a run may have a million records.
_MOST = 200_000
_PASSES = 20
_DATA = re.compile(r"(?<!utils)(?<!self)\.data\b")


@dataclass(frozen=True)
class Params:
    """The fault: a `backward()` without a graph, a tensor of an optimizer behind a cut, or one that no backward pass reaches."""

    of: Literal["backward", "cut", "unreached"]


@dataclass(frozen=True)
class _Cut:
    """An op with an input that requires a gradient and a result that does not."""

    row: int
    of: int | None
    """The row that wrote its first input."""
    is_alias: bool
    floating: bool
    """Whether its result could have a gradient."""
    how: str
    file: str | None
    line: int | None


@dataclass(frozen=True)
class _Flow:
    """Part of a lane: the inputs of each op, and what cuts the graph. A view has no row that others could have as input."""

    uses: dict[int, list[int]]
    cuts: dict[int, _Cut]
    """Without in-place ops: their destination may require a gradient, as a parameter does that is initialized."""
    aliases: dict[int, list[_Cut]]
    """The views without a graph, by the row of which they are views."""

    def alias(self, used: int, row: int) -> _Cut | None:
        """The last such view that existed when `row` used the result of `used`."""
        return next((cut for cut in reversed(self.aliases.get(used, ())) if cut.row < row), None)


def _flow(run: Tables, lane: str, first: int, last: int, phases: Sequence[str]) -> _Flow | None:
    """The flow between two rows; None if it is too large."""
    marks = ", ".join("?" for _ in phases)
    edges = run.query(
        f'SELECT "row", used FROM uses WHERE lane = ? AND "row" BETWEEN ? AND ? AND used >= ? AND phase IN ({marks}) LIMIT ?',
        lane, first, last, first, *phases, _MOST + 1,
    )  # fmt: skip
    if len(edges) > _MOST:
        return None
    uses: dict[int, list[int]] = {}
    for edge in edges:
        uses.setdefault(edge["row"], []).append(edge["used"])
    flow = _Flow(uses, {}, {})
    for cut in map(_cut, run.query(_CUTS, lane, first, last)):
        if cut.is_alias and cut.of is not None:
            flow.aliases.setdefault(cut.of, []).append(cut)
        else:
            flow.cuts[cut.row] = cut
    return flow


_CUTS = """SELECT "row", op, out, in0, digest, file, line FROM records
    WHERE lane = ? AND "row" BETWEEN ? AND ? AND cut AND kind = 'op' AND NOT in_place ORDER BY "row" """


def _cut(row: dict[str, Any]) -> _Cut:
    op = str(row["op"])
    dtype = next((output.dtype for output in outputs_of(row["out"])), "")
    floating = dtype.startswith(("float", "bfloat", "complex"))
    is_alias = row["digest"] == 0 and row["in0"] is not None and not leaves_unwritten(op)
    if op.startswith("aten.detach."):
        how = "a tensor is detached from its graph here"
    elif op.startswith("aten._local_scalar_dense."):
        how = "a value is taken out of its graph as a Python number here"
    elif floating:
        how = f"{op.split('.')[1]} runs here while gradients are off (torch.no_grad, inference_mode)"
    else:
        how = f"{op.split('.')[1]} gives {dtype or 'no tensor'} here, which has no gradient"
    return _Cut(row["row"], row["in0"], is_alias, floating, how, row["file"], row["line"])


def _find(runs: Sequence[Tables], params: Params) -> Iterator[Hit]:
    if params.of == "backward":
        yield from _passes_without_graph(runs[0])
    else:
        for optimizer in _optimizers(runs[0]):
            yield from _without_gradient(runs[0], optimizer, params.of)


# backward()


def _passes_without_graph(run: Tables) -> Iterator[Hit]:
    """One hit per line with a `backward()` that has no graph, or whose graph is only the tensor that it is called on.

    The latter happens if a loss is made of a number, or if `requires_grad_()` on a detached loss silences the error. It is reported if a
    cut is seen, or if an optimizer waits for gradients: `x.backward()` on a leaf is no fault. Nor is a loss of zero for the batches, few
    of them, that have none.
    """
    passes = run.query(
        """WITH passes AS (SELECT *, lead("row") OVER (PARTITION BY lane ORDER BY nth) AS until FROM events WHERE kind = 'backward'),
        leaves AS (
            SELECT p.lane, p.nth FROM passes p JOIN gradients g ON g.lane = p.lane AND g.leaf_written = p.root AND g."row" >= p."row"
            AND g."row" < coalesce(p.until, g."row" + 1)
            WHERE (g.lane, g.leaf) NOT IN (SELECT (lane, leaf) FROM held WHERE leaf IS NOT NULL)),
        bare AS (SELECT * FROM passes p WHERE NOT graph OR root >= 0 AND (lane, nth) IN (SELECT (lane, nth) FROM leaves)),
        places AS (SELECT lane, file, line, count(*) AS passes FROM passes GROUP BY lane, file, line)
        SELECT b.*, r.file AS root_file, r.line AS root_line,
            EXISTS (SELECT 1 FROM events s WHERE s.lane = b.lane AND s.kind = 'step' AND s.optimizer IS NOT NULL AND s.nth > b.nth) AS waits
        FROM (
            SELECT lane, file, line, graph, count(*) AS times, arg_min(root, nth) AS root, min(nth) AS nth FROM bare
            GROUP BY lane, file, line, graph) b
        JOIN places p ON p.lane = b.lane AND p.file IS NOT DISTINCT FROM b.file AND p.line IS NOT DISTINCT FROM b.line
        LEFT JOIN records r ON r.lane = b.lane AND r."row" = b.root
        WHERE NOT b.graph OR b.times * 2 > p.passes ORDER BY b.lane, b.nth LIMIT ?""",
        _PASSES,
    )
    for row in passes:
        at = f"in {row['file']}:{row['line']}" if row["line"] else "in a library"
        root = row["root"] if row["root"] is not None and row["root"] >= 0 else None
        cut, places, hint = _nearest_cut(run, row["lane"], root, row["graph"]) if root is not None else (None, 0, "")
        if row["graph"] and cut is None:
            if not row["waits"]:
                continue
            how = "the tensor made here has no graph, because it is made of numbers"
            cut, places = _Cut(root or 0, None, False, True, how, row["root_file"], row["root_line"]), 1
        what = "ends at the tensor that it is called on" if row["graph"] else "has no graph to follow"
        values = {
            "how": cut.how if cut else "no recorded op that made its tensor required a gradient",
            "backward": f"the backward pass {at} {what}" if cut else f"backward() {what}",
            "times": f" ({row['times']} times)" if row["times"] > 1 else "",
            "others": f", and so do {places - 1} other lines" if places > 2 else ", and so does another line" if places == 2 else hint,
        }  # fmt: skip
        yield Hit(cut.file if cut else row["file"], cut.line if cut else row["line"], {**_NOTHING, **values}, row["times"])


def _nearest_cut(run: Tables, lane: str, root: int, has_graph: bool) -> tuple[_Cut | None, int, str]:
    """The last of the ops that cut what a tensor was made from, on how many lines there are such ops, and a hint if there are none.

    On a path without a cut, an op's inputs required no gradient, otherwise the op would have made a node. An input that belongs to a
    tensor which does require one was read from a detached view.
    """
    flow = _flow(run, lane, max(0, root - _MOST // 4), root, ("setup", "forward", "backward", "optimizer"))
    if flow is None:
        return None, 0, ""
    found: list[_Cut] = []
    seen = {root}
    waiting = [-root]
    while waiting:
        row = -heapq.heappop(waiting)
        if row in flow.cuts:
            found.append(flow.cuts[row])
            continue
        for used in flow.uses.get(row, ()):
            if alias := flow.alias(used, row):
                found.append(alias)
            elif used not in seen:
                seen.add(used)
                heapq.heappush(waiting, -used)
    last = run.query('SELECT file, line FROM records WHERE lane = ? AND node AND "row" < ? ORDER BY "row" DESC LIMIT 1', lane, root)
    trained = {row["row"] for row in run.query('SELECT "row" FROM held WHERE lane = ? AND "row" >= 0', lane)}
    if trained and last:  # a teacher may run without gradients, if there is a graph that leads nowhere
        found = [cut for cut in found if _comes_from(flow, cut, trained)]
    if not found:
        ends = [] if has_graph else sorted(row for row in seen if not flow.uses.get(row))
        found += _left_torch(run, lane, sorted(seen), ends)
    if found:
        return max(found, key=lambda cut: cut.row), len({(cut.file, cut.line) for cut in found}), ""
    made = run.query(
        """SELECT file, line, code FROM records WHERE lane = ? AND "row" IN (SELECT unnest(?::BIGINT[])) AND code IS NOT NULL
        ORDER BY "row" DESC""",
        lane,
        sorted(seen)[-_PASSES * 50 :],
    )
    data = next((row for row in made if _DATA.search(row["code"])), None)
    if data:
        return None, 0, f"; {data['file']}:{data['line']} uses .data, which has no graph"
    if has_graph or not last or last[0]["line"] is None:
        return None, 0, ""
    return None, 0, f"; the last graph before it is that of {last[0]['file']}:{last[0]['line']}, and leads nowhere (.tolist(), .numpy()?)"


def _comes_from(flow: _Flow, cut: _Cut, sources: set[int]) -> bool:
    """Whether one of these rows went into what was cut."""
    seen = {cut.row} | ({cut.of} if cut.is_alias and cut.of is not None else set())
    waiting = list(seen)
    while waiting:
        row = waiting.pop()
        if row in sources:
            return True
        new = [used for used in flow.uses.get(row, ()) if used not in seen]
        seen.update(new)
        waiting += new
    return False


def _left_torch(run: Tables, lane: str, rows: list[int], ends: list[int]) -> list[_Cut]:
    """Values that left a graph on the same line on which they, or others, came back as external tensors.

    Otherwise the last external tensor, if all paths of the history (`rows`) end at one.
    """
    found = run.query(
        """SELECT c.* FROM records e JOIN records c ON c.lane = e.lane AND c.file = e.file AND c.line = e.line AND c.cut
            AND c."row" BETWEEN e."row" - 1000 AND e."row" - 1 AND (c.op GLOB 'aten._local_scalar_dense.*' OR c.op GLOB 'aten.detach.*')
        WHERE e.lane = ? AND e.kind = 'external' AND e."row" IN (SELECT unnest(?::BIGINT[])) ORDER BY c."row" DESC LIMIT 1""",
        lane,
        rows,
    )
    if found:
        return [_cut(row) for row in found]
    (last,) = run.query(
        """SELECT bool_and(kind = 'external') AS outside, max("row") AS "row", arg_max(file, "row") AS file, arg_max(line, "row") AS line
        FROM records WHERE lane = ? AND "row" IN (SELECT unnest(?::BIGINT[]))""",
        lane,
        ends,
    )
    if not last["outside"] or last["line"] is None:
        return []
    how = "the tensor made here comes from outside torch (numbers, NumPy), without a graph"
    return [_Cut(last["row"], None, False, True, how, last["file"], last["line"])]


# tensors that an optimizer holds


def _optimizers(run: Tables) -> list[dict[str, Any]]:
    """The optimizers that step while tensors of theirs have no gradient, and which tensors; by name, or by what wrote them last.

    How many had none at each step comes from the optimizer itself: gradients that are set manually, and those of DistributedDataParallel,
    are not seen to be accumulated.
    """
    return run.query(
        """WITH steps AS (
            SELECT lane, optimizer, min("row") AS until, max(gradients) AS had FROM events
            WHERE kind = 'step' AND optimizer IS NOT NULL GROUP BY lane, optimizer),
        tensors AS (SELECT lane, optimizer, class, leaf, min("row") AS "row" FROM held GROUP BY lane, optimizer, class, leaf),
        judged AS (
            SELECT t.*, t.leaf NOT IN (SELECT leaf FROM gradients) AND (t.lane, t."row") NOT IN (
                SELECT (lane, leaf_written) FROM gradients WHERE leaf_written IS NOT NULL) AS is_bare
            FROM tensors t WHERE t.leaf IS NOT NULL AND t."row" IS NOT NULL)
        SELECT j.lane, j.optimizer, j.class, any_value(s.until) AS until, count(*) AS total,
            list(struct_pack(leaf := j.leaf, "row" := j."row") ORDER BY j."row", j.leaf)
                FILTER (WHERE is_bare AND j."row" >= 0 AND j.leaf NOT GLOB 'a tensor of shape*') AS bare
        FROM judged j JOIN steps s ON s.lane = j.lane AND s.optimizer = j.optimizer
        GROUP BY j.lane, j.optimizer, j.class
        HAVING count(*) FILTER (WHERE is_bare) BETWEEN 1 AND count(*) - coalesce(any_value(s.had), count(*)) AND len(bare) > 0
        ORDER BY j.lane, j.optimizer"""
    )


def _without_gradient(run: Tables, optimizer: dict[str, Any], of: str) -> Iterator[Hit]:
    """One hit per line that cuts tensors off, or that made tensors whose values reach no backward pass before the first step.

    Tensors whose values reach one without a cut give no hit: they are frozen, otherwise they would have a gradient.
    """
    lane, until = optimizer["lane"], optimizer["until"]
    bare: dict[int, list[str]] = {}
    for tensor in optimizer["bare"]:
        bare.setdefault(tensor["row"], []).append(tensor["leaf"])
    passes = run.query(
        """SELECT e.root, e.graph AND e.root >= 0 AND (e.lane, e.root) NOT IN (
            SELECT (lane, leaf_written) FROM gradients WHERE leaf_written IS NOT NULL) AS has_graph
        FROM events e WHERE e.lane = ? AND e.kind = 'backward' AND e."row" BETWEEN ? AND ?""",
        lane,
        min(bare),
        until,
    )
    roots = {row["root"] for row in passes}
    if not roots or not all(row["has_graph"] for row in passes):
        return  # `of: backward` reports a pass that has no graph
    trained = run.query(
        'SELECT DISTINCT leaf_written AS "row" FROM gradients WHERE lane = ? AND leaf_written >= 0 AND "row" BETWEEN ? AND ?',
        lane,
        min(bare),
        until,
    )
    first = min([*bare, *(row["row"] for row in trained)])
    flow = _flow(run, lane, first, until, ("setup", "forward"))
    if flow is None:
        return
    near, exits = _exits(flow, list(bare), roots, {row["row"] for row in trained})
    total = optimizer["total"]
    if of == "cut":
        places: dict[tuple[str | None, int | None], tuple[_Cut, list[str]]] = {}
        for row, cut in exits.items():
            places.setdefault((cut.file, cut.line), (cut, []))[1].extend(bare[row])
        for (file, line), (cut, names) in places.items():
            yield Hit(file, line, {**_NOTHING, "how": cut.how, **_names(names, total, optimizer)})
        return
    if run.query(_HELD_BY_NOBODY, lane):
        return
    away = [row for row in bare if row not in near]
    made: dict[tuple[str | None, int | None, str], list[str]] = {}
    for tensor in run.query(_USED, until, lane, away):
        if not tensor["used_later"]:
            what = "used only for values that reach no backward()" if tensor["used"] else "used in no forward pass"
            made.setdefault((tensor["file"], tensor["line"], what), []).extend(bare[tensor["row"]])
    for (file, line, what), tensors in made.items():
        yield Hit(file, line, {**_NOTHING, "how": what, **_names(tensors, total, optimizer)})


#: Then the tensors of the optimizer were replaced or belong to another model, which `unused_gradient.py` reports.
_HELD_BY_NOBODY = """SELECT 1 FROM gradients g WHERE g.lane = ? AND g.leaf NOT GLOB 'a tensor of shape*'
    AND g.leaf NOT IN (SELECT leaf FROM held WHERE leaf IS NOT NULL)
    AND g.leaf_written NOT IN (SELECT "row" FROM held WHERE "row" IS NOT NULL) LIMIT 1"""

#: Whether a tensor is computed with, and whether only after the first step. A view of it is no use.
_USED = """SELECT r."row", r.file, r.line, coalesce(bool_or(u."row" IS NOT NULL), false) AS used,
        coalesce(min(u."row") >= ?, false) AS used_later
    FROM records r LEFT JOIN (
        SELECT u.lane, u."row", u.used FROM uses u JOIN records w ON w.lane = u.lane AND w."row" = u."row"
        WHERE w.digest <> 0 AND w.phase IN ('setup', 'forward') AND NOT w.in_place) u ON u.lane = r.lane AND u.used = r."row"
    WHERE r.lane = ? AND r."row" IN (SELECT unnest(?::BIGINT[])) GROUP BY r."row", r.file, r.line ORDER BY r."row" """


def _names(names: list[str], total: int, optimizer: dict[str, Any]) -> dict[str, object]:
    return {"tensors": named(names, total, "tensor"), "optimizer": optimizer["class"], "subject": " ".join(sorted(names))}


def _exits(flow: _Flow, bare: list[int], roots: set[int], trained: set[int]) -> tuple[set[int], dict[int, _Cut]]:
    """The rows whose values reach a root, and for each of `bare` that is cut off from the roots the last cut on the way to them.

    An op counts as a cut only if none of its inputs has a gradient: an op inside a custom `autograd.Function` is cut as well, but
    gradients still pass it; and where a view is detached to be printed, the tensor itself may still be used. A tensor with a cut view is
    known to require a gradient, so it is cut off whatever the other inputs are. A tensor that reaches a root without a cut is cut off by
    such a view, or frozen.
    """
    near = set(roots)
    sure = set(bare) & set(flow.aliases)
    rows = sorted(flow.uses)
    for row in reversed(rows):
        if row in near:
            near.update(flow.uses[row])
    bit = {row: 1 << k for k, row in enumerate(bare)}
    reached, through = dict(bit), dict(bit)  # which of `bare` reach a row: by whatever way, and by one without a cut
    alive = set(trained)
    ways: list[tuple[_Cut, int]] = []
    asides: list[tuple[_Cut, int]] = []
    for row in rows:
        used = flow.uses[row]
        cut = flow.cuts.get(row)
        if not alive.isdisjoint(used) and (cut is None or cut.floating):
            alive.add(row)
        every = without = 0
        for one in used:
            every |= reached.get(one, 0)
            without |= through.get(one, 0)
            if row in near and one in reached and one not in alive and (alias := flow.alias(one, row)):
                asides.append((alias, reached[one]))
        if not every:
            continue
        if cut and (alive.isdisjoint(used) or not sure.isdisjoint(used)):
            without = 0
            if row in near:
                ways.append((cut, every))
        reached[row] = reached.get(row, 0) | every
        through[row] = through.get(row, 0) | without
    open_ = 0
    for root in roots:
        open_ |= through.get(root, 0)
    exits = {}
    for row in bare:
        seen = [cut for cut, bits in (asides if bit[row] & open_ else [*ways, *asides]) if bits & bit[row]]
        if row in near and seen:
            exits[row] = max(seen, key=lambda cut: cut.row)
    return near, exits


_NOTHING = {"how": "", "backward": "", "others": "", "times": "", "tensors": "", "optimizer": ""}

DETECTOR = Detector("cut-graph", _find, Params, frozenset(_NOTHING))
