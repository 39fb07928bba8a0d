"""The same as regression_lists.py in NumPy."""

import random

import numpy as np

random.seed(11)
x = np.array([[random.gauss(0, 1) for _ in range(3)] for _ in range(40)], np.float32)
y = np.array([2 * a - b + 0.5 * c + random.gauss(0, 0.1) for a, b, c in x.tolist()], np.float32)
learning_rate, alpha = 0.05, 0.1
w = np.zeros(3, np.float32)
for _epoch in range(60):
    error = x @ w - y
    loss = np.mean(error**2) + alpha * np.sum(w**2)
    gradient = 2 * x.T @ error / len(x) + 2 * alpha * w
    w = w - np.float32(learning_rate) * gradient
print(w, loss)
