"""The words for a comparison of two devices, and for a run in which each op was recomputed: all of it, for a teammate."""

from __future__ import annotations

from auditor.report.words.divergences import off_on_devices
from auditor.report.words.reasons import sentence_of
from auditor.report.words.wording import is_known
from auditor.results import DeviceComparison, OpLine, Shadowed


def comparison(found: DeviceComparison) -> str:
    """How far two devices are apart, and which op made it so."""
    if not found.aligned:
        return "the two runs have no op in common"
    parts = [f"{found.aligned} ops were compared" + (f", {found.unaligned} ran on one side only" if found.unaligned else "")]
    parts += _drift(found)
    if found.other is not None:
        other = found.other
        where = _where(other.op, other.file, other.line)
        parts.append(f"in step {other.step} ({where}) {sentence_of(other.reasons)}, which is not an arithmetic difference")
    if found.not_finite_from is not None:
        parts.append(f"from op {found.not_finite_from} on losses are not finite, and what is computed from them is not judged")
    parts += _introduced(found)
    unknown = sum(found.unmeasured.values())
    if unknown:
        parts.append(f"for {unknown} ops that differ, the error that they introduce is not known")
    return "; ".join(parts)


def _drift(found: DeviceComparison) -> list[str]:
    """From where on the results differ, and by how much in the end."""
    if found.differs_from is None:
        return ["their results are the same, byte for byte"]
    first = found.differs_from
    parts = [f"from op {first.index} on ({_at(first)}) the results differ"]
    loss = [f"the loss differs by {found.loss:.2g}"] if found.loss else []
    held = [f"the parameters differ by {found.end:.2g}"] if found.end and found.holds_parameters else []
    return [*parts, f"at the end {' and '.join(loss + held)}, relative"] if loss or held else parts


def _introduced(found: DeviceComparison) -> list[str]:
    """The op that exceeds its error bound, or what the difference is inherited from."""
    if found.first is not None:
        first = found.first
        devices = [found.devices[found.runs.index(first.run)]] if first.run in found.runs else found.devices
        return [
            f"the first op that exceeds its error bound is op {first.index} ({_at(first)})",
            off_on_devices(devices, first.added, first.ulps, first.excess),
        ]
    if found.differs_from is None:
        return []
    parts = ["no op whose introduced error is known exceeds its error bound"]
    if found.most:
        parts.append(f"the largest error introduced by one op is {found.most[0].added:.2g} of its result ({_at(found.most[0])})")
    if found.growth is not None and found.other is None:
        begin, end = found.growth
        parts.append(f"the difference grows from {begin:.1g} to {end:.1g}: this is inherited error, which the model amplifies")
    return parts


def shadow(found: Shadowed) -> str:
    """Which ops differ from what they were recomputed as."""
    if not found.ops:
        return f"no op could be recomputed in {found.reference}"
    if not found.most:
        return f"each result equals that of {found.reference}, rounded"
    worst = found.most[0]
    share = f"{worst.added:.2g}" if is_known(worst.added) else "all"
    told = f"the largest error is that of {worst.op}{_behind(worst)}: {share} of its result"
    if found.first is None:
        return f"{told}; no op exceeds its error bound"
    more = f"; {found.lines_off - 1} other lines have such ops" if found.lines_off > 1 else ""
    return f"{told}; {found.first.op}{_behind(found.first)} exceeds its error bound{more}"


def _where(op: str, file: str | None, line: int | None) -> str:
    return f"{op}, {file}:{line}" if file else op


def _at(error: OpLine) -> str:
    return _where(error.op, error.file, error.line)


def _behind(error: OpLine) -> str:
    return f" at {error.file}:{error.line}" if error.file else ""
