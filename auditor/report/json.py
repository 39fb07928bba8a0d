"""The audit itself as JSON: what every other tool reads, and `repro-audit report` reads back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from auditor.errors import UsageError
from auditor.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from auditor.results import Audit


def render(audit: Audit, out: TextIO) -> None:
    """Write the audit, each reason with its sentence as `text`; `read` gives it back unchanged."""
    try:
        data = json.loads(audit.model_dump_json())
    except ValueError:
        # a file name or an argument that is no text in any encoding is held as lone surrogates, which JSON cannot have
        data = _representable(audit.model_dump())
    from auditor.report.words.reasons import text_of
    from auditor.results import Reason

    def said(value: dict[str, Any]) -> str:
        return text_of(Reason.model_validate(value))

    text = json.dumps(_with_texts(data, said), indent=2, ensure_ascii=False)
    try:
        text.encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2)
    out.write(text + "\n")


def read(path: Path) -> Audit:
    """Read an audit. Raises `UsageError`: `audit-unreadable`, `audit-newer`."""
    from pydantic import ValidationError

    from auditor.results import FORMAT, Audit
    from auditor.trace import files

    try:
        data = json.loads(files.read(path.resolve()))
    except OSError as error:
        raise UsageError("audit-unreadable", f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError("audit-unreadable", f"{path} is not JSON ({error}): name a file that --json wrote") from error
    found = data.get("format") if isinstance(data, dict) else None
    if not isinstance(found, int) or "verdict" not in data:
        raise UsageError("audit-unreadable", f"{path} is JSON but no audit: name a file that --json wrote")
    if found > FORMAT:
        raise UsageError(
            "audit-newer",
            f"{path} has format {found}, and this repro-audit reads up to {FORMAT}: pip install -U repro-audit",
        )
    try:
        return Audit.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError("audit-unreadable", f"{path} is not a whole audit: {where}: {first['msg'].lower()}") from error


def _with_texts(value: Any, said: Callable[[dict[str, Any]], str]) -> Any:
    """The same data, in which each reason says what it says in words."""
    if isinstance(value, list):
        return [_with_texts(part, said) for part in value]
    if not isinstance(value, dict):
        return value
    texts = {"text": said(value)} if value.keys() == {"slug", "parameters"} else {}
    return {key: _with_texts(part, said) for key, part in value.items()} | texts


def _representable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_representable(key): _representable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_representable(part) for part in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


REPORT = Report(name="json", suffix=".json", render=render, option="write the audit as JSON (- is stdout)")
