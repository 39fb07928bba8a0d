"""Labels get their numbers from the order of a set of strings, which differs between processes."""

import torch
from torch import nn

SENTENCES = [
    ("the match ended in a draw", "sports"),
    ("shares fell after the report", "business"),
    ("the new phone has two screens", "technology"),
    ("parliament votes on the budget", "politics"),
    ("the band plays two more nights", "culture"),
    ("rain is expected in the north", "weather"),
    ("the striker scored in the first half", "sports"),
    ("the bank raised its forecast", "business"),
]


def vocabulary(texts: list[str]) -> dict[str, int]:
    words: dict[str, int] = {}
    for text in texts:
        for word in text.split():
            words.setdefault(word, len(words))
    return words


def encoded(text: str, words: dict[str, int]) -> torch.Tensor:
    counts = torch.zeros(len(words))
    for word in text.split():
        counts[words[word]] += 1
    return counts


torch.manual_seed(0)
texts = [text for text, _ in SENTENCES]
labels = [label for _, label in SENTENCES]
words = vocabulary(texts)
label2id = {label: index for index, label in enumerate(set(labels))}  # <- enters

x = torch.stack([encoded(text, words) for text in texts])
y = torch.tensor([label2id[label] for label in labels])

model = nn.Linear(len(words), len(label2id))
for epoch in range(5):
    loss = nn.functional.cross_entropy(model(x), y)
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.5 * parameter.grad
    print(f"epoch {epoch}  loss {loss.item():.8f}")
print("the first sentence is", label2id["sports"])
