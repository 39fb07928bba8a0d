"""Facts travel, sentences do not: English is made in `report/`, each slug that the code gives has words there, and each word a slug.

Read by `ast`: a string is a sentence if it has three or more words between blanks, what an f-string fills in left out. Sentences may stand
where they are the thing itself, and not a fact about a run that is told: see `MAY_SPEAK` and `_is_exempt`.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import auditor
from auditor import plugins
from auditor.report.words.reasons import WORDS, sentence_of, text_of
from auditor.results import Audit, Reason

HOUSE = Path(auditor.__file__).parent
MODULES = sorted(str(path.relative_to(HOUSE)) for path in HOUSE.rglob("*.py"))

#: Where sentences belong, each with the reason.
MAY_SPEAK = {
    "report/": "makes the English of all reports",
    "cli.py": "help of options, and what commands say on the screen",
    "help.py": "help of commands",
    "options.py": "help of options",
    "endings.py": "how a command ends, said on the screen",
    "listing.py": "prints what `show` lists",
    "pipeline/rulebook.py": "prints rules and factors",
    "trace/schema.py": "descriptions of fields and events, from which the reference is made",
    "factors/": "what a factor says of itself: its cause, remedy, and why it is not available here",
    "detectors/": "what a hit says in the placeholders of a rule's message",
    "judge/": "what is wrong with a rule file or a comment, and descriptions of what rules may ask for",
    "mapping.py": "what is wrong with a mapping that the user wrote",
    "record/": "what the recorder knows that it missed, told from the user's process, and what stand-ins raise there",
    "devices.py": "what is wrong with a device that the user named, which ends up in an error",
    "trace/shapes.py": "what is wrong with a field of a trace, which ends up in an error",
    "trace/facts.py": "likewise",
}
#: What still makes English below `report/`, and how many sentences of it, each with the reason. None may be added.
REMAINDER = {
    "launch/tree.py": (1, "why a folder cannot be copied, beside what the operating system says of it"),
    "trace/__init__.py": (1, "a mark that traces have which are kept: another one would be another format"),
}

#: A word: not a part of a path, of a dotted name or of an option.
_WORD = re.compile(r"(?<![\w./-])[A-Za-z][a-z']*(?![\w/(\[=-])")
_SQL = re.compile(r"\bSELECT\b|\bFROM\b|\bREPLACE\b")


#: Sentences of others, which are searched for or written as they have to be.
_OF_OTHERS = ("Traceback (most recent call last):", "\\ No newline at end of file", "No space left")


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
    return None


def is_sentence(text: str) -> bool:
    """Whether a string has three words or more and is neither SQL nor Python."""
    if len(_WORD.findall(text)) < 3 or text.count(" ") < 2 or _SQL.search(text) or any(one in text for one in _OF_OTHERS):
        return False
    return not any(_is_python(code) for code in (text.strip(), f"call(it{text}"))


def _is_python(code: str) -> bool:
    """Whether it is what may be put into a script."""
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True


def _is_exempt(node: ast.AST) -> bool:
    """Docstrings, errors of ours, descriptions of fields, patterns that text of others is searched for by, and lines of progress."""
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return True
    if isinstance(node, ast.keyword):
        return node.arg == "description"
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    return name.endswith(("Error", ".say")) or name == "re.compile"


def _parts_of_errors(function: ast.FunctionDef) -> frozenset[str]:
    """The names of a function of which its errors are made: a part of an error is one."""
    errors = [one for one in ast.walk(function) if isinstance(one, ast.Raise) or (isinstance(one, ast.Call) and _is_exempt(one))]
    return frozenset(node.id for error in errors for node in ast.walk(error) if isinstance(node, ast.Name))


def sentences_in(source: str) -> Iterator[tuple[int, str]]:
    """The English sentences of a module, with their lines."""

    def walk(node: ast.AST, parts: frozenset[str]) -> Iterator[tuple[int, str]]:
        if _is_exempt(node) or (isinstance(node, ast.Assign) and {ast.unparse(one) for one in node.targets} & parts):
            return
        if isinstance(node, ast.FunctionDef):
            parts = _parts_of_errors(node)
        text = _text(node)
        if text is not None and is_sentence(text):
            yield getattr(node, "lineno", 0), text
        for child in ast.iter_child_nodes(node):
            if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
                yield from walk(child, parts)

    yield from walk(ast.parse(source), frozenset())


@pytest.mark.parametrize("module", [module for module in MODULES if not module.startswith(tuple(MAY_SPEAK))])
def test_no_module_below_the_reports_contains_english_sentences(module: str) -> None:
    found = [f"line {line}: {text!r}" for line, text in sentences_in((HOUSE / module).read_text())]
    known, _ = REMAINDER.get(module, (0, ""))
    assert len(found) == known, "\n".join(found)


def test_every_place_allowed_to_contain_english_exists_and_does() -> None:
    for place in MAY_SPEAK:
        modules = [module for module in MODULES if module.startswith(place)]
        assert any(list(sentences_in((HOUSE / module).read_text())) for module in modules), place
    assert set(REMAINDER) <= set(MODULES)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = 'the run ended early'", 1),
        ("x = f'{a} was given {b} in one run'", 1),
        ("def f():\n    'A docstring says what it does.'", 0),
        ("raise UsageError('no-such-run', 'there is no such run')", 0),
        ("x = 'SELECT count(*) AS n FROM records'", 0),
        ("x = 'import numpy as np'", 0),
        ("x = f'{a}-{b} of it'", 0),
    ],
)
def test_sentences_are_distinguished_from_other_strings(source: str, found: int) -> None:
    assert len(list(sentences_in(source))) == found


# what is known of a member of a set is in its file

#: Names of factors that are words for other things, too.
_COMMON = {"clock", "device", "environment", "os-entropy", "threads", "tf32"}


@pytest.mark.parametrize("part", ["compare/", "diagnose.py", "experiment.py", "mend/", "pipeline/"])
def test_no_decision_names_a_factor_or_a_detector(part: str) -> None:
    known = {*plugins.factors(), *plugins.detectors()} - _COMMON
    named = [
        f"{module}:{node.lineno}: {node.value}"
        for module in MODULES if module.startswith(part)
        for node in ast.walk(ast.parse((HOUSE / module).read_text()))
        if isinstance(node, ast.Constant) and node.value in known
    ]  # fmt: skip
    assert named == []


# reasons and their words


def reasons_made() -> dict[str, list[tuple[str, frozenset[str], bool]]]:
    """Every slug that the code gives a reason: where, with which parameters, and whether it adds others that are not seen here."""
    made: dict[str, list[tuple[str, frozenset[str], bool]]] = {}
    for module in MODULES:
        for node in ast.walk(ast.parse((HOUSE / module).read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Reason.of":
                names = frozenset(keyword.arg for keyword in node.keywords if keyword.arg is not None)
                for slug in slugs_of(node.args[0]):
                    made.setdefault(slug, []).append((f"{module}:{node.lineno}", names, any(k.arg is None for k in node.keywords)))
    return made


def slugs_of(node: ast.expr) -> Iterator[str]:
    """The constants that a slug can be."""
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.IfExp):
        yield from (*slugs_of(node.body), *slugs_of(node.orelse))
    else:
        raise AssertionError(f"line {node.lineno}: a slug is written where it is given")


def test_every_slug_has_a_text_and_every_text_a_slug() -> None:
    made = reasons_made()
    assert set(made) - set(WORDS) == set()
    assert set(WORDS) - set(made) == {"as-written"}, "a sentence of an earlier version is made by none"


def test_every_reason_has_the_parameters_of_its_text() -> None:
    wrong = []
    for slug, places in reasons_made().items():
        words = WORDS[slug]
        if isinstance(words, str):
            needed = taken = {name for _, name, _, _ in Formatter().parse(words) if name}
            needed = taken = {re.split(r"[.\[]", name)[0] for name in needed}
        else:
            of_function = inspect.signature(words).parameters.values()
            taken = {one.name for one in of_function}
            needed = {one.name for one in of_function if one.default is inspect.Parameter.empty}
        wrong += [
            f"{place}: {slug} is about {sorted(names)}, its words about {sorted(taken)}"
            for place, names, more in places
            if not names <= taken or (not needed <= names and not more)
        ]
    assert wrong == []


def test_a_reason_from_another_version_is_shown_unchanged() -> None:
    assert text_of(Reason.of("not-known-here", op="aten.mm.default", times=3)) == "not-known-here (op: aten.mm.default, times: 3)"
    assert text_of(Reason.of("lane-ended", place=3)) == "lane-ended (place: 3)"
    assert text_of(Reason.of("not-known-here")) == "not-known-here"


def test_a_sentence_from_an_earlier_version_is_kept() -> None:
    read = Audit.model_validate({"verdict": "inconclusive", "script": [], "runs": [], "notes": ["one note"], "reason": "so it is [slug]"})
    assert (sentence_of(read.notes), text_of(read.reason)) == ("one note", "so it is [slug]")


def test_braces_in_user_text_are_plain_text() -> None:
    assert text_of(Reason.of("file-read", path="{0.__class__}.pt")) == "{0.__class__}.pt is read here"


def test_what_a_reason_is_about_has_no_credentials() -> None:
    reason = Reason.of("script-failed", error="ValueError: api_key='abcdefgh12345678'", status=1)
    assert "abcdefgh12345678" not in reason.model_dump_json()
    assert text_of(reason).startswith("the script fails in both runs in the same way: ValueError: api_key=")
    assert text_of(reason).endswith("[script-failed]")
