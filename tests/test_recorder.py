"""The place of each recorded op: the user's line, that of the forward op for a backward op, and the running module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import write
from tests.recordings import record

pytestmark = pytest.mark.torch


def test_a_forward_op_has_the_nearest_line_of_the_users_code(tmp_path: Path) -> None:
    source = """
        import functools
        import torch
        import torch.nn.functional as F

        def doubled(f):
            @functools.wraps(f)
            def wrapper(*args):
                return f(*args) * 2  # in the wrapper
            return wrapper

        @doubled
        def decorated(x):
            return x.sin()  # decorated

        class Block(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = torch.nn.Linear(3, 3)  # made in a block

            def forward(self, x):
                y = self.inner(x)  # a module in a forward
                return y.exp()  # an op in a forward

        class Rows(list):
            def __getitem__(self, k):
                return super().__getitem__(k) + 1  # in a method

        torch.manual_seed(0)
        x = torch.ones(2, 3)  # made
        linear, norm = torch.nn.Linear(3, 3), torch.nn.LayerNorm(3)
        stack = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
        square = lambda v: v.square()  # in a lambda
        block = Block()  # a block is made

        a = x + 1  # direct
        a = linear(x)  # a module
        a = stack(x)  # a sequence
        a = F.gelu(x)  # functional
        a = square(x)  # a lambda is called
        a = [v.cos() for v in (x, x)]  # a comprehension
        a = list(map(torch.neg, [x, x]))  # a map
        a = sum(v.tan() for v in (x,))  # a generator
        a = decorated(x)  # a decorated function is called
        a = torch.addcmul(  # a call over lines
            x,
            x,
            value=0.5,
            tensor2=x,
        )
        a = (
            x.abs()  # the first of a chain
            .ceil()  # the second of a chain
        )
        a = block(x)  # a block is called
        a = Rows([x])[0]
        exec("a = x.floor()")  # code that is executed
        exec(compile("\\na = x.round()", "made.txt", "exec"))  # code of a named file
        a = norm(
            linear(x)  # an argument
        )
        a = x.trunc(); a = x.frac()  # two ops
        a = torch.optim.swa_utils.AveragedModel(linear)(x)  # a library within a library
        a = functools.reduce(torch.maximum, [x, x, x])  # a reduction
        """
    recorded = record(tmp_path, source)

    assert recorded.names("made") == ["ones.default"]
    assert recorded.names("direct") == ["add.Tensor"]
    assert recorded.names("a module") == ["t.default", "addmm.default"]
    assert recorded.names("a sequence") == ["t.default", "addmm.default", "tanh.default", "t.default", "addmm.default"]
    assert recorded.names("functional") == ["gelu.default"]
    assert recorded.names("in a lambda") == ["pow.Tensor_Scalar"]
    assert recorded.names("a lambda is called") == []
    assert recorded.names("a comprehension") == ["cos.default"] * 2
    assert recorded.names("a map") == ["neg.default"] * 2
    assert recorded.names("a generator") == ["tan.default", "add.Tensor"]
    assert recorded.names("decorated") == ["sin.default"]
    assert recorded.names("in the wrapper") == ["mul.Tensor"]
    assert recorded.names("a decorated function is called") == []
    assert recorded.names("a call over lines") == ["addcmul.default"]
    assert recorded.names("the first of a chain") == ["abs.default"]
    assert recorded.names("the second of a chain") == ["ceil.default"]
    assert recorded.names("a module in a forward") == ["t.default", "addmm.default"]
    assert recorded.names("an op in a forward") == ["exp.default"]
    assert recorded.names("a block is called") == []
    assert recorded.names("in a method") == ["add.Tensor"]
    assert recorded.names("code that is executed") == ["floor.default"]
    assert recorded.names("code of a named file") == []
    assert [(r.file, r.line) for r in recorded.rows() if r.op == "aten.round.default"] == [("made.txt", 2)]
    assert recorded.names("an argument") == ["t.default", "addmm.default"]
    assert recorded.names("two ops") == ["trunc.default", "frac.default"]
    assert "addmm.default" in recorded.names("a library within a library")
    assert recorded.names("a reduction") == ["maximum.default"] * 2
    assert recorded.names("made in a block") == ["empty.memory_format"] * 2 + ["uniform_.default"] * 2
    assert recorded.names("a block is made") == []

    assert recorded.op("direct").function == "<module>"
    assert recorded.op("an op in a forward").function == "Block.forward"
    assert recorded.op("decorated").function == "decorated"
    assert recorded.op("in the wrapper").function == "doubled.<locals>.wrapper"
    assert all(r.line is not None for r in recorded.rows())


def test_an_op_has_its_user_file_and_in_a_package_the_line_that_calls_it(tmp_path: Path) -> None:
    source = """
        import sys, torch
        sys.path.insert(0, "venv/lib/site-packages")
        import installed, other
        from package.sub import deep

        x = torch.ones(3)
        a = other.helper(x)  # another file
        a = deep.Deep()(x)  # a package
        a = installed.helper(x)  # an installed package
        a = installed.helper(other.helper(x))  # both
        a = installed.calls(lambda: x.exp())  # called back
        """
    write(
        tmp_path / "venv" / "lib" / "site-packages", installed="def helper(x):\n    return x.cos()\n\ndef calls(f):\n    return f().sin()\n"
    )
    write(tmp_path / "package" / "sub", __init__="", deep="""
        import torch

        class Deep(torch.nn.Module):
            def forward(self, x):
                return x.tan()
        """)  # fmt: skip
    recorded = record(tmp_path, source, other="def helper(x):\n    y = x\n    return y + 1\n")

    def places(name: str) -> list[tuple[str | None, int | None]]:
        return [(r.file, r.line) for r in recorded.rows() if r.op == f"aten.{name}"]

    assert places("add.Tensor") == [("other.py", 3)] * 2
    assert places("tan.default") == [("package/sub/deep.py", 5)]
    assert recorded.names("another file") == recorded.names("a package") == []
    assert recorded.names("an installed package") == ["cos.default"]
    assert recorded.names("both") == ["cos.default"]
    assert recorded.names("called back") == ["exp.default", "sin.default"]


def test_a_backward_op_has_the_lines_of_backward_and_of_its_forward_op(tmp_path: Path) -> None:
    source = """
        import torch

        class Scale(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 3  # own forward

            @staticmethod
            def backward(ctx, grad):
                return grad * 3.5  # own backward

        def ends(loss):
            loss.backward()  # in a function

        torch.manual_seed(0)
        w = torch.ones(3, requires_grad=True)
        linear = torch.nn.Linear(3, 3)
        optimizer = torch.optim.SGD(linear.parameters(), lr=0.1)

        y = w.sin()  # sine
        z = torch.nn.functional.softplus(y)  # plus
        z.sum().backward()  # backward

        y = linear(w).tanh()  # tangent
        y.retain_grad()
        ends(y.sum())

        y = Scale.apply(w).exp()  # own function
        y.register_hook(lambda grad: grad.clamp(max=0.5))  # a hook
        torch.autograd.backward([y.sum()])  # through torch.autograd

        y = (w * 2).cos()  # one graph
        y.sum().backward(retain_graph=True)  # the first time
        y.sum().backward()  # the second time

        y = torch.utils.checkpoint.checkpoint(lambda v: v.sinh().atan(), w, use_reentrant=False)  # recomputed
        y.sum().backward()  # backward recomputes

        optimizer.step()  # the step
        """
    recorded = record(tmp_path, source)

    def backward(mark: str) -> list[tuple[str, int | None]]:
        found = [r for r in recorded.at(mark) if r.phase == "backward" and r.forward_line is not None]
        return [(r.op.removeprefix("aten."), r.forward_line) for r in found]

    def forward_lines(mark: str) -> dict[str, int | None]:
        return dict(backward(mark))

    found = forward_lines("backward")
    assert found["softplus_backward.default"] == recorded.line("plus")
    assert found["cos.default"] == recorded.line("sine")
    assert found["expand.default"] == recorded.line("backward")  # the sum is on the same line
    assert [r.forward_line for r in recorded.at("sine")] == [None]

    found = forward_lines("in a function")
    assert found["tanh_backward.default"] == found["mm.default"] == recorded.line("tangent")

    assert recorded.names("own forward") == ["mul.Tensor"]
    own = recorded.op("own backward")
    assert (own.op, own.phase, own.forward_line) == ("aten.mul.Tensor", "backward", recorded.line("own forward"))
    assert recorded.op("a hook").phase == "backward"
    assert recorded.op("through torch.autograd", "mul.Tensor").forward_line == recorded.line("own function")

    for mark in ("the first time", "the second time"):
        assert [line for name, line in backward(mark) if name == "sin.default"] == [recorded.line("one graph")]

    assert [(r.op, r.phase) for r in recorded.at("recomputed") if r.op == "aten.sinh.default"] == [
        ("aten.sinh.default", "forward"),
        ("aten.sinh.default", "backward"),
    ]
    assert forward_lines("backward recomputes")["cosh.default"] == recorded.line("recomputed")

    assert {r.phase for r in recorded.at("the step")} == {"optimizer"}
    assert set(recorded.names("the step")) == {"add_.Tensor"}


def test_an_op_has_the_path_of_the_running_module(tmp_path: Path) -> None:
    source = """
        import torch
        from torch import nn

        class Attention(nn.Module):
            def __init__(self):
                super().__init__()
                self.proj = nn.Linear(4, 4)

            def forward(self, x):
                x = x.sin()  # before the child
                x = self.proj(x)  # the child
                return x.cos()  # after the child

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList([Attention(), Attention()])
                self.table = nn.ModuleDict({"out": nn.Linear(4, 4)})
                self.again = self.table["out"]
                self.broken = Broken()

            def forward(self, x, fail):
                for layer in self.layers:
                    x = layer(x)
                x = self.table["out"](x)  # the first name
                x = self.again(x)  # the second name
                if fail:
                    try:
                        self.broken(x)
                    except ValueError:
                        x = x.floor()  # after a failure within
                return x.exp()  # own op

        class Broken(nn.Module):
            def forward(self, x):
                x.ceil()  # before a failure
                raise ValueError

        torch.manual_seed(0)
        net, broken = Net(), Broken()
        x = torch.ones(2, 4).abs()  # outside
        net(x, False)
        net(x, True)
        x.tan()  # outside again
        try:
            broken(x)
        except ValueError:
            x.round()  # after a failure
        for _ in range(2):
            nn.Linear(4, 4)(x)  # made in the loop
        net.layers[1](x).sum().backward()  # a part alone
        net.forward(x, False)
        """
    recorded = record(tmp_path, source)

    def modules(mark: str) -> list[str | None]:
        return [r.module for r in recorded.at(mark) if r.phase != "backward"]

    both = ["Net.layers.0", "Net.layers.1"]
    # twice through the net, once the second alone, and once through net.forward, where the net itself was not called
    assert modules("before the child") == [*both, *both, "Net.layers.1", *both]
    assert modules("the child") == [f"{path}.proj" for path in modules("before the child") for _ in range(2)]
    assert modules("after the child") == modules("before the child")
    assert modules("the first name") == ["Net.table.out"] * 6
    assert modules("the second name") == ["Net.table.out"] * 6
    assert modules("before a failure") == ["Net.broken", "Broken"]
    assert modules("after a failure within") == ["Net"]
    assert modules("own op") == ["Net", "Net", None]
    assert modules("outside") == [None, None]
    assert modules("outside again") == [None]
    assert modules("after a failure") == [None]
    assert modules("made in the loop")[-2:] == ["Linear"] * 2
    assert recorded.at("made in the loop")[0].module is None  # created outside any module

    backward = [r for r in recorded.at("a part alone") if r.phase == "backward"]
    assert {r.module for r in backward if r.op == "aten.mm.default"} == {"Net.layers.1.proj"}
    sines = [r for r in backward if r.forward_line == recorded.line("after the child")]
    assert {r.module for r in sines} == {"Net.layers.1"}


def test_the_first_op_of_a_thread_has_the_path_of_the_running_module(tmp_path: Path) -> None:
    source = """
        import threading
        import torch

        def work():
            net(x)  # in a thread

        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2))
        x = torch.ones(1, 2)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """
    recorded = record(tmp_path, source)

    found = [(r.op.removeprefix("aten."), r.module) for r in recorded.at("in a thread", lane="thread 1")]
    assert [module for name, module in found if name != "t.default"] == ["Sequential.0", "Sequential.1", "Sequential.2"]
