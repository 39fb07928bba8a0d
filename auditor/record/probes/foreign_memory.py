"""Memory of tensors that NumPy, another library or another process can read and write: where it is handed out, and where it comes in.

A storage that was handed out has no `_repro_audit` any more but a `Handed`, so that only its own uses take the way of an external
tensor, where it is digested again (see `core/inputs.py`): a write that no op made is seen at the next use.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from auditor.record import digest
from auditor.record.callsite import is_ours
from auditor.record.core.handed_memory import Handed, content_of
from auditor.record.probes import Probe
from auditor.record.wrapping import replace_in_type, telling

if TYPE_CHECKING:
    from auditor.record.process import Process

#: A larger storage is not digested at each use.
LIMIT = 16 << 20
#: Events of one lane.
_MOST = 20_000


def install_torch(process: Process, torch: Any) -> None:
    """Watch the functions by which memory is handed out and taken in."""
    told: dict[int, int] = {}  # lane's base -> its events

    def note(kind: str, tensor: Any, frame: Any, **facts: object) -> None:
        lane = process.lane()
        many = told[lane.base] = told.get(lane.base, 0) + 1
        if many == _MOST:
            lane.line({"k": "lost", "what": "further places where memory is shared with other libraries", "count": 1})
        if many < _MOST:
            site = lane.sites.site_of(frame)
            lane.line({"k": kind, "at": lane.number(), "shape": list(map(int, tensor.shape)), **facts, **({"site": site} if site else {})})

    def handed(name: str) -> Any:
        def tell(tensor: Any, *_args: Any, **_kwargs: Any) -> None:
            frame = sys._getframe(2)
            if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
                return
            if is_ours(frame.f_code.co_filename):
                return
            with digest.Unseen():
                if tensor.layout is torch.strided and tensor.device.type == "cpu":
                    share(tensor)
                    note("handed", tensor, frame, function=name, digest=digest.of_tensor(tensor.detach()))

        return tell

    def share(tensor: Any) -> None:
        """From now on look at this tensor's memory at each use."""
        storage = tensor.untyped_storage()
        if storage.nbytes() > LIMIT or not process.level.sees_ops:
            return
        known = getattr(storage, "_repro_audit_handed", None)
        number = getattr(storage, "_repro_audit", None)
        if number is not None:
            storage._repro_audit_handed = Handed(number, content_of(storage))
            del storage._repro_audit
        elif known is None:
            storage._repro_audit_handed = Handed(0, 0)  # nobody wrote it under our eyes: it is external where it is used

    def taken_in(name: str) -> Any:
        def tell(tensor: Any, *_args: Any, **_kwargs: Any) -> None:
            storage = tensor.untyped_storage()
            if getattr(storage, "_repro_audit_handed", None) is not None:
                return
            if getattr(storage, "_repro_audit", None) is None:  # else it was met within the function
                lane = process.lane()
                storage._repro_audit_came = (name, lane.sites.site_of(sys._getframe(2)), lane.base)
            share(tensor)

        return tell

    for method in ("numpy", "tolist", "__dlpack__"):
        watched = partial(telling, tell=handed(f"torch.Tensor.{method}"))
        if method in vars(torch.Tensor):
            setattr(torch.Tensor, method, watched(getattr(torch.Tensor, method)))
        else:  # where it is, so that the class has no attribute more
            replace_in_type(torch._C.TensorBase, method, watched)
    torch.Tensor.share_memory_ = telling(torch.Tensor.share_memory_, lambda tensor: share(tensor))
    for name in ("from_numpy", "frombuffer"):
        setattr(torch, name, telling(getattr(torch, name), taken_in(f"torch.{name}"), after=True))


PROBE = Probe(install_torch=install_torch)
