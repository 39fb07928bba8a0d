"""Every report, over every audit of `audits.py`, against the files in `reports/`.

After a change that is meant, write them anew and look at the difference: `UPDATE_GOLDEN=1 pytest tests/test_report.py`.
"""

from __future__ import annotations

import inspect
import io
import json
import os
from pathlib import Path
from typing import TextIO, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.cells import cell_len

from auditor.errors import UsageError
from auditor.plugins import reports
from auditor.report import MEANINGS, Report, plain
from auditor.report.json import FORMAT, read
from auditor.report.markdown import cell, code, text
from auditor.results import Audit, Kind
from tests.audits import AUDITS

GOLDEN = Path(__file__).parent / "reports"
REPORTS = reports()
NAMES = [pytest.param(report, id=name) for name, report in REPORTS.items()]
FIXTURES = list(AUDITS)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

each_report = pytest.mark.parametrize("report", NAMES)
each_audit = pytest.mark.parametrize("fixture", FIXTURES)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the terminal in which the tests run."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def rendered(name: str, audit: Audit, out: TextIO | None = None) -> str:
    """What a report writes."""
    stream = out or io.StringIO()
    REPORTS[name].render(audit, stream)
    stream.seek(0)
    return stream.read()


def made(fixture: str) -> Audit:
    """A fresh audit: a test may change it."""
    return AUDITS[fixture]()


@each_audit
@each_report
def test_a_report_is_as_its_golden_file(report: Report, fixture: str) -> None:
    golden = GOLDEN / f"{fixture}{report.suffix}"
    found = rendered(report.name, made(fixture))
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found, encoding="utf-8", newline="\n")
    assert golden.is_file(), f"{golden.name} is missing: look at the report, then UPDATE_GOLDEN=1"
    assert found == golden.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    wanted = {f"{fixture}{report.suffix}" for fixture in FIXTURES for report in REPORTS.values()}
    assert {path.name for path in GOLDEN.iterdir()} == wanted


def test_reports_have_files_of_their_own() -> None:
    suffixes = [report.suffix for report in REPORTS.values()]
    assert len(set(suffixes)) == len(suffixes)


@each_report
def test_a_report_is_given_an_audit_and_a_stream_and_nothing_else(report: Report) -> None:
    assert list(inspect.signature(report.render).parameters) == ["audit", "out"]
    assert report.why
    assert report.suffix.startswith(".")


@each_audit
@each_report
def test_no_report_says_reproducible(report: Report, fixture: str) -> None:
    assert "reproducib" not in rendered(report.name, made(fixture)).lower()


@each_audit
@each_report
def test_a_report_fits_a_stream_that_has_only_ascii(report: Report, fixture: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    assert rendered(report.name, made(fixture), out).strip()


@each_audit
@each_report
def test_nothing_that_a_script_says_reaches_a_report_as_a_control_character(report: Report, fixture: str) -> None:
    found = rendered(report.name, made(fixture))
    assert all(c == "\n" or ord(c) >= 32 for c in found)
    if report.name != "json":
        assert all(c == "\n" or c.isprintable() for c in found)


@pytest.mark.parametrize("fixture", [fixture for fixture in FIXTURES if fixture != "hostile"])
def test_json_is_read_back_as_it_was(fixture: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text(rendered("json", made(fixture)), encoding="utf-8")
    assert read(path) == made(fixture)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_is_json_whatever_the_script_is_called(encoding: str, tmp_path: Path) -> None:
    """A name that is no text in any encoding is held as lone surrogates, which JSON does not have."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    path = tmp_path / "audit.json"
    path.write_text(rendered("json", made("hostile"), out), encoding=encoding)
    audit = read(path)
    assert audit.script[0] == made("hostile").script[0].replace("\udcff", "\\udcff")
    assert audit.verdict == "diverged"


def test_json_of_a_newer_version_loses_nothing(tmp_path: Path) -> None:
    data = json.loads(rendered("json", made("kernel_in_backward")))
    data["names"] = [{"a": "loss"}]
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
def test_a_file_that_is_no_audit_is_refused(content: str | None, slug: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        read(path)
    assert caught.value.slug == slug
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_verdict_stands_first() -> None:
    for fixture, sentence in {
        "kernel_in_backward": "DIVERGED  control-1 and control-2 differ, first at encoder/train.py:31 ",
        "no_divergence": "NO DIVERGENCE SEEN  in 2 runs of 5,544 ops",
        "inconclusive": "COULD NOT TELL  the script failed in both runs alike",
    }.items():
        assert rendered("terminal", made(fixture)).startswith(sentence)


@pytest.mark.parametrize("name", ["terminal", "markdown"])
def test_of_kept_runs_the_environment_is_said_before_the_verdict(name: str) -> None:
    found = rendered(name, made("environments_differ"))
    assert found.startswith("The environments of monday and friday differ in 16 facts")
    assert found.index("versions: torch") < found.index("DIVERGED")


@each_audit
def test_there_are_no_escape_codes_where_there_is_no_terminal(fixture: str) -> None:
    assert "\x1b" not in rendered("terminal", made(fixture))


def test_there_are_no_escape_codes_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" in rendered("terminal", made("hostile"), Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in rendered("terminal", made("hostile"), Terminal())


@each_audit
@pytest.mark.parametrize("columns", [40, 80, 100, 160])
def test_no_line_is_longer_than_the_terminal(columns: int, fixture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    assert max(map(cell_len, rendered("terminal", made(fixture), Terminal()).splitlines())) <= columns


def test_markup_in_a_value_is_text_in_the_terminal() -> None:
    found = rendered("terminal", made("hostile"))
    assert "[red]|`</code></details><script>alert(1)</script> **b** _i_ [x](http://e.vil) \\x1b[31m" in found


def test_every_kind_has_a_meaning() -> None:
    assert set(MEANINGS) == set(get_args(Kind))


@each_audit
def test_markdown_is_short(fixture: str) -> None:
    assert len(rendered("markdown", made(fixture)).splitlines()) < 60


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
def test_plain_text_is_one_short_line_of_what_can_be_printed(value: str, most: int) -> None:
    found = plain(value, most)
    assert len(found) <= most
    assert found.isprintable()
    assert found.encode() is not None
