"""A variational autoencoder with its gradients written out in NumPy; vae_library.py is the same in torch."""

import numpy as np

DTYPE = np.float64
rng = np.random.default_rng(0)
points = (rng.standard_normal((64, 3)) @ rng.standard_normal((3, 8)) / 2).astype(DTYPE)
w_enc = (rng.standard_normal((8, 10)) / 3).astype(DTYPE)
w_mu, w_var = ((rng.standard_normal((10, 2)) / 3).astype(DTYPE) for _ in range(2))
w_dec = (rng.standard_normal((2, 8)) / 2).astype(DTYPE)
rate = 0.02
for epoch in range(3):
    for start in range(0, 64, 16):
        x = points[start : start + 16]
        eps = rng.standard_normal((16, 2)).astype(DTYPE)
        h = np.tanh(x @ w_enc)
        mu, logvar = h @ w_mu, h @ w_var
        std = np.exp(logvar / 2)
        z = mu + std * eps
        recon = z @ w_dec
        mse = ((recon - x) ** 2).sum() / len(x)
        kl = -0.5 * (1 + logvar - mu**2 - np.exp(logvar)).sum() / len(x)
        loss = mse + kl
        d_recon = 2 * (recon - x) / len(x)
        d_z = d_recon @ w_dec.T
        d_mu = d_z + mu / len(x)
        d_logvar = d_z * eps * std / 2 + 0.5 * (np.exp(logvar) - 1) / len(x)
        d_h = (d_mu @ w_mu.T + d_logvar @ w_var.T) * (1 - h**2)
        w_dec = w_dec - DTYPE(rate) * z.T @ d_recon
        w_mu = w_mu - DTYPE(rate) * h.T @ d_mu
        w_var = w_var - DTYPE(rate) * h.T @ d_logvar
        w_enc = w_enc - DTYPE(rate) * x.T @ d_h
