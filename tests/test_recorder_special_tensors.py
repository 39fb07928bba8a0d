"""Unusual tensors and ops: not dense, of rare types, of their own classes, or dispatched in unusual ways; and their digests."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from tests.recordings import Recorded, Row, record

pytestmark = pytest.mark.torch


def floats(*values: float) -> int:
    """Digest of these numbers as float32."""
    return xxh3_64_intdigest(struct.pack(f"<{len(values)}f", *values))


def producers(recorded: Recorded, row: Row) -> list[str]:
    """The names of the records that last wrote an op's inputs, with or without their marks."""
    return [r.op.removeprefix("aten.") for r in recorded.inputs(row)]


def test_tensors_of_every_layout_and_type_are_recorded_with_their_bytes(tmp_path: Path) -> None:
    source = """
        import warnings
        import torch

        warnings.simplefilter("ignore")
        one = torch.ones(2)
        c = torch.tensor([1 + 2j, 3 - 4j])
        y = c * 1  # complex
        y = c.conj() * 1  # conjugate
        y = c.conj().imag + 0  # negative view
        y = torch.view_as_real(c) + 0  # as real
        y = torch.ones(2).bfloat16()  # bfloat16
        y = torch.ones(2).half()  # half
        y = torch.ones(2).to(torch.float8_e5m2)  # float8
        y = torch.ones(2, dtype=torch.uint8) + 1  # bytes
        y = torch.ones(2, dtype=torch.bool) & False  # bool
        y = torch.ones(()) + 1  # scalar
        y = torch.ones(0, 3) + 1  # nothing
        y = torch.ones(2, device="meta") + 1  # meta
        y = torch.arange(3.0).expand(2, 3) + 1  # expanded
        i = torch.arange(8.0).view(1, 2, 2, 2)
        y = i.to(memory_format=torch.channels_last)  # channels last
        y = i.contiguous()  # already contiguous
        y = torch.arange(6.0).view(2, 3).t() * 1  # transposed
        y = torch.arange(8.0)[::2] * 1  # strided
        y = torch.arange(8.0)[::2].add_(1)  # strided in place
        y = torch.arange(8.0).narrow(0, 3, 2).mul_(2)  # with an offset in place
        s = torch.sparse_coo_tensor([[0, 1], [1, 0]], [3.0, 4.0], (2, 2))  # sparse
        t = torch.sparse_coo_tensor([[0, 1], [1, 0]], [3.0, 5.0], (2, 2))  # sparse of other values
        u = torch.sparse_coo_tensor([[0, 1], [0, 1]], [3.0, 4.0], (2, 2))  # sparse at other places
        v = torch.sparse_coo_tensor([[0, 1], [1, 0]], [3.0, 4.0], (2, 2))  # sparse again
        y = s.to_dense()  # dense
        y = s.to_dense().to_sparse_csr()  # csr
        y = torch.sparse.mm(s, torch.ones(2, 2))  # sparse product
        n = torch.nested.nested_tensor([one, torch.ones(3)])
        y = n * 2  # nested
        y = n * 3  # nested of other values
        j = torch.nested.nested_tensor([one, torch.ones(3)], layout=torch.jagged)
        y = j * 2  # jagged
        q = torch.quantize_per_tensor(one, 0.5, 0, torch.qint8)  # quantized
        y = q.dequantize()  # dequantized
        y = torch.ones(2, 2).to_mkldnn()  # mkldnn
        y = y.to_dense()  # from mkldnn
        """
    recorded = record(tmp_path, source)

    assert not recorded.lost()

    def last(mark: str) -> tuple[str, list[int], list[int] | None, int]:
        row = recorded.at(mark)[-1]
        return row.dtype, row.shape, row.stride, row.digest

    assert last("complex") == ("complex64", [2], None, floats(1, 2, 3, -4))
    assert last("conjugate") == ("complex64", [2], None, floats(1, -2, 3, 4))
    assert last("negative view") == ("float32", [2], None, floats(-2, 4))
    assert last("as real") == ("float32", [2, 2], None, floats(1, 2, 3, -4))
    assert last("bfloat16") == ("bfloat16", [2], None, xxh3_64_intdigest(b"\x80\x3f" * 2))
    assert last("half") == ("float16", [2], None, xxh3_64_intdigest(struct.pack("<2e", 1, 1)))
    assert last("float8") == ("float8_e5m2", [2], None, xxh3_64_intdigest(b"\x3c" * 2))
    assert last("bytes") == ("uint8", [2], None, xxh3_64_intdigest(b"\x02\x02"))
    assert last("bool") == ("bool", [2], None, xxh3_64_intdigest(b"\0\0"))
    assert last("scalar") == ("float32", [], None, floats(2))
    assert last("nothing") == ("float32", [0, 3], None, 0)
    assert last("meta") == ("float32", [2], None, 0)
    assert recorded.at("meta")[-1].out[0][3] == "meta"
    assert last("expanded") == ("float32", [2, 3], None, floats(1, 2, 3, 1, 2, 3))
    assert last("channels last") == ("float32", [1, 2, 2, 2], [8, 1, 4, 2], floats(0, 4, 1, 5, 2, 6, 3, 7))
    assert recorded.at("already contiguous") == []
    assert last("transposed") == ("float32", [3, 2], [1, 3], floats(0, 1, 2, 3, 4, 5))
    assert last("strided") == ("float32", [4], None, floats(0, 2, 4, 6))
    assert last("strided in place") == ("float32", [4], [2], floats(1, 3, 5, 7))
    assert last("with an offset in place") == ("float32", [2], None, floats(6, 8))

    sparse = [last(mark) for mark in ("sparse", "sparse of other values", "sparse at other places", "sparse again")]
    assert [s[:3] for s in sparse] == [("float32.sparse_coo", [2, 2], None)] * 4
    assert sparse[0][3] == sparse[3][3] != 0
    assert len({s[3] for s in sparse}) == 3
    assert last("dense") == ("float32", [2, 2], None, floats(0, 3, 4, 0))
    assert last("csr")[0] == "float32.sparse_csr"
    assert last("csr")[3] not in (0, last("dense")[3])
    assert last("sparse product")[3] == floats(3, 3, 4, 4)
    assert last("nested")[0] == "nested float32"
    assert last("nested")[3] not in (0, last("nested of other values")[3])
    assert last("jagged")[3] == floats(*[2] * 5)
    assert last("quantized")[0] == "qint8"
    assert last("quantized")[3] == xxh3_64_intdigest(b"\x02\x02")
    assert last("dequantized")[3] == floats(1, 1)
    assert last("mkldnn")[:2] == ("float32._mkldnn", [2, 2])
    assert last("mkldnn")[3] != 0
    assert last("from mkldnn")[3] == floats(1, 1, 1, 1)


def test_digests_are_equal_exactly_where_the_bytes_are(tmp_path: Path) -> None:
    source = """
        import numpy as np
        import torch

        x = torch.arange(6.0).view(3, 2)
        y = x * 1  # as it is
        y = x.clone()  # cloned
        y = x[[2, 0, 1]]  # permuted rows
        y = x.flip(1)  # flipped
        y = x.t().contiguous()  # transposed
        y = x.reshape(2, 3) * 1  # another shape
        y = x.bfloat16()  # as bfloat16
        y = x.double()  # as double
        y = -x  # signs
        zero = torch.zeros(2)
        y = zero * 1  # zero
        y = zero * -1  # minus zero
        y = zero.long() * 1  # integer zero
        y = torch.zeros(4) * 1  # more zeros
        bits = torch.from_numpy(np.array([0x7FC00000, 0x7FC00001, 0x7FC00000], np.uint32).view(np.float32))
        y = bits[0:1].clone()  # a nan
        y = bits[1:2].clone()  # another nan
        y = bits[2:3].clone()  # the nan again
        swapped = torch.tensor([5.0, 1.0, 2.0, 3.0, 4.0, 0.0]).view(3, 2)
        y = swapped * 1  # swapped elements
        def external(array):
            return torch.from_numpy(np.ascontiguousarray(array))  # external
        base = np.arange(12, dtype=np.float32).reshape(3, 4)
        for array in (base, base[[1, 2, 0]], base[:, [1, 0, 2, 3]], base[[0, 1, 1]], base[::-1], base.astype(np.float64), base[:1], base.ravel()):
            external(array)
        """  # noqa: E501
    recorded = record(tmp_path, source)

    def last(mark: str) -> Row:
        return recorded.at(mark)[-1]

    same = [last(m) for m in ("as it is", "cloned", "another shape")]
    assert len({r.digest for r in same}) == 1
    assert len({r.what for r in same[::2]}) == 2  # the shape is compared beside the digest
    others = ("permuted rows", "flipped", "transposed", "as bfloat16", "as double", "signs", "swapped elements")
    assert len({last(m).digest for m in ("as it is", *others)}) == 1 + len(others)
    assert last("zero").digest != last("minus zero").digest
    assert last("zero").digest != last("more zeros").digest
    assert last("a nan").digest == last("the nan again").digest != last("another nan").digest

    first, moved, columns, repeated, reversed_, double, single, flat = recorded.at("external", "external")
    assert len({r.digest for r in (first, moved, columns, repeated, reversed_, double, single)}) == 7
    assert first.rows == moved.rows == reversed_.rows != 0
    assert len({r.rows for r in (first, columns, repeated, double)}) == 4
    assert single.rows == 0  # a single row has no order
    assert first.digest == flat.digest
    assert first.what != flat.what


def test_tensors_of_a_user_class_are_recorded_as_their_underlying_ops(tmp_path: Path) -> None:
    source = """
        import torch
        from torch.utils._pytree import tree_map

        class Named(torch.Tensor):
            pass

        class Function(torch.Tensor):
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                return super().__torch_function__(func, types, args, kwargs or {})  # in the function

        class Wrapper(torch.Tensor):
            @staticmethod
            def __new__(cls, inner):
                return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

            def __init__(self, inner):
                self.inner = inner

            @classmethod
            def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
                args, kwargs = tree_map(lambda t: t.inner if isinstance(t, Wrapper) else t, (args, kwargs or {}))
                out = func(*args, **kwargs)  # in the dispatch
                return Wrapper(out) if isinstance(out, torch.Tensor) else out

        x = torch.ones(3)  # x
        a = x.as_subclass(Named) + 1  # named
        b = x.as_subclass(Function) + 2  # function
        c = Wrapper(x) + 3  # wrapper
        d = c.inner + 4  # inner
        p = torch.nn.Parameter(x) + 5  # parameter
        """
    recorded = record(tmp_path, source)

    def said(mark: str) -> list[tuple[str, list[int], int]]:
        return [(r.op, r.args, r.digest) for r in recorded.at(mark) if r.op == "aten.add.Tensor"]

    assert said("named") == [("aten.add.Tensor", [1], floats(2, 2, 2))]
    assert said("in the function") == [("aten.add.Tensor", [2], floats(3, 3, 3))]
    assert said("in the dispatch") == [("aten.add.Tensor", [3], floats(4, 4, 4))]  # once: not for the wrapper and again for its content
    assert said("inner") == [("aten.add.Tensor", [4], floats(8, 8, 8))]
    assert said("parameter") == [("aten.add.Tensor", [5], floats(6, 6, 6))]
    for mark in ("named", "in the function", "in the dispatch"):
        assert producers(recorded, recorded.op(mark, "add.Tensor")) == ["ones.default"]
    assert producers(recorded, recorded.op("inner")) == ["add.Tensor"]
    assert recorded.at("function") == recorded.at("wrapper") == []


def test_ops_under_modes_transforms_and_hooks_are_recorded_once_with_their_values(tmp_path: Path) -> None:
    source = """
        import torch
        from torch.overrides import TorchFunctionMode
        from torch.utils._python_dispatch import TorchDispatchMode

        class Dispatch(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                if func is torch.ops.aten.mul.Tensor:
                    func = torch.ops.aten.add.Tensor
                return func(*args, **(kwargs or {}))  # in the mode

        class Function(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                return func(*args, **(kwargs or {}))  # in the function mode

        x = torch.ones(3)
        w = torch.ones(3, requires_grad=True)
        with Dispatch():
            y = x * 2  # under a mode
        y = x * 3  # after a mode
        with Function():
            y = x * 4
        y = torch.func.vmap(lambda v: v.sin())(torch.ones(2, 3))  # vmap
        y = torch.func.grad(lambda v: v.exp().sum())(x)  # grad
        y = torch.func.jvp(lambda v: v.cosh(), (x,), (x,))  # jvp
        y = torch.func.hessian(lambda v: v.pow(3).sum())(x)  # hessian
        with torch.no_grad():
            y = w + 6  # no grad
        with torch.inference_mode():
            y = w + 7  # inference
            y.mul_(2)  # inference in place
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.floor()):  # hooks
            u = w.exp()  # saved
        u.sum().backward()  # unpacked
        scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Sigmoid()))
        y = scripted(x)  # scripted
        traced = torch.jit.trace(torch.nn.Tanh(), x)
        y = traced(x)  # traced
        layer = torch.nn.Linear(3, 3)
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x[None])  # autocast
            y = x.exp()  # not cast
        y = layer(x[None])  # after autocast
        y = torch.cond(x.sum() > 0, lambda v: v.sin(), lambda v: v.cos(), (x,))  # cond
        """
    recorded = record(tmp_path, source)

    # ours is below the user's mode: it sees what really ran
    row = recorded.op("in the mode")
    assert (row.op, row.digest) == ("aten.add.Tensor", floats(3, 3, 3))
    assert recorded.at("under a mode") == []
    assert recorded.op("after a mode").digest == floats(3, 3, 3)
    assert recorded.op("in the function mode").digest == floats(4, 4, 4)
    assert recorded.op("vmap", "sin.default").shape == [2, 3]
    assert recorded.op("vmap", "sin.default").digest != 0
    grad = recorded.at("grad")
    assert [r.phase for r in grad if r.op == "aten.exp.default"] == ["forward"]
    assert [(r.phase, r.forward_line) for r in grad if r.op == "aten.mul.Tensor"] == [("backward", recorded.line("grad"))]
    assert "cosh.default" in recorded.names("jvp")
    assert "pow.Tensor_Scalar" in recorded.names("hessian")
    assert recorded.op("no grad").digest == floats(7, 7, 7)
    assert recorded.op("inference").digest == floats(8, 8, 8)
    assert producers(recorded, recorded.op("inference in place")) == ["add.Tensor"]
    assert recorded.op("inference in place").digest == floats(16, 16, 16)
    assert [(r.op, r.phase) for r in recorded.at("hooks")] == [("aten.clone.default", "forward"), ("aten.floor.default", "backward")]
    assert recorded.op("unpacked", "mul.Tensor").digest == floats(2, 2, 2)
    assert recorded.op("unpacked", "mul.Tensor").forward_line == recorded.line("saved")
    assert "sigmoid.default" in recorded.names("scripted")
    assert recorded.names("traced") == ["tanh.default"]
    assert {r.dtype for r in recorded.at("autocast") if r.op == "aten.addmm.default"} == {"bfloat16"}
    assert recorded.names("autocast").count("_to_copy.default") == 3
    assert recorded.names("not cast") == ["exp.default"]
    assert "_to_copy.default" not in recorded.names("after autocast")
    assert {"higher_order.cond", "cond"} & set(recorded.names("cond")) or "sin.default" in recorded.names("cond")


def test_user_defined_ops_are_recorded_under_their_names(tmp_path: Path) -> None:
    source = """
        import torch

        @torch.library.custom_op("mine::scale", mutates_args=())
        def scale(v: torch.Tensor, k: float) -> torch.Tensor:
            return torch.from_numpy(v.numpy() * k)

        @torch.library.custom_op("mine::fill", mutates_args=("v",))
        def fill(v: torch.Tensor, k: int) -> None:
            v.numpy()[:] = k

        library = torch.library.Library("old", "FRAGMENT")
        library.define("twice(Tensor x) -> (Tensor, Tensor)")
        library.impl("twice", lambda x: (x * 2, x * 4), "CompositeExplicitAutograd")

        class Own(torch.autograd.Function):
            @staticmethod
            def forward(ctx, v):
                return torch.from_numpy(v.detach().numpy() * 3)  # own forward

            @staticmethod
            def backward(ctx, grad):
                return torch.from_numpy(grad.numpy() * 3)  # own backward

        x = torch.ones(2)
        y = scale(x, 2.5)  # scaled
        y = torch.ops.mine.scale(x, 3.5)  # scaled again
        z = y + 1  # read
        v = torch.ones(2)
        fill(v, 7)  # filled
        z = v + 1  # read after
        a, b = torch.ops.old.twice(x)  # twice
        w = torch.ones(2, requires_grad=True)
        u = Own.apply(w)
        u.sum().backward()  # backward
        z = w.grad + 0  # gradient
        """
    recorded = record(tmp_path, source)

    def said(mark: str) -> tuple[str, list[object], str, list[int], list[str]]:
        row = recorded.op(mark)
        return row.op, row.args, row.numbers, row.digests, producers(recorded, row)

    assert said("scaled") == ("mine.scale.default", [], "2.5", [floats(2.5, 2.5)], ["ones.default"])
    assert said("scaled again") == ("mine.scale.default", [], "3.5", [floats(3.5, 3.5)], ["ones.default"])
    assert said("read")[4] == ["mine.scale.default"]
    assert said("filled") == ("mine.fill.default", [7], "", [floats(7, 7)], ["ones.default"])
    assert said("read after")[3:] == ([floats(8, 8)], ["mine.fill.default"])
    assert said("twice") == ("old.twice.default", [], "", [floats(2, 2), floats(4, 4)], ["ones.default"])
    (made,) = recorded.at("own forward", "external")
    assert made.digest == floats(3, 3)
    (gradient,) = recorded.at("own backward", "external")
    assert (gradient.digest, gradient.phase) == (floats(3, 3), "backward")
    assert recorded.op("gradient").digest == floats(3, 3)
