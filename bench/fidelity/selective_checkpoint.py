"""modes: selective activation checkpointing, whose two modes keep some results and compute others again."""

import functools

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

torch.manual_seed(0)
counts = {}


def policy(context, op, *args, **kwargs):
    counts[str(op), context.is_recompute] = counts.get((str(op), context.is_recompute), 0) + 1
    return CheckpointPolicy.MUST_SAVE if op == torch.ops.aten.mm.default else CheckpointPolicy.PREFER_RECOMPUTE


model = torch.nn.Sequential(torch.nn.Linear(4, 8, bias=False), torch.nn.GELU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1, bias=False))
x = torch.randn(5, 4)
for _ in range(2):
    out = checkpoint(model, x, use_reentrant=False, context_fn=functools.partial(create_selective_checkpoint_contexts, policy))
    out.sum().backward()
print(sorted(counts.items()), [p.grad for p in model.parameters()])
