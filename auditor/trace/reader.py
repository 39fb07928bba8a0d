"""Reads runs: `opened` seals one where that is needed, `Trace` is one run, `LaneTrace` one lane of it.

Rows are fetched by range, never all at once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from auditor.errors import TraceError
from auditor.redaction import redacted, redacted_variables, redacted_words
from auditor.trace import DRAW, files
from auditor.trace.database import connected
from auditor.trace.facts import INDEX, LANE, META
from auditor.trace.going import is_going
from auditor.trace.lanes import LaneKey
from auditor.trace.records import Record, with_todays_names
from auditor.trace.schema import COLUMNS
from auditor.trace.seal import BESIDE, is_known, newer, seal
from auditor.trace.shapes import WrongFactError, checked, in_utf8, load

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


#: Seconds for which another process that seals the run is waited for.
_PATIENCE = 60.0
#: Most lanes of a run.
_LANES = 100_000
#: Columns of the records that all versions write.
_NEEDED = ("row", "record", "index", "kind", "op", "args", "numbers", "out", "digest", "in0", "phase", "step", "file", "line", "what")
#: Facts of a lane that not all versions write.
_OF_OLDER = {"identity": [], "base": 0, "pid": None, "started": None}
_WHOLE = frozenset(f"{sign}{width}" for sign in ("", "U") for width in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT"))


@contextmanager
def _alone(run: Path) -> Iterator[bool]:
    """Hold the lock of a run; gives whether nobody else had it. It goes with the process that holds it."""
    try:
        fd = os.open(run, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        deadline = time.monotonic() + _PATIENCE
        while not (alone := files.locked(fd) is not False) and time.monotonic() <= deadline:
            time.sleep(0.02)
        yield alone
    finally:
        os.close(fd)


def _check_parquet(path: Path, needed: Sequence[str], records: int) -> None:
    """Raise TraceError `trace-unreadable` unless the file is one, has the columns, and no more rows than it should."""
    import duckdb

    con = connected()
    try:
        os.close(files.open_regular(path, None))
        described = con.execute("DESCRIBE SELECT * FROM read_parquet(?)", [files.in_database(path)]).fetchall()
        ((rows,),) = con.execute("SELECT num_rows FROM parquet_file_metadata(?)", [files.in_database(path)]).fetchall()
    except (OSError, duckdb.Error, ValueError) as error:
        said = str(error).splitlines()[0] if not isinstance(error, OSError) or isinstance(error, files.NotOursError) else error.strerror
        raise TraceError("trace-unreadable", f"{path.parent.parent} cannot be read: {path.name}: {said}") from error
    finally:
        con.close()
    kinds = {name: kind for name, kind, *_ in described}
    wrong = [name for name in needed if name not in kinds]
    wrong += [name for name, kind in kinds.items() if name in COLUMNS and not _is_of(kind, COLUMNS[name].type)]
    wrong += [name for name in needed if name in kinds and name not in COLUMNS and not _is_of(kinds[name], "DOUBLE")]
    if wrong or rows > records:
        said = f"{wrong[0]} is not what it should be" if wrong else f"it has {rows:,} rows in the place of {records:,}"
        raise TraceError("trace-unreadable", f"{path.parent.parent} cannot be read: {path.name}: {said}")


def _is_of(kind: str, wanted: str) -> bool:
    """Whether a column holds what it should, in whatever width a version wrote it."""
    return kind == wanted if wanted in ("VARCHAR", "BOOLEAN") else kind in _WHOLE or (kind in ("DOUBLE", "FLOAT") and wanted == "DOUBLE")


class LaneTrace:
    """One sealed lane."""

    def __init__(self, path: Path) -> None:
        """Read the lane's facts and events; the records stay in the Parquet file `path`.parquet."""
        self.path = path
        self.facts: dict[str, Any] = _OF_OLDER | checked(load(files.read(path.with_suffix(".json"))), LANE)
        self.name: str = self.facts["name"]
        self.key = LaneKey.parse(self.name)
        self.ops: int = self.facts["ops"]
        self.steps: int = self.facts["steps"]
        self.ended: bool = self.facts["ended"]
        self.events: list[dict[str, Any]] = [with_todays_names(event) for event in self.facts["events"]]

    def query(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of a SELECT over the table `records`, as dicts; `sql` is ours, `parameters` may be anybody's."""
        import duckdb

        con = connected()
        try:
            asked = [files.in_database(self.path.with_suffix(".parquet")), *map(in_utf8, parameters)]
            relation = con.execute(sql.replace("records", "read_parquet(?)", 1), asked)
            names = [column[0] for column in relation.description or ()]
            return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]
        except duckdb.Error as error:
            raise TraceError("trace-unreadable", f"{self.path.parent.parent} cannot be read: {str(error).splitlines()[0]}") from error
        finally:
            con.close()

    def rows(self, first: int, last: int) -> list[Record]:
        """Records by row, both ends included."""
        found = self.query('SELECT * FROM records WHERE "row" BETWEEN ? AND ? ORDER BY "row"', max(first, 0), last)
        return [Record.of(row) for row in found]

    def state_drawn_from(self, record: Record) -> int | None:
        """Digest of the state of the stream that an op drew from: its draw stands just before it, by its name. None if it drew nothing."""
        before = self.rows(record.row - 1, record.row - 1) if record.row else []
        return before[0].digest if before and before[0].kind == DRAW and before[0].op == record.op else None

    @cached_property
    def compared(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """`what` and row of each op and external, in order: what two runs are compared by."""
        import duckdb

        con = connected()
        try:
            found = con.execute(
                "SELECT what, \"row\" FROM read_parquet(?) WHERE kind IN ('op', 'external') ORDER BY \"row\"",
                [files.in_database(self.path.with_suffix(".parquet"))],
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

    def beside(self, suffix: str) -> str | None:
        """What a database calls the file of what lies beside the records; None if there is nothing."""
        name, _, columns = BESIDE[suffix]
        file = self.path.with_suffix(f".{name}.parquet")
        if not os.path.lexists(file):
            return None
        _check_parquet(file, columns, 1 << 27)
        return files.in_database(file)

    def _beside(self, suffix: str) -> dict[str, npt.NDArray[Any]]:
        """What lies beside the records, in the order of the rows; empty columns if there is nothing."""
        import duckdb
        import numpy as np

        columns, file = BESIDE[suffix][2], self.beside(suffix)
        if file is None:
            return {column: np.zeros(0) for column in columns}
        con = connected()
        try:
            found: dict[str, npt.NDArray[Any]] = con.execute('FROM read_parquet(?) ORDER BY "row", slot', [file]).fetchnumpy()
        except duckdb.Error as error:
            raise TraceError("trace-unreadable", f"{file} cannot be read: {str(error).splitlines()[0]}") from error
        finally:
            con.close()
        return found

    def values_at(self, row: int) -> list[dict[str, Any]]:
        """What value capture kept of the op at this row: one entry a tensor, see `record/observers/value_capture.py`."""
        return self._values.get(row, [])

    @cached_property
    def _values(self) -> dict[int, list[dict[str, Any]]]:
        # the event lies behind the op, so its `row` is the next one
        return {event["row"] - 1: event["values"] for event in self.events if event["k"] == "value"}


def opened(run: Path, own: bool = False) -> Trace:
    """Seal a run that is not sealed yet, and read it; `own`: we have just made it, and it has ended.

    One that is still running, or is not ours to write to, is sealed as far as it goes into a folder of ours that goes with the `Trace`.
    Raises what `Trace` and `seal` raise.
    """
    meta = _meta(run)
    going = not own and is_going(run, meta)
    lanes, spool = run / "lanes", run / "spool"
    for folder in (lanes, spool):
        if folder.is_symlink():
            raise TraceError("trace-foreign", f"{run} is not a run of repro-audit: {folder.name} is a link")
    ours = run.stat().st_uid == os.geteuid() if hasattr(os, "geteuid") else True
    with _alone(run) as alone:
        whole = (lanes / "index.json").exists()
        writable = ours and alone and not going
        if not spool.is_dir() or whole:
            if whole and writable:
                shutil.rmtree(spool, ignore_errors=True)
            return Trace(run, going=going)
        if writable and os.access(run, os.W_OK):
            seal(run, own=own)
            return Trace(run)
    beside = tempfile.mkdtemp(prefix="repro-audit-")
    try:
        seal(run, Path(beside))
        found = Trace(run, Path(beside) / "lanes", going)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    weakref.finalize(found, shutil.rmtree, beside, ignore_errors=True)
    return found


def _meta(run: Path) -> dict[str, Any]:
    """What run.json says. Raises `TraceError`: `trace-missing`, `trace-foreign`, `trace-newer`."""
    if not run.is_dir():
        raise TraceError("trace-missing", f"there is no run at {run}")
    try:
        meta = load(files.read(run / "run.json"))
        found = meta["format"]
        if not isinstance(found, int):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TraceError("trace-foreign", f"{run} is not a run of repro-audit: its run.json is missing or no such file") from error
    if not is_known(found):
        raise newer(run, found)
    try:
        facts: dict[str, Any] = checked(meta, META)
    except WrongFactError as error:
        raise TraceError("trace-foreign", f"{run} is not a run of repro-audit: its run.json {error}") from error
    facts["script"] = redacted_words(facts.get("script") or [])
    facts["plan"] = {"script": facts["script"], "python": ""} | (facts.get("plan") or {})
    facts["error"] = redacted(facts["error"]) if facts.get("error") else None
    facts["environment"] = redacted_variables({name: str(value) for name, value in (facts.get("environment") or {}).items()})
    return facts


class Trace:
    """One sealed run."""

    def __init__(self, run: Path, lanes: Path | None = None, going: bool = False) -> None:
        """Read a run that has been sealed, see `opened`; `lanes`: its sealed lanes, where they are not within it; `going`: it still runs.

        Raises `TraceError`: `trace-missing`, `trace-foreign`, `trace-newer`, `trace-truncated`.
        """
        self.path = run
        self.meta = _meta(run)
        self.going = going
        lanes = lanes or run / "lanes"
        try:
            index = load(files.read(lanes / "index.json"))
            if not is_known(index["format"]):
                raise newer(run, index["format"])
            self.processes: list[dict[str, Any]] = checked(index, INDEX)["processes"]
            self.lanes = {lane.name: lane for lane in (LaneTrace(lanes / f"{k:03d}") for k in range(min(index["lanes"], _LANES)))}
        except (OSError, ValueError, KeyError, TypeError) as error:
            said = f" ({error})" if isinstance(error, (WrongFactError, files.NotOursError)) else ""
            raise TraceError("trace-truncated", f"{run} is not whole: {type(error).__name__} while reading its lanes{said}") from error
        for lane in self.lanes.values():
            _check_parquet(lane.path.with_suffix(".parquet"), _NEEDED, lane.facts["records"])

    @property
    def digests(self) -> set[int]:
        """Versions of the formula by which this run's digests were made; the first had none in its files."""
        return {process.get("digest") or 1 for process in self.processes} or {1}

    @property
    def unfinished(self) -> Literal["still-going", "unfinished"] | None:
        """Why there may be more to come, or to have come, than this run holds; None if its end is known."""
        if self.going:
            return "still-going"
        return "unfinished" if self.meta.get("exit") is None else None

    def printed(self, stream: str) -> bytes | None:
        """What the run wrote to `stdout` or `stderr`; None if that is not there."""
        try:
            return files.read(self.path / stream, None)
        except OSError:
            return None

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
        """The lane that stands for the run: the main thread of the script, of rank 0, or of the first process that the script started."""
        leading = [self.lanes[name] for name in ("main", "rank 0") if name in self.lanes]
        # what only starts others, as a launcher does, imports torch and runs no op
        computing = (lane for lane in (*leading, *self.lanes.values()) if lane.ops or lane.steps)
        return next(computing, next(iter(leading or self.lanes.values()), None))

    def value(self, entry: dict[str, Any]) -> bytes | None:
        """The bytes that value capture kept of one tensor, in logical order; None if it kept none."""
        if "file" not in entry:
            return None
        try:
            return files.read(self.path / "values" / Path(entry["file"]).name)
        except (OSError, ValueError):
            return None
