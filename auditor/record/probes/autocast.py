"""Autocast regions: where each is entered and left, for which device and to which dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record.probes import Probe
from auditor.record.wrapping import telling

if TYPE_CHECKING:
    from auditor.record.process import Process


def install_torch(process: Process, torch: Any) -> None:
    """Watch the context manager's two methods; as a decorator it calls them too."""
    cls = torch.amp.autocast_mode.autocast

    def entered(region: Any, *_args: Any) -> None:
        tell("enter", region)

    def left(region: Any, *_args: Any) -> None:
        tell("leave", region)

    def tell(what: str, region: Any) -> None:
        if process.level.sees_ops:
            dtype = str(getattr(region, "fast_dtype", ""))[6:]
            process.lane().event("autocast", op=what, device=str(region.device), dtype=dtype, enabled=bool(region._enabled))

    def made(_none: None, region: Any, *args: Any, **kwargs: Any) -> None:
        """Torch switches a region off, with a warning, for a device or dtype that is not there."""
        asked = kwargs.get("enabled", args[2] if len(args) > 2 else True)
        if asked and not region._enabled:
            tell("refused", region)

    cls.__init__ = telling(cls.__init__, made, after=True)
    cls.__enter__ = telling(cls.__enter__, entered)
    cls.__exit__ = telling(cls.__exit__, left)


PROBE = Probe(install_torch=install_torch)
