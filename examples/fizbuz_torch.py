"""FizzBuzz in PyTorch: the other half of "same logic in NumPy and PyTorch, but only NumPy converges".

The same NumPy weights and split as fizbuz_numpy.py, in float32, with autograd and manual SGD.
One of the four gradients is never zeroed, and the loss is a sum where the NumPy version takes a mean.
"""

# repro-audit:
#   - verdict: no-divergence-seen
#     finds: [stale-gradient]
#   - verdict: diverged
#     kind: draw
#     cause: numpy-seed
#     finds: [stale-gradient, unseeded-numpy-draw]
#     args: [--unseeded]

import argparse

import numpy as np
import torch


def encode(numbers: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    bits = (numbers[:, None] >> np.arange(10)) & 1
    classes = (numbers % 3 == 0) + 2 * (numbers % 5 == 0)
    return torch.from_numpy(bits).float(), torch.from_numpy(np.eye(4)[classes]).float()


parser = argparse.ArgumentParser()
parser.add_argument("--unseeded", action="store_true")
parser.add_argument("--epochs", type=int, default=5)
args = parser.parse_args()
if not args.unseeded:
    np.random.seed(0)

w1 = torch.from_numpy(np.random.randn(10, 100)).float().requires_grad_()  # <- diverges (--unseeded)
b1 = torch.from_numpy(np.random.randn(1, 100)).float().requires_grad_()
w2 = torch.from_numpy(np.random.randn(100, 4)).float().requires_grad_()
b2 = torch.from_numpy(np.random.randn(1, 4)).float().requires_grad_()

order = np.random.permutation(1000)
x_train, y_train = encode(order[:900])
x_test, y_test = encode(order[900:])

lr = 0.01
batch_size = 64

for epoch in range(args.epochs):
    for start in range(0, len(x_train) - batch_size + 1, batch_size):
        x = x_train[start : start + batch_size]
        y = y_train[start : start + batch_size]

        h = torch.sigmoid(x @ w1 + b1)
        output = torch.sigmoid(h @ w2 + b2)
        error = output - y
        loss = error.pow(2).sum()
        loss.backward()

        w2.data -= lr * w2.grad.data
        b2.data -= lr * b2.grad.data
        w1.data -= lr * w1.grad.data
        b1.data -= lr * b1.grad.data
        w1.grad.data.zero_()
        w2.grad.data.zero_()
        b2.grad.data.zero_()

    predicted = torch.sigmoid(torch.sigmoid(x_test @ w1 + b1) @ w2 + b2)
    accuracy = (predicted.argmax(dim=1) == y_test.argmax(dim=1)).float().mean()
    print(f"epoch {epoch}  loss {loss.item():.4f}  accuracy {accuracy.item():.2f}")
