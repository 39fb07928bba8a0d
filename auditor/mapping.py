"""Which names of one program the user says belong to which of another: `--map a=b`, and a YAML file of those. Reads nothing else.

names:
w1: model.fc1.weight
"train:loss": total_loss    # the `loss` of the function `train` alone
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from auditor.documents import tree_of
from auditor.errors import UsageError


def mapping_of(options: Iterable[str]) -> dict[str, str]:
    """Names of the first program with those of the second: each option is `a=b` or a YAML file; what is given as `a=b` goes before files.

    Raises UsageError `bad-map` with every fault at once, those of files with their line and column.
    """
    faults: list[str] = []
    found: dict[str, str] = {}
    given: dict[str, str] = {}
    for option in options:
        if "=" not in option and Path(option).suffix in (".yaml", ".yml"):
            found |= dict(_of_file(Path(option), faults))
            continue
        ours, equals, theirs = (part.strip() for part in option.partition("="))
        if not (ours and equals and theirs) or "=" in theirs:
            faults.append(f"--map {option}: a name of the first program and one of the second are wanted, as in w1=fc.weight")
        elif given.get(ours, theirs) != theirs:
            faults.append(f"--map {option}: {ours} was said to be {given[ours]}")
        elif theirs in given.values() and ours not in given:
            faults.append(f"--map {option}: {theirs} was said to be another name's counterpart")
        else:
            given[ours] = theirs
    if faults:
        raise UsageError("bad-map", "\n".join(faults))
    taken = set(given.values())
    return given | {ours: theirs for ours, theirs in found.items() if ours not in given and theirs not in taken}


def read_mapping(file: Path) -> dict[str, str]:
    """The names of one YAML file. Raises UsageError `bad-map` with every fault, each with its line and column."""
    faults: list[str] = []
    found = dict(_of_file(file, faults))
    if faults:
        raise UsageError("bad-map", "\n".join(faults))
    return found


def _of_file(file: Path, faults: list[str]) -> Iterator[tuple[str, str]]:
    """The pairs of a file; what is wrong with it is added to the faults.

    The tree of the document is read, and not what YAML makes of it: there `y` and `n` are truth values and not names, and of two
    equal keys the second wins without a word.
    """
    try:
        root = tree_of(file)
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{file}: cannot be read: {error}")
        return
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        faults.append(f"{_at(file, mark)}: {error.problem or error.context or 'no YAML'}")
        return
    except yaml.YAMLError as error:
        faults.append(f"{file}: {error}")
        return
    entries = list(root.value) if isinstance(root, yaml.MappingNode) else []
    if not entries:
        faults.append(f"{_at(file, root.start_mark if root is not None else None)}: it is to have `names:` and below it names with names")
        return
    for key, value in entries:
        if key.value != "names":
            faults.append(f"{_at(file, key.start_mark)}: there is no {key.value!r}, only `names`")
        elif not isinstance(value, yaml.MappingNode):
            faults.append(f"{_at(file, value.start_mark)}: `names` is to have a name of each program on each line, as in `w1: fc.weight`")
        else:
            yield from _pairs(file, value, faults)


def _pairs(file: Path, names: yaml.MappingNode, faults: list[str]) -> Iterator[tuple[str, str]]:
    seen: dict[str, int] = {}
    taken: dict[str, int] = {}
    for key, value in names.value:
        at = _at(file, key.start_mark)
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode) or not key.value or not value.value:
            faults.append(f"{at}: a name of the first program is to stand here, and behind it one of the second")
        elif key.value in seen:
            faults.append(f"{at}: `{key.value}` stands in line {seen[key.value]} already")
        elif value.value in taken:
            faults.append(
                f"{_at(file, value.start_mark)}: `{value.value}` is another name's counterpart already, in line {taken[value.value]}"
            )
        else:
            yield key.value, value.value
            taken[value.value] = line
        if isinstance(key, yaml.ScalarNode):
            seen.setdefault(key.value, line)


def _at(file: Path, mark: yaml.Mark | None) -> str:
    return f"{file}:{mark.line + 1}:{mark.column + 1}" if mark is not None else f"{file}:1:1"
