"""What vae_by_hand.py does, with a module and autograd of torch."""

import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float32)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(8, 10, bias=False)
        self.mu, self.var = nn.Linear(10, 2, bias=False), nn.Linear(10, 2, bias=False)
        self.dec = nn.Linear(2, 8, bias=False)

    def forward(self, x, noise):
        hidden = torch.tanh(self.enc(x))
        mean, log_var = self.mu(hidden), self.var(hidden)
        std = torch.exp(0.5 * log_var)
        latent = mean + std * noise
        return self.dec(latent), mean, log_var


rng = np.random.default_rng(0)
points = torch.tensor(rng.standard_normal((64, 3)) @ rng.standard_normal((3, 8)) / 2, dtype=torch.get_default_dtype())
model = VAE()
with torch.no_grad():
    for layer, scale in ((model.enc, 3), (model.mu, 3), (model.var, 3), (model.dec, 2)):
        layer.weight.copy_(torch.from_numpy(rng.standard_normal((layer.in_features, layer.out_features)) / scale).T)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
for _epoch in range(3):
    for start in range(0, 64, 16):
        batch = points[start : start + 16]
        noise = torch.tensor(rng.standard_normal((16, 2)), dtype=torch.get_default_dtype())
        recon, mean, log_var = model(batch, noise)
        reconstruction = nn.functional.mse_loss(recon, batch, reduction="sum") / len(batch)
        kl = -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp()) / len(batch)
        loss = reconstruction + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
