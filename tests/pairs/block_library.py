"""A transformer block from torch, trained with AdamW; block_by_hand.py is the same by hand."""

import torch
from torch import nn

torch.manual_seed(1)
layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=32, dropout=0.0, batch_first=True)
classifier = nn.Linear(16, 3)
x = torch.randn(8, 5, 16)
y = torch.randint(0, 3, (8,))
optimizer = torch.optim.AdamW([*layer.parameters(), *classifier.parameters()], lr=1e-3)
for _step in range(3):
    encoded = layer(x)
    logits = classifier(encoded.mean(1))
    loss = nn.functional.cross_entropy(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
