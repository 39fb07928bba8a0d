"""launchers: torch.multiprocessing.spawn with two ranks of gloo, whose rank 1 fails at last."""

import sys
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def rank_main(rank, meeting, fails):
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    x = torch.full((3,), float(rank + 1))
    dist.all_reduce(x)
    gathered = [torch.zeros(3) for _ in range(2)]
    dist.all_gather(gathered, x * rank)
    with open(f"rank-{rank}.txt", "w") as file:
        print(x, gathered, sys.argv, __name__, file=file)
    dist.destroy_process_group()
    if fails and rank == 1:
        raise ValueError("rank 1 is unhappy")


if __name__ == "__main__":
    for fails in (False, True):
        try:
            with tempfile.TemporaryDirectory() as folder:
                mp.spawn(rank_main, (f"{folder}/meeting", fails), nprocs=2)
        except mp.ProcessRaisedException as error:
            print(error.error_index, str(error).strip().splitlines()[-1], "auditor" in str(error))
