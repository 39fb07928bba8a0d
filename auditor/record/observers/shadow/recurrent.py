"""oneDNN's LSTM layer and its backward, in any dtype: the kernel itself has none for float64. Gates are in torch's order: i, f, g, o.

The equations are those of `torch.nn.LSTM`; the backward is their derivative, written out, since nothing here may make autograd nodes
while the script's own are counted.
"""

from __future__ import annotations

from typing import Any

_LSTM = 2  # of `rnn_mode`, as oneDNN's kernels are given it by torch


def _gates(torch: Any, x: Any, h: Any, w_ih: Any, w_hh: Any, bias: Any) -> tuple[Any, Any, Any, Any]:
    i, f, g, o = (x @ w_ih.t() + h @ w_hh.t() + bias).chunk(4, -1)
    return torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)


def layer(
    torch: Any, x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, hx: Any, cx: Any, reverse: bool, batch_sizes: Any, mode: int,
    *_rest: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """`output, hy, cy` of one layer in one direction: x is [time, batch, in], hx and cx are [batch, hidden]. Raises NotImplementedError."""
    _check(mode, batch_sizes)
    bias = b_ih + b_hh
    shape = hx.shape
    h, c = hx.reshape(x.shape[1], -1), cx.reshape(x.shape[1], -1)
    made = [h] * x.shape[0]
    for t in _times(x, reverse):
        i, f, g, o = _gates(torch, x[t], h, w_ih, w_hh, bias)
        c = f * c + i * g
        h = o * torch.tanh(c)
        made[t] = h
    return torch.stack(made), h.reshape(shape), c.reshape(shape)


def layer_backward(
    torch: Any, x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, hx: Any, cx: Any, output: Any, hy: Any, cy: Any, grad_output: Any,
    grad_hy: Any, grad_cy: Any, reverse: bool, mode: int, hidden: int, layers: int, has_biases: bool, train: bool, bidirectional: bool,
    batch_sizes: Any, *_rest: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients of x, both weights, both biases, hx and cx. Raises NotImplementedError."""
    _check(mode, batch_sizes)
    bias = b_ih + b_hh
    n = x.shape[1]
    h, c = hx.reshape(n, -1), cx.reshape(n, -1)
    steps = []
    for t in _times(x, reverse):
        i, f, g, o = _gates(torch, x[t], h, w_ih, w_hh, bias)
        after = f * c + i * g
        steps.append((t, h, c, i, f, g, o, torch.tanh(after)))
        c = after
        h = o * steps[-1][-1]
    dh = torch.zeros_like(h) if grad_hy is None else grad_hy.reshape(n, -1)
    dc = torch.zeros_like(c) if grad_cy is None else grad_cy.reshape(n, -1)
    dx, dw_ih, dw_hh, db = torch.zeros_like(x), torch.zeros_like(w_ih), torch.zeros_like(w_hh), torch.zeros_like(bias)
    for t, h0, c0, i, f, g, o, squashed in reversed(steps):
        if grad_output is not None:
            dh = dh + grad_output[t]
        dc = dc + dh * o * (1 - squashed * squashed)
        gates = torch.cat([dc * g * i * (1 - i), dc * c0 * f * (1 - f), dc * i * (1 - g * g), dh * squashed * o * (1 - o)], -1)
        dx[t] = gates @ w_ih
        dw_ih, dw_hh, db = dw_ih + gates.t() @ x[t], dw_hh + gates.t() @ h0, db + gates.sum(0)
        dh, dc = gates @ w_hh, dc * f
    return dx, dw_ih, dw_hh, db, db.clone(), dh.reshape(hx.shape), dc.reshape(cx.shape)


def _times(x: Any, reverse: bool) -> range:
    return range(x.shape[0] - 1, -1, -1) if reverse else range(x.shape[0])


def _check(mode: int, batch_sizes: Any) -> None:
    if mode != _LSTM:
        raise NotImplementedError("of oneDNN's recurrent layers only the LSTM has a reference")
    if batch_sizes is not None and len(batch_sizes) and len(set(batch_sizes)) > 1:
        raise NotImplementedError("a packed sequence has no reference")
