"""A classifier that ends in a softmax, trained with cross_entropy; and one that returns logits, after attention."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x, y = torch.randn(8, 4), torch.randint(3, (8,))
doubled = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
plain = nn.Linear(4, 3)
for _ in range(2):
    loss = F.cross_entropy(doubled(x).view(-1, 3), y)  # finds: softmax-before-cross-entropy
    loss.backward()
F.cross_entropy(plain(x), y)  # ok: softmax-before-cross-entropy
F.nll_loss(doubled(x).log(), y)  # ok: softmax-before-cross-entropy
attention = (x @ x.t()).softmax(dim=1)
F.cross_entropy(plain(attention @ x), y)  # ok: softmax-before-cross-entropy
