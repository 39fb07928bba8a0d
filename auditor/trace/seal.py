"""Seals a run: spool -> one Parquet file and one JSON file a lane, which is the form that is kept, shipped and queried.

A spool without its end mark is sealed as far as it goes. Nothing of the spool is removed before all lanes are on disk: their index is
written last, and where it is, a spool is a remainder (its removal was cut short, or a process outlived the run) and is not sealed again.
"""

from __future__ import annotations

import json
import linecache
import math
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from auditor.errors import TraceError
from auditor.redaction import redacted_code
from auditor.trace import (
    BACKWARD,
    CUT,
    DRAW,
    ELSEWHERE,
    EXTERNAL,
    FORMAT,
    FORWARD,
    HEADER,
    HEADER_SIZE,
    MAGIC,
    MORE,
    NAMED,
    NAMED_SIZE,
    NUMBERS,
    OP,
    PHASES,
    RECORD_SIZE,
    SETUP,
    SHADOW,
    SKETCH,
    STOPPED,
    SUMMARY_SIZE,
    SUMS,
    files,
    lane_name,
)
from auditor.trace.database import writing
from auditor.trace.facts import LINES, META, PROCESS
from auditor.trace.going import boot
from auditor.trace.lanes import in_order
from auditor.trace.ops import OpSchema
from auditor.trace.records import schema_of
from auditor.trace.schema import COLUMNS, EVENTS, SCHEMA_COLUMNS
from auditor.trace.schema import event as known_event
from auditor.trace.shapes import Shape, WrongFactError, checked, load
from auditor.trace.signs import finalised
from auditor.trace.steps import ends_of, first_turn, steps_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    #: Numbers, or codes and the text of each code.
    _Column = npt.NDArray[Any] | tuple[npt.NDArray[Any], list[str]]

#: Clocks of file systems are behind by as many nanoseconds at most.
_COARSE = 20_000_000
_FIELDS = ("digest", "seq", "site", "numbers", "p0", "p1", "p2", "where", "sig")
_CHUNK = 1 << 20
_FEW_TEXTS = 1_000
#: Bytes of a file of the spool: more than a process's record numbers can fill.
_LARGEST = NUMBERS * RECORD_SIZE

#: What lies beside a lane's records: suffix in the spool -> name in the sealed form, struct, columns.
BESIDE = {
    ".skt": ("sketches", SKETCH, ("row", "slot", "elements", "nonfinite", "norm", "largest", *(f"s{k}" for k in range(SUMS)))),
    ".shd": ("shadows", SHADOW, ("row", "slot", "at", "ulps", "mean", "error", "norm", "excess")),
}


def seal(run: Path, into: Path | None = None, own: bool = False) -> None:
    """Turn the spool of a run into sealed lanes: in the run, from which the spool is then removed, or beside it, in the folder `into`.

    Only for a run of our `own` making, or one that was made on this machine since it was started, are the lines of its source read: else no
    path that the run names is opened. What is written is a new folder, which gets its name when it is whole.
    Raises TraceError `disk-full`, `seal-failed`.
    """
    import duckdb

    spool = run / "spool"
    facts = _json(run / "run.json", META) or {}
    copies = (facts.get("plan") or {}).get("copies") or []
    own = own or (boot() is not None and (facts.get("launcher") or {}).get("boot") == boot())
    lanes: list[dict[str, Any]] = []
    processes = []
    parents: dict[str, str] = {}
    for folder in sorted(folder for folder in spool.iterdir() if folder.is_dir() and not folder.is_symlink()):
        process = _json(folder / "process.json", PROCESS)
        found = sorted(folder.glob("*.jsonl"))
        if process is None and not found:
            continue
        process = process or {}
        if not is_known(process.get("format", FORMAT)):
            raise newer(run, process["format"])
        processes.append(process)
        parents[folder.name] = str(process.get("parent") or "")
        lanes += _opened([_lane(lines, process) for lines in found])
    lanes.sort(key=lambda lane: (lane["name"] != "main", in_order(lane["name"]), lane["identity"], lane["fork"], lane["started"]))
    numbers = _numbers(lanes, parents)
    _tell_own_files(lanes)
    seen: dict[str, int] = {}
    target = None
    try:
        target = Path(tempfile.mkdtemp(prefix=".lanes-", dir=into or run))
        for k, lane in enumerate(lanes):
            seen[lane["name"]] = seen.get(lane["name"], 0) + 1
            if seen[lane["name"]] > 1:
                lane["name"] += f" ({seen[lane['name']]})"
            _write_lane(lane, numbers[lane["path"].parent.name], target / f"{k:03d}", facts.get("cwd") or "", copies, own)
        files.write(target / "index.json", json.dumps({"format": FORMAT, "processes": processes, "lanes": len(lanes)}))
        for file in target.iterdir():
            file.chmod(files.FILE_MODE)
        lanes_folder = (into or run) / "lanes"
        if lanes_folder.is_dir() and not lanes_folder.is_symlink():
            shutil.rmtree(lanes_folder)  # of a sealing that was cut short
        target.rename(lanes_folder)
    except (OSError, duckdb.IOException) as error:
        if target is not None:
            shutil.rmtree(target, ignore_errors=True)
        full = "No space left" in str(error)
        why = "there is no space left" if full else str(error).splitlines()[0]
        raise TraceError(
            "disk-full" if full else "seal-failed",
            f"cannot write to {into or run}: {why}; what was recorded is kept in {spool} and will be read by the next command that reads "
            "this run",
        ) from error
    if into is None:
        shutil.rmtree(spool, ignore_errors=True)


def is_known(found: object) -> bool:
    """Whether this version reads a format."""
    return isinstance(found, int) and found <= FORMAT


def newer(run: Path, found: object) -> TraceError:
    """The error for a trace that a newer version wrote."""
    return TraceError(
        "trace-newer", f"{run} was recorded in trace format {found}, this version reads up to {FORMAT}: update repro-audit to read it"
    )


def _pid(folder: object) -> int | None:
    """The process whose folder this is."""
    number = str(folder or "").partition("-")[0]
    return int(number) if number.isdigit() else None


def _json(path: Path, shape: Shape) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = checked(load(files.read(path)), shape)
    except (OSError, ValueError):
        return None
    return value


#: What a line of a table must have to be of use.
_NEEDED = {"sig": ("kind",), "site": ("file", "line", "func"), "module": ("path",), "leaf": ("name",),
           "name": ("name", "scope", "file", "line", "kind", "dtype", "as", "bytes", "shape"), "place": ("frames", "loops")}  # fmt: skip
#: Facts of an event that are numbers of records, or lists of them.
_OF_RECORDS = ("root", "written")
#: What of a `sig` is compared. A key that a later version adds is not: the runs of two versions stay comparable.
_COMPARED = ("kind", "op", "out", "args", "stream", "function")


def _lane(lines: Path, process: dict[str, Any]) -> dict[str, Any]:
    """Read the lines of one lane: its tables and events."""
    tables: dict[str, dict[int, dict[str, Any]]] = {"sig": {}, "site": {}, "module": {}, "leaf": {}, "name": {}, "place": {}}
    events: list[dict[str, Any]] = []
    lane: dict[str, Any] = {
        "role": {}, "identity": [], "base": 0, "started": 0.0, "rank": process.get("rank"), "pid": process.get("pid"), "ended": False,
        "fork": process.get("fork") or 0, "unknown": 0, "torch": None, "stopped": "", "begun": None, "path": lines.with_suffix(""),
        "executable": process.get("executable"), "parent": _pid(process.get("parent")),
    }  # fmt: skip
    for number, raw in enumerate(_bytes_of(lines).replace(b"\0", b"").split(b"\n")):  # behind the last line the file is zero
        try:
            event = load(raw)
            kind = event["k"]
            checked(event, LINES.get(kind, known_event))
            if kind in tables:
                if event["id"] > 2 * number + 1000:
                    raise WrongFactError("is no number of a line")  # lists are made as long as the largest
                tables[kind][event["id"]] = {key: event[key] for key in _NEEDED[kind]} | event
            elif kind == "lane":
                lane.update({key: event[key] for key in ("role", "identity", "base", "started")})
            elif kind == "role":
                lane["role"].update(event["role"])
                lane["identity"] = event.get("identity", lane["identity"])
            elif kind == "torch":
                lane["torch"] = event["version"]
            elif kind == "stopped":
                lane["stopped"] = event.get("why", "steps")
                lane["begun"] = event if "place" in event else None
            elif kind == "end":
                lane["ended"] = True
            elif kind == "step" and "at" not in event:
                raise WrongFactError("is an update without its record")
            elif kind in EVENTS:
                events.append(event)
            else:
                lane["unknown"] += 1
        except (ValueError, KeyError, TypeError):
            lane["unknown"] += bool(raw)  # the line that was being written when the process was killed
    lane["name"] = lane_name(lane["role"], lane["identity"], lane["rank"])
    lane["tables"] = tables
    lane["events"] = events
    return lane


def _opened(lanes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lanes of a process without those that an exception left behind when they were being opened."""
    used = [lane for lane in lanes if lane["ended"] or lane["events"] or any(lane["tables"].values()) or lane["torch"]]
    names = {lane["name"] for lane in used}
    return [lane for lane in lanes if lane in used or lane["name"] not in names]


class _Segments(NamedTuple):
    """A lane's records up to the first that was never written, the numbers of its segments, and why recording stopped if it did."""

    records: np.ndarray[Any, Any]
    blocks: list[tuple[int, int]]
    stopped: str


def _segments(path: Path) -> _Segments:
    import numpy as np

    dtype = np.dtype([(name, "<u8" if name == "digest" else "<u4") for name in _FIELDS])
    parts = []
    blocks: list[tuple[int, int]] = []
    stopped = ""
    k = 0
    while (segment := path.with_name(f"{path.name}.{k}.seg")).exists():
        data = _bytes_of(segment)
        k += 1
        if len(data) < HEADER_SIZE:
            break
        magic, format_, size, first, _written, _steps, why, room = struct.unpack_from(HEADER, data)
        if magic != MAGIC or size != RECORD_SIZE:
            break
        if format_ > FORMAT:
            raise newer(path.parent.parent.parent, format_)
        if not room and blocks and first != sum(blocks[-1]):
            break  # the segment before this one is not whole
        stopped = stopped or STOPPED[why] if why < len(STOPPED) else "recorder-error"
        usable = (len(data) - HEADER_SIZE) // RECORD_SIZE
        records = np.frombuffer(data, dtype, usable, HEADER_SIZE)
        written = int(np.argmin(records["sig"] != 0)) if usable and (records["sig"] == 0).any() else usable
        parts.append(records[:written])
        blocks.append((first, written))
        if usable < room or (not room and written < usable):
            break  # the file was cut
    return _Segments(np.concatenate(parts) if parts else np.zeros(0, dtype), blocks, stopped)


class _Numbers(NamedTuple):
    """Whose the record numbers are that a process can name: where each block begins, what its first is in the run, how many it has."""

    first: npt.NDArray[np.int64]
    becomes: npt.NDArray[np.int64]
    room: npt.NDArray[np.int64]

    def __call__(self, numbers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """A number that no other record of the run has, for each; 0 for those that are no record's."""
        import numpy as np

        numbers = numbers.astype(np.int64)
        if not len(self.first):
            return np.zeros_like(numbers)
        block = np.maximum(np.searchsorted(self.first, numbers, "right") - 1, 0)
        within = numbers - self.first[block]
        return np.where((within >= 0) & (within < self.room[block]), self.becomes[block] + within, 0)


def _numbers(lanes: list[dict[str, Any]], parents: dict[str, str]) -> dict[str, _Numbers]:
    """Read the segments of all lanes, give each its `base` in the run, and tell by process whose a number is."""
    import numpy as np

    own: dict[str, list[tuple[int, int, int]]] = {process: [] for process in parents}
    end = 0
    for lane in lanes:
        lane["base"] = end
        for first, count in _segments(lane["path"]).blocks:
            own[lane["path"].parent.name].append((first, end + 1, count))
            end += count
    found = {}
    for process in parents:
        blocks = list(own[process])
        forebear, below, passed = process, min(blocks, default=(NUMBERS,))[0], {process}
        while (forebear := parents.get(forebear, "")) and forebear not in passed:
            passed.add(forebear)
            blocks += [block for block in own.get(forebear, ()) if block[0] < below]
            below = min([below, *(block[0] for block in own.get(forebear, ()))])
        found[process] = _Numbers(*np.array(sorted(blocks) or np.zeros((0, 3)), np.int64).reshape(-1, 3).T)
    return found


_P1, _P2, _P3 = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9


def _write_lane(lane: dict[str, Any], whose: _Numbers, target: Path, cwd: str, copies: Sequence[Sequence[str]], own: bool) -> None:
    """Compute the columns of one lane and write them; a file in one of the copies is told as the one that it is a copy of."""
    import numpy as np
    from xxhash import xxh3_64_intdigest

    records, blocks, stopped = _segments(lane["path"])
    lane["stopped"] = stopped or lane["stopped"]
    sigs = lane["tables"]["sig"]
    pool = _pool(lane["path"])
    records = records[: _whole(records, sigs, pool)]
    more = records["sig"] == MORE
    row_of = np.cumsum(~more) - 1
    main = records[~more]
    positions = np.flatnonzero(~more)
    n = len(main)
    base = lane["base"]

    def rows(numbers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Record numbers -> rows; -1 nobody, ELSEWHERE and less another lane."""
        known = whose(numbers)
        mine = (known > base) & (known <= base + len(row_of))
        elsewhere = np.where(numbers == 0, -1, ELSEWHERE - known)
        return np.where(mine, row_of[np.where(mine, known - base - 1, 0)], elsewhere) if len(row_of) else elsewhere

    def position(at: int) -> int:
        """How many records the lane had when this number was its last."""
        last = before = 0
        for first, count in blocks:
            if at >= first:
                last = before + min(at - first + 1, count)
            before += count
        return last

    # tables
    top = max(sigs, default=0) + 1
    kind_of, op_of, args_of, out_of = ([""] * top for _ in range(4))
    hash_of = np.zeros(top, np.uint64)
    exact_of = [False] * top
    schema_by = [OpSchema()] * top
    for number, sig in sigs.items():
        exact_of[number] = bool(sig.get("exact"))
        schema_by[number] = schema_of(sig) if sig["kind"] == OP else OpSchema()
        kind_of[number] = sig["kind"]
        op_of[number] = sig.get("op") or sig.get("function") or sig["kind"]
        given = sig.get("args")
        args_of[number] = sig.get("stream", "") if sig["kind"] == "draw" else "" if given is None else _compact(given)
        out_of[number] = _compact(sig["out"]) if "out" in sig else ""
        fields = {key: sig[key] for key in _COMPARED if key in sig}
        hash_of[number] = xxh3_64_intdigest(_compact(fields).encode("utf-8", "surrogatepass"))
    sig = main["sig"].astype(np.int32)
    is_op, is_external, is_draw = (np.array([kind == wanted for kind in kind_of])[sig] for wanted in (OP, EXTERNAL, DRAW))
    is_compared = is_op | is_external
    index = np.cumsum(is_compared) - is_compared
    lane["unknown"] += int(np.count_nonzero(~is_compared & ~is_draw))

    # floats given as arguments
    numbers_text = [""]
    numbers_code = np.zeros(n, np.int32)
    numbers_hash = np.zeros(n, np.uint64)
    if main["numbers"].any():
        unique, where = np.unique(main["numbers"], return_inverse=True)
        numbers_code = where.astype(np.int32)
        numbers_text, hashes = [], []
        for at in unique.tolist():
            group = pool[at : at + int(pool[at - 1])] if at else pool[:0]
            numbers_text.append(" ".join(repr(float(v)) for v in group))
            hashes.append(xxh3_64_intdigest(group.tobytes()) if at else 0)
        numbers_hash = np.array(hashes, np.uint64)[numbers_code]

    # what is compared
    what = finalised(np, hash_of[sig] + np.uint64(_P1) * finalised(np, main["digest"] + np.uint64(_P2)) + np.uint64(_P3) * numbers_hash)
    digests, inputs = [""], [""]
    digests_code, inputs_code = np.zeros(n, np.int32), np.zeros(n, np.int32)
    producers = np.stack([rows(main[p]) for p in ("p0", "p1", "p2")]) if n else np.zeros((3, 0), np.int64)
    rows_digest = np.where(is_external, main["p0"].astype(np.uint64) | main["p1"].astype(np.uint64) << np.uint64(32), np.uint64(0))
    producers[:, is_external] = -1
    for row in np.flatnonzero(main["where"] & 0xFF).tolist():
        at, extra = int(positions[row]), int(main["where"][row] & 0xFF)
        tail = records[at + 1 : at + 1 + extra]
        every = [int(main["digest"][row]), *map(int, tail["digest"])]
        digests_code[row] = len(digests)
        digests.append(" ".join(f"{d:016x}" for d in every))
        what[row] ^= np.uint64(xxh3_64_intdigest(tail["digest"].tobytes()))
        sources = rows(np.stack([tail[p] for p in ("p0", "p1", "p2")], 1).reshape(-1))
        inputs_code[row] = len(inputs)
        inputs.append(" ".join(str(v) for v in [*producers[:, row].tolist(), *sources.tolist()] if v != -1))

    # where
    place = main["where"]
    phase = np.minimum(place >> 8 & (CUT - 1), len(PHASES) - 1).astype(np.int32)
    updates = [event for event in lane["events"] if event["k"] == "step"]
    lane["steps"] = steps_of(updates, lane["begun"], lane["tables"]["place"])
    ends = [position(at) for at in ends_of(updates, lane["steps"])]
    step = np.searchsorted(np.array(ends, np.int64), positions + 1, "left") if ends else np.zeros(n, np.int64)
    sites = _sites(lane["tables"]["site"], cwd, copies, own)
    site = main["site"].astype(np.int32)
    setup = n if (phase == SETUP).all() else int(np.argmax(phase != SETUP))
    phase[first_turn(updates, lane["tables"]["place"], lane["tables"]["site"], site, step, setup) : setup] = FORWARD
    leaf = np.where(phase == BACKWARD, place >> 16, 0).astype(np.int32)
    leaf_written = np.where(leaf > 0, rows(main["seq"]), -1) if n else np.zeros(0, np.int64)
    forward = _forward_rows(np.where(leaf > 0, 0, main["seq"]), phase)
    forward_site = np.where(forward >= 0, site[forward], 0) if n else site
    module = (place >> 16).astype(np.int32)
    if n:
        module = np.where(phase == BACKWARD, np.where(forward >= 0, module[forward], 0), module)

    columns: dict[str, _Column] = {
        "row": np.arange(n), "record": positions + 1, "index": index, "kind": (sig, kind_of), "op": (sig, op_of), "args": (sig, args_of),
        "numbers": (numbers_code, numbers_text), "out": (sig, out_of), "digest": main["digest"], "digests": (digests_code, digests),
        "in0": producers[0], "in1": producers[1], "in2": producers[2], "inputs": (inputs_code, inputs), "rows": rows_digest,
        "phase": (phase, list(PHASES)), "cut": (place >> 8 & CUT) > 0,
        "node": (main["seq"] > 0) & (phase != BACKWARD), "step": step, "exact": np.array(exact_of)[sig],
        "module": _texts(lane["tables"]["module"], "path", module), "leaf": _texts(lane["tables"]["leaf"], "name", leaf),
        "leaf_written": leaf_written,
        "file": _texts(sites, "file", site), "line": _lines(sites, site), "function": _texts(sites, "function", site),
        "code": _texts(sites, "code", site), "forward_row": forward, "forward_file": _texts(sites, "file", forward_site),
        "forward_line": _lines(sites, forward_site), "forward_code": _texts(sites, "code", forward_site), "site": site, "what": what,
        "writes": (sig, [_compact(schema.writes) if schema.writes else "" for schema in schema_by]),
        **{name: np.array([getattr(schema, name) for schema in schema_by])[sig] for name in SCHEMA_COLUMNS if name != "writes"},
    }  # fmt: skip
    _write_parquet(columns, target.with_suffix(".parquet"))
    for suffix, (name, layout, names) in BESIDE.items():
        _write_beside(lane["path"].with_suffix(suffix), target.with_suffix(f".{name}.parquet"), layout, names, rows)
    named = _write_names(lane, target, cwd, copies)

    events = []
    for event, number in zip(updates, lane["steps"], strict=True):
        event["step"] = number
        for key in ("place", "made", "born", "by"):
            event.pop(key, None)
    for event in lane["events"]:
        at = position(int(event.pop("at", 0)))
        event["row"] = int(row_of[min(at, len(row_of)) - 1]) + 1 if at > 0 and len(row_of) else 0
        for key in _OF_RECORDS:
            if key in event:
                event[key] = rows(np.array(event[key], np.uint32)).tolist()
        if event["k"] == "unseen-write":
            event["leaf"] = lane["tables"]["leaf"].get(event.get("leaf"), {}).get("name")
        if "path" in event:
            event["path"] = _relative(_original(event["path"], copies), cwd)
        site = lane["tables"]["site"].get(event.pop("site", 0))
        if site is not None:
            event |= {key: site[key] for key in (*_NEEDED["site"], "importing") if key in site}
        if "file" in event:
            code = _source(event["file"], event.get("line"), copies) if own else None
            event["file"], event["code"] = _relative(_original(event["file"], copies), cwd), code
        events.append(event)
    kept = {
        key: lane[key]
        for key in ("name", "role", "identity", "rank", "pid", "ended", "unknown", "torch", "stopped", "started", "executable", "parent")
    }
    kept |= {"format": FORMAT, "base": base, "records": n, "ops": int(is_op.sum()), "steps": len(ends), "events": events}
    if importing := [number for number, site in lane["tables"]["site"].items() if site.get("importing")]:
        kept["importing"] = importing
    if named:
        kept["names"] = named
    files.write(target.with_suffix(".json"), json.dumps(kept))


def _pool(path: Path) -> npt.NDArray[np.float64]:
    """The floats that the ops of a lane were given; empty if there is no such file."""
    import numpy as np

    data = _bytes_of(path.with_suffix(".num"))
    return np.frombuffer(data, "<f8", len(data) // 8)


def _whole(records: np.ndarray[Any, Any], sigs: dict[int, dict[str, Any]], pool: npt.NDArray[np.float64]) -> int:
    """How many records are whole: up to the first whose sig, floats or continuation records are missing.

    A process that is killed leaves no such record but the last; a copy that was cut short may, and so may a disk that was full for one of
    the files.
    """
    import numpy as np

    positions = np.flatnonzero(records["sig"] != MORE)
    main = records[positions]
    known = np.zeros(max(sigs, default=0) + 1, bool)
    known[list(sigs)] = True
    whole = known[np.minimum(main["sig"], len(known) - 1)] & (main["sig"] < len(known))
    whole &= positions + (main["where"] & 0xFF) < len(records)
    at = main["numbers"].astype(np.int64)
    counts = np.append(pool, 0)[np.minimum(at - 1, len(pool))]
    with np.errstate(invalid="ignore"):
        whole &= (at == 0) | (counts >= 1) & (at + counts <= len(pool))
    return len(records) if whole.all() else int(positions[np.argmin(whole)])


def _bytes_of(path: Path) -> bytes:
    """What a file of the spool holds; nothing if there is no such file, or something that is none."""
    try:
        return files.read(path, _LARGEST)
    except (OSError, MemoryError):  # of a hole that somebody made
        return b""


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _texts(table: dict[int, dict[str, Any]], field: str, numbers: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[str]]:
    """A column of a table's texts: the numbers, and the text of each number."""
    import numpy as np

    values = [""] * (max(table, default=0) + 1)
    for number, entry in table.items():
        values[number] = entry.get(field) or ""
    return np.where(numbers < len(values), numbers, 0), values


def _lines(sites: dict[int, dict[str, Any]], numbers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Line numbers of sites; -1 where there is none."""
    import numpy as np

    values = np.full(max(sites, default=0) + 1, -1, np.int64)
    for number, entry in sites.items():
        values[number] = entry["line"] if entry["line"] is not None else -1
    return values[np.where(numbers < len(values), numbers, 0)]


def _forward_rows(seq: npt.NDArray[Any], phase: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """For each backward op the row of the forward op that made its autograd node; -1 where there is none.

    A node's number is stored with the first op that ran after the thread's counter moved to it.
    """
    import numpy as np

    seq = seq.astype(np.int64)
    is_backward = phase == BACKWARD
    made = np.flatnonzero(~is_backward & (seq > 0))
    found = np.full(len(seq), -1, np.int64)
    wanted = np.flatnonzero(is_backward & (seq > 0))
    if not len(made) or not len(wanted):
        return found
    order = made[np.argsort(seq[made], kind="stable")]
    at = np.searchsorted(seq[order], seq[wanted])
    hit = at < len(order)
    hit[hit] = seq[order[at[hit]]] == seq[wanted[hit]]
    found[wanted[hit]] = order[at[hit]]
    return found


def _tell_own_files(lanes: Sequence[dict[str, Any]]) -> None:
    """Say of each reading of a file whether the run itself had written what was read: it opened the file to write it, and then it changed.

    What a lane opens behind the reading is not asked: of one lane the order is known, and clocks of file systems are coarse.
    """
    files = [[event for event in lane["events"] if event["k"] == "file"] for lane in lanes]
    first: list[dict[str, int]] = []
    for events in files:
        first.append({})
        for event in events:
            if "opened_at" in event:
                first[-1].setdefault(event["path"], event["opened_at"])
    for lane, events in enumerate(files):
        opened: dict[str, int] = {}
        for at, others in enumerate(first):
            if at != lane:
                opened |= {path: min(when, opened.get(path, when)) for path, when in others.items()}
        for event in events:
            when = opened.get(event["path"])
            if "opened_at" in event:
                began = event.pop("opened_at")
                opened[event["path"]] = began if when is None else min(began, when)
            if "changed_at" in event:
                event["own"] = when is not None and when <= event.pop("changed_at") + _COARSE


def _relative(file: str, cwd: str) -> str:
    if not cwd or not Path(file).is_absolute():
        return file
    relative = os.path.relpath(file, cwd)
    return file if relative.startswith("..") else relative


def _original(file: str, copies: Sequence[Sequence[str]]) -> str:
    """The path of the file that this one is a copy of; its own if it lies in none of the copies."""
    for copy, home in copies:
        if file == copy or file.startswith(copy + os.sep):
            return home + file[len(copy) :]
    return file


def _source(file: str, line: object, copies: Sequence[Sequence[str]]) -> str | None:
    """A line of a file; of its original if the copy has gone."""
    if not isinstance(line, int):
        return None
    home = _original(file, copies)
    if not (Path(file).is_file() or Path(home).is_file()):  # a pipe would be waited for
        return None
    if home != file:
        linecache.checkcache(file)  # a copy for another run had the same path
    return redacted_code((linecache.getline(file, line) or linecache.getline(home, line)).strip()) or None


def _sites(table: dict[int, dict[str, Any]], cwd: str, copies: Sequence[Sequence[str]], own: bool) -> dict[int, dict[str, Any]]:
    return {
        number: {
            "file": _relative(_original(site["file"], copies), cwd),
            "line": site["line"],
            "function": site["func"],
            "code": _source(str(Path(cwd, site["file"])), site["line"], copies) if own else None,
        }
        for number, site in table.items()
    }


def _write_parquet(columns: dict[str, _Column], path: Path) -> None:
    """Write the columns, in the order of their rows.

    DuckDB puts the texts to their codes: an object column it would take one Python string at a time. A few texts are a list in the
    question, which is a third of the work of a join; many are joined, since a list is copied for each two thousand rows.
    """
    import numpy as np

    con = writing(len(columns["row"]), Path(files.in_database(path)).parent)
    try:
        data, joins, fields, lists = {}, [], [], {}
        for name in COLUMNS:
            column = columns[name]
            if isinstance(column, tuple):
                data[name], found = column
                # a file name that is no UTF-8 is held as lone surrogates, which Parquet does not have
                texts = [text.encode("utf-8", "backslashreplace").decode() for text in found]
                if not any(texts):
                    fields.append(f"NULL::VARCHAR AS {name}")
                elif len(texts) <= _FEW_TEXTS:
                    lists[f"t_{name}"] = texts
                    fields.append(f"nullif(list_extract($t_{name}, records.{name} + 1), '') AS {name}")
                else:
                    con.register(f"t_{name}", {"id": np.arange(len(texts)), "text": np.array(texts, object)})
                    joins.append(f"LEFT JOIN t_{name} ON t_{name}.id = records.{name}")
                    fields.append(f"nullif(t_{name}.text, '') AS {name}")
            else:
                data[name] = column
                absent = name in ("line", "forward_row", "forward_line", "in0", "in1", "in2", "leaf_written")
                fields.append(f'nullif(records."{name}", -1) AS "{name}"' if absent else f'records."{name}"')
        con.register("records", data)
        target = files.in_database(path).replace("'", "''")
        order = 'ORDER BY records."row"' if joins else ""
        con.execute(  # the names are COLUMNS, the path is ours with its quotes doubled
            f"COPY (SELECT {', '.join(fields)} FROM records {' '.join(joins)} {order}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)",
            lists,
        )
    finally:
        con.close()


def _write_beside(
    spool: Path, path: Path, layout: str, names: Sequence[str], rows_of: Callable[[npt.NDArray[Any]], npt.NDArray[np.int64]]
) -> None:  # fmt: skip
    """Write what lies beside the records, each at the row of its record; nothing if there is nothing."""
    import numpy as np

    kinds = [f"<{ {'I': 'u4', 'Q': 'u8', 'd': 'f8'}[letter] }" for letter in _letters(layout)]
    dtype = np.dtype(list(zip(names, kinds, strict=True)))
    data = _bytes_of(spool)
    entries = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
    rows = rows_of(entries["row"])
    written = rows >= 0  # the rest of the file is zero, and record 0 is nobody's
    if not written.any():
        return
    con = writing(len(entries), Path(files.in_database(path)).parent)
    try:
        columns = {name: np.ascontiguousarray(entries[name][written]) for name in names[1:]}
        con.register("beside", {"row": rows[written], **columns})
        target = files.in_database(path).replace("'", "''")
        con.execute(f"COPY (SELECT * FROM beside) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
    finally:
        con.close()


def _write_names(lane: dict[str, Any], target: Path, cwd: str, copies: Sequence[Sequence[str]]) -> int:
    """Keep the named values as they were written, cut off behind the last, and their names; returns how many values there are.

    In the same bytes, because a process of the user's reads them where it begins with values of this run, and it has but the standard
    library.
    """
    table = lane["tables"]["name"]
    records = lane["path"].with_suffix(".nam")
    data = _bytes_of(records)
    count = end = 0
    for number, _, _, at in struct.iter_unpack(NAMED, data[: len(data) // NAMED_SIZE * NAMED_SIZE]):
        if number not in table:
            break
        count += 1
        if at:
            size = SUMMARY_SIZE if at & 1 else math.prod(table[number]["shape"]) * table[number]["bytes"]
            end = max(end, ((at >> 1) - 1) * 8 + -(-size // 8) * 8)
    if not count:
        return 0
    files.write(target.with_suffix(".nam"), _in_steps(data[: count * NAMED_SIZE], lane["steps"]))
    if end:
        _copy_start(lane["path"].with_suffix(".val"), target.with_suffix(".val"), end)
    told = [entry | {"file": _relative(_original(entry["file"], copies), cwd)} for entry in table.values()]
    files.write(target.with_suffix(".names.json"), json.dumps(told))
    return count


def _copy_start(source: Path, target: Path, size: int) -> None:
    """Copy what a file begins with: never by a link, through which whatever else has that file would be written."""
    try:
        given = files.open_regular(source, None)
    except OSError:
        return
    with os.fdopen(given, "rb") as read, os.fdopen(files.create(target), "wb") as written:
        while size > 0 and (chunk := read.read(min(size, _CHUNK))):
            written.write(chunk)
            size -= len(chunk)


def _in_steps(data: bytes, steps: list[int]) -> bytes:
    """Named values with the step that each was given in, in place of how many updates there were before it."""
    if steps == list(range(len(steps))):
        return data
    total = steps[-1] + 1
    entries = ((number, steps[k] if k < len(steps) else total, order, at) for number, k, order, at in struct.iter_unpack(NAMED, data))
    return b"".join(struct.pack(NAMED, *entry) for entry in entries)


def _letters(layout: str) -> str:
    """The letters of a struct format, those with a count as often as it says."""
    return "".join(letter * int(count or 1) for count, letter in re.findall(r"(\d*)([A-Za-z])", layout))
