"""Reads `[tool.repro-audit]` in the pyproject.toml of the user's project: options that a team wants for every audit."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auditor.errors import UsageError
from auditor.trace.files import read

#: Largest pyproject.toml that is read, in bytes.
_LARGEST = 1 << 22


class Config(BaseModel):
    """The table. What stands on the command line goes before it; folders of rules add up."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[Path, ...] = ()
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    baseline: Path | None = None
    fail_on: str = Field("error", alias="fail-on", pattern="^(error|warning|note|never)$")
    strict: bool = False


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
            config = Config.model_validate(table)
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise UsageError("bad-config", f"[tool.repro-audit] of {file}: {said}") from error
        return config.model_copy(
            update={
                "rules": tuple(folder / path for path in config.rules),
                "baseline": folder / config.baseline if config.baseline else None,
            }
        )
    return Config()
