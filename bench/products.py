#!/usr/bin/env python3
"""GFLOP/s of PyTorch's products: of each m × k × n, y = x·wᵀ, the gradient of x = g·w, and the gradient of w = gᵀ·x.

    bench/products.py THREADS m,k,n...    a line of three figures each
"""
import statistics, sys, time

import torch

SECONDS = 0.25


def rate(a, b):
    out = torch.empty(a.shape[0], b.shape[1])
    torch.mm(a, b, out=out)
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < SECONDS or len(times) < 5:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - start)
    return 2e-9 * a.numel() * b.shape[1] / statistics.median(times)


torch.set_num_threads(int(sys.argv[1]))
for sizes in sys.argv[2:]:
    m, k, n = map(int, sizes.split(","))
    x, w, g = torch.randn(m, k), torch.randn(n, k), torch.randn(m, n)
    print(rate(x, w.t()), rate(g, w), rate(g.t(), x), flush=True)
