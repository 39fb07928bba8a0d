"""Devices that were compared, and ops that were recomputed, under --verbose: how far they drift apart, and which ops introduced most."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from auditor.report.console import shapes
from auditor.report.words import arithmetic, devices
from auditor.results import (
    DeviceComparison,
    OpError,
    Shadowed,
)

#: Columns of the bars that show how devices drift apart.
_BARS = 72
#: Most ops that are listed with their errors.
_MOST = 6


def compared_devices(comparison: DeviceComparison) -> RenderableType:
    """How two devices drift apart, as bars on a logarithmic scale, and which ops introduced most."""
    lines: list[RenderableType] = [shapes.long(arithmetic.comparison(comparison))]
    drawn = devices.chart(comparison.curve, _BARS, comparison.first.index if comparison.first else None)
    if drawn is not None:
        widest = max(len(label) for label, _ in drawn.rows)
        bars = [shapes.cropped(Text.assemble((f"{label:>{widest}} ", "dim"), (cells, "cyan"))) for label, cells in drawn.rows]
        marks = [shapes.cropped(Text.assemble(" " * (widest + 1), (drawn.marks, "bold red")))] if drawn.marks else []
        lines += [Text(), shapes.text("difference between the devices, relative to the norm of the result", "dim"), *bars, *marks]
        lines.append(shapes.cropped(Text(" " * (widest + 1) + drawn.axis, "dim")))
    return shapes.section(devices.devices_title(comparison), *lines, *_errors(comparison.most), *_unmeasured(comparison.unmeasured))


def recomputed(shadow: Shadowed) -> RenderableType:
    """By how much each op is off from what it would be in higher precision, or elsewhere."""
    said = [shapes.long(arithmetic.shadow(shadow))]
    return shapes.section(devices.shadow_title(shadow), *said, *_errors(shadow.most), *_unmeasured(shadow.unmeasured))


def _errors(most: list[OpError]) -> Iterator[RenderableType]:
    """The ops that introduced most."""
    if not most:
        return
    heads, *found = devices.error_rows(most[:_MOST])
    rows = [[Text(head, "dim", justify="right" if k > 1 else None) for k, head in enumerate(heads)]]
    rows += [[Text(one[0], "cyan"), shapes.text(one[1]), *(Text(figure, justify="right") for figure in one[2:])] for one in found]
    yield Text()
    yield from map(shapes.cropped, shapes.aligned(rows))
    if any(map(devices.is_cancelled, most[:_MOST])):
        yield shapes.text(devices.CANCELLED, "dim")


def _unmeasured(ops: dict[str, int]) -> Iterator[RenderableType]:
    if ops:
        yield Text()
        yield shapes.text(f"not measured: {devices.unmeasured(ops)}", "dim")
