"""Reads `[tool.repro-audit]` in the pyproject.toml of the user's project: options that a team wants for every audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from auditor import plugins
from auditor.errors import UsageError
from auditor.trace.files import read

#: Largest pyproject.toml that is read, in bytes.
_LARGEST = 1 << 22
#: What the names of the fields begin with that hold the file of a report.
_FILE_OF = "file_of_"


class Config(BaseModel):
    """The table. What stands on the command line goes before it; folders of rules add up.

    `host`: the audit names the machine. There is also a file for each report, by the report's name, in which every audit writes it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[Path, ...] = ()
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    baseline: Path | None = None
    fail_on: str = Field("error", alias="fail-on", pattern="^(error|warning|note|never)$")
    strict: bool = False
    host: bool = False

    @property
    def outputs(self) -> dict[str, Path]:
        """The files of reports, by the names of the reports."""
        fields = {field.alias or name: getattr(self, name) for name, field in type(self).model_fields.items() if name.startswith(_FILE_OF)}
        return {name: path for name, path in fields.items() if path is not None}


def _table() -> type[Config]:
    """The table with a key for every report that has an option on the command line."""
    names = [name for name, report in plugins.reports().items() if report.option]
    fields: dict[str, Any] = {f"{_FILE_OF}{name.replace('-', '_')}": (Path | None, Field(None, alias=name)) for name in names}
    return create_model("Table", __base__=Config, **fields)


def read_config(start: Path) -> Config:
    """The table of the nearest pyproject.toml that has one, from this folder upwards; paths are relative to that file.

    Raises UsageError `bad-config`.
    """
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        try:
            tools = tomllib.loads(read(file.resolve(), _LARGEST).decode("utf-8")).get("tool")
            table = tools.get("repro-audit") if isinstance(tools, dict) else None
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError("bad-config", f"{file} cannot be read: {error}") from error
        if table is None:
            continue
        try:
            config = _table().model_validate(table)
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise UsageError("bad-config", f"[tool.repro-audit] of {file}: {said}") from error
        return config.model_copy(
            update={
                "rules": tuple(folder / path for path in config.rules),
                "baseline": folder / config.baseline if config.baseline else None,
                **{
                    f"{_FILE_OF}{name.replace('-', '_')}": path if str(path) == "-" else folder / path
                    for name, path in config.outputs.items()
                },
            }
        )
    return Config()
