"""The words for what a rerun is to answer, as they are shown while it is made."""

from __future__ import annotations

from auditor.report.words.wording import Words, together


def _comes_back(factors: list[str]) -> str:
    return f"does the difference return with {'only ' if len(factors) == 1 else ''}{together(factors)} free"


def _cures(factor: str | None) -> str:
    return f"does a change remove {factor or 'it'}"


WORDS: dict[str, Words] = {
    "is-it": "is it {factor}",
    "is-it-luck": "is it {factor}, or chance",
    "is-it-any": "is it any of them",
    "which-is-it": "which factor is it",
    "which-fails": "which factors break the script",
    "do-they-suffice": "do they suffice",
    "comes-back": _comes_back,
    "any-difference": "does any of these factors make a difference",
    "differs-again": "does it make a difference again",
    "fails-each-time": "does the script fail with it each time",
    "same-each-time": "does the script repeat",
    "closer-look": "value capture",
    "how-large": "how large is the difference",
    "cures": _cures,
}
