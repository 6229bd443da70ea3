#!/usr/bin/python3
"""coll_gloo.py N BYTES...: torch.distributed's all-reduce over Gloo on loopback, as coll.c measures its own; run by coll.sh."""
import os
import resource
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def busy():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return (u.ru_utime + u.ru_stime) * 1e6


def member(rank, size, port, sizes):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    for bytes_ in sizes:
        x = torch.ones(bytes_ // 4)
        k = max(7, min(300, int(3e7 / (bytes_ // 4 + 3e4))))
        times, used = [], 0
        for i in range(-3, k):
            if i == 0:
                used = busy()
            if bytes_ > 4 << 20:
                dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(x)
            took = (time.perf_counter() - start) * 1e6
            if i >= 0:
                times.append(took)
            if i % 20 == 0:
                x.fill_(1)
        used = (busy() - used) / k
        times.sort()
        if rank == 0:
            print(f"{bytes_} {statistics.median(times):.1f} {times[k // 10]:.1f} {times[k * 9 // 10]:.1f} {used:.1f}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(member, (int(sys.argv[1]), 29500 + os.getpid() % 1000, [int(a) for a in sys.argv[2:]]), int(sys.argv[1]))
