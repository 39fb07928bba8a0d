"""Trains a character language model with nn.LSTM, truncated back-propagation and gradient clipping."""

import argparse

import torch
from torch import nn

TEXT = "the quick brown fox jumps over the lazy dog and the lazy dog sleeps on while the fox runs away. " * 8


class LanguageModel(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 16)
        self.lstm = nn.LSTM(16, 32, num_layers=2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(32, vocabulary)

    def forward(
        self, tokens: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        output, state = self.lstm(self.embedding(tokens), state)
        return self.head(output), state


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    alphabet = sorted(set(TEXT))
    stream = torch.tensor([alphabet.index(character) for character in TEXT])
    stream = stream[: len(stream) // 8 * 8].view(8, -1)
    model = LanguageModel(len(alphabet))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(3):
        state = None
        for start in range(0, stream.shape[1] - 1, 16):
            chunk = stream[:, start : start + 17]
            logits, state = model(chunk[:, :-1], state)
            state = tuple(part.detach() for part in state)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), chunk[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            print(epoch, start, repr(loss.item()), repr(norm.item()))

    model.eval()
    token, state, sample = stream[:1, :1], None, ""
    with torch.no_grad():
        for _ in range(32):
            logits, state = model(token, state)
            token = torch.multinomial(logits[:, -1].softmax(dim=1), 1)
            sample += alphabet[token.item()]
    print(repr(sample))
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
