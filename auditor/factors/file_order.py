"""`file-order`: the order in which a directory is listed."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor, Signs


def _inside(_process: Any, how: str) -> None:
    """Sorted if pinned, in reverse order if varied; `glob`, `pathlib` and `os.walk` use these two."""
    import os

    from auditor.record.wrapping import replace, stand_in

    backwards = how == "vary"
    scandir = os.scandir

    def sorting(listdir: Any) -> Any:
        return stand_in(listdir, lambda *given, **named: sorted(listdir(*given, **named), reverse=backwards))

    class Entries:
        """Stands in for the iterator of `os.scandir`, which is a context manager as well."""

        __class__ = property(lambda self: self._class)

        def __init__(self, entries: Any) -> None:
            self._class = type(entries)
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

    replace(os, "listdir", sorting)
    replace(os, "scandir", lambda original: stand_in(original, lambda *given, **named: Entries(scandir(*given, **named))))


FACTOR = Factor(
    name="file-order",
    because="a directory is listed in a different order",
    why="the order of a directory listing depends on the file system and on how its files were created",
    remedy="sorted(os.listdir(...)), sorted(path.glob(...))",
    inside=_inside,
    order=9,
    kinds={"data-order": 2},
    signs=Signs(files=("other-order",), orders=("listing",)),
    fixes=("sort-listings",),
)
