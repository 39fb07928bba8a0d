"""Makes the sentence of a reason: the words of each slug are a template, or a function of the parameters, in the tables beside this.

A slug that no table has is that of a newer version: it is shown as it is, with what it is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from auditor.report.words import causes, coverage, divergences, fixes, matching, notes, questions
from auditor.report.words.wording import Words
from auditor.results import Reason

#: A sentence of an audit of an earlier version is all that there is of its reason.
_EARLIER: dict[str, Words] = {"as-written": "{text}"}
#: The words of each slug.
WORDS: dict[str, Words] = {
    **_EARLIER, **divergences.WORDS, **causes.WORDS, **notes.WORDS, **coverage.WORDS, **fixes.WORDS, **questions.WORDS,
    **matching.WORDS,
}  # fmt: skip


def text_of(reason: Reason | None) -> str:
    """What a reason says; nothing for none."""
    if reason is None:
        return ""
    words = WORDS.get(reason.slug)
    try:
        if words is not None:
            return words.format(**reason.parameters) if isinstance(words, str) else words(**reason.parameters)
    except (KeyError, TypeError, ValueError):
        pass  # the parameters are those of another version
    about = ", ".join(f"{name}: {value}" for name, value in reason.parameters.items())
    return f"{reason.slug} ({about})" if about else reason.slug


def meaning_of(reasons: Sequence[Reason]) -> str:
    """What the relation of two values can mean."""
    return matching.joined(reasons, [text_of(reason) for reason in reasons])


def sentence_of(reasons: Iterable[Reason]) -> str:
    """What some reasons say together."""
    return "; ".join(text_of(reason) for reason in reasons)
