"""FizzBuzz in NumPy: one half of "same logic in NumPy and PyTorch, but only NumPy converges".

Layers 10-100-4 with sigmoids, manual backpropagation, in float64. fizbuz_torch.py is the PyTorch version.
"""

# repro-audit:
#   - verdict: inconclusive        # there is no torch in it: nothing that could be recorded
#     reason: torch-never-imported

import argparse

import numpy as np


def encode(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bits = (numbers[:, None] >> np.arange(10)) & 1
    classes = (numbers % 3 == 0) + 2 * (numbers % 5 == 0)
    return bits.astype(np.float64), np.eye(4)[classes]


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


parser = argparse.ArgumentParser()
parser.add_argument("--unseeded", action="store_true")
parser.add_argument("--epochs", type=int, default=5)
args = parser.parse_args()
if not args.unseeded:
    np.random.seed(0)

w1 = np.random.randn(10, 100)
b1 = np.random.randn(1, 100)
w2 = np.random.randn(100, 4)
b2 = np.random.randn(1, 4)

order = np.random.permutation(1000)
x_train, y_train = encode(order[:900])
x_test, y_test = encode(order[900:])

lr = 0.01
batch_size = 64

for epoch in range(args.epochs):
    for start in range(0, len(x_train) - batch_size + 1, batch_size):
        x = x_train[start : start + batch_size]
        y = y_train[start : start + batch_size]

        h = sigmoid(x @ w1 + b1)
        output = sigmoid(h @ w2 + b2)
        error = output - y
        loss = (error**2).mean()

        delta2 = error * output * (1 - output)
        delta1 = (delta2 @ w2.T) * h * (1 - h)
        w2 -= lr * (h.T @ delta2)
        b2 -= lr * delta2.sum(axis=0, keepdims=True)
        w1 -= lr * (x.T @ delta1)
        b1 -= lr * delta1.sum(axis=0, keepdims=True)

    predicted = sigmoid(sigmoid(x_test @ w1 + b1) @ w2 + b2)
    accuracy = (predicted.argmax(axis=1) == y_test.argmax(axis=1)).mean()
    print(f"epoch {epoch}  loss {loss:.4f}  accuracy {accuracy:.2f}")
