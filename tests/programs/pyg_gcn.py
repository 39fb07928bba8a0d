"""Trains a two-layer GCN of torch_geometric on a synthetic graph of four communities."""

import argparse

import torch
import torch.nn.functional as F
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv


class GCN(torch.nn.Module):
    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.conv1 = GCNConv(features, hidden)
        self.conv2 = GCNConv(hidden, classes)

    def forward(self, data: Data) -> torch.Tensor:
        x = F.relu(self.conv1(data.x, data.edge_index))
        x = F.dropout(x, p=0.5, training=self.training)
        return self.conv2(x, data.edge_index)


def communities(nodes: int, classes: int, features: int) -> Data:
    labels = torch.arange(nodes) % classes
    same = labels[:, None] == labels[None, :]
    linked = torch.rand(nodes, nodes) < torch.where(same, 0.15, 0.01)
    linked = (linked | linked.T).fill_diagonal_(False)
    x = torch.randn(nodes, features) + F.one_hot(labels, features)
    return Data(x=x, edge_index=linked.nonzero().T.contiguous(), y=labels, train_mask=torch.rand(nodes) < 0.3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save")
    args = parser.parse_args()

    torch.manual_seed(0)
    data = communities(nodes=120, classes=4, features=8)
    model = GCN(8, 16, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    for epoch in range(20):
        optimizer.zero_grad()
        output = model(data)
        loss = F.cross_entropy(output[data.train_mask], data.y[data.train_mask])
        loss.backward()
        optimizer.step()
        print(epoch, repr(loss.item()))

    model.eval()
    with torch.no_grad():
        correct = model(data).argmax(dim=1) == data.y
    print("accuracy", repr(correct[~data.train_mask].float().mean().item()))
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
