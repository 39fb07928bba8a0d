"""The `match` of a rule: conditions on the recorded events of a run, as SQL with parameters.

A condition maps fields to required values, and all must hold; `all`, `any` and `none` combine conditions. There is no expression language:
text from a rule file never becomes SQL, only a parameter of it, so a third-party rule can be slow or wrong, but it cannot execute anything.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from auditor.trace.schema import COLUMNS, EVENT_COLUMNS

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

#: Field of an event -> how a condition on it is written. What each means is said in `trace.schema`.
FIELDS: dict[str, Any] = {
    "kind": Kind | list[Kind], "op": _Text, "stream": _Text, "name": _Text, "value": _Text, "path": _Text, "mode": _Text,
    "asked_by": _Text, "unknown": _Flag, "entropy": _Flag, "initial": _Flag, "args": _Text, "out": _Text, "module": _Text,
    "phase": Phase | list[Phase], "step": _Number, "lane": _Text, "file": _Text, "line": _Number, "function": _Text, "code": _Text,
}  # fmt: skip

Fields: type[BaseModel] = create_model(
    "Condition",
    __config__=ConfigDict(extra="forbid", frozen=True),
    __doc__="Fields and their required values; all must match.",
    **{  # type: ignore[call-overload]  # made from a table
        name: (Annotated[kind | None, Field(description=(EVENT_COLUMNS.get(name) or COLUMNS[name]).meaning)], None)
        for name, kind in FIELDS.items()
    },
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
