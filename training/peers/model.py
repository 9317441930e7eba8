"""kestrel-s in PyTorch: the model of models/src/kestrel, batched, with parameters by the same names.

Maps are NCHW tensors in channels-last memory; rows are [N, L, D]. Queries of all pictures of a batch lie in one list,
each with the number of its picture.
"""

import math

import torch
import torch.nn.functional as F

STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320)]
GEOMETRY, LENGTHS, CATEGORIES, NAMES = 5, 8, 20, 29
APART = [0.06, 0.06, 0.15, 0.01]
COUNTED = 0.25
HIDDEN = -1e4


def blocks():
    """(index, kernel, stride, input, hidden, output) of every inverted residual block."""
    width, at = 32, 0
    for repeats, kernel, stride, expand, out in STAGES:
        for repeat in range(repeats):
            yield at, kernel, stride if repeat == 0 else 1, width, width * expand, out
            width, at = out, at + 1


def grid(side, width):
    """Sine and cosine codes of a square grid, [1, side², width]."""
    quarter = width // 4
    wave = math.pi * 16.0 ** (torch.arange(quarter) / (quarter - 1))
    at = (torch.arange(side) + 0.5) / side
    code = torch.cat([torch.sin(at[:, None] * wave), torch.cos(at[:, None] * wave)], 1)
    x = code[None].expand(side, side, -1)
    return torch.cat([x, x.transpose(0, 1)], 2).reshape(1, side * side, width)


def rows(x):
    """Map to rows; a view of channels-last memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def to_map(x, side):
    return x.unflatten(1, (side, side)).permute(0, 3, 1, 2)


class Kestrel(torch.nn.Module):
    def __init__(self, config, weights, frozen=()):
        super().__init__()
        self.c = config
        self.names = {}
        self.p = torch.nn.ParameterDict()
        for name, value in weights.items():
            value = value.float()
            if value.dim() == 3 and name.endswith(".weight"):  # depthwise [k, k, C]
                value = value.permute(2, 0, 1).unsqueeze(1).contiguous(memory_format=torch.channels_last)
            elif value.dim() == 4:  # dense [out, k, k, in]
                value = value.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
            key = name.replace(".", "/")
            self.names[key] = name
            self.p[key] = torch.nn.Parameter(value.clone(), requires_grad=not name.startswith(tuple(frozen)))
        side = config["image"] // 16
        self.register_buffer("place16", grid(side, config["mask_width"]))
        self.register_buffer("place32", grid(side // 2, config["language_width"]))

    def get(self, name):
        return self.p[name.replace(".", "/")]

    def linear(self, x, name, bias=True):
        return F.linear(x, self.get(name + ".weight"), self.get(name + ".bias") if bias else None)

    def conv1(self, x, name, bias=True):
        """Affine over the channels of a map: a matrix product over channels-last rows."""
        return self.linear(x.permute(0, 2, 3, 1), name, bias).permute(0, 3, 1, 2)

    def conv(self, x, name, kernel, stride, groups=1):
        weight, bias = self.get(name + ".weight"), self.get(name + ".bias")
        if stride == 1:
            return F.conv2d(x, weight, bias, padding=kernel // 2, groups=groups)
        # TensorFlow's SAME: the smaller half of the padding comes first.
        pad = kernel - stride
        x = F.pad(x, (pad // 2, pad - pad // 2, pad // 2, pad - pad // 2))
        return F.conv2d(x, weight, bias, stride=stride, groups=groups)

    def depthwise(self, x, name, kernel=3, stride=1):
        return self.conv(x, name, kernel, stride, groups=x.shape[1])

    def rms_norm(self, x, name):
        return F.rms_norm(x, x.shape[-1:], self.get(name + ".weight"), 1e-6)

    def layer_norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.get(name + ".weight"), self.get(name + ".bias"), 1e-5)

    def attention(self, q, k, v, heads, kv_heads, mask=None):
        q, k, v = (x.unflatten(2, (h, -1)).transpose(1, 2) for x, h in ((q, heads), (k, kv_heads), (v, kv_heads)))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=heads != kv_heads)
        return y.transpose(1, 2).flatten(2)

    # Vision

    def trunk(self, x):
        x = F.relu6(self.conv(x, "trunk.stem", 3, 2))
        taps = []
        for at, kernel, stride, width, hidden, out in blocks():
            name = f"trunk.blocks.{at}"
            if stride == 2:
                taps.append(x)
            y = x
            if hidden != width:
                y = F.relu6(self.conv1(y, name + ".expand"))
            y = F.relu6(self.depthwise(y, name + ".depthwise", kernel, stride))
            y = self.conv1(y, name + ".project")
            x = x + y if stride == 1 and width == out else y
        return taps, x

    def merge(self, lateral, above, level):
        above = F.interpolate(self.conv1(above, "neck.above" + level, bias=False), scale_factor=2, mode="nearest")
        x = F.relu(self.conv1(lateral, "neck.lateral" + level) + above)
        return F.relu(self.conv1(self.depthwise(x, "neck.smooth" + level), "neck.mix" + level))

    def vision(self, image):
        (_, s4, s8, s16), s32 = self.trunk(image)
        p32 = self.conv1(s32, "neck.lateral32")
        p16 = self.merge(s16, p32, "16")
        p8 = self.merge(s8, p16, "8")
        p4 = self.merge(s4, p8, "4")
        spots = self.linear(F.relu(self.linear(rows(p8), "proposals.hidden")), "proposals.out")
        down = self.conv1(self.depthwise(p8, "neck.down", stride=2), "neck.down_mix")
        embed = self.conv1(p16 + down, "neck.embed")
        pooled = self.conv1(self.depthwise(embed, "projector.pool", stride=2), "projector.pool_mix")
        tokens = self.linear(F.gelu(self.linear(rows(pooled + p32), "projector.in")), "projector.out")
        tokens = tokens + self.linear(self.place32, "projector.place", bias=False)
        return {
            "tokens": self.rms_norm(tokens, "projector.norm"),
            "embed": self.layer_norm(rows(embed), "neck.embed_norm"),
            "fine": self.layer_norm(rows(p4), "neck.fine_norm"),
            "spots": spots,
        }

    # Language

    def language(self, tokens, b):
        c = self.c
        embed = self.get("language.embed_tokens.weight")
        x = torch.cat([tokens, F.embedding(b["ids"], embed) * math.sqrt(c["language_width"])], 1)
        for at in range(c["language_layers"]):
            x = self.decoder_layer(x, b, f"language.layers.{at}")
        hidden = self.rms_norm(x[:, tokens.shape[1]:], "language.norm")
        logits = F.linear(hidden[b["picture"], b["answer_at"]], embed)
        seg = hidden[b["picture"], b["answer_at"] + 1]
        seg = self.linear(F.relu(self.linear(seg, "seg.in")), "seg.out")
        return logits, seg[:, None], self.linear(hidden, "language.doubt").squeeze(2)

    def rope(self, x, heads, cos, sin):
        x = x.unflatten(2, (heads, -1))
        x0, x1 = x.chunk(2, 3)
        return torch.cat([x0 * cos - x1 * sin, x1 * cos + x0 * sin], 3).flatten(2)

    def decoder_layer(self, x, b, name):
        heads, kv_heads = self.c["heads"], self.c["kv_heads"]
        normed = self.rms_norm(x, name + ".input_layernorm")
        q, k, v = (self.linear(normed, f"{name}.self_attn.{which}_proj") for which in "qkv")
        q, k = self.rope(q, heads, b["cos"], b["sin"]), self.rope(k, kv_heads, b["cos"], b["sin"])
        mixed = self.attention(q, k, v, heads, kv_heads, b["language_mask"])
        x = x + self.linear(mixed, name + ".self_attn.o_proj", bias=False)
        normed = self.rms_norm(x, name + ".post_attention_layernorm")
        gate = F.silu(self.linear(normed, name + ".mlp.gate_proj", bias=False))
        up = self.linear(normed, name + ".mlp.up_proj", bias=False)
        return x + self.linear(gate * up, name + ".mlp.down_proj", bias=False)

    # Likeness

    def unit(self, x, name):
        return self.rms_norm(self.linear(x, name), name + "_norm")

    def keys(self, seen):
        coarse = self.unit(seen["embed"] + self.place16, "mask.likeness.image")
        return coarse, self.unit(seen["fine"], "mask.likeness.fine")

    def wishes(self, seg):
        name = "mask.likeness."
        return {
            "coarse": self.unit(seg, name + "seg"),
            "fine": self.unit(seg, name + "seg_fine"),
            "bias": self.linear(seg, name + "bias"),
            "anchor": self.unit(seg, name + "anchor"),
        }

    def likeness(self, keys, wishes, b):
        """Logits of every query, [R, cells]; queries are laid out by picture for the products."""
        def product(keys, wishes):
            laid = wishes.new_zeros(*b["slots"].shape, wishes.shape[2]).index_put(
                (b["picture"], b["slot"]), wishes[:, 0] / math.sqrt(wishes.shape[2]))
            return (laid @ keys.transpose(1, 2))[b["picture"], b["slot"]]
        side = self.c["image"] // 16
        coarse = product(keys[0], wishes["coarse"]) + wishes["bias"][:, 0]
        spread = F.interpolate(coarse.view(-1, 1, side, side), scale_factor=4, mode="nearest").flatten(1)
        return coarse, spread + product(keys[1], wishes["fine"]), product(keys[0], wishes["anchor"])

    # Comparing proposals

    def compare(self, spots, seg, wishes, b):
        picture, count = b["picture"], seg.shape[0]
        names = torch.gather(spots, 1, b["cells"][..., None].expand(-1, -1, spots.shape[2]))[..., GEOMETRY:].sigmoid()
        plain = self.linear(names, "compare.look")
        plain = plain + self.linear(F.relu(self.linear(b["codes"], "compare.place")), "compare.place_mix", bias=False)
        things = plain[picture] + self.linear(seg, "compare.words", bias=False)
        for wish, name in (("coarse", "compare.wanted"), ("anchor", "compare.anchor")):
            asked = self.linear(wishes[wish], "auxiliary.names_coarse", bias=False)
            asked = torch.cat([asked[..., :CATEGORIES], asked[..., CATEGORIES + 1:NAMES + 1]], 2).sigmoid()
            things = things + self.linear(names[picture] * asked, name, bias=False)
        own = self.get("compare.query") + self.linear(seg, "compare.asked")
        x = torch.cat([own, things], 1)
        attention = b["attention"][picture]
        hidden = attention[:, 0, :1, 1:]
        x = self.encoder_layer(x, attention, "compare.layers.0")
        learnt, alike, anchor = self.ranks(x[:, :1], x[:, 1:], seg, hidden, b)
        x = torch.cat([x[:, :1], x[:, 1:] + learnt], 1)
        for layer in range(1, self.c["compare_layers"]):
            x = self.encoder_layer(x, attention, f"compare.layers.{layer}")
        x = self.layer_norm(x, "compare.norm")
        own, things = x[:, :1], x[:, 1:]
        pointer = self.linear(things, "compare.pointer").transpose(1, 2)
        chosen = self.linear(things, "compare.choice").transpose(1, 2) + hidden
        choice = torch.cat([self.linear(own, "compare.no_choice"), chosen], 2)
        single = self.linear(own, "compare.single")
        meant = choice.softmax(2)[..., 1:] * single.sigmoid() + pointer.sigmoid() * (-single).sigmoid()
        return {
            "meant": meant,
            "pointer": pointer.view(count, -1),
            "choice": choice.view(count, -1),
            "single": single.view(count),
            "alike_pointer": alike.view(count, -1),
            "anchor": anchor.view(count, -1),
            "found": self.linear(own, "compare.found"),
            "summary": self.linear(own, "compare.summary"),
        }

    def encoder_layer(self, x, attention, name):
        heads = self.c["mask_heads"]
        normed = self.layer_norm(x, name + ".norm1")
        q, k, v = (self.linear(normed, f"{name}.{which}_proj") for which in "qkv")
        x = x + self.linear(self.attention(q, k, v, heads, heads, attention), name + ".out_proj")
        hidden = F.relu(self.linear(self.layer_norm(x, name + ".norm2"), name + ".mlp.in"))
        return x + self.linear(hidden, name + ".mlp.out")

    def ranks(self, own, things, seg, hidden, b):
        name, picture = "compare.ranks.", b["picture"]
        judged = F.relu(self.linear(self.layer_norm(things, name + "norm"), name + "judge"))
        alike = self.linear(judged, name + "alike").transpose(1, 2)
        related = self.linear(judged, name + "anchor").transpose(1, 2) + hidden
        anchor = torch.cat([self.linear(own, name + "no_anchor"), related], 2)
        counted = alike.sigmoid() * (1.0 - hidden / HIDDEN)
        shares = anchor.softmax(2)[..., 1:]
        lengths = b["codes"][..., :LENGTHS]
        mean = shares @ lengths[picture]
        centres = lengths[..., :2]
        squared = (centres[:, :, None] - centres[:, None]).square().sum(3)
        distance = squared[picture] @ shares.transpose(1, 2)

        def greater(v, apart):
            return F.relu6((v.transpose(1, 2) - v) * (3.0 / apart) + 3.0) / 6.0

        def count(pairs):
            return pairs @ counted.transpose(1, 2) * COUNTED

        places = [lengths[..., :1], lengths[..., 1:2], lengths[..., -2:-1] + lengths[..., -1:]]
        numbers = [count(greater(place, apart)[picture]) for place, apart in zip(places, APART)]
        numbers += [count(greater(distance, APART[3])), distance, counted.transpose(1, 2), shares.transpose(1, 2)]
        whole = torch.cat([mean, counted.sum(2, keepdim=True) * COUNTED, shares.sum(2, keepdim=True)], 2)
        sum = self.linear(torch.cat(numbers, 2), name + "numbers")
        sum = sum + self.linear(lengths, name + "own", bias=False)[picture]
        sum = sum + self.linear(whole, name + "whole", bias=False) + self.linear(seg, name + "words", bias=False)
        return self.linear(F.relu(sum), name + "learnt"), alike, anchor

    # Masks

    def decode(self, seen, compared, alike, seg, b):
        of, picture = b["decoded"], b["decoded_picture"]
        coarse, fine, anchor = (x[of].unsqueeze(2) for x in alike)
        summary, meant = compared["summary"][of], compared["meant"][of]
        learned = self.get("mask.tokens").expand(len(of), -1, -1)
        prompt = torch.cat([learned, seg[of], summary], 1)
        side = self.c["image"] // 16

        def lay(start, side):
            extents = b["extents"][picture]
            laid = (extents[:, start:start + side] * meant) @ extents[:, start + side:start + 2 * side].transpose(1, 2)
            return laid.flatten(1).unsqueeze(2)

        pointed, boxed = lay(0, side), lay(2 * side, 4 * side)
        rows = seen["embed"][picture]
        for mark, name in ((coarse.sigmoid(), ""), (anchor.sigmoid(), "_anchor"), (pointed, "_pointed")):
            rows = rows + self.linear(mark, "mask.prompt" + name, bias=False)
        tokens = prompt
        for layer in range(self.c["mask_layers"]):
            tokens, rows = self.two_way(tokens, prompt, rows, f"mask.layers.{layer}")
        k, v = self.keys_values(rows, "mask.final")
        tokens = self.layer_norm(tokens + self.attend(tokens + prompt, k, v, "mask.final"), "mask.final.norm")
        object = self.head(tokens[:, :1], "mask.object") + compared["found"][of]
        iou, kernel = self.head(tokens[:, 1:2], "mask.iou"), self.head(tokens[:, 2:3], "mask.kernel")
        features = self.upscale(rows, seen["fine"], fine, boxed, picture)
        sharp = features @ kernel.transpose(1, 2) / math.sqrt(self.c["fine_width"])
        trusted = boxed * self.linear(summary, "mask.trust") + self.linear(summary, "mask.against")
        return (sharp + fine + trusted).squeeze(2), object.view(-1), iou.view(-1)

    def keys_values(self, rows, name):
        return self.linear(rows + self.place16, name + ".k_proj"), self.linear(rows, name + ".v_proj")

    def attend(self, q, k, v, name):
        heads = self.c["mask_heads"]
        return self.linear(self.attention(self.linear(q, name + ".q_proj"), k, v, heads, heads), name + ".out_proj")

    def two_way(self, tokens, prompt, rows, name):
        heads = self.c["mask_heads"]
        own = name + ".self_attn"
        q = tokens + prompt
        k, v = self.linear(q, own + ".k_proj"), self.linear(tokens, own + ".v_proj")
        tokens = self.layer_norm(tokens + self.attend(q, k, v, own), name + ".norm1")
        look = name + ".token_to_image"
        k, v = self.keys_values(rows, look)
        tokens = self.layer_norm(tokens + self.attend(tokens + prompt, k, v, look), name + ".norm2")
        hidden = self.linear(F.relu(self.linear(tokens, name + ".mlp.in")), name + ".mlp.out")
        tokens = self.layer_norm(tokens + hidden, name + ".norm3")
        back = name + ".image_to_token"
        q = self.linear(rows + self.place16, back + ".q_proj")
        k, v = self.linear(tokens + prompt, back + ".k_proj"), self.linear(tokens, back + ".v_proj")
        mixed = self.linear(self.attention(q, k, v, heads, heads), back + ".out_proj")
        return tokens, self.layer_norm(rows + mixed, name + ".norm4")

    def head(self, token, name):
        return self.linear(F.relu(self.linear(token, name + ".in")), name + ".out")

    def upscale(self, rows_, fine, alike, boxed, picture):
        side = self.c["image"] // 16
        x = to_map(F.relu(self.linear(rows_, "mask.up.in")), side)
        x = self.depthwise(F.interpolate(x, scale_factor=2, mode="nearest"), "mask.up.smooth8")
        x = F.interpolate(self.conv1(x, "mask.up.mix8"), scale_factor=2, mode="nearest")
        fine = self.linear(fine, "mask.up.fine")[picture]
        marked = self.linear(alike.sigmoid(), "mask.up.marked", bias=False)
        marked = marked + self.linear(boxed, "mask.up.pointed", bias=False)
        x = F.relu(x + to_map(fine + marked, 4 * side))
        x = self.conv1(self.depthwise(x, "mask.up.smooth4"), "mask.up.mix4")
        return rows(F.relu(x))

    def forward(self, b):
        seen = self.vision(b["pixels"])
        keys = self.keys(seen)
        logits, seg, doubt = self.language(seen["tokens"], b)
        wishes = self.wishes(seg)
        alike = self.likeness(keys, wishes, b)
        compared = self.compare(seen["spots"], seg, wishes, b)
        mask, object, iou = self.decode(seen, compared, alike, seg, b)
        return {
            "spots": seen["spots"],
            "names_coarse": self.linear(keys[0], "auxiliary.names_coarse", bias=False),
            "names_fine": self.linear(keys[1], "auxiliary.names_fine", bias=False),
            "names_tokens": self.linear(seen["tokens"], "auxiliary.tokens"),
            "logits": logits,
            "doubt": doubt,
            "alike": alike,
            **compared,
            "mask": mask,
            "object": object,
            "iou": iou,
        }
