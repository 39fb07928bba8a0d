"""Findings that the user has accepted: by a comment beside the line, `# repro-audit: allow RULE because ...`, or in a baseline file."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import UsageError
from auditor.results import Finding, Level
from auditor.trace import files
from auditor.trace.shapes import load

_ALLOW = re.compile(r"#\s*repro-audit:\s*allow\b\s*(?P<rules>[\w*-]+(?:\s*,\s*[\w*-]+)*)?(?:\s+because\b\s*(?P<why>.*))?")
BASELINE_FORMAT = 1


@dataclass(frozen=True)
class Allowance:
    """One comment: which rules it allows, in which lines, and why."""

    file: str
    line: int
    rules: tuple[str, ...]
    why: str
    lines: range


def allowances(file: str, source: str) -> Iterator[Allowance]:
    """The allowances in a file. A comment applies to the whole statement that contains it; on a line of its own, to the next one."""
    if "repro-audit:" not in source:
        return  # nearly every file: parsing it would cost time and repeat Python's warnings about it
    try:
        comments = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT]
        spans = sorted(_spans(ast.parse(source)))
    except (SyntaxError, tokenize.TokenError, ValueError):  # Python refuses this source too, so it did not run
        return
    for comment in comments:
        found = _ALLOW.match(comment.string)
        if found is None:
            continue
        line = comment.start[0]
        alone = comment.line[: comment.start[1]].strip() == ""
        around = [span for span in spans if span[0] <= line <= span[1]]
        following = [span for span in spans if span[0] > line]
        first, last = max(around) if around and not alone else min(following) if following else (line, line)
        rules = tuple(re.split(r"\s*,\s*", found["rules"])) if found["rules"] else ()
        yield Allowance(file, line, rules, (found["why"] or "").strip(), range(first, last + 1))


def _spans(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """First and last line of each statement; of a compound statement, those of its head."""
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno or node.lineno
            yield node.lineno, max(last, node.lineno)


def without_allowed(findings: Sequence[Finding], made: Iterable[Allowance], judged: set[str]) -> list[Finding]:
    """The findings that no allowance silences, and notes on allowances that are wrong or unused.

    `judged` are the rules that were applied: an allowance for any other rule may be used elsewhere.
    """
    silent: set[int] = set()
    notes = []
    for allowance in made:
        if not allowance.rules or not allowance.why:
            lacks = "the rule that it allows" if not allowance.rules else f"why {' and '.join(allowance.rules)} is acceptable here"
            notes.append(_note(allowance, "unreasoned-allowance", "warning", f"the comment does not say {lacks}, so it silences nothing"))
            continue
        for rule in allowance.rules:
            hit = [
                k for k, found in enumerate(findings)
                if found.rule == rule and found.file == allowance.file and found.line in allowance.lines
            ]  # fmt: skip
            silent.update(hit)
            if not hit and rule in judged:
                notes.append(
                    _note(allowance, "unused-allowance", "note", f"{rule} finds nothing here any more, so the allowance is unused")
                )
    return [finding for k, finding in enumerate(findings) if k not in silent] + notes


def _note(allowance: Allowance, rule: str, level: Level, message: str) -> Finding:
    return Finding(
        rule=rule, level=level, file=allowance.file, line=allowance.line, message=message,
        instead="# repro-audit: allow RULE because REASON, or remove the comment",
    )  # fmt: skip


def _key(finding: Finding) -> str:
    """What identifies a finding when lines have moved: the text of its line, not its number."""
    code = " ".join((finding.code or "").split())
    return "\t".join([finding.rule, finding.file or "", code, str(finding.evidence.get("subject", ""))])


def write_baseline(findings: Iterable[Finding], file: Path) -> None:
    """Write today's findings to a file. Raises UsageError `output-unwritable`."""
    entries = [
        {"rule": f.rule, "file": f.file, "code": f.code, "subject": f.evidence.get("subject"), "message": f.message} for f in findings
    ]
    try:
        file.write_text(json.dumps({"format": BASELINE_FORMAT, "findings": entries}, indent=1) + "\n")
    except OSError as error:
        raise UsageError("output-unwritable", f"cannot write {file}: {error.strerror}") from error


def read_baseline(file: Path) -> Counter[str]:
    """The entries of a baseline and their counts. Raises UsageError `bad-baseline`."""
    try:
        read = load(files.read(file.resolve()))
        if read["format"] != BASELINE_FORMAT:
            raise UsageError("bad-baseline", f"{file} has format {read['format']}, this version reads {BASELINE_FORMAT}")
        return Counter(
            _key(
                Finding(rule=e["rule"], level="note", file=e["file"], code=e["code"], message="", evidence={"subject": e["subject"] or ""})
            )
            for e in read["findings"]
        )
    except OSError as error:
        raise UsageError(
            "bad-baseline", f"cannot read the baseline {file}: {error.strerror or error}; create one with --write-baseline"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError("bad-baseline", f"{file} is not a baseline; create one with --write-baseline") from error


def without_baseline(findings: Sequence[Finding], baseline: Counter[str]) -> list[Finding]:
    """The findings that are not in the baseline; each entry accounts for one finding."""
    known = baseline.copy()
    new = []
    for finding in findings:
        key = _key(finding)
        if known[key]:
            known[key] -= 1
        else:
            new.append(finding)
    return new
