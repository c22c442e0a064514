"""Writes the golden files: what PyTorch answers, for Étude to be held against.

    python generate.py            writes the files beside this script
    python generate.py --check    makes them again in memory and says whether they are the same bytes

Needs torch, numpy and safetensors; README.md says which versions made the files and what is in them.
"""

import argparse
import importlib
import json
import os
import pathlib
import sys
import warnings

# Before torch is loaded: one thread, so that no sum depends on how many cores there are.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy
import torch
from safetensors.torch import save

from cases import GROUPS
from recorder import Recorder

HERE = pathlib.Path(__file__).parent


def index(rows):
    """The index as JSON: one line for what a case is, then one a tensor."""
    lines = ["{", f'"pytorch": {json.dumps(torch.__version__.split("+")[0])},', f'"numpy": {json.dumps(numpy.__version__)},', '"cases": [']
    for number, row in enumerate(rows):
        head = {key: value for key, value in row.items() if key != "tensors"}
        tensors = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in row["tensors"].items())
        end = "" if number == len(rows) - 1 else ","
        lines.append(json.dumps(head, ensure_ascii=False)[:-1] + ',\n  "tensors": {' + tensors + "}}" + end)
    return "\n".join([*lines, "]", "}", ""])


def files():
    """Every golden file by name, as bytes."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.backends.mkldnn.enabled = False
    recorder = Recorder()
    for group in GROUPS:
        recorder.group = group
        importlib.import_module(f"cases.{group}").record(recorder)
    if recorder.refused:
        sys.exit("\n".join(recorder.refused))
    made = {f"{group}.safetensors": save(recorder.tensors[group]) for group in GROUPS}
    made["index.json"] = index(recorder.rows).encode()
    return made, recorder.rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files that are there, write nothing")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    made, rows = files()
    if arguments.check:
        changed = [name for name, content in made.items() if not (HERE / name).exists() or (HERE / name).read_bytes() != content]
        print("changed: " + ", ".join(changed) if changed else f"{len(made)} files, the same bytes")
        sys.exit(1 if changed else 0)
    for name, content in made.items():
        (HERE / name).write_bytes(content)
    for name, content in sorted(made.items()):
        print(f"{len(content):9} {name}")
    operations = {row["operation"] for row in rows}
    worst = sorted(rows, key=lambda row: -row["float32_error"])[:5]
    print(f"{len(rows)} cases of {len(operations)} operations, {sum(map(len, made.values()))} bytes")
    print("furthest from float64: " + ", ".join(f"{row['name']} {row['float32_error']:.0e}" for row in worst))


if __name__ == "__main__":
    main()
