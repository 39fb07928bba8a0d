"""modes: tensors of FakeTensorMode, made within it and used outside of it, with real and symbolic sizes."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

torch.manual_seed(0)
real = torch.randn(3)
with FakeTensorMode(allow_non_fake_inputs=True) as mode:
    made = torch.empty(3)
    drawn = torch.randn(4, 3, device="cuda")
    print(made.detach(), drawn.device, (made + real).shape, torch.nn.Linear(3, 2)(made).shape)
print(made + 1, mode.from_tensor(real).sum())
shapes = ShapeEnv()
with FakeTensorMode(shape_env=shapes) as mode:
    size = mode.from_tensor(torch.ones(5, 3), static_shapes=False)
    print(torch.cat([size, size]).shape, torch.zeros([size.shape[0], 2]).shape, size.nonzero().shape, size.sum().item())
print(len(shapes.guards), torch.randn(2))
