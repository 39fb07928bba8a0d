"""subclasses: weights of eight bits with a scale, a wrapper that answers for linear layers alone, as quantization libraries have."""

import torch
from torch.utils._python_dispatch import return_and_correct_aliasing

aten = torch.ops.aten


class Int8(torch.Tensor):
    @staticmethod
    def __new__(cls, data, scale):
        return torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=scale.dtype, device=data.device)

    def __init__(self, data, scale):
        self.data_of_ints, self.scale = data, scale

    @classmethod
    def of(cls, weight):
        scale = weight.abs().amax(1, keepdim=True) / 127
        return cls((weight / scale).round().to(torch.int8), scale)

    def dequantize(self):
        return self.data_of_ints.to(self.scale.dtype) * self.scale

    def __tensor_flatten__(self):
        return ["data_of_ints", "scale"], None

    @classmethod
    def __tensor_unflatten__(cls, inner, _meta, _size, _stride):
        return cls(inner["data_of_ints"], inner["scale"])

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.linear:
            return torch.nn.functional.linear(args[0], args[1].dequantize(), *args[2:], **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func in (aten.detach.default, aten.clone.default):
            return return_and_correct_aliasing(func, args, kwargs or {}, cls(func(args[0].data_of_ints), func(args[0].scale)))
        if func is aten._to_copy.default:
            return args[0].dequantize().to(**(kwargs or {}))
        raise NotImplementedError(f"{func} of eight bits")


torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
for layer in (model[0], model[2]):
    layer.weight = torch.nn.Parameter(Int8.of(layer.weight.detach()), requires_grad=False)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
for _ in range(2):
    model(torch.randn(5, 8)).sum().backward()
    optimizer.step()
print([layer.bias for layer in model if hasattr(layer, "bias")], model.state_dict()["0.weight"].data_of_ints)
try:
    model[0].weight + 1
except NotImplementedError as error:
    print(error)
