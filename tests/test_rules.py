"""Rules: how their files are read, what they find, what the user may accept, and their test scripts."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor import pipeline, plugins
from auditor.detectors import Detector, Hit
from auditor.errors import UsageError
from auditor.judge import Rule, accepted, chosen, judge, load_rules, read_baseline, schema, without_baseline, write_baseline
from auditor.judge.conditions import FIELDS, Match
from auditor.judge.rule_script import read_rule_script
from auditor.results import Finding
from auditor.trace.tables import Tables
from tests.builder import LaneBuilder, TraceBuilder
from tests.processes import audited, write

RULES = pipeline.shipped_rules()
SHIPPED = sorted(RULES.glob("*.yaml"))

WHOLE: dict[str, Any] = {
    "id": "some-fault", "title": "a fault", "why": "because", "level": "warning", "match": {"kind": "draw"},
    "message": "{op} draws {count} times",
    "instead": "do not", "false-positives": "none", "references": ["https://example.org"], "tags": ["random-streams"],
}  # fmt: skip


def rule_of(**changes: Any) -> Rule:
    """A rule like the one above with these keys changed; None removes a key."""
    return Rule.model_validate({key: value for key, value in (WHOLE | changes).items() if value is not None}, strict=True)


def folder_of(path: Path, **files: str) -> Path:
    """A folder with these rule files."""
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name.replace('_', '-')}.yaml").write_text(textwrap.dedent(text).lstrip("\n"))
    return path


def write_beside(folder: Path, **sources: str) -> None:
    """Test scripts of rules, whose names have hyphens."""
    for name, source in sources.items():
        (folder / f"{name.replace('_', '-')}.py").write_text(textwrap.dedent(source).lstrip("\n"))


def faults(folder: Path) -> list[str]:
    """The errors in the rules of a folder, each without the folder's name."""
    with pytest.raises(UsageError) as caught:
        load_rules([folder], plugins.detectors())
    assert caught.value.slug == "bad-rule"
    first, *rest = caught.value.message.splitlines()
    assert first == "the rules cannot be used:"
    return [line.removeprefix(f"{folder}/") for line in rest]


def found(tmp_path: Path, program: Callable[[LaneBuilder], None], rule: Rule, **facts: Any) -> list[Finding]:
    """The findings of a rule in a hand-written run."""
    run = TraceBuilder(tmp_path / "run", **facts)
    program(run.lane())
    with Tables(run.sealed()) as tables:
        return judge([tables], [rule], plugins.detectors())


# files


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_rule_has_all_required_parts(path: Path) -> None:
    rules = load_rules([RULES], plugins.detectors())
    rule = rules[path.stem].rule
    assert rule.title[-1] not in ".!"
    assert rule.message[-1] not in ".!"
    script = read_rule_script(path.with_suffix(".py"))
    assert any(name == rule.id for name, _ in script.finds)
    assert any(name == rule.id for name, _ in script.silent)


def test_every_script_in_the_rules_folder_belongs_to_a_rule() -> None:
    assert {path.stem for path in RULES.glob("*.py")} == {path.stem for path in SHIPPED}


def test_every_error_of_every_file_is_reported_at_once_with_its_position(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "rules",
        first="""
            id: first
            title: a fault
            why: because
            level: fatal
            match:
              kind: drow
              stepp: 1
            message: "{nothing}"
            instead: do not
            references: [http://example.org]
            tags: [x]
            color: red
            """,
        second="id: second\n  title: no",
        third="- a\n- b\n",
        fourth="""
            id: other-name
            title: a fault
            why: because
            level: note
            detector: never-seeeded
            message: m
            instead: i
            false-positives: f
            references: ["https://example.org"]
            tags: [x]
            tags: [y]
            """,
        fifth="""
            id: fifth
            title: a fault
            why: because
            level: note
            detector: never-seeded
            params:
              streams: [torch-cpu]
              since: 3
            message: "{stream} by {whom}"
            instead: i
            false-positives: f
            references: ["https://example.org"]
            tags: [x]
            """,
    )
    said = faults(folder)
    assert [line.split(": ", 1)[0] for line in said] == [
        "fifth.yaml:8:3", "fifth.yaml:9:1",
        "first.yaml:4:1", "first.yaml:6:3", "first.yaml:7:3", "first.yaml:1:1", "first.yaml:10:14", "first.yaml:12:1",
        "fourth.yaml:11:1", "fourth.yaml:5:1", "fourth.yaml:1:1",
        "second.yaml:2:8", "third.yaml:1:1",
    ]  # fmt: skip
    assert "there is no key color" in said[7]
    assert "false-positives is missing" in said[5]
    assert "did you mean never-seeded?" in said[9]
    assert "tags occurs twice" in said[8]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a rule is a mapping"),
        ("id: !!python/object/apply:os.system [true]\n", "not valid YAML for a rule"),
        ("id: 'some-fault\n", "not YAML"),
        ("id: 1e3\n", "id:"),
        ("id: a\n\tb: x\n", "not YAML"),
        ("&a a: *b\n", "not YAML"),
    ],
)
def test_an_invalid_rule_is_reported_in_a_sentence_and_never_executed(text: str, said: str, tmp_path: Path) -> None:
    assert said in faults(folder_of(tmp_path / "rules", some_fault=text))[0]


def test_files_that_are_not_text_and_paths_that_are_not_folders_are_reported(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rules")
    (folder / "x.yaml").write_bytes(b"id: \xff\xfe")
    assert "not UTF-8" in faults(folder)[0]
    with pytest.raises(UsageError, match=r"not a folder of rules \[no-such-rules\]"):
        load_rules([tmp_path / "nowhere"], {})


def test_two_rules_with_the_same_name_are_refused(tmp_path: Path) -> None:
    text = yaml.safe_dump(WHOLE)
    folder_of(tmp_path / "a", some_fault=text)
    folder_of(tmp_path / "b", some_fault=text)
    with pytest.raises(UsageError, match="is also in"):
        load_rules([tmp_path / "a", tmp_path / "b"], {})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"match": None}, "either match or detector"),
        ({"detector": "never-seeded"}, "either match or detector"),
        ({"params": {"a": 1}}, "this rule has none"),
        ({"match": {}}, "would match every event"),
        ({"match": {"step": {}}}, "at least one of"),
        ({"match": {"all": []}}, "at least 1 item"),
        ({"message": "{whom}"}, "there is no {whom}"),
        ({"id": "Some_Fault"}, "pattern"),
        ({"references": []}, "at least 1 item"),
    ],
)
def test_a_contradictory_rule_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rule_of(**changes)


def test_the_schema_names_all_keys_and_all_fields() -> None:
    made = schema()
    assert json.loads(json.dumps(made)) == made
    assert {"id", "match", "detector", "false-positives"} <= set(made["properties"])
    assert set(FIELDS) <= set(made["$defs"]["Match"]["properties"])
    assert made["additionalProperties"] is False


def test_rules_are_selected_by_name_glob_and_tag(tmp_path: Path) -> None:
    rules = load_rules([RULES], plugins.detectors())
    assert [rule.id for rule in chosen(rules, ["unseeded-*"], ["unseeded-torch-draw"])] == ["unseeded-numpy-draw", "unseeded-python-draw"]
    assert {tag for rule in chosen(rules, ["settings"], []) for tag in rule.tags} >= {"settings"}
    assert len(chosen(rules, [], [])) == len(SHIPPED)
    assert chosen(rules, [], ["*"]) == []
    with pytest.raises(UsageError, match=r"did you mean cudnn-benchmark\? \[no-such-rule\]"):
        chosen(rules, ["cudnn-bench"], [])


# conditions


def write_events(lane: LaneBuilder) -> None:
    lane.setting("torch.backends.cudnn.benchmark", False, initial=True)
    lane.seed("torch-cpu", 3, line=1)
    x = lane.external([2], line=2)
    lane.phase = "forward"
    lane.module = "Net.0"
    x = lane.op("aten.relu.default", x, line=3)
    lane.setting("torch.backends.cudnn.benchmark", True, line=4)
    lane.draw("numpy", "numpy.rand", "s", line=5)
    lane.step()
    lane.op("aten.mm.default", x, x, line=3, dtype="float64", args=[1])
    lane.read("data.csv", "c", line=6)


TEXTS = {
    "op": ["aten.relu.default", "aten.*", "numpy.rand", "read"],
    "stream": ["torch-cpu", "num*"],
    "path": ["*.csv"],
    "value": ["true", "'3'", "3"],
}
CONDITIONS = st.recursive(
    st.one_of(
        st.sampled_from(["op", "external", "draw", "seed", "setting", "file"]).map(lambda kind: {"kind": kind}),
        st.sampled_from([(field, text) for field, texts in TEXTS.items() for text in texts]).map(lambda pair: {pair[0]: pair[1]}),
        st.sampled_from([{"op": ["aten.mm.default", "read"]}, {"op": {"no": "aten.*"}}, {"stream": {"no": ["numpy", "torch-*"]}}]),
        st.sampled_from([{"step": 1}, {"step": {"ge": 1}}, {"line": {"gt": 2, "lt": 6}}, {"line": {"ne": 3}}]),
        st.sampled_from([{"initial": False}, {"phase": "forward"}]),
    ),
    lambda inner: st.builds(
        lambda word, some: {word: some}, st.sampled_from(["all", "any", "none"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip


def fits(row: dict[str, Any], match: dict[str, Any]) -> bool | None:
    """The meaning of a condition, restated without SQL; None where a value is missing."""
    parts: list[bool | None] = []
    for field, wanted in match.items():
        if field in ("all", "any"):
            inner = [fits(row, one) for one in wanted]
            decisive = field == "any"
            parts.append(decisive if decisive in inner else None if None in inner else not decisive)
        elif field == "none":
            parts += [not fits(row, one) for one in wanted]
        else:
            parts.append(test(row[field], wanted))
    return False if False in parts else None if None in parts else True


def test(value: Any, wanted: Any) -> bool | None:
    if isinstance(wanted, dict) and "no" in wanted:
        return not test(value, wanted["no"])
    if value is None:
        return None
    if isinstance(wanted, list):
        return any(test(value, one) for one in wanted)
    if isinstance(wanted, dict):
        signs: dict[str, Callable[[Any, Any], bool]] = {
            "ge": lambda a, b: a >= b, "gt": lambda a, b: a > b, "lt": lambda a, b: a < b, "ne": lambda a, b: a != b,
        }  # fmt: skip
        return all(signs[sign](value, limit) for sign, limit in wanted.items())
    return fnmatchcase(value, wanted) if isinstance(wanted, str) else bool(value == wanted)


test.__test__ = False  # type: ignore[attr-defined]  # one field's test, not one of ours


@pytest.fixture(scope="module")
def event_tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    run = TraceBuilder(tmp_path_factory.mktemp("happened") / "run")
    write_events(run.lane())
    return Tables(run.sealed())


@settings(max_examples=60, deadline=None)
@given(match=CONDITIONS)
def test_a_condition_matches_what_it_means(event_tables: Tables, match: dict[str, Any]) -> None:
    everything = event_tables.query('SELECT * FROM "all"')
    wanted = {(row["file"], row["line"]) for row in everything if fits(row, match)}
    written = {"match": Match.model_validate(match, strict=True).model_dump(exclude_unset=True)}
    findings = judge([event_tables], [rule_of(**written, **{"needs-line": False})], {})
    assert {(finding.file, finding.line) for finding in findings} == wanted
    assert sum(finding.count for finding in findings) == sum(bool(fits(row, match)) for row in everything)
    of_the_user = judge([event_tables], [rule_of(**written)], {})
    assert {(finding.file, finding.line) for finding in of_the_user} == {place for place in wanted if place[1] is not None}


def test_text_of_a_rule_never_becomes_sql(event_tables: Tables) -> None:
    evil = "x' OR 1=1; DROP TABLE events; --"
    assert judge([event_tables], [rule_of(match={"op": evil}), rule_of(match={"file": f"*{evil}"})], {}) == []
    assert len(event_tables.query("SELECT * FROM events")) == 5


def test_a_fault_in_a_loop_is_one_finding_with_a_count(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        for k in range(5):
            lane.draw("numpy", "numpy.rand", f"s{k}", line=7)
        lane.draw("numpy", "numpy.rand", "other", line=8)

    findings = found(tmp_path, program, rule_of())
    assert [(f.line, f.count, f.message) for f in findings] == [
        (7, 5, "numpy.rand draws 5 times"), (8, 1, "numpy.rand draws 1 times"),
    ]  # fmt: skip
    assert findings[0].evidence["stream"] == "numpy"


def test_a_rule_that_fails_is_noted_and_the_others_are_applied(event_tables: Tables) -> None:
    def fails(_runs: Sequence[Tables], _params: object) -> Iterator[Hit]:
        raise ZeroDivisionError("of all things")

    broken = Detector("broken", fails, plugins.detectors()["varying-seed"].params, frozenset())
    rules = [rule_of(match=None, detector="broken", message="m"), rule_of(id="other", match={"kind": "seed"})]
    first, second = judge([event_tables], rules, {"broken": broken})
    assert (first.rule, second.rule) == ("other", "some-fault")
    assert second.message == "the rule could not be applied: ZeroDivisionError: of all things"


def test_an_interrupt_during_a_query_does_not_count_as_a_failing_rule(event_tables: Tables) -> None:
    def asks(runs: Sequence[Tables], _params: object) -> Iterator[Hit]:
        runs[0]._ask(interrupted)
        yield from ()

    def interrupted() -> None:  # DuckDB's error for an exception in a signal handler; whether it notices in time is chance
        raise RuntimeError("Query interrupted")

    long = Detector("long", asks, plugins.detectors()["varying-seed"].params, frozenset())
    with pytest.raises(KeyboardInterrupt):
        judge([event_tables], [rule_of(match=None, detector="long", message="m")], {"long": long})


# allowances


def script_with(tmp_path: Path, source: str) -> tuple[Path, list[int]]:
    text = textwrap.dedent(source).lstrip("\n")
    (tmp_path / "train.py").write_text(text)
    return tmp_path, [number for number, line in enumerate(text.splitlines(), 1) if "rand(" in line]


def judged(tmp_path: Path, source: str) -> list[tuple[str, int | None]]:
    """Findings of a rule on every line that calls rand, except those that the source allows."""
    cwd, lines = script_with(tmp_path, source)
    run = TraceBuilder(tmp_path / "run", cwd=str(cwd))
    lane = run.lane()
    lane.file = str(cwd / "train.py")
    for k, line in enumerate(lines):
        lane.draw("numpy", "numpy.rand", f"s{k}", line=line)
    lane.op("aten.ones.default", line=1)
    with Tables(run.sealed()) as tables:
        rule = rule_of()
        return [(f.rule, f.line) for f in accepted(judge([tables], [rule], {}), tables, [rule])]


def test_an_allowance_silences_only_its_statement(tmp_path: Path) -> None:
    source = """
        a = rand()  # repro-audit: allow some-fault because it is shown only
        b = rand()
        # repro-audit: allow some-fault because the next statement may
        c = sum(
            rand() for _ in range(3)
        )
        d = sum([
            rand(),  # repro-audit: allow some-fault, other-fault because of both
            rand(),
        ])
        for e in rand():  # repro-audit: allow some-fault because only the head
            f = rand()
        """
    assert judged(tmp_path, source) == [("some-fault", 2), ("some-fault", 12)]


def test_an_allowance_without_a_rule_or_a_reason_silences_nothing_and_is_reported(tmp_path: Path) -> None:
    source = """
        a = rand()  # repro-audit: allow some-fault
        b = rand()  # repro-audit: allow some-fault because
        c = rand()  # repro-audit: allow because I say so
        """
    assert judged(tmp_path, source) == [*(("some-fault", n) for n in (1, 2, 3)), *(("unreasoned-allowance", n) for n in (1, 2, 3))]


def test_an_unused_allowance_is_noted_unless_its_rule_was_not_applied(tmp_path: Path) -> None:
    source = """
        a = 1  # repro-audit: allow some-fault because it once was
        b = 2  # repro-audit: allow other-fault because this run did not ask
        c = "# repro-audit: allow some-fault because this is a text"
        """
    assert judged(tmp_path, source) == [("unused-allowance", 1)]


def test_a_baseline_excludes_its_findings_even_if_lines_moved_and_shows_new_ones(tmp_path: Path) -> None:
    def finding(line: int, code: str, rule: str = "some-fault", file: str = "train.py") -> Finding:
        return Finding(rule=rule, level="error", file=file, line=line, code=code, message="m")

    before = [finding(3, "x = rand()"), finding(4, "y = rand()"), finding(9, "x = rand()")]
    write_baseline(before, tmp_path / "baseline.json")
    same = [finding(13, "x  =  rand()"), finding(14, "y = rand()"), finding(19, "x = rand()")]
    assert without_baseline(same, read_baseline(tmp_path / "baseline.json")) == []
    new = [
        finding(20, "x = rand()"),
        finding(5, "z = rand()"),
        finding(4, "y = rand()", rule="other"),
        finding(4, "y = rand()", file="b.py"),
    ]
    assert without_baseline([*same, *new], read_baseline(tmp_path / "baseline.json")) == new


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 9, "findings": []}', '{"format": 1, "findings": [{}]}', None])
def test_an_invalid_baseline_is_reported(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "b.json").write_text(text)
    with pytest.raises(UsageError, match=r"\[bad-baseline\]"):
        read_baseline(tmp_path / "b.json")


# detectors


def test_lanes_have_their_own_seeds_but_threads_and_forks_share_the_main_lanes(tmp_path: Path) -> None:
    rule = load_rules([RULES], plugins.detectors())["unseeded-numpy-draw"].rule
    for name, seeded, drawn, expected in (
        ("nobody", [], ["main"], 1), ("in time", ["main"], ["main"], 0), ("thread", ["main"], ["thread 1"], 0),
        ("worker seeded", ["worker 0"], ["worker 0"], 0), ("only the worker", ["worker 0"], ["main"], 1),
        ("the main one", ["main"], ["worker 0"], 0),
    ):  # fmt: skip
        run = TraceBuilder(tmp_path / name)
        lanes = {lane: run.lane(lane) for lane in dict.fromkeys(["main", *seeded, *drawn])}
        for lane in seeded:
            lanes[lane].seed("numpy", 1, function="numpy.seed")
        for lane in drawn:
            lanes[lane].draw("numpy", "numpy.rand", "s", line=4)
        with Tables(run.sealed()) as tables:
            assert len(judge([tables], [rule], plugins.detectors())) == expected, name


def test_a_varying_seed_is_found_with_its_likely_source(tmp_path: Path) -> None:
    rule = load_rules([RULES], plugins.detectors())["varying-seed"].rule

    def run(name: str, pid: int, started: float, values: Sequence[object]) -> Tables:
        made = TraceBuilder(tmp_path / name, pid=pid, started=started)
        lane = made.lane()
        for line, value in enumerate(values, 1):
            lane.seed("torch-cpu", value, line=line)
        return Tables(made.sealed())

    pair = [run("a", 71, 1e9, [71, 1e9 + 3, (1e9 + 3) * 1e9, 5, 12345]), run("b", 72, 2e9, [72, 2e9 + 3, (2e9 + 3) * 1e9, 5, 54321])]
    findings = judge(pair, [rule], plugins.detectors())
    assert [f.line for f in findings] == [1, 2, 3, 5]
    assert [f.message.partition("in the other")[2] for f in findings] == [
        ", which is the process id", ", which is the clock's time in seconds", ", which is the clock's time in nanoseconds", "",
    ]  # fmt: skip
    assert judge(pair[:1], [rule], plugins.detectors()) == []


# the command line


def test_rules_are_listed_checked_explained_and_published(tmp_path: Path) -> None:
    listed = audited(tmp_path, "rules", "list")
    assert listed.status == 0, listed.said
    assert all(f" {path.stem} ".encode() in listed.out for path in SHIPPED)
    assert audited(tmp_path, "rules", "check").out == f"{len(SHIPPED)} rules, and nothing wrong with them\n".encode()
    published = audited(tmp_path, "rules", "schema")
    assert json.loads(published.out) == schema()
    unknown = audited(tmp_path, "explain", "unseeded-numpy")
    assert (unknown.status, unknown.out) == (2, b"")
    assert "did you mean unseeded-numpy-draw?" in unknown.said
    folder_of(tmp_path / "own", bad="id: bad\n")
    wrong = audited(tmp_path, "rules", "check", "own")
    assert wrong.status == 2
    assert wrong.said.count("own/bad.yaml:1:1") == 8


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_rule_is_explained_with_an_example(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    from auditor.pipeline.rulebook import print_rule

    print_rule(pipeline.one_rule(path.stem), sys.stdout)
    text = capsys.readouterr().out
    assert all(f"\n{head}\n" in text for head in ("Why", "Instead", "No fault", "Documented in"))
    assert max(map(len, text.splitlines())) <= 140
    assert f"allow {path.stem} because" in text


def test_an_sql_query_reads_only_the_run(tmp_path: Path) -> None:
    run = TraceBuilder(tmp_path / "run")
    write_events(run.lane())
    run.sealed()
    asked = audited(
        tmp_path, "query", "run", "SELECT kind, count(*) AS n FROM \"all\" WHERE kind IN ('op', 'draw') GROUP BY kind ORDER BY kind"
    )
    assert asked.out == b"kind\tn\ndraw\t1\nop\t2\n"
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for evil in (
        "SELECT * FROM read_csv('secret.csv')", "COPY (SELECT 1) TO 'out.csv'", "SELECT 1; SELECT 2",
        "WITH x AS (COPY (SELECT 1) TO 'out.csv') SELECT 1",
        "ATTACH 'out.db'", "SET enable_external_access = true", "DELETE FROM events", "SELECT nonsense", "",
    ):  # fmt: skip
        refused = audited(tmp_path, "query", "run", evil)
        assert refused.status == 2, evil
        assert "[bad-query]" in refused.said
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.torch
def test_findings_are_part_of_the_audit_and_options_select_them(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import numpy as np
            import torch

            torch.manual_seed(0)
            np.random.rand(3)  # drawn, and never used
            torch.set_float32_matmul_precision("high")
            torch.ones(2)
            """,
    )
    first = audited(tmp_path, "--effort", "compare", "--json", "a.json", "train.py")
    assert first.status == 1
    findings = json.loads((tmp_path / "a.json").read_text())["findings"]
    assert [(f["rule"], f["level"], f["file"], f["line"]) for f in findings] == [
        ("unseeded-numpy-draw", "error", "train.py", 5), ("reduced-matmul-precision", "warning", "train.py", 6),
    ]  # fmt: skip
    assert b"but with 1 error and 1 warning" in first.out
    assert audited(tmp_path, "--effort", "compare", "--ignore", "random-streams", "train.py").status == 0
    assert audited(tmp_path, "--effort", "compare", "--write-baseline", "known.json", "train.py").status == 1
    assert audited(tmp_path, "--effort", "compare", "--baseline", "known.json", "--write-baseline", "again.json", "train.py").status == 0
    assert (tmp_path / "again.json").read_text() == (tmp_path / "known.json").read_text()
    early = audited(tmp_path, "--baseline", "nowhere.json", "train.py")
    assert early.status == 2
    assert early.said.startswith("repro-audit: cannot read the baseline nowhere.json")  # before the script is run
    unwritable = audited(tmp_path, "--write-baseline", "no/such/folder.json", "train.py")
    assert (unwritable.status, "control-1" in unwritable.said) == (2, False)
    (tmp_path / "pyproject.toml").write_text('[tool.repro-audit]\nbaseline = "known.json"\n')
    again = audited(tmp_path, "--effort", "compare", "train.py")
    assert (again.status, b"1 error" in again.out, b"1 warning" in again.out) == (0, False, False)
    (tmp_path / "pyproject.toml").write_text('[tool.repro-audit]\nselect = ["settings"]\nfail-on = "warning"\n')
    assert audited(tmp_path, "--effort", "compare", "train.py").status == 1
    (tmp_path / "pyproject.toml").write_text('[tool.repro-audit]\nselekt = ["settings"]\nfail-on = "never"\n')
    wrong = audited(tmp_path, "train.py")
    assert wrong.status == 2
    assert "selekt" in wrong.said
    assert "[bad-config]" in wrong.said


@pytest.mark.torch
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_rule_finds_exactly_the_marked_lines_of_its_test_script(path: Path, tmp_path: Path) -> None:
    assert pipeline.complaints_of(pipeline.one_rule(path.stem)) == []


@pytest.mark.torch
def test_a_user_rule_is_tested_on_its_script_and_deviations_are_reported(tmp_path: Path) -> None:
    own = folder_of(tmp_path / "own", some_fault=yaml.safe_dump(WHOLE | {"match": {"kind": "op", "op": "aten.sin.*"}}))
    write_beside(
        own,
        some_fault="""
            import torch

            torch.ones(1).sin()  # finds: some-fault
            torch.ones(1).cos()  # ok: some-fault
            """,
    )
    good = audited(tmp_path, "rules", "test", "own")
    assert (good.status, good.out) == (0, b"passed  some-fault\n"), good.said
    write_beside(
        own,
        some_fault="""
            import torch

            torch.ones(1).sin()
            torch.ones(1).cos()  # finds: some-fault
            """,
    )
    bad = audited(tmp_path, "rules", "test", "own")
    assert bad.status == 1
    assert bad.out.decode().splitlines() == [
        "failed  some-fault",
        "        some-fault.py has no line marked '# ok: some-fault', on which the rule must find nothing",
        "        some-fault finds nothing in some-fault.py:4",
        "        some-fault finds something in some-fault.py:3",
    ]
