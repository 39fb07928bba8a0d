"""A checkpoint of a wrapped model, which matches no name; one without its prefix, one of a backbone, and an adapter."""

import torch

torch.manual_seed(0)


def network() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))


saved = {f"module.{name}": value for name, value in network().state_dict().items()}
network().load_state_dict(saved, strict=False)  # finds: checkpoint-not-loaded
fitting = {name: value for name, value in saved.items() if name in network().state_dict()}
network().load_state_dict(fitting, strict=False)  # finds: checkpoint-not-loaded
network().load_state_dict({name.removeprefix("module."): value for name, value in saved.items()}, strict=False)  # ok: checkpoint-not-loaded
backbone = {name.removeprefix("module."): value for name, value in saved.items() if not name.startswith("module.4.")}
network().load_state_dict(backbone, strict=False)  # ok: checkpoint-not-loaded
network().load_state_dict({"4.bias": torch.zeros(2)}, strict=False)  # ok: checkpoint-not-loaded
larger = {"weight": torch.zeros(8, 6), "bias": torch.zeros(8), **saved}
torch.nn.Linear(6, 8).load_state_dict(larger, strict=False)  # ok: checkpoint-not-loaded
