"""Values that are written through an index which names an element twice, and writes that are defined."""

import torch

torch.manual_seed(0)
nodes = torch.tensor([0, 2, 2, 1])
messages = torch.randn(4, 3)
received = torch.zeros(3, 3)
received[nodes] = messages  # finds: order-dependent-write
last = torch.zeros(3).scatter_(0, nodes, messages[:, 0])  # finds: order-dependent-write
received[nodes] = 0.5  # ok: order-dependent-write
received[torch.tensor([2, 0, 1])] = messages[:3]  # ok: order-dependent-write
received[nodes] = torch.ones(4, 3)  # ok: order-dependent-write
received.index_put_((nodes,), messages, accumulate=True)  # ok: order-dependent-write
received.index_add_(0, nodes, messages)  # ok: order-dependent-write
received[received > 0] = 1.0  # ok: order-dependent-write
one_hot = torch.zeros(4, 3).scatter_(1, nodes.unsqueeze(1), 1.0)  # ok: order-dependent-write
