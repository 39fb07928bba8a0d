"""Which ops of one lane are which of another's that ran on another device. Pure: arrays in, arrays out; never judges what it pairs.

Two devices do not do the same ops: CUDA's optimizers take lists of tensors at once, cuDNN has kernels of its own for normalisation and
recurrence, a CPU without oneDNN computes an LSTM of single products. So lanes are cut into steps, and a step into runs of one phase; a
piece that is the same in both (op, dtypes, shapes, arguments) is paired as it stands, which is the common case and costs nothing. In what
remains the longest common subsequence is sought, of what an op is *for*: its family (`COUNTERPARTS`), the shape of its result, its
module and its line. That costs the product of the lengths, in bits, so it is done within windows; a difference longer than a window is
still skipped over, but the pairs beside it may not be the most that there are. What has no partner has none: nothing is paired by place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

#: Ops that are each other's counterparts on different devices, without namespace and overload; a name stands in one row.
COUNTERPARTS = (
    ("convolution", "cudnn_convolution", "mkldnn_convolution", "miopen_convolution", "_slow_conv2d_forward", "slow_conv3d_forward",
     "convolution_overrideable", "_conv_depthwise2d", "_convolution_pointwise", "mps_convolution"),
    ("convolution_backward", "cudnn_convolution_backward", "mkldnn_convolution_backward", "convolution_backward_overrideable"),
    ("convolution_transpose", "cudnn_convolution_transpose", "miopen_convolution_transpose", "slow_conv_transpose2d"),
    ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update",
     "_native_batch_norm_legit_no_training", "_batch_norm_no_update"),
    ("native_batch_norm_backward", "cudnn_batch_norm_backward", "miopen_batch_norm_backward", "batch_norm_backward"),
    ("mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn", "lstm_mps"),
    ("mkldnn_rnn_layer_backward", "_cudnn_rnn_backward", "miopen_rnn_backward"),
    ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
     "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math"),
    ("_scaled_dot_product_flash_attention_for_cpu_backward", "_scaled_dot_product_flash_attention_backward",
     "_scaled_dot_product_efficient_attention_backward", "_scaled_dot_product_cudnn_attention_backward"),
    ("linear", "mkldnn_linear", "_linear_pointwise", "_mkl_linear"),
    ("native_layer_norm", "_fused_layer_norm", "layer_norm"),
    ("rms_norm", "_fused_rms_norm"),
    ("native_dropout", "_fused_dropout"),
    ("_ctc_loss", "_cudnn_ctc_loss"),
)  # fmt: skip
_FAMILY = {name: row[0] for row in COUNTERPARTS for name in row}

#: Ops of each lane that are looked at together for a common subsequence.
WINDOW = 2048


def family(op: str) -> str:
    """What an op is for: the same for counterparts on different devices; overloads are told apart only where they have none."""
    name = op.split(".")
    return _FAMILY.get(name[1], op) if len(name) > 1 else op


@dataclass(frozen=True)
class Sequence:
    """What is aligned of a lane, one entry an op: `exact` is all that two devices do alike, `loose` what it is for and where it is."""

    exact: Keys
    loose: Keys
    step: Ints
    phase: Ints

    def __len__(self) -> int:
        """Ops."""
        return len(self.exact)


def aligned(a: Sequence, b: Sequence) -> tuple[Ints, Ints]:
    """Positions in `a` and in `b` of each pair, both strictly increasing; `aligned(b, a)` gives the same pairs."""
    if len(a) == len(b) and bool((a.exact == b.exact).all()) and bool((a.step == b.step).all()):
        everything = np.arange(len(a))
        return everything, everything.copy()
    found: list[tuple[Ints, Ints]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for (first_a, end_a), (first_b, end_b) in _common_steps(a.step, b.step):
        if end_a - first_a == end_b - first_b and bool((a.exact[first_a:end_a] == b.exact[first_b:end_b]).all()):
            found.append((np.arange(first_a, end_a), np.arange(first_b, end_b)))
            continue
        runs_a, runs_b = _runs(a.phase[first_a:end_a]), _runs(b.phase[first_b:end_b])
        if [phase for phase, *_ in runs_a] != [phase for phase, *_ in runs_b]:
            runs_a, runs_b = [(0, 0, end_a - first_a)], [(0, 0, end_b - first_b)]
        for (_, start_a, stop_a), (_, start_b, stop_b) in zip(runs_a, runs_b, strict=True):
            at_a, at_b = first_a + start_a, first_b + start_b
            pairs = _paired(a, slice(at_a, first_a + stop_a), b, slice(at_b, first_b + stop_b))
            found += [(at_a + i, at_b + j) for i, j in pairs]
    return np.concatenate([i for i, _ in found]), np.concatenate([j for _, j in found])


def _common_steps(a: Ints, b: Ints) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where each step that both lanes have begins and ends in each; steps never go down."""
    common = np.intersect1d(a, b)
    bounds = [np.searchsorted(steps, common, side).tolist() for steps in (a, b) for side in ("left", "right")]
    for first_a, end_a, first_b, end_b in zip(*bounds, strict=True):
        yield (first_a, end_a), (first_b, end_b)


def _runs(phase: Ints) -> list[tuple[int, int, int]]:
    """Maximal runs of one phase: which, first and end."""
    starts = np.flatnonzero(np.diff(phase, prepend=phase[:1] - 1)).tolist()
    return [(int(phase[start]), start, end) for start, end in zip(starts, [*starts[1:], len(phase)], strict=True)]


def _paired(a: Sequence, in_a: slice, b: Sequence, in_b: slice) -> list[tuple[Ints, Ints]]:
    """Pairs of two pieces, as positions in them: what both begin and end with, and the common subsequence of what is between."""
    exact_a, exact_b, loose_a, loose_b = a.exact[in_a], b.exact[in_b], a.loose[in_a], b.loose[in_b]
    both = min(len(exact_a), len(exact_b))
    same = (exact_a[:both] == exact_b[:both]) & (loose_a[:both] == loose_b[:both])
    head = both if same.all() else int(np.argmin(same))
    rest = both - head
    end_a, end_b = len(exact_a), len(exact_b)
    same = (exact_a[end_a - rest :] == exact_b[end_b - rest :]) & (loose_a[end_a - rest :] == loose_b[end_b - rest :])
    tail = rest if same.all() else int(np.argmin(same[::-1]))
    between = _subsequence(loose_a[head : end_a - tail].tolist(), loose_b[head : end_b - tail].tolist())
    inner = np.array(between, np.int64).reshape(-1, 2) + head
    beginning, end = np.arange(head), np.arange(tail)
    return [(beginning, beginning), (inner[:, 0], inner[:, 1]), (end_a - tail + end, end_b - tail + end)]


def _subsequence(a: list[int], b: list[int]) -> list[tuple[int, int]]:
    """Pairs of equal keys in increasing positions of both, as many as there can be within windows."""
    if (len(a), a) > (len(b), b):  # of several longest subsequences the one that is found must not depend on which lane comes first
        return [(i, j) for j, i in _subsequence(b, a)]
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        pairs = _longest(a[i : i + WINDOW], b[j : j + WINDOW])
        if i + WINDOW >= len(a) and j + WINDOW >= len(b):
            return [*found, *((i + x, j + y) for x, y in pairs)]
        if pairs:
            sure = pairs[: (len(pairs) + 1) // 2]  # those near the end of a window may have better partners behind it
            found += [(i + x, j + y) for x, y in sure]
            i, j = i + sure[-1][0] + 1, j + sure[-1][1] + 1
        else:
            i, j = i + WINDOW // 2, j + WINDOW // 2
    return found


def _longest(a: list[int], b: list[int]) -> list[tuple[int, int]]:
    """A longest common subsequence, as pairs of positions.

    Rows of the table of lengths are bits of integers (Crochemore et al. 2001; Hyyrö: Bit-parallel LCS-length computation revisited, 2004):
    bit j of row i is 0 where one more element of `b` makes the common subsequence of a[:i + 1] and b[:j + 1] longer.
    """
    masks: dict[int, int] = {}
    for j, key in enumerate(b):
        masks[key] = masks.get(key, 0) | 1 << j
    everything = (1 << len(b)) - 1
    row = everything
    rows = []
    for key in a:
        met = row & masks.get(key, 0)
        row = (row + met | row - met) & everything
        rows.append(row)
    found = []
    i, j = len(a) - 1, len(b) - 1
    while i >= 0 and j >= 0:
        if rows[i] >> j & 1:
            j -= 1
        elif i and not rows[i - 1] >> j & 1:
            i -= 1
        else:
            found.append((i, j))
            i, j = i - 1, j - 1
    return found[::-1]
