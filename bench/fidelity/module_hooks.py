"""hooks: of modules, tensors, gradients, optimizers and state dicts, global and own, in the order in which they run."""

import torch

order = []
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh())
model.register_forward_pre_hook(lambda *_: order.append("pre"))
model.register_forward_hook(lambda m, a, o: order.append("post") or o * 2)
model.register_full_backward_hook(lambda *_: order.append("backward"))
model[0].weight.register_hook(lambda g: order.append("grad") or g * 0.5)
model[0].weight.register_post_accumulate_grad_hook(lambda p: order.append("accumulated"))
model.register_state_dict_pre_hook(lambda *_: order.append("state"))
handle = torch.nn.modules.module.register_module_forward_hook(lambda m, a, o: order.append(type(m).__name__))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
optimizer.register_step_pre_hook(lambda *_: order.append("before step"))
optimizer.register_step_post_hook(lambda *_: order.append("after step"))
for _ in range(2):
    optimizer.zero_grad()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
handle.remove()
model.state_dict()
print(
    order, model[0].weight, len(model._forward_hooks), len(optimizer._optimizer_step_post_hooks), len(optimizer._optimizer_step_pre_hooks)
)
with torch.autograd.graph.saved_tensors_hooks(lambda x: order.append("pack") or x, lambda x: order.append("unpack") or x):
    model(torch.ones(1, 2)).sum().backward()
print(order[-8:], torch.autograd.graph.get_gradient_edge(model(torch.ones(1, 2))).output_nr)
