"""The command line: parse, call the pipeline, choose a report, exit status. No logic."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditor.endings import (
    WrongUsage,
    end_cleanly,
    ended_by,
    fault_sentence,
    hold_closed_streams,
    interrupted,
    plain_errors,
    printable,
    refuse_usage,
    say,
)
from auditor.errors import AuditError, UsageError
from auditor.help import AuditByDefault, AuditCommand, Group
from auditor.options import (
    REPORTS,
    Baseline,
    Effort,
    FailOn,
    Ignore,
    Level,
    Module,
    Outputs,
    Pin,
    Python,
    Rules,
    Script,
    Select,
    Steps,
    Strict,
    Timeout,
    Verbose,
    Window,
    WriteBaseline,
    with_report_options,
)
from auditor.output import forgiving, refuse_unwritable, writing_to_stdout

if TYPE_CHECKING:
    from auditor.config import Config
    from auditor.results import Audit

_FAIL_ON = ("error", "warning", "note", "never")


app = typer.Typer(
    cls=AuditByDefault, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find out why two runs of a PyTorch training script differ. "
    "`repro-audit train.py ...` runs the script twice, unmodified, and finds the first op where the runs diverge.",
)  # fmt: skip

rules_app = typer.Typer(
    cls=Group, help="List, explain, check and test rules.", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
app.add_typer(rules_app, name="rules")


#: Everything behind the script is the script's own.
_SCRIPT = {"allow_interspersed_args": False, "ignore_unknown_options": False}


@app.callback(invoke_without_command=True)
def _main(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="show the version and exit")] = False) -> None:
    if version:
        from auditor import __version__

        print(f"repro-audit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), end="\n\n", file=sys.stderr)
        with plain_errors():
            raise UsageError("no-script", "no script was given: repro-audit train.py ...")


@app.command(cls=AuditCommand, context_settings=_SCRIPT)
@with_report_options
def run(
    script: Script = None,
    module: Module = False,
    steps: Steps = None,
    timeout: Timeout = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="keep the runs here (default: in your cache directory)", show_default=False),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=2, metavar="N", help="runs to compare; more of them show what is intermittent")] = 2,
    effort: Effort = "full",
    pin: Pin = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary", metavar="FACTOR", help="vary this factor if the runs agree, instead of all of them (repeatable)", show_default=False
        ),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="write a patch where a few lines are the fix, and verify it by reruns")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="apply the patch; keeps a backup unless git tracks the file")] = False,
    self_check: Annotated[
        bool, typer.Option("--self-check", help="run twice more to see whether recording changes what the script does")
    ] = False,
    devices: Annotated[
        str | None,
        typer.Option(
            "--devices",
            metavar="A,B",
            help="compare runs on these devices: cpu, cuda, cuda:1, or a CPU with fewer features, such as cpu:avx2 or cpu:threads=1",
            show_default=False,
        ),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            "--shadow", metavar="HOW", help="recompute each op in float64, or on a device, and measure its error", show_default=False
        ),
    ] = None,
    strict: Strict = None,
    outputs: Outputs = None,
    verbose: Verbose = False,
    fail_on: FailOn = None,
    rules: Rules = None,
    select: Select = None,
    ignore: Ignore = None,
    baseline: Baseline = None,
    write_baseline: WriteBaseline = None,
    python: Python = None,
) -> None:
    """Run a script twice, find the first op where the runs diverge, and judge the run by the rules (the default command)."""
    with plain_errors():
        plan = _plan(script, module, steps, timeout, python)
        config = _config()
        fail_on = config.fail_on if fail_on is None else fail_on
        outputs = {**config.outputs, **(outputs or {})}
        _check(fail_on, outputs, write_baseline)
        from auditor import pipeline, progress
        from auditor.plan import AuditOptions, Selection

        strict = config.strict if strict is None else strict
        options = AuditOptions(runs, _effort(effort), tuple(pin or ()), tuple(vary or ()), fix, apply, devices or "", shadow or "", strict)
        selection = Selection(
            folders=(*config.rules, *(rules or ())), select=tuple(select or config.select), ignore=tuple(ignore or config.ignore),
            baseline=baseline or (None if write_baseline else config.baseline), write_baseline=write_baseline,
        )  # fmt: skip
        screen = progress.screen()
        try:
            audit = pipeline.audit(plan, out, screen, options, self_check, selection)
        finally:
            screen.close()
        screen.make_room()
        if config.host and audit.provenance is not None:
            import platform

            audit.provenance.machine["host"] = platform.node()
        _finish(audit, outputs, fail_on, verbose)


@app.command(context_settings=_SCRIPT)
def record(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="directory for the run; must not exist")],
    script: Script = None,
    module: Module = False,
    steps: Steps = None,
    timeout: Timeout = None,
    level: Level = "ops",
    window: Window = None,
    pin: Pin = None,
    vary: Annotated[
        list[str] | None,
        typer.Option("--vary", metavar="FACTOR", help="vary this factor (repeatable)", show_default=False),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="NAME", help="run on this device, to compare the run with one on another device", show_default=False
        ),
    ] = None,
    python: Python = None,
) -> None:
    """Make one run and keep it, with factors pinned or varied if asked (`repro-audit factors` lists them)."""
    with plain_errors():
        plan = _plan(script, module, steps, timeout, python).with_level(_level(level), _window(window))
        from auditor import pipeline, progress

        plan = pipeline.with_factors(plan, pin or [], vary or [])
        plan = pipeline.with_device(plan, device) if device else plan
        screen = progress.screen()
        try:
            made, cut_short = pipeline.record(plan, out, screen)
        finally:
            screen.close()
        held = "".join(f", {', '.join(names)} {how}" for names, how in ((made.pinned, "pinned"), (made.varied, "varied")) if names)
        screen.say(f"recorded {made.ops:,} ops in {made.steps:,} steps ({made.seconds:.1f} s) in {out}{held}")
        if cut_short:
            from auditor.report.words.reasons import text_of

            screen.say(text_of(cut_short))
            raise typer.Exit(2)
        if made.exit:
            screen.say(f"the script ended with {made.error or f'status {made.exit}'} [script-failed]")
            raise typer.Exit(made.exit if made.exit > 0 else 128 - made.exit)


@app.command()
@with_report_options
def match(
    a: Annotated[Path, typer.Argument(metavar="A.py", help="a script")],
    b: Annotated[Path, typer.Argument(metavar="B.py", help="another script that should compute the same")],
    a_args: Annotated[str, typer.Option("--a-args", metavar="WORDS", help="arguments of the first, in one word", show_default=False)] = "",
    b_args: Annotated[str, typer.Option("--b-args", metavar="WORDS", help="arguments of the second", show_default=False)] = "",
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="A=B", help="names that correspond, or a YAML file of them (repeatable)", show_default=False),
    ] = None,
    copy_initial_weights: Annotated[
        bool, typer.Option("--copy-initial-weights", help="start the second program with the initial weights of the first")
    ] = False,
    timeout: Timeout = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="keep the runs here (default: in your cache directory)", show_default=False),
    ] = None,
    outputs: Outputs = None,
    verbose: Verbose = False,
    python: Python = None,
) -> None:
    """Run two programs and compare the values of their names: an old loop and its refactoring, a NumPy and a torch version."""
    with plain_errors():
        _check("error", outputs)
        plans = [_plan([str(script), *shlex.split(words)], False, None, timeout, python) for script, words in ((a, a_args), (b, b_args))]
        from auditor import pipeline, progress

        screen = progress.screen()
        try:
            audit = pipeline.match(plans[0], plans[1], out, screen, map_ or (), copy_initial_weights)
        finally:
            screen.close()
        screen.make_room()
        _finish(audit, outputs, "error", verbose)


@app.command()
@with_report_options
def diff(
    a: Annotated[Path, typer.Argument(metavar="RUN", help="a kept run")],
    b: Annotated[Path, typer.Argument(metavar="RUN", help="another")],
    strict: Strict = None,
    outputs: Outputs = None,
    verbose: Verbose = False,
    fail_on: FailOn = None,
) -> None:
    """Compare two kept runs, also ones made on different days or machines."""
    with plain_errors():
        config = _config()
        fail_on = config.fail_on if fail_on is None else fail_on
        strict = config.strict if strict is None else strict
        _check(fail_on, outputs)
        from auditor import pipeline

        _finish(pipeline.diff(a, b, strict), outputs, fail_on, verbose)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a kept run")],
    step: Annotated[int | None, typer.Option("--step", help="only this step", show_default=False)] = None,
    op: Annotated[str | None, typer.Option("--op", help="only ops that match this glob", show_default=False)] = None,
    phase: Annotated[
        str | None, typer.Option("--phase", help="only this phase: setup, forward, backward, optimizer", show_default=False)
    ] = None,
    file: Annotated[str | None, typer.Option("--file", help="only lines of files that match this glob", show_default=False)] = None,
    lane: Annotated[str | None, typer.Option("--lane", help="only this lane", show_default=False)] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", help="only these: op, external, draw, seed, setting, step, file, thread, lost (repeatable)", show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="at most so many lines")] = 200,
) -> None:
    """Print what a run holds: ops, draws, seeds, settings, steps and files, in order."""
    with plain_errors():
        from auditor import pipeline
        from auditor.listing import print_listing

        found = pipeline.events(run, step=step, op=op, phase=phase, file=file, lane=lane, kinds=kind, limit=limit)
        with writing_to_stdout():
            print_listing(found, sys.stdout)


@app.command()
@with_report_options
def report(
    audit: Annotated[Path, typer.Argument(metavar="AUDIT", help="a file written by --json")],
    format_: Annotated[str, typer.Option("--format", metavar="NAME", help=f"print it in this format: {', '.join(REPORTS)}")] = "terminal",
    outputs: Outputs = None,
    verbose: Verbose = False,
    fail_on: FailOn = None,
) -> None:
    """Show an audit that was written with --json."""
    with plain_errors():
        fail_on = _config().fail_on if fail_on is None else fail_on
        _check(fail_on, outputs)
        if format_ not in REPORTS:
            raise UsageError("no-such-format", f"--format {format_}: it is one of {', '.join(REPORTS)}")
        from auditor.report.json import read

        _finish(read(audit), outputs, fail_on, verbose, format_)


@app.command()
def explain(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="name of a rule")],
    rules: Rules = None,
) -> None:
    """Say what a rule finds, why it matters, and what to do instead."""
    with plain_errors():
        from auditor import pipeline
        from auditor.pipeline.rulebook import print_rule

        found = pipeline.one_rule(rule, _folders(rules))
        with writing_to_stdout():
            print_rule(found, sys.stdout)


@app.command()
def query(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a kept run")],
    sql: Annotated[str, typer.Argument(metavar="SQL", help='a SELECT over the tables records, events and "all"')],
) -> None:
    """Query a kept run in SQL."""
    with plain_errors():
        from auditor import pipeline

        names, rows = pipeline.answer(run, sql)
        with writing_to_stdout():
            print("\t".join(map(printable, names)))
            for row in rows:
                print("\t".join("" if value is None else printable(str(value)).replace("\n", "\\n") for value in row))


@app.command()
def factors() -> None:
    """Print the factors that can be pinned or varied, and whether they can be on this machine."""
    with plain_errors():
        from auditor import plugins
        from auditor.pipeline.rulebook import print_factors

        with writing_to_stdout():
            print_factors(plugins.factors().values(), sys.stdout)


@rules_app.command("list")
def list_rules(rules: Rules = None) -> None:
    """Print the name, level, tags and title of each rule."""
    with plain_errors():
        from auditor import pipeline
        from auditor.pipeline.rulebook import print_rules

        found = pipeline.all_rules(_folders(rules))
        with writing_to_stdout():
            print_rules([file.rule for file in found.values()], sys.stdout)


@rules_app.command("check")
def check_rules(folders: Annotated[list[Path] | None, typer.Argument(metavar="[DIR]...", help="folders of rules")] = None) -> None:
    """Check rule files and print every error in them."""
    with plain_errors():
        from auditor import pipeline

        found = pipeline.all_rules(folders or ())
        print(f"{len(found)} rules, and nothing wrong with them")


@rules_app.command("test")
def try_rules(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[DIR]...", help="folders of rules (default: the shipped ones)")] = None,
) -> None:
    """Run the script beside each rule and check that the rule matches the marked lines and no others."""
    with plain_errors():
        from auditor import pipeline, progress

        screen = progress.screen()
        try:
            complaints = pipeline.try_rules(folders or (), screen)
        finally:
            screen.close()
        for name, said in complaints.items():
            print(f"{'failed' if said else 'passed'}  {name}", *(f"        {one}" for one in said), sep="\n")
        if any(complaints.values()):
            raise typer.Exit(1)


@rules_app.command()
def schema() -> None:
    """Print the JSON Schema of a rule file, for editors."""
    import json

    from auditor import pipeline

    print(json.dumps(pipeline.schema(), indent=2))


def _config() -> Config:
    from auditor.config import read_config

    return read_config(Path.cwd())


def _folders(rules: list[Path] | None) -> list[Path]:
    return [*_config().rules, *(rules or ())]


def main() -> None:
    """Entry point of `repro-audit`."""
    hold_closed_streams()
    end_cleanly()
    users = {Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    sys.path.sort(key=lambda entry: Path(entry).resolve() in users)  # an own `yaml.py` of the user's is for the script alone
    try:
        ended = app(standalone_mode=False)
    except KeyboardInterrupt:
        ended = interrupted()
    except Exception as error:  # noqa: BLE001  # whatever it is: a traceback of ours explains nothing to a user
        if ended_by:  # what typer and DuckDB make of a signal
            ended = interrupted()
        elif isinstance(error, WrongUsage):
            ended = refuse_usage(error)
        else:
            say(fault_sentence(error))
            ended = AuditError.exit_status
    sys.exit(ended)


def _plan(script: list[str] | None, module: bool, steps: int | None, timeout: float | None, python: Path | None) -> Any:
    from auditor.plan import Plan

    words = tuple((["-m"] if module else []) + (script or []))
    settings: dict[str, Any] = {"steps": steps, "timeout": timeout}
    if python is not None:
        settings["python"] = str(python)
    return Plan(words, **settings)


def _level(level: str) -> str:
    if level not in ("ops", "steps"):
        raise UsageError("no-such-level", f"--level {level}: the levels are ops and steps")
    return level


def _effort(effort: str) -> str:
    from auditor.plan import EFFORTS

    if effort not in EFFORTS:
        raise UsageError("no-such-effort", f"--effort {effort}: it is one of {', '.join(EFFORTS)}")
    return effort


def _window(window: str | None) -> tuple[int, int] | None:
    if window is None:
        return None
    first, colon, last = window.partition(":")
    if not colon or not first.isdigit() or not last.isdigit() or int(first) >= int(last):
        raise UsageError("bad-window", f"--window {window}: two step numbers A:B with A < B are wanted")
    return int(first), int(last)


def _check(fail_on: str, outputs: Outputs, baseline: Path | None = None) -> None:
    """Refuse what would only fail after the runs."""
    if fail_on not in _FAIL_ON:
        raise UsageError("bad-fail-on", f"--fail-on {fail_on}: one of {', '.join(_FAIL_ON)} is wanted")
    refuse_unwritable([*(outputs or {}).values(), *filter(None, [baseline])])


def _finish(audit: Audit, outputs: Outputs, fail_on: str, verbose: bool, printed: str = "terminal") -> None:
    """Write the reports, print one, and end with the status that the audit deserves."""
    from auditor.report import terminal

    taken = False
    for name, path in (outputs or {}).items():
        if str(path) == "-":
            with writing_to_stdout():
                REPORTS[name].print(audit, sys.stdout)
            taken = True
            continue
        try:
            REPORTS[name].write(audit, path)
        except OSError as error:
            raise UsageError("output-unwritable", f"cannot write {path}: {error.strerror}") from error
    out = sys.stderr if taken else sys.stdout
    with writing_to_stdout():
        if verbose and printed == "terminal":
            terminal.render_verbose(audit, forgiving(out))
        else:
            REPORTS[printed].print(audit, out)
    raise typer.Exit(status(audit, fail_on))


def status(audit: Audit, fail_on: str) -> int:
    """0: no divergence seen and no finding at or above the level; 1: one of them; 2: inconclusive."""
    if fail_on != "never":
        levels = _FAIL_ON[: _FAIL_ON.index(fail_on) + 1]
        if audit.verdict == "diverged" or any(finding.level in levels for finding in audit.findings):
            return 1
    return 2 if audit.verdict == "inconclusive" else 0
