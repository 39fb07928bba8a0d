"""distributed: DTensor, tensor parallelism and fully_shard in a group of one."""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))
torch.manual_seed(0)
x = distribute_tensor(torch.randn(4, 4), mesh, [Shard(0)])
y = (x @ x.T).redistribute(placements=[Replicate()])
print(y, y.placements, y.to_local().sum())
model = parallelize_module(
    torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 1)), mesh, {"0": ColwiseParallel(), "1": RowwiseParallel()}
)
model(torch.ones(2, 4)).sum().backward()
print([(type(parameter).__name__, parameter.grad) for parameter in model.parameters()])
sharded = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
for layer in (sharded[0], sharded):
    fully_shard(layer, mesh=mesh, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
optimizer = torch.optim.AdamW(sharded.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    sharded(torch.ones(2, 4)).sum().backward()
    optimizer.step()
print([parameter.full_tensor() for parameter in sharded.parameters()])
dist.destroy_process_group()
