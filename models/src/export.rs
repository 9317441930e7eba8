//! The three graphs that fly, from one set of weights.
//!
//! Names and shapes are the contract with the runtime; batch is 1 and every shape is static.

use kestrel_perception::proposals::{CODE, MOST, NAMES};

use crate::error::Result;
use crate::kestrel::{self, Config, PackedTensors, Proposals, Seen, pack};
use crate::onnx::Onnx;
use crate::ops::Ops as _;
use crate::weights::Weights;

/// Serialised ONNX models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graphs {
    /// `image [1,3,S,S]` → `tokens`, `embed`, `fine`, `spots [1,(S/8)²,SPOT]`.
    pub vision: Vec<u8>,
    /// `tokens`, `ids [1,L]`, `index [1,1]` → `logits [1,V]`, `seg [1,1,C]`, `doubt [1,L]`.
    pub language: Vec<u8>,
    /// `embed`, `fine`, `seg`, `names [1,K,NAMES]`, `codes`, `extents`, `attention` → `mask [1,S/4,S/4]`, `iou [1,1]`, `object [1,1]`.
    pub mask: Vec<u8>,
}

/// Emits the graphs. `weights` are stored in half precision; round them first to compare numbers.
pub fn export(config: &Config, weights: &Weights) -> Result<Graphs> {
    Ok(Graphs { vision: vision(config, weights)?, language: language(config, weights)?, mask: mask(config, weights)? })
}

fn vision(config: &Config, weights: &Weights) -> Result<Vec<u8>> {
    let mut onnx = Onnx::new(weights);
    let image = onnx.input_map("image", &[1, config.image, config.image, 3])?;
    let seen = kestrel::vision(&mut onnx, config, &image)?;
    for (name, value) in
        [("tokens", &seen.tokens), ("embed", &seen.embed), ("fine", &seen.fine), ("spots", &seen.spots)]
    {
        let shape = onnx.shape(value);
        onnx.output(name, value, &shape)?;
    }
    Ok(onnx.finish("kestrel_vision"))
}

fn language(config: &Config, weights: &Weights) -> Result<Vec<u8>> {
    let (images, text) = (config.token_side().pow(2), config.max_tokens);
    let mut onnx = Onnx::new(weights);
    let tokens = onnx.input_rows("tokens", &[1, images, config.language_width]);
    let ids = onnx.input_integers("ids", &[1, text]);
    let index = onnx.input_integers("index", &[1, 1]);
    // One query that may fill the whole text: the same layout as in training, with a pack of one.
    let whole = pack::pack(&[vec![vec![0; text]]], images, 0, Some(text));
    let head = config.language_width / config.heads;
    let (cos, sin) = whole.rotary(head);
    let all = images + text;
    let packed = PackedTensors {
        ids,
        index,
        mask: onnx.constant(&whole.mask, &[1, all, all])?,
        cos: onnx.constant(&cos, &[1, all, head / 2])?,
        sin: onnx.constant(&sin, &[1, all, head / 2])?,
    };
    let said = kestrel::language(&mut onnx, config, &tokens, &packed)?;
    onnx.output("logits", &said.logits, &[1, config.vocabulary])?;
    onnx.output("seg", &said.seg, &[1, 1, config.mask_width])?;
    onnx.output("doubt", &said.doubt, &[1, text])?;
    Ok(onnx.finish("kestrel_language"))
}

fn mask(config: &Config, weights: &Weights) -> Result<Vec<u8>> {
    let (embed, side) = (config.embed_side().pow(2), config.mask_side());
    let mut onnx = Onnx::new(weights);
    let embed = onnx.input_rows("embed", &[1, embed, config.mask_width]);
    let seen = Seen {
        // The decoder never reads the image tokens nor the spots; any tensor may stand in their place.
        tokens: embed.clone(),
        spots: embed.clone(),
        embed,
        fine: onnx.input_rows("fine", &[1, side * side, config.fine_width]),
    };
    let seg = onnx.input_rows("seg", &[1, 1, config.mask_width]);
    let cells = 2 * (config.embed_side() + side);
    let proposals = Proposals {
        names: onnx.input_rows("names", &[1, MOST, NAMES]),
        codes: onnx.input_rows("codes", &[1, MOST, CODE]),
        extents: onnx.input_rows("extents", &[1, cells, MOST]),
        attention: onnx.input_rows("attention", &[1, MOST + 1, MOST + 1]),
    };
    let masks = kestrel::mask(&mut onnx, config, &seen, &proposals, &seg, 1)?;
    onnx.output("mask", &masks.mask, &[1, side, side])?;
    onnx.output("iou", &masks.iou, &[1, 1])?;
    onnx.output("object", &masks.object, &[1, 1])?;
    Ok(onnx.finish("kestrel_mask"))
}
