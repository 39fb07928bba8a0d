"""The options that several commands have, and those that are made of the reports: `--NAME FILE` writes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from auditor import plugins
from auditor.help import WRITTEN

C = TypeVar("C", bound=Callable[..., Any])

REPORTS = plugins.reports()
#: The files that were asked for, by the names of the reports that go there; `-` is stdout. A command that has it has `with_report_options`.
Outputs: TypeAlias = dict[str, Path] | None

Script = Annotated[
    list[str] | None, typer.Argument(metavar="SCRIPT [ARGS]...", help="the script and its own arguments", show_default=False)
]
Module = Annotated[bool, typer.Option("-m", help="SCRIPT is a module, as in python -m")]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="also show tensors, ops, random streams, the runs of each proof, and every run"),
]
Rules = Annotated[
    list[Path] | None,
    typer.Option("--rules", metavar="DIR", help="a folder of rules in addition to the shipped ones (repeatable)", show_default=False),
]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", metavar="RULE", help="only these rules: names, globs or tags (repeatable)", show_default=False),
]
Ignore = Annotated[list[str] | None, typer.Option("--ignore", metavar="RULE", help="not these rules (repeatable)", show_default=False)]
Baseline = Annotated[
    Path | None, typer.Option("--baseline", metavar="FILE", help="leave out the findings that this file accepts", show_default=False)
]
WriteBaseline = Annotated[
    Path | None,
    typer.Option("--write-baseline", metavar="FILE", help="accept today's findings: write them to this file", show_default=False),
]
FailOn = Annotated[
    str | None,
    typer.Option(
        "--fail-on",
        metavar="LEVEL",
        help="exit with 1 for findings of this level: error, warning, note or never; never also lets a divergence pass",
    ),
]
Strict = Annotated[
    bool | None,
    typer.Option(
        "--strict/--no-strict",
        help="also count differences that reach no part of the training, and search for their causes",
        show_default=False,
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, metavar="N", help="end the script cleanly after N steps", show_default=False)]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="end a run that takes longer", show_default=False)
]
Level = Annotated[str, typer.Option("--level", help="what is recorded: ops, or steps only")]
Effort = Annotated[
    str,
    typer.Option(
        "--effort",
        metavar="compare|explain|full",
        help="compare: only make the runs to compare; explain: if they differ, rerun to find out why; full: if they agree, also "
        "vary what should make no difference",
    ),
]
Window = Annotated[
    str | None, typer.Option("--window", metavar="A:B", help="record ops in steps A to B-1 only, and steps elsewhere", show_default=False)
]
Pin = Annotated[
    list[str] | None,
    typer.Option("--pin", metavar="FACTOR", help="pin this factor in every run (repeatable)", show_default=False),
]
Python = Annotated[
    Path | None,
    typer.Option("--python", help="interpreter to run the script with (repro-audit must be installed for it)", show_default=False),
]


def with_report_options(command: C) -> C:
    """Give a command one option for every report that can be written, in the place of its parameter `outputs`."""
    reports = {f"write_{name.replace('-', '_')}": report for name, report in REPORTS.items() if report.option}
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name != "outputs":
            parameters.append(parameter)
            continue
        for name, report in reports.items():
            option = typer.Option(
                f"--{report.name}", metavar=report.metavar, help=report.option, show_default=False, rich_help_panel=WRITTEN
            )
            parameters.append(parameter.replace(name=name, annotation=Annotated[Path | None, option], default=None))

    @wraps(command)
    def with_outputs(**given: Any) -> Any:
        asked = {report.name: given.pop(name) for name, report in reports.items()}
        return command(**given, outputs={name: path for name, path in asked.items() if path is not None})

    # what typer reads; of these two it takes the options from the first
    with_outputs.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_outputs.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_outputs  # type: ignore[return-value]  # called by the names of its options
