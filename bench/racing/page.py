"""docs/performance.md, from the results of the races."""
from . import etudes, floors, inference
from .common import ROOT, milliseconds
from .training import GOALS, MEAN, OTHERS, PEERS, means

PAGE = ROOT / "docs/performance.md"

SIZES = """
A part of a step is the same for any size (`etude bench --scaling --profile`). Adam reads four numbers and writes three for every
parameter, 12 MB for convnet and 151 MB for lstm, which at the bandwidths above is the least it can take: of convnet's step with eight
examples a tenth, with 128 one in a hundred; of lstm's with 25 symbols a tenth, with 200 one in sixty.
The weights' gradients are written whole however little they sum: with fewer than 32 examples
each task of convnet's largest has one to three images, and reached 34 to 54 % of the peak instead of 56 to 74 on an Intel Xeon. The dense
layer's weights, 1.6 MB, are read whole for eight examples as for 128. And small steps pay for each line of memory that one core writes
and the other reads, most where the cores have different third-level caches; threads keep to their own tasks from kernel to kernel for
that reason. convnet's stay within 9.9 percent of their middle and lstm's within 9.2 (10.1 and 10.3 at 931e59d, before updates followed their
gradients), where the first is the longest. Of lstm's 31.5 ms with 25 symbols, some 6 are the same for any length: Adam, whose step
is now taken as a product makes the gradient, adds some 0.7 to the products' time where it took 1.4 to 2.2 by itself; to pack the recurrent
weights and read them for the first time takes some 1.6 (33 MB are read and written; by itself a copy of as many past the caches takes
0.5 to 0.7 ms for either direction), three products of 83 rows 3 (2.2 at the peak). The state of zeros with which a sequence begins
multiplies nothing and its gradient takes no product: 0.35 ms less. Rows asked for further ahead while weights are packed backwards:
0.1 less. Tried and left: packing within the first step's products, each block while the one before is multiplied, gained nothing forwards and took
1.3 ms longer backwards; with both halves of a panel written in order, packing took half as long again. Adam behind its gradient
where the caches hold the parameters: convnet's step with eight examples took 1.05 times as long, mlp's 1.02 to 1.03.

All this is of cores near each other. On far ones (below) convnet's step with eight examples takes 2.3 ms instead of 0.94 and is 43 % above the
middle: half a millisecond of the difference is Adam of the dense layer, whose weights each core writes where the other has read
them, the rest is in every kernel that reads what both have written.

In an earlier table of threads, of commit 931e59d, dqn and ddpm stayed below 1.7, the goal of every step above 5 ms (1.46 and 1.57); why
was not found out.
"""

NEAREST = """
## The workload nearest to its goal

gpt, in most races (bert in the one above). Its floor: products, of 1024 rows, are 29 of its 30.5 GFLOP. PyTorch's have the same sizes; how near
to the peak each comes stands in docs/kernels.md.

On the AMD EPYC of the tables above the peak stayed at 236 GFLOP/s for hours: the products' floor is 123 ms, all kernels' some 140, and
the step takes 168 to 173. Seven rounds of three races there gave 1.09, 1.19, 1.22, 1.22, 1.22, 1.23 and 1.35, two later 1.23 and 1.25, two more 1.08, in a
minute when every program was slower, and 1.24, the two of the race above 1.24 and 1.37.
In a profile products take 80 % of the time, at 70 to 90 % of the peak; attention 7 %; GELU, forwards and back, 6 %; other chains and
folds 4 %; updates and norms 3 %. A profile of PyTorch's step in the same minutes: products 172 ms where ours take 152 (a block's first
dense layer 4.0 ms against 2.8), attention 22 ms against 14, GELU 18 against 12.

On the Intel Xeon named below (355 GFLOP/s in calm hours; products 82 ms, all some 100, the step 141 to 147 undisturbed) single races
of two or three rounds gave 1.06, 1.148 and, in an hour in which something else slowed the machine (its step wandered between 144 and
255 ms within minutes), 0.84; seven rounds joined gave 1.16. A product within the step lacks little there that the same product alone
has in the same hour: with sixteen sets of inputs and outputs in turn, so that all come from beyond the second level, a block's
products reach 0.92 to 0.99 of what they reach with one set.

A program beside it on the same cores does not explain that hour: one that keeps a core busy for a third of the time makes Étude's
step 1.25 times as long and PyTorch's 1.5 times (1.4 and 1.65 if it copies memory meanwhile), one that never rests 2.1 times and 18
times. Threads take over each other's tasks here.

Tried, in turns with the version before: weights' gradients cut by their depth (those products 1.02 to 1.12 times as fast, kept),
asking for the right side ahead (1.02 to 1.06, kept), masked scores and causal blocks skipped in attention and tasks dealt evenly (the
step 1.14, kept), epilogues of bias and GELU in training (the step 1.02, left: docs/architecture.md says what they could save), tasks
of other shapes (0.84 to 1.02, left), asking ahead for the output's lines (0.88 to 1.08, left), all tasks through one block of the
depth before the next (0.97 to 1.01, left).

lstm was nearest to its goal on the AMD EPYC, 1.27 in three rounds: 25.5 GFLOP, 108 ms at the peak, done in 133; PyTorch took 168. Its recurrent
kernels, 70 ms, multiply at 97 % of the peak on two threads; the gates take a tenth, packing the weights once a step 2 %, waiting for
each other 2 %. So it does less now: of the products with embedded characters only those of the table's rows (docs/architecture.md, "Picked
rows"), 0.83 of the time.

## On another processor

Intel(R) Xeon(R) Processor, 2 cores; 356 GFLOP/s of f32 multiply-adds on 2 threads (177 on one), 171 GB/s from L2, 55 GB/s from L3, 44
GB/s from memory; 2026-11-30, commit 2091b1b, before products of picked rows. Times as fast as the best peer, two rounds (gpt: seven):
tiny 2.37, mlp 1.40, convnet 3.31, resnet18 2.12, vit 1.29, lstm 1.43, gpt 1.16, bert 1.31, textcnn 1.65, dqn 1.64, ddpm 1.81, vae
1.43, crnn 2.22; geometric mean 1.70. Two threads there were 1.82 to 2.09 times as fast as one for every step above 5 ms, resnet18's first
step took the time of 1.11.

Evaluation there, two rounds, commit 0b493e1, in the order of the table below: against ONNX Runtime 1.29, 1.22, 1.21, 1.52; eager PyTorch
2.09, 3.42, 1.18, 1.53; compiled 2.66, 1.67, 1.25, 1.04 (0.92 and 1.15); tract 7.2, 13.9, 2.6, 3.7; candle 10.3, 9.8, 3.8, 5.6.

## Cores that are far from each other

The two cores of the AMD EPYC were virtual, and where they lay changed within minutes, once within a run: for a while, to read or write
6 MB that the other core had written took 2 to 2.7 times as long as 6 MB of a core's own, where otherwise there is no difference
(`cargo bench -p etude-kernels --bench kernels -- written_before` shows which it is). Cores without a third level of cache in
common, as many processors have them, are like that always. Each core alone is as fast as ever: two processes with a thread each
disturb each other not at all. In such minutes, commit 243b341: convnet's step 8.4 ms instead of 6.6, dqn's 12.1 instead of 9.2, mlp's
3.4 instead of 2.2; crnn's 40 instead of 28, ddpm's 133 instead of 116, vae's 20.5 instead of 17 (these a few commits before). Two threads are
then 1.5 times as fast as one for convnet, 1.3 for crnn and mlp. The race of commit 1e0dd05 met them: it began in such a minute and ended in a near
one; crnn, 37 ms in both rounds, took 28 in the table of threads right after.

Dearest is to write again where the other core has read: a line that both hold must be taken from the other first. convnet's first
convolution takes 0.24 ms; 0.35 where half of its output was last written by the other core, and 1.1 to 1.3 where that half was
last read by it (near: 0.23 each). So, since then, the gradients of biases and other sums over examples are cut along the examples and
not by channel (convnet's step 0.90 of the time there, the same near), and Winograd's weights' gradient by tiles, each core with sums of
its own: half the time there, and convnet's step, 11.1 ms before, is 8.4. Batch norm's statistics and gradient are cut along the examples
now, too (twice as fast there, where 32 examples of 256 channels of 8² were just written): crnn's step, with the other changes of that day, 37 ms instead of 38.7. What is
left are results that take the place of others whose examples lay otherwise, as where a pool's gradient is scattered (crnn: 0.8 ms on one thread,
1.3 on two), and weights. Asking ahead for places to write, and for the left side of Winograd's products, changed nothing.

Weights, tried and left: mlp's 2.7 MB are read by both cores, and Adam writes them where the other core has read them, which takes 0.6 ms
instead of 0.13. With weights' gradients, forward products and Adam all shared by the rows of weights, Adam took 0.4 ms, but then each
core reads half of the results that the other made; the step was 0.98 as long. A network whose step is short has less to do for the
same weights: convnet with eight examples takes 2.3 ms there, 0.95 on near cores.
"""


def rounds(results):
    """How many rounds the ratios are of, and of which workloads more."""
    usual = results["rounds"]
    counts = {workload: len(e["peers"].get("etude", {}).get("rounds_ms", [])) for workload, e in results["workloads"].items()}
    more = [f"{workload}: {count}" for workload, count in counts.items() if count > usual]
    return ("the ratios of one round" if usual == 1 else f"the ratios of {usual} rounds") + (f" ({', '.join(more)})" if more else "")


def write(results):
    """Writes the page: all of it, or the sections that were measured where the training race was not."""
    text, sections = PAGE.read_text(), []
    for key, race in (("floors", floors), ("inference", inference), ("etudes", etudes)):
        # Figures that were not measured this time stay as they are.
        old = section_of(text, race.HEADING)
        new = race.section(results[key], results["machine"]).rstrip() + "\n" if key in results else old
        sections.append(new)
        text = text.replace(old or "## Method", new if old else f"{new}\n## Method" if new else "## Method")
    PAGE.write_text(page(results, "\n".join(filter(None, sections))) if "workloads" in results else text)


def section_of(text, heading):
    """The section under `heading`, up to the next heading; empty if there is none."""
    _, found, rest = text.partition(heading + "\n")
    return found + rest.partition("\n## ")[0].rstrip() + "\n" if found else ""


def page(results, sections):
    """docs/performance.md, with the sections of the other races as they are given."""
    about, roof = results["machine"], results["machine"].get("roofline") or {}
    figures = "" if not roof else (
        f"; {roof['gflops']:.0f} GFLOP/s of f32 multiply-adds on {roof['threads']} threads ({roof['gflops_one_thread']:.0f} on one), "
        + ", ".join(f"{max(l['copy_gbytes'], l['triad_gbytes']):.0f} GB/s from {l['level']}" for l in roof["bandwidth"]))
    peers = [p for p in PEERS if any(p in e["peers"] for e in results["workloads"].values())]
    text = f"""# Performance

One training step (forward, loss, backward, Adam, the loss read back) of thirteen models, f32, data in memory, against PyTorch
(eager and compiled), JAX and Burn; the evaluation of two models against ONNX Runtime, PyTorch, tract and candle; and the études' own
steps against PyTorch. Peers run on the same machine in the same run. Written by `bench/compare --page`.

## Machine

{about['cpu']}, {about['cores']} cores, {about['system']}{figures}. {about['date']}, commit {about['commit']}.

## Times

Milliseconds a step, and in brackets how many times as fast Étude is: the median of {rounds(results)}, with the smallest
and the largest.

| workload | Étude | {' | '.join(peers)} | against the best | goal |
|---|---|{'---|' * len(peers)}---|---|
"""
    for workload, e in results["workloads"].items():
        cells = []
        for peer in peers:
            f = e["peers"].get(peer)
            cells.append("–" if not f else milliseconds(f["median_ms"]) + ("" if "ratio" not in f else " ({:.2f}; {:.2f}–{:.2f})".format(*f["ratio"])))
        goal = GOALS.get(workload, OTHERS)
        ratio = e["peers"][e["best"]]["ratio"][0] if e["best"] else None
        verdict = "–" if ratio is None else f"**{ratio:.2f}** ({e['best']})"
        held = "" if ratio is None else " held" if ratio >= goal else " not yet"
        ours = e["peers"].get("etude")
        text += f"| {workload} | {milliseconds(ours['median_ms'])} | {' | '.join(cells)} | {verdict} | ≥ {goal}{held} |\n" if ours else ""
    mean = means(results)
    if mean["best"]:
        text += f"\nGeometric mean against the best peer of each: **{mean['best']:.2f}** (goal ≥ {MEAN}); " + \
            ", ".join(f"against {peer} {value:.2f}" for peer, value in mean.items() if peer != "best") + ".\n"
    text += f"""
## Memory

The most resident memory of the process, in MB (of PyTorch, some 250 MB are the framework itself); what Étude's plan holds at once beside
parameters, optimiser state and data; and what eager PyTorch allocates at once beside them (`bench/activations.py`).

| workload | Étude | planned | PyTorch allocates | {' | '.join(peers)} |
|---|---|---|---|{'---|' * len(peers)}
"""
    grown = results.get("growth") or {"threads": {}, "scaling": [], "allocated_mb": {}}
    for workload, e in results["workloads"].items():
        cell = lambda name, key: f"{e['peers'][name][key]:.0f}" if key in e["peers"].get(name, {}) else "–"
        text += f"| {workload} | {cell('etude', 'peak_rss_mb')} | {cell('etude', 'planned_peak_mb')} | {grown['allocated_mb'].get(workload, '–')} | {' | '.join(cell(p, 'peak_rss_mb') for p in peers)} |\n"
    if grown["threads"]:
        text += """
## Threads and the first step

Milliseconds a step on one thread and on two, how many times as fast two are, and how many steps' time the first step takes, compiling
and mapping memory included.

| workload | one thread | two threads | times | first step |
|---|---|---|---|---|
"""
        for workload, f in grown["threads"].items():
            text += f"| {workload} | {milliseconds(f['one_ms'])} | {milliseconds(f['two_ms'])} | {f['speedup']:.2f} | {f['first_steps']:.2f} |\n"
    if grown["scaling"]:
        text += "\n## Sizes\n\nMicroseconds of a step for each example or symbol in it.\n"
        for line in grown["scaling"]:
            text += f"\n| {line['workload']}, {line['unit']} | {' | '.join(map(str, line['sizes']))} |\n|---|{'---|' * len(line['sizes'])}\n"
            text += f"| µs each | {' | '.join(milliseconds(each) for each in line['microseconds_each'])} |\n"
        text += SIZES
    text += NEAREST
    text += f"\n{sections}" if sections else ""
    text += """
## Method

Every run is a process of its own: two steps to warm up, then about four seconds of steps, of which the median counts. In a round
all peers run one after the other, in every other round backwards; ratios are taken within a round, so that drift of the machine
hits all alike. Models and data are the same (`crates/etude-bench/src/models` and the peers' scripts, whose parameter counts and
first losses a test compares). Each framework uses one thread a core and its own defaults. In evaluation about two seconds' worth of
calls is timed, and weights and inputs are hashes of names and positions that every program computes or reads (`tests/golden/pattern.py`).
An étude's step is what lies between two lines of its log, data and logging included; PyTorch's has its data at hand.

## How to repeat it

```sh
bench/compare --setup            # a virtual environment with the peers (several GB), and the Burn, tract and candle programs
bench/compare --page             # an hour and a half; nothing else should run meanwhile
bench/compare --only inference --page  # the section on evaluation alone
bench/compare --only etudes --page     # the section on the études' steps
bench/compare --only floors --page     # the section on where a step's time goes
etude bench --roofline           # what the machine can do
etude bench resnet18 --profile   # where the time of a step goes, kernel by kernel against the roof
etude bench --inference --profile  # the same of the compiled models
```

`--rounds`, `--steps`, `--against torch,jax` and names of workloads make it shorter; `--prefix 'chrt --rr 1'` keeps other
programs of a shared machine out of the way.
"""
    return text
