"""Ops that PyTorch lists, forward and backward, and similar ops that it does not list."""

import torch
from torch import nn

torch.manual_seed(0)
images = torch.randn(2, 3, 8, 8)
kernel = torch.randn(4, 3, 3, 3, requires_grad=True)
filtered = nn.functional.conv2d(images, kernel)  # finds: nondeterministic-on-cuda
small = nn.functional.max_pool2d(filtered, 2)  # ok: nondeterministic-on-cuda
large = nn.functional.interpolate(small, scale_factor=2, mode="bilinear")  # finds: nondeterministic-on-cuda
nearest = nn.functional.interpolate(large, scale_factor=2)  # ok: nondeterministic-on-cuda
loss = nn.functional.cross_entropy(nearest, torch.zeros(2, 12, 12, dtype=torch.long))  # finds: nondeterministic-on-cuda
loss.backward()  # ok: nondeterministic-on-cuda

index = torch.tensor([0, 0, 1])
whole = torch.cumsum(index, 0)  # ok: nondeterministic-on-cuda
running = torch.cumsum(torch.rand(3), 0)  # finds: nondeterministic-on-cuda
counts = torch.bincount(index)  # ok: nondeterministic-on-cuda
weighted = torch.bincount(index, torch.rand(3))  # finds: nondeterministic-on-cuda
largest = torch.zeros(2).scatter_reduce(0, index, torch.rand(3), "amax")  # ok: nondeterministic-on-cuda
for _ in range(3):
    added = torch.zeros(2).index_add(0, index, torch.rand(3))  # finds: nondeterministic-on-cuda
with torch.no_grad():
    again = nn.functional.conv2d(images, kernel)  # ok: nondeterministic-on-cuda

# one line of each kind that the documentation of torch.use_deterministic_algorithms names: with a deterministic form
row, plane, cube = (torch.randn(1, 2, *[4] * n, requires_grad=True) for n in (1, 2, 3))
parts = [
    nn.Conv1d(2, 2, 3)(row),  # finds: nondeterministic-on-cuda
    nn.Conv3d(2, 2, 3)(cube),  # finds: nondeterministic-on-cuda
    nn.ConvTranspose1d(2, 2, 3)(row),  # finds: nondeterministic-on-cuda
    nn.ConvTranspose2d(2, 2, 3)(plane),  # finds: nondeterministic-on-cuda
    nn.ConvTranspose3d(2, 2, 3)(cube),  # finds: nondeterministic-on-cuda
    nn.ReplicationPad1d(1)(row),  # finds: nondeterministic-on-cuda
    nn.ReplicationPad2d(1)(plane),  # finds: nondeterministic-on-cuda
    nn.ReplicationPad3d(1)(cube),  # finds: nondeterministic-on-cuda
    nn.ConstantPad2d(1, 0.0)(plane),  # ok: nondeterministic-on-cuda
    torch.zeros(2).scatter_add_(0, index, torch.rand(3)),  # finds: nondeterministic-on-cuda
    torch.gather(row, 2, torch.zeros(1, 2, 3, dtype=torch.long)),  # finds: nondeterministic-on-cuda
    torch.index_select(row, 2, index),  # finds: nondeterministic-on-cuda
    torch.repeat_interleave(row, torch.tensor([1, 2]), dim=1),  # finds: nondeterministic-on-cuda
    torch.zeros(2).scatter_reduce(0, index, torch.rand(3), "mean"),  # finds: nondeterministic-on-cuda
    nn.MaxPool3d(2)(cube),  # finds: nondeterministic-on-cuda
    nn.functional.interpolate(cube, scale_factor=2, mode="trilinear"),  # finds: nondeterministic-on-cuda
    nn.functional.scaled_dot_product_attention(plane, plane, plane),  # finds: nondeterministic-on-cuda
    # and without one
    nn.AvgPool3d(2)(cube),  # finds: nondeterministic-on-cuda
    nn.AvgPool2d(2)(plane),  # ok: nondeterministic-on-cuda
    nn.AdaptiveAvgPool2d(2)(plane),  # finds: nondeterministic-on-cuda
    nn.AdaptiveAvgPool2d(1)(plane),  # ok: nondeterministic-on-cuda
    nn.AdaptiveAvgPool3d(2)(cube),  # finds: nondeterministic-on-cuda
    nn.AdaptiveMaxPool2d(2)(plane),  # finds: nondeterministic-on-cuda
    nn.FractionalMaxPool2d(2, output_size=2)(plane),  # finds: nondeterministic-on-cuda
    nn.FractionalMaxPool3d(2, output_size=2)(cube),  # finds: nondeterministic-on-cuda
    nn.MaxUnpool1d(2)(torch.rand(1, 2, 2), torch.tensor([[[0, 2], [0, 2]]])),  # finds: nondeterministic-on-cuda
    nn.MaxUnpool2d(2)(torch.rand(1, 1, 1, 2), torch.tensor([[[[0, 2]]]])),  # finds: nondeterministic-on-cuda
    nn.MaxUnpool3d(2)(torch.rand(1, 1, 1, 1, 2), torch.tensor([[[[[0, 2]]]]])),  # finds: nondeterministic-on-cuda
    nn.functional.interpolate(row, scale_factor=2, mode="linear"),  # finds: nondeterministic-on-cuda
    nn.functional.interpolate(plane, scale_factor=2, mode="bicubic"),  # finds: nondeterministic-on-cuda
    nn.functional.interpolate(plane, size=2, mode="bilinear", antialias=True),  # finds: nondeterministic-on-cuda
    nn.ReflectionPad1d(1)(row),  # finds: nondeterministic-on-cuda
    nn.ReflectionPad2d(1)(plane),  # finds: nondeterministic-on-cuda
    nn.ReflectionPad3d(1)(cube),  # finds: nondeterministic-on-cuda
    nn.CTCLoss()(torch.randn(6, 1, 3, requires_grad=True).log_softmax(2), index[None, 2:], (6,), (1,)),  # finds: nondeterministic-on-cuda
    nn.NLLLoss()(torch.randn(3, 2), index),  # ok: nondeterministic-on-cuda
    nn.EmbeddingBag(4, 2, mode="max")(index[None]),  # finds: nondeterministic-on-cuda
    nn.EmbeddingBag(4, 2, mode="sum")(index[None]),  # ok: nondeterministic-on-cuda
    torch.zeros(2).put_(index, torch.rand(3)),  # finds: nondeterministic-on-cuda
    torch.histc(torch.rand(4)),  # finds: nondeterministic-on-cuda
    torch.median(torch.rand(2, 3), dim=1).values,  # finds: nondeterministic-on-cuda
    torch.median(torch.rand(2, 3)),  # ok: nondeterministic-on-cuda
    torch.kthvalue(torch.rand(3), 2).values,  # finds: nondeterministic-on-cuda
    nn.functional.grid_sample(plane, torch.rand(1, 2, 2, 2), align_corners=False),  # finds: nondeterministic-on-cuda
    nn.functional.grid_sample(cube, torch.rand(1, 2, 2, 2, 3), align_corners=False),  # finds: nondeterministic-on-cuda
    torch.zeros(2).scatter_reduce(0, index, torch.rand(3), "prod"),  # finds: nondeterministic-on-cuda
]
sum(part.sum() for part in parts).backward()  # ok: nondeterministic-on-cuda
