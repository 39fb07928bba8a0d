"""k-means by loops over lists of Python; kmeans_library.py is the same in NumPy."""

import random

random.seed(5)
points = [[random.gauss(4 * (n % 3), 1.5), random.gauss(3 * (n % 2), 1.5)] for n in range(60)]
centers = [list(points[n]) for n in (0, 1, 2)]
for _round in range(8):
    nearest = []
    inertia = 0.0
    for point in points:
        distances = [sum((u - v) ** 2 for u, v in zip(point, center, strict=True)) for center in centers]
        best = distances.index(min(distances))
        nearest.append(best)
        inertia += distances[best]
    for k in range(3):
        members = [point for point, own in zip(points, nearest, strict=True) if own == k]
        for axis in range(2):
            centers[k][axis] = sum(point[axis] for point in members) / len(members)
