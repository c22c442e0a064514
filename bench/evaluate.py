#!/usr/bin/env python3
"""PyTorch's and ONNX Runtime's side of the race in evaluation.

    python bench/evaluate.py export --models FOLDER                  writes what the peers read: weights, inputs, ONNX files
    python bench/evaluate.py PEER MODEL BATCH --models FOLDER        evaluates MODEL (resnet50, minilm) and prints one JSON line

PEER is torch, torch.compile or onnxruntime. Weights and inputs are those of tests/golden/pattern.py, which Étude computes too;
`probe` in the line is sixteen numbers of the output, by which the peers are held against each other.
"""
import argparse, json, os, pathlib, resource, sys, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "golden"))
MODELS, BATCHES = ("resnet50", "minilm"), (1, 16)


def export(folder):
    """`MODEL.safetensors`, and for each batch `MODEL-BATCH.onnx` and the input's bytes `MODEL-BATCH.input`."""
    import torch
    from safetensors.torch import save_file
    from pattern import evaluated, example

    folder.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        net, weights = evaluated(name)
        save_file({key: value.contiguous() for key, value in weights.state_dict().items()}, folder / f"{name}.safetensors")
        for batch in BATCHES:
            x = example(name, batch)
            (folder / f"{name}-{batch}.input").write_bytes(x.numpy().tobytes())
            # The exporter that needs nothing beside PyTorch; shapes are fixed, which suits every reader best.
            torch.onnx.export(net, (x,), folder / f"{name}-{batch}.onnx", dynamo=False, opset_version=17)


def step_of(peer, name, batch, threads, folder):
    """A function that evaluates the model once and gives its output."""
    if peer == "onnxruntime":
        import numpy
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(folder / f"{name}-{batch}.onnx", options, providers=["CPUExecutionProvider"])
        x = session.get_inputs()[0]
        dtype = numpy.int64 if "int64" in x.type else numpy.float32
        given = {x.name: numpy.fromfile(folder / f"{name}-{batch}.input", dtype).reshape(x.shape)}
        return lambda: session.run(None, given)[0]
    import torch
    from pattern import evaluated, example

    torch.set_num_threads(threads)
    net, x = evaluated(name)[0], example(name, batch)
    if peer == "torch.compile":
        net = torch.compile(net)

    def step():
        with torch.inference_mode():
            return net(x).numpy()

    return step


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("peer", choices=["export", "torch", "torch.compile", "onnxruntime"])
    p.add_argument("model", nargs="?", choices=MODELS)
    p.add_argument("batch", nargs="?", type=int, choices=BATCHES)
    p.add_argument("--models", type=pathlib.Path, required=True)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    if a.peer == "export":
        return export(a.models)
    if a.batch is None:
        p.error("name a model and a batch")
    step = step_of(a.peer, a.model, a.batch, a.threads, a.models)

    def timed():
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    # Two to warm up, then about two seconds' worth.
    timed()
    probe = timed()
    times = sorted(timed() for _ in range(min(max(int(2 / probe), 5), 300)))
    output = step().reshape(-1)
    print(json.dumps({
        "peer": a.peer, "workload": a.model, "batch": a.batch, "median_ms": round(times[len(times) // 2] * 1e3, 3),
        "min_ms": round(times[0] * 1e3, 3), "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "probe": [float(output[i * output.size // 16]) for i in range(16)]}))


if __name__ == "__main__":
    main()
