"""usage: torch_train.py NET THREADS SECONDS; after `. peer_env.sh`.
Prints "median p10 p90 rate mode" of training steps: ms, ms, ms, samples/s. Images are tried both as
plain tensors and channels_last; the quicker one is measured."""
import os
import sys

name, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
# Debian's PyTorch calls libblas, which torch.set_num_threads does not reach.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)

import time
import torch
import torch_nets

torch.set_num_threads(threads)
torch.set_flush_denormal(True)


def prepare(mode):
    model = torch_nets.make(name)
    x, y = torch_nets.data(name, torch_nets.batch_of(name))
    if mode == "channels_last":
        model, x = (v.to(memory_format=torch.channels_last) for v in (model, x))
    return torch_nets.stepper(name, model, x, y)


def measure(step, seconds, least):
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sorted(times)


steps = {mode: prepare(mode) for mode in (["plain"] if name in ("mlp", "gpt") else ["plain", "channels_last"])}
for step in steps.values():
    measure(step, 0, 5)
mode = list(steps)[0]
if len(steps) > 1:
    trial = {m: measure(s, seconds / 4, 5) for m, s in steps.items()}
    mode = min(trial, key=lambda m: trial[m][len(trial[m]) // 2])
t = measure(steps[mode], seconds, 10)
ms = [1e3 * t[i] for i in (len(t) // 2, len(t) // 10, len(t) * 9 // 10)]
print("%.6f %.6f %.6f %.1f %s" % (*ms, torch_nets.batch_of(name) * 1e3 / ms[0], mode))
