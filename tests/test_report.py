"""Every report, over every audit of `audits.py`, compared with the files in `reports/`.

After an intended change, write them again and review the difference: `UPDATE_GOLDEN=1 pytest tests/test_report.py`.
"""

from __future__ import annotations

import inspect
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TextIO, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.cells import cell_len

from auditor.errors import UsageError
from auditor.plugins import factors, reports
from auditor.report import Report
from auditor.report.json import read
from auditor.report.markup.spans import cell, code, text
from auditor.report.story.runs import run_rows
from auditor.report.story.scope import caveat
from auditor.report.story.tail import next_command
from auditor.report.terminal import render_verbose
from auditor.report.words.divergence_facts import MEANINGS
from auditor.report.words.effects import losses
from auditor.report.words.factors import pinned_and_varied
from auditor.report.words.proofs import proof
from auditor.report.words.reasons import text_of
from auditor.report.words.runs import run_names
from auditor.report.words.sides import both_sides
from auditor.report.words.text import percent, plain
from auditor.results import (
    FORMAT,
    Audit,
    Effect,
    Explanation,
    Finding,
    Kind,
    Loss,
    Printed,
    PrintedMetric,
    Reason,
    RuleText,
    RunOutcome,
    Search,
)
from tests.audits import AUDITS, PINNED, VARIED

GOLDEN = Path(__file__).parent / "reports"
REPORTS = reports()
#: Suffix of the names of verbose reports.
VERBOSE = ".verbose.txt"
NAMES = [pytest.param(report, id=name) for name, report in REPORTS.items()]
FIXTURES = list(AUDITS)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

each_report = pytest.mark.parametrize("report", NAMES)
each_audit = pytest.mark.parametrize("fixture", FIXTURES)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without the settings of the terminal in which the tests run."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def rendered(name: str, audit: Audit, out: TextIO | None = None) -> str:
    """The output of a report."""
    stream = out or io.StringIO()
    REPORTS[name].render(audit, stream)
    stream.seek(0)
    return stream.read()


def rendered_verbose(audit: Audit, out: TextIO | None = None) -> str:
    """What the terminal shows under --verbose."""
    stream = out or io.StringIO()
    render_verbose(audit, stream)
    stream.seek(0)
    return stream.read()


def made(fixture: str) -> Audit:
    """A fresh audit: a test may change it."""
    return AUDITS[fixture]()


@each_audit
@each_report
def test_a_report_matches_its_golden_file(report: Report, fixture: str) -> None:
    golden = GOLDEN / f"{fixture}{report.suffix}"
    found = rendered(report.name, made(fixture))
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found, encoding="utf-8", newline="\n")
    assert golden.is_file(), f"{golden.name} is missing: review the report, then run with UPDATE_GOLDEN=1"
    assert found == golden.read_text(encoding="utf-8")


@each_audit
def test_the_verbose_report_matches_its_golden_file(fixture: str) -> None:
    golden = GOLDEN / f"{fixture}{VERBOSE}"
    found = rendered_verbose(made(fixture))
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(found, encoding="utf-8", newline="\n")
    assert golden.is_file(), f"{golden.name} is missing: review the report, then run with UPDATE_GOLDEN=1"
    assert found == golden.read_text(encoding="utf-8")


def test_every_golden_file_is_used() -> None:
    wanted = {f"{fixture}{suffix}" for fixture in FIXTURES for suffix in [*(report.suffix for report in REPORTS.values()), VERBOSE]}
    assert {path.name for path in GOLDEN.iterdir()} == wanted


def test_every_report_has_its_own_files() -> None:
    suffixes = [report.suffix for report in REPORTS.values()]
    assert len(set(suffixes)) == len(suffixes)


@each_report
def test_a_report_takes_only_an_audit_and_a_stream(report: Report) -> None:
    assert list(inspect.signature(report.render).parameters) == ["audit", "out"]
    assert report.suffix.startswith(".")


@each_audit
@each_report
def test_no_report_says_reproducible(report: Report, fixture: str) -> None:
    assert "reproducib" not in rendered(report.name, made(fixture)).lower()


@each_audit
@each_report
def test_a_report_fits_an_ascii_stream(report: Report, fixture: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    assert rendered(report.name, made(fixture), out).strip()


@each_audit
@each_report
def test_no_control_character_of_a_script_reaches_a_report(report: Report, fixture: str) -> None:
    found = rendered(report.name, made(fixture))
    if report.name == "markdown":
        found = found.replace("\n-\t", "\n-").replace("\n+\t", "\n+")  # a patch has tabs where the script has them
    assert all(c == "\n" or ord(c) >= 32 for c in found)
    if report.name != "json":
        assert all(c == "\n" or c.isprintable() for c in found)


@pytest.mark.parametrize("fixture", [fixture for fixture in FIXTURES if not fixture.startswith("hostile")])
def test_json_is_read_back_unchanged(fixture: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text(rendered("json", made(fixture)), encoding="utf-8")
    assert read(path) == made(fixture)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_is_valid_whatever_the_scripts_name(encoding: str, tmp_path: Path) -> None:
    """A name that is not text in any encoding is kept as lone surrogates, which JSON does not have."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    path = tmp_path / "audit.json"
    path.write_text(rendered("json", made("hostile"), out), encoding=encoding)
    audit = read(path)
    assert audit.script[0] == made("hostile").script[0].replace("\udcff", "\\udcff")
    assert audit.verdict == "diverged"


def test_json_of_a_newer_version_loses_nothing(tmp_path: Path) -> None:
    data = json.loads(rendered("json", made("kernel_in_backward")))
    data["from-the-future"] = [{"a": "loss"}]
    data["divergence"]["detail"]["hint"] = 1
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(data))
    assert json.loads(rendered("json", read(path))) == data


@pytest.mark.parametrize(
    ("content", "slug", "said"),
    [
        (None, "audit-unreadable", "No such file"),
        ("", "audit-unreadable", "is not JSON"),
        ("\x00\xff", "audit-unreadable", "is not JSON"),
        ("[" * 100_000, "audit-unreadable", "is not JSON"),
        ("[1]", "audit-unreadable", "no audit"),
        ('{"format": "1", "verdict": "diverged"}', "audit-unreadable", "no audit"),
        ('{"format": true}', "audit-unreadable", "no audit"),
        ('{"format": 1, "verdict": "fine", "script": [], "runs": []}', "audit-unreadable", "verdict: "),
        ('{"format": 1, "verdict": "diverged", "script": []}', "audit-unreadable", "runs: "),
        (f'{{"format": {FORMAT + 1}, "verdict": "unheard of"}}', "audit-newer", f"format {FORMAT + 1}"),
    ],
)
def test_a_file_that_is_not_an_audit_is_refused(content: str | None, slug: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        read(path)
    assert caught.value.slug == slug
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_verdict_comes_first() -> None:
    for fixture, sentence in {
        "kernel_in_backward": "DIVERGED  Intermittent: 5 of 6 pairs of runs differ, first at encoder/train.py:31 ",
        "no_divergence": "NO DIVERGENCE SEEN  2 runs agree in all 5,544 ops and 40 steps compared, with a final loss of",
        "inconclusive": "INCONCLUSIVE  The script fails in both runs after 3 steps: RuntimeError: element 0",
    }.items():
        assert rendered("terminal", made(fixture)).startswith(sentence)


@pytest.mark.parametrize("name", ["terminal", "markdown"])
def test_for_kept_runs_the_environment_is_part_of_the_answer(name: str) -> None:
    audit = made("environments_differ")
    found = " ".join(rendered(name, audit).replace("*", "").split())
    assert found.startswith("DIVERGED monday and friday diverge at encoder/train.py:31")
    assert found.index("differs in 16 facts") < found.index("first divergence")
    assert "14 more (-v)" in found
    shown = " ".join(rendered_verbose(audit).split())
    assert "The environments of monday and friday differ in 16 facts" in shown
    assert "versions: torch 2.12.1 2.13.0" in shown


@each_audit
def test_without_a_terminal_there_are_no_escape_codes(fixture: str) -> None:
    assert "\x1b" not in rendered("terminal", made(fixture))
    assert "\x1b" not in rendered_verbose(made(fixture))


def test_with_no_color_there_are_no_escape_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" in rendered("terminal", made("hostile"), Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in rendered("terminal", made("hostile"), Terminal())


@each_audit
@pytest.mark.parametrize("columns", [40, 60, 80, 120, 160])
def test_no_line_is_longer_than_the_terminal(columns: int, fixture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    assert max(map(cell_len, rendered("terminal", made(fixture), Terminal()).splitlines())) <= columns
    assert max(map(cell_len, rendered_verbose(made(fixture), Terminal()).splitlines())) <= columns


def test_markup_in_a_value_is_text_in_the_terminal() -> None:
    found = rendered("terminal", made("hostile"))
    assert "[red]|`</code></details><script>alert(1)</script> **b** _i_ [x](http://e.vil) \\x1b[31m" in found


@pytest.mark.parametrize("fixture", [fixture for fixture in FIXTURES if not fixture.startswith("hostile")])
def test_the_first_block_is_at_most_eight_lines_and_names_no_run(fixture: str) -> None:
    audit = made(fixture)
    first = rendered("terminal", audit).split("\n\n")[0]
    assert len(first.splitlines()) <= 8
    assert [run.id for run in audit.runs if run.role not in ("kept", "program") and run.id in first] == []


@pytest.mark.parametrize("factor", sorted(factors()))
def test_the_headline_gives_the_cause_of_the_divergence(factor: str) -> None:
    audit = made("proved_by_pinning")
    (cause,) = audit.causes
    because = factors()[factor].because
    audit.causes = [cause.model_copy(update={"factor": factor, "because": because})]
    headline = " ".join(rendered("terminal", audit).split("\n\n")[0].split())
    assert f"because {because} ({factor}" in headline
    assert because[-1] not in ".;"


def test_code_is_framed_once_and_a_reason_is_given_once() -> None:
    audit = made("proved_by_pinning")
    assert audit.divergence is not None
    assert audit.search is not None
    at = {"file": audit.divergence.file, "line": audit.divergence.line, "code": audit.divergence.code}
    audit.findings = [Finding(rule="unsorted-set", level="error", message="m", **at)]
    reason = next(iter(audit.search.left_out.values()))
    audit.notes = [Reason.of("no-gpu-run", why=reason.parameters["why"]), Reason.of("same-ports", ports=[29500])]
    found = rendered("terminal", audit)
    assert (found.count(str(at["code"])), found.count(text_of(reason))) == (1, 1)
    assert "each run uses port 29500" in found
    assert f"a run on a GPU was left out: {text_of(reason)}" in rendered_verbose(audit)


def test_the_effect_names_printed_output_only_if_no_training_is_reached() -> None:
    audit = made("proved_by_pinning")
    assert audit.divergence is not None
    audit.divergence.reaches = ["loss", "number"]
    assert "parameters differ from step 0; final loss" in rendered("terminal", audit)
    audit.divergence.reaches = ["loss", "saved-files"]
    assert "parameters differ from step 0; reaches saved files; final loss" in first_block(audit)
    assert audit.effect is not None
    audit.effect.parameters_from = None
    assert "reaches the loss and saved files from step 0 on; final loss" in first_block(audit)
    audit.divergence.reaches = ["number"]
    assert "reaches no part of the training, only a number that the script reads" in " ".join(rendered("terminal", audit).split())


def test_the_effect_of_a_seed_is_shown_beside_the_divergent_op() -> None:
    audit, draw = made("seed_from_the_clock"), made("draw_in_setup")
    assert audit.divergence is not None
    assert draw.divergence is not None
    audit.divergence.detail.evidence = draw.divergence.detail.evidence
    shown = " ".join(rendered("terminal", audit).split())
    assert "first divergent op torch.manual_seed in setup, draw first visible" in shown
    assert "first visible in aten.randn (clock_seed.py:14); float32 [10, 1, 5]: all 50 elements differ" in shown


def test_a_story_lists_five_of_many_and_all_with_verbose() -> None:
    audit = made("findings_alone")
    audit.findings = [Finding(rule=f"rule-{k}", level="warning", message="m") for k in range(14)]
    found = rendered("terminal", audit)
    assert "and 9 more (-v)" in found
    assert ("rule-4" in found, "rule-5" in found) == (True, False)
    assert "rule-13" in rendered_verbose(audit)


def test_lines_around_a_cause_and_a_divergence_are_shown_once() -> None:
    audit, (cause, divergence) = made("proved_by_pinning"), (9, 12)
    assert audit.divergence is not None
    assert (audit.causes[0].line, audit.divergence.line) == (cause, divergence)

    def numbers(reach: int, code: str) -> list[str]:
        audit.causes[0].around = [(k, code if k != cause else "its line") for k in range(cause - reach, cause + reach + 1)]
        assert audit.divergence is not None
        audit.divergence.around = [(k, code if k != divergence else "its line") for k in range(divergence - reach, divergence + reach + 1)]
        return [line.split("│")[0].strip() for line in rendered("terminal", audit).splitlines() if "│" in line]

    assert numbers(2, "x = 1") == ["7", "8", "9", "", "10", "11", "12", "", "13", "14"]
    assert numbers(3, "x = 1") == ["6", "7", "8", "9", "", "10", "11", "12", "", "13", "14", "15"]
    assert numbers(2, " ") == ["9", "", "12", ""], "blank lines at the ends show nothing"


@pytest.mark.parametrize("name", ["terminal", "markdown"])
@each_audit
def test_a_report_ends_with_a_command_for_the_next_step(name: str, fixture: str) -> None:
    audit = made(fixture)
    command = next_command(audit)
    found = " ".join(rendered(name, audit).split("<details>")[0].split())
    assert ("Next: " in found) == (command is not None)
    if command is not None and not fixture.startswith("hostile"):
        assert " ".join(command[0].split()) in found


def test_every_kind_has_a_description() -> None:
    assert set(MEANINGS) == set(get_args(Kind))


@each_audit
def test_markdown_is_short(fixture: str) -> None:
    found = rendered("markdown", made(fixture))
    most = 125 if fixture == "hostile" else 60
    assert len(found[: found.index("<details>")].splitlines()) < most, "the part that is not folded"
    assert len(found.splitlines()) < most + 35, "with the evidence and the runs"


@each_audit
def test_markdown_tables_are_whole(fixture: str) -> None:
    tokens = MARKDOWN.parse(rendered("markdown", made(fixture)))
    widths: list[set[int]] = []
    for token in tokens:
        if token.type == "table_open":
            widths.append(set())
        elif token.type == "tr_open":
            cells = 0
        elif token.type in ("td_close", "th_close"):
            cells += 1
        elif token.type == "tr_close":
            widths[-1].add(cells)
    assert len(widths) >= 1
    assert all(len(counts) == 1 for counts in widths)
    assert not any("|---" in token.content for token in tokens)


def test_markup_in_a_value_is_text_in_markdown() -> None:
    found = MARKDOWN.render(rendered("markdown", made("hostile")))
    for tag in ("<script", "<a ", "<em>", "<h1", "<strong>b", "<img", "<ol"):
        assert tag not in found
    assert found.count("<details>") == found.count("</details>") == 1
    assert found.count("<summary>") == found.count("</summary>") == 1


@given(st.text(st.characters() | st.sampled_from("\\`|*_[](){}<>#+-=~!&;:.\n 1a"), max_size=40))
def test_any_value_stays_text_in_markdown(value: str) -> None:
    assert MARKDOWN.render(f"- {text(value)}").count("<") == MARKDOWN.render("- x").count("<")
    assert MARKDOWN.render(f"- x {code(value)} y").count("<") <= MARKDOWN.render("- x `c` y").count("<")
    table = f"| {text(value)} | {cell(value)} | last |\n|---|---|---|\n| {cell(value)} | {text(value)} | last |"
    found = MARKDOWN.render(table)
    assert found.count("<th>") == found.count("<td>") == 3
    assert found.count("last") >= 2


@given(st.text(max_size=300), st.integers(1, 100))
def test_plain_text_is_one_short_printable_line(value: str, most: int) -> None:
    found = plain(value, most)
    assert len(found) <= most
    assert found.isprintable()
    assert found.encode() is not None


def alike(name: str, numbers: Iterable[int], pinned: Iterable[str] = (), varied: Iterable[str] = ()) -> list[RunOutcome]:
    """Runs made in the same way; controls if named so."""
    role: Literal["control", "experiment"] = "control" if name == "control" else "experiment"
    return [RunOutcome(id=f"{name}-{k}", role=role, pinned=list(pinned), varied=list(varied), exit=0) for k in numbers]


CONTROLS = alike("control", (1, 2))
WITHOUT_CLOCK = [name for name in PINNED if name != "clock"]


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (
            [*alike("free", (1, 2), WITHOUT_CLOCK), *CONTROLS, *alike("pin", (1, 2), ["clock"])],
            "with clock pinned, pin-1 and pin-2 agree; with all but clock pinned, free-1 and free-2 differ again",
        ),
        (
            [*CONTROLS, *alike("pin", (1, 2), PINNED), *alike("free", (1,), WITHOUT_CLOCK)],
            "with all factors pinned, pin-1 and pin-2 agree; with all but clock pinned, free-1 differs from them",
        ),
        (
            [*alike("pin", range(1, 10), ["threads", "clock"]), *alike("free", range(3, 8), PINNED[8:])],
            "with threads and clock pinned, pin-1 to pin-9 agree; with 9 of 17 factors pinned, free-3 to free-7 do not all agree",
        ),
        (
            [*CONTROLS, *alike("vary", (2,), varied=["clock"]), *alike("vary", (4,), ["clock"], VARIED)],
            (
                "with clock alone varied, vary-2 differs from control-1; "
                "with all factors varied and clock pinned, vary-4 agrees with control-1"
            ),
        ),
        (
            [*CONTROLS, *alike("vary", (2, 3), varied=["clock"])],
            "with clock alone varied, vary-2 and vary-3 differ from control-1",
        ),
        ([*CONTROLS, *alike("pin", (1,), ["clock"])], "by control-1, control-2 and pin-1"),
        (CONTROLS, "by control-1 and control-2"),
        ([], "its runs are not in this audit"),
    ],
)
def test_a_proof_describes_its_runs(runs: list[RunOutcome], said: str) -> None:
    audit = made("proved_by_pinning")
    audit.runs = runs
    assert audit.search is not None
    audit.search.varied = VARIED
    cause = audit.causes[0]
    cause.factor, cause.proof = "clock", [run.id for run in runs]
    assert proof(cause, audit) == said


def test_a_proof_with_a_run_missing_from_the_audit_only_names_its_runs() -> None:
    audit = made("proved_by_pinning")
    audit.causes[0].proof.append("pin-3")
    assert (
        proof(audit.causes[0], audit)
        == "by control-1, control-2, pin-hash-seed-1, pin-hash-seed-2, free-hash-seed-1, free-hash-seed-2 and pin-3"
    )


@pytest.mark.parametrize("name", ["terminal", "markdown"])
def test_a_cause_with_proof_and_remedy_comes_first(name: str) -> None:
    found = " ".join(rendered(name, made("with_patch")).split())
    said = [
        "because Python hashes strings differently (hash-seed at train.py:9)",
        "with hash-seed pinned, 2 reruns agree",
        "with all but hash-seed pinned, 2 reruns differ again",
        "sorted(...) where the set is iterated",
        "first divergence",
        "first divergent op",
        "run twice, and the runs agree",
        "+order = [name for name in sorted(set(names)) if name in table]",
    ]
    places = [found.index(sentence) for sentence in said]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["terminal", "markdown"])
def test_each_of_two_causes_has_its_line_and_its_proof(name: str) -> None:
    found = " ".join(rendered(name, made("two_causes")).split())
    assert "because Python hashes strings differently (hash-seed) and NumPy's generators are seeded differently (numpy-seed)" in found
    first, second = found.rindex("train.py:9"), found.rindex("augment.py:31")
    assert (
        "with hash-seed pinned, 2 reruns no longer differ there; with all but hash-seed pinned, 2 reruns differ again"
        in found[first:second]
    )
    assert (
        "with hash-seed pinned, 2 reruns still differ; "
        "with hash-seed and numpy-seed pinned, 2 reruns agree; "
        "with all but numpy-seed pinned, 2 reruns differ again"
    ) in found[second:]


def test_with_verbose_each_proof_names_its_runs() -> None:
    found = " ".join(rendered_verbose(made("two_causes")).split())
    assert (
        "with hash-seed pinned, pin-hash-seed-1 and -2 no longer differ there; "
        "with all but hash-seed pinned, free-hash-seed-1 and -2 differ again"
    ) in found
    assert (
        "with hash-seed pinned, pin-hash-seed-1 and -2 still differ; "
        "with hash-seed and numpy-seed pinned, pin-hash-seed+numpy-seed-1 and -2 agree; "
        "with all but numpy-seed pinned, free-numpy-seed-1 and -2 differ again"
    ) in found
    assert "run twice, and the runs agree (fix-1 and fix-2)" in found


def test_an_unproved_cause_is_not_stated_as_a_reason() -> None:
    found = " ".join(rendered("terminal", made("not_proved")).split())
    assert "not proved: kernels may be the cause" in found
    assert "may be chance at this rate" in found
    assert "not proved tried in 6 runs" in found
    assert "because" not in found
    for shown in (found, " ".join(rendered_verbose(made("not_proved")).split())):
        assert "proved" not in shown.replace("not proved", "")
        assert "introduced at" not in shown
        assert "introduced here" not in shown.replace("may be introduced here", "")
    assert "not proved tried in control-1, control-2 and pin-kernels-1 to -4" in shown


def test_a_missing_cause_is_reported_only_after_a_search() -> None:
    audit = made("unexplained")
    assert "no cause was found" in rendered("terminal", audit)
    assert "with all 17 factors pinned, reruns still differ" in rendered("terminal", audit)
    audit.search = None
    assert "cause was" not in rendered("terminal", audit)
    assert "because" not in rendered("terminal", audit)


def test_a_partial_cause_is_not_said_to_explain_everything() -> None:
    audit = made("proved_by_pinning")
    assert audit.search is not None
    audit.search.beyond = True
    audit.runs += alike("pin-all", (1, 2), PINNED)
    found = " ".join(rendered("terminal", audit).split())
    assert "(hash-seed at train.py:9); another cause remains that was not found" in found
    assert "also with all 17 factors pinned, reruns still differ" in found
    assert "2 reruns no longer differ there;" in found, "they may differ after it"


def test_a_proved_cause_comes_before_an_unproved_one() -> None:
    audit = made("two_causes")
    audit.causes[0].proved = False
    found = " ".join(rendered("terminal", audit).split())
    assert "because NumPy's generators are seeded differently (numpy-seed); hash-seed may be a cause too" in found
    assert found.index("augment.py:31") < found.index("train.py:9")
    assert "1 of 2 causes" in found


def test_a_possible_rounding_change_is_not_stated_as_certain() -> None:
    audit = made("varied_numerical")
    for cause in audit.causes:
        cause.proved, cause.proof = False, []
    found = rendered("terminal", audit)
    assert "rounding only, not proved" in found
    assert "Of these" not in rendered_verbose(audit)
    assert found.count("not proved: ") == 2


@pytest.mark.parametrize("name", ["terminal", "markdown"])
def test_rounding_that_changes_only_when_varied_is_no_divergence(name: str) -> None:
    found = " ".join(rendered(name, made("varied_numerical")).replace("*", "").split())
    assert found.startswith("NO DIVERGENCE SEEN 2 runs agree in all 5,544 ops and 40 steps compared, with a final loss of 0.0755.")
    assert "because" not in found
    assert "threads and cpu-isa: rounding only" in found
    assert "Not varied: 3 factors (there is no CUDA device here)." in found
    assert "by 3e-07 at most" in found[found.index("Rounding changes only") :]
    shown = " ".join(rendered_verbose(made("varied_numerical")).split())
    assert "Of these, threads and cpu-isa change how results are rounded." in shown
    assert "Not varied: cuda-seed, cudnn-benchmark and tf32 (there is no CUDA device here)." in shown
    other = " ".join(rendered(name, made("varied_logical")).replace("*", "").split())
    assert "because a directory is listed in a different order (file-order at train.py:18)." in other
    assert "control runs" in other
    assert "agree: unchanged runs on this machine do not show it" in other
    assert "on, by 1.2e-07 at most" in other[other.index("Rounding changes only") :]


def test_rounding_that_differs_between_controls_is_the_cause() -> None:
    audit = made("not_proved")
    audit.causes[0].proved = True
    found = rendered("terminal", audit)
    assert "because an op has a nondeterministic kernel (kernels" in " ".join(found.split())
    assert "Rounding changes only" not in found


def test_a_verdict_without_a_divergence_names_what_was_varied_and_what_was_not() -> None:
    for fixture in ("varied_and_agreeing", "varied_numerical"):
        audit = made(fixture)
        said = caveat(audit)
        assert said is not None
        assert said.startswith(f"Varied: {', '.join(VARIED[:-1])} and {VARIED[-1]}.")
        assert said.endswith("may still make a difference.")
        assert audit.search is not None
        assert all(factor in said for factor in audit.search.left_out)


@pytest.mark.parametrize("change", ["```", "\tx = '```'", "</details>", "x  =  1", "--- y", "…"])
def test_a_patch_can_be_copied_from_markdown_unchanged(change: str) -> None:
    audit = made("with_patch")
    patch = audit.causes[0].patch
    assert patch is not None
    patch.diff = patch.diff.replace("order = [name for name in sorted(set(names)) if name in table]", change)
    fences = [token for token in MARKDOWN.parse(rendered("markdown", audit)) if token.type == "fence" and token.info == "diff"]
    assert [token.content for token in fences] == [patch.diff]


def test_a_patch_is_green_and_red_in_the_terminal() -> None:
    found = rendered("terminal", made("with_patch"), Terminal())
    assert "\x1b[31m-\x1b[0m\x1b[31morder = [name for name in set(names)" in found
    assert "\x1b[32m+\x1b[0m\x1b[32morder = [name for name in sorted(set(names))" in found


@pytest.mark.parametrize(("name", "most"), [("terminal", 40), ("markdown", 20)])
def test_an_endless_patch_is_truncated(name: str, most: int) -> None:
    audit = made("with_patch")
    patch = audit.causes[0].patch
    assert patch is not None
    patch.diff += "".join(f"+line {k}\n" for k in range(1000))
    found = rendered(name, audit)
    assert f"... and {1011 - most} more lines" in found
    assert f"+line {most - 12}\n" in found
    assert f"+line {most - 11}\n" not in found


def test_many_runs_are_summarized_and_those_of_the_proof_are_included() -> None:
    audit = made("proved_by_pinning")
    tried = [alike("try", (2 * k + 1, 2 * k + 2), [*PINNED[:k], "tf32"]) for k in range(len(PINNED))]
    audit.runs[4:4] = [run for pair in tried for run in pair]
    for run in audit.runs:
        run.path = f"/srv/runs/{run.id}"
    rows, hidden = run_rows(audit)
    assert len(audit.runs) == 42
    assert sum(len(row.runs) for row in rows) + hidden == 42
    names = [row.name for row in rows]
    assert names[:2] == ["control-1 and control-2", "look-1 and look-2"]
    assert names[-2:] == ["pin-hash-seed-1 and -2", "free-hash-seed-1 and -2"]
    for found, left_out in ((rendered_verbose(audit), hidden), (rendered("markdown", audit), hidden + 8)):
        assert len(found[found.rindex("42 runs of") :].splitlines()) < 45
        assert f"and {left_out} more runs" in found


def test_runs_that_ended_differently_are_shown_separately() -> None:
    audit = made("intermittent_with_interval")
    audit.runs[14].exit, audit.runs[14].error = 1, "ValueError: no"
    audit.runs[15].seconds = 2.5
    assert [(row.name, row.seconds) for row in run_rows(audit)[0]] == [
        ("control-1 to control-10", "3.0 to 3.9"),
        ("pin-thread-timing-1 to -4 and pin-thread-timing-6 to -12", "1.2 to 2.5"),
        ("pin-thread-timing-5", "1.2"),
        ("free-thread-timing-1 to -12", "1.2"),
    ]


def test_the_rate_of_a_fault_has_its_interval() -> None:
    found = " ".join(rendered("terminal", made("intermittent_with_interval")).split())
    assert "Intermittent: 2 of 9 runs differ (95 % CI 6-55 %)" in found
    assert "because threads run in a different order (thread-timing" in found
    shown = " ".join(rendered_verbose(made("intermittent_with_interval")).split())
    assert "2 of 9 runs (control-4 and control-7) diverged from control-1: 22 %, 95 % CI 6-55 %" in shown


@given(st.floats(0, 1))
def test_a_rate_is_0_or_100_percent_only_if_exact(value: float) -> None:
    assert (percent(value) in ("0", "100")) == (value in (0, 1))
    assert abs(float(percent(value)) / 100 - value) <= 0.005 + 1e-12


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["a-1", "a-2"], "a-1 and a-2"),
        (["a-1", "a-2", "a-3", "b"], "a-1 to a-3 and b"),
        (["a-9", "a-10", "a-11", "a-13"], "a-9 to a-11 and a-13"),
        (["a-01", "a-2", "a-3", "a-3"], "a-01, a-2, a-3 and a-3"),
        (["2", "1", "0"], "2, 1 and 0"),
        (["control-1", "control-2"], "control-1 and control-2"),
        (["pin-threads-1", "pin-threads-2"], "pin-threads-1 and -2"),
        (["pin-threads-1", "pin-threads-2", "pin-threads-3"], "pin-threads-1 to -3"),
        (["pin-threads-1", "pin-threads-2", "b"], "pin-threads-1, pin-threads-2 and b"),
        (["pin-threads-1", "pin-threads-2~2"], "pin-threads-1 and pin-threads-2~2"),
        ([], "none"),
    ],
)
def test_consecutive_numbered_runs_are_shown_as_a_range(ids: list[str], said: str) -> None:
    assert run_names(ids) == said


def test_pinned_factors_are_named_briefly() -> None:
    search = Search(pinned=PINNED, varied=VARIED)
    for pinned, varied, said in [
        ([], [], ""),
        (PINNED, [], "all pinned"),
        (PINNED[3:], [], "all pinned but hash-seed, file-order and leftover-files"),
        (PINNED[:8], [], "8 of 17 factors pinned"),
        (["clock"], ["threads"], "clock pinned, threads varied"),
        ([], VARIED, "all varied"),
    ]:
        assert pinned_and_varied(RunOutcome(id="x", pinned=pinned, varied=varied), search) == said
    assert pinned_and_varied(RunOutcome(id="x", pinned=PINNED), None) == "hash-seed, file-order and 15 more pinned"


def first_block(audit: Audit) -> str:
    """The answer, in one line."""
    return " ".join(rendered("terminal", audit).split("\n\n")[0].split())


def test_a_script_that_fails_in_both_runs_is_reported_with_its_line_and_code() -> None:
    audit = made("inconclusive")
    assert "does not have a grad_fn (no_grad_backward.py:9). compared up to there the runs are equal: 3 ops" in first_block(audit)
    assert "9 \u2502 loss.backward()\n    \u2502 both runs fail here\n" in rendered("terminal", audit)
    assert audit.failure is not None
    audit.failure.file = audit.failure.line = None
    audit.failure.steps, audit.failure.error = 0, "ValueError: no"
    assert "INCONCLUSIVE The script fails in both runs: ValueError: no. " in first_block(audit)
    audit.failure = None
    assert "INCONCLUSIVE The script fails in both runs in the same way: RuntimeError" in first_block(audit)


def test_the_headline_gives_two_of_many_causes() -> None:
    audit = made("two_causes")
    for factor in ("clock", "threads"):
        audit.causes.append(audit.causes[0].model_copy(update={"factor": factor, "because": factors()[factor].because}))
    assert "seeded differently (numpy-seed) and 2 more causes." in first_block(audit)
    audit.causes[0].because = ""
    assert "because of hash-seed, numpy-seed, clock and threads." in first_block(audit)


def test_an_explaining_finding_is_named_by_the_title_of_its_rule() -> None:
    audit = made("data_order")
    audit.explained_by = Explanation(rule="twin-threads", relation="line", message="m", file="a.py", line=3)
    assert "because of twin-threads (a.py:3)." in first_block(audit)
    audit.rules = {"twin-threads": RuleText(title="threads write one tensor in turns", why="w")}
    assert "because threads write one tensor in turns (twin-threads at a.py:3)." in first_block(audit)
    audit.explained_by = None
    (cause,) = made("proved_by_pinning").causes
    cause.symptom_of = Explanation(rule="twin-threads", relation="line", message="m", file="a.py", line=3)
    audit.causes = [cause]
    assert "because threads write one tensor in turns (twin-threads at train.py:9)." in first_block(audit)


@pytest.mark.parametrize(("entropy", "said"), [(False, "the seed differs between the runs"), (True, "the seed comes from OS entropy")])
def test_a_seeding_line_is_not_described_as_drawing(entropy: bool, said: str) -> None:
    audit = made("seed_from_the_clock")
    assert audit.divergence is not None
    assert audit.divergence.detail.origin is not None
    audit.divergence.detail.origin.entropy = entropy
    assert f"first divergence: {said}" in rendered("terminal", audit)
    assert "draw different" not in rendered("terminal", audit)
    audit.divergence.detail.origin.how = "draw"
    assert "first divergence: the runs draw different random numbers" in rendered("terminal", audit)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ({"out": '[["float32",[4],null,"cpu"]]'}, {"out": '[["float64",[4],null,"cpu"]]'}, [("result", "float32 [4]", "float64 [4]")]),
        (
            {"out": '[["float32",[4],null,"cpu"],["int64",[2,3],[1,2],"cpu"]]'},
            {"out": '[["float32",[4],null,"cpu"],["int64",[2,3],null,"cuda:0"]]'},
            [("result 2", "int64 [2, 3], stride [1, 2], on cpu", "int64 [2, 3], contiguous, on cuda:0")],
        ),
        ({"out": "[]"}, {"out": '[["float32",[4],null,"cpu"]]'}, [("results", "0", "1")]),
        ({"args": '[[2,3],"dtype","float32"]'}, {"args": '[[2,4],"dtype","float64"]'},
         [("argument 1", "[2, 3]", "[2, 4]"), ("argument dtype", "float32", "float64")]),
        ({"args": "[1]"}, {"args": "[1,null]"}, [("arguments", "1", "1, none")]),
        ({"args": "[]"}, {"args": "[true]"}, [("arguments", "none", "True")]),
        ({"numbers": "0.8"}, {"numbers": "0.9"}, [("number", "0.8", "0.9")]),
        ({"args": "torch-cpu"}, {"args": "numpy"}, [("arguments", "torch-cpu", "numpy")]),
        ({"out": "[[1]]"}, {"out": "[[2]]"}, [("result", "[[1]]", "[[2]]")]),
        ({"out": "[" * 9_000}, {"out": "{}"}, [("result", "[" * 59 + "\u2026", "{}")]),
        ({"file": "a.py", "line": 3}, {"file": "a.py", "line": 4}, [("at", "a.py:3", "a.py:4")]),
        ({"op": "external"}, {"op": "aten.add.Tensor"}, [("op", "external tensor", "aten.add.Tensor")]),
    ],
)  # fmt: skip
def test_known_differences_are_described_and_unknown_ones_shown_unchanged(
    a: dict[str, object], b: dict[str, object], said: list[tuple[str, str, str]]
) -> None:
    divergence = made("argument").divergence
    assert divergence is not None
    divergence.detail.a, divergence.detail.b = {"digest": "1", **a}, {"digest": "2", **b}
    assert both_sides(divergence) == said


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (Loss(step=9, a=0.0755, b=0.0741, final=True), "final loss 0.0755 and 0.0741 (1.9 %)"),
        (Loss(step=9, a=0.0755, b=0.0755, final=True), "final loss 0.0755 in both runs"),
        (Loss(step=9, a=0.0755, b=0.0755), "loss at step 9: 0.0755 in both runs"),
        (Loss(step=9, a=1.0, b=1.0000001, final=True), "final loss 1, with a relative difference of 1e-07 between the runs"),
        (Loss(step=9, a=1.0, b=-1.0, final=True), "final loss 1 and -1 (200 %)"),
        (Loss(step=9, a="nan", b=0.5, final=True), "final loss nan and 0.5"),
        (Loss(step=9, a="nan", b="nan", final=True), "final loss nan in both runs"),
        (Loss(step=9, a=0.0, b=5e-324, final=True), "final loss 0 and 4.94e-324 (100 %)"),
    ],
)
def test_losses_are_shown_with_enough_digits_to_differ(loss: Loss, said: str) -> None:
    assert losses(Effect(runs=[], loss=loss)) == said


def test_the_answer_includes_the_effect_on_the_users_numbers() -> None:
    audit = made("proved_by_pinning")
    assert "effect parameters differ from step 0; final loss 0.0755 and 0.0741 (1.8 %); printed accuracy 93.1% and 92.8%" in first_block(
        audit
    )
    assert audit.effect is not None
    audit.effect.loss = None
    assert "effect parameters differ from step 0; printed accuracy 93.1% and 92.8%, val loss 0.0755 and 0.0741" in first_block(audit)
    audit = made("unexplained")
    assert (
        "effect parameters differ from step 2; final loss 0.0755, with a relative difference of 1e-14 between "
        "the runs; none of the 12 printed loss values differs in the digits shown"
    ) in first_block(audit)
    assert audit.effect is not None
    audit.effect.printed = Printed(compared=1, differing=0, names=["loss"])
    assert "the printed loss is equal in the digits shown" in first_block(audit)
    audit.effect.printed = Printed(compared=9, differing=0, names=["loss", "f1"])
    assert "none of the 9 printed metrics differs in the digits shown" in first_block(audit)
    audit.effect.printed = Printed(compared=9, differing=2, names=["loss"], last=[PrintedMetric(name="loss", a="1.0", b="1.1", line=1)])
    assert "printed loss 1.0 and 1.1" in first_block(audit), "it is another loss than that of the last backward pass"
    assert audit.effect.loss is not None
    audit.effect.loss.a, audit.effect.loss.b = 1.004, 1.104
    assert "2 of 9 printed metrics differ in the digits shown" in first_block(audit)
