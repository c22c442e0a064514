"""Where a training step's time goes: its kernels by kind, each kind against its floor (`etude bench --profile`)."""
from .common import milliseconds, run, taken
from .training import WORKLOADS

HEADING = "## Where a step's time goes"
# Kernels by how their names begin; all others are chains, folds and copies.
KINDS = {
    "products": ("matmul",), "convolutions": ("conv",), "recurrent layers": ("lstm", "gru", "rnn"), "attention": ("attention", "scaled_dot"),
    "norms": ("layer_", "batch_", "group_"), "updates": ("adam",), "others": ("",)}

TEXT = """
The floor of a kernel is what it has to do at the machine's peak: its operations, or its bytes at the bandwidth of the level that holds
them, whichever takes longer; the peak is measured in the same process. A cell says which part of the kernels' time a kind of kernel
takes and, in brackets, its floor over its time. Winograd's way does fewer operations than the direct convolution whose floor is
counted, so convolutions can be above 100 %; so can sums and updates whose data a nearer cache still holds.
Elementwise, exponentials and error functions count as one operation each; attention, softmax and random numbers count by their bytes
alone, so that they look further from a floor than they are. A product that takes the step of its weight's update counts as a product.
"""


def race(a):
    """The profile of each workload in the turn whose step was the median."""
    results = {}
    for workload in [w for w in WORKLOADS if w in a.workloads]:
        turns = [line for _ in range(a.rounds) if (line := run([a.program, "bench", workload, "--profile", "--json"], a))]
        if turns:
            turns.sort(key=lambda line: line["profile"]["step_ms"])
            results[workload] = summary(turns[(len(turns) - 1) // 2])
            print(workload, results[workload], flush=True)
    return results


def summary(line):
    """A step's time, its floor, and of each kind the time and the floor, in milliseconds."""
    kinds = {}
    for kernel in line["profile"]["kernels"]:
        kind = next(kind for kind, starts in KINDS.items() if kernel["kernel"].startswith(starts))
        ms, floor = kinds.get(kind, (0, 0))
        kinds[kind] = (ms + kernel["ms"], floor + kernel["ms"] * kernel["of_roof"])
    return {"step_ms": line["profile"]["step_ms"], "kinds": kinds}


def section(results, about):
    """The section of the page."""
    text = f"{HEADING}\n{TEXT}\n{taken(about)}\n\n"
    text += f"| workload | step, ms | floor, ms | {' | '.join(KINDS)} |\n|---|---|---|{'---|' * len(KINDS)}\n"
    for workload, entry in results.items():
        kinds = entry["kinds"]
        total = sum(ms for ms, _ in kinds.values())
        cell = lambda ms, floor: f"{ms / total:.0%} ({floor / ms:.0%})".replace("%", " %") if ms >= 0.005 * total else "–"
        cells = " | ".join(cell(*kinds.get(kind, (0, 0))) for kind in KINDS)
        text += f"| {workload} | {milliseconds(entry['step_ms'])} | {milliseconds(sum(floor for _, floor in kinds.values()))} | {cells} |\n"
    return text
