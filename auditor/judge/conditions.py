"""The `match` of a rule: conditions on the recorded events of a run, as SQL with parameters.

A condition maps fields to required values, and all must hold; `all`, `any` and `none` combine conditions. There is no expression language:
text from a rule file never becomes SQL, only a parameter of it, so a third-party rule can be slow or wrong, but it cannot execute anything.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

Kind = Literal["op", "external", "draw", "seed", "setting", "step", "file", "thread"]
Phase = Literal["setup", "forward", "backward", "optimizer"]


class Compare(BaseModel):
    """Comparison with a number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    eq: int | float | None = None
    ne: int | float | None = None
    lt: int | float | None = None
    le: int | float | None = None
    gt: int | float | None = None
    ge: int | float | None = None

    @model_validator(mode="after")
    def _something(self) -> Compare:
        if not self.model_fields_set:
            raise ValueError("a comparison has at least one of eq, ne, lt, le, gt, ge")
        return self


class Not(BaseModel):
    """Anything but this value; true for a missing value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    no: str | list[str]


_OPERATORS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}

_Text = Annotated[str | list[str] | Not, Field(description="a text or glob (* ? [...]), or several, one of which must match, or {no: ...}")]
_Number = Annotated[int | Compare, Field(description="a number, or comparisons such as {ge: 1}")]
_Flag = Annotated[bool, Field(description="true or false")]

#: Field of an event -> how a condition on it is written, and its meaning.
FIELDS: dict[str, tuple[Any, str]] = {
    "kind": (Kind | list[Kind], "what happened"),
    "op": (_Text, "name of the op, of the function that drew or seeded, or of the operation on a file"),
    "stream": (_Text, "random stream: torch-cpu, torch-cuda:0, torch-own, numpy, numpy-own, python, python-own, os-entropy"),
    "name": (_Text, "name of a setting"),
    "value": (_Text, "a seed, or the value of a setting, as text"),
    "path": (_Text, "path of the file or folder"),
    "mode": (_Text, "mode in which a file was opened"),
    "asked_by": (_Text, "who used a listing or a factor: script, or library for its own purposes"),
    "factor": (_Text, "the factor that was used"),
    "unknown": (_Flag, "torch has no setting of this name"),
    "entropy": (_Flag, "whether the operating system chose the seed"),
    "initial": (_Flag, "the value that a setting had before the script could set it"),
    "args": (_Text, "arguments of an op that are not tensors or floats, as JSON"),
    "out": (_Text, "dtype, shape, stride and device of the results, as JSON"),
    "module": (_Text, "path of the module that was running"),
    "phase": (Phase | list[Phase], "phase"),
    "step": (_Number, "step, from 0"),
    "lane": (_Text, "thread or process"),
    "file": (_Text, "the user's source file"),
    "line": (_Number, "line in that file"),
    "function": (_Text, "function of the user's code"),
    "code": (_Text, "source text of the line"),
}

Fields: type[BaseModel] = create_model(
    "Condition",
    __config__=ConfigDict(extra="forbid", frozen=True),
    __doc__="Fields and their required values; all must match.",
    **{name: (Annotated[kind | None, Field(description=what)], None) for name, (kind, what) in FIELDS.items()},  # type: ignore[call-overload]
)


class Match(Fields):  # made above, from the same table as the SQL
    """Conditions on one event. Beside fields: `all`, `any` and `none` with further conditions."""

    all: Annotated[list[Match] | None, Field(min_length=1)] = None
    any: Annotated[list[Match] | None, Field(min_length=1)] = None
    none: Annotated[list[Match] | None, Field(min_length=1)] = None

    @model_validator(mode="after")
    def _something(self) -> Match:
        if not self.model_fields_set:
            raise ValueError("a condition without fields would match every event")
        return self


def sql_condition(match: Match) -> tuple[str, list[object]]:
    """The condition as the text after WHERE, and its parameters in order."""
    parts: list[str] = []
    given: list[object] = []

    def add(part: tuple[str, list[object]]) -> None:
        parts.append(part[0])
        given.extend(part[1])

    for name in FIELDS:
        wanted = getattr(match, name)
        if wanted is not None:
            add(_field_condition(f'"{name}"', wanted))
    for word, joined in (("all", " AND "), ("any", " OR ")):
        if (inner := getattr(match, word)) is not None:
            tests = [sql_condition(one) for one in inner]
            add(("(" + joined.join(sql for sql, _ in tests) + ")", [value for _, values in tests for value in values]))
    for one in match.none or ():
        sql, values = sql_condition(one)
        add((f"NOT coalesce({sql}, false)", values))
    return "(" + " AND ".join(parts) + ")", given


def _field_condition(field: str, wanted: Any) -> tuple[str, list[object]]:
    """The test of one field."""
    if isinstance(wanted, Not):
        sql, given = _field_condition(field, wanted.no)
        return f"NOT coalesce({sql}, false)", given
    if isinstance(wanted, list):
        tests = [_field_condition(field, one) for one in wanted]
        return "(" + " OR ".join(sql for sql, _ in tests) + ")", [value for _, values in tests for value in values]
    if isinstance(wanted, Compare):
        chosen = {word: getattr(wanted, word) for word in _OPERATORS if getattr(wanted, word) is not None}
        return "(" + " AND ".join(f"{field} {_OPERATORS[word]} ?" for word in chosen) + ")", list(chosen.values())
    if isinstance(wanted, str) and any(sign in wanted for sign in "*?["):
        return f"{field} GLOB ?", [wanted]
    return f"{field} = ?", [wanted]
