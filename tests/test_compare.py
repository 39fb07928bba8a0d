"""Comparing two runs: where they differ first, what that is, where it came from, and what is only beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.compare import Comparison, compare, environment_differences
from auditor.report.words.reasons import sentence_of, text_of
from auditor.report.words.streams import of_file, of_stream
from auditor.results import Divergence, Kind, Reason
from auditor.trace.reader import Trace
from tests.builder import LaneBuilder, Tensor, TraceBuilder
from tests.findings import judged

#: What one lane does.
Program = Callable[[LaneBuilder], object]


def run_of(path: Path, program: Program, **facts: Any) -> Trace:
    """The run of a main lane alone."""
    run = TraceBuilder(path, **facts)
    program(run.lane())
    return run.sealed()


def compared(path: Path, ours: Program, theirs: Program) -> Comparison:
    """Two runs of a main lane alone, compared."""
    return compare(run_of(path / "a", ours), run_of(path / "b", theirs))


def divergence(path: Path, ours: Program, theirs: Program) -> Divergence:
    """How two runs of a main lane alone differ; the other way round it is at the same place and of the same kind."""
    a, b = run_of(path / "a", ours), run_of(path / "b", theirs)
    found, mirrored = compare(a, b).divergence, compare(b, a).divergence
    assert found is not None
    assert mirrored is not None
    assert (found.index, found.kind, found.op, found.line) == (mirrored.index, mirrored.kind, mirrored.op, mirrored.line)
    assert (found.detail.a, found.detail.b) == (mirrored.detail.b, mirrored.detail.a)
    assert found.runs == ["a", "b"]
    return found


# any two lanes


@dataclass(frozen=True)
class Record:
    """One record of a lane that hypothesis made up; `line` and `phase` are where it is."""

    kind: str
    name: str
    value: int
    args: int
    line: int = 1
    phase: str = "forward"

    @property
    def what(self) -> tuple[str, str, int, int]:
        """What of it is compared."""
        return self.kind, self.name if self.kind == "op" else "", self.value, self.args


def written(path: Path, records: Sequence[Record], **facts: Any) -> Trace:
    """The run of a lane with these records."""

    def program(lane: LaneBuilder) -> None:
        x: Tensor | None = None
        for record in records:
            lane.phase = record.phase
            if record.kind == "draw":
                lane.draw("torch-cpu", record.name, record.value, line=record.line)
            elif record.kind == "external":
                x = lane.external([record.args + 1], record.value, line=record.line)
            else:
                x = lane.op(record.name, x, shape=[2], digest=record.value, args=[record.args], line=record.line)

    return run_of(path, program, **facts)


RECORD = st.builds(
    Record,
    kind=st.sampled_from(["op", "op", "external"]),
    name=st.sampled_from(["aten.mm.default", "aten.add_.Tensor"]),
    value=st.integers(1, 2),
    args=st.integers(0, 1),
)
RECORDS = st.lists(RECORD, min_size=1, max_size=12)


@settings(max_examples=15, deadline=None)
@given(records=RECORDS, line=st.integers(2, 9), phase=st.sampled_from(["setup", "backward", "optimizer"]))
def test_a_run_does_not_differ_from_itself_nor_from_one_at_other_places(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], line: int, phase: str
) -> None:
    folder = tmp_path_factory.mktemp("same")
    a = written(folder / "a", records)
    b = written(
        folder / "b", [replace(record, line=line + k, phase=phase) for k, record in enumerate(records)], pid=7, started=2e9, cwd="/b"
    )
    for twin in (a, b):
        assert compare(a, twin) == Comparison(None, [], [], compared=sum(record.kind == "op" for record in records))
    shutil.rmtree(folder)


@settings(max_examples=15, deadline=None)
@given(records=RECORDS, data=st.data())
def test_a_planted_change_is_found_where_it_was_planted(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("planted")
    index = data.draw(st.integers(0, len(records) - 1))
    changes: list[dict[str, Any]] = [{"value": 9}, {"args": 7}, {"kind": "op", "name": "aten.relu.default"}]
    changed = [*records[:index], replace(records[index], **data.draw(st.sampled_from(changes))), *records[index + 1 :]]
    a, b = written(folder / "a", records), written(folder / "b", changed)
    found, mirrored = compare(a, b).divergence, compare(b, a).divergence
    shutil.rmtree(folder)
    assert found is not None
    assert mirrored is not None
    assert found.index == mirrored.index == index
    assert found.kind == mirrored.kind
    assert (found.detail.a, found.detail.b) == (mirrored.detail.b, mirrored.detail.a)
    same = [ours.what == theirs.what for ours, theirs in zip(records[index:], changed[index:], strict=True)]
    assert (found.detail.differing_ops, found.detail.compared_ops) == (same.count(False), len(same))


@settings(max_examples=15, deadline=None)
@given(ours=RECORDS, theirs=RECORDS, common=RECORDS)
def test_any_two_lanes_differ_first_where_their_lists_do(
    tmp_path_factory: pytest.TempPathFactory, ours: list[Record], theirs: list[Record], common: list[Record]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    ours, theirs = common + ours, common + theirs
    a, b = written(folder / "a", ours), written(folder / "b", theirs)
    found, mirrored = compare(a, b).divergence, compare(b, a).divergence
    shutil.rmtree(folder)
    differing = (k for k, (x, y) in enumerate(zip(ours, theirs, strict=False)) if x.what != y.what)
    shorter = min(len(ours), len(theirs))
    expected = next(differing, None if len(ours) == len(theirs) else shorter)
    assert (found and found.index) == expected
    assert (mirrored and mirrored.index) == expected
    assert (found and found.kind) == (mirrored and mirrored.kind)
    if found is not None and expected == shorter:
        assert found.kind == "structure"


@settings(max_examples=15, deadline=None)
@given(
    records=RECORDS,
    ours=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3)), max_size=4),
    theirs=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3)), max_size=4),
    planted=st.booleans(),
)
def test_draws_alone_make_no_difference_and_explain_the_same_both_ways(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[Record],
    ours: list[tuple[int, int]],
    theirs: list[tuple[int, int]],
    planted: bool,
) -> None:
    folder = tmp_path_factory.mktemp("draws")
    sides, states = [], []
    for name, draws in (("a", ours), ("b", theirs)):
        made = list(records)
        if planted:
            made.append(Record("external", "data", value=5 if name == "a" else 6, args=0))
        for at, state in draws:
            made.insert(min(at, len(records)), Record("draw", "torch.rand", state, 0, line=20 + at))
        sides.append(written(folder / name, made))
        states.append([record.value for record in made if record.kind == "draw"])
    found, mirrored = compare(*sides).divergence, compare(*reversed(sides)).divergence
    shutil.rmtree(folder)
    assert (found and found.kind) == (mirrored and mirrored.kind) == ((planted or None) and ("data" if states[0] == states[1] else "draw"))
    assert (found and found.index) == (mirrored and mirrored.index)


# kinds


def program(lane: LaneBuilder, **last: Any) -> None:
    """Some ops, of which the last is as the test has it."""
    x = lane.external([2, 3], line=1)
    y = lane.op("aten.relu.default", x, line=2)
    how: dict[str, Any] = {"shape": [2, 2], "args": [1], "numbers": (0.5,), "line": 3}
    lane.op("aten.mm.default", x, y, **(how | last))


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"digest": "other"}, "kernel", "the inputs are the same"),
        ({"more": ["other"]}, "structure", "dtype, shape"),
        ({"args": [2]}, "argument", "aten.mm.default was given [1] in one run and [2] in the other"),
        ({"args": None}, "argument", "was given [1] in one run and nothing in the other"),
        ({"numbers": (0.25,)}, "argument", "was given 0.5 in one run and 0.25 in the other"),
        ({"shape": [4]}, "structure", '[["float32",[2,2],null,"cpu"]] and [["float32",[4],null,"cpu"]]'),
        ({"dtype": "float64"}, "structure", '"float64"'),
        ({"stride": [1, 2]}, "structure", "[1,2]"),
        ({"device": "cuda:0"}, "structure", "cuda:0"),
    ],
    ids=str,
)
def test_a_change_of_an_op_has_its_kind(change: dict[str, Any], kind: Kind, said: str, tmp_path: Path) -> None:
    found = divergence(tmp_path, program, lambda lane: program(lane, **change))
    assert (found.kind, found.index, found.op, found.line, found.file) == (kind, 2, "aten.mm.default", 3, "train.py")
    assert said in sentence_of(found.reasons)


def test_the_second_output_alone_may_differ(tmp_path: Path) -> None:
    found = divergence(
        tmp_path,
        lambda lane: program(lane, digest="same", more=["second", "third"]),
        lambda lane: program(lane, digest="same", more=["second", "other"]),
    )
    assert (found.kind, found.index) == ("kernel", 2)


def test_another_op_is_structure(tmp_path: Path) -> None:
    def ours(lane: LaneBuilder) -> None:
        lane.op("aten.relu.default", lane.external(), line=2)

    def theirs(lane: LaneBuilder) -> None:
        lane.op("aten.gelu.default", lane.external(), line=5)

    found = compared(tmp_path, ours, theirs).divergence
    assert found is not None
    assert (found.kind, found.op, found.line) == ("structure", "aten.relu.default", 2)
    assert sentence_of(found.reasons) == "one run does aten.relu.default here, the other aten.gelu.default"
    assert (found.detail.b["op"], found.detail.b["line"]) == ("aten.gelu.default", 5)


def test_ops_that_one_run_does_before_a_draw_are_structure_and_no_draw(tmp_path: Path) -> None:
    def write(lane: LaneBuilder, resumed: bool) -> None:
        lane.seed("torch-cpu", 0)
        if resumed:
            lane.op("aten.zeros.default", line=2)
        lane.draw("torch-cpu", "aten.randn.default", "seeded", line=4)
        lane.op("aten.randn.default", line=4)

    found = compared(tmp_path, lambda lane: write(lane, False), lambda lane: write(lane, True)).divergence

    assert found is not None
    assert (found.kind, found.detail.origin, found.detail.streams) == ("structure", None, [])


def test_an_op_where_the_other_run_meets_a_tensor_is_structure(tmp_path: Path) -> None:
    found = divergence(tmp_path, lambda lane: lane.external(line=1), lambda lane: lane.op("external", line=1))
    assert found.kind == "structure"


def test_an_op_on_other_tensors_of_equal_kind_is_structure_and_no_kernel(tmp_path: Path) -> None:
    """As of a loop over a set of tensors."""

    def over(lane: LaneBuilder, order: Sequence[int]) -> None:
        tensors = [lane.external(), lane.external(), lane.op("aten.ones.default")]
        for k in order:
            lane.op("aten.sum.default", tensors[k], shape=[], line=4)

    found = divergence(tmp_path, lambda lane: over(lane, [0, 1, 2]), lambda lane: over(lane, [0, 2, 1]))
    assert (found.kind, found.index) == ("structure", 4)
    assert sentence_of(found.reasons) == "aten.sum.default was given the result of op 1 in one run and the result of op 2 in the other"


def test_an_op_on_equal_tensors_of_other_origin_is_no_difference(tmp_path: Path) -> None:
    def over(lane: LaneBuilder, order: Sequence[int]) -> None:
        tensors = [lane.external(digest="zeros"), lane.external(digest="zeros")]
        for k in order:
            lane.op("aten.sum.default", tensors[k], shape=[])

    assert compared(tmp_path, lambda lane: over(lane, [0, 1]), lambda lane: over(lane, [1, 0])).divergence is None


def test_an_input_is_the_same_wherever_draws_lie_between(tmp_path: Path) -> None:
    """Producers are compared by the ops that they are, and not by their rows."""

    def after(lane: LaneBuilder, draws: int, digest: str) -> None:
        for _ in range(draws):
            lane.draw("python", "random.random", "as ever")
        lane.op("aten.relu.default", lane.op("aten.ones.default"), digest=digest)

    found = divergence(tmp_path, lambda lane: after(lane, 1, "a"), lambda lane: after(lane, 3, "b"))
    assert (found.kind, found.index) == ("kernel", 1)


def test_what_is_overwritten_is_no_input(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, k: int, digest: str) -> None:
        tensors = [lane.external(), lane.external()]
        lane.op("aten.copy_.default", tensors[k], tensors[0], digest=digest)

    assert divergence(tmp_path, lambda lane: program(lane, 0, "a"), lambda lane: program(lane, 1, "b")).kind == "kernel"


def test_an_op_without_a_dot_in_its_name_is_an_op(tmp_path: Path) -> None:
    found = divergence(tmp_path, lambda lane: lane.op("cond", digest="a"), lambda lane: lane.op("cond", digest="b"))
    assert (found.kind, found.op) == ("kernel", "cond")


def drawn(lane: LaneBuilder, state: str, digest: str | None = None) -> None:
    """An op that draws."""
    lane.random("aten.bernoulli_.float", lane.external(), state=state, numbers=(0.5,), digest=digest, line=4)


def test_an_op_that_draws_from_another_state_is_a_draw(tmp_path: Path) -> None:
    found = divergence(tmp_path, lambda lane: drawn(lane, "a"), lambda lane: drawn(lane, "b"))
    assert (found.kind, found.index, found.op, found.line) == ("draw", 1, "aten.bernoulli_.float", 4)
    assert found.detail.seen_at is None


def test_an_op_that_draws_from_the_same_state_is_no_draw(tmp_path: Path) -> None:
    found = divergence(tmp_path, lambda lane: drawn(lane, "a", "x"), lambda lane: drawn(lane, "a", "y"))
    assert (found.kind, found.index) == ("kernel", 1)
    assert "the random stream was in the same state" in sentence_of(found.reasons)


def test_a_draw_before_another_op_is_not_its_draw(tmp_path: Path) -> None:
    def after(lane: LaneBuilder, state: str, digest: str) -> None:
        x = lane.external()
        lane.draw("torch-cpu", "aten.rand.default", state)
        lane.op("aten.mm.default", x, digest=digest)

    assert divergence(tmp_path, lambda lane: after(lane, "a", "x"), lambda lane: after(lane, "b", "y")).kind == "kernel"


@pytest.mark.parametrize(
    ("between", "op", "kind"),
    [
        (None, "aten.mul.Tensor", "uninitialized"),
        (None, "aten.add_.Tensor", "uninitialized"),
        ("aten.zero_.default", "aten.mul.Tensor", "kernel"),
        ("aten.zero_.default", "aten.add_.Tensor", "kernel"),
        (None, "aten.copy_.default", "kernel"),
    ],
)
def test_memory_that_was_read_before_it_was_written_is_uninitialized(between: str | None, op: str, kind: Kind, tmp_path: Path) -> None:
    def reads(lane: LaneBuilder, digest: str) -> None:
        x = lane.op("aten.empty.memory_format", digest=0, line=1)
        if between:
            x = lane.op(between, x)
        lane.op(op, x, lane.external(), digest=digest)

    assert divergence(tmp_path, lambda lane: reads(lane, "a"), lambda lane: reads(lane, "b")).kind == kind


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("make", ["aten.empty.memory_format", "aten.empty_like.default", "aten.new_empty.default"])
def test_any_input_may_be_the_one_that_nobody_wrote(place: int, make: str, tmp_path: Path) -> None:
    def reads(lane: LaneBuilder, digest: str) -> None:
        tensors: list[Tensor | None] = [lane.external() for _ in range(5)]
        tensors.insert(place, lane.op(make, digest=0))
        lane.op("aten.cat.default", *tensors, digest=digest)

    assert divergence(tmp_path, lambda lane: reads(lane, "a"), lambda lane: reads(lane, "b")).kind == "uninitialized"


@pytest.mark.parametrize("known", [True, False])
def test_memory_that_is_copied_from_unwritten_memory_is_uninitialized(known: bool, tmp_path: Path) -> None:
    def copies(lane: LaneBuilder, digest: str) -> None:
        target = lane.external() if known else None
        lane.op("aten.copy_.default", target, lane.op("aten.empty.memory_format", digest=0), digest=digest)

    found = divergence(tmp_path, lambda lane: copies(lane, "a"), lambda lane: copies(lane, "b"))
    assert found.kind == "uninitialized"


@pytest.mark.parametrize(
    ("ours", "theirs", "kind"),
    [
        ({"rows": "rows"}, {"rows": "rows"}, "data-order"),
        ({"rows": "rows"}, {"rows": "others"}, "data"),
        ({"rows": 0}, {"rows": 0}, "data"),
        ({"rows": "rows"}, {"rows": 0}, "data"),
        ({"shape": [5]}, {"shape": [6]}, "structure"),
        ({"dtype": "int64"}, {"dtype": "int32"}, "structure"),
    ],
    ids=str,
)
def test_what_came_in_from_outside_has_its_kind(ours: dict[str, Any], theirs: dict[str, Any], kind: Kind, tmp_path: Path) -> None:
    def takes(lane: LaneBuilder, digest: str, how: dict[str, Any]) -> None:
        lane.op("aten.relu.default")
        lane.op("aten.mm.default", lane.external(digest=digest, line=8, **how), shape=[3])

    found = divergence(tmp_path, lambda lane: takes(lane, "a", ours), lambda lane: takes(lane, "b", theirs))
    assert (found.kind, found.index, found.op, found.line) == (kind, 1, "external", 8)


def test_memory_that_is_adopted_is_data(tmp_path: Path) -> None:
    ours, theirs = (lambda lane, digest=digest: lane.op("aten.set_.source_Storage", digest=digest) for digest in "ab")
    assert divergence(tmp_path, ours, theirs).kind == "data"


def ends_after(ops: int) -> Program:
    """A lane of so many ops."""
    return lambda lane: [lane.op("aten.relu.default", digest=k, line=k) for k in range(ops)]


@pytest.mark.parametrize(
    ("ours", "theirs", "kind", "said"),
    [
        ({"exit": 0}, {"exit": 0}, "structure", "a ended here, the other run went on"),
        ({"exit": 0}, {"exit": 1}, "structure", "a ended here, the other run went on"),
        ({"exit": 1}, {"exit": 0}, "failed", "a ended here with exit status 1, the other run went on"),
        ({"exit": 1, "error": "ValueError: no"}, {"exit": 0}, "failed", "a ended here with ValueError: no, the other run went on"),
        ({"exit": -9}, {"exit": 0}, "failed", "a ended here with signal 9, the other run went on"),
        ({"exit": 2}, {"exit": 2}, "failed", "a ended here with exit status 2, the other run went on"),
    ],
    ids=str,
)
def test_a_run_that_ends_where_the_other_goes_on_has_its_kind(
    ours: dict[str, Any], theirs: dict[str, Any], kind: Kind, said: str, tmp_path: Path
) -> None:
    a, b = run_of(tmp_path / "a", ends_after(3), **ours), run_of(tmp_path / "b", ends_after(5), **theirs)
    for comparison in (compare(a, b), compare(b, a)):
        found = comparison.divergence
        assert found is not None
        assert (found.kind, found.index, found.line, sentence_of(found.reasons)) == (kind, 3, 3, said)
        assert comparison.compared == 3
        assert comparison.watch is None
        assert (found.detail.a == {}) != (found.detail.b == {})
        assert [op.index for op in found.detail.before] == [0, 1, 2]


def test_a_run_whose_end_is_not_known_may_have_gone_on_as_the_other_did(tmp_path: Path) -> None:
    a, b = run_of(tmp_path / "a", ends_after(3), exit=None), run_of(tmp_path / "b", ends_after(5))
    for comparison in (compare(a, b), compare(b, a)):
        assert comparison.divergence is None
        assert comparison.compared == 3
        assert any("ended at op 3" in text_of(note) for note in comparison.notes)


def test_runs_that_differ_before_one_of_them_fails_have_not_failed(tmp_path: Path) -> None:
    def fails(lane: LaneBuilder) -> None:
        lane.op("aten.relu.default", digest=77)

    found = compare(run_of(tmp_path / "a", fails, exit=1), run_of(tmp_path / "b", ends_after(5))).divergence
    assert found is not None
    assert (found.kind, found.index) == ("kernel", 0)


# origins


def reads_what_was_drawn(state: str, stream: str = "numpy", seed: Callable[[LaneBuilder], object] | None = None) -> Program:
    """A lane that makes its data with numpy, at line 5, and meets them at line 9."""

    def program(lane: LaneBuilder) -> None:
        if seed is not None:
            seed(lane)
        lane.op("aten.relu.default", line=2)
        lane.op("aten.neg.default", line=3)
        lane.draw(stream, f"{stream}.rand", state, line=5)
        lane.op("aten.exp.default", line=7)
        lane.phase = "forward"
        lane.op("aten.mm.default", lane.external(digest=state, line=9), line=10)

    return program


@pytest.mark.parametrize(
    ("seeded", "said"), [(False, "it was never seeded"), (True, "it is seeded, but later, or one run drew from it more often before")]
)
def test_of_a_stream_in_another_state_it_is_said_whether_anything_seeds_it(seeded: bool, said: str, tmp_path: Path) -> None:
    def run(state: str) -> TraceBuilder:
        run = TraceBuilder(tmp_path / state)
        reads_what_was_drawn(state)(run.lane())
        beside = run.lane("thread 1")
        if seeded:
            beside.seed("numpy", function="numpy.random.seed", line=3)
        beside.op("aten.abs.default", line=4)
        return run

    found = compare(run("a").sealed(), run("b").sealed()).divergence
    assert found is not None
    assert sentence_of(found.reasons) == f"the stream numpy was in another state when it was drawn from here: {said}"


def test_of_a_generator_that_threads_share_it_is_said_that_they_took_turns_and_not_that_it_was_never_seeded(tmp_path: Path) -> None:
    def run(name: str, states: tuple[str, str]) -> Trace:
        run = TraceBuilder(tmp_path / name)
        for number, state in enumerate(states, 1):
            reads_what_was_drawn(state, "python-own")(run.lane(f"thread {number}"))
        return run.sealed()

    for name, states, said in (
        ("turns", ("second", "first"), "threads share it, and drew from it in a different order in each run"),
        ("other", ("third", "fourth"), "its seed differs, or one run drew from it more often before"),
    ):
        found = compare(run(f"{name}-a", ("first", "second")), run(f"{name}-b", states)).divergence
        assert found is not None
        assert sentence_of(found.reasons) == f"the stream python-own was in another state when it was drawn from here: {said}"


def test_a_thread_that_meets_another_state_because_the_main_thread_drew_more_often_has_not_changed_turns_with_it(tmp_path: Path) -> None:
    def run(name: str, before: int) -> Trace:
        run = TraceBuilder(tmp_path / name)
        main, thread = run.lane(), run.lane("thread 1")
        for number in range(before):
            main.draw("numpy", "numpy.rand", f"state {number}", line=2)
        main.op("aten.abs.default", line=3)
        for number in range(before, before + 3):
            thread.random("aten.randn.default", stream="numpy", state=f"state {number}", shape=[2], digest=f"{number}", line=5)
        return run.sealed()

    a, b = run("a", 2), run("b", 3)
    found = compare(a, b).divergence
    assert found is not None
    assert (found.kind, found.detail.origin and found.detail.origin.shared) == ("draw", False)
    assert judged("stream-shared-by-threads", a, b) == []


def test_worker_processes_of_a_pool_that_begin_with_one_state_share_no_stream(tmp_path: Path) -> None:
    def run(name: str, order: tuple[int, int, int]) -> Trace:
        run = TraceBuilder(tmp_path / name)
        lanes = [run.lane("process 1"), run.lane("process 2")]
        for place, task in enumerate(order):
            lane = lanes[place % 2]
            lane.event("task", name=f"thread 0, {task}")
            state = f"state {place // 2}"
            lane.random("aten.randn.default", state=state, shape=[2], digest=state, line=5)
        return run.sealed()

    a, b = run("a", (1, 2, 3)), run("b", (3, 2, 1))
    found = compare(a, b).divergence
    assert found is not None
    assert (found.kind, found.detail.origin and found.detail.origin.shared) == ("draw", False)
    assert judged("stream-shared-by-threads", a, b) == []


def test_an_op_that_draws_from_torch_s_own_stream_in_threads_is_said_to_have_taken_its_turn_in_another_order(tmp_path: Path) -> None:
    def run(name: str, states: tuple[str, str]) -> Trace:
        run = TraceBuilder(tmp_path / name)
        for number, state in enumerate(states, 1):
            run.lane(f"thread {number}").random("aten.randn.default", state=state, shape=[2], digest=state, line=5)
        return run.sealed()

    for name, states, shared in (("turns", ("second", "first"), True), ("other", ("third", "fourth"), False)):
        found = compare(run(f"{name}-a", ("first", "second")), run(f"{name}-b", states)).divergence
        assert found is not None
        assert found.detail.origin is not None
        assert (found.kind, found.detail.origin.name, found.detail.origin.shared) == ("draw", "torch-cpu", shared)
        assert sentence_of(found.reasons).endswith("threads share it, and drew from it in a different order in each run") == shared


def test_data_that_were_drawn_came_from_the_draw(tmp_path: Path) -> None:
    found = divergence(tmp_path, reads_what_was_drawn("a"), reads_what_was_drawn("b"))
    assert (found.kind, found.index, found.op, found.line, found.phase) == ("draw", 2, "numpy.rand", 5, "setup")
    assert "the stream numpy was in another state" in sentence_of(found.reasons)
    assert "never seeded" in sentence_of(found.reasons)
    seen = found.detail.seen_at
    assert seen is not None
    assert (seen.index, seen.op, seen.line, seen.phase) == (3, "external", 9, "forward")


def test_data_that_differ_after_equal_draws_came_from_elsewhere(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, content: str) -> None:
        lane.draw("numpy", "numpy.rand", "same")
        lane.external(digest=content, line=9)

    found = divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b"))
    assert (found.kind, found.line, found.detail.seen_at) == ("data", 9, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ({"value": 1}, {"value": 2}, "the stream numpy was seeded with 1 in one run and with 2 in the other"),
        ({"entropy": True, "state": "x"}, {"entropy": True, "state": "y"}, "seeded from the operating system's entropy"),
        ({"value": 1}, {"value": None, "entropy": True}, "seeded from the operating system's entropy"),
        ({"value": None, "state": "x"}, {"value": None, "state": "y"}, "was put into another state here"),
    ],
    ids=str,
)  # fmt: skip
def test_streams_that_were_seeded_differently_differ_from_the_seed_on(
    ours: dict[str, Any], theirs: dict[str, Any], said: str, tmp_path: Path
) -> None:
    def seed(how: dict[str, Any]) -> Callable[[LaneBuilder], object]:
        return lambda lane: lane.seed("numpy", function="numpy.seed", line=1, **how)

    found = divergence(tmp_path, reads_what_was_drawn("a", seed=seed(ours)), reads_what_was_drawn("b", seed=seed(theirs)))
    assert (found.kind, found.op, found.line) == ("draw", "numpy.seed", 1)
    assert said in sentence_of(found.reasons)


def test_a_stream_that_one_run_alone_seeded_differs_from_there_on(tmp_path: Path) -> None:
    """The seed of the one stands where the other already draws."""
    seeded = reads_what_was_drawn("a", seed=lambda lane: lane.seed("numpy", 1, function="numpy.seed", line=1))
    found = divergence(tmp_path, seeded, reads_what_was_drawn("b"))
    assert (found.kind, found.op, found.line) == ("draw", "numpy.seed", 1)
    assert sentence_of(found.reasons) == "the stream numpy was seeded here in one run and not in the other"


def test_a_seed_alone_makes_no_difference(tmp_path: Path) -> None:
    ours, theirs = (lambda lane, value=value: [lane.seed("torch-cpu", value), lane.op("aten.ones.default")] for value in (1, 2))
    assert compared(tmp_path, ours, theirs).divergence is None


def test_draws_that_no_op_shows_make_no_difference(tmp_path: Path) -> None:
    """A library that draws a name for a temporary file changes nothing."""

    def program(lane: LaneBuilder, state: str, draws: int) -> None:
        for _ in range(draws):
            lane.draw("python", "random.choice", state)
        lane.op("aten.mm.default")

    comparison = compared(tmp_path, lambda lane: program(lane, "a", 1), lambda lane: program(lane, "b", 4))
    assert comparison == Comparison(None, [], [], compared=1)


def test_a_kernel_is_not_blamed_on_the_draws_before_it(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str) -> None:
        lane.draw("python", "random.choice", word, line=1)
        lane.op("aten.mm.default", digest=word, line=2)

    found = divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b"))
    assert (found.kind, found.line) == ("kernel", 2)
    assert [stream.name for stream in found.detail.streams] == ["python"]


def test_an_op_that_draws_is_explained_by_its_own_stream(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str) -> None:
        lane.random("aten.rand.default", state="same", digest="same", line=1)
        lane.draw("torch-cpu", "aten.randperm.default", word, line=2)
        lane.draw("python", "random.random", word, line=3)
        lane.op("aten.relu.default")
        lane.random("aten.rand.default", state=word, line=5)

    found = divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b"))
    assert (found.kind, found.op, found.line) == ("draw", "aten.randperm.default", 2)


@pytest.mark.parametrize(("streams", "line"), [(["python", "numpy"], 2), (["numpy", "python"], 2), (["numpy", "python", "numpy"], 1)])
def test_of_several_streams_the_one_that_was_drawn_from_last_is_the_origin(streams: list[str], line: int, tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str, streams: Sequence[str]) -> None:
        for k, stream in enumerate(streams, 1):
            lane.draw(stream, f"{stream}.draw", word, line=k)
            lane.op("aten.relu.default")
        lane.external(digest=word, line=9)

    found = divergence(tmp_path, lambda lane: program(lane, "a", streams), lambda lane: program(lane, "b", streams))
    assert (found.op, found.line) == (f"{streams[-1]}.draw", line)
    assert {stream.name for stream in found.detail.streams} == {"python", "numpy"}


def test_draws_behind_the_difference_do_not_explain_it(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str) -> None:
        lane.external(digest=word, line=1)
        lane.seed("numpy", word, line=2)
        lane.draw("numpy", "numpy.rand", word, line=2)
        lane.op("aten.relu.default")

    found = divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b"))
    assert (found.kind, found.line, found.detail.streams) == ("data", 1, [])


def test_one_draw_more_than_the_other_run_is_the_origin_of_what_follows(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, draws: int) -> None:
        for k in range(draws):
            lane.draw("python", "random.random", f"after {k}", line=10 + k)
        lane.external(digest=str(draws), line=20)

    found = divergence(tmp_path, lambda lane: program(lane, 2), lambda lane: program(lane, 3))
    assert (found.kind, found.line) == ("draw", 12)


@pytest.mark.parametrize("change", [{"args": [1]}, {"numbers": (1.0,)}, {"shape": [7]}], ids=str)
def test_what_the_program_drew_may_be_an_argument_or_a_shape(change: dict[str, Any], tmp_path: Path) -> None:
    def program(lane: LaneBuilder, state: str, how: dict[str, Any]) -> None:
        lane.draw("python", "random.randint", state, line=1)
        lane.op("aten.narrow.default", line=2, **how)

    found = divergence(tmp_path, lambda lane: program(lane, "a", {}), lambda lane: program(lane, "b", change))
    assert (found.kind, found.line) == ("draw", 1)
    assert found.detail.seen_at is not None


# lanes


def lanes_of(path: Path, lanes: dict[str, Program], **facts: Any) -> Trace:
    """A run of several lanes, which begin in this order."""
    run = TraceBuilder(path, **facts)
    for name, program in lanes.items():
        program(run.lane(name))
    return run.sealed()


def does(op: str, digest: str = "same", line: int = 1) -> Program:
    """A lane that does one op."""
    return lambda lane: lane.op(op, digest=digest, line=line)


def meets(digest: str) -> Program:
    """A lane that meets data."""
    return lambda lane: lane.op("aten.mm.default", lane.external(digest=digest, line=1), digest=digest)


def draws(state: str) -> Program:
    """A lane with an op that draws."""
    return lambda lane: lane.random("aten.rand.default", state=state, line=2)


def test_lanes_are_paired_by_role_whenever_they_began(tmp_path: Path) -> None:
    lanes = {name: does(f"aten.{name.split()[0]}.default") for name in ("main", "worker 0", "worker 1", "thread 1")}
    a = lanes_of(tmp_path / "a", lanes)
    b = lanes_of(tmp_path / "b", dict(reversed(lanes.items())), pid=9000, started=3e9)
    assert list(a.lanes) == list(b.lanes)
    assert compare(a, b) == Comparison(None, [], [], compared=4)


@pytest.mark.parametrize("name", ["thread 1", "worker 0", "process 3", "fork 1", "rank 1 worker 0"])
def test_a_lane_of_one_run_alone_is_noted_and_no_divergence(name: str, tmp_path: Path) -> None:
    a = lanes_of(tmp_path / "a", {"main": does("aten.mm.default"), name: ends_after(3)})
    b = lanes_of(tmp_path / "b", {"main": does("aten.mm.default")})
    assert compare(a, b) == Comparison(None, [], [Reason.of("lane-in-one-run", lane=name, ops=3, run="a")], compared=1)
    assert compare(b, a) == Comparison(None, [], [Reason.of("lane-in-one-run", lane=name, ops=3, run="a")], compared=1)


def test_a_lane_of_one_run_alone_in_which_nothing_was_done_is_not_noted(tmp_path: Path) -> None:
    a = lanes_of(tmp_path / "a", {"main": does("aten.mm.default"), "thread 1": lambda lane: lane.event("lost", what="x")})
    b = lanes_of(tmp_path / "b", {"main": does("aten.mm.default")})
    assert compare(a, b).notes == []
    assert compare(b, a).notes == []


@pytest.mark.parametrize(
    ("name", "leading"), [("main", True), ("rank 1", True), ("worker 0", False), ("thread 2", False), ("rank 0 worker 1", False)]
)
def test_only_a_leading_lane_that_ends_early_has_diverged(name: str, leading: bool, tmp_path: Path) -> None:
    a = lanes_of(tmp_path / "a", {"rank 0": does("aten.mm.default")} | {name: ends_after(3)})
    b = lanes_of(tmp_path / "b", {"rank 0": does("aten.mm.default")} | {name: ends_after(5)})
    if name == "main":
        a, b = (lanes_of(tmp_path / f"{k}-alone", {name: ends_after(k)}) for k in (3, 5))
    for comparison in (compare(a, b), compare(b, a)):
        assert (comparison.divergence is not None) == leading
        assert comparison.notes == ([] if leading else [Reason.of("lane-ended", lane=name, index=3)])


@pytest.mark.parametrize(
    ("lanes", "reported", "kind"),
    [
        (({"main": meets("a"), "worker 0": draws("a")}, {"main": meets("b"), "worker 0": draws("b")}), "worker 0", "draw"),
        (({"main": meets("a"), "worker 1": meets("c")}, {"main": meets("b"), "worker 1": meets("d")}), "worker 1", "data"),
        (({"main": does("op", "a"), "worker 0": draws("a")}, {"main": does("op", "b"), "worker 0": draws("b")}), "main", "kernel"),
        (({"main": draws("a"), "worker 0": draws("a")}, {"main": draws("b"), "worker 0": draws("b")}), "main", "draw"),
        (({"main": meets("a"), "thread 1": does("x")}, {"main": meets("b"), "thread 1": does("y")}), "main", "data"),
        (({"main": does("op"), "thread 1": does("op", "a")}, {"main": does("op"), "thread 1": does("op", "b")}), "thread 1", "kernel"),
        (({"rank 0": meets("a"), "rank 1": draws("a")}, {"rank 0": meets("b"), "rank 1": draws("b")}), "rank 1", "draw"),
    ],
    ids=["worker draws", "worker is fed", "main itself", "main draws", "thread does other ops", "thread alone", "another rank"],
)  # fmt: skip
def test_of_several_lanes_that_diverge_the_one_that_can_explain_the_others_is_reported(
    lanes: tuple[dict[str, Program], dict[str, Program]], reported: str, kind: Kind, tmp_path: Path
) -> None:
    a, b = lanes_of(tmp_path / "a", lanes[0]), lanes_of(tmp_path / "b", lanes[1])
    for comparison in (compare(a, b), compare(b, a)):
        found = comparison.divergence
        assert found is not None
        assert (found.lane, found.kind) == (reported, kind)
        differing = {name for name in lanes[0] if reported == name or not (name == "main" and reported == "thread 1")}
        assert {other.lane for other in comparison.others} == differing - {reported}
        assert comparison.watch is not None
        assert comparison.watch.lane == reported


def test_the_second_look_watches_the_records_around_the_difference(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, extra: int, digest: str) -> None:
        for k in range(100 + extra):
            lane.draw("python", "random.random", k)
        lane.op("aten.mm.default", digest=digest)

    watch = compared(tmp_path, lambda lane: program(lane, 0, "a"), lambda lane: program(lane, 30, "b")).watch
    assert watch is not None
    assert (watch.lane, watch.identity) == ("main", None)
    assert watch.first <= 101 - 20
    assert watch.last >= 131 + 20
    assert watch.last - watch.first < 300


def test_the_second_look_begins_no_earlier_than_the_lane(tmp_path: Path) -> None:
    watch = compared(tmp_path, does("aten.mm.default", "a"), does("aten.mm.default", "b")).watch
    assert watch is not None
    assert watch.first == 0


def test_the_second_look_finds_a_lane_among_others_of_its_role(tmp_path: Path) -> None:
    """A child knows its role and not how many had it before; its identity tells."""
    sides = []
    for name in "ab":
        run = TraceBuilder(tmp_path / name)
        run.lane().op("aten.mm.default")
        run.lane("worker 0", [1]).op("aten.mm.default")
        run.lane("worker 0", [5]).op("aten.mm.default", digest=name)
        sides.append(run.sealed())
    comparison = compare(*sides)
    assert comparison.divergence is not None
    assert comparison.watch is not None
    assert (comparison.divergence.lane, comparison.watch.lane, comparison.watch.identity) == ("worker 0 (2)", "worker 0", [5])


# around the difference


def test_the_ops_before_and_those_that_carry_the_difference_on_are_shown(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, digest: str) -> None:
        x = lane.external(line=1)
        for k in range(2, 6):
            x = lane.op("aten.relu.default", x, line=k)
        lane.draw("python", "random.random", "same")
        lane.phase = "forward"
        y = lane.op("aten.mm.default", x, digest=digest, line=6)
        lane.op("aten.neg.default", x, line=7)
        z = lane.op("aten.add.Tensor", y, x, line=8)
        lane.op("aten.ones.default", line=9)
        lane.op("aten.stack.default", x, x, x, z, line=10)
        lane.op("aten.sum.default", z, line=11)
        lane.op("aten.mean.default", z, line=12)

    found = divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b"))
    assert (found.kind, found.index) == ("kernel", 5)
    assert [(op.index, op.line, op.differs) for op in found.detail.before] == [(2, 3, False), (3, 4, False), (4, 5, False)]
    assert [(op.index, op.line, op.differs) for op in found.detail.carriers] == [(7, 8, True), (9, 10, True), (10, 11, True)]
    assert (found.detail.differing_ops, found.detail.compared_ops) == (5, 7)
    assert {op.phase for op in found.detail.carriers} == {"forward"}


def test_an_op_that_differs_by_itself_carries_nothing(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str) -> None:
        lane.op("aten.mm.default", digest=word, line=1)
        lane.op("aten.neg.default", lane.external(digest=word, line=2), line=2)

    detail = divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b")).detail
    assert detail.carriers == []
    assert (detail.differing_ops, detail.compared_ops) == (3, 3)


def test_an_op_that_makes_the_same_of_what_differs_carries_nothing(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str) -> None:
        x = lane.op("aten.mm.default", digest=word, line=1)
        y = lane.op("aten.sign.default", x, digest="plus", line=2)
        lane.op("aten.neg.default", y, line=3)

    detail = divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b")).detail
    assert detail.carriers == []
    assert (detail.differing_ops, detail.compared_ops) == (1, 3)


def test_nothing_is_said_of_carriers_once_the_lanes_do_other_ops(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str) -> None:
        x = lane.op("aten.mm.default", digest=word, line=1)
        y = lane.op("aten.neg.default", x, line=2)
        if word == "a":
            lane.op("aten.relu.default", y, line=3)
        lane.op("aten.exp.default", y, line=4)
        lane.op("aten.exp.default", y, line=5)

    found = compared(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b")).divergence
    assert found is not None
    assert [op.line for op in found.detail.carriers] == [2]


@pytest.mark.parametrize(("between", "lines"), [(3000, [2]), (5000, [])])
def test_carriers_are_looked_for_within_a_window(between: int, lines: list[int], tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str, between: int) -> None:
        x = lane.op("aten.mm.default", digest=word, line=1)
        for k in range(between):
            lane.op("aten.ones.default", digest=k)
        lane.op("aten.neg.default", x, line=2)

    found = divergence(tmp_path, lambda lane: program(lane, "a", between), lambda lane: program(lane, "b", between))
    assert [op.line for op in found.detail.carriers] == lines
    assert found.detail.differing_ops == 2


def test_a_difference_in_the_first_op_has_nothing_before_it(tmp_path: Path) -> None:
    assert divergence(tmp_path, does("aten.mm.default", "a"), does("aten.mm.default", "b")).detail.before == []


def test_what_each_run_did_is_shown(tmp_path: Path) -> None:
    found = divergence(tmp_path, lambda lane: program(lane, digest=1), lambda lane: program(lane, digest=255))
    out = '[["float32",[2,2],null,"cpu"]]'
    shown = {
        "op": "aten.mm.default",
        "args": "[1]",
        "numbers": "0.5",
        "out": out,
        "file": "train.py",
        "line": 3,
        "phase": "setup",
        "step": 0,
    }
    assert found.detail.a == shown | {"digest": "0000000000000001"}
    assert found.detail.b == shown | {"digest": "00000000000000ff"}


def test_a_backward_op_has_the_line_of_its_forward_op(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, digest: str) -> None:
        lane.phase, lane.module = "forward", "Net.first"
        x = lane.op("aten.mm.default", node=1, line=5)
        lane.op("aten.relu.default", x, node=2, line=6)
        lane.phase, lane.module = "backward", ""
        lane.op("aten.threshold_backward.default", x, node=2, line=8)
        lane.op("aten.mm.default", x, node=1, digest=digest, line=8)

    found = divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b"))
    assert (found.phase, found.line, found.module) == ("backward", 8, "Net.first")
    assert found.detail.forward is not None
    assert (found.detail.forward.file, found.detail.forward.line) == ("train.py", 5)


def test_step_phase_and_module_are_those_of_the_op(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, digest: str) -> None:
        for _ in range(3):
            lane.op("aten.relu.default", digest="same")
            lane.step()
        lane.phase, lane.module = "forward", "Net.head"
        lane.op("aten.mm.default", digest=digest)

    found = divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b"))
    assert (found.step, found.phase, found.module) == (3, "forward", "Net.head")


# beside the difference


def with_files(reads: Sequence[tuple[str, str, str]], behind: Sequence[tuple[str, str, str]] = ()) -> Program:
    """A lane that reads (or lists) these, then meets data that differ, then reads on."""

    def program(lane: LaneBuilder) -> None:
        for path, op, content in reads:
            lane.read(path, content, op=op)
        lane.external(digest=repr((reads, behind)))
        lane.op("aten.relu.default", digest="same")
        for path, op, content in behind:
            lane.read(path, content, op=op)

    return program


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        ([("x.csv", "read", "1")], [("x.csv", "read", "2")], [("x.csv", "read", "other content")]),
        ([("data", "list", "a b")], [("data", "list", "b a")], [("data", "list", "listed in another order, or other names")]),
        ([("x.csv", "read", "1")], [], [("x.csv", "read", "read by one run only")]),
        ([], [("x.csv", "read", "1")], [("x.csv", "read", "read by one run only")]),
        ([("x", "read", "1"), ("x", "read", "2")], [("x", "read", "1"), ("x", "read", "3")], [("x", "read", "other content")]),
        ([("x", "read", "1"), ("y", "read", "2")], [("y", "read", "2"), ("x", "read", "1")], []),
        ([("x", "read", "1"), ("x", "read", "2")], [("x", "read", "3"), ("x", "read", "4")], [("x", "read", "other content")]),
    ],
    ids=str,
)
def test_files_that_were_not_the_same_before_the_difference_are_listed(ours: Any, theirs: Any, found: Any, tmp_path: Path) -> None:
    divergences = divergence(tmp_path, with_files(ours, [("late", "read", "1")]), with_files(theirs, [("late", "read", "2")]))
    assert [(file.path, file.op, of_file(file)) for file in divergences.detail.files] == found


def test_files_whose_content_is_not_known_are_not_listed(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str) -> None:
        lane.event("file", path=f"{word}.txt", op="write", mode="w")
        lane.external(digest=word)

    assert divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b")).detail.files == []


def test_settings_that_were_not_the_same_before_the_difference_are_listed(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str, flag: bool) -> None:
        lane.setting("torch.get_num_threads", 4, first=True)
        lane.setting("torch.backends.cudnn.benchmark", False, first=True)
        lane.setting("torch.backends.cudnn.benchmark", flag, line=2)
        if flag:
            lane.setting("environ:OMP_NUM_THREADS", "2", first=True)
        lane.op("aten.mm.default", digest=word)
        lane.op("aten.relu.default")
        lane.setting("torch.get_num_threads", 8 if flag else 2)

    found = divergence(tmp_path, lambda lane: program(lane, "a", True), lambda lane: program(lane, "b", False))
    assert [(stream.name, of_stream(stream), stream.a, stream.b) for stream in found.detail.streams] == [
        ("environ:OMP_NUM_THREADS", "setting", "2", "None"),
        ("torch.backends.cudnn.benchmark", "setting", "True", "False"),
    ]


def test_streams_that_were_not_the_same_before_the_difference_are_listed(tmp_path: Path) -> None:
    def program(lane: LaneBuilder, word: str) -> None:
        lane.seed("torch-cpu", 0)
        lane.seed("numpy", word, function="numpy.seed", line=2)
        lane.draw("python", "random.random", word, line=3)
        lane.op("aten.mm.default", digest=word)

    streams = divergence(tmp_path, lambda lane: program(lane, "a"), lambda lane: program(lane, "b")).detail.streams
    assert [(stream.name, of_stream(stream), stream.a, stream.b, stream.line) for stream in streams] == [
        ("numpy", "seed by numpy.seed", "'a'", "'b'", 2),
        ("python", "draw by random.random", None, None, 3),
    ]


# environments


def test_environments_are_compared_by_name(tmp_path: Path) -> None:
    def facts(torch: str, **more: Any) -> dict[str, Any]:
        return {"machine": {"cores": 8, "host": "ada"}, "versions": {"torch": torch}, "environment": {}} | more

    def program(lane: LaneBuilder, threads: int) -> None:
        lane.setting("torch.get_num_threads", threads, first=True)
        lane.setting("environ:OMP_NUM_THREADS", str(threads), first=True)
        lane.setting("torch.backends.cudnn.benchmark", threads == 2)
        lane.op("aten.mm.default")

    a = run_of(tmp_path / "a", lambda lane: program(lane, 2), **facts("2.6.0", environment={"MKL_CBWR": "AVX2"}, script_digest="1"))
    others = facts("2.7.1", machine={"cores": 16, "host": "ada"}, script=["train.py", "--lr", "1"], script_digest="2")
    b = run_of(tmp_path / "b", lambda lane: program(lane, 4), plan={"level": "ops", "window": [3, 5]}, **others)
    assert [(difference.name, difference.a, difference.b) for difference in environment_differences(a, b)] == [
        ("environment: MKL_CBWR", "AVX2", None),
        ("machine: cores", "8", "16"),
        ("recorded", "ops", "ops in steps 3-5"),
        ("script", "train.py", "train.py --lr 1"),
        ("script content", "1", "2"),
        ("setting: torch.get_num_threads", "2", "4"),
        ("versions: torch", "2.6.0", "2.7.1"),
    ]
    mirrored = environment_differences(b, a)
    assert [(difference.a, difference.b) for difference in mirrored] == [(d.b, d.a) for d in environment_differences(a, b)]


def test_equal_environments_do_not_differ(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"machine": {"cores": 8}, "versions": {"torch": "2.6.0"}, "environment": {"TZ": "UTC"}}
    a, b = (run_of(tmp_path / name, ends_after(1), pid=pid, **facts) for name, pid in (("a", 1), ("b", 2)))
    assert environment_differences(a, b) == []


def test_runs_that_tell_nothing_of_their_environment_do_not_differ(tmp_path: Path) -> None:
    a, b = (TraceBuilder(tmp_path / name, machine=None, script=None, plan=None).sealed() for name in "ab")
    assert environment_differences(a, b) == []
