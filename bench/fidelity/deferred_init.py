"""modes: a model made on the meta device, filled by hand, and a default device."""

import torch

torch.manual_seed(0)
with torch.device("meta"):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1))
    print(torch.nn.init.normal_(torch.empty(3)).shape, torch.rand(2).device, torch.randperm(4).device)
print({name: str(p.device) for name, p in model.named_parameters()}, model(torch.ones(2, 3, device="meta")).shape)
model.to_empty(device="cpu")
for module in model:
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
print(torch.cat([p.detach().flatten() for p in model.parameters()]))
torch.set_default_device("meta")
print(torch.zeros(2).device)
torch.set_default_device(None)
