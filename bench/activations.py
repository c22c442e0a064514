#!/usr/bin/env python3
"""What eager PyTorch allocates at once in a training step, beside parameters, optimiser state and data.

    python bench/activations.py --peers FOLDER [workload ...]

FOLDER holds train_step_torch.py. The third step runs under PyTorch's own memory profiler; its allocations and releases are
added up in order. Prints one JSON line a workload: {"workload", "peak_mb"}.
"""
import argparse, json, sys

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--peers", required=True)
    p.add_argument("workloads", nargs="*")
    a = p.parse_args()
    sys.path.insert(0, a.peers)
    import train_step_torch as peer

    for name in a.workloads or peer.WORKLOADS:
        torch.manual_seed(0)
        net, x, y = peer.WORKLOADS[name]()
        loss_of, opt = peer.LOSSES.get(name, F.cross_entropy), torch.optim.Adam(net.parameters(), 1e-3)

        def step():
            opt.zero_grad()
            loss = loss_of(net(*x), y)
            loss.backward()
            opt.step()
            loss.item()

        step()
        step()
        opt.zero_grad()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            step()
        events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
        alive = peak = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            alive += event.nbytes()
            peak = max(peak, alive)
        print(json.dumps({"workload": name, "peak_mb": round(peak / 2**20, 1)}), flush=True)


if __name__ == "__main__":
    main()
