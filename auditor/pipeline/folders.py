"""The folders of an audit: where its runs go, and the working directory as it was before them."""

from __future__ import annotations

import os
from pathlib import Path

from auditor.errors import UsageError
from auditor.launch import Snapshot, cache_folder, new_folder
from auditor.plan import Plan
from auditor.trace.files import FOLDER_MODE


def folder_for(keep: Path | None, plan: Plan) -> Path:
    """Where the runs go: where the user says, or a new directory in the cache. Raises `UsageError` (`run-exists`) if there is something."""
    if keep is None:
        return new_folder(plan)
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UsageError("run-exists", f"{keep} exists and is not an empty directory: choose another one for the runs")
    return Path(os.path.abspath(keep))  # noqa: PTH100  # not through links


def snapshot_of(plan: Plan, folder: Path) -> Snapshot:
    """The working directory as it is before the first run, without what is ours in it."""
    taken = Snapshot.take(Path(plan.cwd), folder / "before", without=(folder, cache_folder()))
    if taken.folder.is_dir():
        taken.folder.chmod(FOLDER_MODE)
    return taken
