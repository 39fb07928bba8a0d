"""Tolerance rules: what a file of `rules/tolerances/` holds, and how a folder of them is read. Every error of every file is told at once.

What the numbers mean is in `auditor/tolerance.py`, why they are what they are in each file and in docs/tolerances.md.
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
    """One tolerance: some ops, and by how much a correct implementation of them may be off."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="repro-audit tolerance", populate_by_name=True)

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", description="names the family of ops")]
    kind: Annotated[Literal["tolerance"], Field(description="what tells such a file from a rule")]
    ops: Annotated[
        list[Annotated[str, Field(pattern=_GLOB)]],
        Field(min_length=1, description="globs over names of ops, with overload (aten.add.Tensor) or without it and its underscore"),
    ]
    why: Annotated[str, Field(min_length=1, description="the error analysis")]
    judged: Annotated[bool, Field(description="false where there is no bound")] = True
    ulps: Annotated[_Size, Field(description="rounding of the result, in units in the last place")] = 0.5
    growth: Annotated[_Size, Field(description="backward error, in units of roundoff for an accumulation of length 1")] = 0.0
    length: Annotated[
        Literal["one", "last-of-0", "last-of-1", "reduced", "longest", "kernel", "rows", "elements", "logarithm", "coordinates"],
        Field(description="along what the op accumulates"),
    ] = "one"
    sensitivity: Annotated[Literal["magnitudes", "spread"], Field(description="how the sensitivity to the inputs is found")] = "spread"
    floor: Annotated[_Size, Field(description="error that does not vanish with the result, in units of roundoff of an input")] = 0.0
    floor_of: Annotated[int | None, Field(alias="floor-of", ge=0, description="which floating input that is")] = None
    absolute: Annotated[_Size, Field(description="error of an intermediate result of size one, in units of roundoff")] = 0.0
    stored: Annotated[
        Literal["none", "once", "each"], Field(description="what is rounded to a half format before the result: results between, each sum")
    ] = "once"
    reduced: Annotated[
        Literal["matmul", "convolution", "rnn"] | None, Field(description="whose reduced precisions count when they are on")
    ] = None
    norms: Annotated[
        Literal["elementwise", "sum", "mean", "products", "quotient"] | None, Field(description="what norms alone tell of the op")
    ] = None
    lipschitz: Annotated[_Size, Field(description="by how much an elementwise function can enlarge a change")] = 1.0
    references: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, description="where it is documented or proved")]

    @model_validator(mode="after")
    def _of_one_piece(self) -> ToleranceRule:
        numbers = self.model_fields_set - {"id", "kind", "ops", "why", "references", "judged"}
        if not self.judged and numbers:
            raise ValueError(f"{min(numbers).replace('_', '-')}: what is not judged has no bound")
        if self.floor_of is not None and not self.floor:
            raise ValueError("floor-of: there is no floor")
        return self

    def tolerance(self, rank: int = 0) -> Tolerance:
        """The rule as the data that bounds are made of; `rank`: which folder it is from."""
        found: dict[str, Any] = {name: getattr(self, name) for name in Tolerance._fields if name != "rank"}
        return Tolerance(**(found | {"ops": tuple(self.ops), "rank": rank}))


def load_tolerances(shipped: Path, folders: Iterable[Path] = ()) -> list[Tolerance]:
    """The tolerances of the user's folders of rules and the shipped ones; an op is judged by that of the first folder that has one.

    Each folder may have a folder `tolerances`. Raises UsageError `bad-rule` with every fault of every file.
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
    """The tolerance of one file, or what is wrong with it."""
    tree, data, faults = read_mapping(file)
    if tree is None:
        return None, faults
    try:
        rule = ToleranceRule.model_validate(data)
    except ValidationError as error:
        return None, [*faults, *faults_of(error, file, tree)]
    if file.stem != rule.id:
        faults.append(Fault(file, 1, 1, f"the tolerance {rule.id} belongs into {rule.id}{file.suffix}"))
    return (None if faults else rule), faults
