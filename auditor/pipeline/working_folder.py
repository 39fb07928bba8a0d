"""The working directory as reruns find it: as it was before the first run, with what earlier ones left, or with files changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from auditor.launch import Snapshot, folder_for_copy, moved, remove
from auditor.plan import Plan


@dataclass(frozen=True)
class WorkingFolder:
    """The directory before the first run is the `snapshot`, what the controls left `changed` and `outputs`; copies are made in `room`."""

    room: Path
    snapshot: Snapshot | None = None
    changed: bool = False
    outputs: tuple[str, ...] = ()

    def begun(self, plan: Plan) -> Plan:
        """The plan with what its working directory held before the first run, where runs change that."""
        return plan.with_before(str(self.snapshot.folder), self.outputs) if self.snapshot is not None and self.changed else plan

    def had_before(self, path: str) -> bool:
        """Whether a file was there before the first run."""
        return self.snapshot is not None and path in self.snapshot.before

    @contextmanager
    def plan_in_copy(self, plan: Plan, name: str, texts: Mapping[str, str]) -> Iterator[tuple[Plan, bool]]:
        """The plan where it is to be run, with the files of `texts` changed; and whether several runs of it have to follow one another.

        They have to where the script leaves files behind and may find them: then all are made in one copy of the directory.
        """
        with self._changed(plan, name, texts) as (here, in_copy):
            if self.snapshot is None or not self.changed or plan.copy.leftovers:
                yield here.with_patches(*in_copy.items()) if in_copy else here, False
                return
            with folder_for_copy(self.room, Path(plan.cwd)) as to:
                yield moved(here, Path(plan.cwd), self.snapshot.copy(to, replaced=in_copy)), True

    @contextmanager
    def _changed(self, plan: Plan, name: str, texts: Mapping[str, str]) -> Iterator[tuple[Plan, dict[str, str]]]:
        """The plan with a copy of the script's folder, if that lies elsewhere; and what else has another text in the working directory."""
        inside = {file: text for file, text in texts.items() if not Path(file).is_absolute()}
        outside = {file: text for file, text in texts.items() if file not in inside}
        if not outside:
            yield plan, inside
            return
        home = Path(plan.cwd, plan.script[0]).parent
        before = self.room / f"{name}-source.before"
        try:
            taken = Snapshot.take(home, before, without=(self.room,))
            replaced = {os.path.relpath(file, home): text for file, text in outside.items()}
            with folder_for_copy(self.room, home) as to:
                yield moved(plan, home, taken.copy(to, replaced=replaced)), inside
        finally:
            remove(before)
