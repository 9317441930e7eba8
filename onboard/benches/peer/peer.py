"""What `onboard run` does, with the libraries that a Python programmer would take.

Frames come on kestrel/{drone}/camera as raw RGB, a query on kestrel/{drone}/query; every frame is preprocessed with
Pillow, run through the bundle's three graphs in ONNX Runtime, judged by the bundle's thresholds, and the answer is
published as CBOR on kestrel/{drone}/outcome/{query id}. Message formats: docs/reference/link.cddl.

The whole frame only (no tiles), no gate, no tracking: what the benchmark switches off in `onboard`, too, or leaves to it.

    python peer.py --bundle models/released/kestrel-s --drone peer --listen tcp/127.0.0.1:7450
    python peer.py --bundle models/released/kestrel-s --check      # the canary frames, without a network
"""

import argparse
import json
import math
import pathlib
import sys
import threading
import time

import cbor2
import numpy as np
import onnxruntime as ort
from PIL import Image
from pycocotools import mask as coco
from scipy import ndimage
from tokenizers import Tokenizer

SIZE = 512
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
SCALE = (1.0 / (255.0 * DEVIATION)).reshape(3, 1, 1).astype(np.float32)
OFFSET = (-MEAN / DEVIATION).reshape(3, 1, 1).astype(np.float32)
GREY = 114

# onboard/perception/src/proposals.rs
GEOMETRY, NAMES, MOST, WAVES, LENGTHS = 5, 29, 48, 6, 8
SPOT, CODE = GEOMETRY + NAMES, LENGTHS + 4 * WAVES
LEAST_SCORE, SAME, UNIT, HIDDEN = 0.1, 0.65, 1.0 / 16.0, -1e4
SPECK_SHARE = 0.25


def half_up(value):
    """Rounds a half away from zero, as Rust does; Python rounds it to even."""
    return int(math.floor(value + 0.5))


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


class Letterbox:
    def __init__(self, width, height):
        scale = SIZE / max(width, height)
        self.inner = (min(max(half_up(width * scale), 1), SIZE), min(max(half_up(height * scale), 1), SIZE))
        self.pad = ((SIZE - self.inner[0]) // 2, (SIZE - self.inner[1]) // 2)
        self.scale = (self.inner[0] / width, self.inner[1] / height)
        self.frame = (width, height)


def preprocess(picture, out):
    """Antialiased bilinear resize into a grey letterbox, ImageNet mean and deviation, into `out` [1, 3, 512, 512]."""
    height, width = picture.shape[:2]
    box = Letterbox(width, height)
    if box.inner != (width, height):
        picture = np.asarray(Image.fromarray(picture).resize(box.inner, Image.Resampling.BILINEAR))
    out[0] = GREY * SCALE + OFFSET
    x, y = box.pad
    inside = out[0, :, y : y + box.inner[1], x : x + box.inner[0]]
    np.multiply(picture.transpose(2, 0, 1), SCALE, out=inside)
    inside += OFFSET
    return box


def pick(spots):
    """Peaks of the spots, strongest first, without those that overlap a stronger one: cells and edges."""
    side = math.isqrt(len(spots))
    logit = spots[:, 0].reshape(side, side)
    padded = np.full((side + 2, side + 2), -np.inf, np.float32)
    padded[1:-1, 1:-1] = logit
    peak = logit > math.log(LEAST_SCORE / (1.0 - LEAST_SCORE))
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) == (1, 1):
                continue
            other = padded[dy : dy + side, dx : dx + side]
            # Of equals the first counts.
            peak &= logit > other if (dy, dx) < (1, 1) else logit >= other
    cells = np.flatnonzero(peak)
    cells = cells[np.argsort(-spots[cells, 0], kind="stable")]
    spot = spots[cells]
    x = (cells % side + 0.5 + np.clip(spot[:, 1], -2, 2)) / side
    y = (cells // side + 0.5 + np.clip(spot[:, 2], -2, 2)) / side
    half = 0.5 * UNIT * np.exp(np.clip(spot[:, 3:5], -4.2, 2.8))
    edges = np.stack([x - half[:, 0], y - half[:, 1], x + half[:, 0], y + half[:, 1]], 1).clip(0, 1)
    areas = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    kept = []
    for at in range(len(cells)):
        if kept:
            low = np.maximum(edges[kept, :2], edges[at, :2])
            high = np.minimum(edges[kept, 2:], edges[at, 2:])
            both = (high - low).clip(0).prod(1)
            either = areas[kept] + areas[at] - both
            if np.any(both >= SAME * either):
                continue
        kept.append(at)
        if len(kept) == MOST:
            break
    return cells[kept], edges[kept].astype(np.float32)


def proposals(spots, sides):
    """The mask graph's inputs that say what stands out: names, codes, extents, attention."""
    cells, edges = pick(spots)
    count = len(cells)
    names = np.zeros((1, MOST, NAMES), np.float32)
    names[0, :count] = spots[cells, GEOMETRY:]
    codes = np.zeros((1, MOST, CODE), np.float32)
    centre = 0.5 * (edges[:, :2] + edges[:, 2:])
    codes[0, :count, :6] = 2.0 * np.concatenate([centre, edges], 1) - 1.0
    codes[0, :count, 6:8] = 0.5 * np.log(np.maximum(edges[:, 2:] - edges[:, :2], 1e-4) / UNIT)
    angles = np.pi * centre[:, :, None] * (1 << np.arange(WAVES))
    waves = np.stack([np.sin(angles), np.cos(angles)], 3)
    codes[0, :count, LENGTHS:] = waves.reshape(count, 4 * WAVES)
    rows = []
    for side in sides:
        grid = np.arange(side, dtype=np.float32)[:, None]
        for low, high in ((1, 3), (0, 2)):
            share = np.minimum(edges[:, high] * side, grid + 1) - np.maximum(edges[:, low] * side, grid)
            rows.append(np.pad(share.clip(0, 1), ((0, 0), (0, MOST - count))))
    extents = np.concatenate(rows)[None].astype(np.float32)
    attention = np.where(np.arange(MOST + 1) <= count, 0.0, HIDDEN).astype(np.float32)
    return names, codes, extents, np.tile(attention, (1, MOST + 1, 1))


def axis(count, pad, scale, side):
    """Cells on both sides of every pixel's centre along one axis, and how far it is towards the second."""
    place = ((np.arange(count) + 0.5) * scale + pad) * (side / SIZE) - 0.5
    place = place.clip(0, side - 1)
    cell = place.astype(np.intp)
    return cell, np.minimum(cell + 1, side - 1), (place - cell).astype(np.float32)


def draw(logits, box, threshold):
    """The mask in pixels of the frame: bilinear logits cut at a probability."""
    side = logits.shape[-1]
    level = math.log(threshold / (1.0 - threshold))
    if logits.max() <= level:
        return np.zeros(box.frame[::-1], bool)
    cell, following, share = axis(box.frame[1], box.pad[1], box.scale[1], side)
    rows = logits[cell] + (logits[following] - logits[cell]) * share[:, None]
    cell, following, share = axis(box.frame[0], box.pad[0], box.scale[0], side)
    return rows[:, cell] + (rows[:, following] - rows[:, cell]) * share > level


def without_specks(mask, least):
    """Clears 8-connected pieces of fewer pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if least <= 1 or not len(rows):
        return mask
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, count = ndimage.label(part, np.ones((3, 3)))
    if count > 1:
        part &= np.bincount(labels.ravel())[labels] >= least
    return mask


class Peer:
    def __init__(self, bundle, threads):
        self.bundle = pathlib.Path(bundle)
        self.manifest = json.loads((self.bundle / "manifest.json").read_text())
        self.thresholds = json.loads((self.bundle / "thresholds.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(self.bundle / "tokenizer.json"))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        # As in `onboard`: three sessions take turns, and a pool that spins would hold the next one's cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.vision, self.language, self.mask = (
            ort.InferenceSession(str(self.bundle / name), options, providers=["CPUExecutionProvider"])
            for name in ("vision.onnx", "language.onnx", "mask.onnx")
        )
        self.image = np.empty((1, 3, SIZE, SIZE), np.float32)

    def read(self, text):
        """Token ids of a query as the language graph takes them, where `<answer>` stands, and the words' offsets."""
        text = text.strip()
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        answers, most = self.manifest["answer_tokens"], self.manifest["max_tokens"]
        ids = encoded.ids[: most - 2]
        index = len(ids)
        ids = ids + [answers["answer"], answers["seg"]]
        ids += [answers["pad"]] * (most - len(ids))
        return text, np.array([ids], np.int64), np.array([[index]], np.int64), encoded.offsets

    def word_doubts(self, text, offsets, doubt):
        start = 0
        for word in text.split():
            start = text.index(word, start)
            end = start + len(word)
            of = [float(d) for (a, b), d in zip(offsets, doubt) if a < end and b > start]
            start = end
            if of:
                yield word, sum(of) / len(of)

    def answer(self, picture, query):
        """The outcome of one query about one frame, as link.cddl has it, and its mask."""
        box = preprocess(picture, self.image)
        tokens, embed, fine, spots = self.vision.run(["tokens", "embed", "fine", "spots"], {"image": self.image})
        sides = (SIZE // 16, SIZE // 4)
        names, codes, extents, attention = proposals(spots[0], sides)
        text, ids, index, offsets = query
        logits, seg, doubt = self.language.run(
            ["logits", "seg", "doubt"], {"tokens": tokens, "ids": ids, "index": index}
        )
        drawn, iou, thing = self.mask.run(
            ["mask", "iou", "object"],
            {
                "embed": embed,
                "fine": fine,
                "seg": seg,
                "names": names,
                "codes": codes,
                "extents": extents,
                "attention": attention,
            },
        )
        return self.judge(box, logits[0], doubt[0], (drawn[0], float(iou[0, 0]), float(thing[0, 0])), text, offsets)

    def judge(self, box, logits, doubt, drawn, text, offsets):
        given, answers = self.thresholds, self.manifest["answer_tokens"]
        mask_logits, iou, thing = drawn
        names = ("seg", "absent", "ambiguous", "not_understood", "unseeable")
        said = {name: float(logits[answers[name]]) for name in names}
        refusals = [said[name] for name in names[1:]]
        most = max(refusals)
        silence = most + math.log(sum(math.exp(value - most) for value in refusals)) - said["seg"]
        weights, bias = given["presence"]["weights"], given["presence"]["bias"]
        presence = sigmoid(sum(w * f for w, f in zip(weights, (silence, thing, iou))) + bias)
        model_pixels = box.scale[0] * box.scale[1]
        least = given["min_area_pixels"]
        mask = draw(mask_logits, box, given["mask_threshold"])
        mask = without_specks(mask, half_up(least / model_pixels * SPECK_SHARE))
        pixels = int(np.count_nonzero(mask))
        area = pixels * model_pixels
        largest = max(said.values())
        word, doubted = max(self.word_doubts(text, offsets, doubt), key=lambda pair: pair[1], default=(None, -1e9))
        if sigmoid(max(doubted, -50.0)) >= given["doubt_threshold"] or said["not_understood"] >= largest:
            return refused({"reason": "query_not_understood", "word": word}, presence), None
        if presence >= given["presence_threshold"]:
            if area >= least and pixels > 0:
                return segmented(mask, pixels, presence, sigmoid(iou)), mask
            return refused({"reason": "target_too_small"}, presence), None
        if presence >= 0.5 * given["presence_threshold"] and pixels > 0 and said["seg"] >= largest:
            return refused({"reason": "low_confidence"}, presence), None
        several = said["ambiguous"] > said["absent"] and pixels > 0
        if not several and said["absent"] >= said["unseeable"]:
            return refused({"reason": "target_absent"}, presence), None
        if several and said["ambiguous"] >= said["unseeable"]:
            return refused({"reason": "target_ambiguous", "candidates": []}, presence), None
        return refused({"reason": "target_unseeable"}, presence), None


def refused(verdict, presence):
    return {"kind": "refused", "verdict": verdict, "evidence": [["presence", presence]], "advice": ""}


def segmented(mask, pixels, presence, predicted_iou):
    height, width = mask.shape
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    segment = {
        "mask": {"width": width, "height": height, "counts": encoded["counts"].decode()},
        "presence": presence,
        "predicted_iou": predicted_iou,
        "bounding_box": [int(value) for value in coco.toBbox(encoded)],
        "area_pixels": pixels,
    }
    return {"kind": "segmented", "masks": [segment]}


class Latest:
    """One frame at most, the newest."""

    def __init__(self):
        self.filled = threading.Condition()
        self.item = None
        self.count = 0

    def put(self, item):
        with self.filled:
            self.item = (self.count, item)
            self.count += 1
            self.filled.notify()

    def take(self):
        with self.filled:
            self.filled.wait_for(lambda: self.item is not None)
            item, self.item = self.item, None
            return item


def serve(peer, drone, listen):
    import zenoh

    config = zenoh.Config()
    for key, value in (
        ("mode", "peer"),
        ("listen/endpoints", [listen]),
        ("scouting/multicast/enabled", False),
    ):
        config.insert_json5(key, json.dumps(value))
    frames, asked = Latest(), []

    def ask(received):
        query = cbor2.loads(received.payload.to_bytes())
        asked[:] = [(query["id"], query["text"], peer.read(query["text"]), received)]

    def take(sample):
        header = cbor2.loads(sample.attachment.to_bytes())
        frames.put((header, sample.payload, time.monotonic()))

    with zenoh.open(config) as session:
        questions = session.declare_queryable(f"kestrel/{drone}/query", ask)
        camera = session.declare_subscriber(f"kestrel/{drone}/camera", take)
        print(f"listening on {listen}", file=sys.stderr, flush=True)
        while True:
            number, (header, payload, admitted) = frames.take()
            if not asked:
                continue
            query_id, text, query, asker = asked[0]
            shape = (header["height_pixels"], header["width_pixels"], 3)
            picture = np.frombuffer(payload.to_bytes(), np.uint8).reshape(shape)
            outcome, _ = peer.answer(picture, query)
            reply = {
                "drone": drone,
                "query_id": query_id,
                "query_text": text,
                "frame": number,
                "frame_width": shape[1],
                "frame_height": shape[0],
                "capture_unix_nanos": header["capture_unix_nanos"],
                "latency_micros": (age := int((time.monotonic() - admitted) * 1e6)),
                "frame_age_micros": age,
                "model": f"{peer.manifest['name']}@{peer.manifest['version']}",
                "engine": "python/onnxruntime",
                "outcome": outcome,
            }
            encoded = cbor2.dumps(reply)
            if asker is not None:
                asker.reply(f"kestrel/{drone}/query", encoded, encoding=zenoh.Encoding.APPLICATION_CBOR)
                # A query ends, for its asker, when it is let go.
                asker.drop()
                asked[0] = (query_id, text, query, None)
            session.put(
                f"kestrel/{drone}/outcome/{query_id}",
                encoded,
                encoding=zenoh.Encoding.APPLICATION_CBOR,
                congestion_control=zenoh.CongestionControl.BLOCK,
                express=True,
            )
    del questions, camera


def check(peer):
    """Asks the bundle's canaries, without a network."""
    wrong = 0
    for path in sorted((peer.bundle / "canary").glob("*.json")):
        spec = json.loads(path.read_text())
        picture = np.asarray(Image.open(path.with_suffix(".png")).convert("RGB"))
        start = time.perf_counter()
        outcome, mask = peer.answer(picture, peer.read(spec["query"]["text"]))
        millis = (time.perf_counter() - start) * 1e3
        expected = spec.get("expected")
        if expected is None:
            good, told = mask is None, outcome.get("verdict", {}).get("reason", "a mask")
        else:
            size = [expected["height"], expected["width"]]
            target = {"size": size, "counts": expected["counts"].encode()}
            found = coco.encode(np.asfortranarray(np.zeros(size, bool) if mask is None else mask, np.uint8))
            overlap = float(coco.iou([found], [target], [0])[0, 0])
            good, told = overlap >= spec["min_iou"], f"IoU {overlap:.4f}"
        wrong += not good
        print(f"{'ok   ' if good else 'WRONG'} {path.stem} {spec['query']['text']!r}: {told}, {millis:.0f} ms")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--drone", default="peer")
    parser.add_argument("--listen", default="tcp/127.0.0.1:7450")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    peer = Peer(arguments.bundle, arguments.threads)
    if arguments.check:
        sys.exit(check(peer))
    serve(peer, arguments.drone, arguments.listen)


if __name__ == "__main__":
    main()
