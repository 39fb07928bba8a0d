"""A GAN on points of a curve, with plain tensors and SGD; gan_library.py is the same with modules."""

import numpy as np
import torch

torch.set_default_dtype(torch.float32)
rng = np.random.default_rng(0)


def tensor(values, grad=False):
    return torch.tensor(values, dtype=torch.get_default_dtype(), requires_grad=grad)


g1, g2 = tensor(rng.standard_normal((4, 16)) / 2, True), tensor(rng.standard_normal((16, 2)) / 4, True)
d1, d2 = tensor(rng.standard_normal((2, 16)), True), tensor(rng.standard_normal((16, 1)) / 4, True)


def generate(z):
    return torch.tanh(z @ g1) @ g2


def discriminate(x):
    return torch.sigmoid(torch.nn.functional.leaky_relu(x @ d1, 0.2) @ d2)


def step(*weights):
    for w in weights:
        w.data -= 0.1 * w.grad


def zero(*weights):
    for w in weights:
        w.grad = None


for turn in range(24):
    angle = rng.uniform(0, 3, (16, 1))
    real = tensor(np.concatenate([np.cos(angle), np.sin(angle)], 1))
    z = tensor(rng.standard_normal((16, 4)))
    fake = generate(z)
    p_real, p_fake = discriminate(real), discriminate(fake.detach())
    loss_d = -(torch.log(p_real).mean() + torch.log(1 - p_fake).mean())
    zero(d1, d2)
    loss_d.backward()
    step(d1, d2)
    judged = discriminate(fake)
    loss_g = -torch.log(judged).mean()
    zero(g1, g2)
    loss_g.backward()
    step(g1, g2)
