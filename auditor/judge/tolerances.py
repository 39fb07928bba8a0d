"""Tolerance rules: the fields of a file in `rules/tolerances/`, and how a folder of them is read. All errors are reported at once.

`auditor/tolerance.py` defines the meaning of the numbers; each file and docs/tolerances.md say where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from auditor.errors import UsageError
from auditor.judge.rules import TOLERANCES, Fault, faults_of, read_mapping
from auditor.tolerance import Tolerance

_Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_GLOB = r"^(\*|[A-Za-z_][\w*]*(\.[\w*]+){1,2})$"


class ToleranceRule(BaseModel):
    """One tolerance: some ops, and the error bound of a correct implementation of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="repro-audit tolerance", populate_by_name=True)

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", description="names the family of ops")]
    kind: Annotated[Literal["tolerance"], Field(description="distinguishes a tolerance file from a rule file")]
    ops: Annotated[
        list[Annotated[str, Field(pattern=_GLOB)]],
        Field(min_length=1, description="globs over op names, with overload (aten.add.Tensor), or without it and the trailing underscore"),
    ]
    why: Annotated[str, Field(min_length=1, description="the error analysis")]
    judged: Annotated[bool, Field(description="false for ops without an error bound")] = True
    ulps: Annotated[_Size, Field(description="rounding error of the result, in units in the last place")] = 0.5
    growth: Annotated[_Size, Field(description="backward error, in units of roundoff for an accumulation of length 1")] = 0.0
    length: Annotated[
        Literal["one", "last-of-0", "last-of-1", "reduced", "longest", "kernel", "rows", "elements", "logarithm", "coordinates"],
        Field(description="the length over which the op accumulates"),
    ] = "one"
    sensitivity: Annotated[Literal["magnitudes", "spread"], Field(description="how the sensitivity to the inputs is determined")] = "spread"
    floor: Annotated[_Size, Field(description="error that does not shrink with the result, in units of roundoff of an input")] = 0.0
    floor_of: Annotated[int | None, Field(alias="floor-of", ge=0, description="index of that floating input")] = None
    absolute: Annotated[_Size, Field(description="error of an intermediate result of size one, in units of roundoff")] = 0.0
    stored: Annotated[
        Literal["none", "once", "each"],
        Field(description="what is rounded to a half format before the result: intermediate results (once), each partial sum"),
    ] = "once"
    reduced: Annotated[
        Literal["matmul", "convolution", "rnn"] | None, Field(description="the ops whose reduced-precision settings apply")
    ] = None
    norms: Annotated[
        Literal["elementwise", "sum", "mean", "products", "quotient"] | None, Field(description="what the norms alone tell about the op")
    ] = None
    lipschitz: Annotated[_Size, Field(description="the largest factor by which an elementwise function amplifies a change")] = 1.0
    references: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, description="where it is documented or proved")]

    @model_validator(mode="after")
    def _of_one_piece(self) -> ToleranceRule:
        numbers = self.model_fields_set - {"id", "kind", "ops", "why", "references", "judged"}
        if not self.judged and numbers:
            raise ValueError(f"{min(numbers).replace('_', '-')}: an op that is not judged has no bound")
        if self.floor_of is not None and not self.floor:
            raise ValueError("floor-of: there is no floor")
        return self

    def tolerance(self, rank: int = 0) -> Tolerance:
        """The rule as data for computing bounds; `rank`: the index of its folder."""
        found: dict[str, Any] = {name: getattr(self, name) for name in Tolerance._fields if name != "rank"}
        return Tolerance(**(found | {"ops": tuple(self.ops), "rank": rank}))


def load_tolerances(shipped: Path, folders: Iterable[Path] = ()) -> list[Tolerance]:
    """The tolerances of the user's rule folders and the shipped ones; for an op, the first folder that has a tolerance applies.

    Each folder may contain a folder `tolerances`. Raises UsageError `bad-rule` with every error of every file.
    """
    found: list[Tolerance] = []
    faults: list[Fault] = []
    for rank, folder in enumerate((*folders, shipped)):
        here: dict[str, tuple[Tolerance, Path]] = {}
        beside = folder / TOLERANCES
        for file in sorted([*beside.rglob("*.yaml"), *beside.rglob("*.yml")]):
            rule, wrong = read_tolerance(file)
            faults += wrong
            if rule is None:
                continue
            if rule.id in here:
                faults.append(Fault(file, 1, 1, f"the tolerance {rule.id} is also in {here[rule.id][1]}"))
            here[rule.id] = rule.tolerance(rank), file
        found += [one for one, _ in here.values()]
    if faults:
        raise UsageError("bad-rule", "\n".join(["the tolerances cannot be used:", *map(str, faults)]))
    return found


def read_tolerance(file: Path) -> tuple[ToleranceRule | None, list[Fault]]:
    """The tolerance of one file, or the errors in it."""
    tree, data, faults = read_mapping(file)
    if tree is None:
        return None, faults
    try:
        rule = ToleranceRule.model_validate(data)
    except ValidationError as error:
        return None, [*faults, *faults_of(error, file, tree)]
    if file.stem != rule.id:
        faults.append(Fault(file, 1, 1, f"the tolerance {rule.id} must be in a file named {rule.id}{file.suffix}"))
    return (None if faults else rule), faults
