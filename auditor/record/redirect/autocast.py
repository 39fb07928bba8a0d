"""`autocast("cuda")` where tensors only pass for being on a CUDA device: the CPU's autocast, to the dtype of the region.

The CPU casts products and convolutions as CUDA does, but keeps fewer ops in float32 (no softmax, norm or sum). Those are added where the
first region for CUDA is entered, as kernels that do something in such regions only. The lists are ATen's (`autocast_mode.h`:
`AT_FORALL_FP32`, `AT_FORALL_FP32_SET_OPT_DTYPE` and `AT_FORALL_LOWER_PRECISION_FP`), without what the CPU's have too and without
losses that are made of ops which are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record.callsite import hide_us
from auditor.record.redirect.lost_events import in_place_of

if TYPE_CHECKING:
    from collections.abc import Callable

_FLOAT32 = (
    "acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "sinh", "tan",
    "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softplus", "layer_norm", "native_layer_norm", "group_norm", "dist", "renorm",
    "logsumexp", "cosine_similarity", "nll_loss", "nll_loss2d", "kl_div", "l1_loss", "binary_cross_entropy_with_logits",
)  # fmt: skip
_FLOAT32_RESULT = (
    "softmax.int", "log_softmax.int", "cumprod", "cumsum", "prod", "prod.dim_int", "sum", "sum.dim_IntList", "linalg_vector_norm",
)  # fmt: skip
_LOWER = ("mv", "addmv", "addr", "linalg_multi_dot", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")


def install(torch: Any) -> None:
    """Let each region for CUDA set the CPU's autocast too, and put it back."""
    region = torch.amp.autocast_mode.autocast
    enter, leave = region.__enter__, region.__exit__
    kept: list[Any] = []

    def entered(self: Any) -> Any:
        result = enter(self)
        if self.device == "cuda":
            if not kept:
                kept.append(_added_kernels(torch))
            self._repro_audit_was = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
            torch.set_autocast_enabled("cpu", self._enabled)
            torch.set_autocast_dtype("cpu", self.fast_dtype)
        return result

    def left(self: Any, *error: Any) -> Any:
        was = self.__dict__.pop("_repro_audit_was", None)
        if was is not None:
            torch.set_autocast_enabled("cpu", was[0])
            torch.set_autocast_dtype("cpu", was[1])
        return leave(self, *error)

    region.__enter__ = in_place_of(enter, entered)
    region.__exit__ = in_place_of(leave, left)


def _added_kernels(torch: Any) -> Any:
    """The library that holds the kernels: they are there as long as it is."""
    library = torch.library.Library("aten", "IMPL")
    key = "AutocastCPU"
    for names, made in ((_FLOAT32, _in_float32), (_FLOAT32_RESULT, _to_float32), (_LOWER, _in_lower)):
        for name in names:
            packet, _, overload = name.partition(".")
            op = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
            if op is not None and not torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key):
                library.impl(name, made(torch, op), key, with_keyset=True)
    return library


def _kernel(torch: Any, op: Any, changed: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    """A kernel that does nothing but in a region for CUDA, where it runs the op below autocast, with other arguments."""
    key = torch._C.DispatchKey.AutocastCPU
    keys = torch._C.DispatchKeySet(key)

    def kernel(keyset: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if not torch.is_autocast_enabled("cuda"):
                return op._handle.redispatch_boxed(keyset.remove(key), *args, **kwargs)
            args, kwargs = changed(args, kwargs)
            with torch._C._ExcludeDispatchKeyGuard(keys):
                return op._op(*args, **kwargs)
        except BaseException as error:
            hide_us(error)
            raise

    return kernel


def _cast(torch: Any, value: Any, dtype: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(dtype=dtype) if value.is_floating_point() and value.dtype is not torch.float64 else value
    if isinstance(value, (list, tuple)):
        return type(value)([_cast(torch, part, dtype) for part in value])
    return value


def _in_float32(torch: Any, op: Any) -> Any:
    def changed(args: Any, kwargs: Any) -> tuple[Any, Any]:
        return _cast(torch, args, torch.float32), {name: _cast(torch, value, torch.float32) for name, value in kwargs.items()}

    return _kernel(torch, op, changed)


def _in_lower(torch: Any, op: Any) -> Any:
    def changed(args: Any, kwargs: Any) -> tuple[Any, Any]:
        dtype = torch.get_autocast_dtype("cuda")
        return _cast(torch, args, dtype), {name: _cast(torch, value, dtype) for name, value in kwargs.items()}

    return _kernel(torch, op, changed)


def _to_float32(torch: Any, op: Any) -> Any:
    """What takes a dtype is given float32 where the script gives none and the input is of a lower precision."""
    at = next(k for k, argument in enumerate(op._schema.arguments) if argument.name == "dtype")
    by_name = op._schema.arguments[at].kwarg_only

    def changed(args: Any, kwargs: Any) -> tuple[Any, Any]:
        x = args[0] if args else None
        if not isinstance(x, torch.Tensor) or x.dtype not in (torch.float16, torch.bfloat16) or kwargs.get("dtype") is not None:
            return args, kwargs
        if not by_name and len(args) > at:
            return (args if args[at] is not None else (*args[:at], torch.float32, *args[at + 1 :])), kwargs
        return args, {**kwargs, "dtype": torch.float32}

    return _kernel(torch, op, changed)
