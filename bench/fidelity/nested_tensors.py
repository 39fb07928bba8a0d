"""subclasses: nested tensors, jagged and strided, through a layer and back."""

import torch

torch.manual_seed(0)
parts = [torch.randn(n, 4) for n in (2, 3, 1)]
layer = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for layout in (torch.jagged, torch.strided):
    nested = torch.nested.nested_tensor(parts, layout=layout, requires_grad=True)
    out = layer(nested).relu()
    sum(part.sum() for part in out.unbind()).backward()
    optimizer.step()
    print([part.tolist() for part in out.unbind()], layer.weight.grad, torch.nested.to_padded_tensor(out, 0.0).shape)
values = torch.nested.nested_tensor_from_jagged(torch.randn(6, 4), torch.tensor([0, 2, 5, 6]))
print(torch.nn.functional.scaled_dot_product_attention(*[values.unflatten(-1, (2, 2)).transpose(1, 2)] * 3).values())
