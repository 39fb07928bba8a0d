"""introspection: tracebacks of errors in ops, hooks, autograd functions, threads and generators; the last ends the script."""

import sys
import threading
import traceback

import torch


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 2

    @staticmethod
    def backward(context, gradient):
        raise ArithmeticError("no gradient here")


def hook(module, args, output):
    raise LookupError("in a hook")


def attempt(do):
    try:
        do()
    except Exception:
        print("".join(line for line in traceback.format_exc().splitlines(True) if "^" not in line and "~" not in line))
        frame = sys.exc_info()[2]
        while frame:
            print(frame.tb_frame.f_code.co_name, end=" ")
            frame = frame.tb_next
        print()


x = torch.ones(2, requires_grad=True)
layer = torch.nn.Linear(2, 2)
layer.register_forward_hook(hook)
attempt(lambda: torch.ones(2) + torch.ones(3))
attempt(lambda: Fails.apply(x).sum().backward())
attempt(lambda: layer(torch.ones(1, 2)))
attempt(lambda: torch.load("no-such-file.pt"))
attempt(lambda: open("no-such-file.txt"))
attempt(lambda: torch.manual_seed("seven"))
attempt(lambda: torch.optim.SGD([], lr=0.1))
thread = threading.Thread(target=lambda: torch.ones(2).view(3), name="worker")
thread.start()
thread.join()
try:
    x[5]
except IndexError as error:
    raise RuntimeError("the end") from error
