"""The race in evaluation: two models compiled for nothing else, batch 1 and 16."""
import subprocess

from .common import BENCH, milliseconds, print_row, python, rounds_of, summary, taken

MODELS = {"resnet50": "ResNet-50, 224²", "minilm": "BERT encoder of 6 × 384, 128 tokens"}
BATCHES = (1, 16)
PEERS = "onnxruntime torch torch.compile tract candle".split()
# How far outputs may be apart, as a part of the largest: sums of f32 in another order, through fifty layers.
NEAR = 1e-4
HEADING = "## Evaluation"


def export(a):
    """Writes the models the peers read, once."""
    if not (a.models / "minilm-16.onnx").exists():
        subprocess.run([python(a), BENCH / "evaluate.py", "export", "--models", a.models], check=True)


def command(peer, model, batch, a):
    """The command line that evaluates `model`."""
    threads = str(a.threads or a.cores)
    if peer == "etude":
        return [a.program, "bench", "--inference", model, "--batch", batch, "--json", "--threads", threads]
    if peer == "tract":
        return [a.tract, a.models, model, batch, threads]
    if peer == "candle":
        return [a.candle, a.models, model, batch]
    return [python(a), BENCH / "evaluate.py", peer, model, batch, "--models", a.models, "--threads", threads]


def race(a):
    """Both models with both batches, or those `a` names."""
    peers, results = ["etude"] + [peer for peer in PEERS if peer in a.against], {}
    for model in [m for m in MODELS if m in a.workloads]:
        export(a)
        for batch in BATCHES:
            rounds = rounds_of(peers, lambda peer: command(peer, model, batch, a), a)
            results[f"{model} {batch}"] = {**summary(rounds), "apart": apart(rounds)}
            print_row(f"{model} {batch}", results[f"{model} {batch}"])
    return results


def apart(rounds):
    """How far each peer's output is from Étude's, as a part of the largest number in it."""
    probes = {peer: lines[0]["probe"] for peer, lines in rounds.items()}
    ours = probes.pop("etude", None)
    if not ours:
        return {}
    largest = max(map(abs, ours))
    return {peer: max(abs(x - y) for x, y in zip(ours, theirs)) / largest for peer, theirs in probes.items()}


def section(results, about):
    """The section of the page."""
    peers = [peer for peer in PEERS if any(peer in entry["peers"] for entry in results.values())]
    text = f"""{HEADING}

Milliseconds for one evaluation of a compiled model (`model.compile()`), and in brackets how many times as fast Étude is: the median of the
rounds' ratios, with the smallest and the largest. ONNX Runtime and tract read what PyTorch exported; candle has its own models. All
have the same weights and inputs; tract and candle are built for this very processor, as Étude is not. {taken(about)}

| model, batch | Étude | {' | '.join(peers)} | goal |
|---|---|{'---|' * len(peers)}---|
"""
    for name, entry in results.items():
        if "etude" not in entry["peers"]:
            continue
        ratios, cells = {}, []
        for peer in peers:
            figures = entry["peers"].get(peer)
            if figures:
                ratios[peer] = figures["ratio"][0]
            cells.append("–" if not figures else milliseconds(figures["median_ms"]) + " ({:.2f}; {:.2f}–{:.2f})".format(*figures["ratio"]))
        held = all(ratio >= 1 if peer == "onnxruntime" else ratio > 1 for peer, ratio in ratios.items())
        ours = milliseconds(entry["peers"]["etude"]["median_ms"])
        text += f"| {name.replace(' ', ', ')} | {ours} | {' | '.join(cells)} | {'held' if held else 'not yet'} |\n"
    distances = [distance for entry in results.values() for distance in entry["apart"].values()]
    if distances:
        text += f"\nThe goal: no slower than ONNX Runtime and faster than the others. Outputs differ by {max(distances):.0e} of their largest number at most; "
        text += f"beyond {NEAR:.0e} they would not count as the same model.\n"
    return text + f"\nModels: {'; '.join(f'{name}, {what}' for name, what in MODELS.items())}.\n"
