"""The race of the études' own training steps against the same steps in PyTorch (`bench/studies`)."""
from .common import BENCH, milliseconds, print_row, python, rounds_of, summary, taken

ETUDES = "music style dream vae dcgan cgan acgan wgan wgan-gp ddpm gpt captcha captcha-ctc emoji flappy".split()
HEADING = "## The études' steps"


def command(peer, name, a):
    """The command line that times a training step of `name`."""
    threads = ["--threads", str(a.threads or a.cores)]
    if peer == "etude":
        return [python(a), BENCH / "studies/etude.py", a.program, name, *threads]
    script = BENCH / f"studies/{name}.py"
    return [python(a), *([script] if script.exists() else [BENCH / "studies/gan.py", name]), *threads]


def race(a):
    """All, or those `a` names."""
    results = {}
    for name in [name for name in ETUDES if name in a.workloads]:
        results[name] = summary(rounds_of(["etude", "torch"], lambda peer: command(peer, name, a), a))
        print_row(name, results[name])
    return results


def section(results, about):
    """The section of the page."""
    text = f"""{HEADING}

Milliseconds of a training step of the études with their defaults, measured in a run of their own, and of the same step in eager PyTorch
(`bench/studies`); how many times as fast Étude is (the median of the rounds' ratios, with the smallest and the largest; the goal is
no slower); and how long all plans of the run took to compile, which no step's time holds. {taken(about)}

| étude | Étude | PyTorch | times as fast | goal | compiling |
|---|---|---|---|---|---|
"""
    for name, entry in results.items():
        ours, torch = (entry["peers"].get(peer) for peer in ("etude", "torch"))
        if ours and torch:
            held = "held" if torch["ratio"][0] >= 1 else "not yet"
            text += f"| {name} | {milliseconds(ours['median_ms'])} | {milliseconds(torch['median_ms'])} | {{:.2f}} ({{:.2f}}–{{:.2f}}) | {held} | ".format(*torch["ratio"])
            text += f"{milliseconds(ours['compile_ms'])} ms |\n"
    return text
