"""The types of what a run says of itself: everything that is read from its JSON is held against these before anybody asks for it.

A run may come from somebody else, or be damaged. What is known must be what it should be; what is not known is left alone.
"""

from __future__ import annotations

from typing import Any

from auditor.trace.schema import event
from auditor.trace.shapes import (
    Shape,
    arguments,
    count,
    flag,
    many,
    mapping,
    maybe,
    number,
    outputs,
    scalar,
    shape_of_tensor,
    table,
    text,
    whole,
    width,
)  # fmt: skip

_PLAN = table(
    {
        "script": many(text), "cwd": text, "python": text, "level": text, "window": maybe(many(count, 2)), "copies": many(many(text, 2)),
        "device": maybe(text), "shadow": maybe(text), "names": maybe(flag), "timeout": maybe(number), "steps": maybe(whole),
        "pinned": many(text), "varied": many(text), "watch": many(table({})), "sketch": maybe(flag), "outputs": many(text),
    }
)  # fmt: skip

#: run.json. Whoever launched it is there for as long as it may still be going on.
META = table(
    {
        "format": whole, "id": maybe(text), "role": maybe(text), "script": maybe(many(text)), "cwd": maybe(text), "plan": maybe(_PLAN),
        "exit": maybe(whole), "error": maybe(text), "seconds": maybe(number), "stopped": maybe(text), "pinned": maybe(many(text)),
        "varied": maybe(many(text)), "machine": maybe(mapping(scalar)), "versions": maybe(mapping(scalar)),
        "environment": maybe(mapping(scalar)), "script_digest": maybe(text), "pid": maybe(whole), "started": maybe(number),
        "device": maybe(text), "ports": maybe(many(text)), "written": maybe(mapping(maybe(text))),
        "unseen": maybe(many(table({"pids": many(whole), "at": number}, "pids", "at"))),
        "launcher": maybe(table({"pid": count, "began": maybe(count), "boot": maybe(text)}, "pid")),
    },
    "format",
)  # fmt: skip

PROCESS = table(
    {
        "format": whole, "digest": maybe(count), "pid": maybe(count), "ppid": maybe(count), "started": maybe(number), "began": maybe(count),
        "argv": many(text), "executable": maybe(text), "python": maybe(text), "parent": maybe(text), "fork": maybe(count),
        "rank": maybe(scalar),
    }
)  # fmt: skip


def _with_row(value: Any) -> str:
    return event(value) or ("" if "row" in value else "is an event without a row")


#: lanes/<k>.json
LANE = table(
    {
        "format": whole, "name": text, "role": maybe(mapping(scalar)), "identity": many(whole), "rank": maybe(scalar),
        "pid": maybe(whole), "ended": flag, "unknown": count, "torch": maybe(text), "stopped": text, "started": maybe(number),
        "executable": maybe(text), "base": count, "parent": maybe(whole), "importing": many(count), "records": count, "ops": count,
        "steps": count, "events": many(_with_row), "names": maybe(count),
    },
    "name", "ended", "unknown", "torch", "stopped", "records", "ops", "steps", "events",
)  # fmt: skip

#: lanes/index.json
INDEX = table({"format": whole, "processes": many(PROCESS), "lanes": count}, "format", "processes", "lanes")

#: Lines of a lane's tables.
LINES: dict[str, Shape] = {
    "sig": table(
        {
            "id": count, "kind": text, "op": maybe(text), "function": maybe(text), "stream": maybe(text), "out": outputs,
            "schema": table({"writes": arguments, "overwrites": flag, "view": flag, "random": flag, "collective": flag}),
        },
        "id", "kind",
    ),
    "site": table(
        {"id": count, "file": text, "line": maybe(whole), "func": maybe(text), "importing": maybe(flag)}, "id", "file", "line", "func"
    ),
    "module": table({"id": count, "path": text}, "id", "path"),
    "leaf": table({"id": count, "name": text}, "id", "name"),
    "name": table(
        {
            "id": count, "name": text, "scope": text, "file": text, "line": whole, "kind": text, "dtype": text, "as": text,
            "bytes": width, "shape": shape_of_tensor, "of": maybe(count), "object": maybe(count), "part": maybe(text),
        },
        "id", "name", "scope", "file", "line", "kind",
    ),
    "place": table({"id": count, "frames": many(many(whole, 2)), "loops": many(many(whole, 2))}, "id", "frames", "loops"),
    "lane": table({"role": mapping(scalar), "identity": many(whole), "base": count, "started": number}),
    "role": table({"role": mapping(scalar), "identity": many(whole)}, "role"),
    "torch": table({"version": text}, "version"),
    "stopped": table({"why": text}),
}  # fmt: skip
#: lanes/<k>.names.json
NAMES = many(LINES["name"])
