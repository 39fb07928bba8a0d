"""The test script of a rule: its comments mark the lines on which the rule must find something, and those on which it must not.

    value = np.random.rand()  # finds: unseeded-numpy-draw
    value = rng.normal()  # ok: unseeded-numpy-draw

A mark on a line of its own above all code expects a finding without a line. `# runs: 2` there requests a second run, for rules that compare
runs.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import UsageError
from auditor.results import Finding

_MARK = re.compile(r"(finds|ok):\s*([a-z0-9-]+(?:\s*,\s*[a-z0-9-]+)*)")
_RUNS = re.compile(r"#\s*runs:\s*(\d+)")
_NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.STRING, tokenize.ENCODING, tokenize.INDENT)


@dataclass(frozen=True)
class RuleScript:
    """The lines on which rules must find something (`finds`) or nothing (`silent`): pairs of rule and line; None for no line."""

    path: Path
    finds: frozenset[tuple[str, int | None]]
    silent: frozenset[tuple[str, int | None]]
    runs: int = 1

    def complaints(self, rule: str, findings: Iterable[Finding]) -> list[str]:
        """Where the findings of a rule differ from the marks, one sentence each; empty if they agree."""
        wanted = {line for name, line in self.finds if name == rule}
        found = {finding.line for finding in findings if finding.rule == rule}
        said = []
        if not wanted:
            said.append(f"{self.path.name} has no line marked '# finds: {rule}'")
        if not any(name == rule for name, _ in self.silent):
            said.append(f"{self.path.name} has no line marked '# ok: {rule}', on which the rule must find nothing")
        said += [f"{rule} finds nothing {_where(self.path, line)}" for line in sorted(wanted - found, key=_none_first)]
        said += [f"{rule} finds something {_where(self.path, line)}" for line in sorted(found - wanted, key=_none_first)]
        return said


def _none_first(line: int | None) -> int:
    return line or 0


def _where(path: Path, line: int | None) -> str:
    return f"in {path.name}:{line}" if line is not None else f"without a line in {path.name}"


def read_rule_script(path: Path) -> RuleScript:
    """Read the marks of a script. Raises UsageError `no-rule-test` if it does not exist or is not Python."""
    try:
        source = path.read_text("utf-8")
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except FileNotFoundError as error:
        raise UsageError("no-rule-test", f"the rule has no test script: {path} does not exist") from error
    except (OSError, UnicodeDecodeError, tokenize.TokenError, SyntaxError) as error:
        raise UsageError("no-rule-test", f"{path} cannot be read as Python: {error}") from error
    marks: dict[str, set[tuple[str, int | None]]] = {"finds": set(), "ok": set()}
    runs = 1
    in_head = True
    for token in tokens:
        in_head = in_head and token.type in _NO_CODE
        if token.type != tokenize.COMMENT:
            continue
        for word, rules in _MARK.findall(token.string):
            marks[word].update((rule, None if in_head else token.start[0]) for rule in re.split(r"\s*,\s*", rules))
        if in_head and (found := _RUNS.match(token.string)):
            runs = int(found[1])
    return RuleScript(path, frozenset(marks["finds"]), frozenset(marks["ok"]), runs)
