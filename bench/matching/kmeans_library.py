"""What kmeans_by_hand.py does, with arrays."""

import random

import numpy as np

DTYPE = np.float32
random.seed(5)
points = np.array([[random.gauss(4 * (n % 3), 1.5), random.gauss(3 * (n % 2), 1.5)] for n in range(60)], DTYPE)
centers = points[[0, 1, 2]]
for _round in range(8):
    distances = ((points[:, None] - centers) ** 2).sum(2)
    labels = distances.argmin(1)
    inertia = distances.min(1).sum()
    centers = np.stack([points[labels == k].mean(0) for k in range(3)])
