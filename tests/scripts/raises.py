"""Makes everything that the recorder touches raise or warn, and prints each traceback as a script would see it."""

import contextlib
import os
import random
import sys
import threading
import traceback
import warnings

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = {}


def case(function):
    """Register a function as a case."""
    CASES[function.__name__] = function
    return function


class Wrong(nn.Module):
    """A module that raises, nested in another."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x):
        """Multiply mismatched shapes."""
        return self.layer(x) @ torch.ones(5, 5)


class Broken(Dataset):
    """A data set whose third item is missing."""

    def __len__(self):
        """Return four."""
        return 4

    def __getitem__(self, index):
        """Raise for the third."""
        if index == 2:
            raise KeyError(f"no item {index}")
        return torch.ones(2)


class BadBackward(torch.autograd.Function):
    """A function whose backward pass raises."""

    @staticmethod
    def forward(ctx, x):
        """Double."""
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        """Raise."""
        raise ArithmeticError("no gradient")


@torch.library.custom_op("raises::op", mutates_args=())
def custom_op(x: torch.Tensor) -> torch.Tensor:
    """Raise in an operator written in Python."""
    raise LookupError("custom op")


class LoggingMode(torch.utils._python_dispatch.TorchDispatchMode):
    """A mode of the user's own that raises at one op."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Raise at `neg`."""
        if "neg" in str(func):
            raise RuntimeError("the mode says no")
        return func(*args, **(kwargs or {}))


class Subclass(torch.Tensor):
    """A tensor subclass whose handler raises."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        """Raise at `cos`."""
        if func is torch.cos:
            raise ValueError("no cosine")
        return super().__torch_function__(func, types, args, kwargs or {})


def deep(n):
    """Fail at the bottom of a few nested calls."""
    return 1 / n if n == 0 else deep(n - 1)


@case
def user_code():
    deep(3)


@case
def random_sample():
    random.sample([1], 5)


@case
def random_choice():
    random.choice([])


@case
def random_own():
    random.Random(0).sample([1], 5)


@case
def random_seed():
    random.seed([1])


@case
def random_getrandbits():
    random.getrandbits(-1)


@case
def numpy_global():
    np.random.randint(5, 1)


@case
def numpy_own():
    np.random.default_rng(0).integers(5, 1)


@case
def numpy_legacy():
    np.random.RandomState(0).choice(3, 5, replace=False)


@case
def numpy_seed():
    np.random.seed(-1)


@case
def numpy_default_rng():
    np.random.default_rng("x")


@case
def torch_seed():
    torch.manual_seed("x")


@case
def torch_generator():
    torch.Generator().manual_seed("x")


@case
def torch_setter():
    torch.set_num_threads("x")


@case
def torch_switch():
    torch.backends.cudnn.benchmark = "x"


@case
def forward():
    Wrong()(torch.ones(4, 2))


@case
def forward_sequential():
    nn.Sequential(nn.Linear(2, 2), Wrong())(torch.ones(4, 2))


@case
def second_backward():
    loss = (torch.ones(3, requires_grad=True) ** 2).sum()
    loss.backward()
    loss.backward()


@case
def backward_of_no_scalar():
    (torch.ones(3, requires_grad=True) * 2).backward()


@case
def grad_unused():
    torch.autograd.grad(torch.ones(1, requires_grad=True).sum(), torch.ones(1, requires_grad=True))


@case
def own_backward():
    BadBackward.apply(torch.ones(3, requires_grad=True)).sum().backward()


@case
def tensor_hook():
    x = torch.ones(3, requires_grad=True)
    x.register_hook(lambda gradient: 1 / 0)
    x.sum().backward()


@case
def module_hook():
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda *_: deep(1))
    layer(torch.ones(1, 2))


@case
def optimizer_closure():
    layer = nn.Linear(2, 2)
    torch.optim.LBFGS(layer.parameters()).step(lambda: deep(2))


@case
def optimizer_closure_sgd():
    layer = nn.Linear(2, 2)
    torch.optim.SGD(layer.parameters(), lr=0.1).step(lambda: layer(torch.ones(1, 3)))


@case
def optimizer_made_wrong():
    torch.optim.SGD([torch.ones(2) * torch.ones(2, requires_grad=True)], lr=0.1)


@case
def optimizer_without_parameters():
    torch.optim.Adam([], lr=0.1)


@case
def op_shapes():
    torch.ones(2) + torch.ones(3)


@case
def op_in_place():
    torch.ones(2, requires_grad=True).add_(1)


@case
def op_random():
    torch.ones(2).normal_(0, -1)


@case
def op_out():
    torch.mm(torch.ones(2, 3), torch.ones(2, 3), out=torch.ones(1))


@case
def op_item():
    torch.ones(2).item()


@case
def op_custom():
    torch.ops.raises.op(torch.ones(2))


@case
def op_vmap():
    torch.vmap(lambda x: x.item())(torch.ones(3))


@case
def op_cond():
    torch.cond(torch.tensor(True), lambda x: x.sum(), lambda x: x, (torch.ones(3),))


@case
def own_mode():
    with LoggingMode():
        torch.ones(2).abs().neg()


@case
def own_mode_op_error():
    with LoggingMode():
        torch.ones(2) + torch.ones(3)


@case
def subclass():
    torch.cos(torch.ones(2).as_subclass(Subclass))


@case
def checkpoint():
    from torch.utils.checkpoint import checkpoint as again

    calls = []

    def block(x):
        calls.append(1)
        if len(calls) == 2:
            raise OSError("the second time")
        return x.sin()

    again(block, torch.ones(3, requires_grad=True), use_reentrant=False).sum().backward()


@case
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        torch.ones(3).put_(torch.tensor([0, 0]), torch.ones(2))
    finally:
        torch.use_deterministic_algorithms(False)


@case
def anomaly():
    with torch.autograd.set_detect_anomaly(True):
        torch.sqrt(torch.tensor([-1.0], requires_grad=True)).sum().backward()


@case
def missing_file():
    open("there-is-none.txt")  # noqa: SIM115  # the plain call is what is tested


@case
def missing_file_pathlib():
    import pathlib

    pathlib.Path("there-is-none.txt").read_text()


@case
def missing_folder():
    os.listdir("there-is-none")


@case
def missing_folder_scanned():
    os.scandir("there-is-none")


@case
def missing_checkpoint():
    torch.load("there-is-none.pt")


@case
def saved_nowhere():
    torch.save({}, "there-is-none/x.pt")


@case
def module_that_raises():
    import module_that_raises  # noqa: F401  # as a script would


@case
def module_with_a_syntax_error():
    import module_with_a_syntax_error  # noqa: F401  # as a script would


@case
def module_that_is_missing():
    import module_that_is_missing  # noqa: F401  # as a script would


@case
def module_of_torch_that_is_missing():
    import torch.nothing  # noqa: F401  # as a script would


@case
def chained():
    try:
        random.sample([1], 5)
    except ValueError as error:
        raise RuntimeError("so there") from error


@case
def suppressed():
    try:
        torch.ones(2) + torch.ones(3)
    except RuntimeError:
        np.random.seed(-1)


@case
def raised_again():
    try:
        Wrong()(torch.ones(4, 2))
    except RuntimeError as error:
        kept = error
    raise kept


@case
def with_traceback_of_another():
    try:
        open("there-is-none.txt")  # noqa: SIM115  # the plain call is what is tested
    except FileNotFoundError as error:
        raise ValueError("other").with_traceback(error.__traceback__) from None


@case
def in_a_thread():
    thread = threading.Thread(target=lambda: Wrong()(torch.ones(4, 2)), name="the-thread")
    thread.start()
    thread.join()


@case
def in_a_pool():
    from concurrent.futures import ThreadPoolExecutor, wait

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(Wrong(), torch.ones(4, 2))
        wait([future])  # otherwise chance decides which line of the standard library raises
        future.result()


@case
def in_a_worker():
    list(DataLoader(Broken(), num_workers=1))


@case
def in_a_loader():
    list(DataLoader(Broken()))


@case
def in_a_child():
    import multiprocessing

    child = multiprocessing.get_context("fork").Process(target=deep, args=(2,), name="the-child")
    child.start()
    child.join()
    print("exit", child.exitcode, file=sys.stderr)


@case
def keyboard():
    raise KeyboardInterrupt


@case
def warned_by_own_code():
    def old():
        warnings.warn("old", DeprecationWarning, stacklevel=2)

    old()


@case
def warned_in_a_hook():
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda *_: warnings.warn("in a hook", stacklevel=2))
    layer(torch.ones(1, 2))


@case
def warned_by_an_optimizer():
    x = torch.ones(2, requires_grad=True)
    torch.optim.SGD([{"params": [x, x]}], lr=0.1)


@case
def warned_by_a_backward():
    x = torch.ones(2, requires_grad=True)
    x.sum().backward(create_graph=True)


@case
def stack_in_a_thread():
    thread = threading.Thread(target=traceback.print_stack)
    thread.start()
    thread.join()


@case
def stack_in_forward():
    layer = nn.Linear(2, 2)
    layer.register_forward_pre_hook(lambda *_: traceback.print_stack())
    layer(torch.ones(1, 2))


@case
def stack_in_backward():
    x = torch.ones(3, requires_grad=True)
    x.register_hook(lambda gradient: traceback.print_stack())
    x.sum().backward()


@case
def stack_in_closure():
    layer = nn.Linear(2, 2)

    def closure():
        traceback.print_stack()
        return layer(torch.ones(1, 2)).sum()

    torch.optim.SGD(layer.parameters(), lr=0.1).step(closure)


if __name__ == "__main__":
    warnings.simplefilter("always")
    wanted = sys.argv[1:]
    for name, function in CASES.items():
        if wanted and name not in wanted:
            continue
        print(f"== {name}", file=sys.stderr, flush=True)
        with contextlib.ExitStack() as stack:
            stack.callback(sys.stderr.flush)
            try:
                function()
            except BaseException:
                traceback.print_exc()
