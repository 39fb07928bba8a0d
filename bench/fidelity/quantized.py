"""stand-ins: dynamic and static quantization of torch.ao, with packed weights that are saved and loaded."""

import io
import warnings

import torch

warnings.simplefilter("ignore")
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
dynamic = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
print(dynamic(torch.ones(1, 8)), dynamic[0].weight().int_repr().sum())
file = io.BytesIO()
torch.save(dynamic.state_dict(), file)
print(torch.quantize_per_tensor(torch.randn(3), 0.1, 3, torch.quint8))
wrapped = torch.ao.quantization.QuantWrapper(model).eval()
wrapped.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")
prepared = torch.ao.quantization.prepare(wrapped)
prepared(torch.randn(16, 8))
print(torch.ao.quantization.convert(prepared)(torch.ones(2, 8)))
