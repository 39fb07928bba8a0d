"""profilers: torch.profiler with stacks, shapes, memory, a schedule and a trace: ranges, names, shapes, the script's own frames."""

import json

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
ready = []


def keep(profiler):
    ready.append(profiler.step_num)
    profiler.export_chrome_trace("trace.json")


options = {"record_shapes": True, "with_stack": True, "profile_memory": True, "with_modules": True}
with profile(
    activities=[ProfilerActivity.CPU], schedule=schedule(wait=1, warmup=1, active=2, repeat=2), on_trace_ready=keep, **options
) as profiler:
    for _ in range(8):
        with record_function("my step"):
            optimizer.zero_grad()
            with record_function("my forward"):
                loss = model(torch.ones(2, 4)).sum()
            loss.backward()
            optimizer.step()
        profiler.step()
print(ready, sorted({event.key for event in profiler.key_averages() if event.key != "aten::detach"}))
print({event.key: event.count for event in profiler.key_averages() if event.key.startswith(("my", "Optimizer"))})
shapes = {(event.key, str(event.input_shapes)) for event in profiler.key_averages(group_by_input_shape=True) if event.key == "aten::addmm"}
print(sorted(shapes))
with open("trace.json") as file:
    events = json.load(file)["traceEvents"]
frames = {event["name"] for event in events if event.get("cat") == "python_function"}
print(sorted(name for name in frames if "torch_profiler.py" in name or "nn.Module" in name))
open("trace.json", "w").close()  # it holds times
