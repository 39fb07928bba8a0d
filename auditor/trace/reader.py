"""Reads runs: `Trace` is one run, `LaneTrace` one lane of it. Rows are fetched by range, never all at once."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.errors import TraceError
from auditor.trace.seal import BESIDE, is_known, newer, seal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class LaneTrace:
    """One sealed lane."""

    def __init__(self, path: Path) -> None:
        """Read the lane's facts and events; the records stay in the Parquet file `path`.parquet."""
        self.path = path
        self.facts: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        self.name: str = self.facts["name"]
        self.ops: int = self.facts["ops"]
        self.steps: int = self.facts["steps"]
        self.ended: bool = self.facts["ended"]
        self.events: list[dict[str, Any]] = self.facts["events"]

    def query(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of a SELECT over the table `records`, as dicts; `sql` is ours, `parameters` may be anybody's."""
        import duckdb

        con = duckdb.connect()
        try:
            relation = con.execute(sql.replace("records", "read_parquet(?)", 1), [str(self.path.with_suffix(".parquet")), *parameters])
            names = [column[0] for column in relation.description or ()]
            return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]
        except duckdb.Error as error:
            raise TraceError("trace-unreadable", f"{self.path.parent.parent} cannot be read: {str(error).splitlines()[0]}") from error
        finally:
            con.close()

    def rows(self, first: int, last: int) -> list[dict[str, Any]]:
        """Records by row, both ends included."""
        return self.query('SELECT * FROM records WHERE "row" BETWEEN ? AND ? ORDER BY "row"', max(first, 0), last)

    @cached_property
    def compared(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """`what` and row of each op and external, in order: what two runs are compared by."""
        import duckdb

        con = duckdb.connect()
        try:
            found = con.execute(
                "SELECT what, \"row\" FROM read_parquet(?) WHERE kind IN ('op', 'external') ORDER BY \"row\"",
                [str(self.path.with_suffix(".parquet"))],
            ).fetchnumpy()
        except duckdb.Error as error:
            raise TraceError("trace-unreadable", f"{self.path.parent.parent} cannot be read: {str(error).splitlines()[0]}") from error
        finally:
            con.close()
        return found["what"], found["row"]

    @cached_property
    def draws(self) -> list[dict[str, Any]]:
        """All draws: row, stream (`args`), function (`op`), state (`digest`), file, line, code, step, phase."""
        return self.query(
            'SELECT "row", "index", op, args AS stream, digest, file, line, function, code, step, phase '
            "FROM records WHERE kind = 'draw' ORDER BY \"row\""
        )

    def events_of(self, *kinds: str) -> list[dict[str, Any]]:
        """Rare events of these kinds, in order; `row` is that of the record that follows."""
        return [event for event in self.events if event["k"] in kinds]

    def sketches(self) -> dict[str, npt.NDArray[Any]]:
        """Sketches of the lane's tensors by column (`row slot elements nonfinite norm largest`, and `sums` of shape [n, SUMS])."""
        import numpy as np

        found = self._beside(".skt")
        names = [name for name in found if name[0] == "s" and name[1:].isdigit()]
        sums = np.stack([found.pop(name) for name in names], 1)
        return {**found, "sums": sums}

    def shadows(self) -> dict[str, npt.NDArray[Any]]:
        """What a shadow found, by column: `row slot at ulps mean error norm excess`."""
        return self._beside(".shd")

    def _beside(self, suffix: str) -> dict[str, npt.NDArray[Any]]:
        """What lies beside the records, in the order of the rows; empty columns if there is nothing."""
        import duckdb
        import numpy as np

        name, _, columns = BESIDE[suffix]
        file = self.path.with_suffix(f".{name}.parquet")
        if not file.exists():
            return {column: np.zeros(0) for column in columns}
        con = duckdb.connect()
        try:
            found: dict[str, npt.NDArray[Any]] = con.execute('FROM read_parquet(?) ORDER BY "row", slot', [str(file)]).fetchnumpy()
        except duckdb.Error as error:
            raise TraceError("trace-unreadable", f"{file} cannot be read: {str(error).splitlines()[0]}") from error
        finally:
            con.close()
        return found

    def values_at(self, row: int) -> list[dict[str, Any]]:
        """What the second look kept of the op at this row: one entry a tensor, see `record/probes/close_look.py`."""
        return self._values.get(row, [])

    @cached_property
    def _values(self) -> dict[int, list[dict[str, Any]]]:
        # the event lies behind the op, so its `row` is the next one
        return {event["row"] - 1: event["values"] for event in self.events if event["k"] == "value"}


class Trace:
    """One run on disk."""

    def __init__(self, run: Path) -> None:
        """Open a run, sealing what a killed auditor left unsealed.

        Raises `TraceError`: `trace-missing`, `trace-foreign`, `trace-newer`, `trace-truncated`.
        """
        self.path = run
        if not run.is_dir():
            raise TraceError("trace-missing", f"there is no run at {run}")
        try:
            self.meta: dict[str, Any] = json.loads((run / "run.json").read_text())
            found = self.meta["format"]
            if not isinstance(found, int):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TraceError("trace-foreign", f"{run} is not a run of repro-audit: its run.json is missing or no such file") from error
        if not is_known(found):
            raise newer(run, found)
        seal(run)
        try:
            index = json.loads((run / "lanes" / "index.json").read_text())
            if not is_known(index["format"]):
                raise newer(run, index["format"])
            self.processes: list[dict[str, Any]] = index["processes"]
            self.lanes = {lane.name: lane for lane in (LaneTrace(run / "lanes" / f"{k:03d}") for k in range(index["lanes"]))}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TraceError("trace-truncated", f"{run} is not whole: {type(error).__name__} while reading its lanes") from error

    @property
    def id(self) -> str:
        """Name of the run."""
        return str(self.meta.get("id") or self.path.name)

    @property
    def has_every_op(self) -> bool:
        """Whether every op was recorded, and not steps alone or a window of them."""
        plan = self.meta.get("plan") or {}
        return plan.get("level", "ops") == "ops" and not plan.get("window")

    @property
    def written(self) -> dict[str, str | None] | None:
        """Path and digest of each file that the run wrote, as it was at the end; None where that is not known."""
        found = self.meta.get("written")
        return found if isinstance(found, dict) else None

    @property
    def main(self) -> LaneTrace | None:
        """The lane that stands for the run: the main thread of the script, or of rank 0."""
        leading = [self.lanes[name] for name in ("main", "rank 0") if name in self.lanes]
        # the main process of a launcher imports torch and runs no op
        return next((lane for lane in leading if lane.ops or lane.steps), next(iter(leading or self.lanes.values()), None))

    def value(self, entry: dict[str, Any]) -> bytes | None:
        """The bytes that the second look kept of one tensor, in logical order; None if it kept none."""
        if "file" not in entry:
            return None
        try:
            return (self.path / "values" / Path(entry["file"]).name).read_bytes()
        except OSError:
            return None
