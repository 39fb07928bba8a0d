"""Digests of files: a run reads each state of a file once, and never reads more than its limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from auditor.compare import compare
from auditor.record import contents
from auditor.record.contents import Contents
from tests.builder import TraceBuilder
from tests.findings import judged

_ENTRY = 24


def readings(spool: Path) -> int:
    """How often a file was read for its digest, by all processes that share this folder."""
    return (spool / "contents").stat().st_size // _ENTRY


def old(path: Path, data: bytes) -> Path:
    """A file with timestamps in the past, as far as a program may set them."""
    path.write_bytes(data)
    os.utime(path, (1, 1))
    return path


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was just written can only change again at a later clock tick."""
    monkeypatch.setattr(contents, "_SETTLED", -1_000_000_000)


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_read_once_by_all_processes_of_a_run(tmp_path: Path) -> None:
    one, other = Contents(str(tmp_path)), Contents(str(tmp_path))
    files = [old(tmp_path / f"{k}.bin", bytes([k]) * 1000) for k in range(20)]
    for _ in range(3):
        for file in files:
            for process in (one, other, Contents(str(tmp_path))):
                known = process.of(str(file))
                assert known is not None
                assert (known.digest, known.size) == (xxh3_64_intdigest(file.read_bytes()), 1000)
    assert readings(tmp_path) == 20


@pytest.mark.usefixtures("settled")
def test_a_changed_file_is_read_again_but_not_another_name_of_the_same_file(tmp_path: Path) -> None:
    known = Contents(str(tmp_path))
    file = old(tmp_path / "a", b"one")
    first = known.of(str(file))
    file.rename(tmp_path / "b")
    file.write_bytes(b"two")
    second = known.of(str(file))
    assert first is not None
    assert second is not None
    assert (first.digest, second.digest) == (xxh3_64_intdigest(b"one"), xxh3_64_intdigest(b"two"))
    os.link(tmp_path / "a", tmp_path / "c")  # a link changes the status time of the file, not its content
    third = known.of(str(tmp_path / "c"))
    assert third is not None
    assert third.digest == second.digest


def test_a_file_written_twice_within_a_clock_tick_is_read_twice(tmp_path: Path) -> None:
    known = Contents(str(tmp_path))
    for k in range(100):
        (tmp_path / "state").write_bytes(b"%03d" % k)
        found = known.of(str(tmp_path / "state"))
        assert found is not None
        assert found.digest == xxh3_64_intdigest(b"%03d" % k)


def test_a_run_reads_no_more_than_its_limit_and_keeps_known_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "BOUND", 2500)
    monkeypatch.setattr(contents, "_SETTLED", -1_000_000_000)
    files = [old(tmp_path / f"{k}.bin", bytes([k]) * 1000) for k in range(4)]
    for process in (Contents(str(tmp_path)), Contents(str(tmp_path))):
        seen = [process.of(str(file)) for file in files]
        assert [known is not None and known.digest is not None for known in seen] == [True, True, False, False]
    assert readings(tmp_path) == 2


def test_a_very_large_file_is_digested_by_its_size_and_its_ends(tmp_path: Path) -> None:
    known = Contents(str(tmp_path))
    digests = set()
    for name, size, ends in (
        ("a", contents.WHOLE_FILE + 1, b"x"),
        ("b", contents.WHOLE_FILE + 1, b"y"),
        ("c", contents.WHOLE_FILE + 2, b"x"),
    ):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
            file.seek(size - 1)
            file.write(ends)
        content = known.of(str(tmp_path / name))
        assert content is not None
        assert content.partial
        digests.add(content.digest)
    assert len(digests) == 3
    assert known._spent <= 6 << 20


def test_a_file_without_stable_content_has_no_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    known = Contents(str(tmp_path))
    assert [known.of(str(path)) for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing", Path("/dev/null"))] == [None] * 4


# files that a run wrote itself


def run_of(tmp_path: Path, name: str, content: str, changed_at: int, *, elsewhere: bool = False) -> TraceBuilder:
    """A run that writes a file, in its main lane or another, reads it, and makes a tensor of its content."""
    run = TraceBuilder(tmp_path / name)
    main = run.lane("main")
    writer = run.lane("thread 1") if elsewhere else main
    writer.event("file", line=1, path="state.json", op="write", mode="w", opened_at=10**18)
    main.event("file", line=2, path="state.json", op="read", mode="r", changed_at=changed_at, digest=xxh3_64_intdigest(content.encode()))
    main.external(digest=content)
    main.op("aten.exp.default", digest=content, line=3)
    return run


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_file_that_the_run_itself_wrote_is_not_a_differing_input(elsewhere: bool, tmp_path: Path) -> None:
    a, b = (run_of(tmp_path, name, name, changed_at=10**18 + 5, elsewhere=elsewhere).sealed() for name in "ab")
    divergence = compare(a, b).divergence
    assert divergence is not None
    assert divergence.detail.files == []


def test_a_leftover_file_is_a_differing_input_even_if_this_run_writes_it_too(tmp_path: Path) -> None:
    a, b = (run_of(tmp_path, name, name, changed_at=10**18 - 10**9).sealed() for name in "ab")
    divergence = compare(a, b).divergence
    assert divergence is not None
    assert [(file.path, file.op, file.what) for file in divergence.detail.files] == [("state.json", "read", "other-content")]


def test_a_read_without_a_digest_is_not_compared(tmp_path: Path) -> None:
    def program(name: str, **facts: object) -> TraceBuilder:
        run = TraceBuilder(tmp_path / name)
        lane = run.lane("main")
        lane.event("file", line=1, path="data.bin", op="read", mode="rb", changed_at=0, **facts)
        lane.op("aten.exp.default", digest=name, line=2)
        return run

    divergence = compare(program("a", digest=1).sealed(), program("b").sealed()).divergence
    assert divergence is not None
    assert divergence.detail.files == []


@pytest.mark.parametrize(
    ("writer", "opened_at", "rule"),
    [("thread 1", -5, "file-read-back"), ("thread 1", 10**9, "leftover-file"), ("main", 10, "leftover-file")],
)
def test_a_file_is_left_over_unless_this_run_wrote_it_before(writer: str, opened_at: int, rule: str, tmp_path: Path) -> None:
    """Between threads the time of opening decides; within a thread the order does, however coarse the clocks."""
    for name in ("file-read-back", "leftover-file"):
        run = TraceBuilder(tmp_path / name)
        main = run.lane("main")
        main.event("file", line=1, path="state.json", op="read", mode="r", changed_at=10**18, digest=1)
        lane = run.lane(writer) if writer != "main" else main
        lane.event("file", line=2, path="state.json", op="write", mode="w", opened_at=10**18 + opened_at)
        assert [finding.line for finding in judged(name, run.sealed())] == [1] * (name == rule)


def test_a_file_that_one_run_wrote_and_the_other_found_is_a_changing_input(tmp_path: Path) -> None:
    runs = []
    for name, opened_at in (("first", 5), ("second", 10**10)):
        run = TraceBuilder(tmp_path / name)
        lane = run.lane("main")
        if name == "first":
            lane.event("file", line=1, path="state.json", op="write", mode="w", opened_at=opened_at)
        lane.event("file", line=2, path="state.json", op="read", mode="r", changed_at=10**9, digest=len(name))
        lane.op("aten.exp.default", digest=name, line=3)
        lane.event("file", line=4, path="state.json", op="write", mode="w", opened_at=opened_at + 1)
        runs.append(run.sealed())
    divergence = compare(*runs).divergence
    assert divergence is not None
    assert [(file.path, file.what) for file in divergence.detail.files] == [("state.json", "other-content")]
    assert [finding.line for finding in judged("changing-input", *runs)] == [2]
