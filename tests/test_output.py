"""How reports are written: a new format is one file, a file is whole or as it was, and no encoding ends in a traceback."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import stat
import sys
from pathlib import Path

import pytest

from auditor.config import read_config
from auditor.errors import UsageError
from auditor.output import refuse_unwritable, write_whole
from auditor.plugins import reports
from auditor.report import Report
from auditor.results import Audit, Reason
from tests.audits import AUDITS
from tests.processes import Ended, audited, environment, start

#: A format in one file, which nothing else knows of.
HEADLINE = """
from auditor.report import Report

def render(audit, out):
    from auditor.report.story import story
    out.write(story(audit).headline + "\\n")

REPORT = Report(name="head-line", suffix=".line", render=render, option="write one sentence", metavar="LINE")
"""
#: The command line with one more folder in which formats are found.
WITH_FOLDER = """
import sys
import auditor.report
auditor.report.__path__.append(sys.argv.pop(1))
from auditor.cli import main
main()
"""


def saved(folder: Path, fixture: str = "draw_in_setup") -> None:
    (folder / "audit.json").write_text(AUDITS[fixture]().model_dump_json())


def with_a_format_more(folder: Path, *words: str) -> Ended:
    """The command line where there is a file more among the formats."""
    (folder / "formats").mkdir(exist_ok=True)
    (folder / "formats" / "headline.py").write_text(HEADLINE)
    return start([sys.executable, "-c", WITH_FOLDER, str(folder / "formats"), *words], folder, env=environment(COLUMNS="100"))


def test_a_format_added_as_one_file_gets_an_option_and_writes_its_file(tmp_path: Path) -> None:
    saved(tmp_path)
    for command in ("--help", "run --help", "match --help", "diff --help", "report --help"):
        assert re.search(r"--head-line LINE +write one sentence\n", with_a_format_more(tmp_path, *command.split()).out.decode())
    done = with_a_format_more(tmp_path, "report", "audit.json", "--head-line", "a.line", "--json", "again.json")
    assert done.status == 1, done.said
    assert (tmp_path / "a.line").read_text().startswith("The two runs diverge at lstm_unseeded.py:12")
    assert done.out.startswith(b"DIVERGED  The two runs diverge")
    assert (tmp_path / "again.json").is_file()


def test_a_format_added_as_one_file_is_printed_and_configured_like_the_others(tmp_path: Path) -> None:
    saved(tmp_path)
    done = with_a_format_more(tmp_path, "report", "audit.json", "--format", "head-line")
    assert (done.status, done.out.count(b"\n"), done.err) == (1, 1, b"")
    assert done.out.startswith(b"The two runs diverge")
    assert with_a_format_more(tmp_path, "report", "audit.json", "--head-line", "-").out == done.out
    (tmp_path / "pyproject.toml").write_text('[tool.repro-audit]\nhead-line = "a.line"\nheadline = "b.line"\n')
    done = with_a_format_more(tmp_path, "run", "train.py")
    assert done.said.endswith("headline: Extra inputs are not permitted [bad-config]\n")
    assert "head-line:" not in done.said


@pytest.mark.parametrize("name", reports())
def test_any_report_of_a_kept_audit_can_be_printed(name: str, tmp_path: Path) -> None:
    saved(tmp_path)
    done = audited(tmp_path, "report", "audit.json", "--format", name)
    expected = io.StringIO()
    reports()[name].render(AUDITS["draw_in_setup"](), expected)
    assert (done.status, done.out.decode(), done.err) == (1, expected.getvalue(), b"")


def test_an_unknown_format_is_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path)
    done = audited(tmp_path, "report", "audit.json", "--format", "pdf")
    assert (done.status, done.out) == (2, b"")
    assert done.said == "repro-audit: --format pdf: it is one of json, markdown, terminal [no-such-format]\n"


@pytest.mark.parametrize("words", [(), ("-v",), ("--json", "-"), ("--markdown", "-"), ("--format", "markdown")], ids=" ".join)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_character_missing_from_an_encoding_is_escaped(encoding: str, words: tuple[str, ...], tmp_path: Path) -> None:
    audit = AUDITS["draw_in_setup"]()
    audit.reason = Reason.of("error", slug="größe", message="Größe → ∞ 数")
    audit.verdict, audit.divergence = "inconclusive", None
    (tmp_path / "audit.json").write_text(audit.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "auditor", "report", "audit.json", *words]
    done = start(command, tmp_path, env=environment(PYTHONIOENCODING=encoding))
    assert done.status == 2
    said = done.out.decode(encoding) + done.err.decode(encoding)
    assert "Traceback" not in said
    assert "\\u6570" in said
    assert "INCONCLUSIVE" in said.upper()


def test_a_report_is_printed_in_any_encoding(tmp_path: Path) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Report("odd", ".odd", lambda audit, out: print("∞", audit.script[0], file=out)).print(AUDITS["draw_in_setup"](), out)
    out.seek(0)
    assert out.read() == "\\u221e lstm_unseeded.py\n"


def test_a_file_is_unchanged_if_its_report_fails(tmp_path: Path) -> None:
    def fails(audit: Audit, out: io.TextIOBase) -> None:
        out.write("half of it")
        raise ValueError(audit.verdict)

    (tmp_path / "report").write_text("of yesterday")
    with pytest.raises(ValueError, match="diverged"):
        Report("odd", ".odd", fails).write(AUDITS["draw_in_setup"](), tmp_path / "report")  # type: ignore[arg-type]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"report": "of yesterday"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_target_that_is_not_a_regular_file_is_written_directly(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        write_whole(Path("/dev/full"), b"x")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", b"through the pipe")
    assert os.read(reader, 100) == b"through the pipe"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file, link = tmp_path / "folder" / "audit.json", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    write_whole(link, b"new")
    assert (link.is_symlink(), file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (True, "new", 0o640)
    assert [path.name for path in file.parent.iterdir()] == ["audit.json"]


def test_a_new_file_has_the_users_default_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "new", b"x")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do all")
def test_a_file_in_a_read_only_folder_is_written_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "audit.json").write_text("a longer text of yesterday")
    folder.chmod(0o500)
    try:
        write_whole(folder / "audit.json", b"new")
        assert (folder / "audit.json").read_text() == "new"
        with pytest.raises(PermissionError):
            write_whole(folder / "other.json", b"new")
    finally:
        folder.chmod(0o700)


def test_two_reports_for_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_unwritable([tmp_path / "a", tmp_path / "b", tmp_path / "c" / ".." / "b"])
    assert caught.value.slug == "same-output"
    assert f"two reports cannot both be written to {tmp_path / 'b'}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_project_configures_the_report_files_of_every_audit(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.repro-audit]\njson = "out/audit.json"\nmarkdown = "-"\nstrict = true\n')
    (tmp_path / "deeper").mkdir()
    config = read_config(tmp_path / "deeper")
    assert config.outputs == {"json": tmp_path / "out" / "audit.json", "markdown": Path("-")}
    assert config.strict


@pytest.mark.torch
def test_a_configured_report_is_written_unless_the_command_line_overrides_it(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.repro-audit]\njson = "audit.json"\nmarkdown = "audit.md"\nhost = true\n')
    (tmp_path / "train.py").write_text("print('no torch')\n")
    done = audited(tmp_path, "--json", "other.json", "train.py")
    assert done.status == 2
    audit = json.loads((tmp_path / "other.json").read_text())
    assert (audit["verdict"], audit["provenance"]["machine"]["host"]) == ("inconclusive", platform.node())
    assert (tmp_path / "audit.md").read_text().startswith("**INCONCLUSIVE**")
    assert not (tmp_path / "audit.json").exists()
