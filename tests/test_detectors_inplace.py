"""In-place writes: on memory that overlaps itself, on memory shared with NumPy, and through a repeated index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.builder import LaneBuilder, Tensor, TraceBuilder
from tests.findings import found, judged, places

# overlapping-write


WRITES: list[tuple[str, list[int], list[int] | None, bool]] = [
    ("aten.add_.Tensor", [4, 3], [1, 1], True),
    ("aten.copy_.default", [5, 4], [2, 1], True),
    ("aten.add_.Tensor", [4, 5], [1, 2], True),
    ("aten.index_put_.default", [4, 3], [0, 1], True),
    ("aten.masked_fill_.Scalar", [4, 3], [0, 1], True),
    ("aten.tril_.default", [4, 3], [0, 1], True),
    ("aten.__ior__.Tensor", [4, 3], [1, 1], True),
    ("aten.add.out", [4, 3], [1, 1], True),
    ("aten._foreach_add_.Scalar", [4, 3], [1, 1], True),
    # one value, wherever it is written
    ("aten.fill_.Scalar", [4, 3], [0, 1], False),
    ("aten.zero_.default", [4, 3], [1, 1], False),
    # through windows, a value where a mask says so
    ("aten.masked_fill_.Scalar", [4, 3], [1, 1], False),
    # no overlap: a transpose, a diagonal, a column, adjacent windows, one row repeated once, nothing at all
    ("aten.add_.Tensor", [4, 3], [1, 4], False),
    ("aten.add_.Tensor", [4], [5], False),
    ("aten.add_.Tensor", [2, 2], [2, 3], False),
    ("aten.add_.Tensor", [3, 2], [3, 4], False),
    ("aten.add_.Tensor", [1, 3], [0, 1], False),
    ("aten.add_.Tensor", [4, 0], [0, 1], False),
    ("aten.add_.Tensor", [4, 3], None, False),
    # no write
    ("aten.add.Tensor", [4, 3], [0, 1], False),
    ("aten.expand.default", [4, 3], [0, 1], False),
    ("aten.t_.default", [4, 3], [0, 1], False),
    ("aten.__and__.Tensor", [4, 3], [0, 1], False),
    ("aten.randint.default", [4, 3], [0, 1], False),
]


def test_a_write_to_a_view_whose_elements_overlap_is_found_where_it_matters(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for line, (op, shape, stride, _) in enumerate(WRITES, 2):
            lane.op(op, lane.external(line=1), shape=shape, stride=stride, dtype="complex64", line=line)

    lines = {finding.line for finding in found(tmp_path, "overlapping-write", program)}
    assert [(*write[:3], line in lines) for line, write in enumerate(WRITES, 2)] == WRITES


def test_an_extension_op_writes_what_its_schema_says(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external(line=1)
        lane.op("mylib.fused_adam.default", x, shape=[4, 3], stride=[1, 1], line=2, schema={"writes": [0]})
        lane.op("mylib.windows_.default", x, shape=[4, 3], stride=[1, 1], line=3, schema={"view": True})

    assert places(found(tmp_path, "overlapping-write", program)) == [(2, 1)]


def test_an_overlapping_write_in_a_loop_is_one_finding_that_describes_the_overlap(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external(line=1)
        for size in (3, 4, 4):
            x = lane.op("aten.add_.Tensor", x, shape=[5, size], stride=[1, 1], line=2)
        lane.op("aten.index_put_.default", x, shape=[2, 3, 4], stride=[0, 0, 1], line=3)

    findings = found(tmp_path, "overlapping-write", program)
    assert places(findings) == [(2, 3), (3, 1)]
    assert "shape [5, 3], stride [1, 1]" in findings[0].message
    assert "6 elements of the view share each element of memory" in findings[1].message


def test_writes_by_the_backward_pass_or_by_libraries_are_no_overlapping_writes(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.op("aten.add_.Tensor", shape=[4, 3], stride=[0, 1])
        lane.phase = "backward"
        lane.op("aten.add_.Tensor", x, shape=[4, 3], stride=[0, 1], line=4)

    assert found(tmp_path, "overlapping-write", program) == []


# shared-memory-write


def shared(lane: LaneBuilder, cwd: Path, code: str) -> Tensor:
    """A tensor that the script creates at this line."""
    source = cwd / "train.py"
    lines = source.read_text().splitlines() if source.exists() else []
    source.write_text("\n".join([*lines, code]) + "\n")
    lane.file = str(source)
    tensor = lane.external(line=len(lines) + 1)
    lane.op("aten.lift_fresh.default", tensor, line=len(lines) + 1)
    return tensor


TENSORS: list[tuple[str, str, str | None]] = [
    ("x = torch.from_numpy(array)", "aten.add_.Tensor", "array"),
    ("return torch.from_numpy(self.data[i]), 1", "aten.copy_.default", "self.data[i]"),
    ("x = torch.from_dlpack(array)", "aten.__ior__.Tensor", "array"),
    ("array_t = from_numpy(array)", "aten.add_.Tensor", "array"),
    # no other name refers to it
    ("x = torch.from_numpy(x)", "aten.add_.Tensor", None),
    ("self.x = torch.from_numpy(x)", "aten.add_.Tensor", None),
    ("x = torch.from_numpy(array.copy())", "aten.add_.Tensor", None),
    ("x = torch.from_numpy(np.stack(rows))", "aten.add_.Tensor", None),
    # memory that is not NumPy's
    ("x = torch.tensor([1.0, 2.0])", "aten.add_.Tensor", None),
    ("state = torch.load(path)", "aten.add_.Tensor", None),
    ("for x in loader:", "aten.sub_.Tensor", None),
    # no write
    ("x = torch.from_numpy(array)", "aten.add.Tensor", None),
    ("x = torch.from_numpy(array)", "aten.unsqueeze_.default", None),
]


def test_a_write_into_the_memory_of_a_named_numpy_array_is_found_once(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for line, (code, op, _) in enumerate(TENSORS, 101):
            x = shared(lane, tmp_path, code)
            for _ in range(3):
                x = lane.op(op, x, line=line)

    arrays = {finding.line: finding.evidence["array"] for finding in found(tmp_path, "shared-memory-write", program)}
    assert [(code, op, arrays.get(line)) for line, (code, op, _) in enumerate(TENSORS, 101)] == TENSORS


def test_a_copied_array_has_its_own_memory_and_a_loop_over_arrays_is_one_finding(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for _ in range(3):
            x = shared(lane, tmp_path, "x = torch.from_numpy(array)")
            copied = lane.op("aten.clone.default", x, line=8)
            lane.op("aten.add_.Tensor", copied, line=8)
            lane.op("aten.add_.Tensor", x, line=9)

    assert places(found(tmp_path, "shared-memory-write", program)) == [(9, 3)]


# repeated-index-write


def added(lane: LaneBuilder, there: list[int], took: list[int], op: str = "aten.add_.Tensor", line: int = 2, args: object = (1,)) -> None:
    """`x[i] += 1` as torch executes it."""
    x, index = lane.external(there, line=1), lane.external(dtype="int64", line=1)
    taken = lane.op("aten.index.Tensor", x, index, shape=took, line=line)
    total = lane.op(op, taken, line=line)
    lane.op("aten.index_put_.default", x, index, total, shape=there, args=list(args) if isinstance(args, tuple) else args, line=line)


def test_an_index_with_more_entries_than_elements_repeats(tmp_path: Path) -> None:
    indices = [([4], [5], True), ([4, 3], [50, 3], True), ([4], [4], False), ([4], [3], False), ([], [1], False), ([0], [0], False)]

    def program(lane: LaneBuilder) -> None:
        for _ in range(2):
            for line, (there, took, _) in enumerate(indices, 2):
                added(lane, there, took, line=line)

    assert places(found(tmp_path, "repeated-index-write", program)) == [(line, 2) for line, index in enumerate(indices, 2) if index[2]]


def test_accumulating_writes_and_writes_without_addition_lose_nothing(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        added(lane, [4], [50], args=[1, True])
        added(lane, [4], [50], op="aten.mul.Tensor")
        x, index, fresh = lane.external([4], line=1), lane.external([50], line=1), lane.external([50], line=1)
        lane.op("aten.index_put_.default", x, index, fresh, shape=[4], args=[1], line=3)
        lane.op("aten.index_put_.default", None, index, None, shape=[4], line=4)

    assert found(tmp_path, "repeated-index-write", program) == []


def test_an_index_of_several_dimensions_is_followed_too(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x, rows, columns = lane.external([2, 2], line=1), lane.external([9], line=1), lane.external([9], line=1)
        taken = lane.op("aten.index.Tensor", x, rows, columns, shape=[9], line=2)
        total = lane.op("aten.add_.Tensor", taken, line=2)
        lane.op("aten.index_put_.default", x, rows, columns, total, shape=[2, 2], args=[2], line=2)

    assert places(found(tmp_path, "repeated-index-write", program)) == [(2, 1)]


# order-dependent-write


def measured(lane: LaneBuilder, what: str, changed: int) -> None:
    """What the recorder measured of the last op."""
    lane.event("measured", what=what, values=4, changed=changed)


def test_an_order_dependent_write_is_found_where_it_was_measured(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x, index, values = lane.op("aten.zeros.default", shape=[3], line=1), lane.external([4], line=1), lane.external([4], line=1)
        for _ in range(2):
            lane.op("aten.index_put_.default", x, index, values, line=2)
            measured(lane, "order", 1)
        lane.op("aten.index_put_.default", x, index, values, line=3)
        lane.op("aten._to_copy.default", x, line=4)
        measured(lane, "cast", 3)

    (finding,) = found(tmp_path, "order-dependent-write", program)
    assert (finding.line, finding.count) == (2, 2)
    assert "aten.index_put_.default writes 4 values" in finding.message


def test_lost_additions_are_not_also_reported_as_order_dependent(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x, index = lane.op("aten.zeros.default", shape=[3], line=1), lane.external([4], line=1)
        taken = lane.op("aten.index.Tensor", x, index, shape=[4], line=2)
        lane.op("aten.index_put_.default", x, index, lane.op("aten.add_.Tensor", taken, line=2), shape=[3], line=2)
        measured(lane, "order", 1)

    assert found(tmp_path, "order-dependent-write", program) == []
    assert places(found(tmp_path / "again", "repeated-index-write", program)) == [(2, 1)]


# in-place-needed-for-backward


def trained(lane: LaneBuilder, op: str, write: str | None, *, goes_back: bool, reads: str = "written") -> None:
    """`a = op(w); a.write(); a.sum().backward()`; torch refuses the backward pass or does not notice the write."""
    w = lane.external([3], line=1)
    lane.phase = "forward"
    a = lane.op(op, w, line=2, node=1)
    written = lane.op(write, a, line=3) if write else a
    loss = lane.op("aten.sum.default", written, shape=[], line=4, node=2)
    lane.event("backward", 5, root=loss.number, graph=True)
    lane.phase = "backward"
    one = lane.op("aten.expand.default", lane.op("aten.ones_like.default", loss, line=5), line=5, node=2)
    if goes_back:
        lane.op("aten.mul.Tensor", one, {"written": written, "input": w}[reads], line=5, node=1)
        lane.event("step", None, step=0)


def test_memory_overwritten_before_the_backward_pass_reads_it_is_found(tmp_path: Path) -> None:
    (finding,) = found(
        tmp_path, "in-place-needed-for-backward", lambda lane: trained(lane, "aten.exp.default", "aten.add_.Tensor", goes_back=True)
    )
    assert finding.line == 3
    assert "aten.add_.Tensor overwrites here what the backward pass of aten.exp.default in train.py:2 needs" in finding.message
    assert "is wrong" in finding.message


def test_a_backward_pass_that_torch_refuses_names_the_write(tmp_path: Path) -> None:
    (finding,) = found(
        tmp_path, "in-place-needed-for-backward", lambda lane: trained(lane, "aten.exp.default", "aten.add_.Tensor", goes_back=False)
    )
    assert finding.line == 3
    assert "torch raises an error" in finding.message


def test_a_write_that_no_backward_pass_needs_is_not_reported(tmp_path: Path) -> None:
    programs: list[Callable[[LaneBuilder], object]] = [
        lambda lane: trained(lane, "aten.exp.default", None, goes_back=True),
        lambda lane: trained(lane, "aten.mul.Tensor", "aten.add_.Tensor", goes_back=True, reads="input"),
        lambda lane: trained(lane, "aten.add.Tensor", "aten.add_.Tensor", goes_back=False),
        lambda lane: trained(lane, "aten.exp.default", "aten.detach_.default", goes_back=False),
    ]
    for k, program in enumerate(programs):
        assert found(tmp_path / str(k), "in-place-needed-for-backward", program) == []


# interleaved-thread-writes, unordered-shared-updates


def test_threads_that_write_a_tensor_in_turns_are_found(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "run")
    x = run.lane().op("aten.zeros.default", line=1)
    one, two = run.lane("thread 1"), run.lane("thread 2")
    for lane in (one, two, one, two):
        x = lane.op("aten.add_.Tensor", x, line=2)
    (finding,) = judged("interleaved-thread-writes", run.sealed())
    assert finding.line == 2
    assert "thread 1 and thread 2 alternately write one tensor" in finding.message


def test_handing_a_tensor_over_once_is_not_reported(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "run")
    main = run.lane()
    x = main.op("aten.zeros.default", line=1)
    for number in (1, 2, 3):
        x = run.lane(f"thread {number}").op("aten.add_.Tensor", x, line=2)
        x = main.op("aten.mul_.Tensor", x, line=3)
    assert judged("interleaved-thread-writes", run.sealed()) == []


def processes(path: Path, *, shared: bool, training: int, kind: str = "process") -> TraceBuilder:
    """A run whose main process shares a tensor and starts three more, some of which train."""
    run = TraceBuilder(path)
    main = run.lane()
    if shared:
        main.event("shared", 3)
        main.event("shared", 4)
    for number in range(1, 4):
        lane = run.lane(f"{kind} {number}")
        lane.op("aten.add_.Tensor", line=7)
        if number <= training:
            lane.step(loss=0.5)
            lane.step(loss=0.4)
    return run


def test_processes_that_train_shared_memory_are_found(tmp_path: Path) -> None:
    (finding,) = judged("unordered-shared-updates", processes(tmp_path / "a", shared=True, training=2).sealed())
    assert (finding.line, finding.count) == (3, 4)
    assert "process 1 and process 2 train the parameters shared here" in finding.message


def test_processes_that_only_compute_or_share_nothing_are_not_reported(tmp_path: Path) -> None:
    assert judged("unordered-shared-updates", processes(tmp_path / "a", shared=True, training=1).sealed()) == []
    assert judged("unordered-shared-updates", processes(tmp_path / "b", shared=False, training=3).sealed()) == []
    assert judged("unordered-shared-updates", processes(tmp_path / "c", shared=True, training=3, kind="worker").sealed()) == []
