//! The three graphs that fly, and the one that decodes, from one set of weights.
//!
//! Names and shapes are the contract with the runtime; batch is 1 and every shape is static, but for [`open_vision`].

use kestrel_perception::decoding::Sizes;
use kestrel_perception::proposals::{CODE, MOST, NAMES};

use crate::error::{Error, Result};
use crate::kestrel::{self, Config, KeyValue, Next, PackedTensors, Proposals, Seen, Told, pack};
use crate::onnx::{Onnx, Value};
use crate::ops::Ops as _;
use crate::quantise::Scheme;
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

/// Room of the graph that decodes, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Words of the longest question.
    pub question: usize,
    /// Tokens of the longest answer.
    pub answer: usize,
    /// Rows that one run reads.
    pub rows: usize,
}

impl Room {
    /// Questions as long as the fast path takes them, answers of 192 tokens, 8 rows a run.
    pub fn of(config: &Config) -> Self {
        Self { question: config.max_tokens, answer: 192, rows: 8 }
    }

    /// Sizes of the graph and of the cache that feeds it.
    pub fn sizes(&self, config: &Config) -> Sizes {
        Sizes {
            rows: self.rows,
            length: config.token_side().pow(2) + self.words() + if config.things { MOST } else { 0 },
            width: config.language_width,
            planes: config.planes(),
            kv_width: config.kv_width(),
            things: config.things,
        }
    }

    fn words(&self) -> usize {
        self.question + self.answer
    }
}

/// Emits the graphs. `weights` are stored in half precision; round them first to compare numbers.
pub fn export(config: &Config, weights: &Weights) -> Result<Graphs> {
    graphs(config, || Ok(Onnx::new(weights)))
}

/// The vision graph with an open batch axis: `image [N,3,S,S]` → `tokens [N,…]` and so on, so that the tiles of a frame can be
/// seen in one run. It takes the place of [`Graphs::vision`]; a runtime that runs one view at a time takes it too.
///
/// # Errors
/// When a parameter is missing.
pub fn open_vision(config: &Config, weights: &Weights) -> Result<Vec<u8>> {
    vision(config, Onnx::with_open_batch(weights))
}

/// Emits the graphs, rounded where the scheme says so.
///
/// # Errors
/// As [`export`]; also when a weight is not finite or the scheme's numbers are none that a runtime takes.
pub fn export_quantised(config: &Config, weights: &Weights, scheme: &Scheme) -> Result<Graphs> {
    graphs(config, || Onnx::quantised(weights, scheme))
}

fn graphs<'a>(config: &Config, empty: impl Fn() -> Result<Onnx<'a>>) -> Result<Graphs> {
    Ok(Graphs {
        vision: vision(config, empty()?)?,
        language: language(config, empty()?)?,
        mask: mask(config, empty()?)?,
    })
}

fn vision(config: &Config, mut onnx: Onnx<'_>) -> Result<Vec<u8>> {
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

fn language(config: &Config, mut onnx: Onnx<'_>) -> Result<Vec<u8>> {
    let (images, text) = (config.token_side().pow(2), config.max_tokens);
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

/// Emits the graph that decodes an answer behind a fixed cache, [`kestrel_perception::decoding::Cache`]. For T rows and
/// L places: `tokens [1,T,W]`, `ids [1,T]`, `spoken [1,T,1]`, `positions [1,T]`, `mask [1,T,L+T]`, `past [2·layers,L,K]`
/// → `logits [T,V]`, `seg [T,C]`, `new [2·layers,T,K]`. Planes 2i and 2i+1 are keys and values of layer i.
/// Of a model that is told of things, `spoken` is `[1,T,2]`, and there are two planes more, for pointing.
///
/// # Errors
/// When there is no room, or a parameter is missing.
pub fn explain(config: &Config, weights: &Weights, room: &Room) -> Result<Vec<u8>> {
    decoding(config, Onnx::new(weights), room)
}

/// The same graph, rounded where the scheme says so.
///
/// # Errors
/// As [`explain`] and [`export_quantised`].
pub fn explain_quantised(config: &Config, weights: &Weights, room: &Room, scheme: &Scheme) -> Result<Vec<u8>> {
    decoding(config, Onnx::quantised(weights, scheme)?, room)
}

fn decoding(config: &Config, mut onnx: Onnx<'_>, room: &Room) -> Result<Vec<u8>> {
    let sizes = room.sizes(config);
    let Sizes { rows, length, width, planes, kv_width, .. } = sizes;
    if rows == 0 || room.words() == 0 {
        return Err(Error::Request {
            operation: "export explain",
            expected: "at least one row and one word".into(),
            got: format!("{room:?}"),
        });
    }
    let tokens = onnx.input_rows("tokens", &[1, rows, width]);
    let ids = onnx.input_integers("ids", &[1, rows]);
    let spoken = onnx.input_rows("spoken", &[1, rows, sizes.kinds()]);
    let positions = onnx.input_integers("positions", &[1, rows]);
    let mask = onnx.input_rows("mask", &[1, rows, length + rows]);
    let past = onnx.input_rows("past", &[planes, length, kv_width]);

    let (cos, sin) = angles(&mut onnx, config, &positions, room)?;
    let (x, places) = match config.things {
        true => {
            let Told { rows, places } = kestrel::mixed(&mut onnx, config, &tokens, &ids, &spoken)?;
            (rows, Some(places))
        }
        false => (kestrel::rows(&mut onnx, config, &tokens, &ids, &spoken)?, None),
    };
    let mut layers = Vec::with_capacity(planes / 2);
    for layer in 0..planes / 2 {
        let keys = onnx.narrow(&past, 0, 2 * layer, 1)?;
        layers.push(KeyValue { keys, values: onnx.narrow(&past, 0, 2 * layer + 1, 1)? });
    }
    let stepped = kestrel::step(&mut onnx, config, &Next { rows: x, mask, cos, sin, places }, &layers)?;
    let new: Vec<Value> = stepped.new.into_iter().flat_map(|layer| [layer.keys, layer.values]).collect();
    let new = onnx.concat(&new, 0)?;
    onnx.output("logits", &stepped.logits, &[rows, config.vocabulary])?;
    onnx.output("seg", &stepped.seg, &[rows, config.mask_width])?;
    onnx.output("new", &new, &[planes, rows, kv_width])?;
    Ok(onnx.finish("kestrel_explain"))
}

/// Rotary tables of the rows' positions, looked up, so that the runtime need not know the frequencies.
fn angles(onnx: &mut Onnx<'_>, config: &Config, positions: &Value, room: &Room) -> Result<(Value, Value)> {
    let head = config.language_width / config.heads;
    // Image tokens stand at 0, words from 1.
    let all: Vec<u32> = (0..=room.words() as u32).collect();
    let (cos, sin) = pack::rotary(&all, head);
    let mut look_up = |table: &[f32]| {
        let table = onnx.constant(table, &[1, all.len(), head / 2])?;
        onnx.select(&table, positions)
    };
    Ok((look_up(&cos)?, look_up(&sin)?))
}

fn mask(config: &Config, mut onnx: Onnx<'_>) -> Result<Vec<u8>> {
    let (embed, side) = (config.embed_side().pow(2), config.mask_side());
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
