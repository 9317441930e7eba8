"""Holds a step of the trainer against the same step in PyTorch: the same numbers first, then time and memory.

    python training/peers/compare.py [--image 512 256] [--threads 2 1] [--steps 5] [--device cpu|cuda] [--folder DIR]
        [--step PROGRAM]

Both run as processes that take turns, one step each, so that what else the machine does falls on both alike. Ends with
1 where the losses, the gradient or the answers differ: then times would compare two models.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/start/kestrel-s/model.safetensors"
PROGRAM = ["cargo", "run", "--quiet", "--release", "-p", "kestrel-training", "--example", "step"]
# What a build needs more for a device.
FEATURES = {"cpu": [], "cuda": ["--features", "cuda"]}
# What training sets for itself (kestrel_training::sft::ENVIRONMENT).
TRAINING = {"RAYON_NUM_THREADS": "1", "MIMALLOC_PURGE_DELAY": "-1"}
# The same for PyTorch: glibc keeps freed tensors instead of handing them back, which makes a step a third faster.
PEER = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
# Largest relative differences of the first loss and the gradient's norm, and of any answer beside the largest one.
LOSS, NORM, ANSWER = 1e-3, 1e-2, 1e-3
STEADY = ("answer", "matching", "doubt", "auxiliary", "anchor", "proposals")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=int, nargs="+", default=[512, 256], help="sides of the pictures in pixels")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], help="threads of either side")
    parser.add_argument("--batch", type=int, default=4, help="pictures a step")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of either side, behind one that is not")
    parser.add_argument("--device", choices=tuple(FEATURES), default="cpu", help="what both sides compute on")
    parser.add_argument("--folder", type=Path, help="where batches and figures go; default a temporary folder")
    parser.add_argument("--step", type=Path, help="the built example `step`; default builds it")
    return parser.parse_args()


class Side:
    """A process that does one step whenever it is asked."""

    def __init__(self, name, command, environment=None):
        self.name, self.millis, self.cpu_millis, self.first, self.second, self.last = name, [], [], None, None, None
        self.process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, env={**os.environ, **(environment or {})}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.hello = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            raise SystemExit(f"{self.name}: expected a line of JSON, got none (status {status}); see above")
        return json.loads(line)

    def used(self):
        """Milliseconds of processor that it has had, all threads together; `cargo run` becomes the program."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return float("nan")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * 1e3 / os.sysconf("SC_CLK_TCK")

    def step(self):
        before = self.used()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.last = self.read()
        if self.first is None:
            self.first = self.last
        else:
            self.second = self.second or self.last
            self.millis.append(self.last["millis"])
            self.cpu_millis.append(self.used() - before)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def start(asked, folder, image, threads):
    """Both sides; the trainer first, since it writes the batch. Nothing where PyTorch is not there."""
    program = [asked.step] if asked.step else [*PROGRAM, *FEATURES[asked.device], "--"]
    ours = Side("kestrel", [*program, folder, image, asked.batch, threads, asked.device], TRAINING)
    script = Path(__file__).with_name("step.py")
    python = [sys.executable, script, folder, MODEL, "--threads", threads, "--device", asked.device]
    sides = [ours]
    for name, flags in (("torch, whole batch", []), ("torch, one by one", ["--accumulate"])):
        sides.append(Side(name, [*python, *flags], PEER))
        if "skipped" in sides[-1].hello:
            print(f"SKIPPED: {sides[-1].hello['skipped']}")
            for side in sides:
                side.end()
            return None
    return sides


def away(ours, theirs):
    return abs(theirs - ours) / max(abs(ours), 1e-9)


def parity(ours, peer):
    """What differs too much, in words."""
    wrong = []
    for name, found in peer.hello["outputs"].items():
        share = found["difference"] / max(found["largest"], 1.0)
        print(f"  {name:12} differs by {found['difference']:.1e} at most, beside {found['largest']:.3g}")
        if share > ANSWER:
            wrong.append(name)
    mine, their = ours.first["values"], peer.first["values"]
    parts = ", ".join(f"{name} {away(mine[name], value):.0e}" for name, value in their.items() if name != "total")
    loss, norm = away(mine["total"], their["total"]), away(ours.first["norm"], peer.first["norm"])
    print(f"  first loss {mine['total']:.5f} and {their['total']:.5f}, apart {loss:.1e} ({parts})")
    print(f"  norm of the gradient {ours.first['norm']:.5f} and {peer.first['norm']:.5f}, apart {norm:.1e}")
    mine, their = ours.second["values"], peer.second["values"]
    # What does not hang on the proposals, which the trainer picks anew and the peer keeps.
    steady = max(away(mine[name], their[name]) for name in STEADY)
    print(f"  second step, {', '.join(STEADY)}: apart {steady:.1e} at most")
    wrong += ["the second step"] * (steady > NORM)
    wrong += ["the first loss"] * (loss > LOSS) + ["the gradient's norm"] * (norm > NORM)
    return wrong


def paired(ours, theirs):
    """Median of theirs over ours, round by round: a busy minute counts on both sides."""
    return statistics.median(their / max(our, 1e-9) for our, their in zip(ours, theirs))


def run(asked, folder, image, threads):
    """One setting; figures of every side, or nothing where it was skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    sides = start(asked, folder, image, threads)
    if sides is None:
        return None
    ours = sides[0]
    print(f"\n{image} px, batch {asked.batch}, {threads} thread(s), {asked.device}, torch {sides[1].hello['torch']}")
    for round in range(asked.steps + 1):
        # Whoever follows whom finds the other's caches: the order turns.
        for side in sides if round % 2 == 0 else reversed(sides):
            side.step()
    wrong = parity(ours, sides[1])
    figures = []
    columns = ("ms a step", "fastest", "ratio", "CPU ms", "ratio", "peak MiB", "ratio")
    print(f"  {'':20}" + "".join(f"{column:>10}" for column in columns))
    for side in sides:
        peak = side.last["peak_mib"] or float("nan")
        row = {
            "millis": statistics.median(side.millis), "fastest": min(side.millis),
            "time_ratio": paired(ours.millis, side.millis), "cpu_millis": statistics.median(side.cpu_millis),
            "cpu_ratio": paired(ours.cpu_millis, side.cpu_millis), "peak_mib": peak,
            "memory_ratio": peak / (ours.last["peak_mib"] or float("nan")),
        }
        shown = (f"{value:10.2f}" if name.endswith("ratio") else f"{value:10.0f}" for name, value in row.items())
        print(f"  {side.name:20}" + "".join(shown))
        figures.append({"name": side.name, **row, "steps_millis": side.millis, "steps_cpu_millis": side.cpu_millis,
                        "first": side.first, "last": side.last, "resident_mib": side.hello["resident_mib"]})
        side.end()
    return {"image": image, "batch": asked.batch, "threads": threads, "device": asked.device, "wrong": wrong,
            "sides": figures, "outputs": sides[1].hello["outputs"],
            "torch": sides[1].hello["torch"]}


def main():
    asked = arguments()
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{cores} cores, load {load:.1f} before the first step" + (": contended" if load > 0.5 else ""))
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        settings = [(image, threads) for image in asked.image for threads in asked.threads]
        figures = []
        for image, threads in settings:
            found = run(asked, folder / f"{image}", image, threads)
            if found is None:
                return 0
            figures.append(found)
        if asked.folder:
            result = {"cores": cores, "load_before": load, "settings": figures}
            (folder / "figures.json").write_text(json.dumps(result, indent=1) + "\n")
    wrong = sorted({name for found in figures for name in found["wrong"]})
    if wrong:
        print(f"expected the same numbers on both sides, got others for {', '.join(wrong)}: times mean nothing then")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
