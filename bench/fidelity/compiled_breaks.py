"""compilers: torch.compile with graph breaks, recompilations and an own backend: graphs, reasons, counters."""

import torch
import torch._dynamo as dynamo

graphs = []


def backend(graph, inputs):
    graphs.append([str(node.target) for node in graph.graph.nodes])
    return graph.forward


@torch.compile(backend=backend)
def f(x, flag):
    y = x.sin()
    if flag:
        print("break")
    dynamo.graph_break()
    return y.cos() if y.sum() > 0 else y.tan()


torch.manual_seed(0)
for x in (torch.ones(3), torch.ones(4), -torch.ones(3)):
    for flag in (True, False):
        print(f(x, flag))
print(graphs, dynamo.utils.counters["graph_break"], dict(dynamo.utils.counters["frames"]))


def plain(x):
    y = x + 1
    open(__file__).close()
    return y * torch.rand(3)


explained = dynamo.explain(plain)(torch.ones(3))
print(explained.graph_count, explained.graph_break_count, explained.op_count)
model = torch.compile(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU()), backend="aot_eager")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
print([parameter.sum() for parameter in model.parameters()])
