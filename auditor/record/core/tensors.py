"""Questions about tensors among an op's arguments and results, asked without dispatching anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Of a tensor: dtype (and layout), shape, stride if not contiguous, device.
Meta = tuple[str, tuple[int, ...], "tuple[int, ...] | None", str]


class Tensors:
    """The questions, with torch's names at hand."""

    def __init__(self, torch: Any) -> None:
        self._tensor = torch.Tensor
        self._parameter = torch.nn.Parameter
        self._strided = torch.strided
        self._disabled = torch._C._disabled_torch_dispatch_impl

    def within(self, value: Any, found: list[Any]) -> list[Any]:
        """Append the tensors in a tensor, list, tuple or dict, in order; `found`."""
        if isinstance(value, self._tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            for part in value:
                self.within(part, found)
        elif isinstance(value, dict):
            for part in value.values():
                self.within(part, found)
        return found

    def meta(self, tensor: Any) -> Meta:
        """What of a tensor is compared beside its bytes."""
        if tensor.is_nested:
            return "nested " + str(tensor.dtype)[6:], (), None, str(tensor.device)
        strided = tensor.layout is self._strided
        stride = None if not strided or tensor.is_contiguous() else tuple(map(int, tensor.stride()))
        layout = "" if strided else str(tensor.layout)[5:]
        return str(tensor.dtype)[6:] + layout, tuple(map(int, tensor.shape)), stride, str(tensor.device)

    def is_another_modes(self, out: Any) -> bool:
        """Whether a mode below ours made a tensor of its own of it, which has no values, or wraps what has its own history."""
        c = out.__class__
        if c is self._tensor or c is self._parameter:
            return False
        return isinstance(out, self._tensor) and c.__torch_dispatch__ is not self._disabled

    def require_gradient(self, args: Any) -> bool:
        """Whether any of an op's tensors does; asked where no node was made."""
        for a in args:
            if isinstance(a, self._tensor):
                if a.requires_grad:
                    return True
            elif (a.__class__ is list or a.__class__ is tuple) and a and isinstance(a[0], self._tensor) and self.require_gradient(a):
                return True
        return False


class Hidden:
    """Keeps the user's `__torch_function__` from seeing what we ask of tensors, and that we call the op a second time."""

    def __init__(self, torch: Any) -> None:
        self._disabled = torch._C.DisableTorchFunction
        self._past_one = getattr(torch._C, "_skip_one_hop_torch_function", None)

    def run(self, body: Callable[[Any], Any], call: Any) -> Any:
        """`body(call)`, hidden.

        What a kernel written in Python does within the op is seen as ever, where torch has a way to go past one function only (2.13).
        """
        hidden, past_one = self._disabled(), self._past_one

        def seen(*args: Any, **kwargs: Any) -> Any:
            if past_one is None:
                return call(*args, **kwargs)
            hidden.__exit__(None, None, None)
            try:
                return past_one(call, (), args, kwargs)
            finally:
                hidden.__enter__()

        hidden.__enter__()
        try:
            return body(seen)
        finally:
            hidden.__exit__(None, None, None)
