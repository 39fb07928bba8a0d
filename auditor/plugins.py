"""Finds the members of a set: each file of a package defines one. Refuses a file without a member, and duplicate names.

A set is a package whose `__init__` defines the type of its members; its files are imported on demand.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeVar

from auditor.errors import AuditError

if TYPE_CHECKING:
    from auditor.detectors import Detector
    from auditor.factors import Factor
    from auditor.report import Report


class Member(Protocol):
    """What every member of every set has."""

    @property
    def name(self) -> str:
        """The name that users write, in kebab-case."""


M = TypeVar("M", bound=Member)


def members(kind: type[M]) -> dict[str, M]:
    """All members of the set whose type is `kind`, by name, in order of their files.

    Raises `AuditError`: `plugin-empty`, `plugin-crowded`, `plugin-duplicate`.
    """
    package = import_module(kind.__module__)
    found: dict[str, M] = {}
    files: dict[str, str] = {}
    # a subfolder of a set holds what its members share, and is not a member
    modules = (info for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.") if not info.ispkg)
    for file in sorted(info.name for info in modules):
        constants = [value for value in vars(import_module(file)).values() if isinstance(value, kind)]
        if not constants:
            raise AuditError("plugin-empty", f"{file} has no {kind.__name__}: each file of {package.__name__} must define one")
        if len(constants) > 1:
            raise AuditError("plugin-crowded", f"{file} has {len(constants)} of type {kind.__name__}; a file must define exactly one")
        member = constants[0]
        if member.name in found:
            raise AuditError("plugin-duplicate", f"{files[member.name]} and {file} are both named {member.name}")
        found[member.name], files[member.name] = member, file
    return found


def detectors() -> dict[str, Detector]:
    """The detectors, by name."""
    from auditor.detectors import Detector

    return members(Detector)


def factors() -> dict[str, Factor]:
    """The factors, by name."""
    from auditor.factors import Factor

    return members(Factor)


def reports() -> dict[str, Report]:
    """The reports, by name."""
    from auditor.report import Report

    return members(Report)
