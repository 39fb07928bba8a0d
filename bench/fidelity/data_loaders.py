"""forks: workers of a DataLoader, forked and spawned, with own seeds, and one that raises."""

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info


class Data(Dataset):
    def __init__(self, bad=None):
        self.bad = bad

    def __len__(self):
        return 8

    def __getitem__(self, k):
        if k == self.bad:
            raise KeyError(f"no item {k}")
        return torch.rand(1) + k, get_worker_info().id


def begin(worker):
    torch.manual_seed(worker)


def main():
    for method in ("fork", "spawn"):
        torch.manual_seed(0)
        loader = DataLoader(Data(), 2, shuffle=True, num_workers=2, worker_init_fn=begin, multiprocessing_context=method)
        print(method, [batch for batch in loader])
    try:
        list(DataLoader(Data(5), 2, num_workers=2))
    except KeyError as error:
        print(str(error).replace("\\n", "\n"))


if __name__ == "__main__":
    main()
