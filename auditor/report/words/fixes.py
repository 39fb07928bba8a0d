"""The words for what became of the attempt to fix the script."""

from __future__ import annotations

from auditor.report.words.text import listed
from auditor.report.words.wording import Words, at


def _explained_by_rule(rule: str, file: str | None, line: int | None) -> str:
    return f"nothing was patched: {at(rule, file, line)} explains the difference; no patch can be written for it"


def _no_change_works(names: list[str], files: list[str | None], lines: list[int | None]) -> str:
    where = listed(at(*one) for one in zip(names, files, lines, strict=True))
    return f"no change of a few lines was seen to remove {where}; follow the advice above"


def _patch_removes(paths: list[str]) -> str:
    return f"the patched script removes {listed(paths)}, which existed before the first run: keep a copy if you need it"


WORDS: dict[str, Words] = {
    "explained-by-rule": _explained_by_rule,
    "only-numerics": "there is nothing to patch: the difference is rounding only",
    "no-cause": "there is nothing to patch: no cause was found",
    "no-change-works": _no_change_works,
    "no-change-tried": "no change could be tested: {message} [{slug}]",
    "patch-removes": _patch_removes,
    "changes-written": "the changes are in {file}: {command}",
}
