"""What the names of ops in a trace mean: what the recorder and the readers of a trace must agree on, and no schema says."""

from __future__ import annotations

from typing import NamedTuple

#: Ops between ranks.
COLLECTIVES = ("c10d.", "_c10d_functional.", "c10d_functional.")
#: Those whose results are waited for by an op of their own.
ASYNCHRONOUS = ("_c10d_functional.", "c10d_functional.")

#: Ops that take in memory which no op has written.
ADOPTING = ("aten.set_.source_Storage",)

#: In-place ops that leave nothing of what was in their first argument, which is therefore no input: unread memory may be given to them.
OVERWRITING = (
    "aten.copy_.", "aten.fill_.", "aten.zero_.", "aten.uniform_.", "aten.normal_.", "aten.random_.", "aten.bernoulli_.", "aten.cauchy_.",
    "aten.exponential_.", "aten.geometric_.", "aten.log_normal_.", "aten.resize_.", "aten.resize_as_.",
)  # fmt: skip

#: In-place ops, as a regular expression, and those of them that change what a tensor is called, shaped or bound to, and write nothing.
#: Only for runs whose descriptors do not say what an op writes: see `records.schema_of`.
IN_PLACE = r"^\w+\.(\w*[^_]_|__i\w+__)\."
WRITING_NOTHING = (
    "as_strided_", "detach_", "rename_", "requires_grad_", "resize_", "resize_as_", "set_", "squeeze_", "swapaxes_", "swapdims_", "t_",
    "transpose_", "unsqueeze_",
)  # fmt: skip

#: Ops whose gradient torch computes by another formula under any dispatch mode, because the formula asks `isTensorSubclassLike`:
#: `masked_fill` (gradient of a tensor value), `prod`, `masked.prod`.
BRANCHES_UNDER_A_MODE = ("aten.masked_fill.Tensor", "aten.masked_fill_.Tensor", "aten.prod.default", "aten.prod.dim_int")

#: A graph that Inductor compiled, run once. An external tensor with this name was computed by a part of such a graph.
COMPILED = "inductor.graph"

_EMPTY = ("empty", "new_empty", "_empty", "_efficientzerotensor", "resize_.", "resize_as_.")


def leaves_unwritten(name: str) -> bool:
    """Whether what an op returns is (at least in part) memory that nobody has written yet, and is not digested."""
    return name.partition(".")[2].startswith(_EMPTY)


class OpSchema(NamedTuple):
    """What an op does to its arguments."""

    writes: tuple[int | str, ...] = ()
    """The arguments that it writes: positions, and names of keyword-only ones."""
    overwrites: bool = False
    """Whether it leaves nothing of what was in its first argument, which is then no input."""
    view: bool = False
    """Whether it writes no value: all that it returns is memory of what it was given, perhaps in another shape, as of `t_`."""
    random: bool = False
    """Whether it draws from a random stream."""
    collective: bool = False
    """Whether it is one between ranks."""

    @property
    def in_place(self) -> bool:
        """Whether it writes its first argument, of which `in0` says who had written it before."""
        return 0 in self.writes

    def described(self) -> dict[str, object]:
        """The part of an op's descriptor that says so; what is not so is left out."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self._asdict().items() if value}
