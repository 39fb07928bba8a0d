"""`worker-timing`: the order in which worker processes finish."""

from __future__ import annotations

from typing import Any

from auditor.factors import Factor, Signs

_LONGEST = 0.02


def _inside(process: Any, how: str) -> None:
    """Pinned: loaders keep their order and pools have one process. Varied: each batch of a worker is delayed by a different time."""
    from auditor.record.entropy import Source
    from auditor.record.imports import when_imported
    from auditor.record.source_tracker import with_one
    from auditor.record.wrapping import stand_in

    _watch(process)

    def loaders(module: Any) -> None:
        original = module.DataLoader.__init__

        def in_order(self: Any, *args: Any, **kwargs: Any) -> None:
            if "in_order" in kwargs:
                kwargs["in_order"] = True
            original(self, *args, **kwargs)

        module.DataLoader.__init__ = stand_in(original, in_order)

    def pools(module: Any) -> None:
        module.Pool.__init__ = with_one(module.Pool.__init__)

    def executors(module: Any) -> None:
        module.ProcessPoolExecutor.__init__ = with_one(module.ProcessPoolExecutor.__init__)

    def delays(module: Any) -> None:
        import time

        source = Source(process, "worker-timing", how)

        def late(*_given: Any) -> None:
            if process.role.get("worker") is not None:
                time.sleep(source.integer(16) / 65536 * _LONGEST)

        for name in ("_MapDatasetFetcher", "_IterableDatasetFetcher"):
            cls = getattr(module, name)
            cls.fetch = stand_in(cls.fetch, cls.fetch, late)

    if how == "pin":
        when_imported("torch.utils.data.dataloader", loaders)
        when_imported("multiprocessing.pool", pools)
        when_imported("concurrent.futures.process", executors)
    elif how == "vary":
        when_imported("torch.utils.data._utils.fetch", delays)


def _watch(process: Any) -> None:
    """Record where batches of several workers are requested, and where results of a pool are taken in order of completion."""
    import sys

    from auditor.record.imports import when_imported
    from auditor.record.source_tracker import SourceTracker, caller, in_users_code, telling_script, watch_executor
    from auditor.record.wrapping import telling

    entering = SourceTracker(process, "worker-timing", once=True)

    def loaders(module: Any) -> None:
        def begun(loader: Any) -> None:
            frame = in_users_code(sys._getframe(1)) if loader.num_workers > 0 else None
            if frame is not None:
                order = {"in_order": loader.in_order} if hasattr(loader, "in_order") else {}  # since torch 2.6
                mode = "script" if frame is caller(sys._getframe(1)) else "library"
                entering.tell("DataLoader.__iter__", frame, mode, **order)

        module.DataLoader.__iter__ = telling(module.DataLoader.__iter__, begun)

    def calls_back(*given: Any, callback: Any = None, **_named: Any) -> bool:
        return callback is not None or (len(given) > 4 and given[4] is not None)  # its place in both

    def pools(module: Any) -> None:
        pool = module.Pool
        pool.imap_unordered = telling_script(entering, "Pool.imap_unordered", pool.imap_unordered)
        for name in ("apply_async", "map_async"):
            setattr(pool, name, telling_script(entering, f"Pool.{name}", getattr(pool, name), calls_back))

    when_imported("torch.utils.data.dataloader", loaders)
    when_imported("multiprocessing.pool", pools)
    watch_executor(entering, "concurrent.futures.process", "ProcessPoolExecutor", told=False)


FACTOR = Factor(
    name="worker-timing",
    because="workers finish in a different order",
    why="worker processes finish in a different order in each run, and results taken in order of completion follow it",
    remedy="in_order=True for a DataLoader, and map() instead of imap_unordered() or as_completed()",
    inside=_inside,
    watches=True,
    order=12,
    kinds={"data-order": 3},
    calls=(".imap_unordered", "concurrent.futures.ProcessPoolExecutor"),
    intermittent=True,
    signs=Signs(lanes={"worker": ("argument", "structure", "data", "data-order")}),
    fixes=("batches-in-order", "results-in-order"),
)
