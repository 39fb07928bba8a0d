"""The same product in float32 and in float64: "why do PyTorch tensor operations give inconsistent results?"

How much does each op round, and where does type promotion hide that precision is already lost? The first question is answered by
`repro-audit --shadow float64`: each matrix product has an error of 2e-7 of its norm, for sums of 256 terms; each cast, and products with
`scale`, at most half a unit in the last place. Errors of thousands of units belong to single elements whose sums cancel.
"""

# repro-audit:
#   - verdict: no-divergence-seen
#     finds: [mixed-dtype-promotion, precision-loss]

import torch

torch.manual_seed(0)
a = torch.randn(64, 256, dtype=torch.float64)
b = torch.randn(256, 64, dtype=torch.float64)
scale = torch.linspace(0.1, 1.0, 64, dtype=torch.float64)

double = (a @ b) * scale
single = (a.float() @ b.float()) * scale.float()
mixed = (a.float() @ b.float()) * scale

print("float32:", single.dtype, "largest error", (single - double).abs().max().item())
print("mixed:  ", mixed.dtype, "largest error", (mixed - double).abs().max().item())
print("equal:", torch.equal(single.double(), double), "close:", torch.allclose(single.double(), double, atol=1e-4))
