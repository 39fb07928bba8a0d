"""The format of a trace: writing, truncation, sealing and reading.

`traces/format-1` is a run kept from when the format was new; users' runs are as old. It is written again, with a new folder for the new
format beside it, only when the format number changes: `UPDATE_GOLDEN=1 pytest tests/test_trace.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auditor.errors import TraceError
from auditor.trace import FORMAT, HEADER_SIZE, RECORD_SIZE, STOPPED, lane_name
from auditor.trace.lanes import LaneKey, in_order, without_number
from auditor.trace.reader import LaneTrace, Trace, opened
from auditor.trace.records import Record, schema_in, with_todays_names
from auditor.trace.schema import COLUMNS, EVENT_COLUMNS, EVENTS
from auditor.trace.tables import Tables
from auditor.trace.writer import LaneWriter, Numbers
from tests.builder import HOME, LaneBuilder, TraceBuilder, digest_of

KEPT = Path(__file__).parent / "traces"

#: Columns that only say where something happened, and how many other records came before it.
WHERE = {"phase", "step", "module", "file", "line", "function", "code", "forward_file", "forward_line", "forward_code", "site"}
#: More records than fit in the first segment.
LONG = 7000


def everything(lane: LaneBuilder) -> None:
    """A short program with a record and an event of every kind."""
    lane.setting("torch.backends.cudnn.benchmark", False, initial=True)
    lane.seed("torch-cpu", 3, line=2)
    w = lane.random(
        "aten.uniform_.default", lane.op("aten.empty.memory_format", shape=[4, 2], digest=0, line=3), numbers=(-0.5, 0.5), line=3
    )
    lane.read("data/train.csv", "numbers", line=5)
    lane.event("thread", 6, number=1, name="prefetch")
    lane.phase = "forward"
    lane.draw("numpy", "numpy.shuffle", "shuffled", line=8)
    x = lane.external([3, 4], rows="rows of x", line=9)
    lane.module = "Net.first"
    y = lane.op("aten.mm.default", x, w, shape=[3, 2], line=10, node=1)
    z, sizes = lane.op("aten.max.dim", y, shape=[3], args=[1], more=["where"], line=11, node=2), "aten.cat.default"
    lane.module = ""
    lane.op(sizes, z, z, x, y, w, shape=[32], args=[5], line=12)
    lane.phase = "backward"
    g = lane.op("aten.mm.default", y, x, shape=[4, 2], line=13, node=1)
    lane.phase = "optimizer"
    lane.op("aten.add_.Tensor", w, g, numbers=(-0.1,), line=14)
    lane.setting("torch.backends.cudnn.benchmark", True, line=15)
    lane.step(loss=0.5, loss_digest=1, parameters=2, gradients=3, state=4)
    lane.kept(in0=[1.0, 2.0], out0=[3.0])
    lane.event("level", level="steps")
    lane.event("lost", what="a region", count=2)


def everything_of_today(lane: LaneBuilder) -> None:
    """Later additions, after all that the first version had: the kept run does not have them."""
    everything(lane)
    last = lane.last
    lane.event("optimizer", number=1, name="SGD", leaves=["w", "b"], written=[3, 0])
    lane.event("zeroed", 20, number=1)
    lane.event("autocast", 21, op="enter", name="cpu", value="bfloat16", first=True)
    lane.event("backward", 22, root=last, graph=True)
    lane.event("schedule", 23, number=1, name="StepLR")
    lane.event("shared", 24)
    lane.event("measured", what="cast", values=6, changed=2, largest=0.5, absolute=0.25)
    lane.event("nonfinite", nans=1, infinities=0, given=False)
    lane.event("entered", 25, factor="clock", function="time.time", nth=1, asked_by="script")
    lane.event("unshadowed", op="aten.sort.default", why="no such op in float64", count=3)
    lane.event("unsketched", op="aten.quantize_per_tensor.default", count=1)
    lane.event("shared-start", a="w", b="model.weight", how="copied, transposed")
    lane.event("handed", 26, function="torch.Tensor.numpy", digest=5, shape=[3])
    lane.event("came", 27, function="torch.from_numpy")
    lane.event("task", name="thread 0, 1")
    lane.event("loaded", 28, name="Net", given=4, missing=1, unexpected=0, missing_names=["w"], unexpected_names=[], written=[3])
    lane.event("unseen-write", leaf=0)
    lane.event("child", 29, pid=12, program="python", python=True, helper=False)
    lane.event("interrupted", 30, op="aten.add_.Tensor", written=[last])


def built(path: Path, write: Callable[[LaneBuilder], object], **facts: Any) -> Trace:
    """The run of one lane."""
    run = TraceBuilder(path, **facts)
    write(run.lane())
    return run.sealed()


def rows_of(trace: Trace, lane: str = "main") -> list[dict[str, Any]]:
    """All rows of a lane."""
    return trace.lanes[lane].query('SELECT * FROM records ORDER BY "row"')


def what(trace: Trace) -> list[int]:
    """The compared part of the main lane."""
    assert trace.main is not None
    return [int(number) for number in trace.main.compared[0]]


def main(trace: Trace) -> LaneTrace:
    """The main lane."""
    assert trace.main is not None
    return trace.main


def lines_of(run: Path) -> Path:
    """The JSON lines of the only lane of an unsealed run."""
    (found,) = run.glob("spool/*/0.jsonl")
    return found


# what is written is read


def test_every_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = rows_of(built(tmp_path / "a", everything))
    keys = ("row", "index", "kind", "op", "args", "numbers", "in0", "in1", "inputs", "phase", "step", "module", "line")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        (0, 0, "op", "aten.empty.memory_format", None, None, None, None, None, "setup", 0, None, 3),
        (1, 1, "draw", "aten.uniform_.default", "torch-cpu", None, None, None, None, "setup", 0, None, 3),
        (2, 1, "op", "aten.uniform_.default", None, "-0.5 0.5", 0, None, None, "setup", 0, None, 3),
        (3, 2, "draw", "numpy.shuffle", "numpy", None, None, None, None, "forward", 0, None, 8),
        (4, 2, "external", "external", None, None, None, None, None, "forward", 0, None, 9),
        (5, 3, "op", "aten.mm.default", None, None, 4, 2, None, "forward", 0, "Net.first", 10),
        (6, 4, "op", "aten.max.dim", "[1]", None, 5, None, "5", "forward", 0, "Net.first", 11),
        (7, 5, "op", "aten.cat.default", "[5]", None, 6, 6, "6 6 4 5 2", "forward", 0, None, 12),
        (8, 6, "op", "aten.mm.default", None, None, 5, 4, None, "backward", 0, "Net.first", 13),
        (9, 7, "op", "aten.add_.Tensor", None, "-0.1", 2, 8, None, "optimizer", 0, None, 14),
    ]
    assert {row["file"] for row in rows} == {"train.py"}
    assert {row["function"] for row in rows} == {"<module>"}
    assert [(row["row"], row["forward_line"]) for row in rows if row["forward_line"] is not None] == [(8, 10)]
    assert rows[4]["rows"] == digest_of("rows of x")
    assert rows[4]["out"] == '[["float32",[3,4],null,"cpu"]]'
    assert rows[6]["digests"] == f"{rows[6]['digest']:016x} {digest_of('where'):016x}"
    assert rows[7]["digests"] == f"{rows[7]['digest']:016x} {0:016x}"
    assert rows[3]["digest"] == digest_of("shuffled")


def test_every_event_is_read_as_it_was_written(tmp_path: Path) -> None:
    lane = main(built(tmp_path / "a", everything_of_today))
    assert {event["k"] for event in lane.events} == set(EVENTS)
    assert [(event["k"], event["row"], event.get("file"), event.get("line")) for event in lane.events] == [
        ("setting", 0, None, None),
        ("seed", 0, "train.py", 2),
        ("file", 3, "train.py", 5),
        ("thread", 3, "train.py", 6),
        ("setting", 10, "train.py", 15),
        ("step", 10, None, None),
        ("value", 10, None, None),
        ("level", 10, None, None),
        ("lost", 10, None, None),
        ("optimizer", 10, None, None),
        ("zeroed", 10, "train.py", 20),
        ("autocast", 10, "train.py", 21),
        ("backward", 10, "train.py", 22),
        ("schedule", 10, "train.py", 23),
        ("shared", 10, "train.py", 24),
        ("measured", 10, None, None),
        ("nonfinite", 10, None, None),
        ("entered", 10, "train.py", 25),
        ("unshadowed", 10, None, None),
        ("unsketched", 10, None, None),
        ("shared-start", 10, None, None),
        ("handed", 10, "train.py", 26),
        ("came", 10, "train.py", 27),
        ("task", 10, None, None),
        ("loaded", 10, "train.py", 28),
        ("unseen-write", 10, None, None),
        ("child", 10, "train.py", 29),
        ("interrupted", 10, "train.py", 30),
    ]
    (seed,) = lane.events_of("seed")
    assert (seed["stream"], seed["value"], seed["entropy"]) == ("torch-cpu", "3", False)
    assert [event["value"] for event in lane.events_of("setting")] == [False, True]
    assert lane.events_of("file")[0]["path"] == "data/train.csv"
    assert lane.events_of("file", "step") == [*lane.events_of("file"), *lane.events_of("step")]
    assert (lane.ops, lane.steps, lane.ended, lane.facts["unknown"], lane.facts["stopped"]) == (7, 1, True, 0, "")


def test_a_record_has_a_field_for_each_column() -> None:
    assert [one.name for one in fields(Record)] == list(COLUMNS)


@pytest.mark.parametrize(
    ("kept", "now"),
    [
        ({"k": "setting", "name": "a", "value": 1, "first": True}, {"k": "setting", "name": "a", "value": 1, "initial": True}),
        ({"k": "backward", "root": 3, "first": False}, {"k": "backward", "root": 3, "graph": False}),
        (
            {"k": "autocast", "op": "enter", "name": "cpu", "value": "bfloat16", "first": True},
            {"k": "autocast", "op": "enter", "device": "cpu", "dtype": "bfloat16", "enabled": True},
        ),
        ({"k": "entered", "factor": "clock", "mode": "library"}, {"k": "entered", "factor": "clock", "asked_by": "library"}),
        ({"k": "file", "op": "list", "path": "d", "mode": "script"}, {"k": "file", "op": "list", "path": "d", "asked_by": "script"}),
        ({"k": "file", "op": "read", "path": "f", "mode": "rb"}, {"k": "file", "op": "read", "path": "f", "mode": "rb"}),
        ({"k": "optimizer", "name": "SGD"}, {"k": "optimizer", "name": "SGD"}),
    ],
)
def test_event_fields_of_older_runs_get_their_current_names(kept: dict[str, Any], now: dict[str, Any]) -> None:
    assert with_todays_names(kept) == now
    assert with_todays_names(now) == now


def test_references_of_events_to_records_become_rows(tmp_path: Path) -> None:
    with Tables(built(tmp_path / "a", everything_of_today)) as tables:
        held = tables.query("SELECT optimizer, class, leaf, row FROM held")
        assert [tuple(row.values()) for row in held] == [(1, "SGD", "w", 2), (1, "SGD", "b", -1)]
        assert tables.query("SELECT root, graph FROM events WHERE kind = 'backward'") == [{"root": 9, "graph": True}]
        assert tables.query("SELECT row, what, changed, largest FROM measured") == [
            {"row": 9, "what": "cast", "changed": 2, "largest": 0.5}
        ]
        assert tables.query("SELECT row, nans, infinities, given FROM nonfinite") == [
            {"row": 9, "nans": 1, "infinities": 0, "given": False}
        ]
        assert tables.query("SELECT lane, pid, base, role FROM lanes") == [{"lane": "main", "pid": 1000, "base": 0, "role": "main"}]
        assert tables.query("SELECT kind, optimizer, name FROM events WHERE kind = 'schedule'") == [
            {"kind": "schedule", "optimizer": 1, "name": "StepLR"}
        ]
        assert tables.query("SELECT op, factor, asked_by, line FROM events WHERE kind = 'entered'") == [
            {"op": "time.time", "factor": "clock", "asked_by": "script", "line": 25}
        ]


def test_an_op_without_a_graph_node_where_one_was_possible_is_recorded(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external([2])
        lane.phase = "forward"
        lane.op("aten.detach.default", x, cut=True)
        lane.op("aten.neg.default", x)

    trace = built(tmp_path / "a", program)
    assert [row["cut"] for row in rows_of(trace)] == [False, True, False]
    assert [row["phase"] for row in rows_of(trace)] == ["setup", "forward", "forward"]


def test_draws_are_not_ops(tmp_path: Path) -> None:
    lane = main(built(tmp_path / "a", everything))
    assert [(draw["stream"], draw["op"], draw["index"]) for draw in lane.draws] == [
        ("torch-cpu", "aten.uniform_.default", 1),
        ("numpy", "numpy.shuffle", 2),
    ]
    assert lane.compared[1].tolist() == [0, 2, 4, 5, 6, 7, 8, 9]


def test_captured_values_are_read_at_the_op_that_they_belong_to(tmp_path: Path) -> None:
    trace = built(tmp_path / "a", everything)
    entries = main(trace).values_at(9)
    assert [(entry["slot"], trace.value(entry)) for entry in entries] == [
        ("in0", struct.pack("<2d", 1.0, 2.0)),
        ("out0", struct.pack("<d", 3.0)),
    ]
    assert main(trace).values_at(8) == []
    assert trace.value({"slot": "in0"}) is None
    assert trace.value({"slot": "in0", "file": "gone.bin"}) is None


def test_a_captured_value_is_not_searched_for_outside_the_run(tmp_path: Path) -> None:
    trace = built(tmp_path / "a", everything)
    (tmp_path / "secret").write_bytes(b"secret")
    assert trace.value({"file": "../../secret"}) is None
    assert trace.value({"file": str(tmp_path / "secret")}) is None


def test_steps_are_counted_where_they_end(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for _ in range(3):
            lane.op("aten.relu.default")
            lane.op("aten.neg.default")
            lane.step()
        lane.op("aten.exp.default")

    trace = built(tmp_path / "a", program)
    assert [row["step"] for row in rows_of(trace)] == [0, 0, 1, 1, 2, 2, 3]
    assert [event["row"] for event in main(trace).events_of("step")] == [2, 4, 6]


@pytest.mark.parametrize("outputs", [2, 3, 5, 200, 201])
def test_an_op_has_as_many_digests_as_outputs(outputs: int, tmp_path: Path) -> None:
    digests = list(range(1, outputs + 1))

    def program(lane: LaneBuilder) -> None:
        lane.op("aten.unbind.int", digest=digests[0], more=digests[1:])
        lane.event("file", path="after", op="read", digest=1)
        lane.op("aten.relu.default")

    trace = built(tmp_path / "a", program)
    first, second = rows_of(trace)
    assert first["digests"] == " ".join(f"{digest:016x}" for digest in digests)
    assert second["record"] == outputs + 1
    assert main(trace).events[0]["row"] == 1


@pytest.mark.parametrize("inputs", [1, 3, 4, 7, 100])
def test_an_op_has_as_many_producers_as_inputs(inputs: int, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.op("aten.cat.default", *[lane.external() for _ in range(inputs)])

    row = rows_of(built(tmp_path / "a", program))[-1]
    if inputs > 3:
        assert row["inputs"] == " ".join(map(str, range(inputs)))
    assert [row["in0"], row["in1"], row["in2"]] == [k if k < inputs else None for k in range(3)]


def test_a_producer_after_continuation_records_is_still_correct(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.draw("python", "random.random", "a")
        x = lane.op("aten.unbind.int", more=["second", "third"])
        y = lane.op("aten.relu.default", x)
        lane.op("aten.add.Tensor", x, y)

    assert [(row["in0"], row["in1"]) for row in rows_of(built(tmp_path / "a", program))] == [(None, None), (None, None), (1, None), (1, 2)]


def test_a_producer_in_another_lane_differs_from_none(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    x = run.lane().op("aten.relu.default")
    thread = run.lane("thread 1")
    thread.op("aten.neg.default", x)
    thread.op("aten.neg.default", None)
    sealed = run.sealed()
    assert [row["in0"] for row in rows_of(sealed, "thread 1")] == [-2 - x.number, None]
    with Tables(sealed) as tables:
        (maker,) = tables.query(
            """SELECT m.lane, m."row" FROM records r JOIN lanes l ON l.base < -2 - r.in0
            JOIN records m ON m.lane = l.lane AND m.record = -2 - r.in0 - l.base WHERE r.in0 < -2 AND l.base = 0"""
        )
    assert maker == {"lane": "main", "row": 0}


def test_records_continue_in_the_next_segment(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    lane = run.lane()
    x = lane.external()
    for k in range(20_000):
        x = lane.op("aten.add_.Tensor", x, digest=k + 1, more=[k] if k % 5 == 0 else [])
    assert len(list(run.path.glob("spool/*/0.*.seg"))) == 3
    rows = rows_of(run.sealed())
    assert [row["digest"] for row in rows[1:]] == list(range(1, 20_001))
    assert [row["in0"] for row in rows[1:]] == list(range(20_000))
    assert [int(row["digests"].split()[1], 16) for row in rows[1::5]] == list(range(0, 20_000, 5))


def test_floats_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    given = [(0.1 + 0.2,), (5e-324, -0.0), (float("inf"), float("-inf"), float("nan")), (1e308,) * 600]
    rows = rows_of(built(tmp_path / "a", lambda lane: [lane.op("aten.mul.Scalar", numbers=group) for group in given]))
    assert [row["numbers"] for row in rows] == [" ".join(map(repr, group)) for group in given]


def test_a_lane_without_records_is_a_lane(tmp_path: Path) -> None:
    trace = built(tmp_path / "a", lambda lane: lane.step(loss=1.0))
    assert rows_of(trace) == []
    assert what(trace) == []
    assert (main(trace).ops, main(trace).steps) == (0, 1)


def test_a_run_without_a_recorded_process_has_no_lanes(tmp_path: Path) -> None:
    trace = TraceBuilder(tmp_path / "a").sealed()
    assert trace.lanes == {}
    assert trace.main is None
    assert trace.processes == []


@pytest.mark.parametrize(
    ("lanes", "stands"),
    [
        ({"main": 0, "rank 0": 0, "rank 1": 0}, "main"),
        ({"main": 1, "process 1": 2}, "main"),
        ({"main": 0, "rank 1": 2, "rank 0": 1}, "rank 0"),
        ({"main": 0, "process 2": 1, "process 1": 1}, "process 1"),
    ],
)
def test_the_lane_that_represents_a_run_is_the_first_that_computes(lanes: dict[str, int], stands: str, tmp_path: Path) -> None:
    built = TraceBuilder(tmp_path / "run")
    for name, ops in lanes.items():
        lane = built.lane(name)
        for _ in range(ops):
            lane.op("aten.ones.default")
    trace = built.sealed()
    assert trace.main is not None
    assert trace.main.name == stands


def test_many_ops_are_sealed_within_seconds(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    lane = run.lane()
    x = lane.external()
    for k in range(200_000):
        x = lane.op("aten.add_.Tensor", x, digest=k, numbers=(k % 1000,), line=k % 100)
    run.spooled()
    started = time.monotonic()
    trace = opened(run.path)
    assert len(what(trace)) == 200_001
    assert main(trace).rows(199_999, 199_999)[0].digest == 199_998
    assert time.monotonic() - started < 20


# which lane it belongs to


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "thread 2",
        "worker 0",
        "worker 11 thread 1",
        "rank 1",
        "rank 0 worker 3",
        "process 1.2",
        "process eval.py",
        "fork 2",
        "rank 1 fork 1",
    ],
)
def test_a_lane_is_named_after_its_role(name: str, tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    run.lane(name).op("aten.relu.default")
    assert list(run.sealed().lanes) == [name]


def test_a_lanes_name_contains_nothing_that_changes_between_runs() -> None:
    assert lane_name({"worker": 1}, [7], None) == "worker 1"
    assert lane_name({"script": "train.py"}, [], "0") == "rank 0"
    assert lane_name({}, [], None) == "main"


def test_lanes_of_one_role_are_numbered_in_starting_order(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    run.lane("worker 0", [4]).op("aten.neg.default")
    run.lane("worker 0", [1]).op("aten.relu.default")
    trace = run.sealed()
    assert {name: rows_of(trace, name)[0]["op"] for name in trace.lanes} == {
        "worker 0": "aten.relu.default",
        "worker 0 (2)": "aten.neg.default",
    }


@pytest.mark.parametrize(
    ("lanes", "leading"),
    [
        ({"main": 1, "worker 0": 1}, "main"),
        ({"main": 0, "rank 0": 2, "rank 1": 2}, "rank 0"),
        ({"rank 0": 1, "rank 1": 1}, "rank 0"),
        ({"main": 0}, "main"),
        ({"worker 1": 1, "worker 0": 1}, "worker 0"),
    ],
)
def test_the_main_lane_is_that_of_the_script_or_of_rank_0(lanes: dict[str, int], leading: str, tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    for name, ops in lanes.items():
        lane = run.lane(name)
        for _ in range(ops):
            lane.op("aten.relu.default")
    assert main(run.sealed()).name == leading


def test_the_last_role_that_a_process_reports_counts(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.op("aten.relu.default")
        lane.line({"k": "role", "role": {"worker": 3}})

    assert list(built(tmp_path / "a", program).lanes) == ["worker 3"]


# what is lost


def test_without_an_end_mark_a_lane_is_incomplete_and_readable_to_its_last_record(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    lane = run.lane()
    everything(lane)
    lane.killed = True
    trace = run.sealed()
    assert not main(trace).ended
    assert what(trace) == what(built(tmp_path / "b", everything))


def test_reaching_the_step_limit_is_why_recording_stopped(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.op("aten.relu.default")
        lane.line({"k": "stopped", "why": "steps", "steps": 1, "at": lane.last})

    assert main(built(tmp_path / "a", program)).facts["stopped"] == "steps"


@pytest.mark.parametrize("why", [reason for reason in STOPPED if reason])
def test_the_reason_why_recording_stopped_is_read_from_the_header(why: str, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.op("aten.relu.default")
        lane.writer.stop(why)
        lane.writer.stop("too-long")

    trace = built(tmp_path / "a", program)
    assert main(trace).facts["stopped"] == why
    assert len(what(trace)) == 1


def test_records_after_the_writer_stopped_are_dropped(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for k in range(6553):
            lane.op("aten.relu.default", digest=k)
        lane.writer.stop("disk-full")
        for k in range(3000):
            lane.op("aten.relu.default", digest=k, numbers=(1.0,))

    assert len(what(built(tmp_path / "a", program))) == 6553


@pytest.mark.parametrize(
    ("in_the_way", "why"),
    [("", "run-directory-gone"), ("0.jsonl", "recorder-error"), ("0.0.seg", "recorder-error"), ("0.num", "recorder-error")],
)
def test_a_writer_that_cannot_write_reports_why_and_does_not_raise(in_the_way: str, why: str, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "spool"
    if in_the_way:
        (folder / in_the_way).mkdir(parents=True)
    else:
        folder.parent.write_text("a file where the folder of the run was")
    writer = LaneWriter(str(folder), 0, Numbers())
    writer.line({"k": "lane"})
    buffer, offset, end, _ = writer.next_segment(0)
    assert (end - offset) % RECORD_SIZE == 0
    assert len(buffer) == end
    number = writer.numbers((1.0,))
    assert writer.stopped == why
    assert number == 0
    writer.close(0)


def test_values_that_json_does_not_support_are_written_as_text(tmp_path: Path) -> None:
    trace = built(tmp_path / "a", lambda lane: lane.event("lost", what=Path("x"), of={1}))
    assert main(trace).events[0]["what"] == repr(Path("x"))


def test_a_line_that_cannot_be_written_stops_the_recording_without_an_exception(tmp_path: Path) -> None:
    endless: list[object] = []
    endless.append(endless)
    trace = built(tmp_path / "a", lambda lane: lane.event("lost", what=endless))
    assert main(trace).facts["stopped"] == "recorder-error"


def test_an_op_without_its_last_continuation_record_is_dropped(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    lane = run.lane()
    lane.op("aten.relu.default")
    lane.op("aten.unbind.int", more=["second", "third"])
    lane.event("lost", what="after it")
    (segment,) = run.spooled().glob("spool/*/0.0.seg")
    os.truncate(segment, HEADER_SIZE + 3 * RECORD_SIZE)
    trace = opened(run.path)
    assert [row["op"] for row in rows_of(trace)] == ["aten.relu.default"]
    assert [event["row"] for event in main(trace).events] == [1]


def test_a_run_without_its_process_file_still_has_its_lanes(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    everything(run.lane())
    (process,) = run.spooled().glob("spool/*/process.json")
    process.write_text('{"format": 1, "pi')
    assert what(opened(run.path)) == what(built(tmp_path / "b", everything))


def long_program(lane: LaneBuilder) -> None:
    """Two full segments, with new lines of every table and new floats throughout."""
    x = lane.external(line=1)
    for k in range(LONG):
        lane.module = f"Net.{k // 50}"
        x = lane.op(f"aten.op{k // 9}.default", x, more=[k] if k % 7 == 0 else [], numbers=(k / 3,) if k % 4 == 0 else (), line=k // 5)
        if k % 100 == 0:
            lane.step()


@dataclass(frozen=True)
class Long:
    """The long run: unsealed, its rows, and the number of bytes of each file that its last row needs."""

    spooled: Path
    rows: list[dict[str, Any]]
    needed: dict[str, int]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Long:
    """A long run."""
    folder = tmp_path_factory.mktemp("long")
    run = TraceBuilder(folder / "spooled")
    lane = run.lane()
    long_program(lane)
    lines = lines_of(run.spooled()).read_bytes()
    needed = {
        "0.jsonl": lines.index(b"\n", lines.rindex(b'{"k":"sig"')),
        "0.0.seg": HEADER_SIZE + 6553 * RECORD_SIZE,
        "0.1.seg": HEADER_SIZE + (lane.last - 6553) * RECORD_SIZE,
        "0.num": 8 * 2 * len(range(0, LONG, 4)),
    }
    shutil.copytree(run.path, folder / "sealed")
    return Long(run.path, rows_of(opened(folder / "sealed")), needed)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["0.jsonl", "0.0.seg", "0.1.seg", "0.num"]), st.integers(0, 1 << 20))
@example("0.0.seg", 0)
@example("0.0.seg", HEADER_SIZE - 1)
@example("0.0.seg", HEADER_SIZE)
@example("0.0.seg", HEADER_SIZE + 6552 * RECORD_SIZE)
@example("0.0.seg", HEADER_SIZE + 6553 * RECORD_SIZE - 1)
@example("0.1.seg", HEADER_SIZE + 3 * RECORD_SIZE - 1)
@example("0.jsonl", 0)
@example("0.num", 0)
@example("0.num", 8)
def test_a_truncated_lane_keeps_the_rows_before_the_truncation(
    long_run: Long, tmp_path_factory: pytest.TempPathFactory, name: str, size: int
) -> None:
    needed = long_run.needed[name]
    size %= needed + 100
    run = tmp_path_factory.mktemp("cut") / "run"
    shutil.copytree(long_run.spooled, run)
    (file,) = run.glob(f"spool/*/{name}")
    os.truncate(file, size)
    left = rows_of(opened(run))
    shutil.rmtree(run)
    whole = long_run.rows[: len(left)]
    assert (len(left) < len(long_run.rows)) == (size < needed)
    if name == "0.jsonl":  # places and steps noted before the truncation may be lost
        kept = [column for column in whole[0] if column not in WHERE] if whole else []
        assert [[row[key] for key in kept] for row in left] == [[row[key] for key in kept] for row in whole]
        assert all(row["file"] in (None, "train.py") for row in left)
    else:
        assert left == whole
    if name == "0.0.seg":
        records = max(size - HEADER_SIZE, 0) // RECORD_SIZE
        assert left == [] or records - 1 <= left[-1]["record"] <= records or size >= needed


def test_untouched_memory_after_the_last_record_is_no_record(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    everything(run.lane())
    (segment,) = run.spooled().glob("spool/*/0.0.seg")
    assert segment.stat().st_size > 200_000
    with segment.open("ab") as file:
        file.write(bytes(1000))
    assert len(rows_of(opened(run.path))) == 10


def test_a_segment_of_another_file_ends_the_lane(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    everything(run.lane())
    (segment,) = run.spooled().glob("spool/*/0.0.seg")
    (segment.parent / "0.1.seg").write_bytes(b"something else" * 100)
    assert len(rows_of(opened(run.path))) == 10


# what a version does not know


def test_unknown_kinds_and_keys_are_skipped_and_counted(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.line({"k": "gradient", "at": lane.last, "of": "w"})
        x = lane.external()
        note = lane.define("sig", kind="note", text="of a later version")
        lane._record(note, 5)
        lane.op("aten.relu.default", x, invented="later")
        lane.event("seed", stream="torch-cpu", function="torch.manual_seed", invented="later")
        lane.line({"no": "kind"})
        lane.line({"k": ["no", "kind"]})
        lane.line({"k": "sig", "id": 77})

    def plain(lane: LaneBuilder) -> None:
        lane.op("aten.relu.default", lane.external())

    trace = built(tmp_path / "a", program)
    assert main(trace).facts["unknown"] == 5
    assert main(trace).ops == 1
    assert [event["k"] for event in main(trace).events] == ["seed"]
    assert what(trace) == what(built(tmp_path / "b", plain))
    assert main(trace).rows(2, 2)[0].index == 1


NEWER = FORMAT + 1


def newer_run(run: Path) -> None:
    meta = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(meta | {"format": NEWER}))


def newer_process(run: Path) -> None:
    (file,) = run.glob("spool/*/process.json")
    file.write_text(json.dumps({"format": NEWER}))


def newer_segment(run: Path) -> None:
    (file,) = run.glob("spool/*/0.0.seg")
    data = bytearray(file.read_bytes())
    struct.pack_into("<I", data, 8, NEWER)
    file.write_bytes(data)


def newer_index(run: Path) -> None:
    opened(run)
    file = run / "lanes" / "index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": NEWER}))


@pytest.mark.parametrize("change", [newer_run, newer_process, newer_segment, newer_index])
def test_a_newer_format_is_refused_and_left_unchanged(change: Callable[[Path], None], tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    everything(run.lane())
    change(run.spooled())
    before = {path: path.stat().st_size for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(TraceError) as caught:
        opened(run.path)
    assert caught.value.slug == "trace-newer"
    assert f"format {NEWER}" in str(caught.value)
    assert {path: path.stat().st_size for path in run.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "content", [None, "", "{", "[1]", '"run"', "12", "null", "{}", '{"format": "1"}', '{"format": null}', "\udcff\x00"]
)
def test_a_folder_that_is_not_a_run_is_refused(content: str | None, tmp_path: Path) -> None:
    (tmp_path / "lanes").mkdir()
    if content is not None:
        (tmp_path / "run.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(TraceError) as caught:
        opened(tmp_path)
    assert caught.value.slug == "trace-foreign"
    assert str(tmp_path) in str(caught.value)


def test_a_path_that_is_not_a_folder_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    for path in (tmp_path / "file", tmp_path / "gone"):
        with pytest.raises(TraceError) as caught:
            opened(path)
        assert caught.value.slug == "trace-missing"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.json", None),
        ("index.json", '{"format": 1'),
        ("index.json", "[]"),
        ("index.json", "{}"),
        ("000.json", None),
        ("000.json", "{}"),
    ],
)
def test_an_incomplete_sealed_run_is_refused(name: str, content: str | None, tmp_path: Path) -> None:
    built(tmp_path / "a", everything)
    file = tmp_path / "a" / "lanes" / name
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(TraceError) as caught:
        opened(tmp_path / "a")
    assert caught.value.slug == "trace-truncated"


@pytest.mark.parametrize("size", [None, 0, 100])
@pytest.mark.parametrize(
    "ask", [lambda lane: lane.rows(0, 1), lambda lane: lane.compared, lambda lane: lane.draws], ids=["rows", "compared", "draws"]
)
def test_unreadable_records_give_an_error_with_a_slug(size: int | None, ask: Callable[[LaneTrace], object], tmp_path: Path) -> None:
    trace = built(tmp_path / "a", everything)
    file = tmp_path / "a" / "lanes" / "000.parquet"
    file.unlink() if size is None else os.truncate(file, size)
    with pytest.raises(TraceError) as caught:
        ask(main(trace))
    assert caught.value.slug == "trace-unreadable"
    assert str(tmp_path / "a") in str(caught.value)


# sealing


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_sealing_twice_changes_nothing(tmp_path: Path) -> None:
    built(tmp_path / "a", everything)
    before = contents(tmp_path / "a")
    assert not (tmp_path / "a" / "spool").exists()
    assert set(before) >= {"run.json", "lanes/index.json", "lanes/000.json", "lanes/000.parquet"}
    opened(tmp_path / "a")
    assert contents(tmp_path / "a") == before


def test_interrupted_sealing_is_completed(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    everything(run.lane())
    lanes = run.spooled() / "lanes"
    lanes.mkdir()
    (lanes / "000.parquet").write_bytes(b"PAR1 and no more")
    assert what(opened(run.path)) == what(built(tmp_path / "b", everything))


def test_the_remainder_of_a_spool_does_not_replace_what_was_sealed(tmp_path: Path) -> None:
    """Its removal was interrupted, or a process that outlived the run started to record."""
    sealed = built(tmp_path / "a", everything)
    late = TraceBuilder(tmp_path / "late")
    late.lane().op("aten.relu.default")
    shutil.move(late.spooled() / "spool", tmp_path / "a" / "spool")
    assert what(opened(tmp_path / "a")) == what(sealed)
    assert not (tmp_path / "a" / "spool").exists()


def test_a_file_name_that_is_not_text_is_shown_as_far_as_possible(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.file = "/home/ada/work/caf\udce9.py"
        lane.module = "Net.\ud800"
        lane.op("aten.relu.default", args=["\udcff"], line=1)
        lane.read("/home/ada/work/caf\udce9.csv", "x", line=2)

    trace = built(tmp_path / "a", program)
    (row,) = rows_of(trace)
    assert row["file"] == "caf\\udce9.py"
    assert row["module"] == "Net.\\ud800"
    assert main(trace).events[0]["path"] == "caf\udce9.csv"


def test_paths_within_the_working_directory_are_relative_to_it(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for lane.file in (f"{HOME}/train.py", f"{HOME}/models/net.py", "/srv/shared/data.py", "<stdin>"):
            lane.op("aten.relu.default", line=1)
        lane.read(f"{HOME}/data.csv", "x", line=2)

    trace = built(tmp_path / "a", program)
    assert [row["file"] for row in rows_of(trace)] == ["train.py", "models/net.py", "/srv/shared/data.py", "<stdin>"]
    assert main(trace).events[0]["path"] == "data.csv"


def test_the_code_shown_is_that_of_the_line(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\n\n    x = net(x)  # forward\n")

    def program(lane: LaneBuilder) -> None:
        lane.file = str(tmp_path / "train.py")
        lane.op("aten.relu.default", line=3)
        lane.op("aten.relu.default", line=30)
        lane.seed("torch-cpu", 1, line=1)

    trace = built(tmp_path / "a", program, cwd=str(tmp_path))
    assert [row["code"] for row in rows_of(trace)] == ["x = net(x)  # forward", None]
    assert main(trace).events[0]["code"] == "import torch"


def test_rows_can_be_queried_by_number_and_by_condition(tmp_path: Path) -> None:
    lane = main(built(tmp_path / "a", everything))
    assert [row.row for row in lane.rows(-5, 1)] == [0, 1]
    assert lane.rows(50, 60) == []
    found = lane.query("SELECT count(*) AS n FROM records WHERE op = ?", "aten.mm.default' OR 'a' = 'a")
    assert found == [{"n": 0}]


# what is compared, and what is only shown

BASE: dict[str, Any] = {
    "shape": [3, 4], "args": [1, "sum"], "numbers": (0.1, 2.0), "digest": "first", "more": ["second", "third"], "line": 7, "node": 5,
}  # fmt: skip


def one_op(path: Path, changes: dict[str, Any], **facts: Any) -> Trace:
    """A run with one op, between two unrelated ones."""
    run = TraceBuilder(path, **facts)
    lane = run.lane()
    x = lane.external(digest="x")
    y = lane.external(digest="y")
    how = BASE | changes
    lane.phase, lane.module, lane.file = how.pop("phase", "forward"), how.pop("module", "Net"), how.pop("file", "train.py")
    lane.op(how.pop("name", "aten.var_mean.dim"), y if how.pop("other_input", False) else x, **how)
    lane.phase, lane.module, lane.file = "forward", "", "train.py"
    lane.op("aten.relu.default", digest="behind")
    return run.sealed()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """The compared part of the unchanged run."""
    return what(one_op(tmp_path_factory.mktemp("base") / "a", {}))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "aten.var_mean.correction"},
        {"args": [2, "sum"]},
        {"args": [True, "sum"]},
        {"args": ["1", "sum"]},
        {"args": [1]},
        {"args": None},
        {"numbers": (0.1, 2.0000000000000004)},
        {"numbers": (2.0, 0.1)},
        {"numbers": (0.1,)},
        {"numbers": ()},
        {"numbers": (0.1, float("nan"))},
        {"shape": [4, 3]},
        {"shape": [12]},
        {"stride": [1, 3]},
        {"dtype": "bfloat16"},
        {"device": "cuda:0"},
        {"digest": "other"},
        {"more": ["other", "third"]},
        {"more": ["second", "other"]},
        {"more": ["third", "second"]},
        {"more": ["second"]},
        {"digest": "second", "more": ["first", "third"]},
    ],
    ids=str,
)
def test_the_effect_of_an_op_is_compared(change: dict[str, Any], base: list[int], tmp_path: Path) -> None:
    changed = what(one_op(tmp_path / "a", change))
    assert [ours == theirs for ours, theirs in zip(base, changed, strict=True)] == [True, True, False, True]


@pytest.mark.parametrize(
    "change",
    [{"line": 8}, {"line": None}, {"file": "model.py"}, {"phase": "backward"}, {"module": "Net.other"}, {"node": 6}, {"other_input": True}],
    ids=str,
)
def test_the_place_of_an_op_is_not_compared(change: dict[str, Any], base: list[int], tmp_path: Path) -> None:
    assert what(one_op(tmp_path / "a", change)) == base


@pytest.mark.parametrize("facts", [{"pid": 77}, {"started": 2e9}, {"cwd": "/srv/elsewhere"}, {"id": "monday"}, {"exit": 1}], ids=str)
def test_the_process_is_not_compared(facts: dict[str, Any], base: list[int], tmp_path: Path) -> None:
    assert what(one_op(tmp_path / "a", {}, **facts)) == base


def test_zeros_of_different_sign_are_different_numbers(tmp_path: Path) -> None:
    assert what(one_op(tmp_path / "a", {"numbers": (0.0,)})) != what(one_op(tmp_path / "b", {"numbers": (-0.0,)}))


def test_a_nan_equals_itself(tmp_path: Path) -> None:
    nan = {"numbers": (float("nan"),)}
    assert what(one_op(tmp_path / "a", nan)) == what(one_op(tmp_path / "b", nan))


@pytest.mark.parametrize("change", [{"digest": "other"}, {"shape": [4]}, {"dtype": "int64"}, {"stride": [2]}], ids=str)
def test_the_content_of_an_external_tensor_is_compared(change: dict[str, Any], tmp_path: Path) -> None:
    ours = what(built(tmp_path / "a", lambda lane: lane.external([3], "x")))
    assert ours != what(built(tmp_path / "b", lambda lane: lane.external(**{"shape": [3], "digest": "x"} | change)))


def test_the_set_of_rows_of_an_external_tensor_is_not_compared(tmp_path: Path) -> None:
    ours = what(built(tmp_path / "a", lambda lane: lane.external(digest="x", rows="some")))
    assert ours == what(built(tmp_path / "b", lambda lane: lane.external(digest="x", rows="others")))


def test_an_external_tensor_differs_from_an_op_with_the_same_values(tmp_path: Path) -> None:
    ours = what(built(tmp_path / "a", lambda lane: lane.external(digest="x")))
    theirs = what(built(tmp_path / "b", lambda lane: lane.op("external", digest="x")))
    assert ours != theirs


def test_draws_are_not_compared_with_ops(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, states: str) -> None:
        for state in states:
            lane.draw("python", "random.random", state)
            lane.op("aten.relu.default")

    ours = what(built(tmp_path / "a", lambda lane: program(lane, "pq")))
    assert ours == what(built(tmp_path / "b", lambda lane: program(lane, "xy")))
    assert ours == what(built(tmp_path / "c", lambda lane: [lane.op("aten.relu.default") for _ in range(2)]))


def test_table_numbers_have_no_meaning(tmp_path: Path) -> None:
    """Ops, callsites, modules and floats in another order are the same."""
    ours = TraceBuilder(tmp_path / "a")
    everything(ours.lane())
    lines = [json.loads(line) for line in lines_of(ours.spooled()).read_text().rstrip("\0").splitlines()]
    theirs = TraceBuilder(tmp_path / "b")
    lane = theirs.lane()
    lane.writer.numbers((1.0, 2.0, 3.0))
    lane.define("sig", kind="op", op="aten.never.used", out=[], args=None)
    lane.define("site", file="never.py", line=1, func="used")
    for line in reversed(lines):
        if line["k"] in ("sig", "site", "module"):
            lane.number_of(line["k"], **{key: value for key, value in line.items() if key not in ("k", "id")})
    everything(lane)
    a, b = opened(ours.path), theirs.sealed()
    numbers = [[row["site"] for row in rows_of(trace)] for trace in (a, b)]
    assert numbers[0] != numbers[1]
    assert [row | {"site": 0} for row in rows_of(a)] == [row | {"site": 0} for row in rows_of(b)]


# what was kept


def kept_program(run: TraceBuilder) -> None:
    """The run in `traces`: everything, and a second lane."""
    everything(run.lane())
    worker = run.lane("worker 1", [2])
    worker.draw("python", "random.shuffle", "worker's own", line=20)
    worker.op("aten.stack.default", worker.external([2], line=21), shape=[1, 2], line=21)
    worker.killed = True


@pytest.mark.parametrize("number", range(1, FORMAT + 1))
def test_there_is_a_kept_run_of_every_format(number: int) -> None:
    folder = KEPT / f"format-{number}"
    if os.environ.get("UPDATE_GOLDEN") and not folder.exists() and number == FORMAT:
        run = TraceBuilder(folder / "unsealed", id="kept")
        kept_program(run)
        for segment in run.spooled().glob("spool/*/*.seg"):
            os.truncate(segment, 4096)
        shutil.copytree(folder / "unsealed", folder / "sealed")
        opened(folder / "sealed")
    assert (folder / "sealed" / "lanes" / "index.json").is_file()
    assert (folder / "unsealed" / "spool").is_dir()
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 200_000


@pytest.fixture(params=range(1, FORMAT + 1))
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a kept run, unsealed and sealed."""
    return Path(shutil.copytree(KEPT / f"format-{request.param}", tmp_path / "kept"))


def test_a_kept_run_is_read(kept: Path) -> None:
    trace = opened(kept / "sealed")
    assert (trace.id, list(trace.lanes), main(trace).ops, main(trace).steps) == ("kept", ["main", "worker 1"], 7, 1)
    assert [row["op"] for row in rows_of(trace)] == [
        "aten.empty.memory_format", "aten.uniform_.default", "aten.uniform_.default", "numpy.shuffle", "external", "aten.mm.default",
        "aten.max.dim", "aten.cat.default", "aten.mm.default", "aten.add_.Tensor",
    ]  # fmt: skip
    later = {
        "optimizer",
        "zeroed",
        "autocast",
        "backward",
        "schedule",
        "shared",
        "measured",
        "nonfinite",
        "entered",
        "unshadowed",
        "unsketched",
        "shared-start",
        "handed",
        "came",
        "task",
        "loaded",
        "unseen-write",
        "child",
        "interrupted",
    }
    assert {event["k"] for event in main(trace).events} >= set(EVENTS) - later
    assert [trace.lanes[name].ended for name in trace.lanes] == [True, False]
    assert trace.lanes["worker 1"].draws[0]["stream"] == "python"
    assert trace.value(main(trace).values_at(9)[0]) == struct.pack("<2d", 1.0, 2.0)


def test_a_spool_of_an_older_version_is_sealed_as_that_version_did(kept: Path) -> None:
    ours, theirs = opened(kept / "unsealed"), opened(kept / "sealed")
    for name, lane in theirs.lanes.items():
        assert as_before(rows_of(ours, name), theirs, name) == rows_of(theirs, name)
        assert ours.lanes[name].facts == {**lane.facts, "base": ours.lanes[name].facts["base"], "parent": None}


def test_a_current_run_can_be_compared_with_a_kept_one(tmp_path: Path) -> None:
    """If this fails, the compared part has changed: all runs that users keep would differ. That needs a new format."""
    run = TraceBuilder(tmp_path / "a")
    kept_program(run)
    today, kept = run.sealed(), opened(Path(shutil.copytree(KEPT / f"format-{FORMAT}" / "sealed", tmp_path / "kept")))
    for name, lane in kept.lanes.items():
        assert today.lanes[name].compared[0].tolist() == lane.compared[0].tolist()
        assert as_before(rows_of(today, name), kept, name) == rows_of(kept, name)


def as_before(rows: list[dict[str, Any]], before: Trace, lane: str) -> list[dict[str, Any]]:
    """Rows without columns that did not exist when the run was sealed."""
    known = rows_of(before, lane)[0]
    return [{name: row[name] for name in known} for row in rows]


def test_a_run_sealed_before_some_columns_existed_can_be_queried(tmp_path: Path) -> None:
    kept = opened(Path(shutil.copytree(KEPT / f"format-{FORMAT}" / "sealed", tmp_path / "kept")))
    assert "leaf" not in rows_of(kept)[0]
    with Tables(kept) as tables:
        assert tables.query("SELECT count(*) AS n, count(leaf) AS leaves FROM records")[0]["n"] > 0
        assert tables.query("SELECT * FROM gradients") == []


KEYS: list[tuple[str, LaneKey]] = [
    ("main", LaneKey()),
    ("main (2)", LaneKey(nth=2)),
    ("process 1.2", LaneKey(process="1.2")),
    ("process 1.10", LaneKey(process="1.10")),
    ("process worker 3.py thread 4", LaneKey(process="worker 3.py", thread=4)),
    ("rank 2", LaneKey("2")),
    ("rank 2 process 1", LaneKey("2", process="1")),
    ("rank 2 worker 3 thread 1", LaneKey("2", worker=3, thread=1)),
    ("rank 2 worker 3 thread 1 (2)", LaneKey("2", worker=3, thread=1, nth=2)),
    ("rank 10", LaneKey("10")),
    ("thread 2", LaneKey(thread=2)),
    ("worker 2", LaneKey(worker=2)),
    ("worker 2 (3)", LaneKey(worker=2, nth=3)),
    ("worker 10", LaneKey(worker=10)),
]


def test_a_lane_name_is_parsed_and_lanes_are_ordered() -> None:
    assert [(name, LaneKey.parse(name)) for name, _ in KEYS] == KEYS
    assert sorted((name for name, _ in KEYS[::-1]), key=in_order) == [name for name, _ in KEYS]
    assert [name for name, key in KEYS if key.is_rank] == ["rank 2", "rank 10"]


@given(
    st.one_of(st.none(), st.integers(0, 2000)),
    st.fixed_dictionaries({}, optional={key: st.integers(0, 99) for key in ("worker", "fork", "thread")}),
    st.lists(st.integers(1, 99), max_size=3),
    st.integers(1, 12),
)
def test_a_name_made_from_a_role_is_parsed_back_into_it(
    rank: int | None, role: dict[str, object], identity: list[int], nth: int
) -> None:  # fmt: skip
    name = lane_name(role, identity, rank)
    key = LaneKey.parse(f"{name} ({nth})" if nth > 1 else name)
    assert key.rank == (None if rank is None else str(rank))
    assert (key.worker, key.thread, key.nth) == (role.get("worker"), role.get("thread"), nth)
    assert without_number(f"{name} (2)") == name


def test_lanes_are_sealed_with_rank_2_before_rank_10(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "run")
    for name in ("rank 10", "rank 2", "rank 2 worker 10", "rank 2 worker 9"):
        run.lane(name).op("aten.relu.default")
    assert list(run.sealed().lanes) == ["rank 2", "rank 2 worker 9", "rank 2 worker 10", "rank 10"]


def test_the_writes_of_an_op_follow_from_its_name_if_the_run_is_too_old(tmp_path: Path) -> None:
    kept = opened(Path(shutil.copytree(KEPT / f"format-{FORMAT}" / "sealed", tmp_path / "kept")))
    assert "in_place" not in rows_of(kept)[0]
    with Tables(kept) as tables:
        writes = [row["op"] for row in tables.query('SELECT op FROM writes ORDER BY "row"')]
    assert writes == [row["op"] for row in rows_of(kept) if schema_in(row).in_place] == ["aten.uniform_.default", "aten.add_.Tensor"]
    assert [row["op"] for row in rows_of(kept) if schema_in(row).overwrites] == ["aten.uniform_.default"]


SCHEMAS: list[tuple[str, dict[str, object] | None, tuple[str | None, bool, bool]]] = [
    ("mylib.fused_adam.default", {"writes": [0, 2]}, ("[0,2]", True, False)),
    ("mylib.scale.default", {}, (None, False, False)),
    ("mylib.not_a_write_.default", {}, (None, False, False)),
    ("aten.add.out", {"writes": ["out"]}, ('["out"]', False, False)),
    ("aten.t_.default", {"writes": [0], "view": True}, ("[0]", True, True)),
    ("aten.atan2_.default", None, ("[0]", True, False)),
    ("aten.__ior__.Tensor", None, ("[0]", True, False)),
    ("aten.t_.default", None, ("[0]", True, True)),
    ("aten.__and__.Tensor", None, (None, False, False)),
    ("aten._to_copy.default", None, (None, False, False)),
]


def test_the_writes_of_an_op_are_read_from_its_descriptor_and_not_its_name(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "run")
    lane = run.lane()
    x = lane.external()
    for op, schema, _ in SCHEMAS:
        if schema is None:
            lane.op(op, x)
        else:
            lane.op(op, x, schema=schema)
    rows = rows_of(run.sealed())[1:]
    assert [(row["writes"], row["in_place"], row["view"]) for row in rows] == [said for _, _, said in SCHEMAS]
    assert [schema_in(row).in_place for row in rows] == [said[1] for _, _, said in SCHEMAS]


def test_memory_that_an_op_fully_overwrites_is_none_of_its_inputs(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "run")
    lane = run.lane()
    x, y = lane.external(), lane.external()
    lane.op("aten.copy_.default", x, y)
    lane.op("mylib.assign.default", x, y, schema={"writes": [0], "overwrites": True})
    lane.op("aten.add_.Tensor", x, y)
    lane.op("aten.cat.default", *[y] * 5)
    assert [Record.of(row).made_by for row in rows_of(run.sealed())[2:]] == [[1], [1], [0, 1], [1] * 5]


def test_record_numbers_of_two_lanes_of_a_process_are_separate(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "a")
    first, second = run.lane(), run.lane("thread 1")
    x, y = first.op("aten.relu.default"), second.op("aten.relu.default")
    z = second.op("aten.add.Tensor", x, y)
    assert x.number != y.number
    sealed = run.sealed()
    (own, both) = rows_of(sealed, "thread 1")
    assert (own["record"], both["record"]) == (1, 2)
    assert (both["in0"], both["in1"]) == (-2 - sealed.lanes["main"].facts["base"] - 1, own["row"])
    assert z.number == y.number + 1


@pytest.mark.parametrize("what", ["a link", "a pipe", "nothing"])
def test_the_output_of_a_run_is_read_only_from_its_own_file(what: str, tmp_path: Path) -> None:
    run = built(tmp_path / "run", everything).path
    (tmp_path / "elsewhere").write_text("secret")
    if what == "a link":
        (run / "stdout").symlink_to(tmp_path / "elsewhere")
    elif what == "a pipe":
        os.mkfifo(run / "stdout")
    (run / "stderr").write_bytes(b"said")
    trace = opened(run)
    assert (trace.printed("stdout"), trace.printed("stderr")) == (None, b"said")


# The schema


def test_the_reference_of_the_trace_is_generated_from_its_schema() -> None:
    path = Path(__file__).parent.parent / "docs" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert path.with_name("trace.md").read_text() == reference.page(), "make docs"


def test_each_field_is_described_in_words() -> None:
    columns = {name: column.meaning for name, column in (COLUMNS | EVENT_COLUMNS).items()}
    fields = {(kind, name): field.meaning for kind, event in EVENTS.items() for name, field in event.fields.items()}
    assert (len(columns), len(fields)) > (50, 80)
    assert [name for name, meaning in (columns | fields).items() if len(meaning.split()) < 2] == []
