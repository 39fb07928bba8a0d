"""`worker-timing`: which of several worker processes is done first."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor

_LONGEST = 0.02


def _inside(process: Any, how: str) -> None:
    """Pinned: loaders keep their order and pools have one process. Varied: workers take a little longer, now this one and now that."""
    from auditor.record.entropy import Source
    from auditor.record.imports import when_imported

    def loaders(module: Any) -> None:
        original = module.DataLoader.__init__

        def in_order(self: Any, *args: Any, **kwargs: Any) -> None:
            if "in_order" in kwargs:
                kwargs["in_order"] = True
            original(self, *args, **kwargs)

        module.DataLoader.__init__ = in_order

    def pools(module: Any) -> None:
        original = module.Pool.__init__

        def alone(self: Any, processes: int | None = None, *args: Any, **kwargs: Any) -> None:
            original(self, 1, *args, **kwargs)

        module.Pool.__init__ = alone

    def executors(module: Any) -> None:
        original = module.ProcessPoolExecutor.__init__

        def alone(self: Any, max_workers: int | None = None, *args: Any, **kwargs: Any) -> None:
            original(self, 1, *args, **kwargs)

        module.ProcessPoolExecutor.__init__ = alone

    def delays(module: Any) -> None:
        import time

        source = Source(process, "worker-timing", how)
        for name in ("_MapDatasetFetcher", "_IterableDatasetFetcher"):
            cls = getattr(module, name)
            fetch = cls.fetch

            def late(self: Any, index: Any, fetch: Any = fetch) -> Any:
                if process.role.get("worker") is not None:
                    time.sleep(source.integer(16) / 65536 * _LONGEST)
                return fetch(self, index)

            cls.fetch = late

    if how == "pin":
        when_imported("torch.utils.data.dataloader", loaders)
        when_imported("multiprocessing.pool", pools)
        when_imported("concurrent.futures.process", executors)
    else:
        when_imported("torch.utils.data._utils.fetch", delays)


FACTOR = Factor(
    name="worker-timing",
    why="worker processes are done in another order in each run, and what is taken as it comes is in that order",
    remedy="in_order=True for a DataLoader, and map() in the place of imap_unordered() or as_completed()",
    inside=_inside,
)
