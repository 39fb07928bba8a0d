"""threads: asyncio with executors, signal handlers, cancelled tasks and context variables, around ops."""

import asyncio
import concurrent.futures
import contextvars
import os
import signal

import torch

name = contextvars.ContextVar("name", default="none")


def work(k):
    torch.manual_seed(k)
    return torch.ones(2).mul(k).sum().item(), name.get()


async def main():
    loop = asyncio.get_running_loop()
    rung = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, rung.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(rung.wait(), 5)
    name.set("main")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        print(await asyncio.gather(*(loop.run_in_executor(pool, work, k) for k in range(6))))
    print(await asyncio.gather(*(asyncio.to_thread(work, k) for k in range(3))))
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    print(await asyncio.gather(task, asyncio.sleep(0, torch.ones(1) + 1), return_exceptions=True))
    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.01)
    except asyncio.TimeoutError:
        print("timed out")


asyncio.run(main())
