"""The text of `--help`: options in groups, full descriptions of commands, examples, exit statuses, and the cost of an audit."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

#: The group of the options that write a report.
WRITTEN = "What is written"
#: The options of an audit by topic; options without a group come last.
GROUPS = {
    "How far an audit goes": ("--effort", "--runs", "--steps", "--timeout", "--strict", "--pin", "--vary", "--self-check"),
    "Other devices": ("--devices", "--shadow"),
    "Your script": ("-m", "--python", "--fix", "--apply"),
    "What a run is judged by": ("--rules", "--select", "--ignore", "--baseline", "--write-baseline", "--fail-on"),
    WRITTEN: ("--verbose", "--out"),
}
EXAMPLES = (
    ("repro-audit train.py --epochs 1", "is the script reproducible, and if not, why"),
    ("repro-audit --effort compare --steps 20 train.py", "two short runs, as before a merge"),
    ("repro-audit --devices cpu,cuda --shadow float64 train.py", "which op makes the GPU differ, and is it wrong"),
)
STATUSES = (
    ("0", "no divergence was seen, and no rule found an error (--fail-on sets the level)"),
    ("1", "the runs diverged, or a rule found an error"),
    ("2", "inconclusive: the script failed, the command line is wrong, or a run is not whole"),
    ("130", "you pressed Ctrl-C"),
)
COST = (
    "The script is really run: twice with --effort compare; about seven times if the runs agree, and six to ten times if they differ. "
    "Recorded runs of small models take longer than bare ones: --steps ends each of them early."
)


class AuditCommand(TyperCommand):
    """A command with the options of an audit."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options in their groups."""
        _write_options(_options_of(self, ctx), formatter)


class Group(TyperGroup):
    """Commands whose descriptions are not truncated."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # the name is that of the parent's
        """Write each command with the first paragraph of its description."""
        self.write_commands(formatter, "Commands")

    def write_commands(self, formatter: Any, title: str, without: str = "") -> None:
        """Write the commands under another title, without one of them."""
        with formatter.section(title):
            rows = [(name, command.help or "") for name, command in self.commands.items() if name != without]
            formatter.write_dl([(name, " ".join(said.split("\n\n")[0].split())) for name, said in rows])


class AuditByDefault(Group):
    """`repro-audit train.py` means `repro-audit run train.py`: a first word that is neither a command nor an option is a script."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the command `run` where no command is given."""
        first = args[0] if args else None
        if first is not None and first not in self.commands and first not in ("--help", "-h", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the main command, then the other commands."""
        run = self.commands["run"]
        formatter.write_usage(ctx.command_path, "[OPTIONS] SCRIPT [ARGS]...", "Usage: ")
        self.format_help_text(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(COST)
        with formatter.section("Examples"):
            for command, what in EXAMPLES:
                formatter.write(f"{'':{formatter.current_indent}}{command}\n")
                with formatter.indentation():
                    formatter.write_text(what)
        _write_options(_options_of(self, ctx) | _options_of(run, type(ctx)(run, info_name="run", parent=ctx)), formatter)
        self.write_commands(formatter, "Other commands", without="run")
        with formatter.section("Exit status"):
            formatter.write_dl(list(STATUSES))


def _options_of(command: Any, ctx: Any) -> dict[str, Any]:
    """The options of a command by their last names, each with how it is given, what it does, and the group that it names itself."""
    options = [parameter for parameter in command.get_params(ctx) if parameter.param_type_name == "option"]
    records = {option.opts[-1]: (option.get_help_record(ctx), getattr(option, "rich_help_panel", None)) for option in options}
    return {name: record for name, record in records.items() if record[0] is not None}


def _write_options(options: dict[str, Any], formatter: Any) -> None:
    left = {name: record for name, (record, _) in options.items()}
    for title, names in GROUPS.items():
        own = [name for name, (_, group) in options.items() if group == title]
        rows = [left.pop(name) for name in (*own, *names) if name in left]
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)
    with formatter.section("Others"):
        formatter.write_dl(list(left.values()))
