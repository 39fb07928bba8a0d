"""Uses sparse embedding gradients with SparseAdam, complex parameters, and a double backward."""

import argparse

import torch
from torch import nn


class SpectralScorer(nn.Module):
    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, sparse=True)
        self.filter = nn.Parameter(torch.randn(width // 2 + 1, dtype=torch.complex64))
        self.head = nn.Linear(width, 1)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedded = self.embedding(tokens).mean(dim=1)
        filtered = torch.fft.irfft(torch.fft.rfft(embedded) * self.filter, n=embedded.shape[1])
        return self.head(torch.tanh(filtered)), embedded


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    tokens = torch.randint(50, (32, 6))
    targets = (tokens.sum(dim=1, keepdim=True) % 2).float()
    model = SpectralScorer(50, 16)
    dense = torch.optim.Adam([model.filter, *model.head.parameters()], lr=0.01)
    sparse = torch.optim.SparseAdam(model.embedding.parameters(), lr=0.01)
    for step in range(10):
        batch = slice(step % 2 * 16, step % 2 * 16 + 16)
        scores, embedded = model(tokens[batch])
        (slope,) = torch.autograd.grad(scores.sum(), embedded, create_graph=True)
        loss = nn.functional.binary_cross_entropy_with_logits(scores, targets[batch])
        penalty = slope.square().sum(dim=1).mean()
        dense.zero_grad()
        sparse.zero_grad()
        (loss + 0.1 * penalty).backward()
        dense.step()
        sparse.step()
        print(step, repr(loss.item()), repr(penalty.item()), repr(model.filter[0].item()))
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
