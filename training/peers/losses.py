"""The supervised losses of training/src/losses and training/src/sft/pass.rs, over whole batches.

Each returns a sum over the batch; batch.py has put every weight into the tensors.
"""

import torch
import torch.nn.functional as F

from batch import CATEGORIES, CENTRE, COLOUR_FROM, GEOMETRY

FULL_SHARE = 0.1


def binary(z, target, weight):
    return F.binary_cross_entropy_with_logits(z, target, weight, reduction="sum")


def focal(z, target):
    """Quality focal loss, element by element."""
    return (z.sigmoid() - target).square() * F.binary_cross_entropy_with_logits(z, target, reduction="none")


def dense(z, b, name):
    """Focal and Dice of rows of mask logits."""
    target, p = b[name + "_target"], z.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(z, target, reduction="none")
    sharp = ((p - target).square() * entropy).sum(1)
    dice = 1.0 - (2.0 * (p * target).sum(1) + 1.0) / (p.sum(1) + target.sum(1) + 1.0)
    return (sharp * b[name + "_focal"] + dice * b[name + "_dice"]).sum()


def one_of(z, allowed, weight):
    """Cross-entropy against any of the allowed."""
    right = torch.logsumexp(z.masked_fill(~allowed, float("-inf")), -1)
    return (weight * (torch.logsumexp(z, -1) - right)).sum()


def grid(z, b, name):
    loss = one_of(z[..., :CATEGORIES + 1], b[name + "_allowed"], b[name + "_weight"])
    colours = z[..., COLOUR_FROM:CENTRE].flatten(0, 1)[b[name + "_colour_at"]]
    each = F.cross_entropy(colours, b[name + "_colour"], reduction="none")
    return loss + (each * b[name + "_colour_weight"]).sum()


def losses(out, b):
    """Losses by the names that the trainer's log gives them."""
    coarse, fine, anchor = out["alike"]
    auxiliary = grid(out["names_coarse"], b, "coarse") + grid(out["names_fine"], b, "fine")
    auxiliary = auxiliary + (b["heat_weight"] * focal(out["names_coarse"][..., CENTRE], b["heat"])).sum()
    tokens = out["names_tokens"]
    auxiliary = auxiliary + binary(tokens, b["token_target"], b["token_weight"])

    spots = out["spots"]
    proposals = (b["spot_weight"] * focal(spots[..., 0], b["spot_heat"])).sum()
    near = spots.flatten(0, 1)[b["near_at"]]
    away = torch.sqrt(1.0 + (near[:, 1:GEOMETRY] - b["geometry"]).square()) - 1.0
    proposals = proposals + (b["near_weight"][:, None] * away).sum()
    proposals = proposals + binary(near[:, GEOMETRY:], b["name_target"], b["name_weight"])

    logits = out["logits"]
    restricted = F.cross_entropy(logits[:, b["answers"]], b["class"], reduction="none")
    full = F.cross_entropy(logits, b["answer"], reduction="none")
    answer = (b["answer_weight"] * (restricted + FULL_SHARE * full)).sum()

    pointing = binary(out["pointer"], b["pointer_target"], b["pointer_weight"])
    pointing = pointing + one_of(out["choice"], b["choice_allowed"], b["choice_weight"])
    pointing = pointing + binary(out["single"], b["single_target"], b["single_weight"])
    pointing = pointing + binary(out["alike_pointer"], b["alike_target"], b["alike_weight"])
    pointing = pointing + one_of(out["anchor"], b["related_allowed"], b["related_weight"])
    pointing = pointing + binary(out["found"].view(-1), b["found_target"], b["found_weight"])

    with torch.no_grad():
        shown, wanted = out["mask"] > 0, b["mask_target"] > b["overlap_threshold"]
        overlap = (shown & wanted).sum(1) / (shown | wanted).sum(1).clamp(min=1) * b["iou_shown"]
    return {
        "answer": answer,
        "mask": dense(out["mask"], b, "mask"),
        "matching": dense(coarse, b, "coarse_match") + dense(fine, b, "fine_match"),
        "object": binary(out["object"], b["object_target"], b["object_weight"]),
        "iou": binary(out["iou"], overlap, b["iou_weight"]),
        "doubt": binary(out["doubt"], b["doubt_target"], b["doubt_weight"]),
        "auxiliary": auxiliary,
        "anchor": dense(anchor, b, "anchor"),
        "proposals": proposals,
        "pointing": pointing,
    }
