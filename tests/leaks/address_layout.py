"""Iterates over a set of plain objects, which are ordered by their addresses."""

import torch


class Node:
    def __init__(self, value):
        self.value = value


nodes = {Node(k) for k in range(30)}
print(torch.tensor([node.value for node in nodes])[:5].sum())  # <- enters
