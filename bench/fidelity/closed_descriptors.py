"""descriptors: all above 2 are closed in the middle of training, and the numbers used for own files."""

import os

import torch

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    os.closerange(3, 256)
    files = [open(f"log-{epoch}-{k}.txt", "w") for k in range(3)]
    print([file.fileno() for file in files])
    for step in range(200):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        files[step % 3].write(f"{step}\n")
    for file in files:
        file.close()
