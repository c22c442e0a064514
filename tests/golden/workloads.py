"""What PyTorch's models of the racing workloads lose in their first steps, and what torchvision's and transformers' models give
in evaluation, for crates/etude-bench/tests to be held against.

    python workloads.py FOLDER    writes losses.txt and outputs.txt in ../../crates/etude-bench/tests; FOLDER holds train_step_torch.py

Weights and inputs are hashes that Étude computes too (pattern.py), so that the files hold nothing but results. Sizes are those of
`Setting::small`; nothing is dropped.
"""

import os
import pathlib
import sys

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from pattern import evaluated, example, fill, noise, whole

HERE = pathlib.Path(__file__).parent
# Étude's names for layers that PyTorch's Sequential numbers.
RENAMED = {
    "convnet": {"0": "conv1", "3": "conv2", "7": "fc1", "9": "fc2"},
    "dqn": {"0": "conv1", "2": "conv2", "4": "conv3", "7": "fc1", "9": "fc2"},
}

# Inputs and targets at the small sizes.
DATA = {
    "tiny": lambda: ((noise(32, 4),), whole((32,), 0, 2)),
    "mlp": lambda: ((noise(16, 784),), whole((16,), 0, 10)),
    "convnet": lambda: ((noise(4, 1, 28, 28),), whole((4,), 0, 10)),
    "resnet18": lambda: ((noise(4, 3, 16, 16),), whole((4,), 0, 10)),
    "vit": lambda: ((noise(2, 3, 32, 32),), whole((2,), 0, 10)),
    "lstm": lambda: ((whole((2, 10), 0, 83),), whole((20,), 0, 83)),
    "gpt": lambda: ((whole((2, 16), 0, 96),), whole((32,), 0, 96)),
    "bert": lambda: ((whole((2, 16), 0, 2000),), whole((32,), 0, 2000)),
    "textcnn": lambda: ((whole((4, 20), 0, 10000),), whole((4,), 0, 2)),
    "dqn": lambda: ((noise(2, 4, 80, 80),), whole((2,), 0, 2)),
    "ddpm": lambda: ((noise(2, 3, 16, 16), whole((2,), 0, 1000)), noise(2, 3, 16, 16) * 0.5),
    "vae": lambda: ((noise(4, 1, 28, 28) * 0.5 + 0.5,), noise(4, 1, 28, 28) * 0.5 + 0.5),
    "crnn": lambda: ((noise(2, 1, 32, 80),), whole((2, 6), 1, 37)),
}


def outputs():
    """The first and the last eight numbers the evaluated models give."""
    lines = []
    for name in ("resnet50", "minilm"):
        with torch.inference_mode():
            y = evaluated(name)[0](example(name, 2, small=True)).flatten().tolist()
        lines.append(" ".join([name, *(f"{v:.9g}" for v in y[:8] + y[-8:])]))
    return lines


def main():
    sys.path.insert(0, sys.argv[1])
    import train_step_torch as peer

    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    torch.randn_like = lambda x: noise(*x.shape)
    lines = []
    for name, data in DATA.items():
        net, (x, y) = peer.WORKLOADS[name]()[0], data()
        for part in net.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        fill(net, RENAMED.get(name, {}))
        if name in ("gpt", "bert"):
            net.pos = torch.nn.Parameter(net.pos[:16].detach().clone())
        loss_of = peer.LOSSES.get(name, torch.nn.functional.cross_entropy)
        optimizer, losses = torch.optim.Adam(net.parameters(), 1e-3), []
        for _ in range(3):
            optimizer.zero_grad()
            loss = loss_of(net(*x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        lines.append(" ".join([name, *(f"{loss:.9g}" for loss in losses)]))
    for name, lines in {"losses": lines, "outputs": outputs()}.items():
        (HERE / f"../../crates/etude-bench/tests/{name}.txt").write_text("\n".join(lines) + "\n")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
