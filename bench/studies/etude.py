"""The training step of an étude with its defaults, timed in its own run: `etude.py PROGRAM NAME`. Prints the JSON line of the
PyTorch steps beside this file, and how long its plans took to compile."""
import argparse, json, os, pathlib, re, resource, signal, statistics, subprocess, tempfile, time

COMPILED = re.compile(r"^etude: compiled .* in ([0-9.]+)(µs|ms|s) for")
MILLISECONDS = {"µs": 1e-3, "ms": 1.0, "s": 1e3}
# Steps while plans are compiled and memory is mapped.
WARM = 3


def steps(folder):
    """The lines of the loop that gives the étude its name; a judge may be trained before it."""
    logs = list(folder.glob("*/*/metrics.jsonl"))
    lines = logs[0].read_text().splitlines(keepends=True) if logs else []
    lines = [json.loads(line) for line in lines if line.endswith("\n")]
    return [line for line in lines if not any(key.startswith("judge/") for key in line)]


def times(lines):
    """Milliseconds of each step; a step may log more than once."""
    last = {line["step"]: line["time"] for line in lines}
    numbers = sorted(last)[WARM:]
    return [(last[after] - last[before]) / (after - before) * 1e3 for before, after in zip(numbers, numbers[1:])]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("program")
    p.add_argument("name")
    p.add_argument("--threads", default="2")
    p.add_argument("--seconds", type=float, default=8)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder, open(pathlib.Path(folder) / "told", "w+") as told:
        words = [a.program, "run", a.name, "--out", folder]
        env = {**os.environ, "ETUDE_TRACE": "compile", "ETUDE_THREADS": a.threads}
        running = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=told)
        begin = None
        while running.poll() is None and (begin is None or time.monotonic() < begin + a.seconds):
            time.sleep(0.2)
            begin = begin or (time.monotonic() if steps(pathlib.Path(folder)) else None)
        found = times(steps(pathlib.Path(folder)))
        running.send_signal(signal.SIGINT)
        running.wait()
        told.seek(0)
        compiled = [COMPILED.match(line) for line in told]
    compiled = sum(float(m[1]) * MILLISECONDS[m[2]] for m in compiled if m)
    resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(json.dumps({
        "etude": a.name, "peer": "etude", "median_ms": round(statistics.median(found), 3), "min_ms": round(min(found), 3),
        "steps": len(found), "compile_ms": round(compiled, 1), "peak_rss_mb": resident}))


if __name__ == "__main__":
    main()
