"""The command line: parse, call the pipeline, choose a report, exit status. No logic."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditor.errors import AuditError, UsageError
from auditor.help import AuditByDefault, AuditCommand, Group

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    cls=Group, help="What risky runs are judged by.", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
app.add_typer(rules_app, name="rules")

#: What typer raises for a command line that it does not understand; typer exports only this child of it.
_WrongUsage: Any = typer.BadParameter.__base__

#: Everything behind the script is the script's own.
_SCRIPT = {"allow_interspersed_args": False, "ignore_unknown_options": False}

Script = Annotated[
    list[str] | None, typer.Argument(metavar="SCRIPT [ARGS]...", help="the script and its own arguments", show_default=False)
]
Module = Annotated[bool, typer.Option("-m", help="SCRIPT is a module, as in python -m")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the audit as JSON (- is stdout)", show_default=False)]
Markdown = Annotated[
    Path | None,
    typer.Option("--markdown", metavar="FILE", help="write a short report for a chat or a pull request (- is stdout)", show_default=False),
]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="also show tensors, ops, random streams, the runs of each proof, and every run"),
]
Rules = Annotated[
    list[Path] | None,
    typer.Option("--rules", metavar="DIR", help="a folder of rules beside the shipped ones (repeatable)", show_default=False),
]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", metavar="RULE", help="only these rules: names, globs or tags (repeatable)", show_default=False),
]
Ignore = Annotated[list[str] | None, typer.Option("--ignore", metavar="RULE", help="not these rules (repeatable)", show_default=False)]
Baseline = Annotated[
    Path | None, typer.Option("--baseline", metavar="FILE", help="leave out the findings in this file", show_default=False)
]
WriteBaseline = Annotated[
    Path | None, typer.Option("--write-baseline", metavar="FILE", help="keep today's findings in this file", show_default=False)
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
        help="differences that reach no part of the training count, too, and their causes are searched for",
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
        help="compare: make no run but those that are compared; explain: if they differ, run on to find out why; full: if they agree, also "
        "vary what should make no difference",
    ),
]
Window = Annotated[
    str | None, typer.Option("--window", metavar="A:B", help="record ops in steps A to B-1 only, steps elsewhere", show_default=False)
]
Pin = Annotated[
    list[str] | None,
    typer.Option("--pin", metavar="FACTOR", help="hold a source of variation still in every run (repeatable)", show_default=False),
]
Python = Annotated[
    Path | None,
    typer.Option("--python", help="interpreter to run the script with (repro-audit must be installed for it)", show_default=False),
]


@app.callback(invoke_without_command=True)
def _main(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="print the version and end")] = False) -> None:
    if version:
        from auditor import __version__

        print(f"repro-audit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), end="\n\n", file=sys.stderr)
        with _plain_errors():
            raise UsageError("no-script", "no script was given: repro-audit train.py ...")


@app.command(cls=AuditCommand, context_settings=_SCRIPT)
def run(
    script: Script = None,
    module: Module = False,
    steps: Steps = None,
    timeout: Timeout = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="keep the runs here (default: in your cache directory)", show_default=False),
    ] = None,
    runs: Annotated[
        int, typer.Option("--runs", min=2, metavar="N", help="runs to compare; more of them show what happens now and then")
    ] = 2,
    effort: Effort = "full",
    pin: Pin = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary", metavar="FACTOR", help="vary this if the runs agree, instead of all that can be (repeatable)", show_default=False
        ),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="write a patch for what a few lines cure, after running it")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="change the script so; as it was it stays in git or in a backup")] = False,
    self_check: Annotated[
        bool, typer.Option("--self-check", help="run twice more to see whether being recorded changes the script")
    ] = False,
    devices: Annotated[
        str | None,
        typer.Option(
            "--devices",
            metavar="A,B",
            help="compare runs on these: cpu, cuda, cuda:1, or a CPU that can do less, such as cpu:avx2 or cpu:threads=1",
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
    json: Json = None,
    markdown: Markdown = None,
    verbose: Verbose = False,
    fail_on: FailOn = None,
    rules: Rules = None,
    select: Select = None,
    ignore: Ignore = None,
    baseline: Baseline = None,
    write_baseline: WriteBaseline = None,
    python: Python = None,
) -> None:
    """Run a script twice, name the first op at which the runs differ, and judge the run by the rules (the default command)."""
    with _plain_errors():
        plan = _plan(script, module, steps, timeout, python)
        config = _config()
        fail_on = config.fail_on if fail_on is None else fail_on
        _check(fail_on, json, markdown, write_baseline)
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
        _finish(audit, json, markdown, fail_on, verbose)


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
        typer.Option("--vary", metavar="FACTOR", help="make one another than usual (repeatable)", show_default=False),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="NAME", help="run there, so that it can be compared with a run on another device", show_default=False
        ),
    ] = None,
    python: Python = None,
) -> None:
    """Make one run and keep it, with factors held still or varied if so asked (`repro-audit factors` lists them)."""
    with _plain_errors():
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
def match(
    a: Annotated[Path, typer.Argument(metavar="A.py", help="a script")],
    b: Annotated[Path, typer.Argument(metavar="B.py", help="another that is to compute the same")],
    a_args: Annotated[str, typer.Option("--a-args", metavar="WORDS", help="arguments of the first, in one word", show_default=False)] = "",
    b_args: Annotated[str, typer.Option("--b-args", metavar="WORDS", help="arguments of the second", show_default=False)] = "",
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="A=B", help="names that are counterparts, or a YAML file of them (repeatable)", show_default=False),
    ] = None,
    copy_initial_weights: Annotated[
        bool, typer.Option("--copy-initial-weights", help="give the second program the first values of the first one's weights")
    ] = False,
    timeout: Timeout = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="keep the runs here (default: in your cache directory)", show_default=False),
    ] = None,
    json: Json = None,
    markdown: Markdown = None,
    verbose: Verbose = False,
    python: Python = None,
) -> None:
    """Run two programs and compare the values that they give to names: an old loop and its refactoring, a NumPy and a torch version."""
    with _plain_errors():
        _check("error", json, markdown)
        plans = [_plan([str(script), *shlex.split(words)], False, None, timeout, python) for script, words in ((a, a_args), (b, b_args))]
        from auditor import pipeline, progress

        screen = progress.screen()
        try:
            audit = pipeline.match(plans[0], plans[1], out, screen, map_ or (), copy_initial_weights)
        finally:
            screen.close()
        screen.make_room()
        _finish(audit, json, markdown, "error", verbose)


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(metavar="RUN", help="a kept run")],
    b: Annotated[Path, typer.Argument(metavar="RUN", help="another")],
    strict: Strict = None,
    json: Json = None,
    markdown: Markdown = None,
    verbose: Verbose = False,
    fail_on: FailOn = None,
) -> None:
    """Compare two kept runs, also ones made on different days or machines."""
    with _plain_errors():
        config = _config()
        fail_on = config.fail_on if fail_on is None else fail_on
        strict = config.strict if strict is None else strict
        _check(fail_on, json, markdown)
        from auditor import pipeline

        _finish(pipeline.diff(a, b, strict), json, markdown, fail_on, verbose)


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
    with _plain_errors():
        from auditor import pipeline
        from auditor.listing import print_listing

        found = pipeline.events(run, step=step, op=op, phase=phase, file=file, lane=lane, kinds=kind, limit=limit)
        with _writing():
            print_listing(found, sys.stdout)


@app.command()
def report(
    audit: Annotated[Path, typer.Argument(metavar="AUDIT", help="a file written by --json")],
    json: Json = None,
    markdown: Markdown = None,
    verbose: Verbose = False,
    fail_on: FailOn = None,
) -> None:
    """Show an audit that was written with --json."""
    with _plain_errors():
        fail_on = _config().fail_on if fail_on is None else fail_on
        _check(fail_on, json, markdown)
        from auditor.report.json import read

        _finish(read(audit), json, markdown, fail_on, verbose)


@app.command()
def explain(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="name of a rule")],
    rules: Rules = None,
) -> None:
    """Say what a rule finds, why it matters, and what to do instead."""
    with _plain_errors():
        from auditor import pipeline
        from auditor.pipeline.rulebook import print_rule

        found = pipeline.one_rule(rule, _folders(rules))
        with _writing():
            print_rule(found, sys.stdout)


@app.command()
def query(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a kept run")],
    sql: Annotated[str, typer.Argument(metavar="SQL", help='a SELECT over the tables records, events and "all"')],
) -> None:
    """Ask a kept run a question of your own, in SQL."""
    with _plain_errors():
        from auditor import pipeline

        names, rows = pipeline.answer(run, sql)
        with _writing():
            print("\t".join(map(printable, names)))
            for row in rows:
                print("\t".join("" if value is None else printable(str(value)).replace("\n", "\\n") for value in row))


@app.command()
def factors() -> None:
    """Print the sources of variation that can be held still or varied, and whether they can be here."""
    with _plain_errors():
        from auditor import plugins
        from auditor.pipeline.rulebook import print_factors

        with _writing():
            print_factors(plugins.factors().values(), sys.stdout)


@rules_app.command("list")
def list_rules(rules: Rules = None) -> None:
    """Print the name, level, tags and title of each rule."""
    with _plain_errors():
        from auditor import pipeline
        from auditor.pipeline.rulebook import print_rules

        found = pipeline.all_rules(_folders(rules))
        with _writing():
            print_rules([file.rule for file in found.values()], sys.stdout)


@rules_app.command("check")
def check_rules(folders: Annotated[list[Path] | None, typer.Argument(metavar="[DIR]...", help="folders of rules")] = None) -> None:
    """Read rule files and say all that is wrong with them."""
    with _plain_errors():
        from auditor import pipeline

        found = pipeline.all_rules(folders or ())
        print(f"{len(found)} rules, and nothing wrong with them")


@rules_app.command("test")
def try_rules(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[DIR]...", help="folders of rules (default: the shipped ones)")] = None,
) -> None:
    """Run the script beside each rule and see that it is found where it is marked, and nowhere else."""
    with _plain_errors():
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


#: Signals that ended us; what fails behind one fails because of it.
_ended_by: list[int] = []


def main() -> None:
    """Entry point of `repro-audit`."""
    _hold_closed_streams()
    _end_cleanly()
    users = {Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    sys.path.sort(key=lambda entry: Path(entry).resolve() in users)  # an own `yaml.py` of the user's is for the script alone
    try:
        ended = app(standalone_mode=False)
    except KeyboardInterrupt:
        ended = _interrupted()
    except Exception as error:  # noqa: BLE001  # whatever it is: a traceback of ours explains nothing to a user
        if _ended_by:  # what typer and DuckDB make of a signal
            ended = _interrupted()
        elif isinstance(error, _WrongUsage):
            ended = _wrong_usage(error)
        else:
            _say(_internal(error))
            ended = AuditError.exit_status
    sys.exit(ended)


def _end_cleanly() -> None:
    """Treat a request to end as Ctrl-C: what was started is ended, copies are removed, and what was recorded is kept."""

    def asked(number: int, _frame: object) -> None:
        _ended_by.append(number)
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not below nohup
            signal.signal(number, asked)


def _interrupted() -> int:
    """Say that we were asked to end; returns the status that a shell would give."""
    number = _ended_by[0] if _ended_by else signal.SIGINT
    _say("interrupted: what was recorded is kept [interrupted]")
    return 128 + number


def _wrong_usage(error: Any) -> int:
    if error.ctx is not None:
        print(error.ctx.get_usage(), f"Try '{error.ctx.command_path} --help' for help.", sep="\n", end="\n\n", file=sys.stderr)
    said = error.format_message().rstrip(".")
    _say(f"{said[:1].lower()}{said[1:]} [wrong-usage]")
    return UsageError.exit_status


def _internal(error: Exception) -> str:
    """One sentence on what should not happen, with where its details are: a file of its owner's alone, without credentials."""
    import tempfile
    import traceback

    from auditor.redaction import redacted

    what = f"{type(error).__name__}: {str(error)[:200]}"
    try:
        fd, name = tempfile.mkstemp(prefix="repro-audit-error-", suffix=".txt")
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(redacted("".join(traceback.format_exception(error))))
        where = f"the details are in {name}"
    except OSError:
        where = "the details could not be written"
    return f"an error of repro-audit itself, please report it: {what}; {where} [internal-error]"


def _say(text: str) -> None:
    """One line of ours on stderr."""
    said = f"repro-audit: {printable(text)}\n"
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    try:
        sys.stderr.write(said.encode(encoding, "backslashreplace").decode(encoding))
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads on


def printable(text: str) -> str:
    """A text in which nothing acts on a terminal and no credential stands: control characters and the like are escapes."""
    from auditor.redaction import redacted

    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in redacted(text))


def _hold_closed_streams() -> None:
    """Occupy the numbers of closed streams: a file that we open must not become our stdin, stdout or stderr."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


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


def _check(fail_on: str, *outputs: Path | None) -> None:
    """Refuse what would only fail after the runs."""
    if fail_on not in _FAIL_ON:
        raise UsageError("bad-fail-on", f"--fail-on {fail_on}: one of {', '.join(_FAIL_ON)} is wanted")
    named = [output for output in outputs if output is not None]
    if len({os.path.abspath(output) for output in named}) < len(named):  # noqa: PTH100  # not through links: what was typed twice
        raise UsageError("same-output", f"two reports cannot both be written to {'stdout' if str(named[0]) == '-' else named[0]}")
    for output in named:
        if str(output) == "-":
            continue
        try:
            if output.is_file() or output.is_dir():
                output.open("ab").close()
            elif not output.exists():  # what is neither, such as a pipe, would see its only writer come and go
                output.touch()
                output.unlink()
        except OSError as error:
            raise UsageError("output-unwritable", f"cannot write {output}: {error.strerror}") from error


def _finish(audit: Audit, json: Path | None, markdown: Path | None, fail_on: str, verbose: bool) -> None:
    """Write the reports and end with the status that the audit deserves."""
    from auditor.report import json as as_json
    from auditor.report import markdown as as_markdown
    from auditor.report import terminal

    taken = False
    for path, render in ((json, as_json.render), (markdown, as_markdown.render)):
        if path is None:
            continue
        if str(path) == "-":
            with _writing():
                render(audit, sys.stdout)
            taken = True
            continue
        try:
            with path.open("w", encoding="utf-8") as file:
                render(audit, file)
        except OSError as error:
            raise UsageError("output-unwritable", f"cannot write {path}: {error.strerror}") from error
    with _writing():
        show = terminal.render_verbose if verbose else terminal.render
        show(audit, sys.stderr if taken else sys.stdout)
    raise typer.Exit(status(audit, fail_on))


def status(audit: Audit, fail_on: str) -> int:
    """0: no divergence seen and no finding at or above the level; 1: one of them; 2: could not tell."""
    if fail_on != "never":
        levels = _FAIL_ON[: _FAIL_ON.index(fail_on) + 1]
        if audit.verdict == "diverged" or any(finding.level in levels for finding in audit.findings):
            return 1
    return 2 if audit.verdict == "inconclusive" else 0


@contextmanager
def _writing() -> Iterator[None]:
    """Write what was asked for: where nobody reads on, end quietly (`repro-audit show RUN | head`); where there is no space, say so.

    Only here: a run goes on to its end and is kept although nobody reads what the script prints.
    """
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer is not written once more when Python ends
        raise UsageError("output-unwritable", f"cannot write to stdout: {error.strerror}") from error


@contextmanager
def _plain_errors() -> Iterator[None]:
    """An error of ours is one sentence with its slug."""
    try:
        yield
    except AuditError as error:
        if _ended_by:
            raise typer.Exit(_interrupted()) from None
        _say(str(error))
        raise typer.Exit(error.exit_status) from None
    except KeyboardInterrupt:
        raise typer.Exit(_interrupted()) from None
