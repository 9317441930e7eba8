"""The trainer's step in PyTorch: forward, losses, backward, clipping, AdamW and the average, in f32.

    python step.py FOLDER MODEL [--threads N] [--accumulate] [--device cpu|cuda]

FOLDER holds what training/examples/step.rs wrote. Like that program it says `ready`, then answers every line on
standard input by one step and a line of JSON. On a GPU clocks are read when it has done what it was asked for.
"""

import argparse
import json
import sys
import time
from pathlib import Path


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--accumulate", action="store_true", help="one picture at a time, gradients added up")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what computes; cuda is the first GPU")
    return parser.parse_args()


def memory(name):
    """A line of /proc/self/status in MiB; nothing where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), None)


def forget_peak():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # The peak is the whole program's then.


def tell(line):
    print(json.dumps(line), flush=True)


def to(batch, device):
    """A batch with its tensors on a device; what is no tensor stays."""
    return {name: value.to(device) if hasattr(value, "to") else value for name, value in batch.items()}


def use(torch, device):
    """A function that waits until the device has done all that it was asked for; products and convolutions stay f32."""
    if device == "cpu":
        return lambda: None
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.cuda.synchronize


class Optimiser:
    """training/src/sft/optimiser.rs on torch's fused AdamW: the trunk's rates follow the size of its weights."""

    def __init__(self, torch, model, header):
        self.torch, self.settings, self.rate = torch, header["optimiser"], header["rate"]
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        plain, decayed, self.trunk, groups = [], [], [], []
        decay = self.settings["weight_decay"]
        for key, p in model.p.items():
            name = model.names[key]
            decays = p.dim() > 1 and name.endswith(".weight")
            if not p.requires_grad:
                continue
            if name.startswith("trunk."):
                groups.append({"params": [p], "weight_decay": decay if decays else 0.0})
                self.trunk.append(p)
            else:
                (decayed if decays else plain).append(p)
        groups += [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": decay}]
        betas = (self.settings["beta1"], self.settings["beta2"])
        self.adam = torch.optim.AdamW(groups, lr=self.rate, betas=betas, eps=1e-8, fused=True)
        self.steps = 0

    def step(self):
        torch = self.torch
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings["clip_norm"])
        sizes = torch.stack(torch._foreach_norm(self.trunk)).tolist()
        for group, p, size in zip(self.adam.param_groups, self.trunk, sizes):
            size = size / p.numel() ** 0.5 / 0.1
            group["lr"] = self.rate * self.settings["trunk_share"] * min(max(size, 0.01), 3.0)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.steps += 1
        keep = min(self.settings["average_decay"], (1.0 + self.steps) / (10.0 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1.0 - keep)
        return norm.item()


def compare(torch, folder, outputs, b):
    """Largest differences of the model's answers from those that the trainer wrote, beside their largest value."""
    from safetensors.torch import load_file

    theirs, found = load_file(folder / "outputs.safetensors"), {}
    text = b["text_lengths"]
    for number, (queries, decoded) in enumerate(zip(b["rows"], b["decoded_rows"])):
        mine = {
            "spots": outputs["spots"][number], "doubt": outputs["doubt"][number, :text[number]],
            **{name: outputs[name][queries] for name in ("logits", "pointer", "choice", "found")},
            **{name: outputs[name][decoded] for name in ("mask", "iou", "object")},
        }
        for name, value in mine.items():
            their = theirs[f"{number}.{name}"].flatten()
            # What attention hides is -1e4 in both.
            told = their > -1e3
            away = (value.flatten().cpu() - their)[told].abs().max().item()
            before = found.get(name, (0.0, 0.0))
            found[name] = (max(before[0], away), max(before[1], their[told].abs().max().item()))
    return {name: {"difference": away, "largest": largest} for name, (away, largest) in found.items()}


def spans(pictures):
    """What belongs to each picture in the lists of queries."""
    rows, decoded, text = [], [], []
    for p in pictures:
        at, of = (rows[-1].stop if rows else 0), (decoded[-1].stop if decoded else 0)
        rows.append(slice(at, at + len(p["questions"])))
        decoded.append(slice(of, of + p["masks"]))
        text.append(max(2, sum(len(q["ids"]) for q in p["questions"])))
    return {"rows": rows, "decoded_rows": decoded, "text_lengths": text}


def main():
    asked = arguments()
    try:
        import torch
        from safetensors.torch import load_file
    except ImportError as error:
        tell({"skipped": f"{error}; pip install torch numpy safetensors"})
        return
    if asked.device == "cuda" and not torch.cuda.is_available():
        tell({"skipped": "PyTorch finds no CUDA device"})
        return
    from batch import collate
    from losses import losses
    from model import Kestrel

    torch.set_num_threads(asked.threads)
    done = use(torch, asked.device)
    header = json.loads((asked.folder / "batch.json").read_text())
    pictures = header.pop("pictures")
    groups = [[p] for p in pictures] if asked.accumulate else [pictures]
    share = 1.0 / len(pictures)
    batches = [to(collate(header, group, share), asked.device) for group in groups]
    whole = {**to(collate(header, pictures, share), asked.device), **spans(pictures)}
    del pictures, groups
    model = Kestrel(header["config"], load_file(asked.model), header["frozen"]).to(asked.device)
    with torch.no_grad():
        compared = compare(torch, asked.folder, model(whole), whole)
    del whole
    optimiser = Optimiser(torch, model, header)
    forget_peak()
    if asked.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    tell({"ready": True, "resident_mib": memory("VmRSS:"), "outputs": compared, "torch": torch.__version__})
    for _ in sys.stdin:
        done()
        start, values, times = time.perf_counter(), {}, [0.0, 0.0, 0.0]
        for b in batches:
            clock = time.perf_counter()
            outputs = model(b)
            done()
            times[0] += time.perf_counter() - clock
            clock = time.perf_counter()
            parts = losses(outputs, b)
            total = sum(parts.values()) * b["share"]
            done()
            times[1] += time.perf_counter() - clock
            clock = time.perf_counter()
            total.backward()
            done()
            times[2] += time.perf_counter() - clock
            for name, part in parts.items():
                values[name] = values.get(name, 0.0) + part.item() * b["share"]
        clock = time.perf_counter()
        norm = optimiser.step()
        done()
        now = time.perf_counter()
        values["total"] = sum(values.values())
        on_gpu = torch.cuda.max_memory_allocated() / 2**20 if asked.device == "cuda" else None
        tell({
            "millis": (now - start) * 1e3, "optimiser_millis": (now - clock) * 1e3, "norm": norm, "values": values,
            "millis_by_part": dict(zip(("forward", "loss", "backward"), (t * 1e3 for t in times))),
            "peak_mib": memory("VmHWM:"), "gpu_peak_mib": on_gpu,
        })


if __name__ == "__main__":
    main()
