"""What a story is made of: rows that say what is shown, and nothing of how. A format turns each into its own marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from auditor.results import Patch, Verdict

#: How a row is meant, for a format that has colours; the words say it too.
Tone = Literal["", "bad", "doubt", "good", "quiet"]


@dataclass(frozen=True)
class Fact:
    """A name and a sentence; a few of them stand below one another."""

    name: str
    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Frame:
    """Lines of the user's code around one of them, and what is to be said of that one."""

    file: str | None
    line: int | None
    lines: tuple[tuple[int | None, str], ...]
    under: str = ""


@dataclass(frozen=True)
class Sides:
    """Two frames that belong beside each other."""

    a: Frame
    b: Frame


@dataclass(frozen=True)
class Entry:
    """One entry of a list: a word that classes it, what it is about, where, a sentence, and rows of its own."""

    level: str
    title: str
    file: str | None = None
    line: int | None = None
    text: str = ""
    rows: tuple[Fact | Frame | Sides, ...] = ()
    tone: Tone = ""


@dataclass(frozen=True)
class Diff:
    """A patch; a format shows as many of its lines as it has room for."""

    patch: Patch


@dataclass(frozen=True)
class More:
    """What a list leaves out."""

    text: str


Row: TypeAlias = Fact | Frame | Sides | Entry | Diff | More


@dataclass(frozen=True)
class Section:
    """Rows about one thing; without a title they follow what stands before."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Story:
    """All that a report says, in order: the answer, what shows it, what else was found, a line each on the rest, what to do next."""

    label: str
    verdict: Verdict
    headline: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
    tail: tuple[str, ...]
    next: tuple[str, str] | None
