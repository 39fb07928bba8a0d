"""compilers: torch.jit.script and trace, saved and loaded, with errors that name the script."""

import torch


@torch.jit.script
def loop(x, n: int):
    for k in range(n):
        x = x * 2 if k % 2 else x + 1
    return x


model = torch.jit.trace(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()).eval(), torch.ones(1, 2))
model.save("traced.pt")
print(loop(torch.ones(2), 5), loop.graph, torch.jit.load("traced.pt")(torch.zeros(1, 2)).shape)
try:
    loop(torch.ones(2, 2) @ torch.ones(3, 1), 1)
except RuntimeError as error:
    print(error)
open("traced.pt", "w").close()  # its names of files are new in every run
