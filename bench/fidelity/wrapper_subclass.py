"""subclasses: a traceable wrapper of two tensors, trained, compared, saved, compiled by aot_eager."""

import torch
from torch.testing._internal.two_tensor import TwoTensor

torch.manual_seed(0)
model = torch.nn.Linear(3, 2)
model.weight = torch.nn.Parameter(TwoTensor(model.weight.detach(), model.weight.detach() * 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    loss = model(TwoTensor(torch.ones(4, 3), torch.zeros(4, 3))).square().sum()
    loss.backward()
    optimizer.step()
    print(loss)
print(model.weight.a, model.weight.b, model.weight.grad)
print(torch.compile(lambda x: x.sin() * 2, backend="aot_eager")(model.weight))
