"""A model that ends in a sigmoid, with a loss that expects logits; and with the loss that expects probabilities."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x, y = torch.randn(8, 4), torch.randint(2, (8, 1)).float()
model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
F.binary_cross_entropy_with_logits(model(x), y)  # finds: sigmoid-before-logits-loss
F.binary_cross_entropy(model(x), y)  # ok: sigmoid-before-logits-loss
F.binary_cross_entropy_with_logits(model[0](x), y)  # ok: sigmoid-before-logits-loss
