"""signals: a SIGALRM handler that raises in the middle of ops, again and again; each timeout arrives."""

import signal

import torch


class TimeIsUpError(Exception):
    pass


def ring(number, frame):
    raise TimeIsUpError


signal.signal(signal.SIGALRM, ring)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
x = torch.randn(16, 8)
arrived = 0
for k in range(40):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002 + 0.0001 * k)
        while True:
            model(x).sum().backward()
            model.zero_grad()
            open(__file__).close()
    except TimeIsUpError as error:
        arrived += 1
        assert type(error) is TimeIsUpError
print(arrived, signal.getitimer(signal.ITIMER_REAL), model(x).sum())
