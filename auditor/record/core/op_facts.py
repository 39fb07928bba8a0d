"""What is known of an op before it runs: from its schema, and from the lists below what its schema does not say."""

from __future__ import annotations

from typing import Any

from auditor.record.core.measures import BY_OP
from auditor.trace.ops import ASYNCHRONOUS, COLLECTIVES, OVERWRITING, OpSchema, leaves_unwritten

#: How an op's output is treated: digested; shares memory that has its digest; nobody has written it yet; needs `slow`; a
#: query of metadata that is no op.
NORMAL, VIEW, EMPTY, NUMBER, SLOW, QUERY = range(6)

#: Ops that write inputs which their schema does not declare: name -> positions. Batch norm updates its running statistics.
_UNDECLARED_WRITES = {
    "aten.native_batch_norm.default": (3, 4),
    "aten.cudnn_batch_norm.default": (3, 4),
    "aten.miopen_batch_norm.default": (3, 4),
}

#: Ops whose schema declares a write, and that write no values: they are about a tensor's graph, its stream or what it is bound to.
_WRITING_NO_VALUES = ("aten.record_stream.", "aten.requires_grad_.", "aten.retain_grad.", "aten.set_data.")

#: Outputs that are workspaces whose bytes nobody reads: op -> positions. Found by comparing runs whose fresh memory was zero with
#: runs where it was junk, over every op that torch tests.
WORKSPACES = {
    "aten.mkldnn_rnn_layer.default": (3,),
    "aten.linalg_lstsq.default": (0,),
    "aten._ctc_loss.default": (1,),
    "aten._ctc_loss.Tensor": (1,),
    "aten._cudnn_rnn.default": (3,),
}

#: Queries, and `set_` on a storage, which moves no data: the storage has its own history or is external where it is used.
_NO_OPS = ("prim.", "profiler.", "prims.", "aten.set_.source_Storage")


#: Ops that move elements, or make them of no others, and have no tag that says so: names without overload and a last underscore.
_MOVING = frozenset((
    "_local_scalar_dense", "_reshape_alias", "_to_copy", "_unsafe_index", "arange", "as_strided_scatter", "cat", "constant_pad_nd",
    "contiguous", "copy", "diag_embed", "diagonal_scatter", "embedding", "fill", "flip", "full", "full_like", "gather", "index",
    "index_select", "item", "lift", "lift_fresh", "masked_select", "new_full", "new_ones", "new_zeros", "nonzero", "ones", "ones_like",
    "repeat", "resize", "roll", "rot90", "select_backward", "select_scatter", "set", "slice_backward", "slice_scatter", "stack", "take",
    "take_along_dim", "tile", "tril", "triu", "zero", "zeros", "zeros_like",
))  # fmt: skip


def _computes_by_element(torch: Any, func: Any) -> bool:
    """Whether an op computes each element of its result from one of each input, or moves elements: what torch says of it or its kin."""
    tags = torch.Tag
    if tags.pointwise in func.tags or getattr(tags, "view_copy", tags.pointwise) in func.tags:
        return True
    space, _, name = str(func).partition(".")
    base = name.partition(".")[0].removesuffix("_").removeprefix("_foreach_")
    if space != "aten":
        return False
    kin = getattr(torch.ops.aten, base, None)
    return base in _MOVING or (kin is not None and any(tags.pointwise in getattr(kin, one).tags for one in kin.overloads()))


class OpFacts:
    """What an OpOverload's schema says, asked once."""

    __slots__ = (
        "argument_names", "call", "collective", "empty", "exact", "flag", "in_flight", "measured", "name", "overwrites",
        "random", "schema", "shares", "workspaces", "writes",
    )  # fmt: skip

    def __init__(self, func: Any) -> None:
        self.name = name = str(func)
        self.call = func._op if hasattr(func, "_op") else func
        self.random = False
        self.empty = False
        self.exact = False  # what it makes follows from its inputs: it computes element by element, or moves elements
        self.shares = False  # all that it returns is memory of what it was given
        self.overwrites = name.startswith(OVERWRITING)
        self.measured = BY_OP.get(name)
        # Collectives hand over their buffers to a thread of their own: what is in them when the call returns is nobody's word. What
        # another rank sent is external where it is first used, which is after the wait.
        self.collective = name.startswith(COLLECTIVES)
        self.in_flight = name.startswith(ASYNCHRONOUS) and ".wait_tensor" not in name
        self.writes: tuple[int | str, ...] = ()
        self.workspaces = WORKSPACES.get(name, ())
        schema = getattr(func, "_schema", None)
        self.argument_names = None if schema is None else tuple(argument.name for argument in schema.arguments)
        self.schema = OpSchema(collective=self.collective).described()
        if schema is None:  # a HigherOrderOperator
            self.flag = SLOW
            return
        import torch

        self.random = torch.Tag.nondeterministic_seeded in func.tags
        self.empty = leaves_unwritten(name)
        self.writes = tuple(
            argument.name if argument.kwarg_only else position
            for position, argument in enumerate(schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ) + _UNDECLARED_WRITES.get(name, ())
        returns = schema.returns
        plain = len(returns) == 1 and str(returns[0].type) == "Tensor"
        self.shares = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        self.exact = not self.random and (self.shares or _computes_by_element(torch, func))
        bound = torch.Tag.inplace_view in func.tags  # another shape or place for the same values, as `transpose_`
        written = (0,) if name.startswith("c10d.") and name.endswith("_.default") else self.writes  # c10d declares none of its writes
        said = () if name.startswith(_WRITING_NO_VALUES) else written
        self.schema = OpSchema(said, self.overwrites, self.shares or bound, self.random, self.collective).described()
        if name.startswith(_NO_OPS):
            self.flag = QUERY
        elif name == "aten._local_scalar_dense.default":
            self.flag = NUMBER
        elif self.random or self.workspaces or self.collective or self.measured or not plain:
            self.flag = SLOW
        elif self.shares:
            self.flag = VIEW
        elif self.empty:
            self.flag = EMPTY
        elif self.writes and (len(self.writes) > 1 or returns[0].alias_info is None):
            self.flag = SLOW
        else:
            self.flag = NORMAL

    def written(self, args: Any, kwargs: Any) -> list[Any]:
        """The arguments of a call that the op writes, in the order of its schema."""
        given = {**dict(enumerate(args)), **(kwargs or {})}
        return [given[place] for place in self.writes if place in given]

    def made(self, torch: Any, out: Any, args: Any, kwargs: Any) -> list[tuple[int, Any]]:
        """The tensors that a call made and wrote, each with its place: outputs first, then inputs that it wrote and did not return.

        Left out is what nobody has written yet, and workspaces.
        """
        found: list[Any] = []
        _tensors_in(torch, out, found)
        returned = len(found)
        written: list[Any] = []
        _tensors_in(torch, self.written(args, kwargs), written)
        for tensor in written:
            if not any(tensor is other for other in found):
                found.append(tensor)
        return [(slot, tensor) for slot, tensor in enumerate(found) if slot not in self.workspaces and not (self.empty and slot < returned)]


def _tensors_in(torch: Any, value: Any, found: list[Any]) -> None:
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for part in value:
            _tensors_in(torch, part, found)
