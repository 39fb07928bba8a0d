"""forks: pools of processes, forked, spawned and from a server, that return tensors and raise."""

import concurrent.futures
import multiprocessing

import torch


def work(k):
    if k == 3:
        raise ValueError(f"no {k}")
    torch.manual_seed(k)
    return torch.rand(2) + k


def main():
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(method, pool.map(work, [0, 1, 2]), [pool.apply_async(work, (k,)).get().dtype for k in range(2)])
            try:
                pool.map(work, [3])
            except ValueError as error:
                print(error, "in work" in str(error.__cause__), "auditor" in str(error.__cause__))
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as executor:
        print(list(executor.map(work, range(3))))
    process = multiprocessing.get_context("spawn").Process(target=work, args=(3,))
    process.start()
    process.join()
    print(process.exitcode)


if __name__ == "__main__":
    main()
