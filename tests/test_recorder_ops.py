"""The record of an op: name, arguments, inputs and outputs, digests; for ordinary tensors and for unusual ones."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from auditor.trace.ops import OpSchema
from tests.recordings import Recorded, Row, record

pytestmark = pytest.mark.torch


def floats(*values: float) -> int:
    """Digest of these numbers as float32."""
    return xxh3_64_intdigest(struct.pack(f"<{len(values)}f", *values))


def producers(recorded: Recorded, row: Row) -> list[tuple[str, int | None]]:
    """Names and lines of the records that last wrote an op's inputs."""
    return [(r.op.removeprefix("aten."), r.line) for r in recorded.inputs(row)]


def test_an_op_is_recorded_with_its_arguments_inputs_and_output(tmp_path: Path) -> None:
    source = """
        import torch

        x = torch.tensor([1.0, 2.0, 3.0])  # x
        m = torch.ones(2, 3, dtype=torch.float64)  # m
        y = x + 1  # an integer
        y = x + 1.5  # a float
        y = x + 2.5  # another float
        y = torch.add(x, y, alpha=3)  # a keyword
        y = torch.clamp(x, 0.5, max=2)  # two kinds
        y = torch.clamp(x, max=2)  # nothing
        y = m.sum([0, 1], True)  # a list and a bool
        y = m.sum(1)  # a dimension
        y = m.to(torch.int16)  # a type
        y = x.reshape(3, 1)  # a shape
        y = torch.searchsorted(x, torch.tensor([2.0]), side="right")  # a text
        y = torch.nn.functional.gelu(x, approximate="tanh")  # a text of a layer
        y = torch.full((2,), float("nan"))  # nan
        y = torch.full((2,), float("nan"))  # nan again
        y = torch.full((2,), float("inf"))  # inf
        y = torch.where(x > 2, x, 0.0)  # where
        y = torch.nn.functional.pad(x, (1, 2), value=0.25)  # a list and a float
        y = x[[0, 2]]  # a list of indices
        y = m[:, 1]  # a column
        y = m[None, ..., ::2]  # slices
        y = x.mul(x)  # twice the same
        y = torch.arange(0, 1, 0.25)  # a range
        y = x.quantile(0.5, interpolation="lower")  # a quantile
        """
    recorded = record(tmp_path, source)

    def said(mark: str, name: str) -> tuple[list[object], str]:
        row = recorded.op(mark, name)
        return row.args, row.numbers

    assert said("an integer", "add.Tensor") == ([1], "")
    assert said("a float", "add.Tensor") == ([], "1.5")
    assert said("another float", "add.Tensor") == ([], "2.5")
    assert said("a keyword", "add.Tensor") == (["alpha", 3], "")
    assert said("two kinds", "clamp.default") == ([2], "0.5")
    assert said("nothing", "clamp.default") == ([None, 2], "")
    assert said("a list and a bool", "sum.dim_IntList") == ([[0, 1], True], "")
    assert said("a dimension", "sum.dim_IntList") == ([[1]], "")
    assert "torch.int16" in said("a type", "_to_copy.default")[0]
    assert said("a shape", "view.default") == ([[3, 1]], "")
    assert "right" in said("a text", "searchsorted.Tensor")[0]
    assert said("a text of a layer", "gelu.default") == (["approximate", "tanh"], "")
    assert said("nan", "full.default")[1] == said("nan again", "full.default")[1] == "nan"
    assert said("inf", "full.default")[1] == "inf"
    assert recorded.op("nan", "full.default").what == recorded.op("nan again", "full.default").what
    assert said("a list and a float", "constant_pad_nd.default") == ([[1, 2]], "0.25")
    assert said("a range", "arange.start_step")[1] == "0.25"

    # floats are stored separately, so that a learning rate does not make a new op descriptor
    a, b = recorded.op("a float"), recorded.op("another float")
    assert (a.args, a.out, a.op) == (b.args, b.out, b.op)
    assert a.what != b.what

    x, m = recorded.line("x"), recorded.line("m")
    assert producers(recorded, recorded.op("an integer")) == [("external", x)]
    assert producers(recorded, recorded.op("a keyword")) == [("external", x), ("add.Tensor", recorded.line("another float"))]
    assert producers(recorded, recorded.op("twice the same")) == [("external", x)] * 2
    assert producers(recorded, recorded.op("a dimension")) == [("ones.default", m)]
    assert producers(recorded, recorded.op("where", "where.self"))[:2] == [("gt.Scalar", recorded.line("where")), ("external", x)]

    def form(mark: str, name: str = "") -> tuple[str, list[int], list[int] | None, str]:
        row = recorded.op(mark, name)
        return row.dtype, row.shape, row.stride, row.out[0][3]

    assert form("m") == ("float64", [2, 3], None, "cpu")
    assert form("an integer") == ("float32", [3], None, "cpu")
    assert form("a list and a bool") == ("float64", [1, 1], None, "cpu")
    assert form("a type") == ("int16", [2, 3], None, "cpu")
    assert form("a column", "select.int") == ("float64", [2], [3], "cpu")
    assert recorded.at("slices")[-1].shape == [1, 2, 2]
    assert recorded.at("slices")[-1].stride == [6, 3, 2]

    assert recorded.op("an integer").digest == floats(2, 3, 4)
    assert recorded.op("twice the same").digest == floats(1, 4, 9)
    assert recorded.op("m").digest == xxh3_64_intdigest(struct.pack("<6d", *[1.0] * 6))
    assert recorded.op("a type").digest == xxh3_64_intdigest(struct.pack("<6h", *[1] * 6))


def test_minus_zero_as_an_argument_differs_from_zero(tmp_path: Path) -> None:
    source = """
        import torch

        x = torch.ones(3)
        y = x * 0.0  # plus
        y = x * -0.0  # minus
        """
    recorded = record(tmp_path, source)

    assert (recorded.op("plus").numbers, recorded.op("minus").numbers) == ("0.0", "-0.0")


def test_an_in_place_op_has_its_old_value_as_input_and_its_new_digest(tmp_path: Path) -> None:
    source = """
        import struct
        import torch

        def memory(*values):
            return torch.frombuffer(bytearray(struct.pack(f"{len(values)}f", *values)), dtype=torch.float32)

        x = torch.tensor([1.0, 2.0])  # x
        a = x + 0.0  # a
        a.mul_(2)  # in place
        a += x  # augmented
        a[0] = 7.0  # an element
        a[1:].fill_(5.0)  # through a view
        b = a * 1.0  # read
        c = memory(1.0, 2.0)
        c.add_(1)  # external in place
        c.add_(1)  # again
        d = memory(8.0, 9.0)
        d.copy_(x)  # overwritten
        d.zero_()  # zeroed
        e = torch.empty(2)  # empty
        torch.add(x, x, out=e)  # out
        f = memory(6.0, 6.0)
        torch.mul(x, 3, out=f)  # out external
        g = x.clone()
        g.set_(x)  # set
        norm = torch.nn.BatchNorm1d(2)
        y = norm(torch.ones(3, 2))  # norm
        z = norm.running_var + 0  # variance
        t, u = x + 0.0, x + 1.0
        torch._foreach_mul_([t, u], 2.0)  # foreach
        v = t + u  # after foreach
        w = x.clone().resize_(3)
        """
    recorded = record(tmp_path, source)

    def at(mark: str) -> int:
        return recorded.line(mark)

    row = recorded.op("in place")
    assert (row.op, row.digest) == ("aten.mul_.Tensor", floats(2, 4))
    assert producers(recorded, row) == [("add.Tensor", at("a"))]
    row = recorded.op("augmented")
    assert producers(recorded, row) == [("mul_.Tensor", at("in place")), ("external", at("x"))]
    assert row.digest == floats(3, 6)
    assert ("add_.Tensor", at("augmented")) in producers(recorded, recorded.at("an element")[-1])
    row = recorded.op("through a view", "fill_.Scalar")
    assert row.digest == floats(5)
    row = recorded.op("read")
    assert producers(recorded, row) == [("fill_.Scalar", at("through a view"))]
    assert row.digest == floats(7, 5)

    (before,) = recorded.at("external in place", "external")
    assert before.digest == floats(1, 2)
    row = recorded.op("external in place")
    assert (recorded.inputs(row), row.digest) == ([before], floats(2, 3))
    assert recorded.at("again", "external") == []
    assert producers(recorded, recorded.op("again")) == [("add_.Tensor", at("external in place"))]

    # what is overwritten unread is not an input
    assert recorded.at("overwritten", "external") == []
    assert recorded.op("overwritten", "copy_.default").digest == floats(1, 2)
    assert ("copy_.default", at("overwritten")) in producers(recorded, recorded.op("zeroed"))
    row = recorded.op("out")
    assert row.op == "aten.add.out"
    assert (producers(recorded, row), row.digest) == ([("external", at("x"))] * 2, floats(2, 4))
    row = recorded.op("out external")
    assert recorded.at("out external", "external") == []
    assert (producers(recorded, row), row.digest) == ([("external", at("x"))], floats(3, 6))

    # batch norm writes running statistics that its schema does not declare
    row = recorded.op("norm", "native_batch_norm.default")
    assert len(row.digests) > 3
    assert producers(recorded, recorded.op("variance"))[0] == ("native_batch_norm.default", at("norm"))

    row = recorded.op("foreach")
    assert [m[1] for m in row.out] == [[2], [2]]
    assert row.digests == [floats(2, 4), floats(4, 6)]
    assert producers(recorded, recorded.op("after foreach")) == [("_foreach_mul_.Scalar", at("foreach"))] * 2


def test_a_view_shares_the_history_of_its_storage_and_has_no_digest(tmp_path: Path) -> None:
    source = """
        import torch

        x = torch.arange(6.0)  # made
        v = x.view(2, 3)  # view
        t = v.t()  # transposed
        s = t[1:]  # slice
        y = s * 2  # read through three
        s.add_(1)  # written through three
        z = x * 1  # read whole
        e = torch.ones(1, 3).expand(4, 3)  # expanded
        f = e + 1  # read expanded
        d = x.detach()  # detached
        g = d + 1  # read detached
        c = x.clone()  # cloned
        h = c + 1  # read clone
        k = x[x > 2]  # copied by a mask
        n = x.data.numpy()
        l = torch.from_numpy(n) + 1  # through numpy
        """
    recorded = record(tmp_path, source)

    def at(mark: str) -> int:
        return recorded.line(mark)

    for mark in ("view", "transposed", "slice", "expanded", "detached"):
        assert recorded.at(mark)[-1].digest == 0
    assert recorded.op("transposed").stride == [1, 3]
    assert producers(recorded, recorded.op("slice", "slice.Tensor")) == [("arange.default", at("made"))]
    assert producers(recorded, recorded.op("read through three")) == [("arange.default", at("made"))]
    assert producers(recorded, recorded.op("read whole")) == [("add_.Tensor", at("written through three"))]
    assert recorded.op("read whole").digest == floats(0, 2, 3, 3, 5, 6)
    assert recorded.at("expanded")[-1].stride == [0, 1]
    assert recorded.op("read expanded").digest == floats(*[2.0] * 12)
    assert producers(recorded, recorded.op("read expanded")) == [("ones.default", at("expanded"))]
    assert producers(recorded, recorded.op("read detached")) == [("add_.Tensor", at("written through three"))]
    assert producers(recorded, recorded.op("read clone")) == [("clone.default", at("cloned"))]
    assert recorded.op("cloned").digest == recorded.op("read whole").digest
    assert recorded.at("copied by a mask")[-1].digest == floats(2 + 1, 3, 5, 6)
    # the same memory returns as another storage: its content is recorded
    assert [r.digest for r in recorded.at("through numpy", "external")] == [recorded.op("read whole").digest]


def test_several_views_of_one_op_share_the_history_of_their_storage(tmp_path: Path) -> None:
    source = """
        import torch

        x = torch.arange(6.0)  # made
        first, second = x.split(3)  # split
        y = second + 1  # read
        a, b = x.view(2, 3).unbind()  # unbound
        z = x + 1  # read whole
        """
    recorded = record(tmp_path, source)

    row = recorded.op("split", "split.Tensor")
    assert [m[1] for m in row.out] == [[3], [3]]
    assert recorded.op("read").digest == floats(4, 5, 6)
    assert set(row.digests) == {0}
    assert producers(recorded, recorded.op("read")) == [("arange.default", recorded.line("made"))]
    assert producers(recorded, recorded.op("read whole")) == [("arange.default", recorded.line("made"))]


def test_a_tensor_without_a_recorded_op_is_external_once_with_a_digest_of_its_rows(tmp_path: Path) -> None:
    source = """
        import numpy as np
        import torch

        rows = np.arange(6, dtype=np.float32).reshape(3, 2)
        a = torch.from_numpy(rows) + 0  # rows
        b = torch.from_numpy(rows[[2, 0, 1]].copy()) + 0  # other order
        c = torch.from_numpy(rows[:, ::-1].copy()) + 0  # other columns
        d = torch.from_numpy(rows + 1) + 0  # other values
        e = torch.tensor([1.0, 2.0])  # a list
        f = torch.as_tensor(np.float32(3)) + 1  # a number of numpy
        g = torch.tensor(4.0) * torch.tensor([5])  # two
        h = torch.frombuffer(rows, dtype=torch.float32).view(3, 2)  # first sight
        h + 1  # second sight
        rows += 1
        h + 1  # third sight
        torch.save({"w": torch.ones(2, 2)}, "w.pt")
        w = torch.load("w.pt")["w"]
        w + 1  # loaded
        k = torch.frombuffer(bytearray(b"abcdefgh"), dtype=torch.int32) + 0  # a buffer
        model = torch.nn.Linear(2, 2)
        torch.save(model.state_dict(), "m.pt")
        model.load_state_dict(torch.load("m.pt"))  # loading
        made = torch.ones(3)  # made
        made + 1  # not external
        z = torch.from_numpy(np.zeros((0, 3), np.float32)) + 1  # nothing
        t = torch.from_numpy(np.ones((2, 3), np.float32).T) + 1  # transposed
        """
    recorded = record(tmp_path, source)

    def external(mark: str) -> Row:
        (found,) = recorded.at(mark, "external")
        return found

    a, b, c, d = (external(m) for m in ("rows", "other order", "other columns", "other values"))
    assert a.digest == floats(*range(6))
    assert len({a.digest, b.digest, c.digest, d.digest}) == 4
    assert a.rows == b.rows != 0
    assert len({a.rows, c.rows, d.rows}) == 3
    assert (a.shape, a.dtype) == ([3, 2], "float32")
    assert recorded.op("rows", "add.Tensor").digest == a.digest
    assert recorded.op("rows", "add.Tensor").rows == 0
    assert external("a list").digest == floats(1, 2)
    assert external("a number of numpy").rows == 0
    assert [r.digest for r in recorded.at("two", "external")] == [floats(4), xxh3_64_intdigest(struct.pack("<q", 5))]
    assert external("first sight").digest == a.digest
    assert external("first sight").shape == [6]
    assert recorded.at("second sight", "external") == []
    assert external("third sight").digest == floats(1, 2, 3, 4, 5, 6)  # NumPy has written it since
    assert recorded.op("second sight").digest != recorded.op("third sight").digest
    assert external("loaded").digest == floats(1, 1, 1, 1)
    assert external("a buffer").digest == xxh3_64_intdigest(b"abcdefgh")
    assert len(recorded.at("loading", "external")) == 2
    assert recorded.at("made", "external") == recorded.at("not external", "external") == []
    assert (external("nothing").digest, external("nothing").shape) == (0, [0, 3])
    assert external("transposed").stride == [1, 3]

    # an external tensor takes an op number, a draw does not
    assert [r.index for r in recorded.rows() if r.kind != "draw"] == list(range(len([r for r in recorded.rows() if r.kind != "draw"])))
    assert recorded.main.ops == len([r for r in recorded.rows() if r.kind == "op"])


def test_an_op_has_a_digest_per_output_and_a_producer_per_input(tmp_path: Path) -> None:
    source = """
        import torch

        x = torch.tensor([[3.0, 1.0], [2.0, 4.0]])  # x
        values, indices = x.sort()  # sort
        y = values + 1  # the first
        z = indices + 1  # the second
        parts = [x + k for k in range(5)]  # parts
        c = torch.cat(parts)  # cat
        s = torch.stack([x] * 300)  # stack
        big = torch._foreach_add([x + k for k in range(250)], 1.0)  # a great many
        q = big[-1] + 1  # the last of them
        a = torch.einsum("ij,jk->ik", x, x)  # einsum
        u, t, v = torch.linalg.svd(x)  # svd
        w = torch.aminmax(x)  # a named tuple
        i = torch.ops.aten.index_put(x, [None, torch.tensor([0])], torch.tensor(9.0))  # with none
        """
    recorded = record(tmp_path, source)

    row = recorded.op("sort", "sort.default")
    assert [m[0] for m in row.out] == ["float32", "int64"]
    assert row.digests == [floats(1, 3, 2, 4), xxh3_64_intdigest(struct.pack("<4q", 1, 0, 0, 1))]
    assert (
        producers(recorded, recorded.op("the first"))
        == producers(recorded, recorded.op("the second"))
        == [("sort.default", recorded.line("sort"))]
    )
    row = recorded.op("cat")
    assert recorded.inputs(row) == recorded.at("parts")
    assert row.index == recorded.at("parts")[-1].index + 1
    # one record per op, however many inputs and outputs it has
    assert len(recorded.op("stack").inputs) == 300
    row = recorded.op("a great many", "_foreach_add.Scalar")
    assert len(row.out) == 250
    assert 200 <= len(row.digests) <= 250
    assert len(set(row.digests)) == len(row.digests)
    assert producers(recorded, recorded.op("the last of them")) == [("_foreach_add.Scalar", recorded.line("a great many"))]
    assert recorded.op("a named tuple").digests == [floats(1), floats(4)]
    assert recorded.op("with none", "index_put.default").digest == floats(9, 1, 9, 4)
    assert len(recorded.op("svd").digests) == 3
    assert [r.index for r in recorded.rows() if r.kind != "draw"] == sorted({r.index for r in recorded.rows() if r.kind != "draw"})


def test_a_value_read_from_a_tensor_is_an_op_with_the_digest_of_the_value(tmp_path: Path) -> None:
    source = """
        import torch

        x = torch.tensor([1.5, 0.0])
        print(x[0].item())  # item
        print(float(x[0]))  # float
        print(x[1].item())  # another
        print(bool(x[0] > 1))  # bool
        print(int(x[0]))  # int
        print(x[0].to(torch.complex64).item())  # complex
        print(float("nan"), torch.tensor(float("nan")).item())  # nan
        print(torch.tensor(2**62).item())  # big
        print(x.tolist())  # list
        print(torch.equal(x, x))  # equal
        print(x.nonzero().shape)  # nonzero
        print(torch.allclose(x, x))  # close
        if x.sum() > 1:  # a branch
            pass
        """
    recorded = record(tmp_path, source)

    name = "_local_scalar_dense.default"
    rows = {mark: recorded.op(mark, name) for mark in ("item", "float", "another", "bool", "int", "complex", "nan", "big", "a branch")}
    assert rows["item"].digest == rows["float"].digest == rows["int"].digest  # of the same 1.5
    assert len({rows[m].digest for m in ("item", "another", "bool", "complex", "nan", "big")}) == 6
    assert all(row.digest for row in rows.values())
    assert rows["item"].out[0][0] == "float"
    assert rows["bool"].out[0][0] == "bool"
    assert rows["big"].out[0][0] == "int"
    assert producers(recorded, rows["item"])[0][0] == "external"
    assert producers(recorded, rows["a branch"]) == [("gt.Scalar", recorded.line("a branch"))]
    assert recorded.op("equal").op == "aten.equal.default"
    assert recorded.op("equal").digest != 0
    assert recorded.op("nonzero").shape == [1, 1]
    assert recorded.out[0] == "1.5"


def test_a_record_has_the_facts_of_its_ops_schema(tmp_path: Path) -> None:
    source = """
        import torch

        library = torch.library.Library("mylib", "FRAGMENT")
        library.define("fused_adam(Tensor(a!) p, Tensor g, Tensor(b!) m, float lr) -> ()")

        def fused_adam(p, g, m, lr):
            m.numpy()[:] = m.numpy() + g.numpy()
            p.numpy()[:] = p.numpy() - lr * m.numpy()

        library.impl("fused_adam", fused_adam, "CPU")
        library.define("half(Tensor(a) x) -> Tensor(a)")
        library.impl("half", lambda x: x[:1], "CPU")

        p, g, m = torch.ones(2), torch.ones(2), torch.zeros(2)
        torch.ops.mylib.fused_adam(p, g, m, 0.5)  # an extension
        q = p + 1  # read after
        h = torch.ops.mylib.half(p)  # a view of an extension
        q = p.atan2_(g)  # in place
        q = torch.add(p, 1, out=q)  # out
        q = torch.ones(2, 3).t_()  # bound
        q = torch.empty(2).uniform_()  # random
        q = p.view(2, 1)  # view
        """
    recorded = record(tmp_path, source)

    def schema(mark: str, name: str = "") -> OpSchema:
        at = recorded.op(mark, name).row
        return recorded.main.rows(at, at)[0].schema

    assert schema("an extension") == OpSchema((0, 2))
    assert producers(recorded, recorded.op("read after")) == [("mylib.fused_adam.default", recorded.line("an extension"))]
    assert recorded.op("read after").digest == floats(1.5, 1.5)
    assert schema("a view of an extension") == OpSchema(view=True)
    assert schema("in place") == OpSchema((0,))
    assert schema("read after") == OpSchema()
    assert schema("out") == OpSchema(("out",))
    assert schema("bound", "t_.default") == OpSchema((0,), view=True)
    assert schema("random", "uniform_.default") == OpSchema((0,), overwrites=True, random=True)
    assert schema("view") == OpSchema(view=True)


def test_uninitialized_memory_has_no_digest_until_it_is_read(tmp_path: Path) -> None:
    source = """
        import torch

        torch.manual_seed(0)
        x = torch.ones(3)
        a = torch.empty(3)  # empty
        b = torch.empty_like(x)  # like
        c = x.new_empty(3)  # new
        d = torch.empty_strided((2, 2), (1, 2))  # strided
        e = a.view(3, 1)  # viewed
        a.fill_(2.0)  # filled
        f = a + 1  # read after
        torch.nn.init.normal_(b)  # drawn
        g = c + 0  # read before
        h = torch.empty(0)  # nothing
        """
    recorded = record(tmp_path, source)

    for mark in ("empty", "like", "new", "strided", "viewed", "nothing"):
        assert recorded.op(mark).digest == 0
    assert producers(recorded, recorded.op("filled")) == [("empty.memory_format", recorded.line("empty"))]
    assert recorded.op("filled").digest == floats(2, 2, 2)
    assert producers(recorded, recorded.op("read after")) == [("fill_.Scalar", recorded.line("filled"))]
    assert recorded.op("drawn", "normal_.default").digest != 0
    row = recorded.op("read before")
    assert producers(recorded, row) == [("new_empty.default", recorded.line("new"))]
    assert row.digest != 0
