"""signals: Ctrl-C within a training loop, caught once and not caught the second time."""

import _thread
import signal

import torch

model = torch.nn.Linear(2, 1)
done = 0
try:
    for step in range(100):
        model(torch.ones(1, 2)).backward()
        done += 1
        if step == 5:
            _thread.interrupt_main()
except KeyboardInterrupt:
    print("interrupted after", done, type(model.weight.grad))
print(signal.getsignal(signal.SIGINT))


def train():
    for step in range(100):
        model(torch.ones(1, 2)).backward()
        if step == 3:
            signal.raise_signal(signal.SIGINT)


try:
    train()
finally:
    print("cleaned up", flush=True)
