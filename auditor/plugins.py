"""Finds the members of a set: one file, one member. A file without a member, or two of one name, is refused.

A set is a package whose `__init__` defines the type of its members; its files are imported when they are asked for, never before.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeVar

from auditor.errors import AuditError

if TYPE_CHECKING:
    from auditor.report import Report


class Member(Protocol):
    """What every member of every set has."""

    @property
    def name(self) -> str:
        """What users call it, in kebab-case."""


M = TypeVar("M", bound=Member)


def members(kind: type[M]) -> dict[str, M]:
    """All members of the set whose type is `kind`, by their names, in order of their files.

    Raises `AuditError`: `plugin-empty`, `plugin-crowded`, `plugin-duplicate`.
    """
    package = import_module(kind.__module__)
    found: dict[str, M] = {}
    files: dict[str, str] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__, package.__name__ + "."), key=lambda info: info.name):
        constants = {name: value for name, value in vars(import_module(info.name)).items() if isinstance(value, kind)}
        if not constants:
            raise AuditError("plugin-empty", f"{info.name} has no {kind.__name__}: each file of {package.__name__} is one")
        if len(constants) > 1:
            raise AuditError("plugin-crowded", f"{info.name} has {len(constants)} of {kind.__name__} ({', '.join(constants)}): one a file")
        (member,) = constants.values()
        if member.name in found:
            raise AuditError("plugin-duplicate", f"{files[member.name]} and {info.name} are both named {member.name}: rename one of them")
        found[member.name], files[member.name] = member, info.name
    return found


def reports() -> dict[str, Report]:
    """The reports, by name."""
    from auditor.report import Report  # not at the top: loads rich, and everything else that a report needs

    return members(Report)
