"""`file-order`: in which order the names in a directory come."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor


def _inside(_process: Any, how: str) -> None:
    """Sorted if pinned, the other way round if varied; `glob`, `pathlib` and `os.walk` ask these two."""
    import os

    backwards = how == "vary"
    listdir, scandir = os.listdir, os.scandir

    def listed(path: Any = ".") -> Any:
        return sorted(listdir(path), reverse=backwards)

    class Entries:
        """As the iterator that `os.scandir` gives, which is a context manager as well."""

        def __init__(self, entries: Any) -> None:
            with entries:
                self._left = iter(sorted(entries, key=lambda entry: entry.name, reverse=backwards))

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            return next(self._left)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_error: object) -> None:
            self.close()

        def close(self) -> None:
            self._left = iter(())

    os.listdir = listed
    os.scandir = lambda path=".": Entries(scandir(path))  # type: ignore[assignment]  # it gives what the original does


FACTOR = Factor(
    name="file-order",
    why="a directory gives its names in an order that depends on the file system and on how they got there",
    remedy="sorted(os.listdir(...)), sorted(path.glob(...))",
    inside=_inside,
)
