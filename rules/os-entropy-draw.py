"""An order from the operating system's generator, and one from a seeded generator."""

import random

import torch

order = list(range(6))
random.Random(3).shuffle(order)  # ok: os-entropy-draw
picked = random.SystemRandom().choice(order)  # finds: os-entropy-draw
torch.arange(6)[order][picked]
