"""Ridge regression without any library; regression_numpy.py is the same in NumPy."""

import random


def predicted(rows, theta):
    return [sum(t * v for t, v in zip(theta, row, strict=True)) for row in rows]


def fit(rows, wanted, rate, penalty, rounds):
    n = len(rows)
    theta = [0.0, 0.0, 0.0]
    history = []
    for _ in range(rounds):
        residuals = [one - y for one, y in zip(predicted(rows, theta), wanted, strict=True)]
        cost = sum(r * r for r in residuals) / n + penalty * sum(t * t for t in theta)
        for j in range(3):
            slope = 2 / n * sum(r * row[j] for r, row in zip(residuals, rows, strict=True)) + 2 * penalty * theta[j]
            theta[j] -= rate * slope
        history.append(cost)
    return theta, history


random.seed(11)
rows = [[random.gauss(0, 1) for _ in range(3)] for _ in range(40)]
wanted = [2 * row[0] - row[1] + 0.5 * row[2] + random.gauss(0, 0.1) for row in rows]
theta, history = fit(rows, wanted, 0.05, 0.1, 60)
print(theta, history[-1])
