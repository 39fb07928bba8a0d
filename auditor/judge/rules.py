"""Rule files: their fields, and how a folder of them is read. Reading reports every error of every file at once, with its position."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from auditor.documents import tree_of
from auditor.errors import UsageError
from auditor.judge.conditions import FIELDS, Match
from auditor.results import About, Kind, Level

if TYPE_CHECKING:
    from auditor.detectors import Detector

#: Placeholders of a message: a name in braces and nothing else, so that a third-party message is text and never a program.
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")

#: Placeholders for the message of a rule with a `match`.
MATCH_VALUES = frozenset({*FIELDS, "count", "often"})

#: One bound on the torch versions of a rule: `>=2.6`.
_BOUND = re.compile(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)")
_RELEASE = re.compile(r"\d+(?:\.\d+)*")
_COMPARISONS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip

#: Name of the folder within a folder of rules that holds tolerances (`tolerances.py`).
TOLERANCES = "tolerances"

_LINE = Annotated[str, Field(min_length=1)]


class Explains(BaseModel):
    """Which divergence a finding of a rule explains, as a relation between their places."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: Annotated[list[Kind], Field(min_length=1, description="kinds of divergence that the fault causes")]
    relation: Annotated[
        About,
        Field(
            description="how a finding relates to a divergence: `line`, same line; `feeds`, its line provides a value that is used there; "
            "`rows`, the divergence is at one of the records that the detector names; `lanes`, it is in one of the lanes that the detector "
            "names, or where what they wrote is used"
        ),
    ]
    symptom: Annotated[
        bool,
        Field(
            description="a factor that makes the runs agree only makes the fault repeat: the finding takes precedence, and no seed is a fix"
        ),
    ] = False


class Rule(BaseModel):
    """One rule: a fault, how to detect it in a run, and what to do about it."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="repro-audit rule")

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", description="names the fault and reads well after 'allow'")]
    title: Annotated[_LINE, Field(description="the fault in one line")]
    why: Annotated[_LINE, Field(description="why it matters, for a reader who has never met it")]
    level: Annotated[Level, Field(description="error: the run is wrong; warning: it may not repeat elsewhere; note: worth knowing")]
    match: Annotated[Match | None, Field(description="recorded events that are findings")] = None
    detector: Annotated[str | None, Field(description="the named detector that finds it, for conditions on order")] = None
    params: Annotated[dict[str, Any], Field(description="parameters of the detector")] = {}
    torch: Annotated[str | None, Field(description="the torch versions that it applies to, as in '>=2.6,<2.15'; without it, all")] = None
    explains: Annotated[Explains | None, Field(description="which divergence a finding explains, if any")] = None
    needs_line: Annotated[bool, Field(alias="needs-line", description="whether it needs a line in the user's code")] = True
    message: Annotated[_LINE, Field(description="the finding in one sentence, with {placeholders}")]
    instead: Annotated[_LINE, Field(description="what to do instead")]
    false_positives: Annotated[_LINE, Field(alias="false-positives", description="when it is not a fault")]
    references: Annotated[list[Annotated[str, Field(pattern="^https://")]], Field(min_length=1, description="where it is documented")]
    tags: Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_way_to_find(self) -> Rule:
        if (self.match is None) == (self.detector is None):
            raise ValueError("a rule has either match or detector")
        if self.params and self.detector is None:
            raise ValueError("params belong to a detector, and this rule has none")
        if self.match is not None:
            unknown = sorted(set(PLACEHOLDER.findall(self.message)) - MATCH_VALUES)
            if unknown:
                raise ValueError(f"message: there is no {{{unknown[0]}}}; there are {', '.join(sorted(MATCH_VALUES))}")
        return self

    @field_validator("torch")
    @classmethod
    def _versions(cls, torch: str | None) -> str | None:
        if torch is not None:
            _bounds(torch)
        return torch

    @property
    def forecast(self) -> bool:
        """Whether it forecasts what a run on a GPU would do, and reports no fault of this run."""
        return "forecast" in self.tags

    def holds_for(self, version: str | None) -> bool:
        """Whether it applies to this torch version; a run that does not record its version is not excluded."""
        release = _RELEASE.match(version or "")
        if self.torch is None or release is None:
            return True
        made = _numbers(release[0])
        return all(_COMPARISONS[sign](made, bound) for sign, bound in _bounds(self.torch))


def _bounds(versions: str) -> list[tuple[str, tuple[int, ...]]]:
    """`>=2.6,<2.15` as signs and numbers. Raises ValueError for anything else."""
    found = [_BOUND.fullmatch(part.strip()) for part in versions.split(",")]
    if not all(found):
        raise ValueError(f"{versions!r} is not a list of bounds such as '>=2.6,<2.15'")
    return [(bound[1], _numbers(bound[2])) for bound in found if bound]


def _numbers(release: str) -> tuple[int, ...]:
    """`2.13.0` as numbers without trailing zeros: 2.13 and 2.13.0 are one version.

    Anything after the release is ignored: 2.14.0a0 has what 2.14 will have, and 2.13.0+cpu is 2.13.0.
    """
    numbers = [int(part) for part in release.split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


@dataclass(frozen=True)
class Fault:
    """One error in a rule file, with its position."""

    file: Path
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


@dataclass(frozen=True)
class RuleFile:
    """A rule and its path."""

    rule: Rule
    path: Path


def load_rules(folders: Iterable[Path], detectors: Mapping[str, Detector]) -> dict[str, RuleFile]:
    """All rules of the folders, by id. Raises UsageError: `bad-rule` with every error of every file, `no-such-rules`."""
    found: dict[str, RuleFile] = {}
    faults: list[Fault] = []
    for folder in folders:
        if not folder.is_dir():
            raise UsageError("no-such-rules", f"{folder} is not a folder of rules")
        for file in rule_files(folder):
            rule, wrong = read_rule(file, detectors)
            faults += wrong
            if rule is None:
                continue
            if rule.id in found:
                faults.append(Fault(file, 1, 1, f"the rule {rule.id} is also in {found[rule.id].path}"))
            found[rule.id] = RuleFile(rule, file)
    if faults:
        raise UsageError("bad-rule", "\n".join(["the rules cannot be used:", *map(str, faults)]))
    return found


def chosen(rules: Mapping[str, RuleFile], select: Sequence[str], ignore: Sequence[str]) -> list[Rule]:
    """The selected rules without the ignored ones, by name (a glob) or tag.

    Raises UsageError `no-such-rule` for a word that matches none.
    """
    everything = [file.rule for file in rules.values()]

    def named(word: str) -> set[str]:
        found = {rule.id for rule in everything if fnmatchcase(rule.id, word) or word in rule.tags}
        if not found:
            tags = {tag for rule in everything for tag in rule.tags}
            near = get_close_matches(word, [*rules, *tags], 1)
            raise UsageError("no-such-rule", f"no rule and no tag is named {word}{f'; did you mean {near[0]}?' if near else ''}")
        return found

    wanted = set().union(*map(named, select)) if select else set(rules)
    wanted -= set().union(*map(named, ignore))
    return [rule for rule in everything if rule.id in wanted]


def rule_files(folder: Path) -> list[Path]:
    """The rule files of a folder and its subfolders, sorted by name; `tolerances` folders are left out."""
    found = sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")])
    return [file for file in found if TOLERANCES not in file.relative_to(folder).parts[:-1]]


def read_mapping(file: Path) -> tuple[yaml.Node | None, Any, list[Fault]]:
    """The tree of a YAML file, its data, and the errors in it as a mapping; the tree is None if the file cannot be checked further."""
    try:
        tree = tree_of(file)
    except UnicodeDecodeError as error:
        return None, None, [Fault(file, 1, 1, f"not UTF-8: {error.reason}")]
    except OSError as error:
        return None, None, [Fault(file, 1, 1, f"cannot be read: {error.strerror or error}")]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return None, None, [Fault(file, line, column, f"not YAML: {getattr(error, 'problem', None) or error}")]
    if not isinstance(tree, yaml.MappingNode):
        return None, None, [Fault(file, 1, 1, "a rule is a mapping of keys to values")]
    faults = list(_repeated_keys(file, tree))
    try:
        data = yaml.SafeLoader("").construct_document(tree)
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, RecursionError, TypeError, AttributeError) as error:
        return (
            None,
            None,
            [Fault(file, *_at(getattr(error, "problem_mark", None)), f"not valid YAML for a rule: {getattr(error, 'problem', error)}")],
        )
    return tree, data, faults


def faults_of(error: ValidationError, file: Path, tree: yaml.Node) -> list[Fault]:
    """The errors of a validation, each with its position in the file."""
    told: dict[tuple[object, ...], Fault] = {}  # of the branches of a union only the first, which is the simplest
    for one in error.errors():
        place = _place(tree, one["loc"])
        missing = one["loc"][-1] if one["type"] in ("missing", "extra_forbidden") else ""
        told.setdefault((*place, missing), Fault(file, *place, _message(one)))
    return list(told.values())


def read_rule(file: Path, detectors: Mapping[str, Detector]) -> tuple[Rule | None, list[Fault]]:
    """The rule of one file, or the errors in it."""
    tree, data, faults = read_mapping(file)
    if tree is None:
        return None, faults
    try:
        rule = Rule.model_validate(data, strict=True)
    except ValidationError as error:
        return None, [*faults, *faults_of(error, file, tree)]
    faults += [Fault(file, *_place(tree, path), message) for path, message in _detector_faults(rule, detectors)]
    if file.stem != rule.id:
        faults.append(Fault(file, *_place(tree, ("id",)), f"the rule {rule.id} must be in a file named {rule.id}{file.suffix}"))
    return (None if faults else rule), faults


@cache
def params_of(params: type[Any]) -> TypeAdapter[Any]:
    """The validator of a detector's parameters, made once: making it takes longer than judging a short run with it."""
    return TypeAdapter(params)


def _detector_faults(rule: Rule, detectors: Mapping[str, Detector]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Mismatches between a rule and its detector, each with its path in the rule."""
    if rule.detector is None:
        return
    detector = detectors.get(rule.detector)
    if detector is None:
        near = get_close_matches(rule.detector, detectors, 1)
        yield ("detector",), f"there is no detector {rule.detector}{f'; did you mean {near[0]}?' if near else ''}"
        return
    try:
        params_of(detector.params).validate_python(rule.params, extra="forbid")
    except ValidationError as error:
        for one in error.errors():
            yield ("params", *(str(part) for part in one["loc"])), f"params of {rule.detector}: {_message(one)}"
    unknown = sorted(set(PLACEHOLDER.findall(rule.message)) - detector.values - {"count", "often"})
    if unknown:
        says = f"{', '.join(sorted(detector.values))}, count and often"
        yield ("message",), f"message: {rule.detector} has no placeholder {{{unknown[0]}}}; it has {says}"


def schema() -> dict[str, Any]:
    """The JSON Schema of a rule file, for editors."""
    made = Rule.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _repeated_keys(file: Path, node: yaml.Node) -> Iterator[Fault]:
    """Keys that occur twice in a mapping: YAML silently takes the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield Fault(file, *_at(key.start_mark), f"{key.value} occurs twice")
                seen.add(key.value)
            yield from _repeated_keys(file, value)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _repeated_keys(file, part)


def _place(tree: yaml.Node, path: tuple[int | str, ...]) -> tuple[int, int]:
    """Line and column of a validation error: of the deepest part of its path that is in the file."""
    node, mark = tree, tree.start_mark
    for step in path:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == step), None)
            if pair is None:
                continue  # the name of a model that was tried, or a missing key
            mark, node = pair[0].start_mark, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            mark = node.start_mark
    return _at(mark)


def _at(mark: Any) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _message(error: Any) -> str:
    key = next((part for part in reversed(error["loc"]) if isinstance(part, str) and "[" not in part and not part[:1].isupper()), "")
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        return f"there is no key {key}"
    said = error["msg"].removeprefix("Value error, ")
    return f"{key}: {said[:1].lower()}{said[1:]}" if key and not said.startswith(key) else said
