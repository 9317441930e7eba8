"""From batch.json, as training/examples/step.rs writes it, to the tensors of a batch: inputs, targets and weights.

Every label becomes a target and a weight here, so that the losses are a few operations over whole tensors. None of it
is timed.
"""

import math

import numpy as np
import torch

CATEGORIES, COLOURS, GEOMETRY = 20, 9, 5
COLOUR_FROM, CENTRE = 21, 31
MOST = 48
FORBIDDEN = -1e4
ROPE_BASE = 10_000.0
# Weights that training/src/losses and training/src/sft keep as constants.
BACKGROUND_WEIGHT, PRESENT_WEIGHT, NONSENSE_WEIGHT = 0.15, 4.0, 3.0
NEAR_CENTRE, UNNAMED = 0.4, 0.25
AREA_FLOOR = 1.0 / 164.0
CANDIDATES_SHARE, COMPARED_SHARE, NO_ANCHOR_SHARE, JUDGED_SHARE = 0.3, 0.2, 0.1, 0.5
AMBIGUOUS = 2
ROAD = {"car", "van", "truck", "bus"}


def collate(header, pictures, share):
    """Tensors of `pictures`; every loss is multiplied by `share`, one over the pictures of the whole batch."""
    config = header["config"]
    made = {}
    made.update(inputs(config, header["pad"], pictures))
    made.update(dense_labels(header, pictures))
    made.update(spot_labels(header, pictures))
    made.update(word_labels(header, pictures))
    made.update(mask_labels(header, pictures))
    made.update(pointer_labels(header, pictures))
    tensors = {}
    for name, value in made.items():
        value = torch.from_numpy(np.ascontiguousarray(value))
        tensors[name] = value.float() if value.is_floating_point() else value
    tensors["pixels"] = tensors["pixels"].permute(0, 3, 1, 2)  # channels-last memory already
    tensors["share"] = share
    return tensors


def inputs(config, pad, pictures):
    side = config["image"]
    images = (side // 32) ** 2
    lengths = [sum(len(q["ids"]) for q in p["questions"]) for p in pictures]
    text, most = max(2, *lengths), max(len(p["questions"]) for p in pictures)
    count, all_ = len(pictures), images + text
    ids = np.full((count, text), pad, np.int64)
    mask = np.full((count, 1, all_, all_), FORBIDDEN, np.float32)
    positions = np.zeros((count, all_), np.float32)
    picture, slot, answer_at, decoded, start = [], [], [], [], []
    causal = np.tril(np.ones((images, images), bool))
    for n, p in enumerate(pictures):
        m = mask[n, 0]
        np.fill_diagonal(m, 0.0)
        m[:images, :images][causal] = 0.0
        at = 0
        for q, question in enumerate(p["questions"]):
            length, row = len(question["ids"]), images + at
            ids[n, at:at + length] = question["ids"]
            m[row:row + length, :images] = 0.0
            m[row:row + length, row:row + length][np.tril(np.ones((length, length), bool))] = 0.0
            positions[n, row:row + length] = np.arange(1, length + 1)
            if q < p["masks"]:
                decoded.append(len(picture))
            picture.append(n), slot.append(q), answer_at.append(at + length - 2), start.append(at)
            at += length
    half = config["language_width"] // config["heads"] // 2
    angles = positions[:, :, None] * ROPE_BASE ** (-np.arange(half, dtype=np.float32) / half)
    proposals = [p["proposals"] for p in pictures]
    attention = np.full((count, 1, MOST + 1, MOST + 1), FORBIDDEN, np.float32)
    cells = np.zeros((count, MOST), np.int64)
    for n, p in enumerate(proposals):
        attention[n, :, :, :len(p["cells"]) + 1] = 0.0
        cells[n, :len(p["cells"])] = p["cells"]
    return {
        "pixels": np.array([p["pixels"] for p in pictures], np.float32).reshape(count, side, side, 3),
        "ids": ids, "language_mask": mask, "cos": np.cos(angles)[:, :, None], "sin": np.sin(angles)[:, :, None],
        "picture": np.array(picture), "slot": np.array(slot), "slots": np.zeros((count, most), bool),
        "answer_at": np.array(answer_at), "start": np.array(start),
        "decoded": np.array(decoded), "decoded_picture": np.array(picture)[decoded],
        "cells": cells, "attention": attention,
        "codes": np.array([p["codes"] for p in proposals]).reshape(count, MOST, -1),
        "extents": np.array([p["extents"] for p in proposals]).reshape(count, -1, MOST),
    }


def dense_labels(header, pictures):
    weight = header["weights"]["auxiliary"]
    grids = {"coarse": [p["grid"] for p in pictures], "fine": [p["fine_grid"] for p in pictures]}
    made = {}
    for name, of in grids.items():
        parts = [grid_labels(header, grid, weight) for grid in of]
        for key in ("allowed", "weight"):
            made[f"{name}_{key}"] = np.stack([part[key] for part in parts])
        size = len(parts[0]["weight"])
        for key in ("colour_at", "colour", "colour_weight"):
            made[f"{name}_{key}"] = np.concatenate(
                [part[key] + (n * size if key == "colour_at" else 0) for n, part in enumerate(parts)])
        if name == "coarse":
            for key in ("heat", "heat_weight", "token_target", "token_weight"):
                made[key] = np.stack([part[key] for part in parts])
    return made


def grid_labels(header, grid, weight):
    categories, colours = header["categories"], header["colours"]
    exhaustive, side, heat = np.array(grid["exhaustive"]), grid["side"], np.array(grid["heat"])
    kind, colour = cells_of(categories, colours, grid["cells"])
    things, background = kind >= 0, kind == -1
    scale = weight / (things.sum() + BACKGROUND_WEIGHT * len(kind))
    allowed = np.zeros((len(kind), CATEGORIES + 1), bool)
    allowed[background] = np.append(~exhaustive, True)
    allowed[np.flatnonzero(things), kind[things]] = True
    allowed[kind == -2] = True
    shares = np.where(things | (heat > 0), 1.0, exhaustive.mean())
    taught = grid["centres"] * ((kind != -2) | (heat > 0))
    centre_scale = weight / (heat.sum() + 0.02 * len(kind))
    target, token_weight = token_labels(kind, colour, exhaustive, side, weight)
    return {
        "allowed": allowed,
        "weight": scale * (things + BACKGROUND_WEIGHT * background),
        "colour_at": np.flatnonzero(things), "colour": colour[things],
        "colour_weight": np.full(things.sum(), 0.5 * scale),
        "heat": heat, "heat_weight": centre_scale * shares * taught,
        "token_target": target, "token_weight": token_weight,
    }


def cells_of(categories, colours, cells):
    """Category of every cell (-1 background, -2 unknown), and its colour (9 for none that is clear)."""
    kind, colour = np.full(len(cells), -2), np.full(len(cells), COLOURS)
    for at, cell in enumerate(cells):
        if cell == "Background":
            kind[at] = -1
        elif cell != "Unknown":
            of, painted = cell["Thing"]
            kind[at] = categories.index(of)
            colour[at] = COLOURS if painted is None else colours.index(painted)
    return kind, colour


def token_labels(kind, colour, exhaustive, side, weight):
    tokens = side // 2
    blocks = lambda x: x.reshape(tokens, 2, tokens, 2).transpose(0, 2, 1, 3).reshape(tokens * tokens, 4)
    kind, colour = blocks(kind), blocks(colour)
    sure = (kind != -2).all(1)[:, None]
    thing = kind >= 0
    target = np.zeros((tokens * tokens, CENTRE + 1))
    taught = np.zeros_like(target, dtype=bool)
    holds = (kind[:, :, None] == np.arange(CATEGORIES)).any(1)
    target[:, :CATEGORIES], taught[:, :CATEGORIES] = holds, holds | (sure & exhaustive)
    holds = ((colour[:, :, None] == np.arange(COLOURS)) & thing[:, :, None]).any(1)
    unclear = ((colour == COLOURS) & thing).any(1)[:, None]
    painted = slice(COLOUR_FROM, COLOUR_FROM + COLOURS)
    target[:, painted], taught[:, painted] = holds, holds | (sure & ~unclear)
    return target, taught * np.where(target > 0, PRESENT_WEIGHT, 1.0) * weight / (tokens * tokens)


def spot_labels(header, pictures):
    weight = header["weights"]["proposals"]
    made = {"spot_heat": [], "spot_weight": [], "near_at": [], "geometry": [], "near_weight": [],
            "name_target": [], "name_weight": []}
    for n, spots in enumerate(p["spots"] for p in pictures):
        heat, side, things = np.array(spots["heat"]), spots["side"], spots["things"]
        made["spot_heat"].append(heat)
        made["spot_weight"].append(weight / (len(things) + 1) * np.where(heat > 0, 1.0, np.array(spots["sure"])))
        near = heat[heat >= np.float32(NEAR_CENTRE)].sum() + 1.0
        for at in np.flatnonzero(heat >= np.float32(NEAR_CENTRE)):
            thing, each = things[spots["owner"][at]], weight * heat[at] / near
            made["near_at"].append(n * side * side + at)
            made["geometry"].append(geometry(thing["edges"], at, side))
            made["near_weight"].append(0.5 * each)
            target, share = names(header, thing)
            made["name_target"].append(target)
            made["name_weight"].append(each * share)
    return {name: np.array(values) for name, values in made.items()}


def geometry(edges, cell, side):
    x0, y0, x1, y1 = edges
    size = lambda low, high: min(max(math.log(max(high - low, 1e-4) * 16.0), -4.2), 2.8)
    centre = lambda low, high, at: 0.5 * (low + high) * side - at - 0.5
    return [centre(x0, x1, cell % side), centre(y0, y1, cell // side), size(x0, x1), size(y0, y1)]


def names(header, thing):
    own = thing["category"]
    target, weight = np.zeros(CATEGORIES + COLOURS), np.zeros(CATEGORIES + COLOURS)
    for at, other in enumerate(header["categories"]):
        vague = (own == "vehicle" and other in ROAD) or (other == "vehicle" and own in ROAD)
        if own == other or not vague:
            target[at], weight[at] = own == other, 1.0 if own == other else UNNAMED
    if thing["colour"] is not None:
        for at, colour in enumerate(header["colours"]):
            holds = colour == thing["colour"]
            target[CATEGORIES + at], weight[CATEGORIES + at] = holds, 1.0 if holds else UNNAMED
    return target, weight


def word_labels(header, pictures):
    weights = header["weights"]
    classes, answer_weight = [], []
    text = max(2, *(sum(len(q["ids"]) for q in p["questions"]) for p in pictures))
    target, weight = np.zeros((len(pictures), text)), np.zeros((len(pictures), text))
    for n, p in enumerate(pictures):
        words = max(1, sum(len(q["doubt"]) for q in p["questions"]))
        at = 0
        for q in p["questions"]:
            classes.append(q["class"])
            answer_weight.append(weights["answer"] / len(p["questions"]))
            doubt = np.array(q["doubt"])
            target[n, at:at + len(doubt)] = doubt
            weight[n, at:at + len(doubt)] = weights["doubt"] / words * np.where(doubt > 0.5, NONSENSE_WEIGHT, 1.0)
            at += len(q["ids"])
    return {
        "class": np.array(classes), "answer": np.array(header["answers"])[classes],
        "answers": np.array(header["answers"]), "answer_weight": np.array(answer_weight),
        "doubt_target": target, "doubt_weight": weight,
    }


def heat_of(goal, side):
    """The goal pooled to `side` cells, the largest lifted to 1."""
    if goal is None:
        return np.zeros(side * side)
    fine = math.isqrt(len(goal))
    pooled = goal.reshape(side, fine // side, side, fine // side).mean((1, 3)).ravel()
    return pooled / pooled.max() if pooled.max() > 0 else pooled


class Targets:
    """Rows of targets with the weights of their focal and Dice parts."""

    def __init__(self):
        self.target, self.focal, self.dice = [], [], []

    def add(self, target, focal, dice):
        floor = max(AREA_FLOOR * len(target), 4.0)
        self.target.append(target)
        self.focal.append(focal / (target.sum() + floor))
        self.dice.append(dice)

    def named(self, name):
        return {f"{name}_target": np.array(self.target, np.float32), f"{name}_focal": np.array(self.focal),
                f"{name}_dice": np.array(self.dice)}


def mask_labels(header, pictures):
    weights, side = header["weights"], header["config"]["image"]
    coarse, fine, anchor, mask = Targets(), Targets(), Targets(), Targets()
    judged = {"object_target": [], "object_weight": [], "iou_shown": [], "iou_weight": []}
    for p in pictures:
        count = len(p["questions"])
        for at, q in enumerate(p["questions"]):
            kind, goal = goal_of(q["goal"], (side // 4) ** 2)
            each = weights["matching"] / count * (COMPARED_SHARE if q["compared"] else 1.0)
            share = {"Mask": 1.0, "Candidates": CANDIDATES_SHARE, "Empty": 0.0}[kind]
            for targets, level, cells in ((coarse, 0.5, heat_of(goal, side // 16)), (fine, 1.0, goal)):
                empty = kind == "Empty"
                cells = np.zeros((side // 4) ** 2) if cells is None else cells
                focal = weights["empty"] if empty else share * weights["focal"]
                targets.add(cells, each * level * focal, each * level * share * weights["dice"])
            each = weights["anchor"] / count
            heat = q["anchor_heat"]
            if heat is not None:
                anchor.add(np.array(heat), 2.0 * each, each)
            else:
                anchor.add(np.zeros((side // 16) ** 2), NO_ANCHOR_SHARE * each if q["plain"] else 0.0, 0.0)
            if at < p["masks"]:
                each = 1.0 / p["masks"]
                focal = each * (weights["empty"] if kind == "Empty" else share * weights["focal"])
                mask.add(np.zeros((side // 4) ** 2) if goal is None else goal, focal, each * share * weights["dice"])
                known = kind != "Candidates"
                judged["object_target"].append(float(kind == "Mask"))
                judged["object_weight"].append(each * weights["object"] * known)
                judged["iou_shown"].append(kind == "Mask")
                judged["iou_weight"].append(each * weights["iou"] * known)
    made = {name: np.array(values) for name, values in judged.items()}
    for name, targets in (("coarse_match", coarse), ("fine_match", fine), ("anchor", anchor), ("mask", mask)):
        made.update(targets.named(name))
    most = made["mask_target"].max(1)
    made["overlap_threshold"] = np.where(most > 0.5, 0.5, 0.75 * most)[:, None]
    return made


def goal_of(goal, cells):
    if goal == "Empty":
        return "Empty", None
    (kind, values), = goal.items()
    values = np.array(values)
    if kind not in ("Mask", "Candidates") or len(values) != cells:
        raise ValueError(f"expected a mask or candidates of {cells} cells, got {kind} of {len(values)}")
    return kind, values


def pointer_labels(header, pictures):
    made = {name: [] for name in (
        "pointer_target", "pointer_weight", "choice_allowed", "choice_weight", "single_target", "single_weight",
        "alike_target", "alike_weight", "related_allowed", "related_weight", "found_target", "found_weight")}
    for p in pictures:
        owners = p["proposals"]["owners"]
        there = np.arange(MOST) < len(owners)
        owned = lambda of: np.array([at < len(owners) and owners[at] is not None and owners[at] in of
                                     for at in range(MOST)])
        for q in p["questions"]:
            share = CANDIDATES_SHARE if q["class"] == AMBIGUOUS else 1.0
            each = share * header["weights"]["pointing"] / len(p["questions"])
            fits, targets = owned(q["targets"]), q["targets"]
            made["pointer_target"].append(fits)
            made["pointer_weight"].append(each / (fits.sum() + 2.0) * there)
            made["choice_allowed"].append(np.append(not fits.any(), fits))
            chosen = len(targets) == 1 or (not targets and q["class"] == 1)
            made["choice_weight"].append(each * chosen)
            made["single_target"].append(len(targets) == 1)
            made["single_weight"].append(JUDGED_SHARE * each * bool(targets))
            made["alike_target"].append(owned(q["alike"] or []))
            known = there & (q["alike"] is not None)
            made["alike_weight"].append(JUDGED_SHARE * each * known / max(known.sum(), 1))
            of = owned(q["related"] or [])
            made["related_allowed"].append(np.append(not of.any(), of))
            made["related_weight"].append(JUDGED_SHARE * each * (q["related"] is not None))
            made["found_target"].append(q["class"] == 0)
            made["found_weight"].append(each * (q["class"] != AMBIGUOUS))
    bools = {"choice_allowed", "related_allowed"}
    return {name: np.array(values, bool if name in bools else np.float64) for name, values in made.items()}
