"""What the recorder knows that it missed in the runs of an audit."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.results import Lost, Reason
from auditor.trace.ops import BRANCHES_UNDER_A_MODE
from auditor.trace.reader import Trace


def lost_of(runs: list[Trace]) -> list[Lost]:
    """What the recorder knows that it missed, each once."""
    found: dict[tuple[str, str], Lost] = {}

    def add(what: Reason, count: int, lane: str, run: Trace) -> None:
        key = what.model_dump_json(), lane
        known = found.get(key)
        if known is None:
            found[key] = Lost(what=what, count=count, lane=lane, run=run.id)
        elif known.run != run.id:
            known.run = None  # both

    for run in runs:
        for name, what, count in (*_unseen_children(run), *_missed(run)):
            add(what, count, name, run)
    return list(found.values())


def _missed(run: Trace) -> Iterator[tuple[str, Reason, int]]:
    """What the lanes of a run tell of it: the lane, what, and how often."""
    for name, lane in run.lanes.items():
        for event in lane.events_of("lost"):
            yield name, Reason.of("recorder-lost", what=str(event["what"])), event.get("count", 1)
        if lane.facts["stopped"] not in ("", "steps", "look"):
            yield name, Reason.of("after-recording-stopped", why=lane.facts["stopped"]), 1
        elif not lane.ended and name == "main" and run.meta.get("exit") == 0:
            yield name, Reason.of("after-hard-exit"), 1
        if lane.facts["unknown"]:
            yield name, Reason.of("unknown-lines"), lane.facts["unknown"]
        for row in lane.query(
            "SELECT op, count(*) AS n FROM records WHERE list_contains(?, op) GROUP BY op ORDER BY op", list(BRANCHES_UNDER_A_MODE)
        ):
            yield name, Reason.of("other-formula", op=row["op"]), row["n"]
        for row in lane.query("SELECT kind, count(*) AS n FROM records WHERE out LIKE '%cuda%' GROUP BY kind ORDER BY kind"):
            yield name, Reason.of("copied-to-cpu") if row["kind"] == "external" else Reason.of("digested-on-cuda"), row["n"]


def _unseen_children(run: Trace) -> Iterator[tuple[str, Reason, int]]:
    """The lane and what is to be said, once, of each process of Python that the script started and that was not recorded.

    A recorded process has told its number, after the one that started it had begun; the number of one that is replaced stays the same.
    """
    started = [(name, lane, event) for name, lane in run.lanes.items() for event in lane.events_of("child")]
    helpers = {event.get("pid") for _, _, event in started if event.get("helper")}
    met = [one for one in run.meta.get("unseen") or [] if helpers.isdisjoint(one["pids"])]
    told: set[tuple[str, object]] = set()
    for name, lane, event in started:
        pid = event.get("pid")
        seen = any(process.get("pid") == pid and (process.get("started") or 0) > (lane.facts["started"] or 0) for process in run.processes)
        if pid is None:  # a shell, while which was waited for
            unseen = any(
                lane.facts["pid"] in one["pids"][1:] and (event.get("since") or 0) <= one["at"] <= (event.get("until") or 0) for one in met
            )
        else:
            unseen = (event.get("python") and not seen) or any(pid in one["pids"][1:] for one in met)
        place = f"{event['file']}:{event['line']}" if event.get("file") else None
        if unseen and not event.get("helper") and (name, place) not in told:
            told.add((name, place))
            yield name, Reason.of("unseen-child", program=event.get("program"), place=place), 1
