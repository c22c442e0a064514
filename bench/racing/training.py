"""The race of training steps: thirteen workloads, their goals, and how Étude's time grows."""
import math, statistics

from .common import BENCH, lines_of, print_row, python, rounds_of, summary

WORKLOADS = "tiny mlp convnet resnet18 vit lstm gpt bert textcnn dqn ddpm vae crnn".split()
PEERS = "torch torch.compile jax burn".split()
JAX = {"tiny", "mlp", "convnet", "gpt", "lstm"}
BURN = {"tiny", "mlp", "convnet", "resnet18", "vit", "lstm", "gpt", "textcnn", "dqn", "vae"}
# Times as fast as the best peer, of issue 3.
GOALS = {"tiny": 2, "convnet": 1.6, "resnet18": 1.6, "ddpm": 1.5, "lstm": 1.3, "textcnn": 1.3}
OTHERS, MEAN = 1.15, 1.5


def command(peer, workload, a):
    """The command line that runs `workload` once, or None where the peer does not have it."""
    steps = ["--steps", str(a.steps)] if a.steps else []
    threads = ["--threads", str(a.threads)] if a.threads else []
    if peer == "etude":
        return [a.program, "bench", workload, "--json", *steps, *threads]
    if peer.startswith("torch"):
        compiled = ["--compile"] if peer == "torch.compile" else []
        return [python(a), a.peers / "train_step_torch.py", *compiled, *steps, *threads, workload]
    if peer == "jax" and workload in JAX:
        return [python(a), a.peers / "train_step_jax.py", workload]
    if peer == "burn" and workload in BURN:
        return [a.burn, workload, *steps[1:]]
    return None


def race(a):
    """The thirteen, or those `a` names."""
    peers, results = ["etude"] + [peer for peer in PEERS if peer in a.against], {}
    for workload in [w for w in WORKLOADS if w in a.workloads]:
        results[workload] = summary(rounds_of(peers, lambda peer: command(peer, workload, a), a))
        print_row(workload, results[workload])
    return results


def growth(a):
    """How Étude's time grows with sizes and shrinks with threads, its first step, and what eager PyTorch allocates."""
    threads = {}
    workloads = [w for w in WORKLOADS if w in a.workloads]
    for workload in workloads:
        turns = []
        for _ in range(a.rounds):
            one, two = (lines_of([a.program, "bench", workload, "--json", "--threads", n], a) for n in (1, 2))
            if one and two:
                turns.append((one[0]["median_ms"], two[0]["median_ms"], two[0]["first_ms"]))
        if turns:
            threads[workload] = {
                "one_ms": statistics.median(t[0] for t in turns), "two_ms": statistics.median(t[1] for t in turns),
                "speedup": statistics.median(t[0] / t[1] for t in turns), "first_steps": statistics.median(t[2] / t[1] for t in turns)}
    allocated = lines_of([python(a), BENCH / "activations.py", "--peers", a.peers, *workloads], a)
    return {"threads": threads, "scaling": lines_of([a.program, "bench", "--scaling", "--json"], a),
            "allocated_mb": {line["workload"]: line["peak_mb"] for line in allocated}}


def means(results):
    """Geometric means of the ratios to the best peer of each workload and to each peer."""
    def mean(ratios):
        return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None
    entries = results["workloads"].values()
    best = mean([e["peers"][e["best"]]["ratio"][0] for e in entries if e["best"]])
    each = {peer: mean([e["peers"][peer]["ratio"][0] for e in entries if "ratio" in e["peers"].get(peer, {})]) for peer in PEERS}
    return {"best": best, **{peer: value for peer, value in each.items() if value}}


def print_means(results):
    mean = means(results)
    if mean["best"]:
        print(f"geometric mean against the best peer {mean['best']:.2f}, " + ", ".join(f"{p} {v:.2f}" for p, v in mean.items() if p != "best"))
