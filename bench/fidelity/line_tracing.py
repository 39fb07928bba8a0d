"""profilers: sys.settrace sees each line of the script, as coverage does, also in threads; a trace function that raises."""

import sys
import threading

import torch

lines = []


def trace(frame, event, argument):
    if frame.f_code.co_filename != __file__:
        return None
    lines.append((frame.f_code.co_name, event, frame.f_lineno))
    return trace


def train(n):
    model = torch.nn.Linear(2, 1)
    for _ in range(n):
        loss = model(torch.ones(1, 2)).sum()
        if loss > 1e9:
            print("never")
        loss.backward()


sys.settrace(trace)
threading.settrace(trace)
train(2)
thread = threading.Thread(target=train, args=(1,))
thread.start()
thread.join()
sys.settrace(None)
print(lines, sys.gettrace())


def angry(frame, event, argument):
    if frame.f_code.co_name == "forward":
        raise RuntimeError("seen enough")
    return


sys.settrace(angry)
try:
    train(1)
except RuntimeError as error:
    sys.settrace(None)
    print(error, sys.gettrace())
