"""exports: torch.export, strict and not, with dynamic shapes, saved and loaded; run_decompositions."""

import io

import torch

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Linear(4, 16), torch.nn.BatchNorm1d(16), torch.nn.GELU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 2)
)
x = torch.randn(8, 4)
batch = torch.export.Dim("batch", min=2)
for strict in (False, True):
    program = torch.export.export(model, (x,), strict=strict, dynamic_shapes=({0: batch},))
    print([node.name for node in program.graph.nodes], program.range_constraints)
    print(program.module()(torch.randn(3, 4)))
print([str(node.target) for node in program.run_decompositions().graph.nodes])
kept = io.BytesIO()
torch.export.save(program, kept)
kept.seek(0)
print(torch.export.load(kept).module()(x).sum(), torch.randn(1))
