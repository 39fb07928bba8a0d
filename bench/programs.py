"""Five training programs, written as a user would write them: what the benchmark runs, bare and recorded.

Each function builds its model and data and returns one training step as a function without arguments. A batch reaches the step
from NumPy, as it does from most loaders: its tensors are new at every step and no recorded op made them, so the recorder must
digest them as external inputs. The learning rates are tiny, so that the numbers are of one size from the first step to the
last: a model that had learnt its few batches by heart would compute with denormals, which is slower for bare and recorded alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # what everybody calls it

Step = Callable[[], None]
Program = Callable[[], tuple[Step, str]]

RATE = 1e-5
BATCHES = 8


def mlp() -> tuple[Step, str]:
    """About 110 small ops a step and half a millisecond: the worst case for a recorder."""
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    batches = _labelled(64, 32)

    def step() -> None:
        x, y = next(batches)
        loss = F.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, "MLP 32-64-64-10, batch 64, Adam"


class ConvNet(nn.Module):
    """Two convolutions with batch norm and one linear layer."""

    def __init__(self) -> None:
        """Take 32 by 32 pixels of three colours, give ten classes."""
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.head = nn.Linear(64 * 8 * 8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to logits."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        logits: torch.Tensor = self.head(x.flatten(1))
        return logits


def conv() -> tuple[Step, str]:
    """Few ops with much arithmetic and large outputs to digest."""
    model = ConvNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    batches = _labelled(64, 3, 32, 32)

    def step() -> None:
        x, y = next(batches)
        loss = F.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, "conv-bn-relu x2 + linear, 64x3x32x32, Adam"


class Block(nn.Module):
    """One pre-norm transformer layer with causal attention."""

    def __init__(self, width: int, heads: int) -> None:
        """Make a layer of this width."""
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Batch x time x width to the same."""
        b, t, c = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class LanguageModel(nn.Module):
    """Embeddings, blocks, a head."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, time: int) -> None:
        """Make a model for sequences of at most `time` tokens."""
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(time, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens to logits."""
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


def transformer() -> tuple[Step, str]:
    """A thousand ops a step, most of them large."""
    vocabulary, time = 1000, 128
    model = LanguageModel(vocabulary, 256, layers=4, heads=4, time=time)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    rng = np.random.default_rng(0)
    batches = cycle([rng.integers(0, vocabulary, (8, time + 1)) for _ in range(BATCHES)])

    def step() -> None:
        tokens = torch.from_numpy(next(batches))
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, "transformer LM, 4 layers of width 256, 8 x 128 tokens, AdamW"


def lstm() -> tuple[Step, str]:
    """The fused LSTM: few ops, each a whole sequence."""
    model, head = nn.LSTM(64, 128, batch_first=True), nn.Linear(128, 10)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=RATE)
    batches = _labelled(32, 64, 64)

    def step() -> None:
        x, y = next(batches)
        out, _ = model(torch.from_numpy(x))
        loss = F.cross_entropy(head(out[:, -1]), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, "nn.LSTM 64-128, batch 32, 64 steps of time, Adam"


def cells() -> tuple[Step, str]:
    """An LSTM made of cells: thousands of small ops from one line of a loop."""
    time = 71
    cell, head = nn.LSTMCell(64, 128), nn.Linear(128, 10)
    optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=RATE)
    batches = _labelled(32, time, 64)

    def step() -> None:
        x, y = next(batches)
        sequence = torch.from_numpy(x)
        h = c = torch.zeros(len(x), 128)
        for t in range(time):
            h, c = cell(sequence[:, t], (h, c))
        loss = F.cross_entropy(head(h), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, "LSTM of nn.LSTMCell 64-128, batch 32, 71 steps of time, Adam"


def _labelled(*shape: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of random inputs of this shape with one of ten labels each, the same few for ever."""
    rng = np.random.default_rng(0)
    return cycle([(rng.standard_normal(shape, dtype=np.float32), rng.integers(0, 10, shape[0])) for _ in range(BATCHES)])


PROGRAMS: dict[str, Program] = {f.__name__: f for f in (mlp, cells, lstm, conv, transformer)}
