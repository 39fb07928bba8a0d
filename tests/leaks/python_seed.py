"""Draws from Python's global stream and from a generator of its own."""

import random

import torch

print(torch.tensor([random.random(), random.Random().random()]).sum())  # <- enters
