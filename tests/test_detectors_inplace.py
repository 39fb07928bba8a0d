"""In-place writes: on memory that overlaps itself, that NumPy shares, and through an index that repeats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from auditor import pipeline, plugins
from auditor.judge import judge
from auditor.results import Finding
from auditor.trace.tables import Tables
from tests.builder import LaneBuilder, Tensor, TraceBuilder


def found(tmp_path: Path, rule: str, program: Callable[[LaneBuilder], object]) -> list[Finding]:
    """What a shipped rule finds in a run that was written by hand, beside an empty lane."""
    run = TraceBuilder(tmp_path / "run")
    program(run.lane())
    run.lane("thread 1")
    with Tables(run.sealed()) as tables:
        return judge([tables], [pipeline.one_rule(rule).rule], plugins.detectors())


def places(findings: list[Finding]) -> list[tuple[int | None, int]]:
    return [(finding.line, finding.count) for finding in findings]


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
    # no overlap: a transpose, a diagonal, a column, windows side by side, one row repeated once, nothing at all
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


def test_a_write_is_found_where_elements_of_the_view_share_memory_and_it_matters(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for line, (op, shape, stride, _) in enumerate(WRITES, 2):
            lane.op(op, lane.external(line=1), shape=shape, stride=stride, dtype="complex64", line=line)

    lines = {finding.line for finding in found(tmp_path, "overlapping-write", program)}
    assert [(*write[:3], line in lines) for line, write in enumerate(WRITES, 2)] == WRITES


def test_an_overlapping_write_in_a_loop_is_one_finding_that_says_how_it_overlaps(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external(line=1)
        for size in (3, 4, 4):
            x = lane.op("aten.add_.Tensor", x, shape=[5, size], stride=[1, 1], line=2)
        lane.op("aten.index_put_.default", x, shape=[2, 3, 4], stride=[0, 0, 1], line=3)

    findings = found(tmp_path, "overlapping-write", program)
    assert places(findings) == [(2, 3), (3, 1)]
    assert "shape [5, 3], stride [1, 1]" in findings[0].message
    assert "each of its elements stands for 6" in findings[1].message


def test_what_the_backward_pass_and_the_library_by_themselves_write_is_no_overlapping_write(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.op("aten.add_.Tensor", shape=[4, 3], stride=[0, 1])
        lane.phase = "backward"
        lane.op("aten.add_.Tensor", x, shape=[4, 3], stride=[0, 1], line=4)

    assert found(tmp_path, "overlapping-write", program) == []


# shared-memory-write


def shared(lane: LaneBuilder, cwd: Path, code: str) -> Tensor:
    """A tensor that the script makes in this line."""
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
    # nobody has another name for it
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


def test_a_write_into_the_memory_of_a_named_array_is_found_once(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for line, (code, op, _) in enumerate(TENSORS, 101):
            x = shared(lane, tmp_path, code)
            for _ in range(3):
                x = lane.op(op, x, line=line)

    arrays = {finding.line: finding.evidence["array"] for finding in found(tmp_path, "shared-memory-write", program)}
    assert [(code, op, arrays.get(line)) for line, (code, op, _) in enumerate(TENSORS, 101)] == TENSORS


def test_a_copy_of_an_array_has_memory_of_its_own_and_a_loop_over_arrays_is_one_finding(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for _ in range(3):
            x = shared(lane, tmp_path, "x = torch.from_numpy(array)")
            copied = lane.op("aten.clone.default", x, line=8)
            lane.op("aten.add_.Tensor", copied, line=8)
            lane.op("aten.add_.Tensor", x, line=9)

    assert places(found(tmp_path, "shared-memory-write", program)) == [(9, 3)]


# repeated-index-write


def added(lane: LaneBuilder, there: list[int], took: list[int], op: str = "aten.add_.Tensor", line: int = 2, args: object = (1,)) -> None:
    """`x[i] += 1` as torch does it."""
    x, index = lane.external(there, line=1), lane.external(dtype="int64", line=1)
    taken = lane.op("aten.index.Tensor", x, index, shape=took, line=line)
    total = lane.op(op, taken, line=line)
    lane.op("aten.index_put_.default", x, index, total, shape=there, args=list(args) if isinstance(args, tuple) else args, line=line)


def test_an_index_that_took_more_than_there_is_repeats(tmp_path: Path) -> None:
    indices = [([4], [5], True), ([4, 3], [50, 3], True), ([4], [4], False), ([4], [3], False), ([], [1], False), ([0], [0], False)]

    def program(lane: LaneBuilder) -> None:
        for _ in range(2):
            for line, (there, took, _) in enumerate(indices, 2):
                added(lane, there, took, line=line)

    assert places(found(tmp_path, "repeated-index-write", program)) == [(line, 2) for line, index in enumerate(indices, 2) if index[2]]


def test_accumulating_or_writing_what_does_not_add_loses_nothing(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        added(lane, [4], [50], args=[1, True])
        added(lane, [4], [50], op="aten.mul.Tensor")
        x, index, fresh = lane.external([4], line=1), lane.external([50], line=1), lane.external([50], line=1)
        lane.op("aten.index_put_.default", x, index, fresh, shape=[4], args=[1], line=3)
        lane.op("aten.index_put_.default", None, index, None, shape=[4], line=4)

    assert found(tmp_path, "repeated-index-write", program) == []


def test_an_index_of_several_dimensions_is_followed_as_well(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x, rows, columns = lane.external([2, 2], line=1), lane.external([9], line=1), lane.external([9], line=1)
        taken = lane.op("aten.index.Tensor", x, rows, columns, shape=[9], line=2)
        total = lane.op("aten.add_.Tensor", taken, line=2)
        lane.op("aten.index_put_.default", x, rows, columns, total, shape=[2, 2], args=[2], line=2)

    assert places(found(tmp_path, "repeated-index-write", program)) == [(2, 1)]
