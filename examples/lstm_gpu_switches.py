"""Is an LSTM regression model consistent? Seeded, but with settings that let a GPU choose its kernels.

On a CPU the runs agree. The report's CUDA forecast says what would differ on a GPU: TF32 for the LSTM and, with `allow_tf32`, for all
products; and some versions of cuDNN are nondeterministic for the LSTM. Benchmark mode is on, but affects convolutions only, and there
are none. cuDNN is not off, because the switch is called `enabled`.
"""

# repro-audit:
#   - verdict: no-divergence-seen
#     finds: [cudnn-benchmark, reduced-matmul-precision, unknown-switch, tf32-on-cuda, varying-rnn-on-cuda]

import torch
from torch import nn

torch.backends.cudnn.enable = False
torch.backends.cudnn.benchmark = True
torch.backends.cudnn.deterministic = False
torch.backends.cudnn.allow_tf32 = True
torch.backends.cuda.matmul.allow_tf32 = True

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(42)
x = torch.randn(10, 1, 5, device=device)
y = x.sum(dim=2)
lstm = nn.LSTM(5, 10).to(device)
head = nn.Linear(10, 1).to(device)
optimizer = torch.optim.SGD([*lstm.parameters(), *head.parameters()], lr=0.1)

for epoch in range(10):
    output, _ = lstm(x)
    loss = nn.functional.mse_loss(head(output).squeeze(2), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(epoch, loss.item())
