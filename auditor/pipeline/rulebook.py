"""Rules and factors as a person reads them: `repro-audit rules list`, `repro-audit explain RULE`, `repro-audit factors`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TextIO

from auditor.factors import Factor
from auditor.judge import LEVELS, Rule, RuleFile

_WIDTH = 100


def print_rules(rules: Iterable[Rule], out: TextIO) -> None:
    """One line a rule, the worst level first."""
    listed = sorted(rules, key=lambda rule: (LEVELS.index(rule.level), rule.id))
    widest = max((len(rule.id) for rule in listed), default=0)
    for rule in listed:
        holds_for = f"  torch {rule.torch}" if rule.torch else ""
        out.write(f"{rule.level:<7}  {rule.id:<{widest}}  {rule.title}  [{', '.join(rule.tags)}]{holds_for}\n")


def print_rule(file: RuleFile, out: TextIO) -> None:
    """All that a rule says, and the lines of the script beside it that are marked."""
    rule = file.rule
    out.write(f"{rule.id} ({rule.level}; {', '.join(rule.tags)})\n\n{_filled(rule.title[:1].upper() + rule.title[1:] + '.')}\n")
    for name, text in (("Why", rule.why), ("Instead", rule.instead), ("No fault", rule.false_positives)):
        out.write(f"\n{name}\n{_filled(text)}\n")
    if rule.torch:
        out.write(f"\nHolds for\n  torch {rule.torch}\n")
    marked = _marked(file)
    if marked:
        out.write("\nExample\n" + "\n".join(marked) + "\n")
    out.write(f"\nTo accept it at a line\n  # repro-audit: allow {rule.id} because ...\n")
    out.write("\nDocumented in\n" + "\n".join(f"  {reference}" for reference in rule.references) + "\n")


def print_factors(factors: Iterable[Factor], out: TextIO) -> None:
    """What varies by each factor, what to do about it, and why one can be neither pinned nor varied here."""
    for factor in factors:
        missing = factor.unavailable()
        out.write(
            f"{factor.name}{f' (not here: {missing})' if missing else ''}\n{_filled(factor.why)}\n{_filled(f'cure: {factor.remedy}')}\n"
        )


def _filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _marked(file: RuleFile) -> list[str]:
    """The lines of the neighbour that are marked for this rule, with what they are."""
    try:
        lines = file.path.with_suffix(".py").read_text("utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        code, _, mark = line.partition("  # ")
        word, _, rule = mark.partition(": ")
        if word in ("finds", "ok") and file.rule.id in rule.split(", "):
            found.append(f"  {'found' if word == 'finds' else 'fine '}  {code.strip()}")
    return found
