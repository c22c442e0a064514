"""What every race needs: commands run in processes of their own, medians and ratios within rounds."""
import datetime, json, os, pathlib, platform, shlex, statistics, subprocess, sys

BENCH = pathlib.Path(__file__).resolve().parent.parent
ROOT = BENCH.parent


def milliseconds(value):
    """Three digits that mean something, never in powers of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def python(a):
    """The Python that has the peers."""
    return a.python or (BENCH / ".venv/bin/python" if (BENCH / ".venv").exists() else sys.executable)


def run(words, a):
    """The JSON line of one run, or None after a line that says what went wrong."""
    words = [*shlex.split(a.prefix), *map(str, words)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=900)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode == 0 and lines:
            return json.loads(lines[-1])
        why = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        why = error
    print(f"  {shlex.join(words)}: {why}", file=sys.stderr)
    return None


def lines_of(words, a):
    """The JSON lines a command prints; none if it cannot be run."""
    try:
        done = subprocess.run([*shlex.split(a.prefix), *map(str, words)], capture_output=True, text=True)
    except OSError:
        return []
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")] if done.returncode == 0 else []


def processor():
    lines = open("/proc/cpuinfo").read().splitlines() if os.path.exists("/proc/cpuinfo") else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def machine(a):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {"cpu": processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}", "commit": commit,
            "date": datetime.date.today().isoformat(), "roofline": run([a.program, "bench", "--roofline", "--json"], a)}


def taken(about):
    """On what machine, of what and when figures were taken."""
    return f"{about['cpu']}, commit {about['commit']}, {about['date']}."


def rounds_of(peers, command, a):
    """Runs every peer once a round; gives its JSON lines by peer, without peers that could not run. `command` is None for a peer
    that does not have the job."""
    rounds, missing = {peer: [] for peer in peers}, set()
    for number in range(a.rounds):
        # Every other round runs backwards: whoever comes after a hot neighbour is not always the same.
        for peer in peers if number % 2 == 0 else reversed(peers):
            words = command(peer)
            line = run(words, a) if words and peer not in missing else None
            if line is None:
                missing.add(peer)
            rounds[peer].append(line)
    return {peer: lines for peer, lines in rounds.items() if peer not in missing}


def summary(rounds):
    """Medians, ratios within rounds and memory of one job."""
    entry = {"peers": {}}
    for peer, lines in rounds.items():
        entry["peers"][peer] = {
            "min_ms": min(line["min_ms"] for line in lines), "peak_rss_mb": statistics.median(line["peak_rss_mb"] for line in lines),
            "rounds_ms": [line["median_ms"] for line in lines]}
        for extra in ("first_ms", "planned_peak_mb", "compile_ms"):
            if all(extra in line for line in lines):
                entry["peers"][peer][extra] = statistics.median(line[extra] for line in lines)
    return settled(entry)


def joined(earlier, later):
    """One job of two races, the later's rounds after the earlier's; memory and first steps are the earlier's."""
    for peer, figures in later["peers"].items():
        if peer in earlier["peers"]:
            mine = earlier["peers"][peer]
            mine["rounds_ms"] += figures["rounds_ms"]
            mine["min_ms"] = min(mine["min_ms"], figures["min_ms"])
    return settled(earlier)


def settled(entry):
    """The entry with what follows from the times of its rounds."""
    peers = entry["peers"]
    for figures in peers.values():
        figures["median_ms"] = statistics.median(figures["rounds_ms"])
    others = [peer for peer in peers if peer != "etude"]
    if "etude" in peers:
        for peer in others:
            ratios = [theirs / ours for theirs, ours in zip(peers[peer]["rounds_ms"], peers["etude"]["rounds_ms"])]
            peers[peer]["ratio"] = [statistics.median(ratios), min(ratios), max(ratios)]
    raced = others if "etude" in peers else []
    entry["best"] = min(raced, key=lambda peer: peers[peer]["median_ms"], default=None)
    return entry


def print_row(workload, entry):
    parts = [f"{workload:9}"]
    for peer, figures in entry["peers"].items():
        ratio = "" if "ratio" not in figures else " {:.2f}× ({:.2f}..{:.2f})".format(*figures["ratio"])
        parts.append(f"{peer} {milliseconds(figures['median_ms'])} ms{ratio} {figures['peak_rss_mb']:.0f} MB")
    print("   ".join(parts), flush=True)
