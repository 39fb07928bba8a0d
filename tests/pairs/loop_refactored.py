"""The same as loop.py in classes and functions, in place and in float32; with some more calls of the model in between."""

import numpy as np


class Momentum:
    def __init__(self, weights, rate=0.9):
        self.weights = weights
        self.velocity = np.zeros_like(weights)
        self.rate = rate

    def step(self, gradient, lr):
        self.velocity *= self.rate
        self.velocity += gradient
        self.weights -= lr * self.velocity


class Regression:
    def __init__(self, inputs, outputs):
        self.weights = np.zeros((inputs, outputs), np.float32)

    def forward(self, batch):
        return batch @ self.weights

    def gradient(self, batch, error):
        return 2 * np.einsum("ni,nj->ij", batch, error) / error.size


def schedule(epoch):
    return 0.05 * 0.5 ** (epoch // 2)


def load():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((60, 6))
    truth = rng.standard_normal((6, 6))
    outputs = inputs @ truth + 0.01 * rng.standard_normal((60, 6))
    return inputs.astype(np.float32), outputs.astype(np.float32)


def train(model, optimizer, data, target):
    for epoch in range(6):
        lr = schedule(epoch)
        for start in range(0, len(data), 12):
            batch = data[start : start + 12]
            wanted = target[start : start + 12]
            error = model.forward(batch) - wanted
            loss = np.square(error).mean()
            gradient = model.gradient(batch, error)
            optimizer.step(gradient, lr)
        sample = model.forward(data[:3])
    return loss, sample


data, target = load()
model = Regression(6, 6)
print(train(model, Momentum(model.weights), data, target)[0])
